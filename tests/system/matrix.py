"""The kill matrix: every fault at every step of every flow, and afterwards the audit is clean and the world is what the
caller was told.

The steps are not written down here: each flow runs once undisturbed, and every row that it left in compositions,
operations, operation_steps, holdings and effects is a step. Then, for each step and fault, a fresh subscriber runs the
flow again, and the fault strikes when the row of the step appears. What NetBox alone knows is a step of the release: its
object is gone, and its answer is still on the way.

    python3 tests/system/matrix.py --binary build/dev/cli/addrflow --dir build/dev/matrix [--subset] [--only TEXT]

With --jobs, so many worlds, each with peers of its own, take cells side by side: most of a cell is waiting.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

from world import FAST, Trouble, World, eventually, new_key

# What a line may have: how it is asked for, and its families. The subset of CI takes the first.
FAMILIES = {
    "dual": {"arguments": ["--ipv6"], "families": ["ipv4", "ipv6_pd"]},
    "ipv4": {"arguments": [], "families": ["ipv4"]},
    "ipv6_pd": {"arguments": ["--ipv6", "--no-ipv4"], "families": ["ipv6_pd"]},
}

OTHER_NAS = "127.0.0.9"
NETBOX_DELAY_S = 3  # beyond the client's limit (world.FAST)
SPACE_OPTIONS = {"ipv4": "--address", "ipv6_pd": "--prefix"}

# The rows of one service, as lines: a line is a step.
EVENTS = """
select * from (
  select 1 o, c.id, 'composition ' || kind || ' ' || e from compositions c,
      lateral unnest(case when phase = 'open' then array['begun'] else array['begun', 'ended'] end) e
    where tenant_id = '{tenant}' and subscriber_id = '{subscriber}' and c.id > {composition}
  union all
  select 2, p.id, 'operation ' || operation || ' ' || e from operations p,
      lateral unnest(case when phase = 'open' then array['claimed'] else array['claimed', 'finished'] end) e
    where tenant_id = '{tenant}' and subscriber_id = '{subscriber}' and p.id > {operation}
  union all
  select 3, p.id, 'step ' || operation || ' ' || regexp_replace(step, 'taken-[0-9]+', 'taken')
      from operation_steps s join operations p on p.id = s.operation_id
    where p.tenant_id = '{tenant}' and p.subscriber_id = '{subscriber}' and p.id > {operation}
  union all
  select 4, h.id, 'holding ' || family || ' opened' from holdings h
    where tenant_id = '{tenant}' and subscriber_id = '{subscriber}' and h.id > {holding}
  union all
  select 5, f.id, concat_ws(' ', 'effect', p.operation, f.system, f.action, e) from effects f
      join operations p on p.id = f.operation_id,
      lateral unnest(array['planned'] || case when attempts > 0 then array['sent'] else '{{}}' end
        || case when f.status = 'confirmed' then array['confirmed'] else '{{}}' end) e
    where p.tenant_id = '{tenant}' and p.subscriber_id = '{subscriber}' and f.id > {effect}
) x order by 1, 2
"""


class Looker:
    """One psql that stays, so that a look costs a millisecond. It survives a restart of PostgreSQL."""

    def __init__(self, world):
        self.world = world
        self.process = None

    def rows(self, query):
        for attempt in range(200):
            try:
                return self._ask(query)
            except (BrokenPipeError, EOFError):
                self.process = None
                time.sleep(0.1)
        raise Trouble("PostgreSQL did not come back")

    def _ask(self, query):
        if self.process is None or self.process.poll() is not None:
            url = urllib.parse.urlsplit(self.world.peers["ADDRFLOW_TEST_PG_URL"])
            self.process = subprocess.Popen(
                ["psql", "-X", "-At", "-q", "-h", url.hostname, "-p", str(url.port), "-U", url.username, "-d",
                 url.path.lstrip("/")],
                env={**os.environ, "PGPASSWORD": url.password or ""}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.process.stdin.write(query.replace("\n", " ") + ";\n\\echo .\n")
        self.process.stdin.flush()
        lines = []
        while True:
            line = self.process.stdout.readline()
            if line == "":
                self.process.wait()
                raise EOFError
            if line == ".\n":
                return lines
            lines.append(line.rstrip("\n"))

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(timeout=10)


class Line:
    """One subscriber, what was done to it, and what is known of it."""

    def __init__(self, matrix, family, username_prefix=""):
        self.matrix = matrix
        self.world = matrix.world
        self.family = family
        self.subscriber = f"s{new_key()[:10]}"
        self.username = f"{username_prefix}{self.subscriber}@{matrix.tenant}"
        self.base = dict.fromkeys(("composition", "operation", "holding", "effect"), 0)
        self.session = None

    def mark(self):
        """Steps from here on are the flow's."""
        where = f"tenant_id='{self.matrix.tenant}' and subscriber_id='{self.subscriber}'"
        for name in ("composition", "operation", "holding"):
            self.base[name] = int(self.world.sql(f"select coalesce(max(id), 0) from {name}s where {where}")[0][0])
        self.base["effect"] = int(self.world.sql(
            f"select coalesce(max(e.id), 0) from effects e join services s on s.id = e.service_id where s.{where}"
            .replace(" and sub", " and s.sub"))[0][0])

    def events(self):
        seen = []
        for row in self.matrix.looker.rows(EVENTS.format(
                tenant=self.matrix.tenant, subscriber=self.subscriber, **self.base)):
            step = row.split("|", 2)[2]
            if step not in seen:
                seen.append(step)
        return seen

    def ask(self, verb, *more):
        """An answer that says nothing is asked for again, under the same key."""
        key = new_key()
        for _ in range(6):
            answer = self.world.addrflow(verb, self.subscriber, "--tenant", self.matrix.tenant, "--key", key, *more,
                                         limit_s=150)
            if answer.exit != 3:
                break
        self.told.append((verb, answer.exit, answer))
        return answer

    def call(self, verb, *more):
        answer = self.ask(verb, *more)
        if answer.exit not in (0, 4):
            raise Trouble(repr(answer))
        return answer

    told = ()

    # --- the flows ---------------------------------------------------------------------------------

    def provision(self):
        self.told = []
        self.call("provision", "--username", self.username, *FAMILIES[self.family]["arguments"])

    def go_online(self):
        self.world.add_credentials(self.username, "pw")
        answer = self.world.login(self.username)
        if answer.get("packet") != "Access-Accept":
            raise Trouble(f"{self.username} cannot log in: {answer}")
        self.shown = {name.replace("-", "_"): answer[name] for name in ("Delegated-IPv6-Prefix",) if name in answer}
        self.address = answer.get("Framed-IP-Address", "")
        self.session = f"S{new_key()[:8]}"
        self.world.accounting("Start", self.username, self.session, self.address, **self.shown)

    def suspend_and_reactivate(self):
        self.told = []
        self.call("suspend", "--reason", "billing")
        said = self.promised()
        if {state for state, _ in said.values()} != {"suspended"}:
            raise Trouble(f"who suspended the line was told {said}")
        self.call("reactivate", "--reason", "billing")

    def deprovision(self):
        self.told = []
        self.call("deprovision")

    def move(self):
        self.told = []
        self.call("move", "--nas-ip", OTHER_NAS)

    def rebind(self):
        self.told = []
        former = self.username
        self.call("rebind", "--username", f"new-{former}")
        self.username = f"new-{former}"
        # The answer may say that AAA is still pursued.
        eventually(f"{former} to be refused", lambda: self.world.login(former).get("packet") == "Access-Reject")

    def change_plan(self):
        self.told = []
        self.call("change-plan", "--plan", "gold")
        eventually("AAA to have the plan", lambda: self.group() == [["gold"]])

    def group(self):
        try:
            return self.world.sql(f"select groupname from radusergroup where username='{self.username}'", "aaa")
        except Trouble:  # PostgreSQL is just being restarted
            return None

    def readdress(self):
        self.told = []
        self.call("readdress")

    def give_back(self):
        """Up to the gate: the session is cut, and accounting has not said so yet."""
        self.objects = self.netbox_objects(self.spaces())
        self.deprovision()
        self.come_to_rest()

    def release(self):
        self.world.accounting("Stop", self.username, self.session, self.address, Acct_Terminate_Cause="Admin-Reset",
                              **self.shown)
        eventually("the gate to open", lambda: self.unless_restarting(self.has_let_go), limit_s=60)
        eventually("the quarantine to end", lambda: self.unless_restarting(self.end_quarantine))
        eventually("NetBox to have let go", lambda: self.unless_restarting(self.released_by_catch_up), limit_s=120,
                   every_s=2)
        # Before a frozen worker wakes: what it then does, it must not do to the next holder.
        self.heirs = [Line(self.matrix, self.family) for _ in range(2)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda heir: heir.inherit(self.spaces()), self.heirs))

    @staticmethod
    def unless_restarting(look):
        try:
            return look()
        except Trouble:  # PostgreSQL or Temporal is just being restarted
            return None

    def spaces(self):
        return {family: space for family, (_, space) in self.promised().items()}

    def netbox_objects(self, spaces):
        """Family -> the numbers of NetBox's objects for that space."""
        of = {"ipv4": self.world.netbox_addresses, "ipv6_pd": self.world.netbox_prefixes}
        return {family: [found["id"] for found in of[family](space)] for family, space in spaces.items()}

    def left_netbox(self):
        """At least one of its objects is gone."""
        found = self.netbox_objects(self.spaces())
        return any(number not in found[family] for family in found for number in self.objects[family])

    def own(self):
        return ("(select id from services where"
                f" tenant_id='{self.matrix.tenant}' and subscriber_id='{self.subscriber}')")

    def end_quarantine(self):
        """An hour goes by for this line's space: it is the first of what is due."""
        self.world.sql(
            "update pool_addresses set free_after = clock_timestamp() where state = 'free'"
            f" and last_service_id = {self.own()} and free_after > clock_timestamp();"
            "update quarantines set until = clock_timestamp() where until > clock_timestamp()"
            f" and service_id = {self.own()};"
            "update effects set not_before = '-infinity' where system = 'netbox' and action = 'release'"
            f" and service_id = {self.own()}")
        return True

    def released_by_catch_up(self):
        """As the schedule sends it, only sooner: one run more, unless it is done."""
        if self.releases() == [["confirmed"]] * len(self.spaces()):
            return True
        self.world.temporal("workflow", "start", "--type", "CatchUpNetbox", "--task-queue", "addrflow",
                            "--workflow-id", f"matrix-catch-up-{new_key()}", "--execution-timeout", "60s",
                            "--input", '{"grace_ms": 500}', "--input-meta", "encoding=json/protobuf")
        return False

    def releases(self):
        return self.world.sql("select status from effects where system = 'netbox' and action = 'release'"
                              f" and service_id = {self.own()}")

    def inherit(self, spaces):
        self.told = []
        wanted = [word for family, space in spaces.items() for word in (SPACE_OPTIONS[family], space)]
        if self.ask("provision", "--username", self.username, *FAMILIES[self.family]["arguments"],
                    *wanted).exit not in (0, 1, 4):
            raise Trouble(repr(self.told[-1][2]))

    # --- what must hold ----------------------------------------------------------------------------

    def bindings(self):
        answer = self.world.must("status", self.subscriber, "--tenant", self.matrix.tenant).json
        newest = {}
        for binding in answer["bindings"]:
            newest[binding["family"]] = binding
        return answer, newest

    def promised(self):
        """Family -> state and space, as the last answer had them."""
        answer = self.told[-1][2].json
        view = answer.get("result", answer)["service_view"]
        newest = {binding["family"]: binding for binding in view["bindings"]}
        # Who was told that a line is on its way out finds it gone.
        return {family: (binding["state"].replace("revoking", "revoked"), self.space(binding))
                for family, binding in newest.items()}

    @staticmethod
    def space(binding):
        return binding.get("prefix") or binding.get("address", "")

    def rests(self):
        """Nothing is under way and nothing is owed."""
        where = f"s.tenant_id='{self.matrix.tenant}' and s.subscriber_id='{self.subscriber}'"
        return self.world.sql(
            f"select (select count(*) from services s where {where} and open_operation_id is not null)"
            f" + (select count(*) from effects e join services s on s.id = e.service_id where {where}"
            "     and e.status in ('planned', 'sent', 'unknown') and not (e.action = 'release'"
            "     and e.not_before > clock_timestamp()))") == [["0"]]

    def come_to_rest(self):
        try:
            eventually(f"{self.subscriber} to rest", self.rests, limit_s=60)
        except Trouble as trouble:
            raise Trouble(f"{trouble}; owed: {self.owed()}") from None

    def has_let_go(self):
        return self.world.sql("select count(*) from holdings where upper_inf(period) and releasing and"
                              f" tenant_id='{self.matrix.tenant}' and subscriber_id='{self.subscriber}'") == [["0"]]

    def owed(self):
        return self.world.sql(
            "select e.id, e.number, s.number, system, action, e.status, attempts, code, detail, not_before from effects e"
            f" join services s on s.id = e.service_id where s.tenant_id='{self.matrix.tenant}' and"
            f" s.subscriber_id='{self.subscriber}' and e.status in ('planned', 'sent', 'unknown') order by 1")

    def assert_is(self, state):
        wanted = FAMILIES[self.family]["families"]
        self.come_to_rest()
        view, bindings = self.bindings()
        for family in wanted:
            if bindings.get(family, {}).get("state") != state:
                raise Trouble(f"the caller was told {state}, and it is {bindings.get(family)}")
        became = {family: (binding["state"], self.space(binding)) for family, binding in bindings.items()}
        if became != self.promised():
            raise Trouble(f"the caller was told {self.promised()}, and it became {became}")
        held = self.world.sql("select count(*) from holdings where upper_inf(period) and not releasing and"
                              f" tenant_id='{self.matrix.tenant}' and subscriber_id='{self.subscriber}'")
        if state == "active":
            if held != [[str(len(wanted))]]:
                raise Trouble(f"{held} open holdings of an active line")
            self.world.add_credentials(self.username, "pw")
            answer = self.world.login(self.username)
            if answer.get("packet") != "Access-Accept":
                raise Trouble(f"an active line cannot log in: {answer}")
            if "ipv6_pd" in wanted and answer.get("Delegated-IPv6-Prefix") != bindings["ipv6_pd"]["prefix"]:
                raise Trouble(f"AAA gives {answer}, the ledger holds {bindings['ipv6_pd']}")
            if "ipv4" in wanted:
                address = bindings["ipv4"]["address"]
                if answer.get("Framed-IP-Address") != address:
                    raise Trouble(f"AAA gives {answer}, the ledger holds {address}")
                if len(self.world.netbox_addresses(address)) != 1:
                    raise Trouble(f"NetBox has {len(self.world.netbox_addresses(address))} objects for {address}")
            if self.world.sql("select count(*) from radusergroup where groupname='suspended' and"
                              f" username='{self.username}'", "aaa") != [["0"]]:
                raise Trouble("AAA still restricts an active line")
        elif self.world.login(self.username).get("packet") != "Access-Reject":
            raise Trouble("a line that is gone can log in")

    def assert_passed_on(self):
        """Of two that asked for the space, one has it; and NetBox knows of no other."""
        if self.releases() != [["confirmed"]] * len(self.spaces()):
            raise Trouble(f"NetBox was to let go once of each space: {self.releases()}")
        winners = [heir for heir in self.heirs if heir.told[-1][1] != 1]
        if len(winners) != 1:
            raise Trouble(f"{len(winners)} lines got the space: {[heir.told[-1][2] for heir in self.heirs]}")
        winners[0].assert_is("active")
        if winners[0].spaces() != self.spaces():
            raise Trouble(f"asked for {self.spaces()}, and got {winners[0].spaces()}")
        found = self.netbox_objects(self.spaces())
        if any(len(numbers) != 1 or numbers == self.objects[family] for family, numbers in found.items()):
            raise Trouble(f"NetBox had {self.objects} for {self.spaces()}, and has {found}")

    def assert_audit(self):
        answer = self.world.addrflow("audit", json_output=False)
        if answer.exit != 0:
            raise Trouble(f"audit: {answer.text.strip() or answer.error}")


# --- the faults ------------------------------------------------------------------------------------------


class Matrix:
    def __init__(self, world, netbox):
        self.world = world
        self.netbox = netbox
        self.looker = Looker(world)
        self.tenant = "matrix"
        self.results = []

    def prepare(self):
        self.world.wipe()
        self.world.start_peers()
        self.world.prepare()
        ipv4, prefixes = "100.72.0.0/20", "2001:db8:7200::/40"
        if self.netbox == "authoritative":  # NetBox picks from prefixes of its own
            for cidr in (ipv4, prefixes):
                self.world.netbox_post("ipam/prefixes/", {"prefix": cidr})
        self.world.add_network(self.tenant, cidr=ipv4, netbox=self.netbox, quarantine="1h", hold="1h")
        self.world.add_prefixes(self.tenant, prefixes, netbox=self.netbox, quarantine="1h", hold="1h")
        peers = self.world.peers
        self.world.must("nas", "add", "elsewhere", "--tenant", self.tenant, "--ip", OTHER_NAS, "--coa-host",
                        self.world.nas_ip, "--coa-port", peers["RADIUS_NAS_PORT"],
                        "--secret", f"file:{peers['RADIUS_NAS_SECRET_FILE']}")
        self.worker = self.world.start_worker()

    def fresh_worker(self):
        for worker in list(self.world.workers):
            if worker is not self.worker:
                self.world.stop_worker(worker)
        if self.worker.poll() is not None:
            self.worker = self.world.start_worker()

    def kill(self, line, running):
        self.world.kill_worker(self.worker)
        self.worker = self.world.start_worker()

    def freeze(self, line, running):
        """Until the second worker has done it all: the first one wakes up to a world that went on."""
        frozen = self.worker
        frozen.send_signal(signal.SIGSTOP)
        self.worker = self.world.start_worker("worker-second")
        try:
            running.result(timeout=150)
        except concurrent.futures.TimeoutError:
            pass
        finally:
            frozen.send_signal(signal.SIGCONT)
        line.come_to_rest()
        self.world.stop_worker(frozen)

    def restart_postgres(self, line, running):
        self.world.restart_peer("postgres")

    def restart_temporal(self, line, running):
        self.world.restart_peer("temporal")

    # --- cells -------------------------------------------------------------------------------------

    FLOWS = ("provision", "suspend_and_reactivate", "deprovision", "move", "rebind", "change_plan", "readdress",
             "release")
    ENDS = {**dict.fromkeys(FLOWS, "active"), "deprovision": "revoked", "release": "revoked"}
    # What lets space go, and the packet by which its session ends.
    LETS_GO = {"deprovision": "effect revoke radius disconnect", "readdress": "effect readdress radius coa"}
    STRIKES = {"worker killed": kill, "worker frozen": freeze, "PostgreSQL restarted": restart_postgres,
               "Temporal restarted": restart_temporal}
    # Which request of the flow NetBox carries out and answers too late, by the effect's action: method, state in it.
    NETBOX_REQUESTS = {"reserve": ("POST", "allocated"), "take": ("POST", "allocated"), "set_active": ("PATCH", "active"),
                       "suspend": ("PATCH", "suspended"), "deprecate": ("PATCH", "revoked"),
                       "release": ("DELETE", "")}
    NETBOX_LATE = "NetBox's answer late"
    # The one step that has no row yet: NetBox has carried the release out, and nobody has been told.
    CARRIED_OUT = "netbox release carried out"

    def ready_line(self, family, flow, prefix=""):
        line = Line(self, family, prefix)
        if flow != "provision":
            line.provision()
            line.go_online()
            eventually(f"{line.subscriber} to rest", line.rests, limit_s=60)
            if flow == "release":
                line.give_back()
            line.mark()
        return line

    def discover(self, family, flow):
        line = self.ready_line(family, flow)
        getattr(line, flow)()
        steps = line.events()
        line.assert_is(self.ENDS[flow] if flow != "deprovision" else self.state_of(line))
        return steps

    def state_of(self, line):
        return line.bindings()[1][FAMILIES[line.family]["families"][0]]["state"]

    def cells(self, family, flow, steps):
        for step in steps + ([self.CARRIED_OUT] if flow == "release" else []):
            for fault in self.STRIKES:
                yield family, flow, fault, step
        for step in steps:
            words = step.split()
            if words[0] == "effect" and words[-1] == "sent":
                if words[2] == "netbox":
                    yield family, flow, self.NETBOX_LATE, step
                if words[2] == "radius":
                    yield family, flow, "NAS's answer lost once", step
                    yield family, flow, "NAS's answers lost for a whole attempt", step

    def run_cell(self, family, flow, fault, step):
        self.fresh_worker()
        lost = {"NAS's answer lost once": "flaky-1-", "NAS's answers lost for a whole attempt": "flaky-9-"}
        line = self.ready_line(family, flow, lost.get(fault, ""))
        late = fault == self.NETBOX_LATE or step == self.CARRIED_OUT
        if late:
            method, state = self.NETBOX_REQUESTS["release" if step == self.CARRIED_OUT else step.split()[3]]
            self.world.netbox_fault("late", count=1, method=method, path="ipam", delay_s=NETBOX_DELAY_S,
                                    body=f'"lifecycle_state":"{state}"' if state else "")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(getattr(line, flow))
            if fault in self.STRIKES:
                struck = self.wait_for(line, step, running)
                if not struck:
                    running.result(timeout=150)
                    raise Trouble("the step did not come")
                self.STRIKES[fault](self, line, running)
            running.result(timeout=200)
        self.fresh_worker()
        if flow in self.LETS_GO:
            # A BNG sends its Stop after it has cut the session: so its packet is answered first.
            eventually("the packet to be confirmed", lambda: f"{self.LETS_GO[flow]} confirmed" in line.events(),
                       limit_s=60)
            self.world.accounting("Stop", line.username, line.session, line.address,
                                  Acct_Terminate_Cause="Admin-Reset", **line.shown)
            eventually("the gate to open", line.has_let_go, limit_s=60)
        line.assert_is(self.ENDS[flow])
        if flow == "release":
            line.assert_passed_on()
        line.assert_audit()
        if late and self.world.netbox_faults():
            raise Trouble(f"NetBox never had the request that was to be answered late: {self.world.netbox_faults()}")

    def wait_for(self, line, step, running):
        while True:
            ended = running.done()
            if line.left_netbox() if step == self.CARRIED_OUT else step in line.events():
                return True
            if ended:
                return False

    def run(self, family, flow, fault, step):
        began = time.monotonic()
        name = f"{family:8} {flow:22} {fault:24} at: {step}"
        try:
            self.run_cell(family, flow, fault, step)
            why = ""
        except Exception as error:  # noqa: BLE001 — whatever it is, the cell failed and the next one begins
            why = str(error).replace("\n", " ") or traceback.format_exc()
            self.recover()
        self.results.append((name, why))
        print(f"{'FAILED' if why else 'ok    '} {name} ({time.monotonic() - began:.1f} s)", flush=True)
        if why:
            print(f"       {why[:600]}", flush=True)

    def recover(self):
        """The next cell begins with a world that answers."""
        self.world.netbox_clear()
        for worker in list(self.world.workers):
            self.world.kill_worker(worker)
        self.worker = self.world.start_worker()


def chosen_for_ci(cells):
    """The fixed subset: one cell of each fault and flow, each at another place, and every lost answer once."""
    cells = list(cells)
    strikes = list(Matrix.STRIKES)
    for number, flow in enumerate(Matrix.FLOWS):
        steps = [c for c in cells if c[1] == flow]
        if number >= len(strikes) - 1:  # of what changes a line: a killed worker, and a lost answer
            killed = [c for c in steps if c[2] == "worker killed" and c[3].startswith("effect")]
            yield killed[len(killed) // 2]
            yield from [c for c in steps if c[2] == "NAS's answer lost once"][:1]
            continue
        for fault in ("worker killed", strikes[1 + number]):
            of_fault = [c for c in steps if c[2] == fault]
            moments = [c for c in of_fault if c[3].startswith(("holding", "effect"))] or of_fault
            yield moments[len(moments) // 2]
            if fault == "worker killed":
                yield of_fault[0]
        lost = [c for c in steps if c[2].endswith(("late", "once"))]
        yield from {c[2]: c for c in lost}.values()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--subset", action="store_true", help="the cells that CI runs")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="lines with these families only")
    parser.add_argument("--flow", action="append", choices=Matrix.FLOWS, help="these flows only")
    parser.add_argument("--netbox", choices=("mirror", "authoritative"), default="mirror", help="how the pools use NetBox")
    parser.add_argument("--jobs", type=int, choices=range(1, 17), default=1, help="worlds side by side (default 1)")
    parser.add_argument("--list", action="store_true", help="only say which cells there are")
    arguments = parser.parse_args()
    if arguments.jobs > 1 and os.environ.get("NETBOX_API_URL"):
        parser.error("--jobs: one NetBox (NETBOX_API_URL) cannot be shared by several worlds")
    arguments.dir = arguments.dir or pathlib.Path(tempfile.mkdtemp(prefix="addrflow-matrix-"))
    return arguments


class Todo:
    """What is to be done, by however many worlds: flows to discover, then their cells."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.families = list(FAMILIES)[:1] if arguments.subset else arguments.family or list(FAMILIES)
        self.flows = collections.deque((family, flow) for family in self.families
                                       for flow in arguments.flow or Matrix.FLOWS)
        self.found = []
        self.cells = collections.deque()

    def discover(self, matrix):
        for family, flow in taken_from(self.flows):
            steps = matrix.discover(family, flow)
            print(f"{family} {flow}: {len(steps)} steps", flush=True)
            self.found.append((family, flow, steps))

    def choose(self, matrix):
        """The cells of what was found, in the order of families and flows."""
        order = list(FAMILIES), list(Matrix.FLOWS)
        cells = [cell for family, flow, steps in sorted(
            self.found, key=lambda found: (order[0].index(found[0]), order[1].index(found[1])))
            for cell in matrix.cells(family, flow, steps)]
        cells = chosen_for_ci(cells) if self.arguments.subset else cells
        self.cells.extend(cell for cell in cells if self.arguments.only in " ".join(cell))

    def run_in(self, worlds, matrices):
        try:
            list(worlds.map(self.run, matrices))
        finally:
            self.cells.clear()  # who is ended from outside ends the cells under way, and begins no other

    def run(self, matrix):
        for cell in taken_from(self.cells):
            matrix.run(*cell)


def taken_from(queue):
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return


def main():
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    todo = Todo(arguments)
    matrices = [Matrix(World(arguments.dir / str(number), arguments.binary, FAST), arguments.netbox)
                for number in range(arguments.jobs)]
    try:
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as worlds:
            list(worlds.map(Matrix.prepare, matrices))
            list(worlds.map(todo.discover, matrices))
            todo.choose(matrices[0])
            if arguments.list:
                for cell in todo.cells:
                    print(*cell)
                return 0
            todo.run_in(worlds, matrices)
    finally:
        for matrix in matrices:
            matrix.looker.close()
            matrix.world.stop()
    results = [result for matrix in matrices for result in matrix.results]
    failed = [name for name, why in results if why]
    for name in failed:
        print(f"FAILED {name}")
    print(f"{len(results)} cells, {len(results) - len(failed)} passed, {len(failed)} failed", flush=True)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
