#!/usr/bin/env python3
"""The same work in Kinora and in PyTorch/diffusers, in turn in one run, as ratios.

    python3 bench/side_by_side.py [--pairs 5] [--frames 14 --width 320 --height 192] [--stage NAME ...]

Sets up its own virtual environment (bench/.venv) from the package registry on the first run, builds the
release binary, and alternates: Kinora, PyTorch, Kinora, PyTorch, ... Each figure is a median of the pairs,
and the ratio is the median of the ratios of each pair, so that a machine whose speed drifts does not favour
either. Both sides use random weights of the published sizes in f32, all cores, and no gradient except in the
training step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAGES = ["clip", "vae-encode", "unet-step", "vae-decode", "train-step"]


def seconds(work, runs):
    """Median seconds of `runs` runs after one to warm up."""
    work()
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def peers(arguments, setup):
    """For each stage a function that builds the peer's network and gives the work to time."""
    import torch
    import transformers
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    t, h, w = arguments.frames, arguments.height // 8, arguments.width // 8

    def vae():
        return AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
        ).eval()

    def clip():
        config = transformers.CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
            patch_size=14, image_size=224, projection_dim=1024, hidden_act="gelu",
        )
        tower = transformers.CLIPVisionModelWithProjection(config).eval()
        picture = torch.randn(1, 3, 224, 224)
        return lambda: tower(picture)

    def vae_encode():
        network = vae()
        picture = torch.randn(1, 3, arguments.height, arguments.width)
        return lambda: network.encode(picture).latent_dist.mode()

    def vae_decode():
        network = vae()
        latents = torch.randn(t, 4, h, w)
        return lambda: network.decode(latents, num_frames=t).sample

    def unet_step():
        network = UNetSpatioTemporalConditionModel(num_frames=t).eval()
        x, context = torch.randn(1, t, 8, h, w), torch.randn(1, 1, 1024)
        added = torch.tensor([[6.0, 127.0, 0.02]])
        return lambda: network(x, torch.tensor(0.5), context, added_time_ids=added).sample

    def train_step():
        config = {k: v for k, v in setup["unet"].items() if not k.startswith("_")}
        network = UNetSpatioTemporalConditionModel.from_config(config).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
        b, t, h, w = (setup[name] for name in ("batch", "frames", "latent_height", "latent_width"))
        x, target = torch.randn(b, t, config["in_channels"], h, w), torch.randn(b, t, config["out_channels"], h, w)
        context = torch.randn(b, 1, setup["context"])
        added = torch.tensor([[6.0, 127.0, 0.02]] * b)

        def step():
            optimiser.zero_grad()
            answer = network(x, torch.full((b,), 0.5), context, added_time_ids=added).sample
            torch.nn.functional.mse_loss(answer, target).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()

        return step

    def without_gradient(build):
        def built():
            work = build()

            def run():
                with torch.no_grad():
                    work()

            return run

        return built

    return {
        "clip": without_gradient(clip),
        "vae-encode": without_gradient(vae_encode),
        "unet-step": without_gradient(unet_step),
        "vae-decode": without_gradient(vae_decode),
        "train-step": train_step,
    }


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
    arguments = parser.parse_args()
    environment.enter(".venv", ["-r", str(ROOT / "scripts" / "goldens-requirements.txt")])
    subprocess.run(["cargo", "build", "--release", "--locked", "-q"], cwd=ROOT, check=True)

    rows = []
    for stage in arguments.stage or STAGES:
        key = stage.replace("-", "_") + "_s"
        setup = kinora(arguments, stage).get("train_step_setup") if stage == "train-step" else None
        work = peers(arguments, setup)[stage]()
        ours, theirs = [], []
        for _ in range(arguments.pairs):
            ours.append(kinora(arguments, stage)[key])
            theirs.append(seconds(work, arguments.runs))
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        rows.append(
            {
                "stage": stage,
                "kinora_s": round(statistics.median(ours), 4),
                "pytorch_s": round(statistics.median(theirs), 4),
                "times_faster": round(ratio, 2),
                "pairs": arguments.pairs,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        del work

    print(f"\n{'stage':<12}{'kinora':>10}{'pytorch':>10}{'faster':>9}", file=sys.stderr)
    for row in rows:
        print(
            f"{row['stage']:<12}{row['kinora_s']:>8.2f} s{row['pytorch_s']:>8.2f} s{row['times_faster']:>7.2f}×",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
