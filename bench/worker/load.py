"""What `run` does to a worker: the load, and the reading of its processor time, memory and calls."""

import asyncio
import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import History
from temporalio.client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "tests" / "peers" / "peers"
CONCURRENT = 20
STEP_LIMIT_S = 900
CORRELATION = "correlation-of-the-bench-" * 4  # brings a payload to about 200 bytes
# What the load generator itself asks of the server; every other call in the namespace is the worker's.
OWN_CALLS = {"StartWorkflowExecution", "PollWorkflowExecutionHistory", "SignalWorkflowExecution",
             "UpdateWorkflowExecution", "PollWorkflowExecutionUpdate"}
LOOPS_PER_TIMER = 10


def cpu_of(stat):
    """Seconds of user and system time of all threads, from the text of /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """Temporal's development server below a temporary directory, deleted at the end."""

    def __enter__(self):
        # In memory where that is possible: its store waits for the disk with every step, and that is not what is measured.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="addrflow-bench-", dir=memory))
        try:
            subprocess.run([str(PEERS), "start", "temporal", "--dir", str(self.directory)], check=True)
        except BaseException:
            self.__exit__()
            raise
        self.address = f"127.0.0.1:{self.port('temporal')}"
        return self

    def __exit__(self, *_):
        subprocess.run([str(PEERS), "wipe", "--dir", str(self.directory)], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def port(self, name):
        return int((self.directory / f"{name}.port").read_text())

    def cpu(self):
        pid = (self.directory / "temporal.pid").read_text().split()[0]
        return cpu_of(pathlib.Path(f"/proc/{pid}/stat").read_text())

    def store(self):
        """Octets that its tables take."""
        return (self.directory / "temporal.db").stat().st_size

    def counters(self, pattern):
        """Of each of the server's counters whose name matches: the name, its labels, its value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port('temporal_metrics')}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        for name, labels, value in re.findall(rf"^({pattern})\{{(.*)\}} (\S+)$", text, re.MULTILINE):
            yield name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)

    def calls(self):
        """Operation -> calls that the server has had from workers since its start."""
        counts = {}
        for _, label, value in self.counters("service_requests"):
            operation = label.get("operation")
            if label.get("service_name") == "frontend" and label.get("namespace") == "default" \
                    and operation not in OWN_CALLS:
                counts[operation] = counts.get(operation, 0) + value
        return counts

    def timeouts(self):
        """Which time-out of which kind of task -> how often it struck a workflow or an activity of ours."""
        counts = {}
        for name, label, value in self.counters("(?:schedule_to_start|start_to_close|activity_task)_timeout"):
            if label.get("namespace") == "default":
                what = f"{name} {label.get('timeout_type', '')}".strip()
                counts[what] = counts.get(what, 0) + value
        return counts


class Worker:
    """One worker process on a task queue of its own."""

    def __init__(self, server, command, queue, *options):
        self.command = [*command, "--address", server.address, "--task-queue", queue, *options]
        self.server, self.queue = server, queue

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
            return
        self.process.kill()
        self.process.wait()

    def proc(self, name):
        if self.process.poll() is not None:
            raise SystemExit(f"the worker ended: {' '.join(self.command)}")
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def cpu(self):
        return cpu_of(self.proc("stat"))

    def resident(self):
        return int(re.search(r"VmRSS:\s+(\d+) kB", self.proc("status"))[1]) * 1024


def own_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def each(items, do):
    """`do` for every item, CONCURRENT at a time."""
    waiting = iter(items)

    async def take():
        for item in waiting:
            await do(item)

    async with asyncio.timeout(STEP_LIMIT_S):
        await asyncio.gather(*(take() for _ in range(CONCURRENT)))


class Load:
    def __init__(self, server, client):
        self.server, self.client = server, client
        self.number = 0

    @staticmethod
    async def connect(server):
        return Load(server, await Client.connect(server.address))

    async def start(self, worker, workflow, request):
        self.number += 1
        return await self.client.start_workflow(workflow, request, id=f"{worker.queue}-{self.number}",
                                                task_queue=worker.queue)

    async def provision(self, worker, count):
        async def one(i):
            request = {"subscriber_id": f"subscriber-{i}", "tenant_id": "bench", "correlation": CORRELATION}
            result = await (await self.start(worker, "Provision", request)).result()
            assert (result["status"], result["steps"]) == ("active", 5), result

        await each(range(count), one)

    async def entity(self, worker, i):
        return await self.start(worker, "AddressEntity",
                                {"address_id": f"address-{i}", "tenant_id": "bench", "correlation": CORRELATION})

    async def update(self, worker, count):
        """`count` updates on CONCURRENT entities, each of which gets its own one by one."""
        async def one(i):
            handle = await self.entity(worker, i)
            for n in range(count // CONCURRENT):
                to = ("suspended", "active")[n % 2]
                request = {"to": to, "request_id": f"{i}-{n}", "correlation": CORRELATION}
                status = await handle.execute_update("transition", request)
                assert (status["state"], status["revision"]) == (to, n + 1), status
            await handle.signal("revoke", {"reason": "end"})
            await handle.result()

        await each(range(CONCURRENT), one)

    async def measured(self, worker, what, count):
        """Figures for one operation: the worker's CPU in ms and its calls; the generator's share of a core."""
        cpu, calls, own, began = worker.cpu(), self.server.calls(), own_cpu(), time.monotonic()
        await what(worker, count)
        spent = worker.cpu() - cpu
        generator = (own_cpu() - own) / (time.monotonic() - began)
        made = {name: (n - calls.get(name, 0)) / count for name, n in self.server.calls().items()}
        return {"ms": spent * 1000 / count, "calls": made, "generator": generator}

    async def idle(self, worker, sizes):
        """Bytes of resident memory that a further cached idle entity takes, between the two sizes."""
        resident, started = [], 0
        before = self.server.calls().get("RespondWorkflowTaskCompleted", 0)
        for size in sizes:
            await each(range(started, size), lambda i: self.entity(worker, i))
            started = size
            async with asyncio.timeout(STEP_LIMIT_S):
                while self.server.calls().get("RespondWorkflowTaskCompleted", 0) - before < size:
                    await asyncio.sleep(0.2)
            await asyncio.sleep(3)  # what the last tasks left behind is freed or collected
            resident.append(worker.resident())
        return (resident[1] - resident[0]) / (sizes[1] - sizes[0])

    async def history(self, worker, iterations):
        """A run of ReplayLoop in which every tick meets a workflow that waits for it, so that all SDKs' look alike."""
        handle = await self.start(worker, "ReplayLoop", {"iterations": iterations, "correlation": CORRELATION})
        done = ticked = 0
        due = False
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                done += 1
                due = (done - 1) % LOOPS_PER_TIMER != 0
            elif event.event_type == EventType.EVENT_TYPE_TIMER_FIRED:
                due = True
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED and due:
                due = False
                ticked += 1
                await handle.signal("tick", {"sequence": ticked})
        await handle.result()
        return await handle.fetch_history()


def write_history(history, path):
    """As JSON and, for the Rust SDK, which reads none, as the message itself."""
    path.with_suffix(".json").write_text(history.to_json())
    path.with_suffix(".pb").write_bytes(History(events=history.events).SerializeToString())
