"""What `run` and `soak` need before they can measure: an interpreter with the Python SDK, our programs, sound arguments."""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def with_temporalio(script):
    """Goes on in the interpreter of the tests, which has the Python SDK, where this one has not."""
    if importlib.util.find_spec("temporalio") is None:
        done = subprocess.run([str(ROOT / "tests" / "peers" / "peers"), "python"], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit("no Python with temporalio")
        python = done.stdout.strip()
        os.execv(python, [python, "-B", script, *sys.argv[1:]])


def must(*command, **options):
    if subprocess.run(command, **options).returncode != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")


def build_ours(preset, jobs):
    folder = ROOT / "build" / preset
    if not (folder / "build.ninja").exists():
        must("cmake", "--preset", preset, cwd=ROOT, stdout=subprocess.DEVNULL)
    must("cmake", "--build", folder, "-j", jobs, "--target", "bench_worker", "bench_replay", stdout=subprocess.DEVNULL)
    made = folder / "bench" / "worker"
    return {"worker": [str(made / "bench_worker")], "replay": [str(made / "bench_replay")], "history": "json"}


def within(low, high):
    """For argparse: a whole number between the two."""
    def read(text):
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{low} to {high}")
        return int(text)
    return read
