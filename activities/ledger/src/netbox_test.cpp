// What the catch-up and the import ask of the ledger, on a real PostgreSQL.
#include <atomic>
#include <set>
#include <thread>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class NetboxLedgerTest : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (IsSkipped()) return;
    // A claim is over all tenants: what other tests have left is none of ours.
    run("UPDATE effects SET status = 'abandoned' WHERE system = 'netbox'");
    run("DELETE FROM netbox_writers");
    PoolSpec spec = pool_spec();
    spec.netbox_mode = "mirror";
    made = ledger->add_pool(spec);
  }
  static void run(const std::string& sql) {
    pqxx::connection connection{database_url()};
    pqxx::nontransaction{connection}.exec(sql);
  }
  static std::string one(const std::string& sql) {
    pqxx::connection connection{database_url()};
    pqxx::nontransaction tx{connection};
    return tx.exec1(sql)[0].c_str();
  }
  static v1::ClaimRequest without_netbox(v1::ClaimRequest asked) {
    asked.set_request_json(R"({"update_netbox": false})");
    return asked;
  }
  std::string netbox_effects() const {
    return one(
        "SELECT string_agg(action || ' ' || status || ' ' || code, ', ' ORDER BY id)"
        " FROM effects WHERE system = 'netbox' AND tenant_id = '" +
        tenant + "'");
  }
  // As when an older release left two wishes for one object on record.
  void wish_also(const std::string& action) const {
    run("INSERT INTO effects (tenant_id, service_id, operation_id, number, system, action, object,"
        " wish) SELECT tenant_id, service_id, operation_id, number, system, '" +
        action + "', object, wish FROM effects WHERE system = 'netbox' AND tenant_id = '" + tenant +
        "'");
  }
  std::vector<ports::ClaimedEffect> claim_all(int limit = 100) {
    return ledger->claim_netbox(limit, seconds{60}, milliseconds{0});
  }
  static v1::EffectReply reply(const std::string& status, bool retry = false) {
    v1::EffectReply reply;
    reply.set_status(status);
    reply.set_retry(retry);
    return reply;
  }
  PoolInfo made;
};

TEST_F(NetboxLedgerTest, WhatIsDueIsClaimedOnceUntilTheLeaseIsOver) {
  allocate("a", "k");
  allocate("b", "k");
  const auto claimed = claim_all();
  ASSERT_EQ(claimed.size(), 2U);
  EXPECT_EQ(claimed[0].leave.action, "reserve");
  EXPECT_EQ(claimed[0].leave.wish["family"], "ipv4");
  EXPECT_FALSE(claimed[0].leave.earlier_unknown);
  EXPECT_EQ(claimed[0].leave.attempt, 1);
  EXPECT_TRUE(claim_all().empty());

  run("UPDATE effects SET leased_until = '-infinity', hard_deadline = '-infinity'"
      " WHERE status = 'sent'");
  const auto again = claim_all();
  ASSERT_EQ(again.size(), 2U);
  EXPECT_TRUE(again[0].leave.earlier_unknown);
  EXPECT_EQ(again[0].leave.attempt, 2);
}

TEST_F(NetboxLedgerTest, AnAttemptThatMayStillBeUnderWayIsLeftAlone) {
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  const auto reserved = reserve(claimed.claim());
  v1::EffectRequest request;
  *request.mutable_service() = claimed.claim().service();
  request.set_number(claimed.claim().number());
  *request.mutable_effect() = reserved.netbox();
  EXPECT_EQ(ledger->begin(request, seconds{60}).kind, ports::Leave::Kind::kSend);
  EXPECT_TRUE(claim_all().empty());
}

TEST_F(NetboxLedgerTest, WhatAServiceJustTouchedIsLeftAlone) {
  allocate("a", "k");
  EXPECT_TRUE(ledger->claim_netbox(10, seconds{60}, seconds{60}).empty());
  EXPECT_EQ(ledger->netbox_backlog(), 1);
}

TEST_F(NetboxLedgerTest, TheNewestWishSupersedesTheOlderOnes) {
  const auto address = allocate("a", "k");
  wish_also("set_active");
  const auto claimed = claim_all();
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].leave.action, "set_active");
  EXPECT_EQ(one("SELECT status FROM effects WHERE system = 'netbox' AND action = 'reserve' AND"
                " tenant_id = '" +
                tenant + "'"),
            "superseded");
  // Its late answer does not make it current again.
  EXPECT_TRUE(ledger->finish(claimed[0].request, 1, reply("confirmed")));
  EXPECT_EQ(ledger->netbox_backlog(), 0);
}

TEST_F(NetboxLedgerTest, AnOlderRequestOnItsWayKeepsNotThereFromBeingGone) {
  allocate("a", "k");
  ASSERT_EQ(claim_all().size(), 1U);  // the reserve is under way
  wish_also("release");
  const auto claimed = claim_all();
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].leave.action, "release");
  EXPECT_GT(claimed[0].leave.wish["unsettled_ms"], 30'000);
}

TEST_F(NetboxLedgerTest, ARevokeThatLeavesNetboxAloneDoesSoAtTheGateToo) {
  allocate("a", "k");
  ledger->finish(claim_all().at(0).request, 1, reply("confirmed"));
  const auto claim = ledger->claim(without_netbox(ask("revoke", "a", "r"))).claim();
  ledger->transition(to(claim, "revoking"));
  finish(claim);
  ASSERT_TRUE(gate(claim).open());
  EXPECT_EQ(one("SELECT action || ' ' || status || ' ' || code FROM effects WHERE"
                " system = 'netbox' AND tenant_id = '" +
                tenant + "' ORDER BY id DESC LIMIT 1"),
            "release not_applicable left-alone");
  run("UPDATE effects SET not_before = now() WHERE tenant_id = '" + tenant + "'");
  EXPECT_TRUE(claim_all().empty());
}

TEST_F(NetboxLedgerTest, WhatAnOrdinaryRevokeOwesIsReleasedWhateverIsAskedOfTheLineThen) {
  const auto address = allocate("a", "k");
  ledger->finish(claim_all().at(0).request, 1, reply("confirmed"));
  const auto claim = ledger->claim(ask("revoke", "a", "r")).claim();
  ledger->transition(to(claim, "revoking"));
  finish(claim);
  PoolSpec other = pool_spec("203.0.113.0/24");
  other.name = "other";
  other.netbox_mode = "mirror";
  ledger->add_pool(other);
  auto asked = without_netbox(ask("allocate", "a", "k2"));
  asked.set_ipv4_pool_id("other");
  const auto again = ledger->claim(asked).claim();
  v1::ReserveRequest wish;
  *wish.mutable_claim() = again;
  wish.set_family("ipv4");
  wish.set_pool_id("other");
  ASSERT_NE(ledger->reserve(wish).address(), address);
  ledger->transition(to(again, "allocated"));
  finish(again);
  ASSERT_TRUE(gate(again).open());
  EXPECT_EQ(one("SELECT status FROM effects WHERE system = 'netbox' AND action = 'release'"
                " AND tenant_id = '" +
                tenant + "'"),
            "planned");
}

TEST_F(NetboxLedgerTest, AnAllocateThatLeavesNetboxAloneTellsItNothingAndIsOnRecord) {
  const auto claim = ledger->claim(without_netbox(ask("allocate", "a", "k"))).claim();
  EXPECT_EQ(reserve(claim).netbox().effect_id(), 0);
  ledger->transition(to(claim, "allocated"));
  finish(claim);
  EXPECT_EQ(netbox_effects(), "reserve not_applicable left-alone");
  EXPECT_TRUE(claim_all().empty());
  EXPECT_EQ(ledger->netbox_backlog(), 0);
}

TEST_F(NetboxLedgerTest, AnActivateThatLeavesNetboxAloneDropsNothingThatTheAllocateOwes) {
  allocate("a", "k");
  const auto claim = ledger->claim(without_netbox(ask("activate", "a", "l"))).claim();
  auto move = to(claim, "active");
  move.set_plan_netbox("set_active");
  EXPECT_FALSE(ledger->transition(move).has_netbox());
  finish(claim);
  EXPECT_EQ(netbox_effects(), "reserve planned , set_active not_applicable left-alone");
  const auto claimed = claim_all();
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0].leave.action, "reserve");
}

TEST_F(NetboxLedgerTest, WhatWaitsForItsQuarantineIsNotDue) {
  allocate("a", "k");
  run("UPDATE effects SET not_before = now() + interval '1 hour' WHERE status = 'planned'"
      " AND system = 'netbox'");
  EXPECT_TRUE(claim_all().empty());
  EXPECT_EQ(ledger->netbox_backlog(), 1);
}

TEST_F(NetboxLedgerTest, ARefusalForGoodIsNotSentAgain) {
  allocate("a", "k");
  allocate("b", "k");
  const auto claimed = claim_all();
  ASSERT_EQ(claimed.size(), 2U);
  ledger->finish(claimed[0].request, 1, reply("refused"));
  ledger->finish(claimed[1].request, 1, reply("refused", true));
  run("UPDATE effects SET leased_until = '-infinity' WHERE status = 'refused'");
  const auto again = claim_all();
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].leave.effect_id, claimed[1].leave.effect_id);
}

TEST_F(NetboxLedgerTest, EightAtOnceClaimEachEffectOnce) {
  for (int i = 0; i < 60; ++i) allocate(fmt::format("s{}", i), "k");
  std::mutex mutex;
  std::multiset<std::int64_t> seen;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (auto claimed = claim_all(7); !claimed.empty(); claimed = claim_all(7)) {
        const std::lock_guard lock{mutex};
        for (const auto& one : claimed) seen.insert(one.leave.effect_id);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  // Whoever found everything locked has stopped: the rest is claimed now.
  for (const auto& one : claim_all()) seen.insert(one.leave.effect_id);
  EXPECT_EQ(seen.size(), 60U);
  EXPECT_EQ(std::set<std::int64_t>(seen.begin(), seen.end()).size(), 60U);
}

TEST_F(NetboxLedgerTest, APrefixPoolHasOneWriterUntilItsLeaseIsOver) {
  EXPECT_TRUE(ledger->acquire_writer("p", "one", seconds{60}));
  EXPECT_TRUE(ledger->acquire_writer("p", "one", seconds{60}));
  EXPECT_FALSE(ledger->acquire_writer("p", "two", seconds{60}));
  EXPECT_TRUE(ledger->acquire_writer("q", "two", seconds{60}));
  ledger->release_writer("p", "two");
  EXPECT_FALSE(ledger->acquire_writer("p", "two", seconds{60}));
  run("UPDATE netbox_writers SET until = now() - interval '1 second' WHERE pool = 'p'");
  EXPECT_TRUE(ledger->acquire_writer("p", "two", seconds{60}));
  ledger->release_writer("p", "two");
  EXPECT_TRUE(ledger->acquire_writer("p", "one", seconds{60}));
}

TEST_F(NetboxLedgerTest, APoolStartsOnceItIsImported) {
  settings.netbox = true;
  ledger = std::make_unique<Ledger>(settings, &sessions);
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  EXPECT_EQ(code_of([&] { reserve(claimed.claim()); }), ErrorCode::kNoSuchPool);
  const auto pool = ledger->netbox_pool(tenant, "main");
  EXPECT_EQ(pool.imported_at, "");
  ledger->import_netbox(pool, 7, {}, true);
  EXPECT_EQ(code_of([&] { reserve(claimed.claim()); }), ErrorCode::kNoSuchPool);
  ledger->import_netbox(pool, 7, {}, false);
  EXPECT_EQ(ledger->netbox_pool(tenant, "main").netbox_prefix_id, 7);
  EXPECT_NO_THROW(reserve(claimed.claim()));
}

TEST_F(NetboxLedgerTest, AnImportBlocksWhatIsNotOursAndSaysWhatIsHeldTwice) {
  const auto own = allocate("a", "k");
  const auto pool = ledger->netbox_pool(tenant, "main");
  const std::vector<Occupied> occupied{
      {.first = "198.51.100.20", .last = "198.51.100.20", .cidr = "", .key = "", .what = "router"},
      {.first = "198.51.100.30", .last = "198.51.100.39", .cidr = "", .key = "", .what = "range"},
      {.first = "", .last = "", .cidr = "198.51.100.64/29", .key = "", .what = "child"},
      {.first = "", .last = "", .cidr = "198.51.0.0/16", .key = "", .what = "around it"},
      {.first = "192.0.2.1", .last = "192.0.2.1", .cidr = "", .key = "", .what = "elsewhere"},
      {.first = own, .last = own, .cidr = "", .key = "", .what = "theirs"},
      {.first = own,
       .last = own,
       .cidr = "",
       .key = tenant + "/a/internet/ipv4/" + own,
       .what = "ours"}};
  const auto seen = ledger->import_netbox(pool, 0, occupied, true);
  EXPECT_EQ(one("SELECT count(*) FROM pool_addresses WHERE state = 'blocked' AND pool_id = '" +
                made.id + "'"),
            "0");
  const auto report = ledger->import_netbox(pool, 0, occupied, false);
  EXPECT_EQ(report.blocked, 1 + 10 + 8);
  EXPECT_EQ(seen.blocked, report.blocked);
  EXPECT_EQ(report.ours, 1);
  ASSERT_EQ(report.conflicts.size(), 1U);
  EXPECT_NE(report.conflicts[0].find("theirs"), std::string::npos);
  EXPECT_EQ(one("SELECT why FROM pool_addresses WHERE address = '198.51.100.35' AND pool_id = '" +
                made.id + "'"),
            "range");
  EXPECT_EQ(ledger->import_netbox(pool, 0, occupied, false).blocked, 0);
}

// What the platform before us made has no key, and an id that came along.
TEST_F(NetboxLedgerTest, AnObjectOfALineThatWasTakenOverIsOursByItsId) {
  const auto address = allocate("a", "k");
  const auto pool = ledger->netbox_pool(tenant, "main");
  const Occupied object{
      .first = address, .last = address, .cidr = "", .key = "", .what = "theirs", .netbox_id = 7};
  const auto conflicts = [&](const Occupied& one) {
    return ledger->import_netbox(pool, 0, {one}, true).conflicts.size();
  };
  run("UPDATE ip_reservations SET netbox_ip_id = 7 WHERE tenant_id = '" + tenant + "'");
  EXPECT_EQ(conflicts(object), 1U) << "a line of ours has objects with a key";
  run("UPDATE ip_reservations SET created_by = 'import' WHERE tenant_id = '" + tenant + "'");
  EXPECT_EQ(conflicts(object), 0U);
  EXPECT_EQ(ledger->import_netbox(pool, 0, {object}, true).ours, 1);
  for (const auto& other : {Occupied{.first = address,
                                     .last = address,
                                     .cidr = "",
                                     .key = "",
                                     .what = "theirs",
                                     .netbox_id = 8},
                            Occupied{.first = address,
                                     .last = address,
                                     .cidr = "",
                                     .key = "x",
                                     .what = "theirs",
                                     .netbox_id = 7}})
    EXPECT_EQ(conflicts(other), 1U);
  const auto rows = ledger->netbox_rows({.tenant = tenant, .subscriber = "a"});
  EXPECT_EQ(rows.at(0).wish["taken_over"], true);
  EXPECT_EQ(rows.at(0).wish["netbox_id"], 7);
}

TEST_F(NetboxLedgerTest, ARowMayBeMirroredAgain) {
  allocate("a", "k");
  for (const auto& claimed : claim_all()) ledger->finish(claimed.request, 1, reply("confirmed"));
  EXPECT_EQ(ledger->netbox_backlog(), 0);
  const auto rows = ledger->netbox_rows({.tenant = tenant, .subscriber = "a"});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].action, "reserve");
  ledger->mirror_again(rows[0]);
  EXPECT_EQ(claim_all().size(), 1U);
  EXPECT_EQ(code_of([&] { ledger->netbox_rows({}); }), ErrorCode::kInvalidArgument);
}

TEST_F(NetboxLedgerTest, ManyReleasesAreABacklogThatTheCleanupLeavesAlone) {
  allocate("a", "k", true);
  const auto claim = revoke("a", "r");
  sessions.seen.stopped_since = true;
  ASSERT_TRUE(gate(claim).open());
  run("UPDATE ip_reservations SET lifecycle_revoked_at = now() - interval '1 year' WHERE"
      " tenant_id = '" +
      tenant + "'");
  run("INSERT INTO services (tenant_id, subscriber_id, service) SELECT '" + tenant +
      "', 'bulk-' || n, 'internet' FROM generate_series(1, 20000) n");
  run("INSERT INTO effects (tenant_id, service_id, operation_id, number, system, action, object,"
      " wish) SELECT e.tenant_id, s.id, e.operation_id, e.number, e.system, e.action,"
      " s.subscriber_id, e.wish FROM effects e, services s WHERE e.system = 'netbox'"
      " AND e.action = 'release' AND e.tenant_id = '" +
      tenant + "' AND s.tenant_id = e.tenant_id AND s.subscriber_id LIKE 'bulk-%'");
  const auto before = ledger->netbox_backlog();
  EXPECT_GT(before, 20'000);
  EXPECT_GE(ledger->cleanup({}, {}, {}).revoked_deleted(), 1);
  EXPECT_EQ(one("SELECT count(*) FROM ip_reservations WHERE tenant_id = '" + tenant + "'"), "0");
  EXPECT_EQ(ledger->netbox_backlog(), before);
  // The row is gone, and its release still says what is to go; what somebody waits for goes first.
  allocate("b", "k");
  const auto claimed = claim_all(50);
  ASSERT_EQ(claimed.size(), 50U);
  EXPECT_EQ(claimed[0].leave.action, "reserve");
  EXPECT_EQ(claimed[1].leave.action, "release");
  EXPECT_EQ(claimed[1].leave.wish["subscriber"], "a");
  run("DELETE FROM effects WHERE object LIKE 'bulk-%'");
  run("DELETE FROM services WHERE subscriber_id LIKE 'bulk-%'");
}

// --- routing domains, each in its VRF ------------------------------------------------------------

class TwoDomains : public NetboxLedgerTest {
 protected:
  void SetUp() override {
    NetboxLedgerTest::SetUp();
    if (IsSkipped()) return;
    ledger->add_pool(of("left", 3));
    ledger->add_pool(of("right", 4));
  }
  PoolSpec of(const std::string& name, std::int64_t vrf) const {
    PoolSpec spec = pool_spec("10.0.0.0/24");
    spec.name = name;
    spec.netbox_mode = "mirror";
    spec.netbox_vrf_id = vrf;
    spec.routing_domain = tenant + "-" + name;
    return spec;
  }
  void allocate_in(const std::string& name, const std::string& address) {
    auto request = ask("allocate", name, "k");
    request.set_ipv4_pool_id(name);
    request.set_requested_address(address);
    const auto claimed = ledger->claim(request);
    v1::ReserveRequest reserving;
    *reserving.mutable_claim() = claimed.claim();
    reserving.set_family("ipv4");
    reserving.set_pool_id(name);
    reserving.set_requested_address(address);
    EXPECT_EQ(ledger->reserve(reserving).address(), address);
    ledger->transition(to(claimed.claim(), "allocated"));
    finish(claimed.claim());
  }
  std::string refusal_of(const PoolSpec& spec) {
    try {
      ledger->add_pool(spec);
    } catch (const LedgerError& error) {
      EXPECT_EQ(error.code(), ErrorCode::kConflict);
      return error.what();
    }
    return "none";
  }
  std::vector<std::string> set(const std::string& name, const PoolSettings& wanted) {
    return ledger->set_pool(tenant, name, wanted, {.actor = "ann", .reason = "test"});
  }
};

TEST_F(TwoDomains, TheSameSpaceIsAskedForInEachDomainsVrfAndCountedAsOursInItsOwnOnly) {
  allocate_in("left", "10.0.0.7");
  allocate_in("right", "10.0.0.7");
  std::set<std::string> asked;
  for (const auto& claimed : claim_all()) {
    asked.insert(fmt::format("{} {}", claimed.request.service().subscriber_id(),
                             claimed.leave.wish["vrf_id"].get<std::int64_t>()));
  }
  EXPECT_EQ(asked, (std::set<std::string>{"left 3", "right 4"}));
  const auto left = ledger->netbox_pool(tenant, "left");
  EXPECT_EQ(left.vrf_id, 3);
  EXPECT_EQ(ledger->netbox_rows({.tenant = tenant, .pool = "right"}).at(0).wish["vrf_id"], 4);
  const auto object_of = [&](const std::string& line) {
    return Occupied{.first = "10.0.0.7",
                    .last = "10.0.0.7",
                    .cidr = "",
                    .key = tenant + "/" + line + "/internet/ipv4/10.0.0.7",
                    .what = "an object of " + line};
  };
  EXPECT_EQ(ledger->import_netbox(left, 0, {object_of("left")}, true).ours, 1);
  const auto other = ledger->import_netbox(left, 0, {object_of("right")}, true);
  EXPECT_EQ(other.ours, 0);
  EXPECT_EQ(other.conflicts.size(), 1U);
}

TEST_F(TwoDomains, ADomainHasOneVrf) {
  EXPECT_EQ(refusal_of(of("left", 3)), "none");
  EXPECT_EQ(refusal_of(of("left", 0)), "none") << "what it has";
  EXPECT_EQ(refusal_of(of("left", 4)).substr(0, 5), "vrf: ");
  auto next = of("left", 4);
  next.name = "left2";
  next.prefix = "10.0.1.0/24";
  EXPECT_EQ(refusal_of(next).substr(0, 5), "vrf: ");
  EXPECT_EQ(code_of([&] { ledger->pool_usage(tenant, "left2"); }), ErrorCode::kNoSuchPool);
  next.netbox_vrf_id = 0;
  ledger->add_pool(next);
  EXPECT_EQ(ledger->pool_usage(tenant, "left2").netbox_vrf_id, 3);
}

TEST_F(TwoDomains, AVrfIsSetWhileNetboxWasToldNothingAndThenEachPoolIsImportedAnew) {
  ledger->import_netbox(ledger->netbox_pool(tenant, "left"), 0, {}, false);
  PoolSettings wanted;
  wanted.netbox_vrf_id = 5;
  EXPECT_EQ(set("left", wanted), std::vector<std::string>{"vrf: 3 -> 5"});
  const auto pool = ledger->netbox_pool(tenant, "left");
  EXPECT_EQ(pool.vrf_id, 5);
  EXPECT_EQ(pool.imported_at, "");
  EXPECT_EQ(ledger->netbox_pool(tenant, "right").vrf_id, 4);
  allocate_in("left", "10.0.0.7");
  wanted.netbox_vrf_id = 6;
  EXPECT_EQ(code_of([&] { set("left", wanted); }), ErrorCode::kConflict);
  EXPECT_EQ(ledger->netbox_pool(tenant, "left").vrf_id, 5);
}

TEST_F(TwoDomains, APoolThatComesToNetboxIsImportedFirst) {
  PoolSpec quiet = of("quiet", 0);
  quiet.netbox_mode = "off";
  ledger->add_pool(quiet);
  allocate_in("quiet", "10.0.0.7");
  PoolSettings wanted;
  wanted.netbox_mode = "mirror";
  EXPECT_EQ(set("quiet", wanted), std::vector<std::string>{"netbox_mode: off -> mirror"});
  EXPECT_EQ(ledger->netbox_pool(tenant, "quiet").imported_at, "");
  // Its lines are not in NetBox yet: the sync brings them there.
  EXPECT_EQ(ledger->netbox_rows({.tenant = tenant, .pool = "quiet"}).size(), 1U);
  ledger->import_netbox(ledger->netbox_pool(tenant, "quiet"), 9, {}, false);
  wanted.netbox_mode = "authoritative";
  set("quiet", wanted);
  EXPECT_EQ(ledger->netbox_pool(tenant, "quiet").imported_at, "")
      << "NetBox is to be seen to hold the prefix";
  wanted.netbox_mode = "mirror";
  wanted.netbox_start_now = true;
  EXPECT_EQ(set("quiet", wanted).size(), 2U);
  EXPECT_NE(ledger->netbox_pool(tenant, "quiet").imported_at, "");
}

TEST_F(TwoDomains, APoolLeavesNetboxWhenNothingOfItIsThere) {
  allocate_in("left", "10.0.0.7");
  PoolSettings wanted;
  wanted.netbox_mode = "off";
  EXPECT_EQ(code_of([&] { set("left", wanted); }), ErrorCode::kConflict) << "it is to be told";
  auto said = reply("confirmed");
  said.set_netbox_id(41);
  for (const auto& claimed : claim_all()) ledger->finish(claimed.request, 1, said);
  EXPECT_EQ(code_of([&] { set("left", wanted); }), ErrorCode::kConflict) << "a line has an object";
  const auto claim = revoke("left", "r");
  sessions.seen.stopped_since = true;
  ASSERT_TRUE(gate(claim).open());
  EXPECT_EQ(code_of([&] { set("left", wanted); }), ErrorCode::kConflict) << "it is to go";
  run("UPDATE effects SET status = 'confirmed' WHERE system = 'netbox' AND tenant_id = '" + tenant +
      "'");
  EXPECT_EQ(set("left", wanted), std::vector<std::string>{"netbox_mode: mirror -> off"});
}

// A line of both families, each in a mirrored pool.
class MirroredStates : public NetboxLedgerTest {
 protected:
  void SetUp() override {
    NetboxLedgerTest::SetUp();
    if (IsSkipped()) return;
    PoolSpec spec = pool_spec("2001:db8::/40");
    spec.name = "prefixes";
    spec.family = "ipv6_pd";
    spec.netbox_mode = "mirror";
    ledger->add_pool(spec);
    const auto claim = claim_for("allocate", kBoth);
    reserve(claim);
    reserve_prefix(claim);
    move(claim, "allocated", "");
    finish(claim);
    told();
  }
  v1::Claim claim_for(const std::string& operation, const std::vector<std::string>& families,
                      const std::string& reason = {}) {
    auto request = ask(operation, "a", operation + std::to_string(++keys));
    request.mutable_caller()->set_reason(reason);
    for (const auto& family : families) request.add_families(family);
    moved.assign(families.begin(), families.end());
    return ledger->claim(request).claim();
  }
  v1::TransitionRequest move_of(const v1::Claim& claim, const std::string& state,
                                const std::string& netbox) {
    auto wanted = to(claim, state);
    wanted.clear_families();
    for (const auto& family : moved) wanted.add_families(family);
    wanted.set_plan_netbox(netbox);
    return wanted;
  }
  void move(const v1::Claim& claim, const std::string& state, const std::string& netbox) {
    ledger->transition(move_of(claim, state, netbox));
  }
  void hold(const std::vector<std::string>& families, const std::string& reason) {
    const auto claim = claim_for("suspend", families, reason);
    if (claim.operation_id() == 0) return;  // suspended already: the claim has added the hold
    auto wanted = move_of(claim, "suspended", "suspend");
    wanted.set_add_hold(reason);
    ledger->transition(wanted);
    finish(claim);
  }
  void lift(const std::vector<std::string>& families, const std::string& reason) {
    const auto claim = claim_for("reactivate", families, reason);
    auto wanted = move_of(claim, "active", "set_active");
    wanted.set_remove_hold(reason);
    ledger->transition(wanted);
    finish(claim);
  }
  // "ipv4 suspend suspended, …": each wish since the last look, with the state that it names.
  std::string told() {
    const std::string since = std::to_string(newest);
    newest = std::stoll(one("SELECT coalesce(max(id), 0) FROM effects"));
    return one(
        "SELECT coalesce(string_agg(concat_ws(' ', wish->>'family', action, wish->>'state'),"
        " ', ' ORDER BY id), '') FROM effects WHERE system = 'netbox' AND tenant_id = '" +
        tenant + "' AND id > " + since);
  }
  const std::vector<std::string> kBoth{"ipv4", "ipv6_pd"};
  std::vector<std::string> moved;
  std::int64_t newest = 0;
  int keys = 0;
};

TEST_F(MirroredStates, EachFamilyIsToldOnceWhenItsStateChangesAndNotWhenOnlyAHoldDoes) {
  const auto claim = claim_for("activate", kBoth);
  move(claim, "active", "set_active");
  finish(claim);
  EXPECT_EQ(told(), "ipv4 set_active active, ipv6_pd set_active active");
  hold(kBoth, "billing");
  EXPECT_EQ(told(), "ipv4 suspend suspended, ipv6_pd suspend suspended");
  hold({"ipv4"}, "abuse");
  EXPECT_EQ(told(), "") << "one hold more";
  lift(kBoth, "billing");
  EXPECT_EQ(told(), "ipv6_pd set_active active") << "the other one has a hold left";
  lift({"ipv4"}, "abuse");
  EXPECT_EQ(told(), "ipv4 set_active active");
}

TEST_F(MirroredStates, WhatIsUndoneIsToldAsItIsAfterAll) {
  const auto active = claim_for("activate", kBoth);
  move(active, "active", "set_active");
  finish(active);
  const auto claim = claim_for("suspend", {"ipv4"});
  auto wanted = move_of(claim, "suspended", "suspend");
  wanted.set_add_hold("billing");
  ledger->transition(wanted);
  told();
  v1::UndoRequest undo;
  *undo.mutable_claim() = claim;
  ledger->undo(undo);
  finish(claim, false);
  EXPECT_EQ(told(), "ipv4 set_active active");
}

// NetBox picks: what it said comes back as the effect's reply.
class AuthoritativePool : public NetboxLedgerTest {
 protected:
  void SetUp() override {
    NetboxLedgerTest::SetUp();
    if (IsSkipped()) return;
    settings.netbox = true;
    ledger = std::make_unique<Ledger>(settings, &sessions);
    run("UPDATE ip_pools SET netbox_mode = 'authoritative' WHERE id = '" + made.id + "'");
    ledger->import_netbox(ledger->netbox_pool(tenant, "main"), 7, {}, false);
  }

  v1::ReserveRequest wish(const v1::Claim& claim) {
    v1::ReserveRequest request;
    *request.mutable_claim() = claim;
    request.set_family("ipv4");
    return request;
  }

  ports::Leave leave_for(const v1::Claim& claim, const v1::EffectRef& effect) {
    return ledger->begin(request_for(claim, effect), seconds{60});
  }

  static v1::EffectRequest request_for(const v1::Claim& claim, const v1::EffectRef& effect) {
    v1::EffectRequest request;
    *request.mutable_service() = claim.service();
    request.set_number(claim.number());
    *request.mutable_effect() = effect;
    return request;
  }

  // NetBox gives `space`; the ledger is asked to take it.
  v1::ReserveReply reserve_with(v1::ReserveRequest request, const std::string& space) {
    const auto asked = ledger->reserve(request);
    EXPECT_TRUE(asked.netbox_picks());
    const auto leave = leave_for(request.claim(), asked.netbox());
    auto said = reply("confirmed");
    said.set_space(space);
    said.set_netbox_id(41);
    ledger->finish(request_for(request.claim(), asked.netbox()), leave.attempt, said);
    request.set_taken_effect(asked.netbox().effect_id());
    return ledger->reserve(request);
  }

  std::string line_with(const std::string& subscriber, const std::string& space) {
    const auto claimed = ledger->claim(ask("allocate", subscriber, "k"));
    const auto reserved = reserve_with(wish(claimed.claim()), space);
    const auto moved = ledger->transition(to(claimed.claim(), "allocated"));
    send(claimed.claim(), moved.aaa());
    finish(claimed.claim());
    return reserved.address();
  }
};

TEST_F(AuthoritativePool, NetboxPicksAndTheLedgerWritesItDown) {
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  const auto request = wish(claimed.claim());
  const auto asked = ledger->reserve(request);
  EXPECT_TRUE(asked.netbox_picks());
  EXPECT_EQ(asked.address(), "");
  EXPECT_EQ(one("SELECT count(*) FROM holdings WHERE tenant_id = '" + tenant + "'"), "0");
  const auto leave = leave_for(claimed.claim(), asked.netbox());
  EXPECT_EQ(leave.action, "take");
  EXPECT_EQ(leave.wish["pool_netbox_id"], 7);
  EXPECT_EQ(leave.wish["prefix_length"], 24);
  EXPECT_EQ(ledger->reserve(request).netbox().effect_id(), asked.netbox().effect_id());

  auto said = reply("confirmed");
  said.set_space("198.51.100.9");
  said.set_netbox_id(41);
  ledger->finish(request_for(claimed.claim(), asked.netbox()), leave.attempt, said);
  auto again = request;
  again.set_taken_effect(asked.netbox().effect_id());
  const auto reserved = ledger->reserve(again);
  EXPECT_EQ(reserved.address(), "198.51.100.9");
  EXPECT_EQ(reserved.metadata().at("allocation_method"), "netbox");
  EXPECT_EQ(ledger->reserve(again).address(), "198.51.100.9");
  EXPECT_EQ(
      one("SELECT netbox_ip_id || ' ' || (netbox_key = '" + leave.wish["key"].get<std::string>() +
          "') FROM ip_reservations WHERE tenant_id = '" + tenant + "'"),
      "41 true");
  ledger->transition(to(claimed.claim(), "allocated"));
  finish(claimed.claim());
  expect_clean();
}

TEST_F(AuthoritativePool, WhatNobodyConfirmedIsNotTaken) {
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  auto request = wish(claimed.claim());
  const auto asked = ledger->reserve(request);
  request.set_taken_effect(asked.netbox().effect_id());
  EXPECT_EQ(code_of([&] { ledger->reserve(request); }), ErrorCode::kInternal);
  leave_for(claimed.claim(), asked.netbox());
  EXPECT_TRUE(claim_all().empty()) << "a caller waits for it: no catch-up picks in its place";
}

TEST_F(AuthoritativePool, WhatTheLedgerExcludesIsGivenBackAndTheLedgerPicks) {
  ledger->exclude_space(tenant, "main", "198.51.100.2", false,
                        {.actor = "ann", .reason = "gateway"});
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  auto request = wish(claimed.claim());
  const auto refused = reserve_with(request, "198.51.100.2");
  EXPECT_NE(refused.refused().find("gateway"), std::string::npos) << refused.refused();
  EXPECT_EQ(refused.address(), "");
  request.set_netbox_asked(true);
  const auto reserved = ledger->reserve(request);
  EXPECT_FALSE(reserved.netbox_picks());
  EXPECT_NE(reserved.address(), "");
  EXPECT_EQ(reserved.netbox().action(), "reserve") << "NetBox confirms it";
  const auto claimed_effects = claim_all();
  ASSERT_EQ(claimed_effects.size(), 2U);
  EXPECT_EQ(claimed_effects[1].leave.action, "release");
  EXPECT_EQ(claimed_effects[1].leave.wish["netbox_id"], 41);
}

TEST_F(AuthoritativePool, IsNotAllocatedFromByWhoLeavesNetboxAlone) {
  const auto claimed = ledger->claim(without_netbox(ask("allocate", "a", "k")));
  try {
    ledger->reserve(wish(claimed.claim()));
    FAIL() << "NetBox was not asked";
  } catch (const LedgerError& error) {
    EXPECT_EQ(error.code(), domain::ErrorCode::kInvalidArgument);
    EXPECT_EQ(std::string{error.what()},
              "update_netbox is false, and NetBox decides over pool main");
  }
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed.claim();
  ledger->undo(undo);
  finish(claimed.claim(), false);
}

TEST_F(AuthoritativePool, AnUndoReleasesWhatNetboxMayYetPick) {
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  const auto asked = ledger->reserve(wish(claimed.claim()));
  const auto leave = leave_for(claimed.claim(), asked.netbox());
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed.claim();
  undo.set_code("netbox_failed");
  const auto undone = ledger->undo(undo);
  finish(claimed.claim(), false);
  EXPECT_EQ(undone.netbox().action(), "release");
  // The older request is a tombstone now, and its late answer changes nothing.
  EXPECT_EQ(leave_for(claimed.claim(), asked.netbox()).kind, ports::Leave::Kind::kSuperseded);
  const auto release = leave_for(claimed.claim(), undone.netbox());
  EXPECT_EQ(release.wish["key"], leave.wish["key"]);
  EXPECT_GT(release.wish["unsettled_ms"], 30'000);
  EXPECT_EQ(ledger->view(service("a")).bindings_size(), 0);
}

TEST_F(AuthoritativePool, AnExhaustedPoolHandsOverToTheNext) {
  PoolSpec second = pool_spec("192.0.2.0/24");
  second.name = "second";
  second.netbox_mode = "mirror";
  second.netbox_start_now = true;
  ledger->add_pool(second);
  auto asking = ask("allocate", "a", "k");
  asking.set_ipv4_pool_id("main,second");
  const auto claimed = ledger->claim(asking);
  auto request = wish(claimed.claim());
  request.set_pool_id("main,second");
  const auto asked = ledger->reserve(request);
  ASSERT_TRUE(asked.netbox_picks());
  const auto leave = leave_for(claimed.claim(), asked.netbox());
  ledger->finish(request_for(claimed.claim(), asked.netbox()), leave.attempt, reply("refused"));
  request.add_exhausted(asked.metadata().at("pool_id"));
  EXPECT_EQ(ledger->reserve(request).pool(), "second");
  EXPECT_EQ(
      one("SELECT status FROM effects WHERE action = 'take' AND tenant_id = '" + tenant + "'"),
      "superseded");
}

TEST_F(AuthoritativePool, AFormerHolderGetsItsSpaceAndItsObjectAgain) {
  ASSERT_EQ(line_with("a", "198.51.100.77"), "198.51.100.77");
  const auto key = one("SELECT netbox_key FROM ip_reservations WHERE tenant_id = '" + tenant + "'");
  run("UPDATE ip_pools SET quarantine_s = 3600 WHERE id = '" + made.id + "'");
  const auto claim = revoke("a", "r");
  sessions.seen.stopped_since = true;
  ASSERT_TRUE(gate(claim).open());
  const auto claimed = ledger->claim(ask("allocate", "a", "k2"));
  const auto reserved = ledger->reserve(wish(claimed.claim()));
  EXPECT_FALSE(reserved.netbox_picks());
  EXPECT_EQ(reserved.address(), "198.51.100.77");
  EXPECT_EQ(leave_for(claimed.claim(), reserved.netbox()).wish["key"], key);
}

TEST_F(AuthoritativePool, AReaddressedLineGetsNetboxsPickAndLeavesItsOwnOnlyThen) {
  const auto former = line_with("a", "198.51.100.9");
  const auto claimed = ledger->claim(ask("readdress", "a", "r")).claim();
  auto request = wish(claimed);
  request.set_instead(true);
  const auto asked = ledger->reserve(request);
  EXPECT_TRUE(asked.netbox_picks());
  EXPECT_EQ(asked.former().effect_id(), 0) << "there is nothing else yet";
  EXPECT_EQ(ledger->view(service("a")).bindings(0).address(), former);
  EXPECT_EQ(ledger->view(service("a")).leaving_size(), 0);
  const auto reserved = reserve_with(request, "198.51.100.20");
  EXPECT_EQ(reserved.address(), "198.51.100.20");
  EXPECT_GT(reserved.former().effect_id(), reserved.netbox().effect_id());
  EXPECT_EQ(
      one("SELECT action FROM effects WHERE id = " + std::to_string(reserved.former().effect_id())),
      "deprecate");
  const auto view = ledger->view(service("a"));
  EXPECT_EQ(view.bindings(0).address(), "198.51.100.20");
  EXPECT_EQ(view.bindings(0).state(), "allocated");
  EXPECT_EQ(view.leaving_size(), 1);
}

TEST_F(AuthoritativePool, AReaddressThatNetboxDoesNotAnswerLeavesTheLineAsItWas) {
  const auto former = line_with("a", "198.51.100.9");
  const auto claimed = ledger->claim(ask("readdress", "a", "r")).claim();
  auto request = wish(claimed);
  request.set_instead(true);
  const auto asked = ledger->reserve(request);
  static_cast<void>(leave_for(claimed, asked.netbox()));
  v1::UndoRequest undo;
  *undo.mutable_claim() = claimed;
  undo.set_code("netbox_failed");
  const auto undone = ledger->undo(undo);
  EXPECT_EQ(undone.netbox().action(), "release") << "what it may have picked";
  finish(claimed, false);
  const auto view = ledger->view(service("a"));
  EXPECT_EQ(view.bindings(0).address(), former);
  EXPECT_EQ(view.bindings(0).state(), "allocated");
  EXPECT_EQ(view.leaving_size(), 0);
}

TEST_F(AuthoritativePool, WithoutNetboxItIsRefused) {
  settings.netbox = false;
  ledger = std::make_unique<Ledger>(settings, &sessions);
  const auto claimed = ledger->claim(ask("allocate", "a", "k"));
  EXPECT_EQ(code_of([&] { reserve(claimed.claim()); }), ErrorCode::kNetboxFailed);
}

}  // namespace
}  // namespace addrflow::ledger
