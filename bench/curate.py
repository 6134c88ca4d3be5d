#!/usr/bin/env python3
"""What probing, cuts, clips and motion cost together, as a share of decoding the same video.

    python3 bench/curate.py VIDEO ... [--runs 3]

For each video the processor time of `kinora curate` with one worker and no judge of text, as one slice of the
work (which does these steps and makes no report), over that of ffmpeg decoding it to nothing on one thread;
the two in turn, the least of each. With --enlarged a long 1080p H.264 version of each and a small one of
320×180, four times the length, are made and measured too.
"""

import argparse
import json
import resource
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds(words):
    """Processor time of a program and of those it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def versions(video, scratch):
    """The video four times over, key frames every two seconds, at two sizes."""
    for size in ("1920:1080", "320:180"):
        out = scratch / f"{video.stem}_{size.replace(':', 'x')}.mp4"
        words = ["ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "3", "-i", str(video), "-an", "-vf",
                 f"scale={size}", "-c:v", "libx264", "-preset", "medium", "-g", "48", str(out)]
        subprocess.run(words, check=True)
        yield out


def measured(video, kinora, runs, scratch):
    """Seconds of decoding and of curating, and the steps of the last."""
    settings = (ROOT / "configs/curate.toml").read_text().replace('judge = "tesseract"', 'judge = "none"')
    head, text = settings.split("[text]\n")
    text = 'judge = "none"\n' + text[text.index("\n# With weights"):]
    config = scratch / "curate.toml"
    config.write_text(f"{head}[text]\n{text}")
    decode, curate = [], []
    for run in range(runs):
        decode.append(cpu_seconds(["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(video),
                                   "-map", "0:v:0", "-f", "null", "-"]))
        out = scratch / f"{video.stem}_{run}"
        curate.append(cpu_seconds([kinora, "curate", str(video), "--config", str(config), "--out", str(out),
                                   "--workers", "1", "--shard", "0/1"]))
    costs = json.loads(next(out.glob("*/costs/*/*.json")).read_text())
    return min(decode), min(curate), {step: cost["own_s"] + cost["children_s"] for step, cost in costs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--enlarged", action="store_true")
    parser.add_argument("--kinora", default=str(ROOT / "target/release/kinora"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        videos = list(arguments.videos)
        for video in arguments.videos if arguments.enlarged else []:
            videos += versions(video, scratch)
        for video in videos:
            decode, curate, steps = measured(video, arguments.kinora, arguments.runs, scratch)
            told = ", ".join(f"{step} {secs:.2f}" for step, secs in steps.items())
            print(f"{video.name}: decode {decode:.2f} s, kinora {curate:.2f} s, {curate / decode:.2f} times ({told})", flush=True)


if __name__ == "__main__":
    main()
