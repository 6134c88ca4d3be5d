#!/usr/bin/env bash
# Brings NVIDIA's run-time compiler from its wheel on PyPI to target/nvrtc/lib, where a test looks for
# it to compile every kernel. It needs no card. Where it cannot be had, that test says it was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'nvrtc: %s\n' "$*" >&2; }

lib=target/nvrtc/lib
[ -e "$lib/libnvrtc.so.13" ] && exit 0
if ! python3 -m pip --version >/dev/null 2>&1; then
    say "no pip to fetch the wheel with; kernels will not be compiled for cards"
    exit 0
fi
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
if ! python3 -m pip download --quiet --no-deps --dest "$own" 'nvidia-cuda-nvrtc>=13,<14' >"$own/log" 2>&1; then
    say "the wheel could not be had; kernels will not be compiled for cards: $(tail -1 "$own/log")"
    exit 0
fi
python3 -m zipfile -e "$own"/*.whl "$own/wheel"
mkdir -p target/nvrtc
rm -rf "$lib.part"
mv "$own"/wheel/nvidia/*/lib "$lib.part"
mv "$lib.part" "$lib"
