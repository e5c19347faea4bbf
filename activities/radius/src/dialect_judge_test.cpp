// Each dialect that says `judged` before a peer that judges as such a device does by its documents:
// full speed, restriction, full speed again, and the end of the session, by real packets of the
// activity.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>

#include "fakes.hpp"
#include "judging_nas.hpp"

#include "addrflow/radius/effects.hpp"

namespace addrflow::radius {
namespace {

using Kind = JudgingNas::Kind;

struct Case {
  const char* dialect;
  Kind kind;
};

class DialectJudgeTest : public ::testing::TestWithParam<Case> {
 protected:
  DialectJudgeTest() {
    ::setenv("ADDRFLOW_UNIT_NAS_SECRET", "s", 1);
    network.record.nas_ip = "192.0.2.1";
    network.record.coa_host = "127.0.0.1";
    network.record.coa_port = nas.port();
    network.record.dialect = GetParam().dialect;
    network.record.secret_ref = "env:ADDRFLOW_UNIT_NAS_SECRET";
    session.acct_session_id = "81a0";
    session.acct_unique_id = "u";
    session.username = "sub1";
    session.nas_ip = "192.0.2.1";
    session.framed_ip = "203.0.113.7";
    sessions.looks = {{session}};
  }
  static EffectsSettings settings() {
    EffectsSettings settings;
    settings.second_look = std::chrono::milliseconds{0};
    settings.variables = {{"restricted_rate_up", "64k"},
                          {"restricted_rate_down", "64k"},
                          {"restricted_rate_up_kbit", "64"},
                          {"restricted_rate_down_kbit", "64"}};
    settings.plans["gold"] = {{"rate_up", "20M"},
                              {"rate_down", "100M"},
                              {"rate_up_kbit", "20000"},
                              {"rate_down_kbit", "100000"}};
    settings.plans["silver"] = {{"rate_up", "5M"},
                                {"rate_down", "25M"},
                                {"rate_up_kbit", "5000"},
                                {"rate_down_kbit", "25000"}};
    return settings;
  }
  v1::EffectReply send(const char* action, const char* condition, const char* plan = "gold",
                       const std::vector<std::string>& former_plans = {}) {
    journal.leave.kind = ports::Leave::Kind::kSend;
    journal.leave.attempt = 1;
    journal.leave.action = action;
    journal.leave.wish = {{"username", "sub1"}, {"condition", condition}, {"plan", plan}};
    if (!former_plans.empty()) journal.leave.wish["former_plans"] = former_plans;
    return effects.send({});
  }
  // What tells full speed from a restriction on this device.
  std::string condition() {
    const auto seen = nas.seen();
    if (!seen.condition.empty()) return seen.condition;
    std::string all;
    for (const auto& service : seen.services) all += service + " ";
    return all;
  }

  JudgingNas nas{GetParam().kind};
  Client client{ClientSettings{}};
  SecretStore secrets;
  Dialects dialects;
  FakeJournal journal;
  FakeWaker waker;
  FakeSessions sessions;
  FakeNetwork network;
  RadiusEffects effects{client, secrets, dialects, journal, waker, sessions, network, settings()};
  ports::Session session;
};

TEST_P(DialectJudgeTest, EachConditionIsTakenAsItWasMeant) {
  const Dialect& dialect = *dialects.find(GetParam().dialect);
  EXPECT_TRUE(dialect.judged);
  const auto full = send("coa", "full");
  EXPECT_EQ(full.code(), "ack") << full.detail();
  if (dialect.coa_disconnects) {
    EXPECT_FALSE(nas.seen().online) << "the next login takes the AAA rows";
    return;
  }
  const std::string at_full_speed = condition();
  EXPECT_FALSE(at_full_speed.empty());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(send("coa", "restricted").code(), "ack");
    EXPECT_NE(condition(), at_full_speed);
  }
  EXPECT_EQ(send("coa", "full").code(), "ack");
  EXPECT_EQ(condition(), at_full_speed) << "nothing of the restriction is left";
  EXPECT_TRUE(nas.seen().online);
}

TEST_P(DialectJudgeTest, AnotherPlanLeavesNothingOfTheOneBefore) {
  if (dialects.find(GetParam().dialect)->coa_disconnects) GTEST_SKIP() << "it changes no session";
  EXPECT_EQ(send("coa", "full", "silver").code(), "ack");
  const std::string silver = condition();
  EXPECT_EQ(send("coa", "restricted", "silver").code(), "ack");
  const std::string restricted = condition();
  nas.preset({});

  EXPECT_EQ(send("coa", "full", "gold").code(), "ack");
  EXPECT_EQ(send("coa", "full", "silver", {"gold"}).code(), "ack");
  EXPECT_EQ(condition(), silver);
  const bool services = GetParam().kind == Kind::kJuniper || GetParam().kind == Kind::kCiscoXr;
  if (services) EXPECT_EQ(nas.seen().services, std::set<std::string>{"silver"});
  EXPECT_EQ(send("coa", "restricted", "silver").code(), "ack");
  EXPECT_EQ(condition(), restricted);
  EXPECT_EQ(send("coa", "full", "silver").code(), "ack");
  EXPECT_EQ(condition(), silver);

  // Nobody knows whether the packet of the change has come: the next one says it all.
  nas.preset({});
  EXPECT_EQ(send("coa", "full", "gold").code(), "ack");
  EXPECT_EQ(send("coa", "restricted", "silver", {"bronze", "gold"}).code(), "ack");
  EXPECT_EQ(condition(), restricted);
}

TEST_P(DialectJudgeTest, DisconnectEndsTheSessionAndASecondOneFindsNone) {
  EXPECT_EQ(send("disconnect", "").code(), "ack");
  EXPECT_FALSE(nas.seen().online);
  const auto again = send("disconnect", "");
  EXPECT_NE(again.status(), "confirmed");
  EXPECT_NE(again.status(), "unknown");
}

TEST_P(DialectJudgeTest, SessionThatIsOverIsNoFailureOfARestriction) {
  if (dialects.find(GetParam().dialect)->coa_disconnects) GTEST_SKIP() << "it changes no session";
  nas.preset({.online = false});
  sessions.looks = {{session}, {}};  // accounting's Stop comes between the two looks
  const auto reply = send("coa", "restricted");
  const bool cisco = GetParam().kind == Kind::kCiscoXr;
  // Cisco's 407 may mean a wrong service as well: an operator looks at it.
  EXPECT_EQ(reply.status(), cisco ? "refused" : "not_applicable") << reply.detail();
}

TEST_P(DialectJudgeTest, ChangeOfAddressIsANewLogin) {
  journal.leave.kind = ports::Leave::Kind::kSend;
  journal.leave.attempt = 1;
  journal.leave.action = "coa";
  journal.leave.wish = {
      {"username", "sub1"}, {"condition", "full"}, {"plan", "gold"}, {"renumber", true}};
  EXPECT_EQ(effects.send({}).code(), "ack");
  EXPECT_FALSE(nas.seen().online);
}

INSTANTIATE_TEST_SUITE_P(
    All, DialectJudgeTest,
    ::testing::Values(Case{"rfc5176", Kind::kRfc5176}, Case{"mikrotik", Kind::kMikrotik},
                      Case{"cisco-isg", Kind::kCiscoIsg}, Case{"cisco-xr", Kind::kCiscoXr},
                      Case{"juniper", Kind::kJuniper}, Case{"accel-ppp", Kind::kAccelPpp}),
    [](const auto& info) {
      std::string name = info.param.dialect;
      std::erase(name, '-');
      return name;
    });

TEST(Judged, EveryDialectThatSaysSoHasItsJudge) {
  const std::set<std::string> judges{"rfc5176",  "mikrotik", "cisco-isg",
                                     "cisco-xr", "juniper",  "accel-ppp"};
  const Dialects dialects;
  for (const auto& name : dialects.names()) {
    EXPECT_EQ(dialects.find(name)->judged, judges.contains(name)) << name;
  }
  for (const char* untested : {"huawei", "nokia", "zte"}) {
    ASSERT_NE(dialects.find(untested), nullptr);
    EXPECT_FALSE(dialects.find(untested)->tested);
  }
}

// A judge that takes everything would prove nothing.
TEST(Judges, RefuseWhatTheDeviceRefuses) {
  const auto ask = [](Kind kind, Code code, std::vector<Attribute> attributes) {
    JudgingNas nas{kind};
    Client client{ClientSettings{}};
    Request request;
    request.host = "127.0.0.1";
    request.port = nas.port();
    request.secret = "s";
    request.code = code;
    request.attributes = std::move(attributes);
    return client.send(std::move(request)).error_cause.value_or(0);
  };
  const Attribute id{0, 44, "81a0"};
  const Attribute ip{0, 8, std::string{"\xcb\x00\x71\x07", 4}};
  EXPECT_EQ(ask(Kind::kRfc5176, Code::kDisconnectRequest, {id, ip}), 401U);
  EXPECT_EQ(ask(Kind::kRfc5176, Code::kDisconnectRequest, {id, {0, 11, "x"}}), 401U);
  EXPECT_EQ(ask(Kind::kRfc5176, Code::kCoaRequest, {{0, 11, "x"}}), 402U);
  EXPECT_EQ(ask(Kind::kMikrotik, Code::kCoaRequest, {id, {14988, 19, "garden"}}), 401U);
  EXPECT_EQ(ask(Kind::kCiscoXr, Code::kDisconnectRequest, {id, {0, 1, "another"}}), 407U);
  EXPECT_EQ(ask(Kind::kJuniper, Code::kCoaRequest, {id, {4874, 65, "untagged"}}), 404U);
  EXPECT_EQ(ask(Kind::kJuniper, Code::kCoaRequest, {id, {14988, 8, "1/1"}}), 401U);
  EXPECT_EQ(ask(Kind::kJuniper, Code::kDisconnectRequest, {{0, 1, "sub1"}}), 402U);
  EXPECT_EQ(ask(Kind::kAccelPpp, Code::kDisconnectRequest, {id, {0, 32, "other"}}), 403U);
}

}  // namespace
}  // namespace addrflow::radius
