#!/usr/bin/env python3
"""Dense flow in Kinora and in OpenCV (calcOpticalFlowFarneback, same settings), in turn in one run.

    python3 bench/flow.py [--pairs 9] [--sizes 256x144 640x360 1280x720] [--threads 1 2] [--video FILE]

Sets up its own virtual environment (bench/.venv-flow) from the package registry on the first run and
builds the release example. Prints, for each size and number of threads, the mean and largest distance
between the two flows, the mean error of both against the known motion, the milliseconds of a pair (the
least and the median of the runs) and their ratio. The pictures are a random texture, turned, stretched
and moved by a known affine motion; with --video two frames of it half a second apart as well, whose
motion is not known.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def affine_pair(width, height):
    """A texture, the same moved, and the displacement of every pixel."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    # The texture is drawn four times as fine, so that moving it blurs nothing.
    fine, border = 4, 32
    noise = rng.uniform(0, 1, ((height + 2 * border) * fine, (width + 2 * border) * fine)).astype(np.float32)
    texture = sum(cv2.GaussianBlur(noise, (0, 0), fine * s) * s for s in (1.5, 4, 10))
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    turn = np.array([[1.006, -0.008], [0.008, 0.994]])
    shift = np.array([2.25, -1.5])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])

    def look(matrix):
        """The pixel p of a picture shows the texture at matrix · (p − middle) + middle."""
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float64)
        points = np.stack([xs, ys], -1) - middle
        at = points @ matrix[:, :2].T + matrix[:, 2] + middle + border
        at = (at * fine + (fine - 1) / 2).astype(np.float32)
        shown = cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_CUBIC)
        return shown.clip(0, 255).round().astype(np.uint8), points

    first, points = look(np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    back = np.linalg.inv(turn)
    second, _ = look(np.column_stack([back, -back @ shift]))
    truth = points @ (turn - np.eye(2)).T + shift
    return first, second, truth


def video_pair(path, width, height):
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"fps=2,scale={width}:{height},format=gray", "-frames:v", "9", "-f", "rawvideo", "-"]
    import numpy as np

    frames = np.frombuffer(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, np.uint8)
    frames = frames.reshape(-1, height, width)
    return frames[7].copy(), frames[8].copy(), None


def kinora(example, first, second, threads, folder, repeats):
    import numpy as np

    height, width = first.shape
    paths = [folder / name for name in ("first.raw", "second.raw", "flow.raw")]
    paths[0].write_bytes(first.tobytes())
    paths[1].write_bytes(second.tobytes())
    command = [example, width, height, *paths, repeats]
    variables = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    done = subprocess.run(list(map(str, command)), check=True, env=variables, stdout=subprocess.PIPE, text=True)
    flow = np.fromfile(paths[2], "<f4").reshape(height, width, 2)
    return flow, [float(line) for line in done.stdout.split()]


def opencv(first, second, threads, repeats):
    import cv2

    cv2.setNumThreads(threads)
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        spent.append((time.perf_counter() - started) * 1e3)
    return flow, spent


def compare(name, pair, threads, arguments, example, folder):
    import numpy as np

    first, second, truth = pair
    ours, theirs, ratios = [], [], []
    for _ in range(arguments.pairs):
        # The first run of each turn warms up and does not count.
        flow, spent = kinora(example, first, second, threads, folder, 4)
        reference, peer = opencv(first, second, threads, 4)
        ours += spent[1:]
        theirs += peer[1:]
        ratios.append(min(peer[1:]) / min(spent[1:]))
    distance = np.linalg.norm(flow - reference, axis=2)
    errors = ""
    if truth is not None:
        error = [np.linalg.norm(f - truth, axis=2).mean() for f in (flow, reference)]
        errors = f"error against truth {error[0]:.4f} and {error[1]:.4f} px  "
    print(
        f"{name:>18} {threads} threads  distance mean {distance.mean():.7f} max {distance.max():.5f} px  {errors}"
        f"kinora {min(ours):.2f} ({statistics.median(ours):.2f}) ms  opencv {min(theirs):.2f} ({statistics.median(theirs):.2f}) ms  "
        f"ratio {statistics.median(ratios):.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--sizes", nargs="+", default=["256x144", "640x360", "1280x720"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--video", type=Path)
    parser.add_argument("--example", type=Path, help="a built flow_of_pictures; default: build it")
    arguments = parser.parse_args()
    environment.enter(".venv-flow", ["numpy", "opencv-python-headless==5.0.0.93"])
    import cv2

    example = arguments.example
    if example is None:
        subprocess.run(["cargo", "build", "--release", "-p", "kinora-curate", "--example", "flow_of_pictures"], cwd=ROOT, check=True)
        example = ROOT / "target" / "release" / "examples" / "flow_of_pictures"
    print(f"OpenCV {cv2.__version__}; least (median) milliseconds of a pair; ratio: OpenCV's over Kinora's, median of the turns")
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            width, height = map(int, size.split("x"))
            pairs = [("affine " + size, affine_pair(width, height))]
            if arguments.video:
                pairs.append(("video " + size, video_pair(arguments.video, width, height)))
            for name, pair in pairs:
                for threads in arguments.threads:
                    compare(name, pair, threads, arguments, example, Path(folder))


if __name__ == "__main__":
    main()
