"""A virtual environment for a benchmark, from the package registry, made on its first run."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def enter(name, packages):
    """Runs this script again in bench/NAME, which has these packages, given as words of pip. With
    KINORA_BENCH_PYTHON in a Python that has them already."""
    if os.environ.get("KINORA_BENCH_READY") == "1":
        return
    folder = HERE / name
    python = Path(os.environ.get("KINORA_BENCH_PYTHON", folder / "bin" / "python"))
    if not python.exists():
        print("bench: setting up", folder, file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    os.environ["KINORA_BENCH_READY"] = "1"
    os.execv(str(python), [str(python), *sys.argv])
