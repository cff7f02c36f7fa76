#!/usr/bin/env bash
# Train on a running Ray cluster: launch/submit.sh CONFIG.toml [section.option=value ...]
#
# Uploads this checkout (without what is listed below), runs `python -m launch.train` on the head node, follows its log
# and ends with the job's status: 0 when it SUCCEEDED. Paths in CONFIG and in overrides are those of the cluster: give
# task.path and model.path as absolute paths there.
#
#   RAY_API_SERVER_ADDRESS   the cluster's job server           (default http://127.0.0.1:8265)
#   RAY_AUTH_MODE            "token" or "disabled"              (default: token when there is one, as `ray start` does)
#   R1_PYTHON                the Python that runs the job       (default: .venv here for a local cluster, else python)
set -euo pipefail

if [ $# -lt 1 ] || [ "$1" = "-h" ] || [ "$1" = "--help" ]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0"
  exit 2
fi
config=$1
shift
cd "$(dirname "$0")/.."
if [ ! -f "$config" ]; then
  echo "error: config file '$config' does not exist in $(pwd); give a path inside this checkout, e.g. launch/configs/quickstart.toml" >&2
  exit 2
fi

address=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}
case $address in
  *//127.0.0.1:* | *//localhost:*) python=${R1_PYTHON:-$([ -x .venv/bin/python ] && echo "$PWD/.venv/bin/python" || echo python)} ;;
  *) python=${R1_PYTHON:-python} ;;
esac
# `ray start` switches token authentication on when a token exists, and `ray job submit` does not: ask for the same here.
if [ -z "${RAY_AUTH_MODE:-}" ] && { [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || [ -f "$HOME/.ray/auth_token" ]; }; then
  export RAY_AUTH_MODE=token
fi

# The job runs in an uploaded copy that Ray deletes: the run folder must lie elsewhere.
run_dir="run_dir=$PWD/runs/$(basename "$config" .toml)-$(date +%Y%m%d-%H%M%S)"
for override in "$@"; do
  case $override in run_dir=*) run_dir="" ;; esac
done

ray=$([ -x .venv/bin/ray ] && echo .venv/bin/ray || echo ray)
exec "$ray" job submit --address "$address" --working-dir . \
  --runtime-env-json '{"excludes": ["/.git", "/.venv", "/runs", "/models", "/tests", "/docs", "/requirements"]}' \
  -- "$python" -m launch.train "$config" ${run_dir:+"$run_dir"} "$@"
