// Who held what, the daily look, what the audit names, and a ledger that was restored.
#include <gmock/gmock.h>
#include <algorithm>

#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

struct FakeWaker : ports::ServiceWaker {
  bool wake(const v1::ServiceRef& service) noexcept override {
    woken.push_back(service.subscriber_id());
    return true;
  }
  std::vector<std::string> woken;
};

// What AAA and NetBox say, as the test wants it.
struct FakeAaa : ports::AaaListing {
  std::int64_t newest_effect() override {
    if (away) throw std::runtime_error{"away"};
    return newest;
  }
  std::vector<ports::AaaLine> lines_of(const std::vector<ports::ServiceName>& services) override {
    if (away) throw std::runtime_error{"away"};
    std::vector<ports::AaaLine> found;
    for (const auto& line : lines) {
      const bool asked = std::ranges::any_of(services, [&](const auto& service) {
        return service.tenant == line.tenant && service.subscriber == line.subscriber;
      });
      if (asked) found.push_back(line);
    }
    return found;
  }
  std::vector<ports::AaaLine> lines_after(const std::string& username, int) override {
    return username.empty() ? lines : std::vector<ports::AaaLine>{};
  }
  std::vector<ports::AaaFence> fences_after(const ports::ServiceName& service, int) override {
    return service.tenant.empty() ? fences : std::vector<ports::AaaFence>{};
  }
  std::vector<ports::HandedOut> handed_out_after(const std::string& space, const std::string&,
                                                 int) override {
    return space.empty() ? handed : std::vector<ports::HandedOut>{};
  }
  bool away = false;
  std::int64_t newest = 0;
  std::vector<ports::AaaLine> lines;
  std::vector<ports::AaaFence> fences;
  std::vector<ports::HandedOut> handed;
};

struct FakeNetbox : ports::NetboxListing {
  std::vector<ports::NetboxObject> page(std::string& next, int) override {
    next.clear();
    return objects;
  }
  std::vector<ports::NetboxObject> find(const std::string& key) override {
    auto found = objects;
    std::erase_if(found, [&](const auto& object) { return object.key != key; });
    return found;
  }
  std::vector<ports::NetboxObject> objects;
};

class EvidenceTest : public LedgerTest {
 protected:
  std::string allocate_exposed(const std::string& subscriber) {
    return allocate(subscriber, "k-" + subscriber, true);
  }
  ports::AaaLine line(const std::string& subscriber, const std::string& space) const {
    return {.tenant = tenant,
            .subscriber = subscriber,
            .service = "internet",
            .username = tenant + "-" + subscriber,
            .number = 1,
            .plan = "default",
            .spaces = {space}};
  }
  // Every violation of this test's tenant.
  std::vector<AuditReport::Violation> violations(const AuditPeers& peers) {
    auto report = ledger->audit(peers);
    std::erase_if(report.violations,
                  [&](const auto& violation) { return violation.tenant != tenant; });
    return report.violations;
  }
  WhoHeld ask_who(const std::string& space, const std::string& at = {}) {
    return ledger->who_held({.space = space, .at = at, .tenant = tenant});
  }
  std::int64_t reservation(const std::string& subscriber, const std::string& state,
                           const std::string& columns) {
    return sql(fmt::format("UPDATE ip_reservations SET lifecycle_state = '{}', {} WHERE tenant_id ="
                           " '{}' AND subscriber_id = '{}'",
                           state, columns, tenant, subscriber))
        .affected_rows();
  }
  FakeAaa aaa;
  FakeNetbox netbox;
};

// --- who held it ---------------------------------------------------------------------------------

TEST_F(EvidenceTest, TheHolderOfAMomentIsNamedWithItsOperationsAfterTheWorkingRowIsGone) {
  pool("198.51.100.0/29");
  const auto address = allocate("first", "k1");
  const auto claim = revoke("first", "r1");
  sessions.seen.stopped_since = true;
  ASSERT_TRUE(gate(claim).open());
  sql("DELETE FROM ip_reservations WHERE tenant_id = '" + tenant + "'");
  const auto period = sql(fmt::format(
      "SELECT to_char(lower(period), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"') FROM holdings"
      " WHERE tenant_id = '{}'",
      tenant));
  const std::string began = period[0][0].c_str();

  EXPECT_TRUE(ask_who(address).holders.empty());  // now: nobody
  const auto then = ask_who(address, began);
  ASSERT_EQ(then.holders.size(), 1U);
  EXPECT_EQ(then.holders[0].subscriber, "first");
  EXPECT_EQ(then.holders[0].opened_by.key, "k1");
  EXPECT_EQ(then.holders[0].opened_by.actor, "test");
  EXPECT_EQ(then.holders[0].closed_by.key, "r1");
  EXPECT_EQ(then.holders[0].evidence, "strong");
  EXPECT_FALSE(then.holders[0].to.empty());
  EXPECT_EQ(ledger->who_held({.space = "198.51.100.0/24", .from = began, .tenant = tenant})
                .holders.size(),
            1U);
}

TEST_F(EvidenceTest, APrefixIsFoundByAnAddressInItAndByWhatContainsIt) {
  plants_violation = true;  // holdings without a working row
  pool();
  allocate("s", "k");
  sql(
      fmt::format("INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family,"
                  " generation, routing_domain_id, pool_id, space, period, opened_by)"
                  " SELECT tenant_id, subscriber_id, service, service_id, 'ipv6_pd', 1,"
                  " routing_domain_id, pool_id, '2001:db8:0:100::/56', period, opened_by"
                  " FROM holdings WHERE tenant_id = '{}'",
                  tenant));
  for (const char* space : {"2001:db8:0:1ff::1", "2001:db8:0:100::/56", "2001:db8::/32"}) {
    const auto found = ask_who(space);
    ASSERT_EQ(found.holders.size(), 1U) << space;
    EXPECT_EQ(found.holders[0].space, "2001:db8:0:100::/56");
    EXPECT_EQ(found.holders[0].family, "ipv6_pd");
  }
  EXPECT_TRUE(ask_who("2001:db8:0:200::1").holders.empty());
}

TEST_F(EvidenceTest, TheSameAddressInTwoDomainsAndSharedSpaceAreCalledAmbiguous) {
  plants_violation = true;  // holdings without a working row
  auto spec = pool_spec("10.9.0.0/29");
  ledger->add_pool(spec);
  const auto address = allocate("s", "k");
  spec.name = "other";
  spec.routing_domain = tenant + "-b";
  ledger->add_pool(spec);
  sql(
      fmt::format("INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family,"
                  " generation, routing_domain_id, pool_id, space, ports, period, opened_by)"
                  " SELECT tenant_id, 'cgn-' || n, service, service_id, family, generation,"
                  " (SELECT id FROM routing_domains WHERE name = '{0}-b'), pool_id, space,"
                  " int4range(n * 1024, n * 1024 + 1024), period, opened_by"
                  " FROM holdings, generate_series(1, 2) n WHERE tenant_id = '{0}'",
                  tenant));
  EXPECT_EQ(ask_who(address).ambiguous, "domain");
  WhoHeldQuery query{.space = address, .domain = tenant + "-b", .tenant = tenant};
  EXPECT_EQ(ledger->who_held(query).ambiguous, "port");
  query.port = 2050;
  const auto clear = ledger->who_held(query);
  EXPECT_EQ(clear.ambiguous, "");
  ASSERT_EQ(clear.holders.size(), 1U);
  EXPECT_EQ(clear.holders[0].subscriber, "cgn-2");
}

TEST_F(EvidenceTest, ABadQuestionIsRefusedAndNamesTheField) {
  const auto code = [&](const WhoHeldQuery& query) {
    return code_of([&] { ledger->who_held(query); });
  };
  EXPECT_EQ(code({.space = "nonsense"}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.space = "10.0.0.0/33"}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.space = "10.0.0.1", .at = "2026-01-01"}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.space = "10.0.0.1", .at = "2026-13-01T00:00:00Z"}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.space = "10.0.0.1", .domain = "no-such-domain"}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.space = "10.0.0.1", .port = 70'000}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      code({.space = "10.0.0.1", .from = "2026-02-01T00:00:00Z", .to = "2026-01-01T00:00:00Z"}),
      ErrorCode::kInvalidArgument);
}

TEST_F(EvidenceTest, HoldingsAreKeptForEverUnlessTheOwnerPrunesOldOnes) {
  pool();
  allocate("s", "k");
  sql(
      fmt::format("INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family,"
                  " generation, routing_domain_id, pool_id, space, period, opened_by)"
                  " SELECT tenant_id, 'old', service, service_id, family, 0, routing_domain_id,"
                  " pool_id, space, '[2020-01-01,2020-02-01)', opened_by FROM holdings"
                  " WHERE tenant_id = '{}'",
                  tenant));
  EXPECT_EQ(ledger->prune_holdings(std::chrono::hours{0}, false).holdings, 0);
  EXPECT_THROW(sql("DELETE FROM holdings WHERE subscriber_id = 'old'"), pqxx::sql_error);
  EXPECT_EQ(ledger->prune_holdings(std::chrono::hours{24 * 365}, true).holdings, 1);
  EXPECT_EQ(ledger->prune_holdings(std::chrono::hours{24 * 365}, false).holdings, 1);
  EXPECT_EQ(ask_who("198.51.100.0/24").holders.size(), 1U);  // the open one stays
  const auto then = ask_who("198.51.100.0/24", "2020-01-15T00:00:00Z");
  EXPECT_TRUE(then.holders.empty());
  EXPECT_NE(then.pruned_before, "") << "nobody is known any more, which is not nobody";
  EXPECT_EQ(ask_who("198.51.100.0/24").pruned_before, "") << "the present is on record";
}

// --- cleanup, catch-up ---------------------------------------------------------------------------

TEST_F(EvidenceTest, CleanupDeletesWhatIsFinishedAndNothingElse) {
  pool();
  for (const char* subscriber : {"old", "held", "fresh", "live", "busy"})
    allocate(subscriber, std::string{"k-"} + subscriber);
  const std::string old = "lifecycle_revoked_at = now() - interval '91 days'";
  const auto close = [&](const std::string& subscriber) {
    sql(
        fmt::format("UPDATE holdings SET period = tstzrange(lower(period), now() + interval '1 s'),"
                    " evidence = 'strong' WHERE tenant_id = '{}' AND subscriber_id = '{}'",
                    tenant, subscriber));
  };
  for (const char* subscriber : {"old", "held", "busy"}) reservation(subscriber, "revoked", old);
  reservation("fresh", "revoked", "lifecycle_revoked_at = now() - interval '89 days'");
  for (const char* subscriber : {"old", "fresh", "busy"}) close(subscriber);
  sql(
      fmt::format("UPDATE services SET open_operation_id = last_operation_id WHERE tenant_id = '{}'"
                  " AND subscriber_id = 'busy'",
                  tenant));
  const auto left = [&] {
    return sql(
               fmt::format("SELECT string_agg(subscriber_id, ' ' ORDER BY subscriber_id) FROM"
                           " ip_reservations WHERE tenant_id = '{}'",
                           tenant))[0][0]
        .as<std::string>();
  };
  v1::CleanupRequest dry;
  dry.set_dry_run(true);
  EXPECT_GE(ledger->cleanup(dry).revoked_deleted(), 1);
  EXPECT_EQ(left(), "busy fresh held live old");
  v1::CleanupResult earlier;
  earlier.set_revoked_deleted(1'000'000);
  int beats = 0;
  const auto result = ledger->cleanup({}, earlier, [&](const v1::CleanupResult&) { ++beats; });
  EXPECT_EQ(left(), "busy fresh held live");
  EXPECT_GT(result.revoked_deleted(), 1'000'000);  // an attempt goes on where the last one stood
  EXPECT_GT(beats, 0);
  sql(fmt::format("UPDATE services SET open_operation_id = NULL WHERE tenant_id = '{}'", tenant));
  sql(fmt::format("DELETE FROM ip_reservations WHERE tenant_id = '{}' AND subscriber_id = 'held'",
                  tenant));
  close("held");
  sql("UPDATE pool_addresses a SET state = 'free' WHERE state = 'held' AND NOT EXISTS (SELECT 1"
      " FROM holdings h WHERE h.space = a.address AND h.pool_id = a.pool_id"
      " AND upper_inf(h.period))");
  expect_clean();
}

TEST_F(EvidenceTest, CleanupOfIpv6ResetsTheProfilesColumnsAndKeepsItsRow) {
  const std::string insert = fmt::format(
      "INSERT INTO subscriber_network_profiles (tenant_id, subscriber_id, vlan,"
      " ipv6_assignment_mode, ipv6_prefix, ipv6_state, ipv6_revoked_at) VALUES ('{}', ",
      tenant);
  sql(insert + "'old', 7, 'pd', '2001:db8::/56', 'revoked', now() - interval '91 days')");
  sql(insert + "'fresh', 8, 'pd', '2001:db8:0:100::/56', 'revoked', now())");
  v1::CleanupRequest request;
  request.set_family("ipv6_pd");
  ledger->cleanup(request);
  const auto rows =
      sql(fmt::format("SELECT vlan, ipv6_assignment_mode, ipv6_prefix IS NULL, ipv6_state"
                      " FROM subscriber_network_profiles WHERE tenant_id = '{}' ORDER BY vlan",
                      tenant));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0][0].as<int>(), 7);
  EXPECT_EQ(rows[0][1].as<std::string>(), "pd") << "who comes back may have a prefix as before";
  EXPECT_TRUE(rows[0][2].as<bool>());
  EXPECT_EQ(rows[0][3].as<std::string>(), "pending");
  EXPECT_FALSE(rows[1][2].as<bool>());
}

TEST_F(EvidenceTest, StuckRevocationsAreWokenAndNeverReleasedByTheCleanup) {
  FakeWaker waker;
  Ledger with_waker{settings, &sessions, &waker};
  pool();
  const auto address = allocate("stuck", "k", true);
  revoke("stuck", "r", "timeout");
  reservation("stuck", "revoking", "revoking_since = now() - interval '2 hours'");
  const auto result = with_waker.cleanup({});
  EXPECT_GE(result.revoking_stuck(), 1);
  EXPECT_TRUE(std::ranges::count(waker.woken, "stuck") == 1);
  EXPECT_EQ(ask_who(address).holders.size(), 1U);  // still held

  waker.woken.clear();
  v1::CatchUpRequest soon;
  soon.set_older_than_s(3'600);
  with_waker.catch_up(soon);
  EXPECT_EQ(std::ranges::count(waker.woken, "stuck"), 0);  // its own workflow is at it
  sql(
      fmt::format("UPDATE holdings SET releasing_since = now() - interval '2 hours'"
                  " WHERE tenant_id = '{}'",
                  tenant));
  const auto looked = [&](const std::string& when) {
    sql("UPDATE holdings SET looked_at = clock_timestamp() - interval '" + when +
        "' WHERE tenant_id = '" + tenant + "'");
  };
  looked("1 minute");
  with_waker.catch_up(soon);
  EXPECT_EQ(std::ranges::count(waker.woken, "stuck"), 0) << "it looks by itself";
  looked("1 hour 30 minutes");
  soon.set_dry_run(true);
  EXPECT_GE(with_waker.catch_up(soon).gates_due(), 1);
  EXPECT_TRUE(waker.woken.empty());
  soon.set_dry_run(false);
  with_waker.catch_up(soon);
  EXPECT_EQ(std::ranges::count(waker.woken, "stuck"), 1);
}

TEST_F(EvidenceTest, ARefusedEffectThatIsWorthAnotherAttemptIsCaughtUp) {
  FakeWaker waker;
  Ledger with_waker{settings, &sessions, &waker};
  pool();
  allocate("refused", "k", true);
  const auto woken = [&](const std::string& reply) {
    sql(
        fmt::format("UPDATE effects SET status = 'refused', reply = '{}', updated_at ="
                    " clock_timestamp() - interval '2 minutes' WHERE tenant_id = '{}'"
                    " AND system = 'aaa'",
                    reply, tenant));
    waker.woken.clear();
    with_waker.catch_up({});
    return std::ranges::count(waker.woken, "refused");
  };
  EXPECT_EQ(woken(R"({"code": "unknown_nas", "retry": true, "retry_after_ms": "60000"})"), 1);
  EXPECT_EQ(woken(R"({"code": "nak-406", "retry": true, "retry_after_ms": "300000"})"), 0)
      << "its time has not come";
  EXPECT_EQ(woken(R"({"code": "nak-403", "retry": false})"), 0) << "final";
}

TEST_F(EvidenceTest, ALineAtItsGateHearsOfItsSessionsEndFromTheCatchUp) {
  FakeWaker waker;
  settings.pace.set_gate_poll_max_ms(600'000);
  Ledger with_waker{settings, &sessions, &waker};
  pool();
  allocate("slow", "k", true);
  revoke("slow", "r", "timeout");
  const auto woken = [&] {
    waker.woken.clear();
    with_waker.catch_up({});
    return std::ranges::count(waker.woken, "slow");
  };
  const auto waits = [&](const std::string& since) {
    sql("UPDATE holdings SET looked_at = clock_timestamp() - interval '90 seconds', releasing_since"
        " = clock_timestamp() - interval '" +
        since + "' WHERE tenant_id = '" + tenant + "'");
  };
  const auto now = std::chrono::system_clock::now();
  waits("2 hours");
  EXPECT_EQ(woken(), 0) << "no Stop";
  sessions.stops[tenant + "-slow"] = now - std::chrono::minutes{5};
  EXPECT_EQ(woken(), 0) << "it has looked since";
  sessions.stops[tenant + "-slow"] = now - std::chrono::minutes{1};
  EXPECT_EQ(woken(), 1);
  waits("3 minutes 30 seconds");
  EXPECT_EQ(woken(), 0) << "it looks by itself, as often as the catch-up";
}

TEST_F(EvidenceTest, CleanupCountsEveryPoolInAStatementOfItsOwn) {
  auto spec = pool_spec("198.51.100.0/29");
  for (const auto& [name, prefix] :
       {std::pair{"a", "198.51.100.0/29"}, {"b", "198.51.100.8/29"}, {"c", "198.51.100.16/29"}}) {
    spec.name = name;
    spec.prefix = prefix;
    ledger->add_pool(spec);
  }
  sql("UPDATE ip_pools SET counted_at = NULL, available_count = 99 WHERE tenant_id = '" + tenant +
      "'");
  ledger->cleanup({});
  const auto rows =
      sql("SELECT count(*) FILTER (WHERE available_count = 6),"
          " count(DISTINCT counted_at) FROM ip_pools WHERE tenant_id = '" +
          tenant + "'");
  EXPECT_EQ(rows[0][0].as<int>(), 3);
  EXPECT_EQ(rows[0][1].as<int>(), 3) << "one transaction for each";
}

// --- the audit -----------------------------------------------------------------------------------

TEST_F(EvidenceTest, TheAuditNamesEachInvariantThatIsBroken) {
  pool();
  allocate("s", "k", true);
  allocate("x", "k", true);
  ASSERT_TRUE(violations({}).empty());
  const std::string mine = " WHERE tenant_id = '" + tenant + "' AND subscriber_id = 's'";
  struct Case {
    std::string invariant;
    std::string breaks;
    std::string mends;
  };
  // A second open holding of the line: what the ledger never writes, and for I1 must not write.
  const auto second_holding = [&](const std::string& subscriber, const std::string& space) {
    return "INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, "
           "generation,"
           " routing_domain_id, pool_id, space, period, opened_by) SELECT tenant_id, '" +
           subscriber + "', service, service_id, family, generation, routing_domain_id, pool_id, " +
           space + ", period, opened_by FROM holdings" + mine;
  };
  const std::string forget_it =
      "ALTER TABLE holdings DISABLE TRIGGER holdings_append_only; DELETE FROM holdings h WHERE"
      " tenant_id = '" +
      tenant +
      "' AND NOT EXISTS (SELECT 1 FROM ip_reservations r WHERE r.holding_id = h.id);"
      " ALTER TABLE holdings ENABLE TRIGGER holdings_append_only;";
  const std::string guard =
      sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname ="
          " 'holdings_no_overlap'")[0][0]
          .c_str();
  const std::vector<Case> cases{
      {"I1",
       "ALTER TABLE holdings DROP CONSTRAINT holdings_no_overlap; " + second_holding("x", "space"),
       forget_it + " ALTER TABLE holdings ADD CONSTRAINT holdings_no_overlap " + guard},
      {"I4", second_holding("s", "'198.51.100.77'"), forget_it},
      {"I2", "UPDATE ip_reservations SET holding_id = NULL" + mine,
       "UPDATE ip_reservations r SET holding_id = h.id FROM holdings h WHERE"
       " h.service_id = r.service_id AND r.holding_id IS NULL AND upper_inf(h.period)"},
      {"I3", "UPDATE ip_reservations SET lifecycle_state = 'suspended'" + mine,
       "UPDATE ip_reservations SET lifecycle_state = 'allocated'" + mine},
      {"I5", "UPDATE operations SET phase = 'open'" + mine,
       "UPDATE operations SET phase = 'finished'" + mine},
      {"I6", "UPDATE operations SET outcome = outcome || '{\"success\": false}'" + mine,
       "UPDATE operations SET outcome = outcome || '{\"success\": true}'" + mine},
      {"I6", "UPDATE ip_reservations SET lifecycle_state = 'pending'" + mine,
       "UPDATE ip_reservations SET lifecycle_state = 'allocated'" + mine},
      {"I8", "UPDATE ip_reservations SET tenant_id = 'stranger'" + mine,
       "UPDATE ip_reservations SET tenant_id = '" + tenant + "' WHERE tenant_id = 'stranger'"},
      {"I8", "DELETE FROM pool_grants WHERE tenant_id = '" + tenant + "'",
       "INSERT INTO pool_grants (pool_id, tenant_id) SELECT id, tenant_id FROM ip_pools WHERE"
       " tenant_id = '" +
           tenant + "'"},
      {"I7",
       "UPDATE pool_addresses SET state = 'free' WHERE pool_id IN (SELECT id FROM ip_pools WHERE"
       " tenant_id = '" +
           tenant + "') AND state = 'held'",
       "UPDATE pool_addresses a SET state = 'held' WHERE EXISTS (SELECT 1 FROM holdings h WHERE"
       " h.pool_id = a.pool_id AND h.space = a.address AND upper_inf(h.period))"},
  };
  for (const Case& one : cases) {
    sql(one.breaks);
    const auto found = violations({});
    EXPECT_TRUE(std::ranges::any_of(
        found, [&](const auto& violation) { return violation.invariant == one.invariant; }))
        << one.invariant << " is not named after: " << one.breaks;
    sql(one.mends);
    ASSERT_TRUE(violations({}).empty()) << one.mends << " " << violations({})[0].what;
  }
}

TEST_F(EvidenceTest, TheAuditNamesWhatAaaSaysOtherwise) {
  pool();
  const auto address = allocate_exposed("s");
  const AuditPeers peers{.aaa = &aaa};
  aaa.lines = {line("s", address)};
  EXPECT_TRUE(violations(peers).empty());

  const auto named = [&](const std::string& invariant, const std::string& found) {
    const auto all = violations(peers);
    ASSERT_EQ(all.size(), 1U) << found;
    EXPECT_EQ(all[0].invariant, invariant);
    EXPECT_EQ(all[0].system, "aaa");
    EXPECT_EQ(all[0].subscriber, "s");
    EXPECT_THAT(all[0].found, ::testing::HasSubstr(found));
  };
  aaa.lines[0].spaces = {"198.51.100.99"};
  named("I3", "198.51.100.99");
  aaa.lines[0] = line("s", address);
  aaa.lines[0].refused = true;
  named("I3", "refused");
  aaa.lines[0] = line("s", address);
  aaa.lines[0].restricted = true;
  named("I3", "restricted");
  aaa.lines[0] = line("s", address);
  aaa.lines[0].plan.clear();
  named("I3", "plan none");
  aaa.lines[0] = line("s", address);
  aaa.lines[0].number = 9;
  named("I5", "9");
  aaa.lines.clear();
  named("I3", "none");
  aaa.lines = {line("s", address), line("s", address)};
  aaa.lines[1].username = "a-former-name";
  named("I3", address);
  aaa.lines.clear();
  sql(fmt::format("UPDATE effects SET status = 'unknown' WHERE tenant_id = '{}'", tenant));
  EXPECT_TRUE(violations(peers).empty());  // the unconfirmed effect says where not
}

TEST_F(EvidenceTest, TheAuditComparesThePlansGroup) {
  pool();
  const auto address = allocate_exposed("s");
  const AuditPeers peers{.aaa = &aaa};
  aaa.lines = {line("s", address)};
  aaa.lines[0].plan = "of-the-platform";
  EXPECT_TRUE(violations(peers).empty()) << "nobody has given the line a plan";
  sql(
      fmt::format("UPDATE effects SET wish = jsonb_set(wish, '{{plan}}', '\"gold\"')"
                  " WHERE tenant_id = '{}' AND system = 'aaa'",
                  tenant));
  const auto all = violations(peers);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].invariant, "I3");
  EXPECT_THAT(all[0].expected, ::testing::HasSubstr("plan gold"));
  EXPECT_THAT(all[0].found, ::testing::HasSubstr("plan of-the-platform"));
  aaa.lines[0].plan = "gold";
  EXPECT_TRUE(violations(peers).empty());
}

TEST_F(EvidenceTest, TheAuditNamesALineThatOnlyAaaKnows) {
  pool();
  aaa.lines = {line("ghost", "198.51.100.7")};
  const auto found = violations({.aaa = &aaa});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].invariant, "I5");
  EXPECT_EQ(found[0].subscriber, "ghost");
}

TEST_F(EvidenceTest, TheAuditNamesWhatNetboxHasOtherwiseTooMuchAndTooLittle) {
  auto spec = pool_spec();
  spec.netbox_mode = "mirror";
  ledger->add_pool(spec);
  const auto address = allocate("s", "k");
  const std::string key = tenant + "/s/internet/ipv4/" + address;
  sql(fmt::format("UPDATE effects SET status = 'confirmed' WHERE tenant_id = '{}'", tenant));
  sql(fmt::format("UPDATE ip_reservations SET netbox_ip_id = 5 WHERE tenant_id = '{}'", tenant));
  const AuditPeers peers{.netbox = &netbox};
  const ports::NetboxObject as_told{
      .id = 5, .key = key, .space = address, .status = "reserved", .lifecycle_state = "allocated"};
  netbox.objects = {as_told};
  EXPECT_TRUE(violations(peers).empty()) << violations(peers)[0].what;
  const auto named = [&](const std::string& found) {
    const auto all = violations(peers);
    ASSERT_EQ(all.size(), 1U) << found;
    EXPECT_EQ(all[0].invariant, "I3");
    EXPECT_EQ(all[0].system, "netbox");
    EXPECT_THAT(all[0].found, ::testing::HasSubstr(found));
  };
  netbox.objects[0].status = "active";
  named("active");
  netbox.objects[0] = as_told;
  netbox.objects[0].space = "198.51.100.99";
  named("198.51.100.99");
  netbox.objects.clear();
  named("none");
  netbox.objects = {as_told, as_told};
  netbox.objects[1].id = 6;
  netbox.objects[1].key = tenant + "/ghost/internet/ipv4/x";
  named("ghost");
  // What an older version never told NetBox: its object agrees with the last effect, not with the
  // line.
  netbox.objects = {as_told};
  netbox.objects[0].lifecycle_state = "suspended";
  named("reserved, suspended");
  netbox.objects = {as_told};
  sql(fmt::format("UPDATE ip_reservations SET lifecycle_state = 'active' WHERE tenant_id = '{}'",
                  tenant));
  named("reserved, allocated");
}

TEST_F(EvidenceTest, TheAuditNamesAnObjectThatShowsAHolderWhereNobodyHoldsAnything) {
  auto spec = pool_spec();
  spec.netbox_mode = "mirror";
  ledger->add_pool(spec);
  const auto address = allocate("s", "k");
  sql(fmt::format("UPDATE effects SET status = 'confirmed' WHERE tenant_id = '{}'", tenant));
  netbox.objects = {{.id = 5,
                     .key = tenant + "/s/internet/ipv4/" + address,
                     .space = address,
                     .status = "reserved",
                     .lifecycle_state = "allocated"}};
  const AuditPeers peers{.netbox = &netbox};
  EXPECT_TRUE(violations(peers).empty()) << "a line holds it";
  const auto claim = revoke("s", "r");
  sessions.seen.stopped_since = true;
  ASSERT_TRUE(gate(claim).open());
  EXPECT_TRUE(violations(peers).empty()) << "its release is on its way";
  const auto newest_effect_is = [&](const std::string& values) {
    sql(
        fmt::format("UPDATE effects SET {} WHERE id = (SELECT max(id) FROM effects WHERE"
                    " system = 'netbox' AND tenant_id = '{}')",
                    values, tenant));
  };
  newest_effect_is("status = 'not_applicable', code = 'left-alone'");
  EXPECT_TRUE(violations(peers).empty()) << "as a request wanted it";
  // As `netbox sync` did it once.
  newest_effect_is("action = 'reserve', status = 'confirmed', code = ''");
  const auto found = violations(peers);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].invariant, "I3");
  EXPECT_EQ(found[0].subscriber, "s");
  EXPECT_EQ(found[0].found, address + " reserved, allocated");
  EXPECT_THAT(found[0].what, ::testing::HasSubstr("holds nothing there"));
  // Its id is known still: once a person has deleted it, nothing is missing.
  sql(fmt::format("UPDATE ip_reservations SET netbox_ip_id = 5 WHERE tenant_id = '{}'", tenant));
  netbox.objects.clear();
  EXPECT_TRUE(violations(peers).empty());
}

TEST_F(EvidenceTest, TheAuditNamesAnObjectInAnotherVrfThanItsRoutingDomains) {
  auto spec = pool_spec();
  spec.netbox_mode = "mirror";
  spec.netbox_vrf_id = 7;
  ledger->add_pool(spec);
  const auto address = allocate("s", "k");
  sql(fmt::format("UPDATE effects SET status = 'confirmed' WHERE tenant_id = '{}'", tenant));
  netbox.objects = {{.id = 5,
                     .key = tenant + "/s/internet/ipv4/" + address,
                     .space = address,
                     .status = "reserved",
                     .lifecycle_state = "allocated",
                     .vrf_id = 7}};
  const AuditPeers peers{.netbox = &netbox};
  EXPECT_TRUE(violations(peers).empty());
  netbox.objects[0].vrf_id = 0;
  const auto found = violations(peers);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].expected, address + " reserved, allocated in VRF 7");
  EXPECT_EQ(found[0].found, address + " reserved, allocated");
}

TEST_F(EvidenceTest, ASystemOutOfReachIsNeverCalledClean) {
  pool();
  allocate("s", "k");
  aaa.away = true;
  const auto report = ledger->audit({.aaa = &aaa});
  EXPECT_EQ(report.result, AuditReport::Result::kCouldNotCheck);
  ASSERT_EQ(report.out_of_reach.size(), 1U);
  EXPECT_EQ(report.out_of_reach[0], "aaa");
}

TEST_F(EvidenceTest, AServiceWithAnOperationUnderWayIsSkipped) {
  pool();
  const auto address = allocate_exposed("s");
  ledger->claim(ask("activate", "s", "k2"));
  aaa.lines = {line("s", "198.51.100.99")};
  EXPECT_TRUE(violations({.aaa = &aaa}).empty());
  EXPECT_GE(ledger->audit().skipped, 1);
  sql(
      fmt::format("UPDATE operations SET phase = 'finished', outcome = '{{}}' WHERE key = 'k2'"
                  " AND tenant_id = '{}'",
                  tenant));
  sql(fmt::format("UPDATE services SET open_operation_id = NULL WHERE tenant_id = '{}'", tenant));
}

// --- a ledger that was restored to an earlier state ----------------------------------------------

TEST_F(EvidenceTest, ARestoredLedgerGivesNobodyAnAddressBeforeItWasReconciled) {
  pool("198.51.100.0/29");
  const auto held = allocate_exposed("s");
  const std::string lost = held == "198.51.100.1" ? "198.51.100.2" : "198.51.100.1";
  Ledger after{settings, &sessions};
  after.watch(aaa);
  aaa.newest = 1'000'000'000;  // AAA has seen effects that this ledger does not know
  EXPECT_EQ(code_of([&] { after.claim(ask("allocate", "new", "k")); }), ErrorCode::kLedgerRestored);
  // It is on record: a worker that cannot ask AAA refuses as well, and the audit says so.
  EXPECT_EQ(code_of([&] { ledger->claim(ask("allocate", "new", "k")); }),
            ErrorCode::kLedgerRestored);
  const auto report = ledger->audit();
  EXPECT_EQ(report.result, AuditReport::Result::kViolated);

  // What was lost: another line got an address, and line `s` went on.
  aaa.fences = {{.service = {tenant, "s", "internet"}, .number = 7},
                {.service = {tenant, "lost", "internet"}, .number = 3}};
  aaa.handed = {{.space = held,
                 .username = tenant + "-s",
                 .tenant = tenant,
                 .subscriber = "s",
                 .service = "internet",
                 .now = true},
                {.space = lost,
                 .username = tenant + "-lost",
                 .tenant = tenant,
                 .subscriber = "lost",
                 .service = "internet",
                 .now = true}};
  EXPECT_EQ(after.reconcile_after_restore(aaa, "test", true).services_made, 1);
  EXPECT_EQ(code_of([&] { after.claim(ask("allocate", "new", "k")); }),
            ErrorCode::kLedgerRestored);  // a dry run changes nothing
  const auto done = after.reconcile_after_restore(aaa, "test", false);
  EXPECT_EQ(done.services_moved, 1);
  EXPECT_EQ(done.services_made, 1);
  EXPECT_EQ(done.spaces_blocked, 1);
  auto wants_lost = ask("allocate", "new", "k2");
  wants_lost.set_requested_address(lost);
  EXPECT_EQ(code_of([&] { after.claim(wants_lost); }), ErrorCode::kAddressTaken);
  const auto next = after.claim(ask("activate", "s", "k3"));
  EXPECT_GT(next.claim().number(), 7);  // AAA's fence lets it pass
}

TEST_F(EvidenceTest, ALineWhoseAddressWentToAnotherBeforeTheRestoreLosesItInTheLedger) {
  pool("198.51.100.0/29");
  const auto address = allocate_exposed("s");
  aaa.handed = {{.space = address,
                 .username = tenant + "-next",
                 .tenant = tenant,
                 .subscriber = "next",
                 .service = "internet",
                 .now = true}};
  const auto done = ledger->reconcile_after_restore(aaa, "test", false);
  EXPECT_EQ(done.holdings_closed, 1);
  auto again = ask("allocate", "s", "k9");
  again.set_requested_address(address);
  EXPECT_EQ(code_of([&] { ledger->claim(again); }), ErrorCode::kAddressTaken);
}

TEST_F(EvidenceTest, WhileAaaCannotBeAskedARestoreIsNotRuledOut) {
  pool();
  aaa.away = true;
  Ledger after{settings, &sessions};
  after.watch(aaa);
  EXPECT_EQ(code_of([&] { after.claim(ask("allocate", "s", "k")); }), ErrorCode::kUnavailable);
  aaa.away = false;
  EXPECT_EQ(after.claim(ask("allocate", "s", "k")).outcome(), "claimed");
  aaa.away = true;  // asked once for each incarnation of the database
  EXPECT_EQ(after.claim(ask("allocate", "x", "k")).outcome(), "claimed");
}

TEST_F(EvidenceTest, NoGateOpensInARestoredLedger) {
  pool();
  allocate("s", "k", true);
  const auto claim = revoke("s", "r");
  sessions.seen.stopped_since = true;
  sql("UPDATE ledger_guard SET restored = true, detail = 'a test'");
  EXPECT_FALSE(gate(claim).open());
  sql("UPDATE ledger_guard SET restored = false");
  EXPECT_TRUE(gate(claim).open());
}

}  // namespace
}  // namespace addrflow::ledger
