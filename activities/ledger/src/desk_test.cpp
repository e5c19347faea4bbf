// What operators look through, on a real PostgreSQL.
#include "ledger_fixture.hpp"

#include <gmock/gmock.h>
#include <addrflow/ledger/desk.hpp>

namespace addrflow::ledger {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Operators : public LedgerTest {
 protected:
  void SetUp() override {
    LedgerTest::SetUp();
    if (!IsSkipped()) desk = std::make_unique<Desk>(settings);
  }
  std::unique_ptr<Desk> desk;

  v1::ListRequest wanted() const {
    v1::ListRequest request;
    request.set_tenant_id(tenant);
    return request;
  }
  static std::vector<std::string> subscribers(const v1::ListReply& reply) {
    std::vector<std::string> names;
    for (const auto& entry : reply.entries()) names.push_back(entry.service().subscriber_id());
    return names;
  }
  v1::EffectDetail unconfirmed() {
    v1::EffectListRequest request;
    request.set_tenant_id(tenant);
    const auto reply = desk->effects(request);
    EXPECT_EQ(reply.effects_size(), 1);
    return reply.effects(0);
  }
};

TEST_F(Operators, LinesAreListedByStatePoolAgeAndUnconfirmedEffects) {
  pool();
  allocate("a", "k1", true);
  allocate("b", "k2");  // its AAA rows are still to be written
  const auto claim = revoke("a", "k3");

  EXPECT_THAT(subscribers(desk->list(wanted())), ElementsAre("a", "b"));
  auto request = wanted();
  request.add_states("revoking");
  request.add_states("failed");
  EXPECT_THAT(subscribers(desk->list(request)), ElementsAre("a"));
  request = wanted();
  request.set_unconfirmed(true);
  const auto waiting = desk->list(request);
  ASSERT_THAT(subscribers(waiting), ElementsAre("b"));
  EXPECT_EQ(waiting.entries(0).unconfirmed(), 1);
  EXPECT_EQ(waiting.entries(0).state(), "allocated");
  EXPECT_EQ(waiting.entries(0).pool(), "main");
  EXPECT_TRUE(waiting.entries(0).space_held());
  EXPECT_TRUE(waiting.entries(0).has_since());
  request = wanted();
  request.set_pool("main");
  EXPECT_EQ(desk->list(request).entries_size(), 2);
  request.set_pool("other");
  EXPECT_EQ(desk->list(request).entries_size(), 0);
  request = wanted();
  request.set_older_than_s(3'600);
  EXPECT_EQ(desk->list(request).entries_size(), 0);
  request = wanted();
  request.set_tenant_id("another");
  EXPECT_EQ(desk->list(request).entries_size(), 0);
}

TEST_F(Operators, PagesFollowEachOtherWithoutGapOrRepeat) {
  pool();
  for (const char* name : {"a", "b", "c", "d", "e"}) allocate(name, "k");
  auto request = wanted();
  request.set_limit(2);
  std::vector<std::string> seen;
  for (int page = 0; page < 5; ++page) {
    const auto reply = desk->list(request);
    for (const std::string& name : subscribers(reply)) seen.push_back(name);
    if (reply.next().empty()) break;
    request.set_after(reply.next());
  }
  EXPECT_THAT(seen, ElementsAre("a", "b", "c", "d", "e"));
}

TEST_F(Operators, OnlyTheNewestGenerationIsListed) {
  pool();
  allocate("a", "k1");
  gate(revoke("a", "k2"));
  allocate("a", "k3");
  const auto reply = desk->list(wanted());
  ASSERT_EQ(reply.entries_size(), 1);
  EXPECT_EQ(reply.entries(0).generation(), 2);
  EXPECT_EQ(reply.entries(0).state(), "allocated");
}

TEST_F(Operators, AQuestionThatMakesNoSenseIsRefusedWithItsField) {
  auto request = wanted();
  request.add_states("sleeping");
  EXPECT_EQ(code_of([&] { desk->list(request); }), ErrorCode::kInvalidArgument);
  request = wanted();
  request.set_limit(1'001);
  EXPECT_EQ(code_of([&] { desk->list(request); }), ErrorCode::kInvalidArgument);
  request = wanted();
  request.set_after("1; drop table");
  EXPECT_EQ(code_of([&] { desk->list(request); }), ErrorCode::kInvalidArgument);
}

TEST_F(Operators, AnEffectIsShownWithWhatItWantsAndWhoWantedIt) {
  pool();
  allocate("a", "k1");
  const auto effect = unconfirmed();
  EXPECT_EQ(effect.effect().system(), "aaa");
  EXPECT_EQ(effect.effect().status(), "planned");
  EXPECT_EQ(effect.operation(), "allocate");
  EXPECT_EQ(effect.actor(), "test");
  EXPECT_EQ(effect.key(), "k1");
  EXPECT_TRUE(effect.current());
  EXPECT_THAT(effect.wish_json(), HasSubstr("framed_ip"));
  EXPECT_EQ(desk->effect(effect.effect().effect_id()).wish_json(), effect.wish_json());
  EXPECT_EQ(code_of([&] { desk->effect(1'000'000'000); }), ErrorCode::kNotFound);
}

TEST_F(Operators, AnAbandonedEffectIsNotSentAnyMore) {
  pool();
  allocate("a", "k1");
  const auto id = unconfirmed().effect().effect_id();
  EXPECT_EQ(code_of([&] { desk->abandon_effect(id, "", "why"); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { desk->abandon_effect(id, "noc", ""); }), ErrorCode::kInvalidArgument);
  const auto abandoned = desk->abandon_effect(id, "noc", "done by hand");
  EXPECT_EQ(abandoned.effect().status(), "abandoned");
  EXPECT_EQ(abandoned.effect().detail(), "abandoned by noc: done by hand");

  v1::EffectRequest request;
  *request.mutable_service() = service("a");
  request.set_number(abandoned.number());
  request.mutable_effect()->set_effect_id(id);
  const auto leave = ledger->begin(request, std::chrono::seconds{1});
  EXPECT_EQ(leave.kind, ports::Leave::Kind::kRecorded);
  EXPECT_EQ(leave.recorded.status(), "abandoned");
  EXPECT_THAT(ledger->view(service("a")).unconfirmed(), IsEmpty());
  // Again: nothing changes. What is over cannot be abandoned.
  EXPECT_EQ(desk->abandon_effect(id, "other", "again").effect().detail(),
            abandoned.effect().detail());
  expect_clean();
}

TEST_F(Operators, AConfirmedEffectCannotBeAbandoned) {
  pool();
  allocate("a", "k1", true);
  v1::EffectListRequest request;
  request.set_tenant_id(tenant);
  request.add_statuses("confirmed");
  const auto reply = desk->effects(request);
  ASSERT_EQ(reply.effects_size(), 1);
  EXPECT_EQ(
      code_of([&] { desk->abandon_effect(reply.effects(0).effect().effect_id(), "noc", "why"); }),
      ErrorCode::kConflict);
}

TEST_F(Operators, ThePersonsWordsAreInTheAuditLog) {
  pool();
  allocate("a", "k1");
  desk->abandon_effect(unconfirmed().effect().effect_id(), "noc", "done by hand");
  pqxx::connection connection{database_url()};
  pqxx::work tx{connection};
  const auto row = tx.exec_params1(
      "SELECT actor, detail FROM audit_log WHERE tenant_id = $1 AND event = 'effect abandoned'",
      tenant);
  EXPECT_STREQ(row[0].c_str(), "noc");
  EXPECT_THAT(row[1].c_str(), HasSubstr("aaa/apply: done by hand"));
}

}  // namespace
}  // namespace addrflow::ledger
