#!/usr/bin/env bash
# Train on a running Ray cluster: launch/submit.sh CONFIG.toml [section.option=value ...]; --help says more.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$checkout/.venv/bin/python
[ -x "$python" ] || python=python
# This checkout's launch.submit, also where another one is installed, or lies in the current folder (-P).
PYTHONPATH=$checkout${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -m launch.submit "$@"
