#!/usr/bin/env python3
"""The stand-in answers as NetBox did: each recorded exchange is sent to it, its status and shape must be the same."""

import http.client
import json
import pathlib
import sys
import threading
import unittest
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import standin  # noqa: E402

V2 = "nbt_key.secret"


def recorded(name):
    return json.loads((HERE / "contract" / f"{name}.json").read_text())


def missing_from(want, got, where="body"):
    """What the recording has and the answer has not. Recordings may be cut, so more is no fault."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{where}: not an object"]
        lines = [f"{where}.{key}: missing" for key in want if key not in got]
        for key in want:
            if key in got:
                lines += missing_from(want[key], got[key], f"{where}.{key}")
        return lines
    if isinstance(want, list):
        if not isinstance(got, list):
            return [f"{where}: not a list"]
        return missing_from(want[0], got[0], where + "[0]") if want and got else []
    # null stands for "none at that moment"
    if want is None or got is None or type(want) is type(got):
        return []
    return [f"{where}: {type(got).__name__} for {type(want).__name__}"]


class Contract(unittest.TestCase):
    def setUp(self):
        self.server = standin.start(tokens=[standin.DEFAULT_TOKEN, V2])
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def ask(self, method, path, body=None, headers=None, token=V2):
        address = urllib.parse.urlsplit(self.server.world.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        all_headers = {"Accept": "application/json", "Authorization": f"Bearer {token}", **(headers or {})}
        raw = body if isinstance(body, str) else None if body is None else json.dumps(body)
        if raw is not None:
            all_headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, raw, {k: v for k, v in all_headers.items() if v is not None})
        answer = connection.getresponse()
        text = answer.read().decode()
        kind = answer.headers.get("Content-Type", "")
        connection.close()
        return answer.status, answer.headers, json.loads(text) if kind.startswith("application/json") else text

    def replay(self, name, path=None, authorization=f"Bearer {V2}", headers=None, but=()):
        want = recorded(name)
        request = want["request"]
        given = dict(request["headers"])
        if "Authorization" in given:
            given["Authorization"] = authorization
        else:
            given["Authorization"] = None
        status, got_headers, got = self.ask(request["method"], path or request["path"], request["body"],
                                            {**given, **(headers or {})})
        response = want["response"]
        self.assertEqual(status, response["status"], f"{name}: {got}")
        for header in ("etag", "location", "api-version"):
            if header in response["headers"]:
                self.assertIn(header, got_headers, name)
        kind = response["headers"].get("content-type", "")
        self.assertEqual(got_headers.get("Content-Type", ""), kind, name)
        if kind == "application/json":
            expected = response["body"]
            if isinstance(expected, dict):
                expected = {key: value for key, value in expected.items() if key not in but}
            self.assertEqual(missing_from(expected, got), [], name)
            if status >= 400:
                self.assertEqual(got, response["body"], name)
        return got

    def fields(self):
        for name in ("cf-create-text", "cf-create-subscriber", "choiceset-create", "cf-create-select",
                     "cf-create-integer", "cf-create-datetime"):
            self.replay(name)

    def test_status_and_tokens(self):
        got = self.replay("status", but={"installed_apps"})
        self.assertIn("STAND-IN", got["stand-in"])
        self.replay("status-anonymous")
        self.replay("auth-none")
        self.replay("auth-bad-v1", authorization="Token " + "0" * 40)
        self.replay("auth-bad-v2", authorization="Bearer nbt_other.secret")
        self.replay("auth-bad-v2-form", authorization="Bearer " + "0" * 40)
        self.replay("status", but={"installed_apps"}, authorization=f"Token {standin.DEFAULT_TOKEN}")

    def test_custom_fields(self):
        self.fields()
        self.replay("cf-create-duplicate")
        self.replay("cf-create-badname")
        self.replay("cf-unique-definition")

    def test_a_specific_address(self):
        self.fields()
        self.replay("ip-create-specific")
        self.replay("ip-create-specific-exists")
        self.replay("ip-create-specific-exists-othermask")
        self.replay("vrf-create")
        self.replay("ip-create-invrf")
        self.replay("ip-create-invrf-dup")
        self.assertEqual(self.replay("filter-address")["count"], 2)

    def test_errors(self):
        for name in ("err-404-object", "err-404-path", "err-405", "err-bad-address", "err-bad-filter",
                     "err-bad-filter-id", "err-malformed-json", "err-no-address", "err-noslash-get",
                     "err-wrong-content-type", "err-406"):
            self.replay(name)

    def test_keys_and_their_traps(self):
        self.fields()
        body = {"address": "198.51.100.1/32", "status": "reserved", "custom_fields": {"idempotency_key": "wf-1001-1"}}
        self.assertEqual(self.ask("POST", "/api/ipam/ip-addresses/", body)[0], 201)
        self.replay("lookup-by-cf")
        self.replay("lookup-by-cf-miss")
        # A field that is not there filters nothing.
        self.assertEqual(self.replay("lookup-by-cf-unknown-field")["count"], 1)
        self.replay("filter-unknown-ignored")
        again = {**body, "address": "198.51.100.2/32"}
        status, _, got = self.ask("POST", "/api/ipam/ip-addresses/", again)
        self.assertEqual((status, got), (400, recorded("available-ips-post-duplicate-key")["response"]["body"]))

    def test_change_and_release(self):
        self.fields()
        _, headers, made = self.ask("POST", "/api/ipam/ip-addresses/", {"address": "203.0.113.5/30"})
        path = f"/api/ipam/ip-addresses/{made['id']}/"
        self.replay("ip-patch", path)
        self.replay("ip-patch-ifmatch-stale", path, headers={"If-Match": headers["ETag"]})
        self.replay("ip-delete-ifmatch-stale", path, headers={"If-Match": headers["ETag"]})
        self.replay("ip-release-delete", path)
        self.replay("ip-release-delete-again", path)
        self.replay("ip-patch-404", path)

    def test_available_ips(self):
        _, _, pool = self.ask("POST", "/api/ipam/prefixes/", {"prefix": "198.51.100.0/30", "is_pool": True})
        path = f"/api/ipam/prefixes/{pool['id']}/available-ips/"
        self.replay("available-ips-get", path + "?limit=3")
        taken = [self.ask("POST", path, {"status": "reserved"}) for _ in range(4)]
        self.assertEqual([t[2]["address"] for t in taken], [f"198.51.100.{n}/30" for n in range(4)])
        self.assertNotIn("ETag", taken[0][1])
        self.replay("available-ips-exhausted", path)

    def test_pages(self):
        for number in range(5):
            self.ask("POST", "/api/ipam/ip-addresses/", {"address": f"192.0.2.{number}/32"})
        got = self.replay("page-first")
        self.assertEqual([r["address"] for r in got["results"]], ["192.0.2.0/32", "192.0.2.1/32"])
        self.replay("page-second")

    def test_lists(self):
        self.fields()
        made = self.replay("bulk-create")
        ids = [one["id"] for one in made]
        path = "/api/ipam/ip-addresses/"

        def listed(name, wanted):
            want = recorded(name)
            body = [{**one, "id": number} for one, number in zip(want["request"]["body"], wanted)]
            status, _, got = self.ask(want["request"]["method"], path, body)
            self.assertEqual(status, want["response"]["status"], name)
            return got
        self.replay("bulk-create-one-bad")
        self.assertEqual(self.ask("GET", path)[2]["count"], 2)
        self.assertEqual(len(listed("bulk-patch", ids)), 2)
        self.assertEqual(len(listed("bulk-patch-missing-id", [ids[0], 99999999])), 1)
        listed("bulk-delete", ids)
        listed("bulk-delete-missing", ids)
        self.assertEqual(self.ask("GET", path)[2]["count"], 0)
        self.replay("cf-unique-bulk")

    def test_prefixes(self):
        self.fields()
        _, _, pool = self.ask("POST", "/api/ipam/prefixes/", {"prefix": "2001:db8::/40", "status": "container"})
        path = f"/api/ipam/prefixes/{pool['id']}/available-prefixes/"
        self.replay("available-prefixes-get", path)
        for name in ("available-prefixes-post-nolength", "available-prefixes-post-toobig",
                     "available-prefixes-post-toosmall"):
            self.replay(name, path)
        body = {"prefix_length": 56, "status": "reserved", "custom_fields": {"idempotency_key": "wf-1001-pd"}}
        status, headers, made = self.ask("POST", path, body)
        self.assertEqual((status, made["prefix"]), (201, "2001:db8::/56"))
        self.assertNotIn("ETag", headers)
        status, _, got = self.ask("POST", path, body)
        self.assertEqual((status, got), (400, recorded("available-prefixes-post-duplicate-key")["response"]["body"]))
        self.assertEqual([one["prefix"] for one in self.replay("prefix6-post-array", path)],
                         ["2001:db8:0:100::/56", "2001:db8:0:200::/60"])
        self.replay("prefix6-create-specific")
        self.replay("prefix6-create-specific-exists")
        self.replay("prefix-create-hostbits")

    def test_ranges_and_tags(self):
        self.replay("ip-range-create")
        self.replay("ip-range-overlap")
        self.replay("tag-create")

    def test_two_create_the_same_prefix_at_once(self):
        self.ask("POST", "/standin/faults", {"kind": "race", "method": "POST", "path": "prefixes"})
        self.assertEqual(self.ask("POST", "/api/ipam/prefixes/", {"prefix": "2001:db8::/56"})[0], 201)
        self.assertEqual(self.ask("GET", "/api/ipam/prefixes/?prefix=2001:db8::/56")[2]["count"], 2)

    def test_as_4_4(self):
        world = self.server.world
        world.api_version, world.version = "4.4", standin.VERSIONS["4.4"]
        v1 = f"Token {standin.DEFAULT_TOKEN}"
        self.replay("v44-status", authorization=v1, but={"installed_apps"})
        self.replay("v44-auth-bad", authorization="Token " + "0" * 40)
        self.replay("v44-auth-bearer")
        v1 = {"Authorization": v1}
        _, headers, made = self.ask("POST", "/api/ipam/ip-addresses/", {"address": "203.0.113.5/30"}, v1)
        self.assertNotIn("ETag", headers)
        # If-Match is not known yet: the write is applied.
        status, _, _ = self.ask("PATCH", f"/api/ipam/ip-addresses/{made['id']}/", {"description": "x"},
                                {**v1, "If-Match": "W/\"stale\""})
        self.assertEqual(status, recorded("v44-ip-patch-ifmatch")["response"]["status"])
        self.picks_as_4_4(v1)

    def picks_as_4_4(self, v1):
        for name in ("cf-create-text", "tag-create"):
            want = recorded(name)["request"]
            self.assertEqual(self.ask("POST", want["path"], want["body"], v1)[0], 201)
        v1 = v1["Authorization"]
        _, _, pool = self.ask("POST", "/api/ipam/prefixes/", {"prefix": "198.51.100.0/29", "is_pool": True},
                              {"Authorization": v1})
        path = f"/api/ipam/prefixes/{pool['id']}/available-ips/"
        self.assertEqual(self.replay("v44-available-ips-post", path, v1)["address"], "198.51.100.0/29")
        self.replay("v44-available-ips-post-duplicate-key", path, v1)
        self.replay("v44-exhausted", path, v1)
        self.replay("v44-prefix-duplicate", authorization=v1)
        _, _, pool = self.ask("POST", "/api/ipam/prefixes/", {"prefix": "2001:db8::/40"}, {"Authorization": v1})
        path = f"/api/ipam/prefixes/{pool['id']}/available-prefixes/"
        self.assertEqual(self.replay("v44-available-prefixes-post", path, v1)["prefix"], "2001:db8::/56")
        self.replay("v44-page-start", authorization=v1)

    def test_a_fault_comes_as_often_as_it_was_ordered(self):
        self.ask("POST", "/standin/faults", {"kind": "500", "count": 1, "method": "GET"})
        status, _, got = self.ask("GET", "/api/status/")
        self.assertEqual(status, 500)
        self.assertEqual(set(got), set(recorded("db-down-get")["response"]["body"]))
        self.assertEqual(self.ask("GET", "/api/status/")[0], 200)

    def test_dropped_after_it_was_done(self):
        self.ask("POST", "/standin/faults", {"kind": "drop", "method": "POST", "path": "ip-addresses"})
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.ask("POST", "/api/ipam/ip-addresses/", {"address": "192.0.2.1/32"})
        self.assertEqual(self.ask("GET", "/api/ipam/ip-addresses/")[2]["count"], 1)


if __name__ == "__main__":
    unittest.main()
