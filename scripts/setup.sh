#!/usr/bin/env bash
# Makes sure of what the project needs beside its own crates: Rust, ffmpeg for reading and writing
# video, and tesseract for finding text in it. Installs Debian packages where it may, and says what
# to do where it may not.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

if ! command -v cargo >/dev/null; then
    say "cargo was not found. Install Rust 1.90 or newer (https://rustup.rs) and run this again."
    exit 1
fi

missing=()
{ command -v ffmpeg && command -v ffprobe; } >/dev/null || missing+=(ffmpeg)
command -v tesseract >/dev/null || missing+=(tesseract-ocr)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# The tests build the kernels for cards with it, to run them on the processor.
command -v c++ >/dev/null || missing+=(g++)
[ "${#missing[@]}" -eq 0 ] && exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
    root=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}. Install them with this system's package manager and run this again."
    exit 1
fi
if [ "${#root[@]}" -ne 0 ] && ! { command -v sudo && sudo -n true; } >/dev/null 2>&1; then
    say "missing: ${missing[*]}, and there is no right to install them. Ask for:"
    say "  apt-get install ${missing[*]}"
    exit 1
fi
say "installing ${missing[*]}"
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
