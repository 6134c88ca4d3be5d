#!/usr/bin/env python3
"""A still becomes a clip in Kinora and in diffusers: seconds and peak memory of the whole process.

    python3 bench/whole.py FOLDER [--frames 14 --width 320 --height 192 --steps 2]

FOLDER holds a full-size model with random weights in f16 (written by scripts/full_size_parity.py if it is
not there: 4.5 GB, and 12 GB of memory while it is made). Both start from nothing and end with the frames
in a file; both compute in f32, diffusers as it comes with its chunked decode, and, with --half, once more in
f16. Peak memory is what the system counted as resident for the process at its fullest; of mapped weights it
counts every page that was read.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "scripts"))


def diffusers(arguments):
    """The whole work in this process."""
    import numpy as np
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from PIL import Image

    dtype = torch.float16 if arguments.half else torch.float32
    pipe = StableVideoDiffusionPipeline.from_pretrained(arguments.folder, variant="fp16", torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(
        Image.open(arguments.folder / "still.png"), height=arguments.height, width=arguments.width,
        num_frames=arguments.frames, num_inference_steps=arguments.steps, decode_chunk_size=arguments.decode_chunk,
        generator=torch.Generator("cpu").manual_seed(7), output_type="np",
    ).frames[0]
    np.save(arguments.folder / "peer.npy", np.asarray(frames, np.float32))


def measured(command):
    """Seconds and peak MiB of a child process."""
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        return {"failed": f"status {os.waitstatus_to_exitcode(status)}"}
    return {"seconds": round(time.perf_counter() - started, 1), "peak_mib": usage.ru_maxrss >> 10}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--decode-chunk", type=int, default=8, help="frames that diffusers decodes at a time")
    parser.add_argument("--half", action="store_true", help="diffusers in f16 too")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    environment.enter(".venv", ["openvino", "-r", str(ROOT / "scripts" / "goldens-requirements.txt")])
    if arguments.peer:
        return diffusers(arguments)
    subprocess.run(["cargo", "build", "--release", "--locked", "-q"], cwd=ROOT, check=True)
    if not (arguments.folder / "model_index.json").exists():
        making = [sys.executable, str(ROOT / "scripts" / "full_size_parity.py"), str(arguments.folder)]
        subprocess.run([*making, "--diffusers-only"], check=True)
    from full_size_parity import picture

    picture(arguments.width, arguments.height).save(arguments.folder / "still.png")
    extents = ["--frames", str(arguments.frames), "--width", str(arguments.width), "--height",
               str(arguments.height), "--steps", str(arguments.steps)]
    ours = [str(ROOT / "target" / "release" / "kinora"), "generate", str(arguments.folder / "still.png"), "--model",
            str(arguments.folder), "--out", str(arguments.folder / "ours.npy"), "--seed", "7", "--json", *extents]
    peer = [sys.executable, __file__, str(arguments.folder), "--peer", "--decode-chunk",
            str(arguments.decode_chunk), *extents]
    rows = {"kinora": measured(ours), "diffusers, f32": measured(peer)}
    if arguments.half:
        rows["diffusers, f16"] = measured([*peer, "--half"])
    for name, row in rows.items():
        print(json.dumps({"of": name, **row}), flush=True)
    for name, row in list(rows.items())[1:]:
        if "failed" not in row and "failed" not in rows["kinora"]:
            ratio = rows["kinora"]["peak_mib"] / row["peak_mib"]
            print(f"memory of kinora over {name}: {ratio:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
