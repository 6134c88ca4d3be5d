#!/usr/bin/env bash
# Sets up, then runs every test: closed forms, parity goldens, the binary as a black box, tidy.
# Needs no network beyond the package registries, no GPU and no Python;
# with Python, the kernels for cards are compiled by NVIDIA's own compiler too.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
bash scripts/nvrtc.sh
cargo test --workspace --locked
