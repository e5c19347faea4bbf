// Which space a service gets: on a real PostgreSQL, also with rows that others have locked.
#include <atomic>
#include <set>
#include <thread>

#include "interval_checker.hpp"
#include "ledger_fixture.hpp"

namespace addrflow::ledger {
namespace {

class AllocatorTest : public LedgerTest {
 protected:
  PoolSpec named(const std::string& name, const std::string& prefix) const {
    PoolSpec spec = pool_spec(prefix);
    spec.name = name;
    return spec;
  }
  PoolSpec prefixes(const std::string& prefix = "2001:db8::/40") const {
    PoolSpec spec = named("prefixes", prefix);
    spec.family = "ipv6_pd";
    return spec;
  }

  // Claim and reserve of one family, not yet finished.
  v1::ReserveReply take(const v1::ClaimRequest& asked) {
    const auto claimed = ledger->claim(asked);
    EXPECT_EQ(claimed.outcome(), "claimed");
    v1::ReserveRequest request;
    *request.mutable_claim() = claimed.claim();
    const bool ipv4 = asked.families_size() == 0 || asked.families(0) == "ipv4";
    request.set_family(ipv4 ? "ipv4" : "ipv6_pd");
    request.set_pool_id(ipv4 ? asked.ipv4_pool_id() : asked.ipv6_pool_id());
    request.set_requested_address(ipv4 ? asked.requested_address() : asked.requested_prefix());
    request.set_prefix_length(asked.ipv6_pd_size());
    claim_ = claimed.claim();
    return ledger->reserve(request);
  }
  v1::ClaimRequest wish(const std::string& subscriber, const std::string& pool = {},
                        const std::string& space = {}) const {
    auto request = ask("allocate", subscriber, "allocate-" + subscriber);
    request.set_ipv4_pool_id(pool);
    request.set_requested_address(space);
    return request;
  }
  v1::ClaimRequest wish_prefix(const std::string& subscriber, int size = 0,
                               const std::string& prefix = {}) const {
    auto request = ask("allocate", subscriber, "allocate-" + subscriber);
    request.add_families("ipv6_pd");
    request.set_ipv6_pd_size(size);
    request.set_requested_prefix(prefix);
    return request;
  }
  std::string held(const v1::ClaimRequest& asked) {
    const std::string space = take(asked).address();
    auto move = to(claim_, "allocated");
    if (asked.families_size() > 0) move.mutable_families()->CopyFrom(asked.families());
    ledger->transition(move);
    finish(claim_);
    return space;
  }
  // Nothing of it was exposed: it is free at once.
  void give_back() {
    v1::UndoRequest request;
    *request.mutable_claim() = claim_;
    ledger->undo(request);
    finish(claim_, false);
  }

  static int masklen(const std::string& prefix) {
    return std::stoi(prefix.substr(prefix.find('/') + 1));
  }

  template <class F>
  static std::string message_of(F work) {
    try {
      work();
    } catch (const LedgerError& error) {
      return error.what();
    }
    return "no error";
  }

  const By by_{.actor = "ann", .reason = "renumbering"};
  v1::Claim claim_;
};

TEST_F(AllocatorTest, APoolOfPrefixesGivesEachPrefixOnceAndThenSaysItIsExhausted) {
  const auto info = ledger->add_pool(prefixes("2001:db8:1:fc00::/54"));
  EXPECT_EQ(info.total, 4);
  std::set<std::string> given;
  for (int i = 0; i < 4; ++i) given.insert(held(wish_prefix(fmt::format("s{}", i))));
  EXPECT_EQ(given.size(), 4U);
  EXPECT_TRUE(given.contains("2001:db8:1:ff00::/56"));
  EXPECT_EQ(code_of([&] { take(wish_prefix("late")); }), ErrorCode::kPoolExhausted);
  expect_clean();
}

TEST_F(AllocatorTest, AWidePoolOfPrefixesCountsWithoutRows) {
  const auto info = ledger->add_pool(prefixes("2001:db8::/32"));
  EXPECT_EQ(info.total, 1 << 24);
  held(wish_prefix("s1"));
  const auto usage = ledger->pool_usage(tenant, "prefixes");
  EXPECT_EQ(usage.held, 1);
  EXPECT_EQ(usage.free, (1 << 24) - 1);
}

TEST_F(AllocatorTest, ARequestedPrefixIsNotHandedOutAgainByTheCursor) {
  ledger->add_pool(prefixes("2001:db8:1:fc00::/54"));
  EXPECT_EQ(held(wish_prefix("s1", 56, "2001:db8:1:fd00::/56")), "2001:db8:1:fd00::/56");
  EXPECT_EQ(code_of([&] { take(wish_prefix("s2", 0, "2001:db8:1:fd00::/56")); }),
            ErrorCode::kAddressTaken);
  std::set<std::string> rest;
  for (int i = 3; i < 6; ++i) rest.insert(held(wish_prefix(fmt::format("s{}", i))));
  EXPECT_EQ(rest.size(), 3U);
  EXPECT_FALSE(rest.contains("2001:db8:1:fd00::/56"));
  expect_clean();
}

TEST_F(AllocatorTest, AReturnedPrefixGoesToItsFormerHolderFirst) {
  ledger->add_pool(prefixes());
  const std::string first = take(wish_prefix("s1")).address();
  give_back();
  auto again = wish_prefix("s1");
  again.mutable_caller()->set_key("again");
  const auto reply = take(again);
  EXPECT_EQ(reply.address(), first);
  EXPECT_EQ(reply.metadata().at("allocation_method"), "sticky");
}

TEST_F(AllocatorTest, OneSizeAPoolUnlessThePoolSaysOtherwise) {
  ledger->add_pool(prefixes());
  EXPECT_NE(message_of([&] { take(wish_prefix("s1", 60)); }).find("ipv6_pd_size"),
            std::string::npos);
}

TEST_F(AllocatorTest, MixedSizesNeverOverlapAndJoinAgain) {
  PoolSpec mixed = prefixes("2001:db8:2::/47");
  mixed.shortest_length = 48;
  ledger->add_pool(mixed);
  EXPECT_EQ(masklen(held(wish_prefix("a", 64))), 64);
  EXPECT_EQ(masklen(held(wish_prefix("b", 52))), 52);
  EXPECT_EQ(masklen(held(wish_prefix("c", 48))), 48);
  const std::string large = take(wish_prefix("d")).address();
  EXPECT_EQ(masklen(large), 56);
  EXPECT_EQ(code_of([&] { take(wish_prefix("e", 48)); }), ErrorCode::kPoolExhausted);
  EXPECT_EQ(code_of([&] { take(wish_prefix("e", 47)); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(sql("SELECT count(*) FROM pool_addresses a JOIN pool_addresses b ON a.address < "
                "b.address AND a.address && b.address AND a.pool_id = b.pool_id WHERE a.state <> "
                "'split' AND b.state <> 'split'")[0][0]
                .as<int>(),
            0);
}

TEST_F(AllocatorTest, PoolsOfOneRequestAreTakenInTheirOrder) {
  ledger->add_pool(named("first", "198.51.100.0/31"));
  ledger->add_pool(named("second", "203.0.113.0/31"));
  EXPECT_EQ(held(wish("s1", "second,first")), "203.0.113.0");
  EXPECT_EQ(held(wish("s2", "second,first")), "203.0.113.1");
  EXPECT_EQ(held(wish("s3", "second,first")), "198.51.100.0");
  EXPECT_EQ(held(wish("s4", "second,first", "198.51.100.1")), "198.51.100.1");
  EXPECT_EQ(code_of([&] { take(wish("s5", "second,first")); }), ErrorCode::kPoolExhausted);
}

TEST_F(AllocatorTest, AGroupSpillsOverByPriorityAndTwoPoolsWithoutOneAreAmbiguous) {
  PoolSpec small = named("small", "198.51.100.0/31");
  small.group = "public";
  small.priority = 1;
  PoolSpec large = named("large", "203.0.113.0/24");
  large.group = "public";
  ledger->add_pool(large);
  ledger->add_pool(small);
  EXPECT_EQ(held(wish("s1")), "198.51.100.0");
  EXPECT_EQ(held(wish("s2", "public")), "198.51.100.1");
  EXPECT_EQ(held(wish("s3")), "203.0.113.1");
  ledger->add_pool(named("other", "192.0.2.0/24"));
  EXPECT_EQ(code_of([&] { take(wish("s4")); }), ErrorCode::kAmbiguousPool);
  EXPECT_NE(message_of([&] { take(wish("s4")); }).find("ipv4_pool_id"), std::string::npos);
  EXPECT_EQ(code_of([&] { take(wish("s4", "no-such")); }), ErrorCode::kNoSuchPool);
}

TEST_F(AllocatorTest, ASitesOwnPoolServesItsNasOnly) {
  ledger->add_nas(nas_record("192.0.2.1"));
  PoolSpec site = named("site", "203.0.113.0/24");
  site.nas_ips = {"192.0.2.1"};
  ledger->add_pool(site);
  pool();
  auto here = wish("s1");
  here.set_nas_ip("192.0.2.1");
  EXPECT_EQ(held(here), "203.0.113.1");
  EXPECT_EQ(held(wish("s2")), "198.51.100.1");
  EXPECT_NE(message_of([&] { take(wish("s3", "site")); }).find("nas_ip"), std::string::npos);
}

TEST_F(AllocatorTest, ADrainingPoolKeepsWhatItGaveAndGivesNothingNew) {
  pool();
  held(wish("s1"));
  ledger->drain_pool(tenant, "main", true, by_);
  EXPECT_EQ(code_of([&] { take(wish("s2", "main")); }), ErrorCode::kPoolExhausted);
  EXPECT_NE(message_of([&] { take(wish("s2", "main")); }).find("draining"), std::string::npos);
  EXPECT_EQ(ledger->pool_usage(tenant, "main").held, 1);
  ledger->drain_pool(tenant, "main", false, by_);
  EXPECT_EQ(held(wish("s2")), "198.51.100.2");
  expect_clean();
}

TEST_F(AllocatorTest, ShrinkRefusesWhatLinesHoldOrWaitsForThemToLeave) {
  pool("198.51.100.0/28");
  held(wish("s1", "", "198.51.100.9"));
  EXPECT_EQ(code_of([&] { ledger->shrink_pool(tenant, "main", "198.51.100.0/29", false, by_); }),
            ErrorCode::kConflict);
  EXPECT_EQ(ledger->pool_usage(tenant, "main").total, 14);
  auto change = ledger->shrink_pool(tenant, "main", "198.51.100.0/29", true, by_);
  EXPECT_FALSE(change.complete);
  EXPECT_EQ(change.held, std::vector<std::string>{"198.51.100.9"});
  EXPECT_EQ(code_of([&] { take(wish("s2", "", "198.51.100.10")); }), ErrorCode::kAddressTaken);
  sql("UPDATE holdings SET exposed = false WHERE upper_inf(period) AND tenant_id = '" + tenant +
      "'");
  const auto claim = revoke("s1", "r1");
  sessions.seen = {};
  sql("UPDATE holdings SET releasing_since = clock_timestamp() - interval '3 days'"
      " WHERE upper_inf(period) AND tenant_id = '" +
      tenant + "'");
  gate(claim);
  change = ledger->shrink_pool(tenant, "main", "198.51.100.0/29", true, by_);
  EXPECT_TRUE(change.complete);
  EXPECT_EQ(ledger->pool_usage(tenant, "main").prefix, "198.51.100.0/29");
  EXPECT_EQ(code_of([&] { take(wish("s2", "", "198.51.100.10")); }),
            ErrorCode::kAddressOutsidePool);
}

TEST_F(AllocatorTest, APoolOfPrefixesShrinksItsIntervalsToo) {
  ledger->add_pool(prefixes("2001:db8:1::/48"));
  ledger->shrink_pool(tenant, "prefixes", "2001:db8:1:fc00::/54", false, by_);
  std::set<std::string> given;
  for (int i = 0; i < 4; ++i) given.insert(held(wish_prefix(fmt::format("s{}", i))));
  EXPECT_EQ(given.size(), 4U);
  EXPECT_EQ(code_of([&] { take(wish_prefix("late")); }), ErrorCode::kPoolExhausted);
}

TEST_F(AllocatorTest, ExcludedSpaceIsNeverHandedOut) {
  pool("198.51.100.0/29");
  ledger->exclude_space(tenant, "main", "198.51.100.1-198.51.100.4", false, by_);
  EXPECT_EQ(held(wish("s1")), "198.51.100.5");
  EXPECT_EQ(code_of([&] { ledger->exclude_space(tenant, "main", "198.51.100.5", false, by_); }),
            ErrorCode::kConflict);
  EXPECT_EQ(code_of([&] { ledger->exclude_space(tenant, "main", "192.0.2.1", false, by_); }),
            ErrorCode::kInvalidArgument);
  ledger->add_pool(prefixes("2001:db8:1:fc00::/54"));
  ledger->exclude_space(tenant, "prefixes", "2001:db8:1:fc00::/55", false, by_);
  std::set<std::string> given{held(wish_prefix("p1")), held(wish_prefix("p2"))};
  EXPECT_EQ(given, (std::set<std::string>{"2001:db8:1:fe00::/56", "2001:db8:1:ff00::/56"}));
  EXPECT_EQ(code_of([&] { take(wish_prefix("p3")); }), ErrorCode::kPoolExhausted);
}

TEST_F(AllocatorTest, QuarantineEndsEarlyOnlyByAPersonWhoSaysWhy) {
  pool("198.51.100.0/31");
  held(wish("s1"));
  sql("UPDATE pool_addresses SET free_after = clock_timestamp() + interval '1 "
      "hour', last_service_id = 0 WHERE address = '198.51.100.1' AND pool_id = (SELECT id FROM "
      "ip_pools WHERE tenant_id = '" +
      tenant + "')");
  EXPECT_EQ(code_of([&] { take(wish("s3")); }), ErrorCode::kPoolExhausted);
  EXPECT_EQ(code_of([&] { take(wish("s3", "", "198.51.100.1")); }), ErrorCode::kAddressTaken);
  EXPECT_EQ(code_of([&] { ledger->end_quarantine(tenant, "main", "198.51.100.1", {}); }),
            ErrorCode::kInvalidArgument);
  ledger->end_quarantine(tenant, "main", "198.51.100.1", by_);
  EXPECT_EQ(sql("SELECT actor || ': ' || detail FROM audit_log WHERE event = 'quarantine_ended' "
                "AND tenant_id = '" +
                tenant + "'")[0][0]
                .as<std::string>(),
            "ann: 198.51.100.1: renumbering");
  EXPECT_EQ(code_of([&] { ledger->end_quarantine(tenant, "main", "198.51.100.1", by_); }),
            ErrorCode::kConflict);
  EXPECT_EQ(held(wish("s4", "", "198.51.100.1")), "198.51.100.1");
}

TEST_F(AllocatorTest, TheQuarantineOfAPrefixEndsEarlyToo) {
  PoolSpec spec = pool_spec("2001:db8::/55");
  spec.family = "ipv6_pd";
  ledger->add_pool(spec);
  const auto taken = held(wish_prefix("p1"));
  sql("UPDATE pool_addresses SET state = 'free', last_service_id = 0,"
      " free_after = clock_timestamp() + interval '1 hour' WHERE address = '" +
      taken + "' AND pool_id = (SELECT id FROM ip_pools WHERE tenant_id = '" + tenant + "')");
  sql("UPDATE holdings SET period = tstzrange(lower(period), clock_timestamp()),"
      " evidence = 'strong' WHERE tenant_id = '" +
      tenant + "'");
  plants_violation = true;  // its row stays as it is: only the pool is looked at here
  held(wish_prefix("p2"));
  EXPECT_EQ(code_of([&] { take(wish_prefix("p3")); }), ErrorCode::kPoolExhausted);
  EXPECT_EQ(code_of([&] { ledger->end_quarantine(tenant, "main", "2001:db8::/40", by_); }),
            ErrorCode::kConflict);
  ledger->end_quarantine(tenant, "main", taken, by_);
  EXPECT_EQ(take(wish_prefix("p3")).address(), taken);
}

TEST_F(AllocatorTest, APoolIsMadeAgainAsItIsOrRefusedWithWhatDiffersNamed) {
  auto spec = pool_spec("198.51.100.0/28");
  const auto made = ledger->add_pool(spec);
  EXPECT_EQ(ledger->add_pool(spec).id, made.id);
  const auto refused_for = [&](const PoolSpec& other) -> std::string {
    try {
      ledger->add_pool(other);
    } catch (const LedgerError& error) {
      EXPECT_EQ(error.code(), ErrorCode::kConflict);
      return std::string{error.what()}.substr(0, std::string_view{error.what()}.find(':'));
    }
    return "nothing";
  };
  spec.hold_time = std::chrono::hours{25};
  EXPECT_EQ(refused_for(spec), "hold_time");
  spec = pool_spec("198.51.100.0/28");
  spec.netbox_mode = spec.netbox_mode == "off" ? "mirror" : "off";
  EXPECT_EQ(refused_for(spec), "netbox_mode");
  EXPECT_EQ(refused_for(pool_spec("198.51.100.0/27")), "prefix");
  const std::string guest = tenant + "-guest";
  ledger->add_tenant(guest);
  const auto refused_with = [&](auto change) {
    spec = pool_spec("198.51.100.0/28");
    change(spec);
    return refused_for(spec);
  };
  EXPECT_EQ(refused_with([&](PoolSpec& s) { s.granted_to = {guest}; }), "granted_to");
  EXPECT_EQ(refused_with([](PoolSpec& s) { s.nas_ips = {"192.0.2.1"}; }), "nas_ips");
  EXPECT_EQ(refused_with([](PoolSpec& s) { s.exclusions = {"198.51.100.4"}; }), "exclusions");
  EXPECT_EQ(refused_with([](PoolSpec& s) { s.routing_domain += "-x"; }), "routing_domain");
  EXPECT_EQ(refused_with([](PoolSpec& s) { s.netbox_vrf_id = 3; }), "vrf");
  const auto usage = ledger->pool_usage(tenant, "main");
  EXPECT_EQ(usage.granted_to, std::vector{tenant});
  EXPECT_TRUE(usage.nas_ips.empty());
  EXPECT_EQ(usage.free, 14);
}

TEST_F(AllocatorTest, APoolIsTheSameHoweverItsOptionsAreWritten) {
  const std::string guest = tenant + "-guest";
  ledger->add_tenant(guest);
  PoolSpec spec = pool_spec("198.51.100.0/28");
  spec.exclusions = {"198.51.100.4/31", "198.51.100.0"};
  spec.nas_ips = {"192.0.2.1", "2001:DB8::1"};
  spec.granted_to = {guest};
  const auto made = ledger->add_pool(spec);
  spec.exclusions = {"198.51.100.0-198.51.100.0", "198.51.100.4-198.51.100.5"};
  spec.nas_ips = {"2001:db8:0::1", "192.0.2.1", "192.0.2.1"};
  spec.granted_to = {tenant, guest};
  EXPECT_EQ(ledger->add_pool(spec).id, made.id);
  ledger->unblock_space(tenant, "main", "198.51.100.4", by_);
  EXPECT_EQ(code_of([&] { ledger->add_pool(spec); }), ErrorCode::kConflict);

  PoolSpec wide = prefixes("2001:DB8::/40");
  wide.exclusions = {"2001:DB8:1::/48"};
  const auto made_wide = ledger->add_pool(wide);
  wide.prefix = "2001:db8::/40";
  wide.exclusions = {"2001:db8:1:0::/48"};
  EXPECT_EQ(ledger->add_pool(wide).id, made_wide.id);
  wide.exclusions.clear();
  EXPECT_EQ(code_of([&] { ledger->add_pool(wide); }), ErrorCode::kConflict);
}

TEST_F(AllocatorTest, AHoldTimeThatASettingHasRaisedIsNoOtherPool) {
  const auto made = pool("198.51.100.0/28");
  settings.longest_lease = std::chrono::hours{48};
  ledger = std::make_unique<Ledger>(settings, &sessions);
  auto spec = pool_spec("198.51.100.0/28");
  EXPECT_EQ(ledger->add_pool(spec).id, made.id);
  spec.hold_time = std::chrono::hours{24};  // as it is, whatever a new one must have
  EXPECT_EQ(ledger->add_pool(spec).id, made.id);
  spec.hold_time = std::chrono::hours{1};
  EXPECT_EQ(code_of([&] { ledger->add_pool(spec); }), ErrorCode::kConflict);
  spec = named("other", "198.51.100.16/28");
  ledger->add_pool(spec);
  EXPECT_EQ(ledger->pool_usage(tenant, "other").hold_time_s, 48 * 3600);
  // And where it was taken back.
  settings.longest_lease = std::chrono::seconds{0};
  ledger = std::make_unique<Ledger>(settings, &sessions);
  EXPECT_NO_THROW(ledger->add_pool(spec));
}

TEST_F(AllocatorTest, APoolIsSetAsAWholeAndOnRecordOrNotAtAll) {
  pool("198.51.100.0/28");
  const std::string guest = tenant + "-guest";
  ledger->add_tenant(guest);
  settings.longest_lease = std::chrono::hours{2};
  ledger = std::make_unique<Ledger>(settings, &sessions);
  PoolSettings wanted;
  wanted.quarantine = std::chrono::seconds{10};
  wanted.hold_time = std::chrono::hours{3};
  wanted.group = "site";
  wanted.priority = 5;
  wanted.grant = {guest};
  wanted.nas_ips = std::vector<std::string>{"192.0.2.1"};
  EXPECT_EQ(ledger->set_pool(tenant, "main", wanted, by_).size(), 6U);
  EXPECT_TRUE(ledger->set_pool(tenant, "main", wanted, by_).empty()) << "it is so already";
  const auto noted =
      sql(fmt::format("SELECT actor || ': ' || detail FROM audit_log WHERE event = 'pool_set' AND"
                      " tenant_id = '{}'",
                      tenant));
  ASSERT_EQ(noted.size(), 1U);
  EXPECT_EQ(noted[0][0].as<std::string>(),
            "ann: quarantine: 3600 -> 10; hold_time: 86400 -> 10800; group: none -> site;"
            " priority: 100 -> 5; granted to " +
                guest + "; nas_ips: none -> 192.0.2.1: renumbering");

  const auto refused = [&](auto change) {
    PoolSettings other;
    other.priority = 9;
    change(other);
    return code_of([&] { ledger->set_pool(tenant, "main", other, by_); });
  };
  const auto invalid = ErrorCode::kInvalidArgument;
  EXPECT_EQ(refused([](PoolSettings& s) { s.hold_time = std::chrono::hours{1}; }), invalid);
  EXPECT_EQ(refused([](PoolSettings& s) { s.quarantine = std::chrono::seconds{-1}; }), invalid);
  EXPECT_EQ(refused([](PoolSettings& s) { s.group = "no group"; }), invalid);
  const std::vector<std::string> names{"bng1"};
  EXPECT_EQ(refused([&](PoolSettings& s) { s.nas_ips = names; }), invalid);
  EXPECT_EQ(refused([&](PoolSettings& s) { s.revoke_grant = {tenant}; }), invalid);
  EXPECT_EQ(refused([](PoolSettings& s) { s.grant = {"nobody-here"}; }), ErrorCode::kNoSuchTenant);
  EXPECT_EQ(code_of([&] { ledger->set_pool(tenant, "main", {}, by_); }), invalid);
  const By nobody{.actor = "", .reason = "why"};
  EXPECT_EQ(code_of([&] { ledger->set_pool(tenant, "main", wanted, nobody); }), invalid);
  const auto usage = ledger->pool_usage(tenant, "main");
  EXPECT_EQ(usage.priority, 5);
  EXPECT_EQ(usage.quarantine_s, 10);
  EXPECT_EQ(usage.hold_time_s, 3 * 3600);
  EXPECT_EQ(usage.group, "site");
  EXPECT_EQ(usage.nas_ips, std::vector<std::string>{"192.0.2.1"});
  EXPECT_EQ(usage.granted_to, (std::vector<std::string>{tenant, guest}));
  wanted = {};
  wanted.nas_ips.emplace();
  ledger->set_pool(tenant, "main", wanted, by_);
  EXPECT_TRUE(ledger->pool_usage(tenant, "main").nas_ips.empty());
}

TEST_F(AllocatorTest, AGrantStaysWhileItsTenantHoldsSpaceOfThePool) {
  const std::string owner = tenant;
  const std::string guest = tenant + "-guest";
  ledger->add_tenant(guest);
  PoolSpec shared = pool_spec("198.51.100.0/29");
  shared.granted_to = {guest};
  ledger->add_pool(shared);
  tenant = guest;
  const auto address = held(wish("visitor"));
  const auto claimed = ledger->claim(ask("revoke", "visitor", "r"));
  tenant = owner;
  PoolSettings wanted;
  wanted.revoke_grant = {guest};
  EXPECT_EQ(code_of([&] { ledger->set_pool(owner, "main", wanted, by_); }), ErrorCode::kConflict);
  ledger->transition(to(claimed.claim(), "revoking"));
  finish(claimed.claim());
  ASSERT_TRUE(gate(claimed.claim()).open()) << address << " was never handed out";
  EXPECT_EQ(ledger->set_pool(owner, "main", wanted, by_).size(), 1U);
  tenant = guest;
  EXPECT_EQ(code_of([&] { take(wish("late")); }), ErrorCode::kNoSuchPool);
  tenant = owner;
}

TEST_F(AllocatorTest, BlockedSpaceIsGivenBackByAPersonAndExcludedSpaceAsAWhole) {
  auto spec = pool_spec("198.51.100.0/28");
  spec.gateway = "198.51.100.1";
  ledger->add_pool(spec);
  const auto wanted = wish("s4", "", "198.51.100.9");
  ledger->exclude_space(tenant, "main", "198.51.100.8/30", false, by_);
  EXPECT_NE(code_of([&] { take(wanted); }), ErrorCode::kOk);
  const auto unblock = [&](const std::string& space) {
    return code_of([&] { ledger->unblock_space(tenant, "main", space, by_); });
  };
  EXPECT_EQ(unblock("198.51.100.9"), ErrorCode::kConflict) << "a part of what is excluded";
  EXPECT_EQ(unblock("198.51.100.1"), ErrorCode::kInvalidArgument) << "the gateway";
  EXPECT_EQ(unblock("198.51.100.5"), ErrorCode::kConflict) << "nothing is blocked";
  EXPECT_EQ(unblock("198.51.100.8/30"), ErrorCode::kOk);
  EXPECT_EQ(held(wanted), "198.51.100.9");
  sql("UPDATE pool_addresses SET state = 'blocked', why = 'NetBox' WHERE address IN"
      " ('198.51.100.9', '198.51.100.10') AND pool_id IN (SELECT id FROM ip_pools WHERE tenant_id ="
      " '" +
      tenant + "')");
  EXPECT_EQ(unblock("198.51.100.9-198.51.100.10"), ErrorCode::kOk);
  EXPECT_EQ(code_of([&] { take(wish("s5", "", "198.51.100.9")); }), ErrorCode::kAddressTaken)
      << "its line holds it all the same";
  EXPECT_EQ(held(wish("s6", "", "198.51.100.10")), "198.51.100.10");
}

// Another connection holds the last free row, and gives it back.
TEST_F(AllocatorTest, APoolIsNotCalledFullWhileOthersHaveItsRowsLocked) {
  pool("198.51.100.0/32");
  ledger->add_pool(prefixes("2001:db8:1::/56"));
  pqxx::connection other{database_url()};
  for (const bool ipv4 : {true, false}) {
    pqxx::work lock{other};
    lock.exec(
        fmt::format("SELECT 1 FROM {} WHERE pool_id IN (SELECT id FROM ip_pools WHERE "
                    "tenant_id = '{}') FOR UPDATE",
                    ipv4 ? "pool_addresses" : "pool_shards", tenant));
    std::string got;
    std::thread waiting{[&] { got = take(ipv4 ? wish("s4") : wish_prefix("s6")).address(); }};
    pqxx::connection watch{database_url()};
    for (bool waits = false; !waits;) {
      pqxx::nontransaction look{watch};
      waits = look.exec(
                      "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = "
                      "'Lock' AND datname = current_database() AND query LIKE '%take_space%' AND "
                      "pid <> pg_backend_pid())")[0][0]
                  .as<bool>();
    }
    lock.abort();
    waiting.join();
    EXPECT_EQ(got, ipv4 ? "198.51.100.0" : "2001:db8:1::/56");
  }
}

TEST_F(AllocatorTest, TwoTenantsOnOnePoolAndTwoDomainsWithTheSameSpace) {
  const std::string guest = tenant + "-guest";
  ledger->add_tenant(guest);
  PoolSpec shared = named("shared", "10.0.0.0/30");
  shared.granted_to = {guest};
  ledger->add_pool(shared);
  EXPECT_EQ(held(wish("s1")), "10.0.0.1");
  const std::string owner = std::exchange(tenant, guest);
  EXPECT_EQ(held(wish("s1", "shared")), "10.0.0.2");
  EXPECT_EQ(code_of([&] { take(wish("s2", "shared")); }), ErrorCode::kPoolExhausted);
  PoolSpec own = named("own", "10.0.0.0/30");
  own.routing_domain = guest;
  ledger->add_pool(own);
  EXPECT_EQ(held(wish("s2", "own")), "10.0.0.1");
  tenant = owner;
  EXPECT_EQ(code_of([&] { take(wish("s3", "own")); }), ErrorCode::kNoSuchPool);
  expect_clean();
}

// --- many at once
TEST_F(AllocatorTest, TheCheckerFindsABrokenHistory) {
  using Row = HeldInterval;
  EXPECT_EQ(overlaps({Row{"a", 1, 5, "x"}, Row{"a", 5, 9, "y"}, Row{"b", 1, 9, "z"}}), 0);
  EXPECT_EQ(overlaps({Row{"a", 1, 6, "x"}, Row{"a", 5, 9, "y"}}), 1);
  EXPECT_EQ(overlaps({Row{"a", 1, 9, "x"}, Row{"a", 2, 3, "y"}, Row{"a", 4, 5, "z"}}), 2);
}

TEST_F(AllocatorTest, NoTwoHoldersAtOnceUnderThirtyTwoClients) {
  constexpr int kClients = 32;
  const char* asked = std::getenv("ADDRFLOW_CHURN_SECONDS");
  const std::chrono::seconds time{asked == nullptr ? 3 : std::stoi(asked)};
  auto addresses = pool_spec("198.51.100.0/28");
  addresses.quarantine = std::chrono::seconds{0};
  ledger->add_pool(addresses);
  auto prefixed = prefixes("2001:db8:1:f000::/52");
  prefixed.quarantine = std::chrono::seconds{1};
  ledger->add_pool(prefixed);
  settings.pool_size = kClients;
  ledger = std::make_unique<Ledger>(settings, &sessions);
  sessions.seen.stopped_since = true;
  IntervalLog log;
  std::atomic<int> exhausted{0};
  std::atomic<int> released{0};
  std::vector<std::string> unexpected(kClients);
  // Held for as long as a login and a look take; gone when its session is.
  const auto live_and_leave = [&](const v1::Claim& claim, const std::string& family, int round) {
    auto up = to(claim, "allocated");
    up.set_families(0, family);
    const auto told = ledger->transition(up);
    send(claim, told.aaa());
    finish(claim);
    const auto request = ask("revoke", claim.service().subscriber_id(), fmt::format("r{}", round));
    const auto leaving = ledger->claim(request).claim();
    auto down = to(leaving, "revoking");
    down.set_families(0, family);
    down.set_plan_radius("disconnect");
    const auto moved = ledger->transition(down);
    send(leaving, moved.aaa());
    send(leaving, moved.radius(), "ack");
    finish(leaving);
    return leaving;
  };
  const auto release = [&](const v1::Claim& claim, const std::string& family) {
    v1::GateRequest request;
    *request.mutable_service() = claim.service();
    request.set_number(claim.number());
    request.add_families(family);
    const auto opened = ledger->gate(request);
    released += opened.open() ? 1 : 0;
    return opened.open() ? std::string{} : "the gate is shut: " + opened.detail();
  };
  const auto undo = [&](const v1::Claim& claim) {
    v1::UndoRequest request;
    *request.mutable_claim() = claim;
    ledger->undo(request);
    finish(claim);
  };
  // One round of a client; what went wrong, or nothing.
  const auto once = [&](int number, int round) -> std::string {
    const bool ipv4 = (number + round) % 2 == 0;
    const std::string family = ipv4 ? "ipv4" : "ipv6_pd";
    const std::string subscriber = fmt::format("c{}", number);
    auto request = ipv4 ? wish(subscriber) : wish_prefix(subscriber);
    request.mutable_caller()->set_key(fmt::format("k{}", round));
    request.set_request_hash(request.caller().key());
    v1::Claim claim;
    try {
      claim = ledger->claim(request).claim();
      v1::ReserveRequest reserve;
      *reserve.mutable_claim() = claim;
      reserve.set_family(family);
      const std::string space = ledger->reserve(reserve).address();
      const auto from = log.now();
      const bool lives = round / 2 % 2 == 0;  // and else is undone before anybody had it
      const v1::Claim leaving = lives ? live_and_leave(claim, family, round) : claim;
      if (!lives) ledger->view(claim.service());
      log.add({space, from.count(), log.now().count(), subscriber});
      if (lives) return release(leaving, family);
      undo(claim);
    } catch (const LedgerError& error) {
      if (error.code() != ErrorCode::kPoolExhausted) return error.what();
      ++exhausted;
      if (claim.operation_id() != 0) undo(claim);
    }
    return {};
  };
  const auto client = [&](int number) {
    std::string& wrong = unexpected[static_cast<std::size_t>(number)];
    constexpr int kLeast = 4;  // however slow the machine
    for (int round = 0; (log.now() < time || round < kLeast) && wrong.empty(); ++round)
      wrong = once(number, round);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) threads.emplace_back(client, i);
  for (std::thread& thread : threads) thread.join();
  for (const std::string& message : unexpected) EXPECT_EQ(message, "");
  const auto rows = log.rows();
  EXPECT_GT(rows.size(), static_cast<std::size_t>(kClients));
  EXPECT_GT(released, kClients) << "space went through the gate, and to the next";
  EXPECT_EQ(overlaps(rows), 0);
  // The ledger's own record of who held what says the same.
  std::vector<HeldInterval> recorded;
  for (const auto& row :
       sql("SELECT abbrev(space), (extract(epoch FROM lower(period)) * 1e6)::bigint,"
           " (extract(epoch FROM coalesce(upper(period), clock_timestamp()))"
           "  * 1e6)::bigint, subscriber_id FROM holdings WHERE tenant_id = '" +
           tenant + "'"))
    recorded.push_back(
        {row[0].c_str(), row[1].as<std::int64_t>(), row[2].as<std::int64_t>(), row[3].c_str()});
  EXPECT_GE(recorded.size(), rows.size());
  EXPECT_EQ(overlaps(recorded), 0);
  expect_clean();
}

}  // namespace
}  // namespace addrflow::ledger
