// Migrations on a real PostgreSQL, a database for each test: from nothing, from the platform's
// tables in both of their shapes, broken off, and back.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

class MigratorTest : public LedgerTest {
 protected:
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("ADDRFLOW_TEST_PG_URL");
    const std::string base = testing::need_peer("ADDRFLOW_TEST_PG_URL");
    static int count = 0;
    const std::string name = fmt::format("migrator_test_{}_{}", ::getpid(), ++count);
    pqxx::connection connection{base};
    pqxx::nontransaction{connection}.exec("CREATE DATABASE " + name);
    settings.url = base.substr(0, base.rfind('/') + 1) + name;
    settings.statement_timeout = std::chrono::minutes{2};
  }
  void TearDown() override {}  // many leave no ledger; the others look at theirs themselves

  pqxx::result sql(const std::string& text) {
    pqxx::connection connection{settings.url};
    pqxx::work tx{connection};
    auto result = tx.exec(text);
    tx.commit();
    return result;
  }
  std::string one(const std::string& text) {
    const auto result = sql(text);
    return result.empty() ? "no row" : result[0][0].c_str();
  }

  // The platform before it had a lifecycle (A16, A17).
  void old_platform() {
    sql(R"sql(
      CREATE TYPE ipreservationstatus AS ENUM ('RESERVED', 'ASSIGNED', 'RELEASED');
      CREATE TABLE ip_pools (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id varchar NOT NULL,
        pool_name varchar NOT NULL, network_cidr varchar, gateway varchar, total_addresses integer,
        assigned_count integer, available_count integer, created_at timestamp DEFAULT now());
      CREATE TABLE ip_reservations (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id varchar,
        pool_id uuid REFERENCES ip_pools, ip_address varchar, subscriber_id varchar,
        status ipreservationstatus, note varchar, created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now());
      INSERT INTO ip_pools (id, tenant_id, pool_name, network_cidr, gateway) VALUES
        ('11111111-1111-1111-1111-111111111111', 'acme', 'main', '10.0.0.0/24', '10.0.0.1'),
        ('22222222-2222-2222-2222-222222222222', 'other', 'main', '10.0.0.0/24', NULL))sql");
  }
  // The same after the migrations that the seeds describe (A13, A14, B1–B3).
  void lifecycle_platform() {
    old_platform();
    sql(R"sql(
      CREATE TYPE lifecyclestate AS ENUM
        ('pending', 'allocated', 'active', 'suspended', 'revoking', 'revoked', 'failed');
      CREATE TYPE ipv6lifecyclestate AS ENUM
        ('pending', 'allocated', 'active', 'suspended', 'revoking', 'revoked', 'failed');
      ALTER TABLE ip_reservations ADD COLUMN lifecycle_state lifecyclestate NOT NULL DEFAULT 'pending',
        ADD COLUMN lifecycle_allocated_at timestamptz, ADD COLUMN lifecycle_activated_at timestamptz,
        ADD COLUMN lifecycle_suspended_at timestamptz, ADD COLUMN lifecycle_revoked_at timestamptz,
        ADD COLUMN lifecycle_metadata jsonb DEFAULT '{}';
      CREATE INDEX idx_ip_reservations_lifecycle_state ON ip_reservations (lifecycle_state);
      CREATE TABLE subscriber_network_profiles (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        tenant_id varchar NOT NULL, subscriber_id varchar NOT NULL, service_vlan integer,
        static_ipv4 inet, ipv6_assignment_mode varchar, ipv6_prefix varchar,
        ipv6_state ipv6lifecyclestate NOT NULL DEFAULT 'pending', ipv6_allocated_at timestamptz,
        ipv6_activated_at timestamptz, ipv6_revoked_at timestamptz, ipv6_netbox_prefix_id integer,
        UNIQUE (tenant_id, subscriber_id));
      CREATE INDEX ix_profiles_netbox ON subscriber_network_profiles (ipv6_netbox_prefix_id))sql");
  }
  void reservation(const std::string& subscriber, const std::string& address,
                   const std::string& status, const std::string& tenant = "'acme'",
                   const std::string& created = "now() - interval '1 year'") {
    sql(
        fmt::format("INSERT INTO ip_reservations (tenant_id, pool_id, ip_address, subscriber_id,"
                    " status, note, created_at) VALUES ({}, '11111111-1111-1111-1111-111111111111',"
                    " {}, {}, {}, 'kept', {})",
                    tenant, address, subscriber, status, created));
  }

  UpResult up() {
    const auto result = Migrator{settings.url}.up(MigrateOptions{});
    make_ledger();
    return result;
  }
  void make_ledger() {
    ledger = std::make_unique<Ledger>(settings, &sessions);
    tenant = "acme";
  }
  std::string state_of(const std::string& subscriber) {
    return one(
        "SELECT lifecycle_state || ' ' || host(ip_address) FROM ip_reservations WHERE"
        " subscriber_id = '" +
        subscriber + "' ORDER BY generation DESC LIMIT 1");
  }
  static std::string why(const UpResult& result, const std::string& subscriber) {
    for (const SetAside& row : result.legacy.value().set_aside) {
      if (row.subscriber == subscriber) return row.why;
    }
    return "not put aside";
  }
  // Everything that the platform's tables say.
  std::string dump() {
    return one(
        "SELECT coalesce(string_agg(to_jsonb(r)::text, ' ' ORDER BY id), '') FROM"
        " ip_reservations r");
  }
};

TEST_F(MigratorTest, an_empty_database_gets_everything_and_verify_names_what_is_gone) {
  EXPECT_FALSE(up().legacy);
  EXPECT_TRUE(Migrator{settings.url}.verify().empty());
  sql("DROP INDEX ip_reservations_one_live; ALTER TABLE nas ALTER coa_port DROP NOT NULL;"
      " ALTER TABLE effects ADD COLUMN odd text; ALTER TABLE holdings DROP COLUMN evidence;"
      " ALTER TYPE lifecyclestate RENAME VALUE 'failed' TO 'broken';"
      " ALTER TABLE holdings DROP CONSTRAINT holdings_no_overlap");
  std::map<std::string, Difference::Kind> named;
  for (const Difference& one : Migrator{settings.url}.verify()) named[one.what] = one.kind;
  using Kind = Difference::Kind;
  EXPECT_EQ(named["index ip_reservations_one_live"], Kind::kMissing);
  EXPECT_EQ(named["column nas.coa_port"], Kind::kDifferent);
  EXPECT_EQ(named["column effects.odd"], Kind::kExtra);
  EXPECT_EQ(named.count("column holdings.evidence"), 1U);
  EXPECT_EQ(named["type lifecyclestate"], Kind::kDifferent);
  EXPECT_EQ(named.count("constraint holdings_no_overlap of holdings"), 1U);
  // The index that held the constraint goes with it; what it was made of is named once as well.
  EXPECT_EQ(named.size(), 7U);
}

TEST_F(MigratorTest, the_old_status_becomes_a_state_with_a_holding_and_a_way_out) {
  old_platform();
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'bob'", "'10.0.0.11'", "'RESERVED'");
  reservation("'cay'", "'10.0.0.12'", "'RELEASED'");
  reservation("'dan'", "'10.0.0.13'", "NULL");
  const auto result = up();
  EXPECT_TRUE(result.legacy.value().set_aside.empty());
  EXPECT_EQ(state_of("ann"), "active 10.0.0.10");
  EXPECT_EQ(state_of("bob"), "allocated 10.0.0.11");
  EXPECT_EQ(state_of("cay"), "pending 10.0.0.12");
  EXPECT_EQ(state_of("dan"), "pending 10.0.0.13");
  EXPECT_EQ(one("SELECT count(*) FROM holdings WHERE upper_inf(period)"), "2");
  EXPECT_EQ(one("SELECT count(*) FROM holdings WHERE space = '10.0.0.10' AND period @> now() - "
                "interval '1 day'"),
            "1");
  expect_clean();
  EXPECT_TRUE(Migrator{settings.url}.verify().empty());

  // A year-old reservation is no leak on the day it came.
  v1::CleanupRequest cleanup;
  cleanup.set_family("ipv4");
  EXPECT_EQ(ledger->cleanup(cleanup).allocated_stale(), 0);
  sql("UPDATE ip_reservations SET grace_until = now() - interval '1 minute'");
  EXPECT_EQ(ledger->cleanup(cleanup).allocated_stale(), 1);

  // From here on it is a line like any other.
  const auto claim = revoke("ann", "r1");
  EXPECT_FALSE(gate(claim).open()) << "an imported line may be online";
  sessions.seen.stopped_since = true;
  EXPECT_TRUE(gate(claim).open());
  EXPECT_EQ(allocate("cay", "a1"), "10.0.0.12") << "the former holder gets its address back";
  EXPECT_EQ(state_of("cay"), "allocated 10.0.0.12");
  expect_clean();
}

TEST_F(MigratorTest, netbox_is_told_of_no_address_that_nobody_holds) {
  old_platform();
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'cay'", "'10.0.0.12'", "'RELEASED'");
  up();
  sql("UPDATE ip_pools SET netbox_mode = 'mirror'");
  const auto rows = ledger->netbox_rows({.tenant = "acme", .pool = "main"});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].service.subscriber_id(), "ann");
  // Nor by who has looked before the space went back.
  NetboxRow released = rows[0];
  released.service.set_subscriber_id("cay");
  released.state = "pending";
  released.action = "reserve";
  released.row_id = std::stoll(one("SELECT id FROM ip_reservations WHERE subscriber_id = 'cay'"));
  ledger->mirror_again(released);
  EXPECT_EQ(one("SELECT count(*) FROM effects WHERE system = 'netbox'"), "0");
  ledger->mirror_again(rows[0]);
  EXPECT_EQ(one("SELECT count(*) FROM effects WHERE system = 'netbox'"), "1");
}

TEST_F(MigratorTest, rows_that_cannot_be_taken_over_are_named_and_their_space_is_given_to_nobody) {
  old_platform();
  reservation("'ann'", "'10.0.0.10'", "'RESERVED'");
  reservation("'bob'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'cay'", "'10.0.0.12'", "'ASSIGNED'", "'acme'", "now()");
  reservation("'cay'", "'10.0.0.13'", "'ASSIGNED'");
  reservation("NULL", "'10.0.0.14'", "'ASSIGNED'");
  reservation("'dan'", "NULL", "'ASSIGNED'");
  reservation("'eve'", "'garbage'", "'ASSIGNED'");
  reservation("'fay'", "'192.0.2.1'", "'ASSIGNED'");
  reservation("'gus'", "'10.0.0.1'", "'ASSIGNED'");
  reservation("'hal'", "'10.0.0.20'", "'ASSIGNED'", "NULL");
  const auto result = up();
  EXPECT_EQ(result.legacy.value().set_aside.size(), 8U);
  EXPECT_NE(why(result, "ann").find("of bob"), std::string::npos);
  EXPECT_NE(why(result, "cay").find("has row"), std::string::npos);
  EXPECT_NE(why(result, "").find("subscriber_id"), std::string::npos);
  EXPECT_NE(why(result, "dan").find("ip_address"), std::string::npos);
  EXPECT_NE(why(result, "eve").find("ip_address"), std::string::npos);
  EXPECT_NE(why(result, "fay").find("no pool"), std::string::npos);
  EXPECT_NE(why(result, "gus").find("gateway"), std::string::npos);
  EXPECT_NE(why(result, "hal").find("tenant_id"), std::string::npos);
  EXPECT_EQ(one("SELECT count(*) FROM addrflow_legacy.set_aside"), "8");
  EXPECT_EQ(state_of("cay"), "active 10.0.0.12");
  for (const char* address : {"10.0.0.13", "10.0.0.14", "10.0.0.20"}) {
    auto request = ask("allocate", "zoe", std::string{"z"} + address);
    request.set_requested_address(address);
    EXPECT_EQ(code_of([&] { ledger->claim(request); }), ErrorCode::kAddressTaken) << address;
  }
  expect_clean();
}

TEST_F(MigratorTest, a_database_with_the_lifecycle_keeps_its_states_times_and_prefixes) {
  lifecycle_platform();
  const std::string insert =
      "INSERT INTO ip_reservations (tenant_id, pool_id, ip_address, subscriber_id, status,"
      " lifecycle_state, lifecycle_allocated_at, lifecycle_suspended_at, lifecycle_revoked_at,"
      " lifecycle_metadata) VALUES ('acme', '11111111-1111-1111-1111-111111111111', ";
  sql(insert +
      "'10.0.0.10', 'ann', 'ASSIGNED', 'suspended', '2026-01-01', '2026-02-01', NULL,"
      " '{\"netbox_ip_id\": 7}')");
  sql(insert + "'10.0.0.11', 'bob', 'ASSIGNED', 'revoking', '2026-01-01', NULL, NULL, NULL)");
  sql(insert + "'10.0.0.12', 'cay', 'RELEASED', 'revoked', '2026-01-01', NULL, now(), NULL)");
  sql(insert + "'10.0.0.13', 'dan', 'ASSIGNED', 'pending', NULL, NULL, NULL, NULL)");
  sql(insert + "'10.0.0.14', 'eve', 'RESERVED', 'failed', NULL, NULL, NULL, NULL)");
  sql("INSERT INTO subscriber_network_profiles (tenant_id, subscriber_id, service_vlan, "
      "static_ipv4,"
      " ipv6_prefix, ipv6_state, ipv6_netbox_prefix_id) VALUES"
      " ('acme', 'ann', 42, '192.0.2.9', NULL, 'pending', NULL),"
      " ('acme', 'fay', NULL, NULL, '2001:db8:0:100::/56', 'active', 9)");
  EXPECT_EQ(code_of([&] { up(); }), ErrorCode::kConflict) << "no pool contains the prefix";
  MigrateOptions options;
  options.pools = {{.tenant = "acme", .name = "v6", .prefix = "2001:db8::/32"}};
  const auto result = Migrator{settings.url}.up(options);
  make_ledger();
  EXPECT_EQ(result.legacy.value().shape, "lifecycle");
  EXPECT_EQ(state_of("ann"), "suspended 10.0.0.10");
  EXPECT_EQ(one("SELECT netbox_ip_id FROM ip_reservations WHERE subscriber_id = 'ann'"), "7");
  EXPECT_EQ(
      one("SELECT lifecycle_suspended_at::date FROM ip_reservations WHERE subscriber_id = 'ann'"),
      "2026-02-01");
  EXPECT_EQ(state_of("bob"), "revoking 10.0.0.11");
  EXPECT_EQ(state_of("cay"), "revoked 10.0.0.12");
  EXPECT_EQ(state_of("dan"), "active 10.0.0.13") << "the seeds' own backfill had not run";
  EXPECT_EQ(state_of("eve"), "failed 10.0.0.14");
  EXPECT_EQ(state_of("fay"), "active 2001:db8:0:100::");
  EXPECT_EQ(one("SELECT vlan || ' ' || host(static_ipv4) FROM subscriber_network_profiles WHERE"
                " subscriber_id = 'ann'"),
            "42 192.0.2.9");
  EXPECT_EQ(one("SELECT ipv6_state || ' ' || ipv6_prefix FROM subscriber_network_profiles WHERE"
                " subscriber_id = 'fay'"),
            "active 2001:db8:0:100::/56");
  EXPECT_EQ(one("SELECT ipv6_assignment_mode FROM subscriber_network_profiles WHERE"
                " subscriber_id = 'ann'"),
            "pd")
      << "nobody said what ann may have";
  EXPECT_EQ(one("SELECT state FROM pool_addresses WHERE address = '2001:db8:0:100::/56'"), "held");
  EXPECT_EQ(one("SELECT delegated_length || ' ' || sum(last - next + 1) FROM ip_pools JOIN"
                " pool_shards ON pool_id = id WHERE family = 'ipv6_pd' GROUP BY delegated_length"),
            "56 16777216")
      << "what is left of the pool can be handed out";
  EXPECT_EQ(one("SELECT count(*) FROM effects WHERE wish->>'condition' = 'refused'"), "1")
      << "a revoke under way is ended by its workflow";
  expect_clean();
  EXPECT_TRUE(Migrator{settings.url}.verify().empty());
}

TEST_F(MigratorTest, a_pool_whose_objects_are_in_a_vrf_is_in_a_routing_domain_with_that_vrf) {
  old_platform();
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  MigrateOptions options;
  options.vrfs = {{.tenant = "acme", .name = "main", .vrf_id = 7},
                  {.tenant = "other", .name = "main", .vrf_id = 7},
                  {.tenant = "acme", .name = "gone", .vrf_id = 7}};
  options.dry_run = true;
  const auto problems = Migrator{settings.url}.up(options).legacy.value().problems;
  ASSERT_EQ(problems.size(), 2U) << fmt::format("{}", problems.size());
  EXPECT_EQ(problems[0], "vrf: tenant acme has no pool gone");
  EXPECT_NE(problems[1].find("overlap in NetBox VRF 7"), std::string::npos) << problems[1];
  options.dry_run = false;
  options.vrfs.resize(1);
  Migrator{settings.url}.up(options);
  make_ledger();
  EXPECT_EQ(one("SELECT string_agg(p.tenant_id || ' ' || d.name || ' ' || p.netbox_mode, ', '"
                " ORDER BY p.tenant_id) FROM ip_pools p JOIN routing_domains d"
                " ON d.id = p.routing_domain_id"),
            "acme vrf-7 mirror, other default off");
  EXPECT_EQ(ledger->netbox_pool("acme", "main").vrf_id, 7);
  EXPECT_EQ(ledger->netbox_rows({.tenant = "acme", .pool = "main"}).at(0).wish["vrf_id"], 7);
  expect_clean();
}

TEST_F(MigratorTest, pools_of_one_tenant_overlap_in_different_vrfs_only) {
  old_platform();
  sql("INSERT INTO ip_pools (id, tenant_id, pool_name, network_cidr) VALUES"
      " ('33333333-3333-3333-3333-333333333333', 'acme', 'second', '10.0.0.0/24')");
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'bob'", "'10.0.0.11'", "'ASSIGNED'");
  sql("UPDATE ip_reservations SET pool_id = '33333333-3333-3333-3333-333333333333',"
      " ip_address = '10.0.0.10' WHERE subscriber_id = 'bob'");
  reservation("'cay'", "'10.0.0.12'", "'ASSIGNED'");
  sql("UPDATE ip_reservations SET pool_id = NULL WHERE subscriber_id = 'cay'");
  EXPECT_EQ(code_of([&] { up(); }), ErrorCode::kConflict);
  MigrateOptions options;
  options.vrfs = {{.tenant = "acme", .name = "second", .vrf_id = 7}};
  const auto result = Migrator{settings.url}.up(options);
  make_ledger();
  EXPECT_EQ(state_of("ann"), "active 10.0.0.10");
  EXPECT_EQ(state_of("bob"), "active 10.0.0.10");
  EXPECT_EQ(why(result, "cay"), "several pools contain the address");
  EXPECT_EQ(one("SELECT count(*) FROM pool_addresses WHERE address = '10.0.0.12'"
                " AND state = 'blocked'"),
            "2");
  expect_clean();
}

TEST_F(MigratorTest, a_dry_run_says_the_same_and_changes_nothing) {
  old_platform();
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'bob'", "'10.0.0.10'", "'ASSIGNED'");
  const std::string tables =
      "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
      " WHERE relnamespace = 'public'::regnamespace";
  const std::string before = one(tables) + dump();
  MigrateOptions options;
  options.dry_run = true;
  const auto said = Migrator{settings.url}.up(options);
  EXPECT_EQ(one(tables) + dump(), before);
  const auto done = up();
  EXPECT_EQ(said.applied.size(), done.applied.size());
  EXPECT_EQ(said.legacy.value().counts, done.legacy.value().counts);
  EXPECT_EQ(said.legacy.value().set_aside.size(), 1U);
  EXPECT_EQ(why(said, "ann") + why(said, "bob"), why(done, "ann") + why(done, "bob"));
}

TEST_F(MigratorTest, down_gives_the_platform_its_tables_back_with_what_became_of_the_rows) {
  lifecycle_platform();
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  reservation("'bob'", "'10.0.0.11'", "'ASSIGNED'");
  up();
  const auto claim = revoke("ann", "r1");
  sessions.seen.stopped_since = true;
  gate(claim);
  allocate("new", "a1");
  EXPECT_EQ(code_of([&] { Migrator{settings.url}.down_to(0); }), ErrorCode::kConflict)
      << "new's address would be lost";
  Migrator{settings.url}.down_to(0, true, true);
  EXPECT_EQ(state_of("bob"), "active 10.0.0.11") << "a dry run changes nothing";
  Migrator{settings.url}.down_to(0, false, true);
  EXPECT_EQ(
      one("SELECT string_agg(concat_ws(' ', subscriber_id, status, lifecycle_state, note), ', '"
          " ORDER BY subscriber_id) FROM ip_reservations"),
      "ann RELEASED revoked kept, bob ASSIGNED active kept");
  EXPECT_EQ(one("SELECT count(*) FROM pg_class WHERE relname IN ('holdings', 'takeover')"), "0");
  EXPECT_EQ(one("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexname ="
                " 'idx_ip_reservations_lifecycle_state'"),
            "1");
  up();
  EXPECT_EQ(state_of("bob"), "active 10.0.0.11");
  EXPECT_EQ(state_of("ann"), "revoked 10.0.0.10");
  expect_clean();
}

TEST_F(MigratorTest, what_is_in_the_way_is_named_before_anything_is_changed) {
  old_platform();
  sql("CREATE TABLE tenants (id integer); UPDATE ip_pools SET network_cidr = NULL");
  MigrateOptions options;
  options.dry_run = true;
  const auto problems = Migrator{settings.url}.up(options).legacy.value().problems;
  EXPECT_EQ(problems.size(), 3U) << fmt::format("{}", problems.size());
  EXPECT_EQ(code_of([&] { up(); }), ErrorCode::kConflict);
  EXPECT_EQ(one("SELECT count(*) FROM ip_pools"), "2");
}

TEST_F(MigratorTest, a_ledger_in_a_schema_of_its_own_leaves_the_platforms_tables_where_they_are) {
  old_platform();
  sql("CREATE TABLE tenants (id integer); CREATE SCHEMA ledger");
  reservation("'ann'", "'10.0.0.10'", "'ASSIGNED'");
  const std::string before = dump();
  const std::string platform = settings.url;
  settings.url += "?options=-csearch_path%3Dledger,public";
  MigrateOptions options;
  options.legacy_schema = "public";
  Migrator{settings.url}.up(options);
  make_ledger();
  EXPECT_EQ(state_of("ann"), "active 10.0.0.10");
  EXPECT_EQ(one("SELECT count(*) FROM public.ip_reservations"), "1");
  EXPECT_TRUE(Migrator{settings.url}.verify().empty());
  expect_clean();
  Migrator{settings.url}.down_to(0);
  settings.url = platform;
  EXPECT_EQ(dump(), before);
}

class ManyRows : public MigratorTest {
 protected:
  static constexpr int kRows = 100'000;
  void SetUp() override {
    MigratorTest::SetUp();
    if (IsSkipped()) return;
    old_platform();
    sql(fmt::format(R"sql(
      UPDATE ip_pools SET network_cidr = '10.0.0.0/15', gateway = NULL WHERE tenant_id = 'acme';
      INSERT INTO ip_reservations (tenant_id, pool_id, ip_address, subscriber_id, status, created_at)
      SELECT 'acme', '11111111-1111-1111-1111-111111111111', host('10.0.0.0'::inet + i),
        'sub-' || CASE WHEN i % 1000 = 0 THEN i - 2 ELSE i END,
        (ARRAY['ASSIGNED', 'ASSIGNED', 'ASSIGNED', 'RESERVED', 'RELEASED'])[i % 5 + 1]
          ::ipreservationstatus, now() - i * interval '1 minute'
      FROM generate_series(1, {}) i)sql",
                    kRows));
  }
  void expect_all() {
    make_ledger();
    // One in a thousand is its neighbour's second address.
    EXPECT_EQ(one("SELECT count(*) FROM ip_reservations WHERE lifecycle_state = 'active'"),
              "60000");
    EXPECT_EQ(one("SELECT count(*) FROM ip_reservations WHERE lifecycle_state = 'allocated'"),
              "19900");
    EXPECT_EQ(one("SELECT count(*) FROM holdings WHERE upper_inf(period)"), "79900");
    EXPECT_EQ(one("SELECT count(*) FROM addrflow_legacy.set_aside"), "100");
    EXPECT_EQ(one("SELECT count(*) FROM holdings h WHERE upper_inf(period) AND NOT EXISTS (SELECT 1"
                  " FROM ip_reservations r JOIN pool_addresses a ON a.pool_id = r.pool_id"
                  " AND a.address = r.ip_address AND a.state = 'held' WHERE r.holding_id = h.id"
                  " AND r.service_id = h.service_id)"),
              "0");
  }
};

TEST_F(ManyRows, a_hundred_thousand_rows_are_taken_over) {
  Migrator{settings.url}.up(MigrateOptions{});
  expect_all();
}

TEST_F(ManyRows, a_take_over_that_is_killed_has_done_nothing_and_the_next_one_completes) {
  for (const char* moment :
       {"%ANALYZE lf_pools%", "%INSERT INTO services%", "%INSERT INTO holdings%"}) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        Migrator{settings.url}.up(MigrateOptions{});
      } catch (...) {
      }
      ::_exit(0);
    }
    const std::string there = fmt::format(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'addrflow migrate'"
        " AND datname = current_database() AND state = 'active' AND query LIKE '{}'",
        moment);
    while (one(there) == "0" && ::waitpid(child, nullptr, WNOHANG) == 0) std::this_thread::yield();
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    // PostgreSQL rolls back once it notices that nobody listens.
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'addrflow migrate'");
    EXPECT_EQ(one(fmt::format("SELECT count(*) FROM public.ip_reservations")), "100000") << moment;
    EXPECT_EQ(one("SELECT count(*) FROM pg_class WHERE relname = 'holdings'"), "0") << moment;
  }
  Migrator{settings.url}.up(MigrateOptions{});
  expect_all();
}

}  // namespace
}  // namespace addrflow::ledger
