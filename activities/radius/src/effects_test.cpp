#include "addrflow/radius/effects.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>

#include "fake_nas.hpp"
#include "fakes.hpp"

namespace addrflow::radius {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class EffectsTest : public ::testing::Test {
 protected:
  EffectsTest() {
    ::setenv("ADDRFLOW_UNIT_NAS_SECRET", "s", 1);
    network.record.nas_ip = "192.0.2.1";
    network.record.coa_host = "127.0.0.1";
    network.record.coa_port = nas.port();
    network.record.secret_ref = "env:ADDRFLOW_UNIT_NAS_SECRET";
    wish("coa", "full");
  }

  void wish(const char* action, const char* condition) {
    journal.leave.kind = ports::Leave::Kind::kSend;
    journal.leave.attempt = 1;
    journal.leave.action = action;
    journal.leave.wish = {{"username", "sub1"},         {"former_usernames", {"old1"}},
                          {"nas_ip", "192.0.2.1"},      {"condition", condition},
                          {"framed_ip", "203.0.113.7"}, {"plan", "gold"}};
  }
  static ports::Session session(std::string id) {
    ports::Session session;
    session.acct_session_id = id;
    session.acct_unique_id = "u" + id;
    session.username = "sub1";
    session.nas_ip = "192.0.2.1";
    session.framed_ip = "203.0.113.7";
    return session;
  }
  // `wait`: for the first answer, and for each other.
  static ClientSettings client_settings(milliseconds wait) {
    ClientSettings settings;
    settings.initial_wait = wait;
    settings.max_wait = wait;
    settings.max_sendings = 3;
    return settings;
  }
  static EffectsSettings settings() {
    EffectsSettings settings;
    settings.second_look = milliseconds{0};
    settings.fence_interval = milliseconds{10};
    settings.session_timeout = seconds{604'800};
    return settings;
  }
  std::future<v1::EffectReply> send() { return send_by(effects); }
  std::future<v1::EffectReply> send_by(RadiusEffects& its) {
    return std::async(std::launch::async, [this, &its] { return its.send(request); });
  }
  void expect_silence() { EXPECT_TRUE(nas.receive(milliseconds{30}).octets.empty()); }

  FakeNas nas;
  Client client{client_settings(seconds{5})};
  Client hasty_client{client_settings(milliseconds{300})};
  SecretStore secrets;
  Dialects dialects;
  FakeJournal journal;
  FakeWaker waker;
  FakeSessions sessions;
  FakeNetwork network;
  RadiusEffects effects{client, secrets, dialects, journal, waker, sessions, network, settings()};
  // Where silence is what a test waits for.
  RadiusEffects hasty{hasty_client, secrets,  dialects, journal,
                      waker,        sessions, network,  settings()};
  v1::EffectRequest request;
};

TEST_F(EffectsTest, CoaNamesTheSessionAndStatesTheWholeCondition) {
  sessions.looks = {{session("81a0")}};
  auto reply = send();
  const auto received = nas.receive();
  const auto packet = decode(received.octets);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->code, Code::kCoaRequest);
  EXPECT_EQ(packet->find(attribute::kAcctSessionId)->value, "81a0");
  EXPECT_EQ(packet->find(attribute::kUserName)->value, "sub1");
  EXPECT_EQ(packet->find(11)->value, "gold");
  EXPECT_EQ(packet->find(attribute::kFramedIpAddress), nullptr);
  nas.answer(received, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
  ASSERT_EQ(journal.finished.size(), 1U);
  EXPECT_EQ(journal.finished[0].code(), "ack");
  EXPECT_EQ(waker.woken, 0);
}

TEST_F(EffectsTest, RestrictionIsAnotherFilter) {
  wish("coa", "restricted");
  sessions.looks = {{session("1")}};
  auto reply = send();
  const auto received = nas.receive();
  EXPECT_EQ(decode(received.octets)->find(11)->value, "suspended");
  nas.answer(received, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
}

TEST_F(EffectsTest, DisconnectCarriesIdentifiersOnly) {
  wish("disconnect", "");
  sessions.looks = {{session("1")}};
  auto reply = send();
  const auto received = nas.receive();
  const auto packet = decode(received.octets);
  EXPECT_EQ(packet->code, Code::kDisconnectRequest);
  for (const auto& attribute : packet->attributes) {
    EXPECT_TRUE(attribute.type == 1 || attribute.type == 4 || attribute.type == 44 ||
                attribute.type == 55 || attribute.type == 80)
        << int{attribute.type};
  }
  nas.answer(received, Code::kDisconnectAck);
  EXPECT_EQ(reply.get().code(), "ack");
}

TEST_F(EffectsTest, NoSessionIsNotApplicableAndNothingIsSent) {
  for (const char* condition : {"full", "restricted"}) {
    wish("coa", condition);
    const auto reply = effects.send(request);
    EXPECT_EQ(reply.status(), "not_applicable");
    EXPECT_EQ(reply.code(), "no-session");
  }
  expect_silence();
}

TEST_F(EffectsTest, EverySessionIsToldAndTheWorstAnswerCounts) {
  sessions.looks = {{session("1"), session("2")}};
  auto reply = send();
  const auto one = nas.receive();
  const auto two = nas.receive();
  nas.answer(one, Code::kCoaAck);
  nas.answer(two, Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(506)}});
  const auto merged = reply.get();
  EXPECT_EQ(merged.status(), "refused");
  EXPECT_EQ(merged.error_cause(), 506);
  EXPECT_TRUE(merged.retry());
}

TEST_F(EffectsTest, UnknownSessionIsFollowedToTheNewerOne) {
  sessions.looks = {{session("old")}, {session("new")}};
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto second = nas.receive();
  EXPECT_EQ(decode(second.octets)->find(attribute::kAcctSessionId)->value, "new");
  nas.answer(second, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
}

TEST_F(EffectsTest, UnknownSessionThatAccountingHasClosedIsNotApplicable) {
  sessions.looks = {{session("old")}, {}};
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  EXPECT_EQ(reply.get().status(), "not_applicable");
}

TEST_F(EffectsTest, UnknownSessionThatAccountingStillShowsIsRetried) {
  sessions.looks = {{session("same")}};
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto merged = reply.get();
  EXPECT_EQ(merged.status(), "refused");
  EXPECT_TRUE(merged.retry());
}

TEST_F(EffectsTest, SilenceIsUnknown) {
  sessions.looks = {{session("1")}};
  const auto reply = hasty.send(request);
  EXPECT_EQ(reply.status(), "unknown");
  EXPECT_TRUE(reply.retry());
}

TEST_F(EffectsTest, DisconnectGoesToAStaleSessionToo) {
  wish("disconnect", "");
  sessions.stale = {session("stale")};
  auto reply = send();
  const auto received = nas.receive();
  EXPECT_EQ(decode(received.octets)->find(attribute::kAcctSessionId)->value, "stale");
  nas.answer(received, Code::kDisconnectNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto got = reply.get();
  EXPECT_EQ(got.status(), "not_applicable");
  EXPECT_EQ(got.code(), "session-not-found");
}

// A NAS that sends no Interim-Updates, or seldom: its session is not heard of and lives.
TEST_F(EffectsTest, CoaGoesToASessionThatAccountingHasNotHeardOfForLong) {
  wish("coa", "restricted");
  sessions.stale = {session("quiet")};
  auto reply = send();
  const auto received = nas.receive();
  const auto packet = decode(received.octets);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->code, Code::kCoaRequest);
  EXPECT_EQ(packet->find(attribute::kAcctSessionId)->value, "quiet");
  EXPECT_EQ(packet->find(11)->value, "suspended");
  nas.answer(received, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
}

TEST_F(EffectsTest, ASessionNotHeardOfThatTheNasDoesNotKnowIsSettled) {
  wish("coa", "restricted");
  sessions.stale = {session("lost-stop")};
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto got = reply.get();
  EXPECT_EQ(got.status(), "not_applicable");
  EXPECT_EQ(got.code(), "session-not-found");
  EXPECT_FALSE(got.retry());
}

TEST_F(EffectsTest, ASessionNotHeardOfWhoseNasIsSilentIsUnknown) {
  sessions.stale = {session("quiet")};
  const auto reply = hasty.send(request);
  EXPECT_EQ(reply.status(), "unknown");
  EXPECT_TRUE(reply.retry());
}

TEST_F(EffectsTest, WhereALiveSessionIsKnownStaleRowsAreLeftAlone) {
  sessions.looks = {{session("live")}};
  sessions.stale = {session("stale")};
  auto reply = send();
  const auto received = nas.receive();
  EXPECT_EQ(decode(received.octets)->find(attribute::kAcctSessionId)->value, "live");
  nas.answer(received, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed") << "a stale one would not have been answered";
}

TEST_F(EffectsTest, TheIntervalOfTheNasSaysHowLongASessionCountsAsLive) {
  network.record.interim_interval = std::chrono::minutes{30};
  sessions.looks = {{session("new")}};
  sessions.stale = {session("older")};  // heard of 20 minutes ago
  auto reply = send();
  std::vector<std::string> told;
  for (int i = 0; i < 2; ++i) {
    const auto received = nas.receive();
    const auto packet = decode(received.octets);
    ASSERT_TRUE(packet);
    told.push_back(packet->find(attribute::kAcctSessionId)->value);
    nas.answer(received, Code::kCoaAck);
  }
  EXPECT_EQ(reply.get().status(), "confirmed");
  std::ranges::sort(told);
  EXPECT_EQ(told, (std::vector<std::string>{"new", "older"}));
}

TEST_F(EffectsTest, ASessionThatIsLiveByItsNasIsNotSettledByANasThatDoesNotKnowIt) {
  network.record.interim_interval = std::chrono::minutes{30};
  sessions.stale = {session("older")};
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto doubted = reply.get();
  EXPECT_EQ(doubted.status(), "refused");
  EXPECT_TRUE(doubted.retry());
}

TEST_F(EffectsTest, HintedNasWithoutSessionProvesNoMoreThanNoSession) {
  wish("disconnect", "");
  auto reply = send();
  const auto received = nas.receive();
  ASSERT_FALSE(received.octets.empty());
  nas.answer(received, Code::kDisconnectNak, {{0, attribute::kErrorCause, integer_value(503)}});
  const auto got = reply.get();
  EXPECT_EQ(got.status(), "not_applicable");
  EXPECT_EQ(got.code(), "no-session");
}

// --- a line that has changed ---------------------------------------------------------------------

TEST_F(EffectsTest, ASessionOnTheNasThatALineMovedToIsSpared) {
  wish("disconnect", "full");
  journal.leave.wish["spared_nas"] = "192.0.2.1";
  journal.leave.wish["session_nas"] = "192.0.2.1";
  sessions.looks = {{session("here")}};
  sessions.stale = {session("here too")};
  EXPECT_EQ(effects.send(request).status(), "not_applicable");
  expect_silence();
}

TEST_F(EffectsTest, ASessionElsewhereIsCutWhereverTheLineMovedTo) {
  wish("disconnect", "full");
  journal.leave.wish["spared_nas"] = "192.0.2.99";
  sessions.looks = {{session("there")}};
  auto reply = send();
  const auto received = nas.receive();
  EXPECT_EQ(decode(received.octets)->find(attribute::kAcctSessionId)->value, "there");
  nas.answer(received, Code::kDisconnectAck);
  EXPECT_EQ(reply.get().code(), "ack");
}

// Accounting shows nothing: the former NAS is asked by the former name, which proves nothing.
TEST_F(EffectsTest, TheFormerNasIsAskedByTheFormerName) {
  wish("disconnect", "full");
  journal.leave.wish["nas_ip"] = "192.0.2.99";
  journal.leave.wish["spared_nas"] = "192.0.2.99";
  journal.leave.wish["session_nas"] = "192.0.2.1";
  journal.leave.wish["session_username"] = "old1";
  auto reply = send();
  const auto received = nas.receive();
  ASSERT_FALSE(received.octets.empty());
  EXPECT_EQ(decode(received.octets)->find(attribute::kUserName)->value, "old1");
  nas.answer(received, Code::kDisconnectAck);
  EXPECT_EQ(reply.get().code(), "ack-hinted");
}

TEST_F(EffectsTest, SupersededBeforeSendingSendsNothing) {
  sessions.looks = {{session("1")}};
  journal.current = false;
  EXPECT_EQ(effects.send(request).status(), "superseded");
  expect_silence();
  EXPECT_EQ(waker.woken, 1);
  journal.leave.kind = ports::Leave::Kind::kSuperseded;
  EXPECT_EQ(effects.send(request).status(), "superseded");
}

TEST_F(EffectsTest, SupersededWhileWaitingEndsRepetitionAsUnknownAndWakes) {
  sessions.looks = {{session("1")}};
  auto reply = send();
  nas.receive();
  journal.current = false;
  EXPECT_EQ(reply.get().status(), "unknown");
  EXPECT_EQ(waker.woken, 1);
}

TEST_F(EffectsTest, RecordedOutcomeIsGivenAgain) {
  journal.leave.kind = ports::Leave::Kind::kRecorded;
  journal.leave.recorded.set_status("confirmed");
  EXPECT_EQ(effects.send(request).status(), "confirmed");
  expect_silence();
  EXPECT_TRUE(journal.finished.empty());
}

TEST_F(EffectsTest, WhatIsMissingIsNamedAndNothingIsSent) {
  sessions.looks = {{session("1")}};
  network.record.secret_ref = "env:ADDRFLOW_UNIT_NO_SUCH_SECRET";
  EXPECT_EQ(effects.send(request).code(), "bad_secret");
  network.record.secret_ref = "env:ADDRFLOW_UNIT_NAS_SECRET";
  network.record.dialect = "martian";
  EXPECT_EQ(effects.send(request).code(), "unknown_dialect");
  network.record.dialect = "mikrotik";  // whose plan variables nobody has set
  const auto reply = effects.send(request);
  EXPECT_EQ(reply.code(), "bad_dialect");
  EXPECT_NE(reply.detail().find("rate_up"), std::string::npos);
  network.record.nas_ip = "192.0.2.99";
  EXPECT_EQ(effects.send(request).code(), "unknown_nas");
  sessions.broken = true;
  EXPECT_EQ(effects.send(request).code(), "sessions_unreachable");
  expect_silence();
}

TEST_F(EffectsTest, DialectThatCannotChangeASessionCutsItOff) {
  sessions.looks = {{session("1")}};
  network.record.dialect = "cisco-isg";
  auto reply = send();
  const auto received = nas.receive();
  EXPECT_EQ(decode(received.octets)->code, Code::kDisconnectRequest);
  nas.answer(received, Code::kDisconnectAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
}

TEST_F(EffectsTest, NewAddressIsTakenAsTheDialectSays) {
  sessions.looks = {{session("1")}};
  journal.leave.wish["renumber"] = true;
  const auto take = [&](const char* dialect, Code ack) {
    network.record.dialect = dialect;
    auto reply = send();
    const auto received = nas.receive();
    nas.answer(received, ack);
    EXPECT_EQ(reply.get().status(), "confirmed") << dialect;
    return decode(received.octets).value();
  };
  EXPECT_EQ(take("rfc5176", Code::kDisconnectAck).code, Code::kDisconnectRequest);
  const Packet again = take("huawei", Code::kCoaAck);
  EXPECT_EQ(again.code, Code::kCoaRequest);
  constexpr std::uint32_t kHuawei = 2011;
  EXPECT_TRUE(std::ranges::any_of(again.attributes, [](const Attribute& a) {
    return a.vendor == kHuawei && a.value == "A";
  })) << "it is told to ask the AAA server again";
}

TEST_F(EffectsTest, SessionIsGivenItsNewAddressWhereTheDialectCan) {
  const auto place =
      std::filesystem::temp_directory_path() / fmt::format("addrflow-dialects-{}", ::getpid());
  std::filesystem::create_directory(place);
  std::ofstream{place / "renumbering.toml"} << R"(
name = "renumbering"
title = "renumbers"
address_change = "coa"
identify.coa = [["Acct-Session-Id", "${session_id}"]]
identify.disconnect = [["Acct-Session-Id", "${session_id}"]]
[coa]
full = [["Filter-Id", "${plan}"], ["Session-Timeout", "${session_timeout}"]]
restricted = [["Filter-Id", "${restricted}"]]
renumber = [["Framed-IP-Address", "${wanted_ip}"], ["Delegated-IPv6-Prefix", "${wanted_prefix}"]]
)";
  dialects = Dialects{place.string()};
  std::filesystem::remove_all(place);
  sessions.looks = {{session("1")}};  // at 203.0.113.7
  network.record.dialect = "renumbering";
  journal.leave.wish["framed_ip"] = "203.0.113.70";
  const auto take = [&] {
    auto reply = send();
    const auto received = nas.receive();
    nas.answer(received, Code::kCoaAck);
    EXPECT_EQ(reply.get().status(), "confirmed");
    return decode(received.octets).value();
  };
  EXPECT_EQ(take().find(attribute::kFramedIpAddress), nullptr) << "a change of condition only";
  journal.leave.wish["renumber"] = true;
  const Packet told = take();
  EXPECT_EQ(told.code, Code::kCoaRequest);
  EXPECT_EQ(told.find(11)->value, "gold");
  EXPECT_EQ(told.find(27)->value, integer_value(604'800));
  ASSERT_NE(told.find(attribute::kFramedIpAddress), nullptr);
  EXPECT_EQ(told.find(attribute::kFramedIpAddress)->value, (std::string{"\xCB\x00\x71\x46", 4}));
}

class RedundancyGroupTest : public EffectsTest {
 protected:
  RedundancyGroupTest() {
    sessions.looks = {{session("1")}};
    network.record.redundancy_group = "pair";
    network.others = {network.record};
    network.others[0].name = "bng2";
    network.others[0].nas_ip = "192.0.2.2";
    network.others[0].coa_port = other.port();
  }
  FakeNas other;
};

TEST_F(RedundancyGroupTest, OtherDeviceIsAskedWhereTheFirstIsSilent) {
  auto reply = send_by(hasty);
  const auto received = other.receive();
  EXPECT_EQ(decode(received.octets)->find(attribute::kAcctSessionId)->value, "1");
  other.answer(received, Code::kCoaAck);
  EXPECT_EQ(reply.get().status(), "confirmed");
}

TEST_F(RedundancyGroupTest, OtherDeviceThatKnowsNoSessionSaysNothingOfTheSilentOne) {
  auto reply = send_by(hasty);
  other.answer(other.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(503)}});
  EXPECT_EQ(reply.get().status(), "unknown");
}

TEST_F(RedundancyGroupTest, OtherDeviceIsLeftAloneWhereTheFirstAnswers) {
  auto reply = send();
  nas.answer(nas.receive(), Code::kCoaNak, {{0, attribute::kErrorCause, integer_value(506)}});
  EXPECT_EQ(reply.get().status(), "refused");
  EXPECT_TRUE(other.receive(milliseconds{30}).octets.empty());
}

TEST_F(EffectsTest, HeartbeatsWhileItWaits) {
  sessions.looks = {{session("1")}};
  std::atomic<int> beats = 0;
  RadiusEffects::Attempt attempt;
  attempt.still_alive = [&] { ++beats; };
  hasty.send(request, attempt);
  EXPECT_GT(beats, 0);
}

TEST_F(EffectsTest, CancelledAttemptStopsEarlyAndIsUnknown) {
  sessions.looks = {{session("1")}};
  std::stop_source source;
  RadiusEffects::Attempt attempt;
  attempt.stop = source.get_token();
  auto reply = std::async(std::launch::async, [&] { return effects.send(request, attempt); });
  nas.receive();
  source.request_stop();
  EXPECT_EQ(reply.get().status(), "unknown");
}

// In a process of its own: it stops itself.
TEST(TestPause, StopsTheProcessOnceRightBeforeThePacketLeaves) {
  FakeNas nas;
  const std::string file = ::testing::TempDir() + "pause-" + std::to_string(::getpid());
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("ADDRFLOW_UNIT_NAS_SECRET", "s", 1);
    Client client;
    SecretStore secrets;
    const Dialects dialects;
    FakeJournal journal;
    FakeWaker waker;
    FakeSessions sessions;
    FakeNetwork network;
    network.record.nas_ip = "127.0.0.1";
    network.record.coa_port = nas.port();
    network.record.secret_ref = "env:ADDRFLOW_UNIT_NAS_SECRET";
    ports::Session session;
    session.nas_ip = "127.0.0.1";
    session.acct_session_id = "1";
    sessions.looks = {{session}};
    journal.leave.kind = ports::Leave::Kind::kSend;
    journal.leave.action = "disconnect";
    journal.leave.wish = {{"username", "sub1"}};
    EffectsSettings settings;
    settings.test_pause = "radius.before_send:" + file;
    RadiusEffects effects{client, secrets, dialects, journal, waker, sessions, network, settings};
    const bool first = effects.send({}).status() == "confirmed";
    const bool second = effects.send({}).status() == "confirmed";
    ::_exit(first && second ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(::access(file.c_str(), F_OK), 0);
  EXPECT_TRUE(nas.receive(milliseconds{50}).octets.empty()) << "nothing has left";
  ::kill(child, SIGCONT);
  for (int i = 0; i < 2; ++i) nas.answer(nas.receive(), Code::kDisconnectAck);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ::unlink(file.c_str());
}

}  // namespace
}  // namespace addrflow::radius
