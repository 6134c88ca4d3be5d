#!/usr/bin/env python3
"""The same work in Kinora and in its peers, in turn in one run, as ratios.

    python3 bench/side_by_side.py [--pairs 5] [--frames 14 --width 320 --height 192] [--stage NAME ...] [--way NAME ...]

The peers are PyTorch/diffusers as it comes (eager), with its networks in channels-last order, and so and
compiled; for inference OpenVINO too. Sets up its own virtual environment (bench/.venv) from the package
registry on the first run, builds the release binary, and alternates with each peer: Kinora, peer, Kinora,
peer, ... Each figure is a median of the pairs, and the ratio is the median of the ratios of each pair, so that a
machine whose speed drifts does not favour either. All use random weights of the published sizes in f32, all
cores, and no gradient except in the training step. A way that a peer cannot go is printed with its reason.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import environment
import peers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAGES = ["clip", "vae-encode", "unet-step", "vae-decode", "train-step"]


def seconds(work, runs):
    """Median seconds of `runs` runs."""
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def kinora(arguments, stage):
    """One report of `kinora bench` for one stage."""
    command = [
        str(ROOT / "target" / "release" / "kinora"), "bench", "--json", "--stage", stage,
        "--frames", str(arguments.frames), "--width", str(arguments.width), "--height", str(arguments.height),
        "--runs", str(arguments.runs),
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1, help="timed runs inside each half of a pair")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--stage", action="append", choices=STAGES)
    parser.add_argument("--way", action="append", choices=peers.WAYS)
    arguments = parser.parse_args()
    environment.enter(".venv", ["openvino", "-r", str(ROOT / "scripts" / "goldens-requirements.txt")])
    subprocess.run(["cargo", "build", "--release", "--locked", "-q"], cwd=ROOT, check=True)

    rows = []
    for stage in arguments.stage or STAGES:
        trains = stage == "train-step"
        setup = kinora(arguments, stage)["train_step_setup"] if trains else None
        build = peers.networks(arguments, setup)[stage]
        for way in arguments.way or peers.WAYS:
            if trains and way == "openvino":
                continue
            rows.append({"stage": stage, "peer": way, **compared(arguments, stage, build, way, trains)})
            print(json.dumps(rows[-1]), flush=True)

    print(f"\n{'stage':<12}{'peer':<16}{'kinora':>10}{'peer':>10}{'faster':>9}", file=sys.stderr)
    for row in rows:
        if "failed" not in row:
            print(
                f"{row['stage']:<12}{row['peer']:<16}{row['kinora_s']:>8.2f} s{row['peer_s']:>8.2f} s"
                f"{row['times_faster']:>7.2f}×",
                file=sys.stderr,
            )


def compared(arguments, stage, build, way, trains):
    """Medians of the pairs against one peer."""
    key = stage.replace("-", "_") + "_s"
    try:
        work = peers.work(build, way, trains)
        work()
    except Exception as failure:  # whatever a peer's compiler throws
        return {"failed": f"{type(failure).__name__}: {str(failure).splitlines()[0][:160]}"}
    ours, theirs = [], []
    for _ in range(arguments.pairs):
        ours.append(kinora(arguments, stage)[key])
        theirs.append(seconds(work, arguments.runs))
    return {
        "kinora_s": round(statistics.median(ours), 4),
        "peer_s": round(statistics.median(theirs), 4),
        "times_faster": round(statistics.median(b / a for a, b in zip(ours, theirs)), 2),
        "pairs": arguments.pairs,
    }


if __name__ == "__main__":
    main()
