// Catching up: lists, and what NetBox does to them.
#include "effects_fixture.hpp"

namespace addrflow::netbox {
namespace {

class CatchUp : public NetboxEffectsTest {
 protected:
  void due(int line, const std::string& action, bool earlier_unknown = false) {
    ports::ClaimedEffect& one = ledger_.due.emplace_back();
    one.leave.kind = ports::Leave::Kind::kSend;
    one.leave.effect_id = line;
    one.leave.attempt = 1;
    one.leave.action = action;
    one.leave.earlier_unknown = earlier_unknown;
    one.leave.wish = {{"key", "line-" + std::to_string(line)},
                      {"address", "192.0.2." + std::to_string(line)},
                      {"prefix_length", 24},
                      {"subscriber", std::to_string(line)},
                      {"state", "active"}};
  }
  v1::NetboxCatchUpResult catch_up() {
    return NetboxEffects{client_, journal_, ledger_, waker_}.catch_up({});
  }
};

TEST_F(CatchUp, ManyAreOneRequest) {
  for (int line = 1; line <= 40; ++line) due(line, "reserve");
  const int before = netbox_.writes();
  const auto result = catch_up();
  EXPECT_EQ(result.confirmed(), 40);
  EXPECT_EQ(netbox_.writes() - before, 1);
  EXPECT_EQ(netbox_.addresses().size(), 40U);
  EXPECT_EQ(ledger_.breaker, "closed");

  for (int line = 1; line <= 20; ++line) due(line, "set_active");
  for (int line = 21; line <= 40; ++line) due(line, "release");
  EXPECT_EQ(catch_up().confirmed(), 40);
  EXPECT_EQ(netbox_.writes() - before, 3);
  ASSERT_EQ(netbox_.addresses().size(), 20U);
  EXPECT_EQ(netbox_.addresses().at(0)["status"]["value"], "active");
}

TEST_F(CatchUp, OneBadItemDoesNotKeepTheOthersBack) {
  netbox_.create({{"address", "192.0.2.2/32"}, {"description", "theirs"}});
  for (int line = 1; line <= 3; ++line) due(line, "reserve");
  const auto result = catch_up();
  EXPECT_EQ(result.confirmed(), 2);
  EXPECT_EQ(result.refused(), 1);
  EXPECT_EQ(netbox_.addresses().size(), 3U);
}

TEST_F(CatchUp, AListWhoseAnswerWasLostIsLookedUpBeforeItIsRepeated) {
  for (int line = 1; line <= 5; ++line) due(line, "reserve");
  netbox_.fault({{"kind", "drop"}, {"method", "POST"}, {"path", "ip-addresses"}});
  EXPECT_EQ(catch_up().unconfirmed(), 5);
  for (int line = 1; line <= 5; ++line) due(line, "reserve", true);
  EXPECT_EQ(catch_up().confirmed(), 5);
  EXPECT_EQ(netbox_.addresses().size(), 5U);
}

TEST_F(CatchUp, WhatOneLineGivesBackAnotherMayGet) {
  due(7, "reserve");
  ASSERT_EQ(catch_up().confirmed(), 1);
  due(8, "reserve");
  ledger_.due.back().leave.wish["address"] = "192.0.2.7";
  EXPECT_EQ(catch_up().unconfirmed(), 1);  // line 7's object still stands there
  due(8, "reserve");
  ledger_.due.back().leave.wish["address"] = "192.0.2.7";
  due(7, "release");
  EXPECT_EQ(catch_up().confirmed(), 2);
  ASSERT_EQ(netbox_.addresses().size(), 1U);
  EXPECT_EQ(netbox_.addresses().at(0)["custom_fields"]["idempotency_key"], "line-8");
}

TEST_F(CatchUp, ThoseThatWaitForAReleaseDoNotKeepItBack) {
  due(7, "reserve");
  ASSERT_EQ(catch_up().confirmed(), 1);
  for (int line = 100; line < 150; ++line) {  // a whole list
    due(line, "reserve");
    ledger_.due.back().leave.wish["address"] = "192.0.2.7";
  }
  due(7, "release");
  const auto result = catch_up();
  EXPECT_EQ(result.unconfirmed(), 50);
  EXPECT_EQ(result.confirmed(), 1);
}

TEST_F(CatchUp, NotThereIsNotGoneWhileAnOlderRequestIsOnItsWay) {
  due(1, "release");
  ledger_.due.back().leave.wish["unsettled_ms"] = 5'000;
  EXPECT_EQ(catch_up().unconfirmed(), 1);
  due(1, "release");
  EXPECT_EQ(catch_up().confirmed(), 1);
}

TEST_F(CatchUp, ANetboxThatIsDownIsLeftAlone) {
  netbox_.fault({{"kind", "503"}, {"count", 1'000}});
  for (int i = 0; i < 5; ++i) {
    due(1, "set_active");
    catch_up();
  }
  EXPECT_EQ(ledger_.breaker, "open");
  due(2, "reserve");
  const auto claims = ledger_.limits.size();
  EXPECT_EQ(catch_up().breaker(), "open");
  EXPECT_EQ(ledger_.limits.size(), claims);
  EXPECT_EQ(ledger_.due.size(), 1U);
}

TEST_F(NetboxEffectsTest, ADelegatedPrefixLivesAndItsDoubleGoes) {
  journal_.leave.wish = {{"key", "k"},          {"family", "ipv6_pd"},
                         {"pool_id", "p"},      {"prefix", "2001:db8:1::/56"},
                         {"prefix_length", 56}, {"subscriber", "1"}};
  ledger_.writer_free = false;
  EXPECT_EQ(apply("reserve").code(), "netbox-writer-busy");
  ledger_.writer_free = true;
  const auto made = apply("reserve");
  ASSERT_EQ(made.status(), "confirmed") << made.detail();
  EXPECT_EQ(ledger_.released, 1);
  EXPECT_EQ(apply("set_active", "active").netbox_id(), made.netbox_id());
  EXPECT_EQ(apply("release").status(), "confirmed");

  netbox_.fault({{"kind", "race"}, {"method", "POST"}, {"path", "prefixes"}});
  const auto raced = apply("reserve");
  EXPECT_TRUE(raced.conflict()) << raced.detail();
  const auto left =
      client_->find_by_key(Kind::kPrefix, "k", Clock::now() + std::chrono::seconds{9});
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->empty());
}

}  // namespace
}  // namespace addrflow::netbox
