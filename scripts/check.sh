#!/usr/bin/env bash
# What a change must pass, cheapest first.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
bash scripts/test.sh
# What is left out of a default build: object stores, against a store on this machine.
cargo clippy -p kinora-curate -p kinora --features kinora-curate/cloud,kinora/cloud --all-targets --locked -- -D warnings
cargo test -p kinora-curate --features cloud --locked --lib --test cloud
if ! command -v cargo-deny >/dev/null; then
    cargo install --locked --quiet cargo-deny
fi
# Advisories need the advisory database, which lives outside the package registries.
cargo deny check licenses bans sources
cargo deny check advisories || {
    [ -n "${ADVISORIES_REQUIRED:-}" ] && exit 1
    echo "check: the advisory database could not be read or has findings; see above" >&2
}
