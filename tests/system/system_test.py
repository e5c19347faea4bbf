"""The whole system on real peers, killed, unplugged and fed garbage (issue: the main job end to end).

Each test makes a tenant of its own, so they share one set of peers; every test ends with a clean audit.
Run by ctest; by hand: `python3 tests/system/system_test.py --binary build/dev/cli/addrflow [-k name]`.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request

from world import FAST, Trouble, World, eventually, new_key

# A NAS that can change the address of a live session.
RENUMBERING = '''
name = "renumbering"
title = "a NAS that renumbers live sessions"
address_change = "coa"

[identify]
coa = [["Acct-Session-Id", "${session_id}"], ["User-Name", "${username}"]]
disconnect = [["Acct-Session-Id", "${session_id}"], ["User-Name", "${username}"]]
required = ["Acct-Session-Id"]

[coa]
full = [["Filter-Id", "${plan}"]]
restricted = [["Filter-Id", "${restricted}"]]
renumber = [["Framed-IP-Address", "${wanted_ip}"], ["Delegated-IPv6-Prefix", "${wanted_prefix}"]]
'''

ARGUMENTS = None
WORLD = None
NET = iter(range(1, 200))


def setUpModule():
    global WORLD
    directory = ARGUMENTS.dir or tempfile.mkdtemp(prefix="addrflow-system-")
    WORLD = World(directory, ARGUMENTS.binary, FAST)
    WORLD.wipe()  # of an earlier run that was broken off
    WORLD.start_peers()
    WORLD.prepare()


def tearDownModule():
    if WORLD is None:
        return
    try:
        check_histories()
        check_rows()
    finally:
        # Logs and histories stay for whoever looks for the cause of a failure; the next run begins empty.
        WORLD.stop()


def check_histories():
    """What the tests left in Temporal replays with this program, and holds no secret."""
    command = [WORLD.peers["TEMPORAL_CLI"], "--address", WORLD.peers["TEMPORAL_ADDRESS"], "-o", "json"]
    listed = json.loads(subprocess.run([*command, "workflow", "list", "--limit", "120"], check=True,
                                       capture_output=True, text=True, timeout=60).stdout)
    folder = WORLD.directory / "histories"
    folder.mkdir(exist_ok=True)
    files = []
    for number, workflow in enumerate(listed):
        execution = workflow["execution"]
        shown = subprocess.run([*command, "workflow", "show", "-w", execution["workflowId"], "-r", execution["runId"]],
                               check=True, capture_output=True, text=True, timeout=60).stdout
        file = folder / f"{number}.json"
        file.write_text(shown)
        files.append(str(file))
        for secret in WORLD.secrets():
            assert secret not in shown, f"a secret stands in the history of {execution['workflowId']}"
    answer = WORLD.addrflow("replay", *files)
    assert answer.exit == 0, f"{answer!r}"
    print(f"{len(files)} histories replay", file=sys.stderr)


def check_rows():
    """No secret stands in a row of the ledger."""
    for table, in WORLD.sql("select table_name from information_schema.tables where table_schema = 'public'"
                            " and table_type = 'BASE TABLE'"):
        for secret in WORLD.secrets():
            found = WORLD.sql(f"select count(*) from \"{table}\" r where r::text like '%{secret}%'")
            assert found == [["0"]], f"a secret stands in {table}"


class SystemTest(unittest.TestCase):
    pool_prefix = 24

    def setUp(self):
        self.world = WORLD
        self.tenant = f"t-{new_key()[:8]}"
        self.net = f"100.80.{next(NET)}"
        self.world.add_network(self.tenant, cidr=f"{self.net}.0/{self.pool_prefix}",
                               domain=self.tenant, quarantine="1h", hold="1h")
        self.worker = self.world.start_worker()

    def tearDown(self):
        try:
            self.assert_clean_audit()
            self.assert_no_secret_leaks()
            self.free_what_waits()
        finally:
            for worker in list(self.world.workers):
                self.world.stop_worker(worker)

    def free_what_waits(self):
        """Sessions that no accounting will ever end are this test's business, not the later ones'."""
        waiting = ("select distinct subscriber_id from holdings where upper_inf(period) and releasing and not kept"
                   f" and tenant_id='{self.tenant}'")
        lines = [line for line, in self.world.sql(waiting)]
        if not lines:
            return
        if not any(worker.poll() is None for worker in self.world.workers):
            self.world.start_worker()
        for line in lines:
            # Refused where the gate has opened meanwhile.
            self.run_on("force-release", line, "--actor", "ann", "--reason", "the test is over", exits=(0, 1, 4))
        eventually("nothing to wait any more", lambda: not self.world.sql(waiting))
        self.assert_clean_audit()

    # --- helpers -----------------------------------------------------------------------------------

    def run_on(self, verb, subscriber, *more, exits=(0,), **environment):
        answer = self.world.addrflow(verb, subscriber, "--tenant", self.tenant, *more, **environment)
        self.assertIn(answer.exit, exits, repr(answer))
        return answer.json

    def status(self, subscriber):
        return self.run_on("status", subscriber)

    def binding(self, subscriber):
        bindings = self.status(subscriber)["bindings"]
        return bindings[-1] if bindings else None

    def provision(self, subscriber, *more, exits=(0,), **environment):
        return self.run_on("provision", subscriber, "--username", f"{subscriber}@{self.tenant}",
                           *more, exits=exits, **environment)

    def login_and_start(self, subscriber, username=None):
        username = username or f"{subscriber}@{self.tenant}"
        self.world.add_credentials(username, "pw")
        answer = self.world.login(username)
        self.assertEqual(answer.get("packet"), "Access-Accept", answer)
        session = f"S{new_key()[:8]}"
        self.world.accounting("Start", username, session, answer["Framed-IP-Address"])
        return answer["Framed-IP-Address"], session

    def assert_clean_audit(self):
        answer = self.world.addrflow("audit", json_output=False)
        self.assertEqual(answer.exit, 0, repr(answer))

    def assert_no_secret_leaks(self):
        said = {log: log.read_text(errors="replace") for log in self.world.directory.glob("worker*.log")}
        for worker in self.world.workers:
            said["arguments"] = pathlib.Path(f"/proc/{worker.pid}/cmdline").read_text()
        for where, text in said.items():
            for secret in self.world.secrets():
                self.assertNotIn(secret, text, where)

    def netbox_comes_to(self, space, status, lifecycle_state):
        """NetBox mirrors: nobody waits for it, but it comes to say the same."""
        def shown():
            found = self.world.netbox_prefixes(space) if "/" in space else self.world.netbox_addresses(space)
            return [(o["status"]["value"], o["custom_fields"]["lifecycle_state"]) for o in found]
        eventually(f"NetBox to show {space} as {lifecycle_state}", lambda: shown() == [(status, lifecycle_state)])

    def assert_exists_once(self, subscriber, address):
        """Address, NetBox object and AAA row: one of each."""
        held = self.world.sql("select count(*) from holdings where upper_inf(period) and"
                              f" tenant_id='{self.tenant}' and subscriber_id='{subscriber}'")
        self.assertEqual(held, [["1"]])
        self.assertEqual(len(self.world.netbox_addresses(address)), 1)
        rows = self.world.sql("select value from radreply where attribute='Framed-IP-Address' and"
                              f" username='{subscriber}@{self.tenant}'", "aaa")
        self.assertEqual(rows, [[address]])

    def planned(self, answer):
        """(system, action, wish) of what a plan names beside the ledger's own changes."""
        return [(effect["system"], effect["action"], json.loads(effect["wish"]))
                for effect in answer["plan"]["effects"] if effect["wish"]]

    def written(self, subscriber, after=0):
        rows = self.world.sql("select e.id, e.system, e.action, e.wish::text from effects e join services s on"
                              f" s.id = e.service_id where s.tenant_id='{self.tenant}' and"
                              f" s.subscriber_id='{subscriber}' and e.id > {after} order by e.id")
        return [(system, action, json.loads(wish)) for _, system, action, wish in rows]

    def newest_effect(self):
        return self.world.sql("select coalesce(max(id), 0) from effects")[0][0]

    def aaa_rows(self, username):
        return sorted(
            ["radreply " + " ".join(row) for row in self.world.sql(
                f"select username, attribute, op, value from radreply where username='{username}'", "aaa")]
            + ["radcheck " + " ".join(row) for row in self.world.sql(
                f"select username, attribute, op, value from radcheck where username='{username}'"
                " and attribute='Auth-Type'", "aaa")]
            + [f"radusergroup {user} {group} priority {priority}" for user, group, priority in self.world.sql(
                f"select username, groupname, priority from radusergroup where username='{username}'", "aaa")])

    @staticmethod
    def without_ids(effects):
        """NetBox names an object when it makes it, which a plan cannot know."""
        return [(system, action, {k: v for k, v in wish.items() if k != "netbox_id"})
                for system, action, wish in effects]

    def temporal(self, *arguments):
        done = subprocess.run(
            [self.world.peers["TEMPORAL_CLI"], *arguments, "--address", self.world.peers["TEMPORAL_ADDRESS"],
             "-o", "json"], capture_output=True, text=True, timeout=90)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout


class Operators(SystemTest):
    pace = {"ADDRFLOW_PACE_COMPOSE_TIMEOUT": "2s"}  # what does not answer is soon seen to be blocked

    def say(self, *arguments, exits=(0,)):
        answer = self.world.addrflow(*arguments)
        self.assertIn(answer.exit, exits, repr(answer))
        return answer.json

    def tell(self, word, order, *more, exits=(0,)):
        return self.say("workflow", word, order, *more, "--actor", "ann", "--reason", f"to see it {word}", exits=exits)

    def begin_paused(self, workflow, subscriber):
        """Paused before anything runs, so that no step can have begun."""
        self.world.stop_worker(self.worker)
        order = f"order-{new_key()}"
        started = {"tenant_id": self.tenant, "customer_id": subscriber, "username": f"{subscriber}@{self.tenant}"}
        self.temporal("workflow", "start", "--type", workflow, "--task-queue", "addrflow", "--workflow-id", order,
                      "--input", json.dumps(started))
        self.temporal("workflow", "signal", "--workflow-id", order, "--name", "pause",
                      "--input", json.dumps({"actor": "ann", "reason": "change 4711"}))
        self.worker = self.world.start_worker(**self.pace)
        progress = eventually("the pause", lambda: self.say("progress", order))
        self.assertEqual((progress["state"], progress["paused_by"]), ("paused", "ann"))
        self.assertEqual({step["status"] for step in progress["steps"]}, {"waiting"})
        return order

    def step(self, order, number=0):
        return self.say("progress", order)["steps"][number]

    def eventually_blocked(self, order):
        """Or seen in an attempt after the one that made it so: on a slow machine a look takes longer than the pause."""
        eventually("the step to be called blocked", lambda: self.blocked_once(self.step(order)), limit_s=60)

    def blocked_once(self, step):
        return step["status"] == "blocked" or step["attempts"] > 1

    def result_of(self, order):
        shown = self.temporal("workflow", "describe", "--workflow-id", order)
        return shown["workflowExecutionInfo"]["status"]

    def eventually_ended(self, order, how):
        eventually(f"{order} to be {how}", lambda: self.result_of(order).endswith(how), limit_s=60)

    def said(self):
        return self.world.sql(f"select event, actor from audit_log where tenant_id='{self.tenant}'"
                              " and event like 'composition%' order by id")

    def test_a_provision_is_paused_watched_and_resumed(self):
        order = self.begin_paused("ProvisionSubscriber", "olga")
        refused = self.tell("skip", order, "--step", "allocate_ip_handler", exits=(1,))
        self.assertEqual(refused["error"]["code"], "illegal_transition")
        self.tell("skip", order, "--step", "verify")
        self.tell("resume", order)
        self.eventually_ended(order, "COMPLETED")
        self.assertEqual(self.binding("olga")["state"], "active")
        by_line = self.say("progress", "--tenant", self.tenant, "--subscriber", "olga")
        self.assertEqual([step["status"] for step in by_line["steps"]], ["done", "done", "skipped"])
        self.assertEqual(self.said(), [[f"composition {word}", "ann"] for word in ("pause", "skip", "resume")])

    def test_a_deprovision_makes_a_paused_provision_give_up(self):
        order = self.begin_paused("ProvisionSubscriber", "ursula")
        self.run_on("deprovision", "ursula", exits=(0, 4))
        self.eventually_ended(order, "FAILED")
        self.assertIsNone(self.binding("ursula"))
        self.assertEqual(self.said(), [["composition pause", "ann"], ["composition give_up", "signal"]])

    def test_a_blocked_step_is_shown_and_retried(self):
        self.provision("rosa")
        order = self.begin_paused("SuspendSubscriber", "rosa")
        with self.world.locked_line(self.tenant, "rosa"):
            self.tell("resume", order)
            self.eventually_blocked(order)
            self.assertIn("has not answered", self.step(order)["last_error"])
        self.tell("retry", order, exits=(0, 1))  # on a slow machine its own next attempt may be quicker
        self.eventually_ended(order, "COMPLETED")
        self.assertGreater(self.step(order)["attempts"], 1)
        self.assertEqual(self.binding("rosa")["state"], "suspended")

    def test_a_blocked_provision_is_given_up_and_undone(self):
        order = self.begin_paused("ProvisionSubscriber", "tess")
        with self.world.locked_line(self.tenant, "tess"):
            self.tell("resume", order)
            self.eventually_blocked(order)
            self.assertEqual(self.tell("give-up", order)["given_up_by"], "ann")
        self.eventually_ended(order, "FAILED")
        held = self.world.sql(f"select count(*) from holdings where upper_inf(period) and not releasing"
                              f" and tenant_id='{self.tenant}'")
        self.assertEqual(held, [["0"]])
        self.assertEqual(self.say("progress", order)["state"], "finished")
        self.tell("pause", order, exits=(1,))

    def test_lines_and_effects_are_listed_and_an_effect_abandoned(self):
        self.provision("piet")
        self.world.netbox_fault("503", count=1000)
        try:
            self.provision("quirin", exits=(0, 4))
            lines = self.say("list", "--tenant", self.tenant, "--unconfirmed")["entries"]
            self.assertEqual([line["service"]["subscriber_id"] for line in lines], ["quirin"])
            everyone = self.say("list", "--tenant", self.tenant, "--state", "active", "--pool", "main")["entries"]
            self.assertEqual(len(everyone), 2)
            effects = self.say("effect", "list", "--tenant", self.tenant, "--system", "netbox")["effects"]
            effect = str(effects[0]["effect"]["effect_id"])
            self.assertEqual(self.say("effect", "show", effect)["service"]["subscriber_id"], "quirin")
            gone = self.say("effect", "abandon", effect, "--actor", "ann", "--reason", "NetBox is being replaced")
            self.assertEqual(gone["effect"]["status"], "abandoned")
        finally:
            self.world.netbox_clear()
        answer = self.world.addrflow("list", "--tenant", self.tenant, json_output=False)
        self.assertIn("piet", answer.text)
        self.assertEqual(answer.text.splitlines()[0].split()[:2], ["tenant", "subscriber"])


class Repair(SystemTest):
    """What a person does about a line that broke off or is stuck; who and why stands on record."""
    person = ("--actor", "ann", "--reason", "ticket 4711")

    def break_off(self, subscriber):
        """As the platform's own rows may say that were taken over."""
        self.world.sql(f"update ip_reservations set lifecycle_state='failed' where tenant_id='{self.tenant}'"
                       f" and subscriber_id='{subscriber}'")
        failed = self.world.must("list", "--tenant", self.tenant, "--state", "failed").json["entries"]
        self.assertEqual([line["service"]["subscriber_id"] for line in failed], [subscriber])

    def assert_on_record(self, operation):
        said = self.world.sql("select distinct actor, reason from operations where phase='finished'"
                              f" and tenant_id='{self.tenant}' and operation='{operation}'")
        self.assertEqual(said, [["ann", "ticket 4711"]])

    def test_a_failed_activate_is_retried(self):
        address = self.run_on("allocate", "vera", "--username", f"vera@{self.tenant}")["address"]
        self.break_off("vera")
        self.assertEqual(self.run_on("retry", "vera", *self.person)["state"], "active")
        self.assert_exists_once("vera", address)
        self.assert_on_record("retry")

    def test_a_failed_line_is_adopted_as_what_a_person_confirms(self):
        address = self.provision("will")["context"]["ipv4_address"]
        self.break_off("will")
        self.run_on("adopt", "will", "--state", "active", "--actor", "ann", exits=(1, 2))
        refused = self.run_on("adopt", "will", "--state", "revoked", *self.person, exits=(1,))
        self.assertEqual(refused["code"], "conflict", refused)
        self.assertEqual(self.run_on("adopt", "will", "--state", "suspended", *self.person)["state"], "suspended")
        self.assertEqual(self.status("will")["holds"], ["operator"])
        self.netbox_comes_to(address, "active", "suspended")
        self.assert_exists_once("will", address)
        self.assert_on_record("adopt")

    def test_a_stuck_revoke_is_released_by_force(self):
        username = f"drop@xena-{self.tenant}"
        self.run_on("allocate", "xena", "--username", username)
        self.run_on("activate", "xena")
        address, _ = self.login_and_start("xena", username)
        self.run_on("revoke", "xena", exits=(0, 4))
        self.assertTrue(self.binding("xena")["space_held"])
        self.run_on("force-release", "xena", "--actor", "ann", exits=(1, 2))
        self.run_on("force-release", "xena", *self.person)
        eventually("the gate to open", lambda: not self.binding("xena")["space_held"])
        self.assertEqual((self.binding("xena")["state"], self.status("xena")["enforcement"]), ("revoked", "confirmed"))
        self.run_on("allocate", "mallory", "--address", address, exits=(1,))  # its quarantine is the longest
        self.assert_on_record("force_release")

    def test_a_failed_line_that_is_released_by_force_logs_in_no_more(self):
        self.provision("yara")
        self.login_and_start("yara")
        self.break_off("yara")
        self.run_on("force-release", "yara", *self.person)
        eventually("the gate to open", lambda: not self.binding("yara")["space_held"])
        self.assertEqual(self.world.login(f"yara@{self.tenant}").get("packet"), "Access-Reject")


class MainJob(SystemTest):
    def test_the_whole_life_of_a_line(self):
        result = self.provision("alice")
        address = result["context"]["ipv4_address"]
        self.assertEqual(result["context"]["ipv4_lifecycle_state"], "ACTIVE")
        self.assert_exists_once("alice", address)
        given, session = self.login_and_start("alice")
        self.assertEqual(given, address)
        self.netbox_comes_to(address, "active", "active")

        suspended = self.run_on("suspend", "alice", "--reason", "billing")["result"]
        self.assertEqual((suspended["state"], suspended["coa_result"]["code"]), ("suspended", "CoA-ACK"))
        self.netbox_comes_to(address, "active", "suspended")
        self.assertIn(["suspended"], self.world.sql(
            f"select groupname from radusergroup where username='alice@{self.tenant}'", "aaa"))

        active = self.run_on("reactivate", "alice", "--reason", "billing")["result"]
        self.assertEqual((active["state"], active["coa_result"]["code"]), ("active", "CoA-ACK"))
        self.netbox_comes_to(address, "active", "active")

        gone = self.run_on("deprovision", "alice")["result"]
        self.assertEqual(gone["disconnect_result"]["code"], "Disconnect-ACK")
        self.netbox_comes_to(address, "deprecated", "revoked")
        self.assertTrue(self.binding("alice")["space_held"])
        self.world.accounting("Stop", f"alice@{self.tenant}", session, address, Acct_Terminate_Cause="Admin-Reset")
        eventually("the gate to open", lambda: not self.binding("alice")["space_held"])
        self.assertEqual(self.binding("alice")["state"], "revoked")
        self.assertEqual(self.world.login(f"alice@{self.tenant}").get("packet"), "Access-Reject")

    def test_netbox_is_left_alone_where_a_request_says_so(self):
        plan = self.run_on("provision", "nora", "--username", f"nora@{self.tenant}", "--skip-netbox", "--dry-run")
        self.assertEqual({effect[0] for effect in self.planned(plan)}, {"aaa"})
        result = self.provision("nora", "--skip-netbox")
        address = result["context"]["ipv4_address"]
        self.assertEqual(self.status("nora")["enforcement"], "confirmed")
        self.assertEqual(self.world.netbox_addresses(address), [])
        said = self.world.sql("select action, status, code from effects where system='netbox'"
                              f" and tenant_id='{self.tenant}' order by id")
        self.assertEqual(said, [["reserve", "not_applicable", "left-alone"], ["set_active", "not_applicable", "left-alone"]])
        # Each request says it for itself.
        self.run_on("suspend", "nora", "--reason", "billing")
        self.netbox_comes_to(address, "active", "suspended")

    def test_a_plan_names_what_is_then_done_and_does_nothing(self):
        """Each step: the plan twice (nothing changes), then the step, then both are compared."""
        def step(verb, *more):
            rows, newest = self.aaa_rows(f"dora@{self.tenant}"), self.newest_effect()
            held = self.world.sql("select id, period, releasing from holdings order by id")
            arguments = (verb, "dora", "--username", f"dora@{self.tenant}", *more)
            plan = self.run_on(*arguments, "--dry-run")
            self.assertEqual(self.planned(self.run_on(*arguments, "--dry-run")), self.planned(plan))
            self.assertEqual((self.aaa_rows(f"dora@{self.tenant}"), self.newest_effect()), (rows, newest))
            self.assertEqual(self.world.sql("select id, period, releasing from holdings order by id"), held)
            return plan, self.run_on(*arguments), rows, newest

        def assert_done(plan, rows, newest):
            # The gate, which may open at any moment after the answer, plans the release.
            written = [effect for effect in self.written("dora", newest) if effect[:2] != ("netbox", "release")]
            self.assertEqual(self.without_ids(self.planned(plan)), self.without_ids(written))
            changes = [change for effect in plan["plan"]["effects"] if effect["system"] == "aaa"
                       for change in effect["changes"]]
            for change in changes:
                (rows.append if change.startswith("+") else rows.remove)(change[2:])
            self.assertEqual(sorted(rows), self.aaa_rows(f"dora@{self.tenant}"))

        plan, done, rows, newest = step("provision")
        self.assertEqual(plan["address"], done["result"]["address"])
        self.assertEqual((plan["state"], plan["service_view"]["number"]), ("active", 2))
        assert_done(plan, rows, newest)
        address, session = self.login_and_start("dora")

        plan, done, rows, newest = step("suspend", "--reason", "billing")
        assert_done(plan, rows, newest)
        packet = next(e for e in plan["plan"]["effects"] if e["system"] == "radius")["changes"]
        self.assertRegex(packet[0], "^CoA-Request to ")
        self.assertTrue(any(session in attribute for attribute in packet[1:]), packet)
        plan, done, rows, newest = step("reactivate", "--reason", "billing")
        assert_done(plan, rows, newest)

        self.world.accounting("Stop", f"dora@{self.tenant}", session, address)
        plan, done, rows, newest = step("deprovision")
        assert_done(plan, rows, newest)
        self.assertEqual(self.run_on("provision", "nora", "--pool", "nowhere", "--dry-run",
                                     exits=(1,))["error"]["code"], "no_such_pool")

    def test_a_request_with_commit_false_gets_its_plan_from_temporal(self):
        wanted = {"tenant_id": self.tenant, "customer_id": "emil", "username": f"emil@{self.tenant}",
                  "key": "order-1", "commit": False}
        def execute(request):
            result = self.temporal("workflow", "execute", "--type", "ProvisionSubscriber", "--task-queue", "addrflow",
                                   "--workflow-id", f"order-{new_key()}", "--input", json.dumps(request))
            return result.get("result", result)
        plan = execute(wanted)["result"]
        self.assertEqual([e["system"] for e in plan["plan"]["effects"] if e["wish"]],
                         ["netbox", "aaa", "aaa", "netbox"])
        self.assertEqual(self.world.sql(f"select count(*) from services where tenant_id='{self.tenant}'"), [["0"]])
        self.assertEqual(self.world.sql(f"select count(*) from compositions where tenant_id='{self.tenant}'"), [["0"]])
        # The key is not used up, and it is the same request.
        done = execute({**wanted, "commit": True})
        self.assertEqual(done["result"]["address"], plan["address"])
        update = {"service": {"tenant_id": self.tenant, "subscriber_id": "emil"}, "commit": False}
        answer = self.temporal("workflow", "execute-update-with-start", "--update-name", "revoke",
                               "--update-input", json.dumps(update),
                               "--type", "ServiceLifecycle", "--task-queue", "addrflow", "--id-conflict-policy",
                               "UseExisting", "--workflow-id", f"service/{self.tenant}/emil/internet")
        self.assertIn("revoking", json.dumps(answer))
        self.assertEqual(self.binding("emil")["state"], "active")

    def test_the_temporal_cli_starts_a_provision_with_plain_json(self):
        started = {"tenant_id": self.tenant, "customer_id": "bob", "enable_ipv4": True, "username": f"bob@{self.tenant}"}
        result = self.temporal("workflow", "execute", "--type", "ProvisionSubscriber", "--task-queue", "addrflow",
                               "--workflow-id", f"order-{new_key()}", "--input", json.dumps(started))
        result = result.get("result", result)
        self.assertTrue(result["success"])
        self.assertEqual(result["context"]["ipv4_lifecycle_state"], "ACTIVE")

    def test_a_resting_service_is_suspended_by_a_raw_signal_with_start(self):
        self.provision("carol")
        reference = {"tenant_id": self.tenant, "subscriber_id": "carol", "service": "internet"}
        self.temporal("workflow", "signal-with-start", "--type", "ServiceLifecycle", "--task-queue", "addrflow",
                      "--workflow-id", f"service/{self.tenant}/carol/internet",
                      "--input", json.dumps(reference), "--signal-name", "suspend",
                      "--signal-input", json.dumps({"service": reference, "caller": {"key": new_key(), "reason": "abuse"}}))
        eventually("the line to be suspended", lambda: self.binding("carol")["state"] == "suspended")

    def test_the_official_python_sdk_starts_a_provision(self):
        script = pathlib.Path(__file__).with_name("python_client.py")
        done = subprocess.run(
            [self.world.peers["PYTHON"], str(script), self.world.peers["TEMPORAL_ADDRESS"], self.tenant, "dora"],
            capture_output=True, text=True, timeout=90)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(result["context"]["ipv4_lifecycle_state"], "ACTIVE")


class DualStack(SystemTest):
    """An address and a delegated prefix on one line: one session, one CoA, one Disconnect."""

    def setUp(self):
        super().setUp()
        self.world.add_prefixes(self.tenant, f"2001:db8:{next(NET):x}00::/40", delegate="60", shortest="56")

    def bindings(self, subscriber):
        return {b["family"]: b for b in self.status(subscriber)["bindings"]}

    def states(self, subscriber):
        return {family: b["state"] for family, b in self.bindings(subscriber).items()}

    def packets(self, kind, username):
        return len([line for line in self.world.nas_log() if username in line and kind in line])

    def log_in(self, subscriber, result):
        username = f"{subscriber}@{self.tenant}"
        self.world.add_credentials(username, "pw")
        answer = self.world.login(username)
        self.assertEqual(answer.get("packet"), "Access-Accept", answer)
        self.assertEqual(answer.get("Framed-IP-Address", ""), result["context"]["ipv4_address"])
        self.assertEqual(answer.get("Delegated-IPv6-Prefix", ""), result["context"]["ipv6_prefix"])
        session = f"S{new_key()[:8]}"
        self.world.accounting("Start", username, session, result["context"]["ipv4_address"],
                              Delegated_IPv6_Prefix=result["context"]["ipv6_prefix"])
        return username, session

    def test_the_whole_life_of_a_dual_stack_line(self):
        result = self.provision("alice", "--ipv6", "--pd-size", "60")
        context = result["context"]
        self.assertEqual((context["ipv4_lifecycle_state"], context["ipv6_lifecycle_state"]), ("ACTIVE", "ACTIVE"))
        self.assertTrue(context["ipv6_prefix"].endswith("/60"), context)
        self.assertEqual([step["name"] for step in result["steps"]],
                         ["allocate_ip_handler", "activate_ipv4_lifecycle", "activate_ipv6_lifecycle", "verify"])
        username, session = self.log_in("alice", result)
        self.assertEqual([item["status"]["value"] for item in self.world.netbox_prefixes(context["ipv6_prefix"])],
                         ["active"])

        self.run_on("suspend", "alice", "--reason", "billing")
        self.assertEqual(self.states("alice"), {"ipv4": "suspended", "ipv6_pd": "suspended"})
        self.netbox_comes_to(context["ipv4_address"], "active", "suspended")
        self.netbox_comes_to(context["ipv6_prefix"], "active", "suspended")
        self.run_on("reactivate", "alice", "--reason", "billing", "--family", "ipv6_pd")
        self.assertEqual(self.states("alice"), {"ipv4": "suspended", "ipv6_pd": "active"})
        self.netbox_comes_to(context["ipv4_address"], "active", "suspended")
        self.netbox_comes_to(context["ipv6_prefix"], "active", "active")
        self.assertIn("Framed-IP-Address", self.world.login(username))
        self.assertIn(["suspended"], self.world.sql(
            f"select groupname from radusergroup where username='{username}'", "aaa"))
        self.run_on("reactivate", "alice", "--reason", "billing")
        self.assertEqual(self.states("alice"), {"ipv4": "active", "ipv6_pd": "active"})
        self.assertEqual(self.packets("CoA-Request", username), 2, "restricted once, lifted once")
        self.netbox_comes_to(context["ipv4_address"], "active", "active")
        self.netbox_comes_to(context["ipv6_prefix"], "active", "active")
        status = self.world.must("status", "alice", "--tenant", self.tenant).json
        self.assertEqual((status["online"], status["online_nas_ip"]), (True, self.world.nas_ip))
        stats = self.world.must("stats", "--tenant", self.tenant).json
        for family in ("ipv4", "ipv6_pd"):
            self.assertEqual((stats[family]["active"], stats[family]["total"], stats[family]["netbox"]["percent"]),
                             (1, 1, 100.0), stats)

        gone = self.run_on("deprovision", "alice")
        self.netbox_comes_to(context["ipv4_address"], "deprecated", "revoked")
        self.netbox_comes_to(context["ipv6_prefix"], "deprecated", "revoked")
        self.assertEqual(gone["result"]["disconnect_result"]["code"], "Disconnect-ACK")
        self.assertEqual([step["name"] for step in gone["steps"]],
                         ["revoke_ipv4_lifecycle", "revoke_ipv6_lifecycle", "verify"])
        self.assertEqual(self.packets("Disconnect-Request", username), 1)
        self.assertTrue(all(b["space_held"] for b in self.bindings("alice").values()))
        self.world.accounting("Stop", username, session, context["ipv4_address"],
                              Delegated_IPv6_Prefix=context["ipv6_prefix"], Acct_Terminate_Cause="Admin-Reset")
        eventually("both gates to open",
                   lambda: not any(b["space_held"] for b in self.bindings("alice").values()))
        self.assertEqual(self.states("alice"), {"ipv4": "revoked", "ipv6_pd": "revoked"})
        self.assertIs(self.world.must("status", "alice", "--tenant", self.tenant).json["online"], False)
        self.assertEqual(self.world.login(username).get("packet"), "Access-Reject")
        self.assertEqual(self.world.sql("select ipv6_state, ipv6_prefix from subscriber_network_profiles where"
                                        f" tenant_id='{self.tenant}'"), [["revoked", ""]])

    def test_a_prefix_is_added_to_a_live_line_and_the_address_stays(self):
        address = self.provision("bob")["context"]["ipv4_address"]
        activated = self.bindings("bob")["ipv4"]["activated_at"]
        result = self.provision("bob", "--ipv6")
        self.assertEqual(result["context"]["ipv4_address"], address)
        self.assertEqual(result["context"]["ipv6_lifecycle_state"], "ACTIVE")
        self.assertEqual(self.bindings("bob")["ipv4"]["activated_at"], activated)
        self.log_in("bob", result)

    def test_both_or_neither_unless_one_is_optional(self):
        failed = self.provision("carol", "--ipv6", "--ipv6-pool", "none", exits=(1,))
        self.assertIn("ipv6_pool_id", failed["message"])
        self.assertEqual(self.bindings("carol"), {})
        result = self.provision("carol", "--ipv6", "--ipv6-pool", "none", "--optional-family", "ipv6_pd")
        self.assertEqual(self.states("carol"), {"ipv4": "active"})
        self.assertIn(("activate_ipv6_lifecycle", "skipped"),
                      [(step["name"], step["status"]) for step in result["steps"]])

    def test_the_seeds_input_gives_the_seeds_context(self):
        wanted = {"tenant_id": self.tenant, "customer_id": "dora", "enable_ipv4": False, "enable_ipv6": True,
                  "ipv6_pd_size": 56, "username": f"dora@{self.tenant}"}
        result = self.temporal("workflow", "execute", "--type", "ProvisionSubscriber", "--task-queue", "addrflow",
                               "--workflow-id", f"order-{new_key()}", "--input", json.dumps(wanted))
        context = result.get("result", result)["context"]
        self.assertEqual(context["ipv6_lifecycle_state"], "ACTIVE")
        self.assertTrue(context["ipv6_prefix"].endswith("/56"))
        self.assertEqual((context["ipv4_address"], context["ipv4_lifecycle_state"]), ("", ""))
        self.assertEqual(self.states("dora"), {"ipv6_pd": "active"})

    def test_one_family_is_revoked_and_the_line_lives_on_with_the_other(self):
        result = self.provision("erin", "--ipv6")
        username, session = self.log_in("erin", result)
        self.run_on("revoke", "erin", "--family", "ipv4")
        self.world.accounting("Stop", username, session, result["context"]["ipv4_address"],
                              Acct_Terminate_Cause="Admin-Reset")
        eventually("the address's gate to open", lambda: not self.bindings("erin")["ipv4"]["space_held"])
        self.assertEqual(self.states("erin"), {"ipv4": "revoked", "ipv6_pd": "active"})
        answer = self.world.login(username)
        self.assertEqual(answer.get("packet"), "Access-Accept")
        self.assertNotIn("Framed-IP-Address", answer)
        self.assertEqual(answer.get("Delegated-IPv6-Prefix"), result["context"]["ipv6_prefix"])


class Races(SystemTest):
    def test_two_identical_provisions_share_one_result(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.provision("erin"), range(4)))
        self.assertEqual(len({a["context"]["ipv4_address"] for a in answers}), 1)
        self.assert_exists_once("erin", answers[0]["context"]["ipv4_address"])

    def test_a_failed_second_provision_leaves_the_live_line_alone(self):
        address = self.provision("frank")["context"]["ipv4_address"]
        before = self.status("frank")
        other = f"{self.net}.77"
        self.provision("frank", "--address", other, exits=(1,))
        after = self.status("frank")
        self.assertEqual([b["state"] for b in after["bindings"]], ["active"])
        self.assertEqual(after["bindings"][0]["address"], address)
        self.assertEqual(after["bindings"][0]["generation"], before["bindings"][0]["generation"])

    def test_the_same_key_gives_the_recorded_answer_and_never_touches_the_next_generation(self):
        first = self.run_on("allocate", "grace", "--key", "k1")
        again = self.run_on("allocate", "grace", "--key", "k1")
        self.assertEqual(first["address"], again["address"])
        self.run_on("revoke", "grace", "--key", "r1", exits=(0, 4))
        second = self.run_on("allocate", "grace", "--key", "k2")
        self.world.stop_worker(self.worker)
        self.worker = self.world.start_worker()
        self.run_on("revoke", "grace", "--key", "r1", exits=(0, 4))
        self.assertEqual(self.binding("grace")["state"], "allocated")
        self.assertEqual(self.binding("grace")["address"], second["address"])

    def test_one_key_for_two_requests_is_refused(self):
        self.run_on("allocate", "heidi", "--key", "k1")
        answer = self.run_on("allocate", "heidi", "--key", "k1", "--address", f"{self.net}.99", exits=(1, 2))
        self.assertIn("key", json.dumps(answer))


class Pools(SystemTest):
    def test_200_at_once_from_a_pool_of_250_are_200_distinct_addresses(self):
        def one(index):
            # On a busy machine NetBox may still have to confirm when the answer comes: exit 4, and the audit looks.
            return self.provision(f"s{index}", exits=(0, 4), limit_s=240)["context"]["ipv4_address"]
        with concurrent.futures.ThreadPoolExecutor(25) as pool:
            addresses = list(pool.map(one, range(200)))
        self.assertEqual(len(set(addresses)), 200)


    def test_a_pool_is_set_says_what_it_was_and_comes_back_to_netbox_by_an_import(self):
        def set_to(*settings):
            return self.world.must("pool", "set", "main", "--tenant", self.tenant, "--actor", "ann", "--reason", "test",
                                   *settings).json
        said = set_to("--hold", "2h", "--group", "site", "--priority", "7", "--nas", self.world.nas_ip)
        self.assertEqual(said["changed"], ["hold_time: 3600 -> 7200", "group: none -> site", "priority: 100 -> 7",
                                           f"nas_ips: none -> {self.world.nas_ip}"])
        again = self.world.addrflow("pool", "add", "main", "--tenant", self.tenant, "--cidr", f"{self.net}.0/24",
                                    "--domain", self.tenant, "--quarantine", "1h", "--hold", "1h")
        self.assertEqual(again.exit, 1, repr(again))
        self.assertIn("hold_time: ", again.text + again.error)
        set_to("--any-nas", "--no-group", "--netbox", "off")
        self.assertEqual(set_to("--netbox", "mirror")["to do"], "addrflow netbox import main")
        self.assertIn("netbox import", self.provision("walt", exits=(1,))["message"])
        self.world.must("netbox", "import", "main", "--tenant", self.tenant)
        self.provision("walt")


class SmallPool(SystemTest):
    pool_prefix = 28  # 14 addresses

    def test_ten_more_than_the_pool_has_fail_and_exactly_those(self):
        def one(index):
            return self.provision(f"s{index}", exits=(0, 1, 4))
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(one, range(24)))
        failed = [a for a in answers if not a["success"]]
        self.assertEqual(len(failed), 10)
        for answer in failed:
            self.assertIn("No available IP addresses", answer["message"])


class Faults(SystemTest):
    def provision_in_background(self, subscriber, *more):
        pool = concurrent.futures.ThreadPoolExecutor(1)
        return pool.submit(self.provision, subscriber, *more, exits=(0, 4), limit_s=110)

    def test_a_worker_killed_at_any_moment_of_a_provision_loses_nothing(self):
        # Moments: after so many effects or rows were written; the next worker goes on from there.
        for moment in ("operations", "holdings", "effects"):
            subscriber = f"kill-{moment}"
            running = self.provision_in_background(subscriber)
            rows = ("effects e join services s on s.id = e.service_id" if moment == "effects" else moment)
            eventually(f"the first row in {moment}", lambda r=rows, s=subscriber: self.world.sql(
                f"select 1 from {r} where subscriber_id='{s}' limit 1"), every_s=0.01)
            self.world.kill_worker(self.worker)
            self.worker = self.world.start_worker()
            result = running.result()
            self.assertEqual(result["context"]["ipv4_lifecycle_state"], "ACTIVE")
            self.assert_exists_once(subscriber, result["context"]["ipv4_address"])

    def test_a_restart_of_postgresql_is_survived(self):
        running = self.provision_in_background("pg")
        self.world.restart_peer("postgres")
        result = running.result()
        self.assert_exists_once("pg", result["context"]["ipv4_address"])

    def test_a_restart_of_the_temporal_server_is_survived(self):
        running = self.provision_in_background("ts")
        eventually("the operation", lambda: self.world.sql("select 1 from operations where subscriber_id='ts' limit 1"))
        self.world.restart_peer("temporal")
        result = running.result()
        self.assert_exists_once("ts", result["context"]["ipv4_address"])

    def test_a_stale_suspend_that_wakes_late_leaves_the_line_unrestricted(self):
        self.provision("ivan")
        self.login_and_start("ivan")
        self.world.stop_worker(self.worker)
        marker = self.world.directory / f"paused-{new_key()}"
        sleeper = self.world.start_worker("worker-sleeper", ADDRFLOW_TEST_PAUSE=f"radius.before_send:{marker}")
        pool = concurrent.futures.ThreadPoolExecutor(1)
        suspend = pool.submit(self.run_on, "suspend", "ivan", "--reason", "billing", exits=(0, 4))
        eventually("the worker to stop before its CoA leaves", marker.exists)
        second = self.world.start_worker("worker-second")
        suspend.result()
        self.run_on("reactivate", "ivan", "--reason", "billing", exits=(0, 4))
        before = len(self.world.nas_log())
        sleeper.send_signal(signal.SIGCONT)
        eventually("the line to be confirmed unrestricted",
                   lambda: self.status("ivan")["enforcement"] == "confirmed", limit_s=60)
        packets = [l for l in self.world.nas_log() if f"ivan@{self.tenant}" in l]
        self.assertTrue(packets)
        self.assertNotIn("suspended", packets[-1], "the last word to the BNG must be the full plan")
        self.world.stop_worker(second)

    def test_a_refused_coa_fails_and_undoes_where_the_request_says_so(self):
        username = f"nak-506@{self.tenant}"
        self.run_on("allocate", "judy", "--username", username)
        self.login_and_start("judy", username)
        answer = self.run_on("activate", "judy", "--send-coa", "--on-coa-failure", "fail", exits=(1,))
        self.assertFalse(answer["success"])
        self.assertIn(self.binding("judy")["state"], ("allocated", "failed"))

    def test_a_coa_without_answer_goes_on_as_pending(self):
        username = f"drop@{self.tenant}"
        self.run_on("allocate", "kim", "--username", username)
        self.login_and_start("kim", username)
        answer = self.run_on("activate", "kim", "--send-coa", exits=(4,))
        self.assertEqual((answer["state"], answer["enforcement"]), ("active", "pending"))
        self.run_on("revoke", "kim", exits=(0, 4))

    def test_a_revoke_with_the_wrong_nas_ip_reaches_the_session_where_it_is(self):
        self.provision("mia")
        address, session = self.login_and_start("mia")
        answer = self.run_on("revoke", "mia", "--nas-ip", "192.0.2.99", exits=(0, 4))
        self.assertTrue(self.binding("mia")["space_held"], answer)
        self.run_on("allocate", "nora", "--address", address, exits=(1,))
        self.assertTrue([l for l in self.world.nas_log() if session in l and "Disconnect-Request" in l])

    def test_an_address_is_held_while_the_disconnect_is_unanswered(self):
        username = f"drop@lee-{self.tenant}"
        self.run_on("allocate", "lee", "--username", username)
        self.run_on("activate", "lee")
        address, session = self.login_and_start("lee", username)
        self.run_on("revoke", "lee", exits=(0, 4))
        self.assertTrue(self.binding("lee")["space_held"])
        refused = self.run_on("allocate", "mallory", "--address", address, exits=(1,))
        self.assertFalse(refused.get("success", False))
        # The session ends by itself: that settles the Disconnect, whether the gate or its next attempt sees it.
        self.world.accounting("Stop", username, session, address)
        eventually("the gate to open", lambda: not self.binding("lee")["space_held"])
        self.assertEqual(self.status("lee")["enforcement"], "confirmed")
        settled = self.world.must("effect", "list", "--tenant", self.tenant, "--subscriber", "lee",
                                  "--system", "radius", "--status", "not_applicable").json["effects"]
        self.assertEqual(len(settled), 1)
        self.assertIn(settled[0]["effect"]["code"], ("session-gone", "no-session"))


class NetboxFaults(SystemTest):
    def setUp(self):
        super().setUp()
        if self.world.netbox_is_real:
            self.skipTest("a real NetBox cannot be made to fail on demand")

    def reserve_fault(self, kind, **more):
        self.world.netbox_fault(kind, count=1, method="POST", path="ip-addresses", **more)

    def test_a_500_is_caught_up_and_the_provision_stands(self):
        self.reserve_fault("500")
        result = self.provision("quinn", exits=(0, 4))
        address = result["context"]["ipv4_address"]
        eventually("NetBox to be caught up", lambda: self.status("quinn")["enforcement"] == "confirmed")
        self.assert_exists_once("quinn", address)

    def test_an_answer_after_our_time_out_leaves_one_object(self):
        self.reserve_fault("late", delay_s=4)
        result = self.provision("rita", exits=(0, 4))
        eventually("NetBox to be confirmed", lambda: self.status("rita")["enforcement"] == "confirmed")
        self.assert_exists_once("rita", result["context"]["ipv4_address"])

    def test_what_netbox_missed_while_it_was_down_is_caught_up_and_nobody_waited(self):
        lines = [f"line{i}" for i in range(20)]
        self.world.netbox_fault("503", count=100_000)
        try:
            with concurrent.futures.ThreadPoolExecutor(10) as pool:
                results = list(pool.map(lambda line: self.provision(line, exits=(0, 4)), lines))
        finally:
            self.world.netbox_clear()
        self.assertEqual({r["context"]["ipv4_lifecycle_state"] for r in results}, {"ACTIVE"})
        self.world.must("schedules", "apply")
        self.world.must("schedules", "trigger", "addrflow-catch-up-netbox")
        eventually("the backlog to be empty", self.backlog_is_empty, limit_s=120)
        self.assertEqual(self.world.must("netbox", "catch-up").json["breaker"], "closed")
        for line, result in zip(lines, results):
            self.assert_exists_once(line, result["context"]["ipv4_address"])
            self.assertEqual(self.status(line)["enforcement"], "confirmed")

    def backlog_is_empty(self):
        return self.world.sql("select count(*) from effects where system = 'netbox' and not_before <= now()"
                              f" and tenant_id = '{self.tenant}' and status not in"
                              " ('confirmed', 'superseded', 'not_applicable')") == [["0"]]

    def test_a_request_that_wants_netbox_fails_and_undoes_without_it(self):
        self.world.netbox_fault("503", count=50, path="ip-addresses")
        try:
            self.provision("sam", "--on-netbox-failure", "fail", exits=(1,))
        finally:
            self.world.netbox_clear()
        held = self.world.sql("select count(*) from holdings where upper_inf(period) and"
                              f" tenant_id='{self.tenant}' and not releasing")
        self.assertEqual(held, [["0"]])
        rows = self.world.sql("select count(*) from radreply where attribute='Framed-IP-Address' and"
                              f" username='sam@{self.tenant}'", "aaa")
        self.assertEqual(rows, [["0"]])


class RoutingDomains(SystemTest):
    def test_the_same_space_in_two_domains_is_in_a_vrf_each(self):
        number = next(NET)
        cidr, address = f"100.82.{number}.0/24", f"100.82.{number}.7"
        vrfs = {name: self.world.netbox_post("ipam/vrfs/", {"name": f"{self.tenant}-{name}"})["id"]
                for name in ("left", "right")}
        for name, vrf in vrfs.items():
            self.world.add_prefixes(self.tenant, cidr, pool=name, domain=f"{self.tenant}-{name}", vrf=vrf,
                                    quarantine="1h", hold="1h")
            result = self.provision(f"line-{name}", "--pool", name, "--address", address)
            self.assertEqual(result["context"]["ipv4_address"], address)
        self.assertEqual({o["custom_fields"]["subscriber_id"]: o["vrf"]["id"]
                          for o in self.world.netbox_addresses(address)},
                         {f"line-{name}": vrf for name, vrf in vrfs.items()})
        for name in vrfs:
            imported = self.world.must("netbox", "import", name, "--tenant", self.tenant).json
            self.assertEqual((imported["objects in NetBox"], imported["ours already"]), ("1", "1"))
            synced = self.world.must("netbox", "sync", "--pool", name, "--tenant", self.tenant, "--dry-run").json
            self.assertEqual(synced, {"NetBox": "agrees on 1 bindings"})
        other = self.world.addrflow("pool", "add", "left", "--tenant", self.tenant, "--cidr", cidr, "--domain",
                                    f"{self.tenant}-left", "--vrf", vrfs["right"], "--quarantine", "1h", "--hold", "1h")
        self.assertEqual(other.exit, 1, repr(other))
        self.assertIn("vrf: ", other.text + other.error)


class NetboxPicks(SystemTest):
    """Authoritative pools: NetBox says which address and which prefix."""

    def setUp(self):
        super().setUp()
        number = next(NET)
        self.picked, self.prefixes = f"100.81.{number}", f"2001:db8:{0x8100 + number:x}::/48"
        self.world.netbox_post("ipam/prefixes/", {"prefix": f"{self.picked}.0/24"})
        self.world.netbox_post("ipam/prefixes/", {"prefix": self.prefixes})
        for pool, cidr in (("picked", f"{self.picked}.0/24"), ("picked6", self.prefixes)):
            self.world.add_prefixes(self.tenant, cidr, pool=pool, netbox="authoritative", quarantine="1h", hold="1h")

    def provision_picked(self, subscriber, *more, **how):
        return self.provision(subscriber, "--pool", "picked", *more, **how)

    def objects(self, prefix=None):
        if prefix:
            return self.world.netbox_prefixes(prefix)
        return [o for o in self.world.netbox_addresses() if o["address"].startswith(f"{self.picked}.")]

    def test_netbox_picks_both_families_and_the_life_goes_on_with_its_picks(self):
        # Made behind addrflow's back: only who asks NetBox can know.
        self.world.netbox_post("ipam/ip-addresses/", {"address": f"{self.picked}.1/24"})
        self.world.netbox_post("ipam/prefixes/", {"prefix": self.prefixes.replace("/48", "/56")})
        result = self.provision_picked("alice", "--ipv6", "--ipv6-pool", "picked6", "--pd-size", "56")
        context = result["context"]
        self.assertEqual(context["ipv4_address"], f"{self.picked}.2")
        self.assertEqual(context["ipv6_prefix"], self.prefixes.replace("::/48", ":100::/56"))
        self.assertEqual([o["status"]["value"] for o in self.objects()], ["active", "active"])
        self.assertEqual([o["status"]["value"] for o in self.objects(context["ipv6_prefix"])], ["active"])

        self.run_on("suspend", "alice", "--reason", "billing")
        self.run_on("deprovision", "alice", exits=(0, 4))
        eventually("both to be deprecated", lambda: [
            o["status"]["value"] for o in self.world.netbox_addresses(context["ipv4_address"])
            + self.objects(context["ipv6_prefix"])] == ["deprecated", "deprecated"])
        again = self.provision_picked("alice")
        self.assertEqual(again["context"]["ipv4_address"], context["ipv4_address"])
        self.assertEqual(len(self.world.netbox_addresses(context["ipv4_address"])), 1)

    def test_nobody_is_allocated_to_behind_netboxs_back(self):
        refused = self.provision_picked("olga", "--skip-netbox", exits=(1,))
        self.assertIn("update_netbox", refused["message"])
        self.assertEqual(self.objects(), [])

    def test_a_readdressed_line_gets_what_netbox_picks_and_is_never_without_an_object(self):
        former = self.provision_picked("bea")["context"]["ipv4_address"]
        # Made behind addrflow's back, as above.
        self.world.netbox_post("ipam/ip-addresses/", {"address": f"{self.picked}.2/24"})
        plan = self.planned(self.run_on("readdress", "bea", "--dry-run"))
        newest = self.newest_effect()
        changed = self.run_on("readdress", "bea", exits=(0, 4))
        self.assertEqual(changed["address"], f"{self.picked}.3")
        self.assertEqual([effect[:2] for effect in plan], [effect[:2] for effect in self.written("bea", newest)])
        self.assertEqual([e[1] for e in self.written("bea", newest) if e[0] == "netbox"][:2], ["take", "deprecate"])
        eventually("NetBox to show both", lambda: {
            o["address"].split("/")[0]: o["status"]["value"] for o in self.objects()} == {
                former: "deprecated", f"{self.picked}.2": "active", f"{self.picked}.3": "active"})
        self.run_on("deprovision", "bea", exits=(0, 4))

    def test_lines_at_the_same_time_get_each_their_own(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda line: self.provision_picked(line, exits=(0, 4)),
                                    [f"line{i}" for i in range(8)]))
        self.assertEqual(len({r["context"]["ipv4_address"] for r in results}), 8)
        self.assertEqual(len(self.objects()), 8)

    def must_be_standin(self):
        if self.world.netbox_is_real:
            self.skipTest("a real NetBox cannot be made to fail on demand")

    def test_an_answer_after_our_time_out_leaves_one_object(self):
        self.must_be_standin()
        self.world.netbox_fault("late", count=1, method="POST", path="available-ips", delay_s=4)
        result = self.provision_picked("rita")
        self.assertEqual([o["address"].split("/")[0] for o in self.objects()], [result["context"]["ipv4_address"]])
        self.assert_exists_once("rita", result["context"]["ipv4_address"])

    def test_a_worker_killed_while_netbox_picks_leaves_one_object(self):
        self.must_be_standin()
        self.world.netbox_fault("late", count=1, method="POST", path="available-ips", delay_s=3)
        running = concurrent.futures.ThreadPoolExecutor(1).submit(
            self.provision_picked, "kim", exits=(0, 4), limit_s=110)
        eventually("NetBox to have picked", self.objects, every_s=0.02)
        self.world.kill_worker(self.worker)
        self.worker = self.world.start_worker()
        result = running.result()
        self.assertEqual([o["address"].split("/")[0] for o in self.objects()], [result["context"]["ipv4_address"]])
        self.assert_exists_once("kim", result["context"]["ipv4_address"])

    def test_a_worker_frozen_while_netbox_picks_leaves_one_object(self):
        self.must_be_standin()
        self.world.netbox_fault("late", count=1, method="POST", path="available-ips", delay_s=3)
        running = concurrent.futures.ThreadPoolExecutor(1).submit(
            self.provision_picked, "lea", exits=(0, 4), limit_s=110)
        eventually("NetBox to have picked", self.objects, every_s=0.02)
        frozen = self.worker
        frozen.send_signal(signal.SIGSTOP)
        try:
            self.worker = self.world.start_worker("worker-second")
            result = running.result()
        finally:
            frozen.send_signal(signal.SIGCONT)
        self.assertEqual([o["address"].split("/")[0] for o in self.objects()], [result["context"]["ipv4_address"]])
        self.assert_exists_once("lea", result["context"]["ipv4_address"])
        self.world.stop_worker(frozen)

    def test_a_pick_of_which_no_attempt_could_tell_is_asked_for_until_one_can(self):
        self.must_be_standin()
        # Attempts end before NetBox answers them: the one that makes it pick, and one that looks for its pick.
        self.world.stop_worker(self.worker)
        self.worker = self.world.start_worker(ADDRFLOW_PACE_NETBOX_TIMEOUT="1s", ADDRFLOW_PACE_ANSWER_WAIT="1s")
        self.world.netbox_fault("late", count=1, method="POST", path="available-ips", delay_s=3)
        self.world.netbox_fault("late", count=2, method="GET", path="ip-addresses", delay_s=3)
        result = self.provision_picked("mia", exits=(0, 4))
        self.assertEqual([o["address"].split("/")[0] for o in self.objects()], [result["context"]["ipv4_address"]])
        eventually("NetBox to be confirmed", lambda: self.status("mia")["enforcement"] == "confirmed")
        self.assert_exists_once("mia", result["context"]["ipv4_address"])

    def test_without_netbox_nothing_comes_up_and_nothing_is_left(self):
        self.must_be_standin()
        # What it is asked is carried out, and nobody learns of it.
        self.world.netbox_fault("drop", count=1, method="POST", path="available-ips")
        self.world.netbox_fault("503", count=100_000)
        try:
            answer = self.world.addrflow("provision", "sam", "--tenant", self.tenant, "--pool", "picked",
                                         "--username", f"sam@{self.tenant}")
        finally:
            self.world.netbox_clear()
        self.assertEqual(answer.exit, 1, repr(answer))
        self.assertIn("NetBox did not pick an address", answer.text + answer.error)
        held = self.world.sql("select count(*) from holdings where upper_inf(period) and"
                              f" tenant_id='{self.tenant}'")
        self.assertEqual(held, [["0"]])
        self.world.must("schedules", "apply")
        self.world.must("schedules", "trigger", "addrflow-catch-up-netbox")
        eventually("what was picked to be released", lambda: not self.objects(), limit_s=120)


class BadInput(SystemTest):
    def refused(self, verb, subscriber, *more, names):
        before = self.world.sql("select count(*) from holdings")
        answer = self.world.addrflow(verb, subscriber, "--tenant", self.tenant, *more)
        self.assertIn(answer.exit, (1, 2), repr(answer))
        self.assertIn(names, answer.text + answer.error)
        self.assertEqual(self.world.sql("select count(*) from holdings"), before)

    def test_each_is_refused_at_once_with_the_field_named(self):
        self.refused("provision", "nina", "--pool", "no-such-pool", names="pool")
        self.refused("provision", "bad id!", names="subscriber_id")
        self.refused("allocate", "nina", "--address", "192.0.2.1", names="requested_address")
        self.refused("allocate", "nina", "--address", "not-an-address", names="requested_address")
        self.refused("provision", "nina", "--nas-ip", "192.0.2.200", names="nas_ip")
        self.refused("suspend", "nina", names="suspend")
        answer = self.world.addrflow("effect", "list", "--after", "xyz")
        self.assertEqual((answer.exit, "after: must be the id" in answer.error), (2, True), repr(answer))
        self.provision("oscar")
        held = self.binding("oscar")["address"]
        self.refused("allocate", "nina", "--address", held, names="requested_address")


class Accounting(SystemTest):
    """What accounting does not know for certain lets nobody else have the address."""

    def assert_only_its_own(self, subscriber, address):
        self.assertTrue(self.binding(subscriber)["space_held"])
        self.run_on("allocate", "stranger", "--address", address, exits=(1,))

    def test_accounting_that_has_stopped_opens_no_gate(self):
        self.provision("ann")
        address, _ = self.login_and_start("ann")
        gone = self.run_on("deprovision", "ann", exits=(0, 4))["result"]
        self.assertEqual(gone["disconnect_result"]["code"], "Disconnect-ACK")
        # The NAS says that the session is gone, and accounting never says it again.
        self.world.addrflow("catch-up")
        self.assert_only_its_own("ann", address)

    def test_a_session_that_accounting_has_not_heard_of_for_long_is_told(self):
        # A NAS without Interim-Updates says nothing between Start and Stop.
        self.provision("quinn")
        address, session = self.login_and_start("quinn")
        self.world.sql("update radacct set acctstarttime = now() - interval '20 minutes', acctupdatetime = now() -"
                       f" interval '20 minutes' where username='quinn@{self.tenant}'", "aaa")
        suspended = self.run_on("suspend", "quinn", "--reason", "abuse")["result"]
        self.assertEqual((suspended["state"], suspended["enforcement"]), ("suspended", "confirmed"))
        told = [line for line in self.world.nas_log() if session in line and "CoA-Request" in line]
        self.assertIn("suspended", told[-1])
        self.run_on("reactivate", "quinn", "--reason", "abuse")
        again = [line for line in self.world.nas_log() if session in line and "CoA-Request" in line]
        self.assertGreater(len(again), len(told))
        self.assertNotIn("suspended", again[-1])
        self.world.accounting("Stop", f"quinn@{self.tenant}", session, address)

    def test_a_nas_that_restarts_is_no_word_of_its_sessions(self):
        self.provision("ben")
        address, session = self.login_and_start("ben")
        self.run_on("deprovision", "ben", exits=(0, 4))
        self.world.accounting("Accounting-On", f"ben@{self.tenant}", session, address)
        closed = self.world.sql(f"select acctstoptime is not null from radacct where username='ben@{self.tenant}'", "aaa")
        self.assertEqual(closed, [["t"]], "the AAA server closes all rows of that NAS")
        self.world.addrflow("catch-up")
        self.assert_only_its_own("ben", address)

    def test_a_line_that_moved_to_another_nas_under_another_username_keeps_its_address(self):
        self.provision("cleo")
        address, session = self.login_and_start("cleo")
        moved = f"moved@{self.tenant}"
        self.world.accounting("Start", moved, f"M{session}", address, nas_ip="127.0.0.9")
        self.run_on("deprovision", "cleo", exits=(0, 4))
        self.world.accounting("Stop", f"cleo@{self.tenant}", session, address)
        self.world.addrflow("catch-up")
        self.assert_only_its_own("cleo", address)
        self.world.accounting("Stop", moved, f"M{session}", address, nas_ip="127.0.0.9")
        eventually("the gate to open", lambda: not self.binding("cleo")["space_held"])


class Changes(SystemTest):
    """A line that lives on with another NAS, username, plan or address; each planned before it is done."""
    maxDiff = None

    def change(self, *arguments, exits=(0,)):
        newest = self.newest_effect()
        plan = self.run_on(*arguments, "--dry-run")
        self.assertEqual(self.newest_effect(), newest)
        done = self.run_on(*arguments, exits=exits)
        self.assertEqual(self.without_ids(self.planned(plan)),
                         self.without_ids(self.written(arguments[1], newest))[:len(self.planned(plan))])
        return done

    def gate_is_open(self, subscriber):
        return self.world.sql("select count(*) from holdings where upper_inf(period) and releasing and"
                              f" tenant_id='{self.tenant}' and subscriber_id='{subscriber}'") == [["0"]]

    def add_other_nas(self):
        self.world.must("nas", "add", "bng2", "--tenant", self.tenant, "--ip", "127.0.0.9", "--coa-host",
                        self.world.nas_ip, "--coa-port", self.world.peers["RADIUS_NAS_PORT"],
                        "--secret", f"file:{self.world.peers['RADIUS_NAS_SECRET_FILE']}")

    def test_a_moved_line_logs_in_at_its_new_nas_and_is_cut_at_the_old_one(self):
        self.add_other_nas()
        self.provision("mona", "--nas-ip", self.world.nas_ip)
        address, session = self.login_and_start("mona")
        moved = self.change("move", "mona", "--nas-ip", "127.0.0.9")
        self.assertEqual((moved["disconnect_result"]["code"], moved["state"]), ("Disconnect-ACK", "active"))
        self.world.accounting("Stop", f"mona@{self.tenant}", session, address)
        self.assertEqual(self.world.login(f"mona@{self.tenant}")["Framed-IP-Address"], address)
        self.world.accounting("Start", f"mona@{self.tenant}", f"N{session}", address, nas_ip="127.0.0.9")
        self.assertEqual(self.status("mona")["nas_ip"], "127.0.0.9")
        # It is where it belongs: a repeat, and one with another key, leave that session alone.
        again = self.run_on("move", "mona", "--nas-ip", "127.0.0.9")
        self.assertEqual((again["success"], again["effects"]), (True, []))
        self.run_on("move", "mona", "--nas-ip", "127.0.0.77", exits=(1,))

    def test_a_line_that_comes_back_at_another_site_gets_an_address_of_that_site(self):
        self.add_other_nas()
        sites = {self.world.nas_ip: f"100.80.{next(NET)}", "127.0.0.9": f"100.80.{next(NET)}"}
        for number, (nas, net) in enumerate(sites.items()):
            self.world.add_network(self.tenant, cidr=f"{net}.0/24", pool=f"site{number}", domain=self.tenant, nas=nas,
                                   quarantine="1h", hold="1h")
        self.provision("ruth", "--nas-ip", self.world.nas_ip)
        address, session = self.login_and_start("ruth")
        self.assertTrue(address.startswith(sites[self.world.nas_ip]), address)
        self.run_on("deprovision", "ruth", exits=(0, 4))
        wanted = self.run_on("provision", "ruth", "--nas-ip", "127.0.0.9", "--address", address, exits=(1,))
        self.assertEqual(wanted["code"], "conflict")
        back = self.change("provision", "ruth", "--nas-ip", "127.0.0.9", exits=(0, 4))
        other = back["context"]["ipv4_address"]
        self.assertTrue(other.startswith(sites["127.0.0.9"]), other)
        self.assertEqual(self.world.login(f"ruth@{self.tenant}")["Framed-IP-Address"], other)
        self.assertFalse(self.gate_is_open("ruth"), "its session at the other site may live")
        self.world.accounting("Stop", f"ruth@{self.tenant}", session, address)
        self.world.addrflow("catch-up")
        eventually("the gate to open", lambda: self.gate_is_open("ruth"))
        self.assertEqual((self.binding("ruth")["state"], self.binding("ruth")["address"]), ("active", other))

    def test_an_allocated_line_is_provisioned_as_it_was_allocated_or_not_at_all(self):
        self.run_on("allocate", "lena", "--username", f"lena@{self.tenant}", "--plan", "silver", exits=(0, 4))
        for more in (["--plan", "gold"], ["--restrict-when", "all"]):
            refused = self.provision("lena", *more, exits=(1,))
            self.assertEqual(refused["code"], "conflict")
            self.assertIn(more[0].strip("-").replace("-", "_"), refused["message"])
        self.assertEqual((self.status("lena")["plan"], self.binding("lena")["state"]), ("silver", "allocated"))
        self.provision("lena", "--plan", "silver")
        self.assertEqual(self.binding("lena")["state"], "active")

    def test_a_rebound_line_logs_in_under_its_new_name_only(self):
        self.provision("rosa")
        address, session = self.login_and_start("rosa")
        rebound = self.change("rebind", "rosa", "--username", f"rose@{self.tenant}")
        self.assertEqual(rebound["disconnect_result"]["code"], "Disconnect-ACK")
        self.world.accounting("Stop", f"rosa@{self.tenant}", session, address)
        self.assertEqual(self.world.login(f"rosa@{self.tenant}").get("packet"), "Access-Reject")
        given, _ = self.login_and_start("rosa", f"rose@{self.tenant}")
        self.assertEqual(given, address)
        self.provision("otto")
        taken = self.run_on("rebind", "otto", "--username", f"rose@{self.tenant}", exits=(1, 3))
        self.assertEqual(taken["error"]["code"], "username_taken")

    def test_another_plan_reaches_the_session_and_the_next_login(self):
        self.provision("paul", "--plan", "silver")
        self.login_and_start("paul")
        changed = self.change("change-plan", "paul", "--plan", "gold")
        self.assertEqual(changed["coa_result"]["code"], "CoA-ACK")
        groups = self.world.sql(f"select groupname from radusergroup where username='paul@{self.tenant}'", "aaa")
        self.assertEqual(groups, [["gold"]])
        self.run_on("suspend", "paul", "--reason", "billing")
        self.change("change-plan", "paul", "--plan", "bronze")
        groups = self.world.sql("select groupname from radusergroup where"
                                f" username='paul@{self.tenant}' order by priority", "aaa")
        self.assertEqual(groups, [["suspended"], ["bronze"]])
        self.assertEqual(self.binding("paul")["state"], "suspended")

    def test_a_group_that_the_platform_wrote_wins_over_no_suspend_and_no_plan(self):
        username = f"vera@{self.tenant}"
        platform, silver = f"platform-{self.tenant}", f"silver-{self.tenant}"
        for group in (platform, silver):
            self.world.sql("insert into radgroupreply(groupname, attribute, op, value)"
                           f" values ('{group}', 'Filter-Id', ':=', '{group}')", "aaa")
        self.world.sql(f"insert into radusergroup(username, groupname) values ('{username}', '{platform}')", "aaa")
        self.world.add_credentials(username, "pw")

        def filter_of_login():
            return self.world.login(username).get("Filter-Id")
        self.provision("vera")
        self.assertEqual(filter_of_login(), platform, "nobody has given the line a plan")
        plan = self.run_on("suspend", "vera", "--reason", "billing", "--dry-run")
        self.assertIn(f"= radusergroup {username} {platform} priority 0 (after ours)", json.dumps(plan))
        self.run_on("suspend", "vera", "--reason", "billing")
        self.assertEqual(filter_of_login(), "suspended")
        self.run_on("reactivate", "vera", "--reason", "billing")
        self.assertEqual(filter_of_login(), platform)
        self.change("change-plan", "vera", "--plan", silver)
        self.assertEqual(filter_of_login(), silver)
        self.run_on("suspend", "vera", "--reason", "billing")
        self.assertEqual(filter_of_login(), "suspended")

    def test_a_readdressed_line_gets_the_new_address_and_the_old_one_rests(self):
        self.provision("rita")
        address, session = self.login_and_start("rita")
        wanted = f"{self.net}.77"
        changed = self.change("readdress", "rita", "--address", wanted, exits=(0, 4))
        self.assertEqual((changed["address"], changed["state"]), (wanted, "active"))
        self.assertEqual(self.world.login(f"rita@{self.tenant}")["Framed-IP-Address"], wanted)
        self.assertFalse(self.gate_is_open("rita"))
        # Held while its session may live, and in quarantine after that.
        self.assertEqual(self.run_on("allocate", "eve", "--username", f"eve@{self.tenant}", "--address", address,
                                     exits=(1,))["error"]["code"], "address_taken")
        self.world.accounting("Stop", f"rita@{self.tenant}", session, address)
        self.world.accounting("Start", f"rita@{self.tenant}", f"N{session}", wanted)
        self.run_on("status", "rita")
        eventually("the gate to open", lambda: self.gate_is_open("rita"))
        self.assertEqual(self.run_on("allocate", "eve", "--username", f"eve@{self.tenant}", "--address", address,
                                     exits=(1,))["error"]["code"], "address_taken")
        self.assertEqual(self.binding("rita")["state"], "active")
        self.run_on("deprovision", "rita", exits=(0, 4))

    CHANGES = {"move": ["--nas-ip", "127.0.0.9"], "rebind": ["--username"], "change-plan": ["--plan", "gold"],
               "readdress": []}

    def test_a_worker_killed_in_the_middle_of_each_change_loses_nothing(self):
        self.add_other_nas()
        for verb, more in self.CHANGES.items():
            for moment in ("claimed", "planned"):
                subscriber = f"{verb}-{moment}"
                username = f"{subscriber}@{self.tenant}"
                self.provision(subscriber)
                address, session = self.login_and_start(subscriber)
                newest = self.newest_effect()
                wanted = more + ([f"new-{username}"] if verb == "rebind" else [])
                pool = concurrent.futures.ThreadPoolExecutor(1)
                running = pool.submit(self.run_on, verb, subscriber, *wanted, exits=(0, 4), limit_s=110)
                row = (f"select 1 from operations where subscriber_id='{subscriber}' and operation="
                       f"'{verb.replace('-', '_')}'" if moment == "claimed" else
                       f"select 1 from effects e join services s on s.id = e.service_id where e.id > {newest}"
                       f" and s.subscriber_id='{subscriber}' and e.system='aaa'")
                eventually(f"{verb} to be {moment}", lambda r=row: self.world.sql(r), every_s=0.005)
                self.world.kill_worker(self.worker)
                self.worker = self.world.start_worker()
                self.assertTrue(running.result()["success"])
                eventually(f"{verb} to be confirmed", lambda s=subscriber: self.status(s)["enforcement"] == "confirmed")
                self.assert_changed(verb, subscriber, address, session)

    def assert_changed(self, verb, subscriber, address, session):
        """By the ledger, and by a real Access-Request under each name that the line has had."""
        username = f"{subscriber}@{self.tenant}"
        self.world.accounting("Stop", username, session, address)
        present = f"new-{username}" if verb == "rebind" else username
        if verb == "rebind":
            self.assertEqual(self.world.login(username).get("packet"), "Access-Reject")
        given, _ = self.login_and_start(subscriber, present)
        self.assertEqual(given == address, verb != "readdress", verb)
        self.assertEqual(self.binding(subscriber)["state"], "active")
        self.assertEqual(self.binding(subscriber)["address"], given)
        eventually("the former space to be let go", lambda: self.gate_is_open(subscriber))
        if verb != "rebind":
            self.assert_exists_once(subscriber, given)
        status = self.status(subscriber)
        self.assertEqual((status["nas_ip"], status["plan"]), ("127.0.0.9" if verb == "move" else "",
                                                              "gold" if verb == "change-plan" else ""))

    def test_accounting_that_fails_in_the_middle_of_a_readdress_frees_no_address_in_use(self):
        self.provision("lena")
        address, session = self.login_and_start("lena")
        username = f"lena@{self.tenant}"
        wanted = f"{self.net}.66"
        self.run_on("readdress", "lena", "--address", wanted, exits=(0, 4))
        def assert_still_held():
            self.world.addrflow("catch-up")
            self.assertFalse(self.gate_is_open("lena"))
            self.run_on("provision", "stranger", "--username", f"stranger@{self.tenant}", "--address", address,
                        exits=(1,))
        assert_still_held()  # the NAS has said that it cut the session, and accounting says nothing
        self.world.accounting("Accounting-On", username, session, address)
        assert_still_held()  # the NAS restarts: its rows are closed, its sessions may live on
        self.world.accounting("Start", username, f"L{session}", address)
        assert_still_held()  # and one does
        self.world.accounting("Start", username, f"N{session}", wanted)
        assert_still_held()  # beside the new one
        self.world.accounting("Stop", username, f"L{session}", address)
        eventually("the gate to open", lambda: self.gate_is_open("lena"))
        self.assertEqual(self.binding("lena")["address"], wanted)

    def test_a_line_that_moved_under_another_name_is_revoked_only_when_its_old_session_is_gone(self):
        self.add_other_nas()
        self.provision("nora", "--nas-ip", self.world.nas_ip)
        address, session = self.login_and_start("nora")
        self.run_on("move", "nora", "--nas-ip", "127.0.0.9", "--no-disconnect")
        self.run_on("rebind", "nora", "--username", f"noor@{self.tenant}", "--no-disconnect")
        given, _ = self.login_and_start("nora", f"noor@{self.tenant}")
        self.assertEqual(given, address)
        self.world.sql(f"update radacct set acctstoptime = now() where username = 'noor@{self.tenant}'", "aaa")
        gone = self.run_on("deprovision", "nora", exits=(0, 4))["result"]
        self.assertEqual(gone["disconnect_result"]["code"], "Disconnect-ACK")
        self.world.addrflow("catch-up")
        self.assertTrue(self.binding("nora")["space_held"], "the session on the former NAS is not known to be gone")
        self.world.accounting("Stop", f"nora@{self.tenant}", session, address)
        eventually("the gate to open", lambda: not self.binding("nora")["space_held"])

    def test_a_deprovision_waits_for_a_change_and_then_takes_it_all(self):
        self.provision("olaf")
        self.login_and_start("olaf")
        pool = concurrent.futures.ThreadPoolExecutor(3)
        done = [pool.submit(self.run_on, *words, exits=(0, 1, 4)) for words in (
            ("readdress", "olaf"), ("suspend", "olaf", "--reason", "billing"), ("deprovision", "olaf"))]
        for one in done:
            one.result()
        self.run_on("deprovision", "olaf", exits=(0, 4))
        self.assertEqual(self.world.login(f"olaf@{self.tenant}").get("packet"), "Access-Reject")
        self.assertIn(self.binding("olaf")["state"], ("revoking", "revoked"))

    def test_a_silent_nas_keeps_a_readdress_pending_until_the_session_is_gone(self):
        username = f"drop@{self.tenant}"
        self.run_on("allocate", "ida", "--username", username)
        self.run_on("activate", "ida")
        address, session = self.login_and_start("ida", username)
        changed = self.run_on("readdress", "ida", exits=(4,))
        self.assertEqual((changed["state"], changed["enforcement"]), ("active", "pending"))
        shown = self.world.must("progress", "--tenant", self.tenant, "--subscriber", "ida").json
        steps = {step["name"]: step["status"] for step in shown["steps"]}
        self.assertEqual((shown["kind"], shown["state"]), ("readdress", "finished"))
        self.assertEqual((steps["reserve_ipv4"], steps["aaa_apply"]), ("done", "done"))
        self.assertIn(("radius_coa" in steps, "radius_disconnect" in steps), ((True, False), (False, True)))
        self.assertEqual(self.world.login(username)["Framed-IP-Address"], changed["address"])
        self.assertFalse(self.gate_is_open("ida"))
        self.world.accounting("Stop", username, session, address)
        eventually("the gate to open", lambda: self.gate_is_open("ida"))
        eventually("nothing to be owed", lambda: self.status("ida")["enforcement"] == "confirmed", limit_s=60)
        self.assertEqual(self.binding("ida")["state"], "active")

    def test_a_coa_gives_a_live_session_its_new_address(self):
        dialects = self.world.directory / "dialects"
        dialects.mkdir(exist_ok=True)
        (dialects / "renumbering.toml").write_text(RENUMBERING)
        known = {"ADDRFLOW_RADIUS_DIALECT_DIR": str(dialects)}
        self.world.must("nas", "add", "bng1", "--tenant", self.tenant, "--ip", self.world.nas_ip, "--coa-port",
                        self.world.peers["RADIUS_NAS_PORT"], "--dialect", "renumbering", "--interim", "5s",
                        "--secret", f"file:{self.world.peers['RADIUS_NAS_SECRET_FILE']}", **known)
        self.world.stop_worker(self.worker)
        self.worker = self.world.start_worker(**known)
        self.provision("hera", "--nas-ip", self.world.nas_ip)  # whose accounting has to be fresh
        address, session = self.login_and_start("hera")
        username, wanted = f"hera@{self.tenant}", f"{self.net}.78"
        changed = self.change("readdress", "hera", "--address", wanted)
        self.assertEqual((changed["address"], changed["enforcement"]), (wanted, "confirmed"))
        self.assertEqual(changed["coa_result"]["code"], "CoA-ACK")
        packets = [line for line in self.world.nas_log() if session in line]
        self.assertEqual(len(packets), 1, packets)
        self.assertIn("CoA-Request", packets[0])
        self.assertIn(f"Framed-IP-Address = {wanted}", packets[0])
        self.assertFalse(self.gate_is_open("hera"), "the NAS has said so, accounting has not shown it yet")

        def heard_of_again():
            self.world.accounting("Interim-Update", username, session, wanted)
            return self.gate_is_open("hera")
        eventually("the gate to open", heard_of_again, every_s=1)
        self.assertEqual(self.binding("hera")["state"], "active")
        self.assert_exists_once("hera", wanted)
        self.assertEqual(self.run_on("allocate", "eve", "--address", address, exits=(1,))["error"]["code"],
                         "address_taken")

    def test_former_space_is_released_by_force_and_the_line_lives_on(self):
        self.provision("hugo")
        address, _ = self.login_and_start("hugo")
        wanted = f"{self.net}.79"
        self.run_on("readdress", "hugo", "--address", wanted, exits=(0, 4))
        self.world.addrflow("catch-up")
        self.assertFalse(self.gate_is_open("hugo"), "no accounting has shown the session's end")
        self.run_on("force-release", "hugo", "--actor", "ann", "--reason", "ticket 4711")
        eventually("the gate to open", lambda: self.gate_is_open("hugo"))
        self.assertEqual((self.binding("hugo")["state"], self.binding("hugo")["address"]), ("active", wanted))
        self.assertEqual(self.world.login(f"hugo@{self.tenant}")["Framed-IP-Address"], wanted)
        self.assert_exists_once("hugo", wanted)
        # The longest quarantine; and of the space that is in use nobody can force anything.
        self.assertEqual(self.run_on("allocate", "eve", "--address", address, exits=(1,))["error"]["code"],
                         "address_taken")
        refused = self.run_on("force-release", "hugo", "--actor", "ann", "--reason", "ticket 4712", exits=(1,))
        self.assertEqual(refused["error"]["code"], "illegal_transition")

    def restated(self, subscriber, step):
        return self.world.sql("select 1 from operation_steps s join operations o on o.id = s.operation_id where"
                              f" o.tenant_id='{self.tenant}' and o.subscriber_id='{subscriber}' and s.step='{step}'")

    def test_a_coa_that_may_come_late_is_followed_by_the_condition_as_it_is(self):
        username = f"drop@{self.tenant}"
        self.run_on("allocate", "jean", "--username", username)
        self.login_and_start("jean", username)
        failed = self.run_on("activate", "jean", "--send-coa", "--on-coa-failure", "fail", exits=(1,))
        self.assertEqual(failed["code"], "coa_failed")
        eventually("the undone activate to be followed up", lambda: self.restated("jean", "move:restate-undone"))
        self.run_on("revoke", "jean", exits=(0, 4))
        self.run_on("allocate", "jean", "--username", username)
        eventually("the allocate to be followed up", lambda: self.restated("jean", "move:restate"))

    def test_a_former_username_is_nobody_elses_before_its_session_is_cut(self):
        username = f"drop@{self.tenant}"
        self.run_on("allocate", "gus", "--username", username)
        self.login_and_start("gus", username)
        self.run_on("activate", "gus", exits=(0, 4))
        self.run_on("rebind", "gus", "--username", f"gus@{self.tenant}", exits=(4,))
        taken = self.run_on("allocate", "hal", "--username", username, exits=(1,))
        self.assertEqual(taken["error"]["code"], "username_taken")
        self.assertEqual(self.world.login(f"gus@{self.tenant}").get("packet"), "Access-Reject")
        self.world.add_credentials(f"gus@{self.tenant}", "pw")
        self.assertEqual(self.world.login(f"gus@{self.tenant}").get("packet"), "Access-Accept")
        self.run_on("revoke", "gus", exits=(0, 4))

    def test_a_readdress_that_nothing_is_free_for_leaves_the_line_as_it_was(self):
        self.provision("nils")
        address, _ = self.login_and_start("nils")
        refused = self.run_on("readdress", "nils", "--address", "192.0.2.1", exits=(1,))
        self.assertEqual(refused["error"]["code"], "address_outside_pool")
        self.assert_exists_once("nils", address)


class Evidence(SystemTest):
    def test_who_held_an_address_is_answered_with_operation_and_session(self):
        self.provision("dora", "--actor", "crm")
        address, session = self.login_and_start("dora")
        before = self.world.sql("select to_char(clock_timestamp() at time zone 'UTC',"
                                " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")[0][0]
        self.run_on("deprovision", "dora", exits=(0, 4))
        self.world.accounting("Stop", f"dora@{self.tenant}", session, address)
        eventually("the gate to open", lambda: not self.binding("dora")["space_held"])
        now = self.world.must("who-held", address, "--domain", self.tenant).json
        self.assertEqual(now["holders"], [])
        then = self.world.must("who-held", address, "--domain", self.tenant, "--at", before).json["holders"]
        self.assertEqual([(h["subscriber"], h["opened_by"]["actor"]) for h in then], [("dora", "crm")])
        whole = self.world.must("who-held", address, "--domain", self.tenant, "--from", "2020-01-01T00:00:00Z",
                                "--to", "2100-01-01T00:00:00Z").json["holders"]
        self.assertEqual([s["session_id"] for s in whole[0]["sessions"]], [session])
        self.assertEqual(self.world.addrflow("who-held", "nonsense").exit, 1)

    def test_the_schedules_run_and_can_be_paused(self):
        names = ("network.cleanup_ipv4_stale_reservations", "network.cleanup_ipv6_stale_prefixes", "addrflow-catch-up")
        self.world.must("schedules", "apply")
        self.assertLessEqual(set(names), set(self.world.must("schedules", "apply").json))
        for name in names:
            self.world.must("schedules", "trigger", name)

        def results():
            found = self.temporal("workflow", "list", "--query",
                                  "WorkflowType in ('CleanupStaleAddresses', 'CatchUpDueWork')")
            return [w["status"] for w in found]
        # Before the pause: of two requests that reach a schedule together, the server heeds the last one only.
        eventually("the three runs to be done", lambda: sum("COMPLETED" in r for r in results()) >= 3)
        self.world.must("schedules", "pause", "addrflow-catch-up")

        def listed():
            return self.world.must("schedules", "list").json.get("addrflow-catch-up", "")
        eventually("the schedule to be paused", lambda: "paused" in listed())
        self.world.must("schedules", "unpause", "addrflow-catch-up")
        for family in ("ipv4", "ipv6_pd"):
            answer = self.world.must("cleanup", "--family", family).json
            self.assertLessEqual({"revoked_deleted", "allocated_stale", "revoking_stuck", "errors"}, set(answer))

    def test_a_nas_is_changed_in_what_is_named_and_in_nothing_else(self):
        def nas(*arguments, exits=(0,)):
            answer = self.world.addrflow("nas", *arguments, "--tenant", self.tenant)
            self.assertIn(answer.exit, exits, repr(answer))
            return answer.json or {}
        nas("add", "mx480", exits=(1, 2))  # a new one needs its address
        nas("add", "mx480", "--ip", "192.0.2.80", "--dialect", "juniper", "--secret", "file:/run/old", "--interim", "30m")
        before = nas("show", "mx480")
        nas("add", "mx480", "--next-secret", "file:/run/new")
        self.assertEqual(nas("show", "mx480"), {**before, "next secret": "file:/run/new"})
        nas("add", "mx480", "--next-secret", "none")
        self.assertEqual(nas("show", "mx480"), before)
        nas("add", "mx480", "--ip", "192.0.2.81", exits=(1,))
        nas("remove", "mx480")
        nas("show", "mx480", exits=(1, 2))
        self.provision("pia", "--nas-ip", self.world.nas_ip)
        nas("remove", "bng1", exits=(1,))

    def test_measurements_are_counted_by_schedule_and_scraped_from_a_worker(self):
        self.provision("wim")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        worker = self.world.start_worker("worker-metrics", ADDRFLOW_WORKER_METRICS=f"127.0.0.1:{port}")
        self.world.must("schedules", "apply")
        for name in ("network.emit_ipv4_lifecycle_metrics", "network.emit_ipv6_metrics"):
            self.world.must("schedules", "trigger", name)

        def scraped():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return answer.read().decode().splitlines()
        active = f'ipv4_lifecycle_state_count{{tenant_id="{self.tenant}",state="active"}} 1'
        eventually("the counts to be handed out", lambda: active in scraped())
        lines = scraped()
        self.assertIn(f'ipv4_pool_total_addresses{{tenant_id="{self.tenant}",pool_name="main"}} ', "\n".join(lines))
        self.assertTrue(any(line.startswith("temporal_") for line in lines))
        self.world.stop_worker(worker)
        # By hand, and counted anew.
        self.provision("xaver")
        said = self.world.addrflow("metrics", json_output=False).text
        self.assertIn(active[:-1] + "2", said.splitlines())
        self.assertEqual(self.world.must("metrics", "--family", "ipv6_pd").json["family"], "ipv6_pd")
        refused = self.world.addrflow("worker", ADDRFLOW_WORKER_METRICS="nowhere")
        self.assertEqual(refused.exit, 2)
        self.assertIn("worker.metrics", refused.text + refused.error)

    def test_the_audit_names_what_was_broken_in_aaa_and_in_netbox(self):
        address = self.provision("emma")["context"]["ipv4_address"]
        username = f"emma@{self.tenant}"

        def broken():
            answer = self.world.addrflow("audit")
            return {(v["invariant"], v["system"]) for v in answer.json["violations"] if v["tenant"] == self.tenant}
        self.world.sql(f"update radreply set value='100.127.0.1' where username='{username}'", "aaa")
        self.assertEqual(broken(), {("I3", "aaa")})
        self.world.sql(f"update radreply set value='{address}' where username='{username}'", "aaa")
        self.world.sql(f"delete from radusergroup where username='{username}'", "aaa")
        self.assertEqual(broken(), {("I3", "aaa")})
        self.world.sql("insert into radusergroup(username, groupname, priority)"
                       f" values ('{username}', 'default', 1)", "aaa")
        self.assertEqual(broken(), set())
        if self.world.netbox_is_real:
            return
        for item in self.world.netbox_addresses(address):
            self.world.netbox_delete(item["id"])
        self.assertEqual(broken(), {("I3", "netbox")})
        # Stating it again makes the object anew.
        self.run_on("suspend", "emma")
        self.run_on("reactivate", "emma")
        eventually("NetBox to have it again", lambda: not broken())
        self.assertEqual(len(self.world.netbox_addresses(address)), 1)

    def test_an_audit_that_cannot_reach_aaa_says_so(self):
        answer = self.world.addrflow("audit", ADDRFLOW_AAA_URL="postgresql://nobody@127.0.0.1:9/none")
        self.assertEqual((answer.exit, answer.json["out_of_reach"]), (3, ["aaa"]))


class Restore(SystemTest):
    def test_a_ledger_restored_to_an_earlier_state_gives_no_address_to_a_second_holder(self):
        self.provision("first")
        with tempfile.TemporaryDirectory() as place:
            dump = f"{place}/ledger.dump"
            self.world.database_tool("pg_dump", "-Fc", "-f", dump)
            lost = self.provision("lost")["context"]["ipv4_address"]
            self.login_and_start("lost")
            # The worker stays: it must find out by itself.
            self.world.database_tool("pg_restore", "--clean", "--if-exists", "--single-transaction", "-d",
                                     self.world.database_name(), dump)
        self.run_on("allocate", "second", "--address", lost, exits=(1,))
        refused = self.world.addrflow("provision", "second", "--tenant", self.tenant)
        self.assertEqual(refused.exit, 1, repr(refused))
        self.assertIn("restored", refused.text + refused.error)
        named = {(v["subscriber"], v["system"]) for v in self.world.addrflow("audit").json["violations"]}
        self.assertIn(("lost", "aaa"), named)
        if not self.world.netbox_is_real:
            self.assertIn("netbox", {system for _, system in named})

        done = self.world.must("ledger", "reconcile-after-restore", "--actor", "test").json
        self.assertGreaterEqual(int(done["spaces blocked"]), 1)
        self.run_on("allocate", "second", "--address", lost, exits=(1,))
        other = self.provision("second")["context"]["ipv4_address"]
        self.assertNotEqual(other, lost)
        # What was lost is ordered again, and gets another address; then AAA agrees.
        again = self.provision("lost", exits=(0, 4))["context"]["ipv4_address"]
        self.assertNotIn(again, (lost, other))
        for item in self.world.netbox_addresses(lost):
            self.world.netbox_delete(item["id"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--dir", default="")
    ARGUMENTS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
