#!/usr/bin/env bash
# Sets up, then runs every test: closed forms, parity goldens, the binary as a black box, tidy.
# Needs no network beyond the package registries, no GPU and no Python.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
cargo test --workspace --locked
