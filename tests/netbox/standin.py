#!/usr/bin/env python3
"""A STAND-IN for NetBox: answers as NetBox 4.6.8 (or 4.4.10, --netbox 4.4) was recorded to answer (contract/), for the
endpoints addrflow uses.

It is a test peer and says so: in its banner, its Server header and in /api/status/. It keeps everything in memory, and
in a file where one is named. Faults are ordered over /standin/faults:

    POST /standin/faults {"kind": "500", "count": 2, "method": "POST", "path": "ip-addresses", "body": "", "delay_s": 0}
    GET  /standin/faults        what is still ordered
    DELETE /standin/faults      nothing more
    GET  /standin/requests      the last requests, oldest first: {method, path, status, fault}

Kinds: "500" (JSON, nothing done), "500-html", "503" (a proxy's HTML, nothing done), "403", "drop-before" (connection
closed, nothing done), "drop" (done, then closed without an answer), "late" (done, answered after delay_s), "race" (a
creation: somebody else creates the same at the same moment, and both are stored, as NetBox does with prefixes).
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
VERSIONS = {"4.6": "4.6.8", "4.4": "4.4.10"}
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
               "ipam/ip-ranges": "range", "extras/custom-fields": "cf", "extras/custom-field-choice-sets": "choices",
               "extras/tags": "tag"}
MODEL = {"ip": "IPAddress", "prefix": "Prefix", "vrf": "VRF", "cf": "CustomField", "choices": "CustomFieldChoiceSet",
         "range": "IPRange", "tag": "Tag"}
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
        self.listed_from = {}  # while a list body is worked on: ids from here on do not see each other's keys
        self.raced = False
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
                    if other["id"] >= self.listed_from.get(kind, self.next_id[kind]):
                        continue
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
        item.setdefault("tags", [])
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
        if "tags" in body:  # replaces, as NetBox does
            item["tags"] = [self.tag_of(wanted) for wanted in body["tags"]]
        for name in ("tenant", "role"):
            # None of these can be made here, so every mention is of something unknown.
            for wanted in [w for w in [body.get(name)] if w]:
                raise Refused(400, {name: [f"Related object not found using the provided attributes: {wanted}"]})
        for name in ("description", "comments", "dns_name", "is_pool", "mark_utilized"):
            if name in body and (name in item or kind == "prefix"):
                item[name] = body[name]
        if "vrf" in body:
            item["vrf"] = self.vrf_of(body["vrf"])

    def tag_of(self, wanted):
        for tag in self.objects["tag"].values():
            if all(tag.get(key) == value for key, value in wanted.items()):
                return tag["id"]
        raise Refused(400, {"tags": [f"Related object not found using the provided attributes: {wanted}"]})

    def create_tag(self, body):
        if not body.get("name"):
            raise Refused(400, {"name": ["This field is required."]})
        if any(t["slug"] == body.get("slug") for t in self.objects["tag"].values()):
            raise Refused(400, {"slug": ["tag with this slug already exists."]})
        return self.add("tag", {"name": body["name"], "slug": body.get("slug", ""),
                                "color": body.get("color", "9e9e9e"), "description": body.get("description", "")})

    def create_range(self, body):
        first, last = (ipaddress.ip_interface(body[name]) for name in ("start_address", "end_address"))
        item = {"start_address": str(first), "end_address": str(last), "vrf": None, "status": "active",
                "description": "", "comments": "", "custom_fields": {}, "mark_populated": False, "mark_utilized": False}
        self.plain_fields("range", body, item)
        item["mark_populated"] = body.get("mark_populated", False)
        for other in self.objects["range"].values():
            a, b = host_of(other["start_address"]), host_of(other["end_address"])
            if other["vrf"] == item["vrf"] and a <= last.ip and first.ip <= b:
                tail = str(b).rsplit(".", 1)[-1]
                length = other["start_address"].split("/")[1]
                raise Refused(400, {"__all__": [f"Defined addresses overlap with range {a}-{tail}/{length} in VRF "
                                                "None"]})
        return self.add("range", item)

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
            try:
                meant = ipaddress.ip_interface(body["prefix"]).network
            except ValueError:
                raise Refused(400, {"prefix": [f"Invalid IP prefix: {body['prefix']}"]}) from None
            raise Refused(400, {"prefix": [f"{body['prefix']} is not a valid prefix. Did you mean {meant}?"]}) from None
        item = {"prefix": prefix, "vrf": None, "status": "active", "is_pool": False, "mark_utilized": False,
                "description": "", "comments": "", "custom_fields": {}}
        self.plain_fields("prefix", body, item)
        self.check_custom_fields("prefix", body.get("custom_fields", {}))
        for other in self.objects["prefix"].values():
            if other["prefix"] == prefix and other["vrf"] == item["vrf"]:
                raise Refused(400, {"prefix": [f"Duplicate prefix found in global table: {prefix}"]})
        if self.raced:  # somebody else was checked at the same moment and stored first
            self.add("prefix", {**item, "description": "somebody else's", "custom_fields": {}})
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
        populated = [(host_of(r["start_address"]), host_of(r["end_address"])) for r in self.objects["range"].values()
                     if r["mark_populated"] and r["vrf"] == pool["vrf"]]
        for offset in range(min(network.num_addresses, 1 << 20)):
            address = network.network_address + offset
            if any(first <= address <= last for first, last in populated):
                continue
            if address not in taken and address not in ends:
                yield address, network, pool["vrf"]

    def take_free(self, number, body):
        free = self.free_addresses(number)

        def take(one):
            found = next(free, None)
            if found is None:
                raise Refused(409, {"detail": "Insufficient resources are available to satisfy the request"})
            address, network, vrf = found
            length = one.get("prefix_length", network.prefixlen)
            return self.create_ip({**one, "address": f"{address}/{length}", "vrf": vrf})
        return self.all_or_nothing("ip", body, take)

    def all_or_nothing(self, kind, body, take):
        made = []
        try:
            for one in body if isinstance(body, list) else [body]:
                made.append(take(one))
        except Refused:
            for item in made:  # a list is all or nothing
                self.delete(kind, item["id"])
            raise
        return made if isinstance(body, list) else made[0]

    def free_prefixes(self, number):
        """What no child prefix covers, as the fewest prefixes, lowest first."""
        pool = self.find("prefix", number)
        free = [ipaddress.ip_network(pool["prefix"])]
        children = [ipaddress.ip_network(p["prefix"]) for p in self.objects["prefix"].values()
                    if p["id"] != number and p["vrf"] == pool["vrf"]]
        for child in children:
            left = []
            for one in free:
                if one.version != child.version or not one.overlaps(child):
                    left.append(one)
                elif child != one and child.subnet_of(one):
                    left += one.address_exclude(child)
            free = left
        return pool, sorted(free)

    def take_free_prefix(self, number, body):
        for one in body if isinstance(body, list) else [body]:
            if "prefix_length" not in one:
                raise Refused(400, [{"prefix_length": "this field can not be missing"}])
            family = ipaddress.ip_network(self.find("prefix", number)["prefix"])
            if one["prefix_length"] > family.max_prefixlen:
                raise Refused(400, [{"prefix_length": f"Invalid prefix length ({one['prefix_length']}) for "
                                                      f"IPv{family.version}"}])

        def take(one):
            pool, free = self.free_prefixes(number)
            fitting = next((f for f in free if f.prefixlen <= one["prefix_length"]), None)
            if fitting is None:
                raise Refused(409, {"detail": "Insufficient resources are available to satisfy the request"})
            first = f"{fitting.network_address}/{one['prefix_length']}"
            return self.create_prefix({**one, "prefix": first, "vrf": pool["vrf"]})
        return self.all_or_nothing("prefix", body, take)


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

    def tags(self, item):
        tags = [(number, self.store.objects["tag"][number]) for number in item.get("tags", [])]
        return [{"id": number, "url": f"{self.base}/api/extras/tags/{number}/",
                 "display_url": f"{self.base}/extras/tags/{number}/", "display": tag["name"], "name": tag["name"],
                 "slug": tag["slug"], "color": tag["color"]} for number, tag in tags]

    def tag(self, item):
        return {"display": item["name"], "name": item["name"], "slug": item["slug"], "color": item["color"],
                "description": item["description"], "weight": 1000, "object_types": [], "tagged_items": 0}

    def range(self, item):
        first, last = host_of(item["start_address"]), host_of(item["end_address"])
        return {"display": item["start_address"], "family": self.family(item["start_address"]),
                "start_address": item["start_address"], "end_address": item["end_address"],
                "size": int(last) - int(first) + 1, "vrf": self.vrf_brief(item["vrf"]), "tenant": None,
                "status": self.status(item), "role": None, "description": item["description"], "owner": None,
                "comments": item["comments"], "tags": self.tags(item), "custom_fields": {},
                "mark_populated": item["mark_populated"], "mark_utilized": item["mark_utilized"]}

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
                "comments": item["comments"], "tags": self.tags(item), "custom_fields": self.custom("ip", item)}

    def prefix(self, item):
        return {"display": item["prefix"], "family": self.family(item["prefix"]), "prefix": item["prefix"],
                "vrf": self.vrf_brief(item["vrf"]), "scope_type": None, "scope_id": None, "scope": None,
                "tenant": None, "vlan": None, "status": self.status(item), "role": None, "is_pool": item["is_pool"],
                "mark_utilized": item["mark_utilized"], "description": item["description"], "owner": None,
                "comments": item["comments"], "tags": self.tags(item), "custom_fields": self.custom("prefix", item),
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
         "tag": ("id", "url", "display", "name", "slug", "color"),
         "range": ("id", "url", "display", "family", "start_address", "end_address", "description"),
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
    if name == "parent" and kind == "range":
        networks = [ipaddress.ip_network(value) for value in values]
        return any(host_of(item["start_address"]) in n and host_of(item["end_address"]) in n for n in networks)
    if name in ("within", "within_include") and kind == "prefix":
        own = ipaddress.ip_network(item["prefix"])
        networks = [ipaddress.ip_network(value) for value in values]
        return any(own.version == n.version and own.subnet_of(n) and (own != n or name == "within_include")
                   for n in networks)
    if name == "slug" and kind == "tag":
        return item["slug"] in values
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
        fault = world.next_fault(self.command, parts.path, raw)
        kind = fault["kind"] if fault else None
        world.store.raced = kind == "race"
        status, headers, body, html = self.faulty(kind) or self.answer(parts, raw)
        world.store.raced = False
        world.requests.append({"method": self.command, "path": self.path, "status": status, "fault": kind})
        if kind in ("drop", "drop-before"):
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if kind == "late":
            time.sleep(fault.get("delay_s", 5))
        self.write(status, headers, body, html)

    def faulty(self, kind):
        version = self.server.world.version
        if kind == "500":
            return 500, {}, {"error": "connection failed: Connection refused", "exception": "OperationalError",
                             "netbox_version": version, "python_version": "3.12.1"}, False
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
        world = self.server.world
        headers = {"API-Version": world.api_version, "X-Request-ID": str(uuid.uuid4())}
        try:
            with self.server.world.lock:
                status, more, body = self.route(parts, raw)
            if world.api_version == "4.4":  # ETags came with 4.6
                more.pop("ETag", None)
            return status, {**headers, **more}, body, False
        except Refused as refused:
            return refused.status, {**headers, **refused.headers}, refused.body, refused.html

    def authenticate(self):
        given = self.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        tokens = self.server.world.tokens
        if self.server.world.api_version == "4.4":  # v2 tokens came with 4.5: a bearer is nobody
            if scheme != "Token":
                raise Refused(403, {"detail": "Authentication credentials were not provided."})
            if token not in tokens:
                raise Refused(403, {"detail": "Invalid token"})
            return
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
        available = kind == "prefix" and len(pieces) == 4 and pieces[3] in ("available-ips", "available-prefixes")
        if kind is None or (len(pieces) > 3 and not available) or (len(pieces) > 2 and not pieces[2].isdigit()):
            raise Refused(404, HTML % "Page Not Found", html=True)
        self.authenticate()
        if "application/json" not in self.headers.get("Accept", "*/*") and "*/*" not in self.headers.get("Accept", "*/*"):
            raise Refused(406, {"detail": "Could not satisfy the request Accept header."})
        body = self.parsed(raw) if self.command in ("POST", "PATCH", "PUT") or raw else None
        if available:
            call = self.available if pieces[3] == "available-ips" else self.available_prefixes
            return call(int(pieces[2]), body, query)
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
        return {"django-version": "6.0.8", "hostname": "stand-in", "installed_apps": {},
                "netbox-version": self.server.world.version, "netbox-full-version": self.server.world.version,
                "plugins": {}, "python-version": "3.12.1", "rq-workers-running": 1,
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
        if self.command in ("PATCH", "DELETE"):
            return self.listed(kind, body, allow)
        if self.command != "POST":
            self.not_allowed(allow["Allow"])
        create = getattr(world.store, "create_" + kind)
        if isinstance(body, list):
            world.store.listed_from = {kind: world.store.next_id[kind]}
            made, problems = [], []
            for one in body:
                try:
                    made.append(create(one))
                    problems.append({})
                except Refused as refused:
                    problems.append(refused.body)
            world.store.listed_from = {}
            if any(problems):
                for item in made:
                    world.store.delete(kind, item["id"])
                raise Refused(400, problems)
            return 201, allow, [self.view.shown(kind, item) for item in made]
        item = create(body)
        shown = self.view.shown(kind, item)
        return 201, {**allow, "ETag": self.etag(item), "Location": shown["url"]}, shown

    def listed(self, kind, body, allow):
        """A list of changes or removals: ids that are not there are passed over without a word."""
        store = self.server.world.store
        there = [one for one in body if one.get("id") in store.objects[kind]]
        if self.command == "DELETE":
            for one in there:
                store.delete(kind, one["id"])
            return 204, allow, None
        before = {one["id"]: store.objects[kind][one["id"]] for one in there}
        try:
            changed = [store.patch(kind, one["id"], {k: v for k, v in one.items() if k != "id"}) for one in there]
        except Refused as refused:
            store.objects[kind].update(before)
            raise Refused(refused.status, [refused.body]) from None
        return 200, allow, [self.view.shown(kind, item) for item in changed]

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
        if self.server.world.api_version == "4.4":
            wanted = None  # not known yet: the write is applied
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


    def available_prefixes(self, number, body, query):
        store = self.server.world.store
        allow = {"Allow": "GET, POST, HEAD, OPTIONS"}
        if self.command == "GET":
            pool, free = store.free_prefixes(number)
            return 200, allow, [{"family": one.version, "prefix": str(one), "vrf": self.view.vrf_brief(pool["vrf"])}
                                for one in free]
        if self.command != "POST":
            self.not_allowed(allow["Allow"])
        made = store.take_free_prefix(number, body)
        if isinstance(made, list):
            return 201, allow, [self.view.shown("prefix", item) for item in made]
        return 201, allow, self.view.shown("prefix", made)


class World:
    def __init__(self, state_file, tokens, api_version="4.6"):
        self.api_version, self.version = api_version, VERSIONS[api_version]
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

    def next_fault(self, method, path, raw):
        with self.fault_lock:
            for fault in self.faults:
                if fault.get("method", method) == method and fault.get("path", "") in path \
                        and fault.get("body", "").encode() in raw:
                    fault["count"] -= 1
                    if fault["count"] <= 0:
                        self.faults.remove(fault)
                    return fault
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    world = None


def start(port=0, state_file=None, tokens=(DEFAULT_TOKEN,), api_version="4.6"):
    """A server that is bound and not yet serving."""
    server = Server(("127.0.0.1", port), Handler)
    server.world = World(state_file, tokens, api_version)
    server.world.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


def main():
    parser = argparse.ArgumentParser(description=NAME)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--url-file", type=pathlib.Path, help="where to write the address")
    parser.add_argument("--state-file", type=pathlib.Path, help="keep the state here")
    parser.add_argument("--token", action="append", help=f"accepted tokens, v1 or nbt_… (default {DEFAULT_TOKEN})")
    parser.add_argument("--netbox", choices=sorted(VERSIONS), default="4.6", help="which NetBox to answer as")
    arguments = parser.parse_args()
    server = start(arguments.port, arguments.state_file, arguments.token or [DEFAULT_TOKEN], arguments.netbox)
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
