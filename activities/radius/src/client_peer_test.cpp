// The client and real FreeRADIUS servers in the part of BNGs (tests/peers/README.md: the answer is
// chosen by the User-Name).
#include <gtest/gtest.h>

#include <future>
#include <random>

#include "addrflow/radius/client.hpp"
#include "addrflow/radius/effects.hpp"
#include "fakes.hpp"
#include "peers.hpp"

namespace addrflow::radius {
namespace {

using std::chrono::milliseconds;

class ClientPeerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("RADIUS_NAS_PORT");
    secret = testing::peer_file("RADIUS_NAS_SECRET_FILE");
    port = static_cast<std::uint16_t>(std::stoi(testing::need_peer("RADIUS_NAS_PORT")));
    unique = std::to_string(std::random_device{}());
  }

  static ClientSettings settings() {
    ClientSettings settings;
    settings.initial_wait = milliseconds{300};
    settings.max_duration = milliseconds{2'000};
    settings.max_sendings = 3;
    settings.rate = 1e5;
    settings.burst = 1e3;
    return settings;
  }
  // For what must be answered.
  static ClientSettings enduring() {
    ClientSettings enduring = settings();
    enduring.max_duration = milliseconds{20'000};
    enduring.max_sendings = 20;
    return enduring;
  }
  Request to(const std::string& user, Code code = Code::kCoaRequest, int number = 0) {
    Request request;
    request.host = testing::need_peer("RADIUS_NAS_HOST");
    request.port = port;
    request.secret = secret;
    request.code = code;
    request.session = unique + "-" + std::to_string(number);
    request.attributes = {{0, attribute::kUserName, user + "@" + unique},
                          {0, attribute::kAcctSessionId, request.session}};
    return request;
  }

  std::string secret, unique;
  std::uint16_t port = 0;
};

TEST_F(ClientPeerTest, AckNakAndNakWithoutCause) {
  Client client{enduring()};
  for (const Code code : {Code::kCoaRequest, Code::kDisconnectRequest}) {
    EXPECT_EQ(client.send(to("sub", code)).kind, Outcome::Kind::kAck);
    for (const std::uint32_t cause : {401U, 407U, 503U, 506U}) {
      const auto outcome = client.send(to("nak-" + std::to_string(cause), code));
      EXPECT_EQ(outcome.kind, Outcome::Kind::kNak);
      EXPECT_EQ(outcome.error_cause, cause);
    }
    const auto naked = client.send(to("naked", code));
    EXPECT_EQ(naked.kind, Outcome::Kind::kNak);
    EXPECT_FALSE(naked.error_cause);
  }
}

TEST_F(ClientPeerTest, SilentDeviceIsTimeout) {
  Client client{settings()};
  const auto outcome = client.send(to("drop"));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(outcome.sendings, 3);
}

TEST_F(ClientPeerTest, WrongSecretIsTimeoutAndNotRefusal) {
  Client client{settings()};
  auto request = to("sub");
  request.host = testing::need_peer("RADIUS_NAS_OTHER_SECRET_HOST");
  EXPECT_EQ(client.send(request).kind, Outcome::Kind::kTimeout);
  request.secret = testing::peer_file("RADIUS_NAS_OTHER_SECRET_FILE");
  EXPECT_EQ(client.send(request).kind, Outcome::Kind::kAck);
}

TEST_F(ClientPeerTest, StrictDeviceTakesOurMessageAuthenticator) {
  Client client{settings()};
  auto request = to("sub");
  request.host = testing::need_peer("RADIUS_NAS_STRICT_HOST");
  EXPECT_EQ(client.send(request).kind, Outcome::Kind::kAck);
}

TEST_F(ClientPeerTest, BusyAndFlakyDevicesComeRoundWithNewRequests) {
  Client client{settings()};
  EXPECT_EQ(client.send(to("busy-2")).error_cause, 506U);
  EXPECT_EQ(client.send(to("busy-2")).error_cause, 506U);
  EXPECT_EQ(client.send(to("busy-2")).kind, Outcome::Kind::kAck);
  EXPECT_EQ(client.send(to("flaky-1")).kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(client.send(to("flaky-1")).kind, Outcome::Kind::kAck);
}

TEST_F(ClientPeerTest, SlowAnswerIsWaitedForAndRepetitionDoesNoHarm) {
  Client client{settings()};
  const auto outcome = client.send(to("delay-500"));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kAck);
  EXPECT_GE(outcome.sendings, 2);
}

TEST_F(ClientPeerTest, ThousandRequestsAtOnceAndNoneIsLost) {
  Client client{enduring()};
  std::atomic<int> acks = 0;
  std::atomic<int> left = 1'000;
  std::promise<void> all;
  for (int i = 0; i < 1'000; ++i) {
    client.submit(to("sub", i % 2 == 0 ? Code::kCoaRequest : Code::kDisconnectRequest, i),
                  [&](const Outcome& outcome) {
                    acks += outcome.kind == Outcome::Kind::kAck;
                    if (--left == 0) all.set_value();
                  });
  }
  all.get_future().wait();
  EXPECT_EQ(acks, 1'000);
  EXPECT_EQ(client.counters().invalid_answers, 0U);
}

TEST_F(ClientPeerTest, EffectReachesTheDeviceOfTheSession) {
  Client client{settings()};
  SecretStore secrets;
  Dialects dialects;
  FakeJournal journal;
  FakeWaker waker;
  FakeSessions sessions;
  FakeNetwork network;
  network.record.nas_ip = testing::need_peer("RADIUS_NAS_HOST");
  network.record.coa_port = port;
  network.record.secret_ref = "file:" + testing::need_peer("RADIUS_NAS_SECRET_FILE");
  ports::Session session;
  session.nas_ip = network.record.nas_ip;
  session.acct_session_id = unique;
  journal.leave.kind = ports::Leave::Kind::kSend;
  journal.leave.attempt = 1;
  RadiusEffects effects{client, secrets, dialects, journal, waker, sessions, network};

  const auto answer_to = [&](const char* action, const std::string& user) {
    session.username = user + "@" + unique;
    sessions.looks = {{session}};
    journal.leave.action = action;
    journal.leave.wish = {{"username", session.username}, {"condition", "restricted"}};
    return effects.send({});
  };
  EXPECT_EQ(answer_to("coa", "sub").status(), "confirmed");
  EXPECT_EQ(answer_to("disconnect", "sub").status(), "confirmed");
  EXPECT_EQ(answer_to("disconnect", "nak-503").status(), "not_applicable");
  EXPECT_EQ(answer_to("coa", "nak-503").status(), "refused") << "accounting still shows it";
  EXPECT_EQ(answer_to("coa", "nak-506").error_cause(), 506);
  EXPECT_EQ(answer_to("coa", "drop").status(), "unknown");
}

}  // namespace
}  // namespace addrflow::radius
