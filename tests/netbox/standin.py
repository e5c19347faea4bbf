#!/usr/bin/env python3
"""A STAND-IN for NetBox: answers as NetBox 4.6.8 was recorded to answer (contract/), for the endpoints addrflow uses.

It is a test peer and says so: in its banner, its Server header and in /api/status/. It keeps everything in memory, and
in a file where one is named. Faults are ordered over /standin/faults:

    POST /standin/faults {"kind": "500", "count": 2, "method": "POST", "path": "ip-addresses", "delay_s": 0}
    GET  /standin/faults        what is still ordered
    DELETE /standin/faults      nothing more
    GET  /standin/requests      the last requests, oldest first: {method, path, status, fault}

Kinds: "500" (JSON, nothing done), "500-html", "503" (a proxy's HTML, nothing done), "403", "drop-before" (connection
closed, nothing done), "drop" (done, then closed without an answer), "late" (done, answered after delay_s).
"""

import argparse
import collections
import datetime
import http.server
import ipaddress
import json
import os
import pathlib
import re
import signal
import sys
import threading
import time
import urllib.parse
import uuid

NAME = "NetBox STAND-IN (addrflow test peer)"
VERSION = "4.6.8"
DEFAULT_TOKEN = "0123456789abcdef0123456789abcdef01234567"
MAX_PAGE = 1000
HTML = "<!doctype html><html><body><h1>%s</h1></body></html>"
LABELS = {"active": "Active", "reserved": "Reserved", "deprecated": "Deprecated", "dhcp": "DHCP", "slaac": "SLAAC",
          "container": "Container"}
IP_STATUS = ("active", "reserved", "deprecated", "dhcp", "slaac")
PREFIX_STATUS = ("container", "active", "reserved", "deprecated")
CF_TYPES = {"text": ("Text", "string"), "integer": ("Integer", "integer"), "datetime": ("Date & time", "datetime"),
            "select": ("Selection", "string"), "boolean": ("Boolean (true/false)", "boolean")}
COLLECTIONS = {"ipam/ip-addresses": "ip", "ipam/prefixes": "prefix", "ipam/vrfs": "vrf",
               "extras/custom-fields": "cf", "extras/custom-field-choice-sets": "choices"}
MODEL = {"ip": "IPAddress", "prefix": "Prefix", "vrf": "VRF", "cf": "CustomField", "choices": "CustomFieldChoiceSet"}
OBJECT_TYPE = {"ip": "ipam.ipaddress", "prefix": "ipam.prefix"}


class Refused(Exception):
    """An answer that is not a success: status, body, content type."""

    def __init__(self, status, body, headers=None, html=False):
        super().__init__(status)
        self.status, self.body, self.headers, self.html = status, body, headers or {}, html


def host_of(address):
    return ipaddress.ip_interface(address).ip


class Store:
    """What NetBox holds. Every call runs under one lock, as NetBox's own writes of addresses do."""

    def __init__(self, state_file=None):
        self.state_file = state_file
        self.objects = {kind: {} for kind in MODEL}
        self.next_id = {kind: 1 for kind in MODEL}
        if state_file and state_file.exists():
            kept = json.loads(state_file.read_text())
            self.next_id.update(kept["next_id"])
            for kind, items in kept["objects"].items():
                self.objects[kind] = {int(number): item for number, item in items.items()}

    def save(self):
        if self.state_file:
            fresh = self.state_file.with_suffix(".new")
            fresh.write_text(json.dumps({"next_id": self.next_id, "objects": self.objects}))
            os.replace(fresh, self.state_file)

    @staticmethod
    def now():
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def find(self, kind, number):
        if number not in self.objects[kind]:
            raise Refused(404, {"detail": f"No {MODEL[kind]} matches the given query."})
        return self.objects[kind][number]

    def add(self, kind, item):
        item["id"] = self.next_id[kind]
        self.next_id[kind] += 1
        item["created"] = item["last_updated"] = self.now()
        self.objects[kind][item["id"]] = item
        self.save()
        return item

    def fields_of(self, kind):
        return {f["name"]: f for f in self.objects["cf"].values() if OBJECT_TYPE[kind] in f["object_types"]}

    def check_custom_fields(self, kind, wanted, number=None):
        known = self.fields_of(kind)
        for name, value in wanted.items():
            if name not in known:
                raise Refused(400, {"custom_fields": {name: f"Custom field '{name}' does not exist for this object "
                                                            "type."}})
            field = known[name]
            if value is None:
                continue
            wrong = f"Invalid value for custom field '{name}': "
            if field["type"] == "integer" and not isinstance(value, int):
                raise Refused(400, {"__all__": [wrong + "Value must be an integer."]})
            if field["type"] == "text" and not isinstance(value, str):
                raise Refused(400, {"__all__": [wrong + "Value must be a string."]})
            if field["type"] == "select":
                choices = self.objects["choices"][field["choice_set"]]
                if value not in [choice[0] for choice in choices["extra_choices"]]:
                    raise Refused(400, {"__all__": [wrong + f"Invalid choice ({value}) for choice set "
                                                            f"{choices['name']}."]})
            if field["unique"] and value != "":
                for other in self.objects[kind].values():
                    if other["id"] != number and other["custom_fields"].get(name) == value:
                        raise Refused(400, {"__all__": [f"Custom field '{name}' must have a unique value."]})

    def vrf_of(self, wanted):
        if wanted is None:
            return None
        if isinstance(wanted, int):
            wanted = {"id": wanted}
        for vrf in self.objects["vrf"].values():
            if wanted and all(vrf.get(key) == value for key, value in wanted.items()):
                return vrf["id"]
        if set(wanted) == {"id"}:
            raise Refused(400, {"vrf": [f"Related object not found using the provided numeric ID: {wanted['id']}"]})
        raise Refused(400, {"vrf": [f"Related object not found using the provided attributes: {wanted}"]})

    def check_duplicate(self, address, vrf, number=None):
        if vrf is not None and not self.objects["vrf"][vrf]["enforce_unique"]:
            return
        for other in self.objects["ip"].values():
            if other["id"] != number and other["vrf"] == vrf and host_of(other["address"]) == host_of(address):
                where = "global table"
                if vrf is not None:
                    found = self.objects["vrf"][vrf]
                    where = f"VRF {found['name']}" + (f" ({found['rd']})" if found["rd"] else "")
                raise Refused(400, {"address": [f"Duplicate IP address found in {where}: {other['address']}"]})

    # --- writes ------------------------------------------------------------------------------------------------------

    def plain_fields(self, kind, body, item):
        """What addresses and prefixes have in common. Unknown fields are ignored, as NetBox does."""
        statuses = IP_STATUS if kind == "ip" else PREFIX_STATUS
        if "status" in body:
            if body["status"] not in statuses:
                raise Refused(400, {"status": [f"{body['status']} is not a valid choice."]})
            item["status"] = body["status"]
        if len(body.get("description", "")) > 200:
            raise Refused(400, {"description": ["Ensure this field has no more than 200 characters."]})
        if not re.fullmatch(r"[0-9A-Za-z.*_-]*", body.get("dns_name", "")):
            raise Refused(400, {"dns_name": ["Only alphanumeric characters, asterisks, hyphens, periods, and "
                                             "underscores are allowed in DNS names"]})
        for name in ("tenant", "tags", "role"):
            # None of these can be made here, so every mention is of something unknown.
            for wanted in [w for w in (body.get(name) if name == "tags" else [body.get(name)]) or [] if w]:
                raise Refused(400, {name: [f"Related object not found using the provided attributes: {wanted}"]})
        for name in ("description", "comments", "dns_name", "is_pool", "mark_utilized"):
            if name in body and (name in item or kind == "prefix"):
                item[name] = body[name]
        if "vrf" in body:
            item["vrf"] = self.vrf_of(body["vrf"])

    def create_ip(self, body):
        if "address" not in body:
            raise Refused(400, {"address": ["This field is required."]})
        try:
            address = str(ipaddress.ip_interface(body["address"]))
        except ValueError:
            raise Refused(400, {"address": [f"Invalid IP address format: {body['address']}"]}) from None
        item = {"address": address, "vrf": None, "status": "active", "dns_name": "", "description": "", "comments": "",
                "custom_fields": {}}
        self.plain_fields("ip", body, item)
        self.check_custom_fields("ip", body.get("custom_fields", {}))
        self.check_duplicate(address, item["vrf"])
        item["custom_fields"] = dict(body.get("custom_fields", {}))
        return self.add("ip", item)

    def create_prefix(self, body):
        try:
            prefix = str(ipaddress.ip_network(body["prefix"]))
        except KeyError:
            raise Refused(400, {"prefix": ["This field is required."]}) from None
        except ValueError:
            raise Refused(400, {"prefix": [f"Invalid IP prefix: {body['prefix']}"]}) from None
        item = {"prefix": prefix, "vrf": None, "status": "active", "is_pool": False, "mark_utilized": False,
                "description": "", "comments": "", "custom_fields": {}}
        self.plain_fields("prefix", body, item)
        self.check_custom_fields("prefix", body.get("custom_fields", {}))
        item["custom_fields"] = dict(body.get("custom_fields", {}))
        return self.add("prefix", item)

    def create_vrf(self, body):
        if not body.get("name"):
            raise Refused(400, {"name": ["This field is required."]})
        return self.add("vrf", {"name": body["name"], "rd": body.get("rd"), "description": body.get("description", ""),
                                "enforce_unique": body.get("enforce_unique", True)})

    def create_cf(self, body):
        name = body.get("name", "")
        if not re.fullmatch(r"\w+", name):
            raise Refused(400, {"name": ["Only alphanumeric characters and underscores are allowed."]})
        if any(f["name"] == name for f in self.objects["cf"].values()):
            raise Refused(400, {"name": ["custom field with this name already exists."]})
        if body.get("type") not in CF_TYPES:
            raise Refused(400, {"type": [f"{body.get('type')} is not a valid choice."]})
        if body["type"] == "select" and body.get("choice_set") not in self.objects["choices"]:
            raise Refused(400, {"__all__": ["Selection fields must specify a set of choices."]})
        return self.add("cf", {
            # NetBox answers them in its own order, not in the sender's.
            "object_types": sorted(body.get("object_types", []), reverse=True), "type": body["type"], "name": name,
            "label": body.get("label", ""), "description": body.get("description", ""),
            "required": body.get("required", False), "unique": body.get("unique", False),
            "filter_logic": body.get("filter_logic", "loose"), "ui_visible": body.get("ui_visible", "always"),
            "ui_editable": body.get("ui_editable", "yes"), "choice_set": body.get("choice_set")})

    def create_choices(self, body):
        if any(c["name"] == body.get("name") for c in self.objects["choices"].values()):
            raise Refused(400, {"name": ["custom field choice set with this name already exists."]})
        if not body.get("name"):
            raise Refused(400, {"name": ["This field is required."]})
        return self.add("choices", {"name": body["name"], "description": body.get("description", ""),
                                    "extra_choices": body.get("extra_choices", [])})

    def patch(self, kind, number, body):
        item = self.find(kind, number)
        fresh = json.loads(json.dumps(item))
        if kind in OBJECT_TYPE:
            self.plain_fields(kind, body, fresh)
            if kind == "ip" and "address" in body:
                fresh["address"] = str(ipaddress.ip_interface(body["address"]))
            if kind == "ip" and {"address", "vrf"} & set(body):
                self.check_duplicate(fresh["address"], fresh["vrf"], number)
            self.check_custom_fields(kind, body.get("custom_fields", {}), number)
            fresh["custom_fields"].update(body.get("custom_fields", {}))
        else:
            fresh.update({name: value for name, value in body.items() if name in fresh and name != "id"})
        fresh["last_updated"] = self.now()
        self.objects[kind][number] = fresh
        self.save()
        return fresh

    def delete(self, kind, number):
        self.find(kind, number)
        del self.objects[kind][number]
        self.save()

    def free_addresses(self, number):
        pool = self.find("prefix", number)
        network = ipaddress.ip_network(pool["prefix"])
        taken = {host_of(ip["address"]) for ip in self.objects["ip"].values() if ip["vrf"] == pool["vrf"]}
        ends = set()
        if not pool["is_pool"] and network.prefixlen < network.max_prefixlen - 1:
            ends = {network.network_address} | ({network.broadcast_address} if network.version == 4 else set())
        for offset in range(min(network.num_addresses, 1 << 20)):
            address = network.network_address + offset
            if address not in taken and address not in ends:
                yield address, network, pool["vrf"]

    def take_free(self, number, body):
        wanted = body if isinstance(body, list) else [body]
        free = self.free_addresses(number)
        made = []
        try:
            for one in wanted:
                found = next(free, None)
                if found is None:
                    raise Refused(409, {"detail": "Insufficient resources are available to satisfy the request"})
                address, network, vrf = found
                length = one.get("prefix_length", network.prefixlen)
                made.append(self.create_ip({**one, "address": f"{address}/{length}", "vrf": vrf}))
        except Refused:
            for item in made:  # a list is all or nothing
                self.delete("ip", item["id"])
            raise
        return made if isinstance(body, list) else made[0]


class View:
    """The store's items as NetBox writes them."""

    def __init__(self, store, base):
        self.store, self.base = store, base

    def shown(self, kind, item):
        path = next(path for path, known in COLLECTIONS.items() if known == kind)
        head = {"id": item["id"], "url": f"{self.base}/api/{path}/{item['id']}/",
                "display_url": f"{self.base}/{path}/{item['id']}/"}
        return {**head, **getattr(self, kind)(item), "created": item["created"], "last_updated": item["last_updated"]}

    def vrf_brief(self, number):
        if number is None:
            return None
        vrf = self.store.objects["vrf"][number]
        return {"id": number, "url": f"{self.base}/api/ipam/vrfs/{number}/", "display": self.vrf_display(vrf),
                "name": vrf["name"], "rd": vrf["rd"], "description": vrf["description"]}

    @staticmethod
    def vrf_display(vrf):
        return f"{vrf['name']} ({vrf['rd']})" if vrf["rd"] else vrf["name"]

    def custom(self, kind, item):
        return {name: item["custom_fields"].get(name) for name in sorted(self.store.fields_of(kind))}

    @staticmethod
    def family(text):
        version = ipaddress.ip_interface(text).version
        return {"value": version, "label": f"IPv{version}"}

    @staticmethod
    def status(item):
        return {"value": item["status"], "label": LABELS[item["status"]]}

    def ip(self, item):
        return {"display": item["address"], "family": self.family(item["address"]), "address": item["address"],
                "vrf": self.vrf_brief(item["vrf"]), "tenant": None, "status": self.status(item), "role": None,
                "assigned_object_type": None, "assigned_object_id": None, "assigned_object": None, "nat_inside": None,
                "nat_outside": [], "dns_name": item["dns_name"], "description": item["description"], "owner": None,
                "comments": item["comments"], "tags": [], "custom_fields": self.custom("ip", item)}

    def prefix(self, item):
        return {"display": item["prefix"], "family": self.family(item["prefix"]), "prefix": item["prefix"],
                "vrf": self.vrf_brief(item["vrf"]), "scope_type": None, "scope_id": None, "scope": None,
                "tenant": None, "vlan": None, "status": self.status(item), "role": None, "is_pool": item["is_pool"],
                "mark_utilized": item["mark_utilized"], "description": item["description"], "owner": None,
                "comments": item["comments"], "tags": [], "custom_fields": self.custom("prefix", item),
                "children": 0, "_depth": 0}

    def vrf(self, item):
        return {"display": self.vrf_display(item), "name": item["name"], "rd": item["rd"], "tenant": None,
                "enforce_unique": item["enforce_unique"], "description": item["description"], "owner": None,
                "comments": "", "import_targets": [], "export_targets": [], "tags": [], "custom_fields": {},
                "ipaddress_count": 0, "prefix_count": 0}

    def cf(self, item):
        label, data_type = CF_TYPES[item["type"]]
        choices = None
        if item["choice_set"] is not None:
            found = self.store.objects["choices"][item["choice_set"]]
            choices = {"id": found["id"], "url": f"{self.base}/api/extras/custom-field-choice-sets/{found['id']}/",
                       "display": found["name"], "name": found["name"], "description": found["description"],
                       "choices_count": len(found["extra_choices"])}

        def choice(name):
            return {"value": item[name], "label": item[name].capitalize()}
        return {"display": item["label"] or item["name"].replace("_", " ").capitalize(),
                "object_types": item["object_types"], "type": {"value": item["type"], "label": label},
                "related_object_type": None, "data_type": data_type, "name": item["name"], "label": item["label"],
                "group_name": "", "description": item["description"], "required": item["required"],
                "unique": item["unique"], "search_weight": 1000, "filter_logic": choice("filter_logic"),
                "ui_visible": choice("ui_visible"), "ui_editable": choice("ui_editable"), "is_cloneable": False,
                "default": None, "related_object_filter": None, "weight": 100, "validation_minimum": None,
                "validation_maximum": None, "validation_regex": "", "validation_schema": None, "choice_set": choices,
                "owner": None, "comments": ""}

    def choices(self, item):
        return {"display": item["name"], "name": item["name"], "description": item["description"],
                "base_choices": None, "extra_choices": item["extra_choices"], "choice_colors": {},
                "order_alphabetically": False, "choices_count": len(item["extra_choices"]), "owner": None}


BRIEF = {"ip": ("id", "url", "display", "family", "address", "description"),
         "prefix": ("id", "url", "display", "family", "prefix", "description", "_depth"),
         "vrf": ("id", "url", "display", "name", "rd", "description"),
         "cf": ("id", "url", "display", "name", "description"),
         "choices": ("id", "url", "display", "name", "description", "choices_count")}


def matches(store, kind, item, name, values):
    """One query parameter. A name NetBox does not know filters nothing: that is its trap, kept here."""
    if name.startswith("cf_") and kind in OBJECT_TYPE:
        field_name, _, look_up = name[3:].partition("__")
        field = store.fields_of(kind).get(field_name)
        if field is None:
            return True
        value = item["custom_fields"].get(field_name)
        if look_up == "empty":
            return (value in (None, "")) == (values[-1] == "true")
        if field["filter_logic"] == "loose":
            return any(wanted.lower() in str(value or "").lower() for wanted in values)
        return str(value) in values
    if name == "id":
        if not all(value.isdigit() for value in values):
            raise Refused(400, {"id": ["Enter a whole number."]})
        return str(item["id"]) in values
    if name == "status" and "status" in item:
        known = IP_STATUS if kind == "ip" else PREFIX_STATUS
        for value in values:
            if value not in known:
                raise Refused(400, {"status": [f"Select a valid choice. {value} is not one of the available "
                                               "choices."]})
        return item["status"] in values
    if name == "address" and kind == "ip":
        # Without a mask every mask matches.
        return any(item["address"] == value if "/" in value else str(host_of(item["address"])) == value
                   for value in values)
    if name == "parent" and kind == "ip":
        return any(host_of(item["address"]) in ipaddress.ip_network(value) for value in values)
    if name == "vrf_id" and "vrf" in item:
        return str(item["vrf"]) in values or (item["vrf"] is None and "null" in values)
    if name in ("name", "prefix") and name in item:
        return item[name] in values
    return True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "netbox-stand-in"
    sys_version = ""
    timeout = 2  # gunicorn's keep-alive

    def log_message(self, format, *args):  # noqa: A002  (the base class's name)
        return

    def do_GET(self):
        self.serve()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = do_GET

    def serve(self):
        world = self.server.world
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        parts = urllib.parse.urlsplit(self.path)
        if parts.path.startswith("/standin/"):
            self.control(parts.path, raw)
            return
        fault = world.next_fault(self.command, parts.path)
        kind = fault["kind"] if fault else None
        status, headers, body, html = self.faulty(kind) or self.answer(parts, raw)
        world.requests.append({"method": self.command, "path": self.path, "status": status, "fault": kind})
        if kind in ("drop", "drop-before"):
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if kind == "late":
            time.sleep(fault.get("delay_s", 5))
        self.write(status, headers, body, html)

    @staticmethod
    def faulty(kind):
        if kind == "500":
            return 500, {}, {"error": "connection failed: Connection refused", "exception": "OperationalError",
                             "netbox_version": VERSION, "python_version": "3.12.1"}, False
        if kind == "500-html":
            return 500, {}, HTML % "Server Error", True
        if kind == "503":
            return 503, {"Retry-After": "1"}, HTML % "503 Service Temporarily Unavailable", True
        if kind == "403":
            return 403, {}, {"detail": "Invalid v1 token"}, False
        if kind == "drop-before":
            return 0, {}, None, False
        return None

    def write(self, status, headers, body, html=False):
        data = b"" if body is None else (body if html else json.dumps(body)).encode()
        try:
            self.send_response(status)
            if body is not None:
                self.send_header("Content-Type", "text/html; charset=utf-8" if html else "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def control(self, path, raw):
        world = self.server.world
        if path == "/standin/requests":
            self.write(200, {}, list(world.requests))
        elif path == "/standin/faults" and self.command == "POST":
            world.add_fault(json.loads(raw))
            self.write(201, {}, world.faults)
        elif path == "/standin/faults" and self.command == "DELETE":
            world.clear_faults()
            self.write(204, {}, None)
        else:
            self.write(200, {}, world.faults)

    # --- NetBox ------------------------------------------------------------------------------------------------------

    def answer(self, parts, raw):
        headers = {"API-Version": "4.6", "X-Request-ID": str(uuid.uuid4())}
        try:
            with self.server.world.lock:
                status, more, body = self.route(parts, raw)
            return status, {**headers, **more}, body, False
        except Refused as refused:
            return refused.status, {**headers, **refused.headers}, refused.body, refused.html

    def authenticate(self):
        given = self.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        tokens = self.server.world.tokens
        if scheme == "Bearer" and token.startswith("nbt_"):
            if token not in tokens:
                raise Refused(403, {"detail": "Invalid v2 token"})
        elif scheme in ("Token", "Bearer"):
            if token not in tokens or scheme == "Bearer":
                raise Refused(403, {"detail": "Invalid v1 token"})
        else:
            raise Refused(403, {"detail": "Authentication credentials were not provided."})

    def route(self, parts, raw):
        if not parts.path.startswith("/api/"):
            raise Refused(404, HTML % "Page Not Found", html=True)
        if not parts.path.endswith("/"):
            if self.command == "GET":
                raise Refused(301, HTML % "Moved", {"Location": parts.path + "/"}, html=True)
            raise Refused(404, HTML % "Page Not Found", html=True)
        pieces = parts.path.removeprefix("/api/").strip("/").split("/")
        query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        if pieces == ["status"]:
            self.authenticate()
            return 200, {"Allow": "GET, HEAD, OPTIONS"}, self.status_body()
        if pieces == ["authentication-check"]:
            self.authenticate()
            return 200, {}, {"id": 2, "username": "svc"}
        kind = COLLECTIONS.get("/".join(pieces[:2]))
        available = kind == "prefix" and len(pieces) == 4 and pieces[3] == "available-ips"
        if kind is None or (len(pieces) > 3 and not available) or (len(pieces) > 2 and not pieces[2].isdigit()):
            raise Refused(404, HTML % "Page Not Found", html=True)
        self.authenticate()
        if "application/json" not in self.headers.get("Accept", "*/*") and "*/*" not in self.headers.get("Accept", "*/*"):
            raise Refused(406, {"detail": "Could not satisfy the request Accept header."})
        body = self.parsed(raw) if self.command in ("POST", "PATCH", "PUT") else None
        if available:
            return self.available(int(pieces[2]), body, query)
        if len(pieces) == 2:
            return self.collection(kind, body, query)
        return self.single(kind, int(pieces[2]), body, query)

    def parsed(self, raw):
        kind = self.headers.get("Content-Type", "")
        if kind.split(";")[0] != "application/json":
            raise Refused(415, {"detail": f"Unsupported media type \"{kind}\" in request."})
        try:
            return json.loads(raw or b"{}")
        except ValueError as error:
            raise Refused(400, {"detail": f"JSON parse error - {error}"}) from None

    def status_body(self):
        return {"django-version": "6.0.8", "hostname": "stand-in", "installed_apps": {}, "netbox-version": VERSION,
                "netbox-full-version": VERSION, "plugins": {}, "python-version": "3.12.1", "rq-workers-running": 1,
                "stand-in": NAME}

    @property
    def view(self):
        return View(self.server.world.store, self.server.world.url)

    def not_allowed(self, allow):
        raise Refused(405, {"detail": f"Method \"{self.command}\" not allowed."}, {"Allow": allow})

    @staticmethod
    def etag(item):
        return "W/\"%s\"" % item["last_updated"].replace("Z", "+00:00")

    def collection(self, kind, body, query):
        world = self.server.world
        allow = {"Allow": "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"}
        if self.command == "GET":
            return 200, allow, self.page(kind, query)
        if self.command != "POST":
            self.not_allowed(allow["Allow"])
        create = getattr(world.store, "create_" + kind)
        if isinstance(body, list):
            made, problems = [], []
            for one in body:
                try:
                    made.append(create(one))
                    problems.append({})
                except Refused as refused:
                    problems.append(refused.body)
            if any(problems):
                for item in made:
                    world.store.delete(kind, item["id"])
                raise Refused(400, problems)
            return 201, allow, [self.view.shown(kind, item) for item in made]
        item = create(body)
        shown = self.view.shown(kind, item)
        return 201, {**allow, "ETag": self.etag(item), "Location": shown["url"]}, shown

    def page(self, kind, query):
        store = self.server.world.store
        paging = {"limit", "offset", "fields", "brief", "omit", "ordering", "start"}
        filters = {name: values for name, values in query.items() if name not in paging}
        for name in ("id", "status"):  # bad values are refused, also where nothing is stored
            if name in filters:
                matches(store, kind, {"id": 0, "status": ""}, name, filters[name])
        found = [item for _, item in sorted(store.objects[kind].items())
                 if all(matches(store, kind, item, name, values) for name, values in filters.items())]

        def number(name, default):
            text = query.get(name, [""])[-1]
            return int(text) if text.isdigit() else default
        limit = min(number("limit", 50) or MAX_PAGE, MAX_PAGE)
        offset = number("offset", 0)

        def link(at):
            path = urllib.parse.urlsplit(self.path).path
            changed = {**query, "limit": [str(limit)], "offset": [str(at)]}
            if at == 0:
                del changed["offset"]
            text = urllib.parse.urlencode(sorted(changed.items()), doseq=True)
            return f"{self.server.world.url}{path}?{text}"
        results = [self.trimmed(kind, self.view.shown(kind, item), query) for item in found[offset:offset + limit]]
        return {"count": len(found), "next": link(offset + limit) if offset + limit < len(found) else None,
                "previous": link(max(0, offset - limit)) if offset > 0 else None, "results": results}

    @staticmethod
    def trimmed(kind, shown, query):
        if query.get("brief", [""])[-1] == "true":
            return {name: shown[name] for name in BRIEF[kind]}
        if "fields" in query:
            wanted = query["fields"][-1].split(",")
            return {name: value for name, value in shown.items() if name in wanted}
        omit = query.get("omit", [""])[-1].split(",")
        return {name: value for name, value in shown.items() if name not in omit}

    def single(self, kind, number, body, query):
        store = self.server.world.store
        allow = {"Allow": "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"}
        if self.command not in ("GET", "PATCH", "DELETE"):
            self.not_allowed(allow["Allow"])
        item = store.find(kind, number)
        wanted = self.headers.get("If-Match")
        if self.command != "GET" and wanted and wanted != self.etag(item):
            raise Refused(412, {"detail": "Precondition failed."}, {"ETag": self.etag(item)})
        if self.command == "DELETE":
            store.delete(kind, number)
            return 204, allow, None
        if self.command == "PATCH":
            item = store.patch(kind, number, body)
        return 200, {**allow, "ETag": self.etag(item)}, self.trimmed(kind, self.view.shown(kind, item), query)

    def available(self, number, body, query):
        store = self.server.world.store
        allow = {"Allow": "GET, POST, HEAD, OPTIONS"}
        if self.command == "GET":
            limit = int(query.get("limit", ["50"])[-1])
            shown = []
            for address, network, vrf in store.free_addresses(number):
                if len(shown) == limit:
                    break
                shown.append({"family": network.version, "address": f"{address}/{network.prefixlen}",
                              "vrf": self.view.vrf_brief(vrf)})
            return 200, allow, shown
        if self.command != "POST":
            self.not_allowed(allow["Allow"])
        made = store.take_free(number, body)
        if isinstance(made, list):
            return 201, allow, [self.view.shown("ip", item) for item in made]
        return 201, allow, self.view.shown("ip", made)


class World:
    def __init__(self, state_file, tokens):
        self.store = Store(state_file)
        self.tokens = set(tokens)
        self.lock = threading.Lock()
        self.faults = []
        self.fault_lock = threading.Lock()
        self.requests = collections.deque(maxlen=1000)
        self.url = ""

    def add_fault(self, fault):
        with self.fault_lock:
            self.faults.append({"count": 1, **fault})

    def clear_faults(self):
        with self.fault_lock:
            self.faults.clear()

    def next_fault(self, method, path):
        with self.fault_lock:
            for fault in self.faults:
                if fault.get("method", method) == method and fault.get("path", "") in path:
                    fault["count"] -= 1
                    if fault["count"] <= 0:
                        self.faults.remove(fault)
                    return fault
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    world = None


def start(port=0, state_file=None, tokens=(DEFAULT_TOKEN,)):
    """A server that is bound and not yet serving."""
    server = Server(("127.0.0.1", port), Handler)
    server.world = World(state_file, tokens)
    server.world.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


def main():
    parser = argparse.ArgumentParser(description=NAME)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--url-file", type=pathlib.Path, help="where to write the address")
    parser.add_argument("--state-file", type=pathlib.Path, help="keep the state here")
    parser.add_argument("--token", action="append", help=f"accepted tokens, v1 or nbt_… (default {DEFAULT_TOKEN})")
    arguments = parser.parse_args()
    server = start(arguments.port, arguments.state_file, arguments.token or [DEFAULT_TOKEN])
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    if arguments.url_file:
        fresh = arguments.url_file.with_name(arguments.url_file.name + ".new")
        fresh.write_text(server.world.url + "\n")
        os.replace(fresh, arguments.url_file)
    print(f"{NAME}: ready at {server.world.url} (not a NetBox: a test peer)", flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
