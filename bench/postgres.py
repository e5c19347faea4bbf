"""A private PostgreSQL for a benchmark: started below a temporary directory, deleted at its end."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = ROOT / "tests" / "peers" / "peers"


@contextlib.contextmanager
def private_postgres():
    """Yields the URL of an empty database."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="addrflow-bench-"))
    try:
        subprocess.run([str(PEERS), "start", "postgres", "--dir", str(directory)], check=True)
        lines = (directory / "env").read_text().splitlines()
        yield dict(line.split("=", 1) for line in lines if "=" in line)["ADDRFLOW_TEST_PG_URL"]
    finally:
        subprocess.run([str(PEERS), "wipe", "--dir", str(directory)], check=False)
        shutil.rmtree(directory, ignore_errors=True)


def program(build, name):
    found = sorted((ROOT / "build" / build / "bench").glob(f"*/{name}"))
    if not found:
        raise SystemExit(f"build it first: cmake --build build/{build} --target {name}")
    return str(found[0])


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
