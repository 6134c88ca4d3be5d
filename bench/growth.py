#!/usr/bin/env python3
"""How time and memory grow with frames, width and height: one UNet step and one decode of a full-size model.

    python3 bench/growth.py [--runs 1] [--size FRAMESxWIDTHxHEIGHT ...]

Each row: seconds, TFLOP by definition and their quotient, which does not fall as the work grows where time
grows no faster than the arithmetic; and the peak memory of the process, weights in f32 included.
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = ["4x192x128", "7x192x128", "14x192x128", "14x320x192", "25x320x192", "14x512x320"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--size", action="append")
    arguments = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--locked", "-q"], cwd=ROOT, check=True)
    print(f"{'stage':<12}{'size':>12}{'seconds':>10}{'TFLOP':>10}{'GFLOP/s':>10}{'of peak':>9}{'MiB':>8}")
    for stage in ["unet-step", "vae-decode"]:
        for size in arguments.size or SIZES:
            frames, width, height = size.split("x")
            command = [
                str(ROOT / "target" / "release" / "kinora"), "bench", "--json", "--stage", stage, "--frames", frames,
                "--width", width, "--height", height, "--runs", str(arguments.runs),
            ]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            key = stage.replace("-", "_")
            seconds, tflop = row[f"{key}_s"], row[f"{key}_tflop"]
            rate = 1e3 * tflop / seconds
            print(
                f"{stage:<12}{size:>12}{seconds:>10.2f}{tflop:>10.3f}{rate:>10.1f}"
                f"{rate / row['peak_gflops']:>9.2f}{row['peak_memory_mib']:>8}",
                flush=True,
            )


if __name__ == "__main__":
    main()
