#!/usr/bin/env python3
"""Cut detection beside PySceneDetect on a corpus whose cuts are known: F1 and frames a second, in one run.

    python3 bench/cuts.py CLIP.webm --clip-cuts 283,376,551 [--tune 1 --report 2] [--videos 8]

CLIP is a real video; `--clip-cuts` are the first frames of its new shots. Its shots, and shots that `kinora
footage` renders, are joined at random by hard cuts, dissolves and fades through black or white of 8 to 48
frames, and wipes; some shots are static, flash, pan fast or are held in a shaking hand. Parameters of
PySceneDetect are swept on the corpus of the seed `--tune`; everything is scored on that of `--report`, which
nothing was tuned on. Needs ffmpeg; sets up its own virtual environment (bench/.venv-cuts) on the first run.

A hard cut is found by a cut at its frame (or, by the second rule, up to one frame beside it), a transition by
a cut within it or up to one frame beside it. Each truth is found once; a cut that finds nothing is wrong, for
hard cuts and for transitions alike, but one that finds the other sort counts for neither.
"""

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import time
from pathlib import Path

import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WIDTH, HEIGHT, FPS = 320, 180, 24
SHOTS = []


# ---- the corpus ------------------------------------------------------------------------------------------


def decode(path, width, height):
    import numpy as np

    words = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    words += ["-vf", f"scale={width}:{height}", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    data = subprocess.run(words, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def sources(arguments, scratch):
    """Shots of at least 60 frames, a good deal larger than the videos, so that a window can move in them."""
    width, height = WIDTH * 3 // 2, HEIGHT * 3 // 2
    clip = decode(arguments.clip, width, height)
    ends = [0, *arguments.clip_cuts, len(clip)]
    # The clip fades in from a plain picture and back; its first and last second are left out.
    shots = [clip[start + 8 : end] for start, end in itertools.pairwise(ends)]
    shots[0], shots[-1] = shots[0][64:], shots[-1][:-8]
    footage = scratch / "footage"
    if not footage.exists():
        words = [arguments.kinora, "footage", "--videos", "9", "--width", "640", "--height", "360", "--seed", "7"]
        subprocess.run([*words, str(footage)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for path in sorted(footage.glob("*.mp4")):
        comment = subprocess.run(
            ["ffprobe", "-v", "error", "-show_entries", "format_tags=comment", "-of", "default=nk=1:nw=1", str(path)],
            check=True, capture_output=True, text=True).stdout
        frames = decode(path, width, height)
        for shot in json.loads(comment)["kinora"]["shots"]:
            shots.append(frames[shot["first_frame"] : shot["first_frame"] + shot["frames"]])
    return [shot for shot in shots if len(shot) >= 50]


def looks(shot, random, frames):
    """`frames` frames of a window of a shot: mirrored or not, nearer or farther, still, panned or shaken."""
    import cv2
    import numpy as np

    backward, mirrored = random.random() < 0.2, random.random() < 0.5
    start = random.integers(0, max(1, len(shot) - frames))
    # A shot that is too short runs to and fro.
    order = [abs((start + i) % (2 * len(shot) - 2) - (len(shot) - 1)) for i in range(frames)]
    if not backward:
        order = [len(shot) - 1 - i for i in order]
    way = random.choice(["plain", "still", "pan", "shake", "flash", "zoom"], p=[0.4, 0.12, 0.14, 0.14, 0.1, 0.1])
    wide = random.uniform(0.5, 0.95) if way in ("pan", "shake") else random.uniform(0.6, 1.0)
    height, width = shot.shape[1:3]
    gain = random.uniform(0.75, 1.15, 3)
    room = np.array([width * (1 - wide), height * (1 - wide)])
    at = room * random.uniform(0.1, 0.9, 2)
    speed = np.array([random.choice([-1, 1]) * random.uniform(8, 30), random.uniform(-4, 4)])
    shake = np.zeros(2)
    flashes = {int(f): int(random.integers(1, 4)) for f in random.integers(8, frames - 8, 2)} if way == "flash" else {}
    bright = 0
    for i in range(frames):
        frame = shot[order[0 if way == "still" else i]]
        size = wide * (1 - 0.3 * i / frames) if way == "zoom" else wide
        if way == "pan":  # back and forth over all there is room for
            at = at + speed
            speed = np.where(((at < 0) & (speed < 0)) | ((at > room) & (speed > 0)), -speed, speed)
        if way == "shake":
            shake = 0.8 * shake + random.normal(0, 6, 2)
        left, top = np.clip(at + shake, 0, [width * (1 - size), height * (1 - size)])
        matrix = np.array([[size * width / WIDTH, 0, left], [0, size * height / HEIGHT, top]])
        picture = cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                 borderMode=cv2.BORDER_REPLICATE)
        picture = picture[:, ::-1] if mirrored else picture
        picture = picture.astype(np.float32) * gain
        bright = flashes.get(i, bright)
        if bright:
            picture = picture * 0.3 + 255 * 0.7 if i % 2 else picture * 2.2 + 40
            bright -= 1
        yield np.clip(picture, 0, 255)


def blend(kind, a, b, share, random_angle):
    """Frame of a transition, of which `share` is done."""
    import numpy as np

    if kind == "dissolve":
        return a * (1 - share) + b * share
    if kind in ("black", "white"):
        plain = 0.0 if kind == "black" else 255.0
        return (a if share < 0.5 else b) * abs(1 - 2 * share) + plain * (1 - abs(1 - 2 * share))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    along = x / WIDTH * np.cos(random_angle) + y / HEIGHT * np.sin(random_angle)
    low, high = along.min(), along.max()
    mask = np.clip((low + (high - low) * share * 1.05 - along) / 0.02, 0, 1)[..., None]
    return a * (1 - mask) + b * mask


def build(folder, shots, seed, videos):
    """Writes the videos of a corpus, two at a time, and `truth.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}.mp4" for number in range(videos)]
    # Workers inherit the shots, which are large.
    SHOTS[:] = shots
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(build_video, [(path, seed, number) for number, path in enumerate(paths)], 1)
    truth = {path.name: video for path, video in zip(paths, found)}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))


def build_video(path, seed, number):
    """Joins thirteen shots into one video; gives back what was joined how and where."""
    import numpy as np

    shots = SHOTS
    random = np.random.default_rng([seed, number])
    words = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
             f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf",
             str(random.integers(18, 29)), "-threads", "2", "-pix_fmt", "yuv420p", str(path)]
    out = subprocess.Popen(words, stdin=subprocess.PIPE)
    marks, count, last, before, tail = [], 0, -1, None, []
    for _ in range(13):
        index = int(random.choice([i for i in range(len(shots)) if i != last]))
        last = index
        kinds = ["hard", "dissolve", "black", "white", "wipe"]
        kind = str(random.choice(kinds, p=[0.5, 0.2, 0.1, 0.06, 0.14])) if before else None
        long = int(random.integers(8, 49)) if kind not in (None, "hard") else 0
        body = int(random.integers(24, 90))
        # A shot as long as its body and both its transitions, of up to 48 frames.
        frames = looks(shots[index], random, long + body + 48)
        angle = random.uniform(0, 2 * np.pi)
        if kind == "hard":
            marks.append({"kind": "hard", "first": count, "last": count})
        elif kind:
            # Frames first..last are mixtures; last + 1 is the first that is wholly new.
            marks.append({"kind": kind, "first": count, "last": count + long - 1})
            for i in range(long):
                mixture = blend(kind, next(before), next(frames), (i + 1) / (long + 1), angle)
                out.stdin.write(mixture.astype(np.uint8).tobytes())
            count += long
        for _ in range(body):
            out.stdin.write(next(frames).astype(np.uint8).tobytes())
        count += body
        before = frames
    out.stdin.close()
    assert out.wait() == 0
    return {"frames": count, "marks": marks}


# ---- scores ----------------------------------------------------------------------------------------------


def matched(cuts, marks, tolerance):
    """Hits of hard cuts, hits of transitions, cuts that hit nothing."""
    free = sorted(cuts)
    hits = {"hard": 0, "gradual": 0}
    for beside in range(tolerance + 1):  # exact ones first
        for mark in marks:
            if mark.get("found"):
                continue
            slack = beside if mark["kind"] == "hard" else 1
            for cut in free:
                if mark["first"] - slack <= cut <= mark["last"] + slack:
                    free.remove(cut)
                    mark["found"] = True
                    hits["hard" if mark["kind"] == "hard" else "gradual"] += 1
                    break
    return hits, free


def score(found, truth, tolerance):
    """Precision, recall and F1 of hard cuts and of transitions, over all videos."""
    totals = {sort: {"hits": 0, "truths": 0} for sort in ("hard", "gradual")}
    wrong = 0
    for name, video in truth.items():
        marks = [dict(mark) for mark in video["marks"]]
        hits, free = matched(found[name], marks, tolerance)
        wrong += len(free)
        for sort, total in totals.items():
            total["hits"] += hits[sort]
            total["truths"] += sum((mark["kind"] == "hard") == (sort == "hard") for mark in marks)
    result = {}
    for sort, total in totals.items():
        precision = total["hits"] / max(1, total["hits"] + wrong)
        recall = total["hits"] / max(1, total["truths"])
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        result[sort] = {"precision": precision, "recall": recall, "f1": f1}
    return result


# ---- PySceneDetect ---------------------------------------------------------------------------------------


def sweeps():
    """For each of its detectors the parameters tried; the first are its defaults."""
    short = [15, 8]
    return {
        "Content": [{"threshold": t, "min_scene_len": m} for m in short for t in (27, 12, 15, 18, 21, 24, 31, 36)],
        "Adaptive": [{"adaptive_threshold": t, "window_width": w, "min_content_val": c, "min_scene_len": m}
                     for m in short for w in (2, 3) for c in (15.0, 8.0) for t in (3.0, 1.5, 2.0, 2.5, 3.5, 4.5)],
        "Histogram": [{"threshold": t, "min_scene_len": m} for m in short for t in (0.2, 0.05, 0.1, 0.15, 0.3, 0.4)],
        "Hash": [{"threshold": t, "min_scene_len": m} for m in short for t in (0.35, 0.25, 0.3, 0.4, 0.45)],
        "Threshold": [{"threshold": t, "min_scene_len": m, "method": w}
                      for m in short for w in ("FLOOR", "CEILING") for t in (12, 6, 20, 30, 235, 245)],
    }


def detector(name, parameters):
    import scenedetect.detectors as detectors

    parameters = dict(parameters)
    if name == "Threshold":
        parameters["method"] = detectors.ThresholdDetector.Method[parameters.pop("method")]
    return getattr(detectors, f"{name}Detector")(**parameters)


def peer_cuts(path, name, parameters):
    """The first frames of new shots, as its users get them."""
    import scenedetect

    video = scenedetect.open_video(str(path))
    manager = scenedetect.SceneManager()
    manager.add_detector(detector(name, parameters))
    manager.detect_scenes(video)
    return [scene[0].frame_num for scene in manager.get_scene_list()[1:]]


def peer_sweep(paths, name, choices):
    """The cuts with each choice of parameters, from one decode: all detectors run side by side, each in a
    manager of its own, on the frames as its manager shrinks them."""
    import cv2
    import scenedetect
    from scenedetect.scene_manager import compute_downscale_factor

    found = [{} for _ in choices]
    for path in paths:
        video = scenedetect.open_video(str(path))
        factor = compute_downscale_factor(max(video.frame_size))
        size = tuple(max(1, round(side / factor)) for side in video.frame_size)
        detectors = [detector(name, choice) for choice in choices]
        share_measurements(name, detectors)
        cuts = [[] for _ in choices]
        while (frame := video.read()) is not False:
            small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
            for one, own in zip(detectors, cuts):
                own += one.process_frame(video.position, small)
        for one, own, result in zip(detectors, cuts, found):
            own += one.post_process(video.position)
            result[path.name] = sorted({cut.frame_num for cut in own})
    return found


def share_measurements(name, detectors):
    """What is measured of a frame does not depend on thresholds: it is measured once, for the first."""
    method = {"Content": "_calculate_frame_score", "Adaptive": "_calculate_frame_score",
              "Histogram": "calculate_histogram", "Hash": "hash_frame"}.get(name)
    if method is None:
        return
    first = detectors[0]
    original, kept = getattr(first, method), {}

    def measure(*arguments, **words):
        kept["value"] = original(*arguments, **words)
        return kept["value"]

    setattr(first, method, measure)
    for other in detectors[1:]:
        setattr(other, method, lambda *arguments, **words: kept["value"])


# ---- ours ------------------------------------------------------------------------------------------------


def our_cuts(binary, paths, settings=None):
    words = [binary, *(["--settings", settings] if settings else []), *map(str, paths)]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return {Path(line["video"]).name: line for line in map(json.loads, lines)}


def cpu_seconds(words):
    """User and system time of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own_seconds(work):
    """User and system time, and wall-clock time, of a function in this process."""
    clock, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - clock, time.perf_counter() - wall


# ---- the run ---------------------------------------------------------------------------------------------


def line(name, parameters, exact, near):
    sorts = [(exact, "hard"), (near, "hard"), (near, "gradual")]
    cells = [" ".join(f"{rule[sort][what]:.3f}" for what in ("precision", "recall", "f1")) for rule, sort in sorts]
    print(f"{name:22} | {' | '.join(cells)} | {parameters}", flush=True)


def best_choice(sweep, truth, sort):
    return max(range(len(sweep)), key=lambda choice: score(sweep[choice], truth, 1)[sort]["f1"])


def all_at_once(binary, paths):
    """Seconds by the wall clock of all videos, as many at a time as there are cores."""
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda path: our_cuts(binary, [path]), paths))
    return time.perf_counter() - started


def peer_detection_seconds(paths, name, parameters):
    """CPU seconds of a detector on frames that are decoded and shrunk already."""
    import cv2
    import scenedetect
    from scenedetect.scene_manager import compute_downscale_factor

    spent = 0.0
    for path in paths:
        video, own = scenedetect.open_video(str(path)), detector(name, parameters)
        factor = compute_downscale_factor(max(video.frame_size))
        size = tuple(max(1, round(side / factor)) for side in video.frame_size)
        while (frame := video.read()) is not False:
            small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
            spent += own_seconds(lambda: own.process_frame(video.position, small))[0]
        spent += own_seconds(lambda: own.post_process(video.position))[0]
    return spent


def speed(arguments, paths, truth, peers):
    """Frames a second on the same videos, in turn: of the whole pass, decoding included, and of the detectors
    alone. PySceneDetect has one video at a time and OpenCV's own threads; Kinora one thread a video, and one
    video a core where the wall clock counts."""
    frames = sum(truth[path.name]["frames"] for path in paths)
    wall = all_at_once(arguments.binary, paths)
    cpu = cpu_seconds([arguments.binary, *map(str, paths)])
    null = sum(cpu_seconds(["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"])
               for path in paths)
    alone = sum(line["measuring_cpu_seconds"] for line in our_cuts(arguments.binary, paths).values())
    print(f"\nframes a second        | whole pass, wall, {os.cpu_count()} cores | whole pass, CPU time | detectors, CPU time"
          f"    ({frames} frames)")
    print(f"{'kinora':22} | {frames / wall:25.0f} | {frames / cpu:20.0f} | {frames / alone:.0f}")
    print(f"{'ffmpeg to null':22} | {'':25} | {frames / null:20.0f} | kinora costs {cpu / null:.2f} of it")
    for name, parameters in peers:
        spent = own_seconds(lambda: [peer_cuts(path, name, parameters) for path in paths])
        own = peer_detection_seconds(paths, name, parameters)
        print(f"{name:22} | {frames / spent[1]:25.0f} | {frames / spent[0]:20.0f} | {frames / own:.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--clip-cuts", type=lambda text: [int(word) for word in text.split(",")], default=[])
    parser.add_argument("--tune", type=int, default=1)
    parser.add_argument("--report", type=int, default=2)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--scratch", type=Path, default=HERE / ".cuts")
    parser.add_argument("--kinora", default=str(ROOT / "target/release/kinora"))
    parser.add_argument("--binary", default=str(ROOT / "target/release/examples/find_cuts"))
    parser.add_argument("--settings", help="a file of thresholds for kinora, instead of its own")
    parser.add_argument("--build-only", action="store_true")
    arguments = parser.parse_args()
    corpora = {seed: arguments.scratch / f"seed-{seed}-{arguments.videos}" for seed in (arguments.tune, arguments.report)}
    if not all((folder / "truth.json").exists() for folder in corpora.values()):
        arguments.scratch.mkdir(parents=True, exist_ok=True)
        shots = sources(arguments, arguments.scratch)
        for seed, folder in corpora.items():
            build(folder, shots, seed, arguments.videos)
    if arguments.build_only:
        return
    truths = {seed: json.loads((folder / "truth.json").read_text()) for seed, folder in corpora.items()}
    paths = {seed: [corpora[seed] / name for name in truths[seed]] for seed in corpora}
    tune, report = (arguments.tune, arguments.report)
    print("precision recall F1    | hard, exact frame | hard, ±1 frame    | transitions")
    ours = our_cuts(arguments.binary, paths[report], arguments.settings)
    found = {name: [cut["frame"] for cut in video["cuts"]] for name, video in ours.items()}
    line("kinora", "", score(found, truths[report], 0), score(found, truths[report], 1))
    peers = []
    for name, choices in sweeps().items():
        tuned = peer_sweep(paths[tune], name, choices)
        best = {sort: best_choice(tuned, truths[tune], sort) for sort in ("hard", "gradual")}
        wanted = {"default": 0, "best for hard": best["hard"], "best for gradual": best["gradual"]}
        picked = list(dict.fromkeys(wanted.values()))
        swept = dict(zip(picked, peer_sweep(paths[report], name, [choices[choice] for choice in picked])))
        for what, choice in wanted.items():
            exact, near = (score(swept[choice], truths[report], tolerance) for tolerance in (0, 1))
            line(f"{name} {what}", choices[choice], exact, near)
        peers.append((name, choices[0]))
    speed(arguments, paths[report], truths[report], peers)


if __name__ == "__main__":
    environment.enter(".venv-cuts", ["scenedetect==0.7.2"])
    main()
