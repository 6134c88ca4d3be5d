#!/usr/bin/env python3
"""PyTorch's time for the operations that the example `kernels` measures, in one run with it.

    python3 bench/operations.py

Runs `cargo run --release -p kinora-tensor --example kernels linear` (and the other words below), then the same
in PyTorch with all cores, medians of nine runs, rates by the operations of the definition. Sets up its own
virtual environment (bench/.venv) on the first run.
"""

import os
import statistics
import subprocess
import time
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
LINEAR = [(2048, 2048, 2048), (257, 1280, 1280), (257, 1280, 5120), (257, 5120, 1280), (5760, 320, 2560)]
CONV = [(2, 40, 72, 320, 320), (2, 10, 18, 1280, 1280), (1, 128, 128, 128, 128)]
ATTENTION = [(1, 257, 1280, 16), (14, 960, 320, 5), (14, 240, 640, 10), (1, 9216, 320, 5)]


def median_secs(work):
    work()
    secs = []
    for _ in range(9):
        begun = time.perf_counter()
        work()
        secs.append(time.perf_counter() - begun)
    return statistics.median(secs)


def tell(name, operations, work):
    secs = median_secs(work)
    print(f"{name:52} {secs * 1e3:9.3f} {operations / secs / 1e9:9.1f}", flush=True)


def main():
    environment.enter(".venv", ["openvino", "-r", str(ROOT / "scripts" / "goldens-requirements.txt")])
    for word in ("linear", "conv 3×3", "attention"):
        words = ["cargo", "run", "--release", "--locked", "-q", "-p", "kinora-tensor", "--example", "kernels", word]
        subprocess.run(words, cwd=ROOT, check=True)
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(os.cpu_count())
    print(f"\nPyTorch {torch.__version__:44} {'ms':>9} {'GFLOP/s':>9}")
    with torch.no_grad():
        for rows, i, o in LINEAR:
            x, w, b = torch.randn(rows, i), torch.randn(o, i), torch.randn(o)
            tell(f"linear {rows} {i}→{o}", 2 * rows * i * o, lambda: F.linear(x, w, b))
        for n, h, w, i, o in CONV:
            last = {"memory_format": torch.channels_last}
            x, k = torch.randn(n, i, h, w).to(**last), torch.randn(o, i, 3, 3).to(**last)
            tell(f"conv 3×3/1 {n}×{h}×{w} {i}→{o}", 18 * n * h * w * i * o, lambda: F.conv2d(x, k, padding=1))
        for n, tokens, c, heads in ATTENTION:
            q, k, v = (torch.randn(n, tokens, heads, c // heads).transpose(1, 2) for _ in range(3))
            tell(f"attention [{n}, {tokens}, {c}], {heads} heads", 4 * n * tokens**2 * c,
                 lambda: F.scaled_dot_product_attention(q, k, v))


if __name__ == "__main__":
    main()
