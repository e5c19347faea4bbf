"""A service that is never left alone: its run gets long, continues as new again and again, and neither loses nor doubles
an operation; no history grows above 2,000 events.

    python3 tests/system/long_service.py --binary build/dev/cli/addrflow --dir build/dev/long --operations 5000
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from world import FAST, Trouble, World, eventually

TENANT = "long"
MOST_EVENTS = 2_000
# The run stays open between two operations: what makes a history long.
PATIENT = {**FAST, "ADDRFLOW_PACE_IDLE": "60s"}


def temporal(world, *arguments):
    done = subprocess.run(
        [world.peers["TEMPORAL_CLI"], *arguments, "--address", world.peers["TEMPORAL_ADDRESS"], "-o", "json"],
        capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def one_operation(world, number):
    """Every hold has a reason of its own, so that each operation leaves a trace of its own."""
    verb, reason = ("suspend", number) if number % 2 == 0 else ("reactivate", number - 1)
    for _ in range(5):
        answer = world.addrflow(verb, "line", "--tenant", TENANT, "--reason", f"r{reason}", "--key", f"k{number}",
                                limit_s=150)
        if answer.exit != 3:
            break
    if answer.exit not in (0, 4):
        raise Trouble(repr(answer))


def runs(world):
    listed = temporal(world, "workflow", "list", "--limit", "1000", "--query", f"WorkflowId = 'service/{TENANT}/line/internet'")
    lengths = []
    for one in listed:
        execution = one["execution"]
        described = temporal(world, "workflow", "describe", "-w", execution["workflowId"], "-r", execution["runId"])
        lengths.append(int(described["workflowExecutionInfo"]["historyLength"]))
    return lengths


def work(world, operations):
    world.add_network(TENANT, cidr="100.76.0.0/24", netbox="off")
    world.start_worker()
    world.must("provision", "line", "--tenant", TENANT, "--username", f"line@{TENANT}", allow=(0, 4))
    # One after the other: of two different requests for one line at the same time, one is refused.
    for number in range(operations):
        one_operation(world, number)
    eventually("the operations to be finished", lambda: world.sql(
        "select count(*) from operations where phase = 'open'") == [["0"]])


def check(world, operations):
    # The operation of a composition has the composition's key and its step.
    rows = world.sql("select count(*), count(distinct split_part(key, ':', 1)),"
                     " count(*) filter (where (outcome->>'success')::boolean)"
                     " from operations where key ~ '^k[0-9]+:'")
    if rows != [[str(operations)] * 3]:
        raise Trouble(f"{operations} operations were asked for, the ledger has {rows} (rows, keys, successes)")
    view = world.must("status", "line", "--tenant", TENANT).json
    if view["bindings"][-1]["state"] != "active" or world.sql("select count(*) from holds") != [["0"]]:
        raise Trouble(f"the line ended as {view}")
    lengths = runs(world)
    if max(lengths) > MOST_EVENTS:
        raise Trouble(f"a history has {max(lengths)} events")
    if len(lengths) < 2:
        raise Trouble("no run has continued as new: nothing was shown")
    audit = world.addrflow("audit", json_output=False)
    if audit.exit != 0:
        raise Trouble(repr(audit))
    print(f"{operations} operations in {len(lengths)} runs, the longest of {max(lengths)} events", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--dir", default="")
    parser.add_argument("--operations", type=int, default=160)
    arguments = parser.parse_args()
    world = World(pathlib.Path(arguments.dir or tempfile.mkdtemp(prefix="addrflow-long-")), arguments.binary, PATIENT)
    world.wipe()
    world.start_peers()
    try:
        world.prepare()
        work(world, arguments.operations)
        check(world, arguments.operations)
    finally:
        world.stop()


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(str(trouble))
