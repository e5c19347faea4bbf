#!/usr/bin/env python3
"""The allocator beside the bare PostgreSQL transaction of the same writes, in one run.

    bench/allocate/allocate.py --url postgresql://…

Both are pgbench scripts on a database of their own (made and dropped here), with the commit that the server is set to:
the bare one knows a free address beforehand, marks it held and inserts the holding; ours asks take_space for one. Each
measurement begins with a pool made anew, so full. Prints one line a family, fill and number of clients: only the ratio
counts. The client's own cost (libpqxx) is not in it.
"""
import argparse
import os
import pathlib
import re
import secrets
import subprocess
import tempfile

FILLS = (0, 50, 90, 99)
CLIENTS = (8, 32)
FAMILIES = {"ipv4": ("10.0.0.0/16", 32), "ipv6_pd": ("2001:db8::/40", 56)}
TENANT = "bench"

HOLDING = """INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation, routing_domain_id,
  pool_id, space, period, opened_by) VALUES ('bench', 's', 'internet', :service, '{family}', 1, 1, '{pool}', {space},
  tstzrange(greatest(clock_timestamp(), {rested}), NULL), 1);"""

# The bare transaction is told a free address: it counts, and the address follows from the number.
SPREAD = 40503
BARE = """\\set service random(1, 1000000000)
\\set n :n + 1
\\set k {taken} + :n * {clients} + :client_id
\\set i (:k * {inverse}) % 65536
BEGIN;
SELECT set_config('role', 'addrflow_app', true), set_config('app.tenant', 'bench', true);
{write}
{holding}
COMMIT;
"""
OURS = """\\set service random(1, 1000000000)
BEGIN;
SELECT set_config('role', 'addrflow_app', true), set_config('app.tenant', 'bench', true);
SELECT abbrev(space) AS space, rested::text AS rested FROM take_space('{pool}', :service, {length}, {length}, false) \\gset
{holding}
COMMIT;
"""


class Bench:
    def __init__(self, url):
        self.base = url
        self.name = "bench_" + secrets.token_hex(4)
        self.url = url[: url.rfind("/") + 1] + self.name

    def sql(self, text, url=None):
        done = subprocess.run(["psql", url or self.url, "-qAtX", "-v", "ON_ERROR_STOP=1"], input=text, text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    def make(self):
        self.sql(f"CREATE DATABASE {self.name}", self.base)
        for file in sorted((pathlib.Path(__file__).parents[2] / "migrations").glob("*.up.sql")):
            self.sql(file.read_text())
        self.sql(f"INSERT INTO tenants VALUES ('{TENANT}')")

    def drop(self):
        self.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)", self.base)

    def pool(self, family, fill):
        """A fresh pool, so full; its id."""
        prefix, length = FAMILIES[family]
        self.sql("TRUNCATE pool_addresses, pool_shards, pool_grants, pool_exclusions, pool_nas, ip_pools CASCADE;"
                 " ALTER TABLE holdings DISABLE TRIGGER ALL; TRUNCATE holdings;"
                 " ALTER TABLE holdings ENABLE TRIGGER ALL")
        pool = self.sql(f"INSERT INTO ip_pools (tenant_id, pool_name, family, routing_domain_id, prefix, delegated_length,"
                        f" chunk_length) VALUES ('{TENANT}', 'p', '{family}', 1, '{prefix}', {length}, {length})"
                        f" RETURNING id")
        self.sql(f"INSERT INTO pool_grants VALUES ('{pool}', '{TENANT}')")
        taken = 65536 * fill // 100
        space = ("'10.0.0.0'::inet + i" if family == "ipv4"
                 else f"piece(piece_number('{prefix}', {length}) + i, {length})")
        # Spread, as a pool is after years: which addresses are held follows no order.
        last = 65535 if family == "ipv4" else taken - 1
        self.sql(f"INSERT INTO pool_addresses (pool_id, address, state) SELECT '{pool}', {space},"
                 f" CASE WHEN {f'(i::bigint * {SPREAD}) % 65536 < {taken}' if family == 'ipv4' else 'true'}"
                 f" THEN 'held' ELSE 'free' END FROM generate_series(0, {last}) i;"
                 f" INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,"
                 f" routing_domain_id, pool_id, space, period, opened_by) SELECT '{TENANT}', 's', 'internet', 0,"
                 f" '{family}', 1, 1, pool_id, address, tstzrange(now(), NULL), 1 FROM pool_addresses"
                 f" WHERE state = 'held'")
        if family != "ipv4":
            self.sql(f"INSERT INTO pool_shards SELECT '{pool}', i, f.first + {taken} + (65536 - {taken}) / 64 * i,"
                     f" f.first + {taken} + (65536 - {taken}) / 64 * (i + 1) - 1"
                     f" FROM generate_series(0, 63) i, (SELECT piece_number('{prefix}', {length}) AS first) f")
        self.sql("ANALYZE pool_addresses, holdings; CHECKPOINT")
        return pool

    def run(self, script, clients, transactions):
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            done = subprocess.run(["pgbench", "-n", "-M", "prepared", "-f", file.name, "-D", "n=-1", "-c", str(clients), "-j", "1",
                                   "-t", str(transactions), self.url], capture_output=True, text=True, timeout=600)
        tps = re.search(r"tps = ([0-9.]+) \(without", done.stdout)
        if done.returncode != 0 or not tps:
            raise SystemExit(done.stderr[-800:])
        return float(tps.group(1))

    def compare(self, family, fill, clients):
        length = FAMILIES[family][1]
        # No more than is free, and no more than moves the fill by half a per cent where that matters.
        transactions = max(1, min(6000, (65536 - 65536 * fill // 100) * 8 // 10) // clients)
        results = {}
        for kind in ("bare", "ours"):
            pool = self.pool(family, fill)
            taken = 65536 * fill // 100
            prefix = FAMILIES[family][0]
            space = (":space::inet" if kind == "ours" else "('10.0.0.0'::inet + :i)" if family == "ipv4"
                     else f"piece(piece_number('{prefix}', {length}) + :k, {length})")
            rested = ":rested::timestamptz" if kind == "ours" else "'-infinity'"
            holding = HOLDING.format(family=family, pool=pool, space=space, rested=rested)
            write = (f"UPDATE pool_addresses SET state = 'held' WHERE pool_id = '{pool}' AND address = {space};"
                     if family == "ipv4" else
                     f"INSERT INTO pool_addresses (pool_id, address, state) VALUES ('{pool}', {space}, 'held');")
            script = (BARE if kind == "bare" else OURS).format(
                pool=pool, write=write, holding=holding, length=length, taken=taken, clients=clients,
                inverse=pow(SPREAD, -1, 65536))
            if kind == "bare":
                self.sql("GRANT INSERT ON pool_addresses TO addrflow_app")
            results[kind] = self.run(script, clients, transactions)
        ratio = results["ours"] / results["bare"]
        print(f"{family:8} {fill:3} % full {clients:3} clients: bare {results['bare']:7.0f}/s"
              f"  ours {results['ours']:7.0f}/s  ratio {ratio:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("ADDRFLOW_TEST_PG_URL"), help="a PostgreSQL to make a database in")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    arguments = parser.parse_args()
    if not arguments.url:
        parser.error("--url: where is PostgreSQL?")
    bench = Bench(arguments.url)
    bench.make()
    try:
        for family in arguments.family or FAMILIES:
            for clients in CLIENTS:
                for fill in FILLS:
                    bench.compare(family, fill, clients)
    finally:
        bench.drop()


if __name__ == "__main__":
    main()
