#!/usr/bin/env bash
# Train on a running Ray cluster: launch/submit.sh CONFIG.toml [section.option=value ...]; --help says more.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)
# This checkout's launch.submit, also where another one is installed: what lies in the current folder comes first.
exec "$python" -m launch.submit "$@"
