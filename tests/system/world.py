"""A whole addrflow on loopback, for the demo and for the tests of the whole system.

Real Temporal server, PostgreSQL and FreeRADIUS (tests/peers), NetBox where NETBOX_API_URL names one and the
stand-in (tests/netbox) else, and the `addrflow` binary as a user runs it. Nothing here knows how addrflow works
inside: it uses the command line, plain SQL to look, and RADIUS packets as a BNG sends them.
"""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "tests" / "peers" / "peers"
STANDIN = ROOT / "tests" / "netbox" / "standin.py"

# Short time-outs: what production waits minutes for, a test sees in seconds.
FAST = {
    "ADDRFLOW_PACE_ANSWER_WAIT": "3s",
    "ADDRFLOW_PACE_EFFECT_RETRY": "500ms",
    "ADDRFLOW_PACE_EFFECT_RETRY_MAX": "2s",
    "ADDRFLOW_PACE_GATE_POLL": "1s",
    "ADDRFLOW_PACE_LEDGER_TIMEOUT": "5s",
    "ADDRFLOW_PACE_NETBOX_TIMEOUT": "5s",
    "ADDRFLOW_PACE_RADIUS_TIMEOUT": "6s",
    "ADDRFLOW_NETBOX_TIMEOUT": "2s",
    "ADDRFLOW_RADIUS_INITIAL_RETRANSMISSION": "300ms",
    "ADDRFLOW_RADIUS_MAX_RETRANSMISSION": "1s",
    "ADDRFLOW_RADIUS_MAX_DURATION": "3s",
    "ADDRFLOW_WORKER_STICKY_TIMEOUT": "2s",
    "ADDRFLOW_WORKER_SHUTDOWN_GRACE": "2s",
}


class Trouble(Exception):
    """What a person reads instead of a stack trace: one clear line."""


def eventually(what, condition, limit_s=30.0, every_s=0.1):
    """Waits for an event of another process; returns what `condition` returned when it became true."""
    deadline = time.monotonic() + limit_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Trouble(f"waited {limit_s:.0f} s in vain: {what}")
        time.sleep(every_s)


class Answer:
    """What one call of the command line said."""

    def __init__(self, arguments, finished):
        self.arguments = arguments
        self.exit = finished.returncode
        self.text = finished.stdout
        self.error = finished.stderr.strip()
        try:
            self.json = json.loads(finished.stdout)
        except ValueError:
            self.json = None

    def __repr__(self):
        return f"addrflow {' '.join(self.arguments)} -> exit {self.exit}\n{self.text}{self.error}"


class World:
    def __init__(self, directory, binary, settings=None):
        self.directory = pathlib.Path(directory)
        self.binary = pathlib.Path(binary)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.settings = dict(settings or {})
        self.workers = []
        self.peers = {}
        self._standin = None

    # --- peers -------------------------------------------------------------------------------------

    def start_peers(self):
        self._peers("start", "temporal", "postgres", "nas", "aaa")
        self.peers = self._read_environment(self.directory / "env")
        if os.environ.get("NETBOX_API_URL"):
            self.netbox_url = os.environ["NETBOX_API_URL"]
            self.netbox_token = os.environ.get("NETBOX_API_TOKEN", "")
            self.netbox_is_real = True
        else:
            self._start_standin()
            self.netbox_is_real = False

    def _peers(self, *arguments):
        done = subprocess.run(
            [str(PEERS), *arguments, "--dir", str(self.directory)], capture_output=True, text=True
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise Trouble(lines[-1] if lines else f"tests/peers {arguments[0]} failed")
        return done.stdout

    def restart_peer(self, name):
        self._peers("restart", name)

    @staticmethod
    def _read_environment(path):
        values = {}
        for line in path.read_text().splitlines():
            name, separator, value = line.partition("=")
            if separator and not line.startswith("#"):
                values[name.removeprefix("export ").strip()] = value.strip().strip("'\"")
        return values

    def _start_standin(self):
        url_file = self.directory / "netbox.url"
        pid_file = self.directory / "netbox.pid"
        if pid_file.exists() and url_file.exists() and self._alive(int(pid_file.read_text())):
            self.netbox_url = url_file.read_text().strip()
        else:
            url_file.unlink(missing_ok=True)
            with (self.directory / "netbox.log").open("ab") as log:
                process = subprocess.Popen(
                    ["python3", str(STANDIN), "--url-file", str(url_file),
                     "--state-file", str(self.directory / "netbox.state.json")],
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                )
            pid_file.write_text(str(process.pid))
            self._standin = process
            eventually("the NetBox stand-in's address",
                       lambda: url_file.exists() and url_file.read_text().strip())
            self.netbox_url = url_file.read_text().strip()
        self.netbox_token = "0123456789abcdef0123456789abcdef01234567"

    @staticmethod
    def _alive(pid):
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True

    def stop(self):
        for worker in list(self.workers):
            self.stop_worker(worker)
        pid_file = self.directory / "netbox.pid"
        if pid_file.exists():
            try:
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
            except (OSError, ValueError):
                pass
            pid_file.unlink(missing_ok=True)
        if self._standin is not None:
            self._standin.wait(timeout=10)
        self._peers("stop")

    def wipe(self):
        """Stops everything and deletes its data: the next start finds an empty world."""
        self.stop()
        self._peers("wipe")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    # --- addrflow ----------------------------------------------------------------------------------

    def environment(self, **more):
        values = dict(os.environ)
        values.update({
            "TEMPORAL_ADDRESS": self.peers["TEMPORAL_ADDRESS"],
            "TEMPORAL_NAMESPACE": "default",
            "ADDRFLOW_LEDGER_URL": self.peers["ADDRFLOW_TEST_PG_URL"],
            "ADDRFLOW_AAA_URL": self.peers["AAA_URL"],
            "NETBOX_API_URL": self.netbox_url,
            "NETBOX_API_TOKEN": self.netbox_token,
        })
        values.update(self.settings)
        values.update(more)
        return values

    def addrflow(self, *arguments, json_output=True, limit_s=120, **more):
        words = [*map(str, arguments)]
        if json_output:
            words.append("--json")
        finished = subprocess.run(
            [str(self.binary), *words], env=self.environment(**more), capture_output=True,
            text=True, timeout=limit_s, stdin=subprocess.DEVNULL,
        )
        return Answer(words, finished)

    def must(self, *arguments, allow=(0,), **more):
        answer = self.addrflow(*arguments, **more)
        if answer.exit not in allow:
            raise Trouble(repr(answer))
        return answer

    def start_worker(self, name="worker", **more):
        log_path = self.directory / f"{name}.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [str(self.binary), "worker"], env=self.environment(**more), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )
        process.log_path = log_path
        self.workers.append(process)
        return process

    def stop_worker(self, worker, limit_s=20):
        if worker in self.workers:
            self.workers.remove(worker)
        if worker.poll() is not None:
            return
        worker.send_signal(signal.SIGCONT)
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()

    def kill_worker(self, worker):
        self.workers.remove(worker)
        worker.kill()
        worker.wait()

    def prepare(self):
        """Tables, search attributes, AAA groups, NetBox fields: what `addrflow` does itself."""
        self.must("migrate")
        self.must("setup")

    def temporal(self, *arguments):
        """What a person does by Temporal's own command line."""
        done = subprocess.run([self.peers["TEMPORAL_CLI"], *arguments, "--address", self.peers["TEMPORAL_ADDRESS"]],
                              capture_output=True, text=True, timeout=90)
        if done.returncode != 0:
            raise Trouble(f"temporal {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    # --- looking -----------------------------------------------------------------------------------

    def sql(self, query, database="ledger"):
        url = urllib.parse.urlsplit(self.peers["AAA_URL" if database == "aaa" else "ADDRFLOW_TEST_PG_URL"])
        # The password goes by the environment: arguments can be read by every user of the machine.
        done = subprocess.run(
            ["psql", "-X", "-At", "-F", "|", "-v", "ON_ERROR_STOP=1", "-h", url.hostname, "-p", str(url.port),
             "-U", url.username, "-d", url.path.lstrip("/"), "-c", query],
            env={**os.environ, "PGPASSWORD": url.password or ""}, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise Trouble(f"psql: {done.stderr.strip()}")
        return [line.split("|") for line in done.stdout.splitlines()]

    @contextlib.contextmanager
    def locked_line(self, tenant, subscriber):
        """Somebody's transaction keeps the ledger's row of this line, until the end of the block."""
        url = urllib.parse.urlsplit(self.peers["ADDRFLOW_TEST_PG_URL"])
        session = subprocess.Popen(
            ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", url.hostname, "-p", str(url.port), "-U",
             url.username, "-d", self.database_name()], env={**os.environ, "PGPASSWORD": url.password or ""},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            line = f"tenant_id='{tenant}' and subscriber_id='{subscriber}'"
            session.stdin.write(
                f"begin; insert into services(tenant_id, subscriber_id, service) values"
                f" ('{tenant}', '{subscriber}', 'internet') on conflict do nothing;"
                f" select 'locked' from services where {line} for update;\n")
            session.stdin.flush()
            while session.stdout.readline().strip() != "locked":
                if session.poll() is not None:
                    raise Trouble("psql could not lock the line")
            yield
        finally:
            session.communicate("rollback;\n", timeout=30)

    def database_name(self):
        return urllib.parse.urlsplit(self.peers["ADDRFLOW_TEST_PG_URL"]).path.lstrip("/")

    def database_tool(self, program, *arguments):
        """pg_dump or pg_restore on the ledger's database."""
        url = urllib.parse.urlsplit(self.peers["ADDRFLOW_TEST_PG_URL"])
        place = {"PGHOST": url.hostname, "PGPORT": str(url.port), "PGUSER": url.username,
                 "PGPASSWORD": url.password or "", "PGDATABASE": self.database_name()}
        done = subprocess.run([program, *arguments], env={**os.environ, **place}, capture_output=True, text=True,
                              timeout=60)
        if done.returncode != 0:
            raise Trouble(f"{program}: {done.stderr.strip()}")

    def netbox_delete(self, number):
        request = urllib.request.Request(
            f"{self.netbox_url.rstrip('/').removesuffix('/api')}/api/ipam/ip-addresses/{number}/", method="DELETE",
            headers={"Authorization": f"Token {self.netbox_token}"})
        urllib.request.urlopen(request, timeout=10).close()

    def netbox_post(self, path, body):
        request = urllib.request.Request(
            self.netbox_url.rstrip("/").removesuffix("/api") + "/api/" + path, method="POST",
            data=json.dumps(body).encode(), headers={"Authorization": f"Token {self.netbox_token}",
                                                     "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def netbox_get(self, path):
        request = urllib.request.Request(
            self.netbox_url.rstrip("/").removesuffix("/api") + "/api/" + path,
            headers={"Authorization": f"Token {self.netbox_token}", "Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def netbox_fault(self, kind, **more):
        """Orders a fault from the stand-in (a real NetBox cannot be made to fail on demand)."""
        if self.netbox_is_real:
            raise Trouble("faults can be ordered from the stand-in only")
        request = urllib.request.Request(
            self.netbox_url.rstrip("/").removesuffix("/api") + "/standin/faults", method="POST",
            data=json.dumps({"kind": kind, **more}).encode(), headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def netbox_faults(self):
        """What was ordered and has not struck yet."""
        with urllib.request.urlopen(
                self.netbox_url.rstrip("/").removesuffix("/api") + "/standin/faults", timeout=10) as answer:
            return json.load(answer)

    def netbox_clear(self):
        request = urllib.request.Request(
            self.netbox_url.rstrip("/").removesuffix("/api") + "/standin/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def secrets(self):
        """What must stand in no log, row, history or argument."""
        password = urllib.parse.urlsplit(self.peers["ADDRFLOW_TEST_PG_URL"]).password
        return [s for s in (self._radius_secret(), self.netbox_token, password) if s]

    def netbox_addresses(self, address=None):
        found = self.netbox_get("ipam/ip-addresses/?limit=1000")["results"]
        return [o for o in found if address is None or o["address"].split("/")[0] == address]

    # --- a BNG and its subscribers -------------------------------------------------------------------

    def netbox_prefixes(self, prefix):
        return self.netbox_get(f"ipam/prefixes/?prefix={urllib.parse.quote(prefix)}")["results"]

    def add_credentials(self, username, password):
        """What the provider's own customer system does: credentials are never addrflow's."""
        self.sql(
            "delete from radcheck where username='%s' and attribute='Cleartext-Password';"
            "insert into radcheck(username,attribute,op,value)"
            " values('%s','Cleartext-Password',':=','%s')" % (username, username, password), "aaa")

    def _radclient(self, port, kind, attributes):
        text = ",".join(f'{name}="{value}"' for name, value in attributes.items())
        done = subprocess.run(
            ["radclient", "-x", "-r", "2", "-t", "3", f"127.0.0.1:{port}", kind, self._radius_secret()],
            input=text, capture_output=True, text=True, timeout=20)
        received, answer = False, {}
        for line in done.stdout.splitlines():
            if line.startswith("Received "):
                received = True
                answer["packet"] = line.split()[1]
            elif received and " = " in line:
                name, _, value = line.strip().partition(" = ")
                answer.setdefault(name, value.strip('"'))
        return answer

    def _radius_secret(self):
        return pathlib.Path(self.peers["RADIUS_NAS_SECRET_FILE"]).read_text().strip()

    def login(self, username, password="pw"):
        return self._radclient(self.peers["RADIUS_AUTH_PORT"], "auth",
                               {"User-Name": username, "User-Password": password})

    def accounting(self, status, username, session, address, nas_ip=None, **more):
        attributes = {"Acct-Status-Type": status, "User-Name": username, "Acct-Session-Id": session,
                      "NAS-IP-Address": nas_ip or self.nas_ip, "NAS-Port-Id": "1"}
        if address:
            attributes["Framed-IP-Address"] = address
        attributes.update({name.replace("_", "-"): value for name, value in more.items()})
        answer = self._radclient(self.peers["RADIUS_ACCT_PORT"], "acct", attributes)
        if answer.get("packet") != "Accounting-Response":
            raise Trouble(f"the AAA server did not take the accounting {status} of {username}")

    @property
    def nas_ip(self):
        return self.peers["RADIUS_NAS_HOST"]

    def nas_log(self):
        path = pathlib.Path(self.peers["NAS_LOG"])
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def add_network(self, tenant, cidr="100.64.0.0/24", pool="main", **options):
        self.must("tenant", "add", tenant)
        words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        self.must("pool", "add", pool, "--tenant", tenant, "--cidr", cidr, *words)
        if options.get("netbox") != "off":
            self.must("netbox", "import", pool, "--tenant", tenant)
        self.must("nas", "add", "bng1", "--tenant", tenant, "--ip", self.nas_ip,
                  "--coa-port", self.peers["RADIUS_NAS_PORT"],
                  "--secret", f"file:{self.peers['RADIUS_NAS_SECRET_FILE']}", "--interim", "60s")

    def add_prefixes(self, tenant, cidr, pool="prefixes", **options):
        """A pool of delegated prefixes."""
        words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        self.must("pool", "add", pool, "--tenant", tenant, "--cidr", cidr, *words)
        if options.get("netbox") != "off":
            self.must("netbox", "import", pool, "--tenant", tenant)


def new_key():
    return secrets.token_hex(8)
