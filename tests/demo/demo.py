"""The main job, shown on real peers: one subscriber from provision to deprovision.

Started by `./dev demo`. Each step prints what really happened, read back from the ledger, NetBox, the AAA server and
the NAS's log, not what we hoped for. Leaves everything running; `./dev down` stops it.
"""

import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from world import Trouble, World, eventually, new_key  # noqa: E402

TENANT = "demo-isp"
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


class Show:
    """A numbered list of steps on the screen."""

    def __init__(self):
        self.number = 0
        self.started = time.monotonic()

    def step(self, title):
        self.number += 1
        seconds = time.monotonic() - self.started
        print(f"\n{paint('1;36', f'{self.number:2}. {title}')}  {paint('2', f'[{seconds:.1f} s]')}", flush=True)

    @staticmethod
    def fact(name, value):
        print(f"    {name:<14} {value}", flush=True)

    @staticmethod
    def rows(name, rows):
        for index, row in enumerate(rows or [["(none)"]]):
            print(f"    {name if index == 0 else '':<14} {' | '.join(row)}", flush=True)


def expect(condition, text):
    if not condition:
        raise Trouble(text)


class Demo:
    def __init__(self, world):
        self.world = world
        self.show = Show()
        self.subscriber = f"sub-{new_key()[:6]}"
        self.username = f"{self.subscriber}@demo"
        self.session = f"S{new_key()[:8]}"

    def ledger(self, what="effects"):
        """The rows as they are, newest last."""
        return self.world.sql(
            "select e.id, e.system, e.action, e.status, e.code from effects e join services s"
            " on s.id = e.service_id where s.subscriber_id = '%s' order by e.id" % self.subscriber)

    def operate(self, verb, *arguments):
        answer = self.world.addrflow(verb, self.subscriber, "--tenant", TENANT, "--actor", "demo", *arguments)
        expect(answer.exit == 0 and answer.json, repr(answer))
        result = answer.json.get("result") or answer.json
        self.show.fact("state", result["state"])
        self.show.fact("address", result["address"])
        if result["prefix"]:
            self.show.fact("prefix", result["prefix"])
        states = {b["family"]: b["state"] for b in result["service_view"]["bindings"]}
        if len(states) > 1:
            self.show.fact("each family", ", ".join(f"{family} {state}" for family, state in states.items()))
        for field in ("coa_result", "disconnect_result"):
            nas = result.get(field)
            if nas and nas["code"]:
                self.show.fact("NAS answered", f"{nas['code']} {nas['message']}".strip())
        if result.get("netbox_ip_id"):
            self.show.fact("NetBox id", result["netbox_ip_id"])
        seen = set()
        for effect in result["effects"]:
            if effect["effect_id"] not in seen:
                seen.add(effect["effect_id"])
                self.show.fact("effect", f"#{effect['effect_id']} {effect['system']} {effect['action']}: "
                                         f"{effect['status']} {effect['code']}".rstrip())
        return result

    def netbox(self, address):
        found = [o for o in self.world.netbox_addresses(address)]
        for item in found:
            self.show.fact("in NetBox", f"id {item['id']} {item['address']} {item['status']['value']}")
        if not found:
            self.show.fact("in NetBox", "no object")
        return found

    def login(self):
        answer = self.world.login(self.username)
        groups = self.world.sql(
            f"select groupname from radusergroup where username='{self.username}' order by priority", "aaa")
        self.show.fact("Access-Request", f"{answer.get('packet', 'no answer')}"
                       + "".join(f", {name} {answer[name]}" for name in ("Framed-IP-Address", "Delegated-IPv6-Prefix")
                                 if name in answer)
                       + (f", groups {', '.join(g[0] for g in groups)}" if groups else ""))
        return answer, [g[0] for g in groups]

    def packet_of(self, kind):
        lines = [l for l in self.world.nas_log() if self.username in l and kind in l]
        if lines:
            self.show.fact("BNG received", lines[-1][:150])
        return lines

    def run(self):
        world, show = self.world, self.show
        show.step(f"A tenant, a pool of addresses, a pool of prefixes and a NAS (tenant {TENANT})")
        world.add_network(TENANT, cidr="203.0.113.0/24", gateway="203.0.113.1", quarantine="1h")
        world.add_prefixes(TENANT, "2001:db8:1200::/40")
        world.add_credentials(self.username, "pw")
        show.rows("pool", world.sql(f"select pool_name, family, prefix from ip_pools where tenant_id='{TENANT}'"))

        show.step(f"Provision {self.subscriber}: an IPv4 address and a delegated IPv6 prefix, both or neither")
        result = self.operate("provision", "--username", self.username, "--nas-ip", world.nas_ip, "--plan", "fiber-100",
                              "--ipv6", "--pd-size", "56")
        address, prefix = result["address"], result["prefix"]
        expect(result["state"] == "active" and address and prefix, "the line is not active")
        self.netbox(address)

        show.step("It logs in: a real Access-Request, then an accounting Start opens the session")
        answer, _ = self.login()
        expect(answer.get("Framed-IP-Address") == address, "the login did not get the ledger's address")
        expect(answer.get("Delegated-IPv6-Prefix") == prefix, "the login did not get the ledger's prefix")
        world.accounting("Start", self.username, self.session, address, Delegated_IPv6_Prefix=prefix)
        show.rows("radacct", world.sql("select acctsessionid, framedipaddress, delegatedipv6prefix, acctstarttime"
                                       f" from radacct where username='{self.username}'", "aaa"))

        show.step("Suspend for billing, both families: AAA rows first, then one CoA to the one live session")
        result = self.operate("suspend", "--reason", "billing")
        expect(result["coa_result"]["code"] == "CoA-ACK", "the CoA was not acknowledged")
        self.packet_of("CoA-Request")
        _, groups = self.login()
        expect("suspended" in groups, "the next login would not be restricted")

        show.step("Resume IPv6 alone: the session stays restricted while IPv4 is suspended")
        self.operate("reactivate", "--reason", "billing", "--family", "ipv6_pd")
        _, groups = self.login()
        expect("suspended" in groups, "the restriction was lifted too early")

        show.step("Reactivate: the last hold is gone, full plan again")
        result = self.operate("reactivate", "--reason", "billing")
        expect(result["state"] == "active" and result["coa_result"]["code"] == "CoA-ACK", "not reactivated")
        _, groups = self.login()
        expect("suspended" not in groups, "the next login would still be restricted")

        show.step("Deprovision both: one Disconnect, and the session's accounting Stop is the proof")
        result = self.operate("deprovision", "--reason", "contract ended")
        expect(result["disconnect_result"]["code"] == "Disconnect-ACK", "the Disconnect was not acknowledged")
        self.packet_of("Disconnect-Request")
        world.accounting("Stop", self.username, self.session, address, Delegated_IPv6_Prefix=prefix,
                         Acct_Terminate_Cause="Admin-Reset")
        eventually("both release gates to open on the accounting Stop", lambda: not world.sql(
            f"select 1 from holdings where subscriber_id='{self.subscriber}' and upper_inf(period)"))
        show.rows("holding", world.sql("select space, lower(period), upper(period) from holdings"
                                       f" where subscriber_id='{self.subscriber}'"))
        self.netbox(address)
        answer, _ = self.login()
        expect(answer.get("packet") == "Access-Reject", "the next login was not refused")
        show.fact("quarantine", "nobody else gets the address for 1 h; its former holder may at once")

        show.step("The daily clean-up, triggered once by hand")
        world.must("schedules", "apply")
        world.must("schedules", "trigger", "network.cleanup_ipv4_stale_reservations")
        show.fact("schedule", "network.cleanup_ipv4_stale_reservations, daily at 02:00 UTC")

        show.step("What the ledger wrote down")
        show.rows("effects", self.ledger())

        show.step("Audit of the invariants")
        answer = world.must("audit", json_output=False)
        for line in answer.text.strip().splitlines():
            print("    " + line)

        print(f"\n{paint('1;32', 'Done.')} The workflows can be read at "
              f"{world.peers.get('TEMPORAL_UI', '(no UI)')}/namespaces/default/workflows")
        print("Everything still runs: `./dev down` stops it.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True, help="where the peers keep their files")
    parser.add_argument("--binary", required=True, help="the addrflow program")
    arguments = parser.parse_args()
    world = World(arguments.dir, arguments.binary, {"ADDRFLOW_PACE_GATE_POLL": "1s"})
    try:
        print("Starting Temporal, PostgreSQL, and FreeRADIUS twice (BNG and AAA) on loopback …", flush=True)
        world.start_peers()
        if world.netbox_is_real:
            print(f"NetBox: {world.netbox_url}")
        else:
            print(f"NetBox: a STAND-IN at {world.netbox_url} (set NETBOX_API_URL to use a real one)")
        world.prepare()
        pid_file = pathlib.Path(arguments.dir) / "worker.pid"
        stop_old_worker(pid_file)
        worker = world.start_worker()
        pid_file.write_text(str(worker.pid))
        Demo(world).run()
    except Trouble as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return 0


def stop_old_worker(pid_file):
    """A worker of an earlier run would serve with an older binary."""
    if not pid_file.exists():
        return
    try:
        pid = int(pid_file.read_text())
        if "addrflow" in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, 15)
            eventually("the worker of an earlier run to end", lambda: not pathlib.Path(f"/proc/{pid}").exists())
    except (OSError, ValueError):
        pass
    pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
