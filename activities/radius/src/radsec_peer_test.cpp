// RADIUS over TLS and a real FreeRADIUS that listens for it (tests/peers/radsec).
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "addrflow/radius/client.hpp"
#include "peers.hpp"

namespace addrflow::radius {
namespace {

using std::chrono::milliseconds;

class RadsecPeerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("RADSEC_PORT");
    port = static_cast<std::uint16_t>(std::stoi(testing::need_peer("RADSEC_PORT")));
    place = testing::need_peer("RADSEC_CERTIFICATES");
  }
  static ClientSettings settings() {
    ClientSettings settings;
    settings.initial_wait = milliseconds{500};
    settings.max_wait = milliseconds{1'000};
    settings.max_duration = milliseconds{3'000};
    settings.reconnect_wait = milliseconds{50};
    settings.rate = 1e5;
    settings.burst = 1e4;
    return settings;
  }
  Request to(const std::string& user, const std::string& session = "1") {
    Request request;
    request.host = "127.0.0.1";
    request.port = port;
    request.secret = "radsec";
    request.transport = Transport::kRadsec;
    request.tls = {.ca = place + "/ca.pem",
                   .certificate = place + "/client.pem",
                   .key = place + "/client.key",
                   .server_name = {}};
    request.session = session;
    request.attributes = {{0, attribute::kUserName, user}, {0, attribute::kAcctSessionId, session}};
    return request;
  }

  std::uint16_t port = 0;
  std::string place;
};

TEST_F(RadsecPeerTest, AckAndNakOverOneConnection) {
  Client client{settings()};
  for (const Code code : {Code::kCoaRequest, Code::kDisconnectRequest}) {
    Request request = to("sub");
    request.code = code;
    const auto outcome = client.send(request);
    EXPECT_EQ(outcome.kind, Outcome::Kind::kAck) << outcome.detail;
    request = to("nak-503");
    request.code = code;
    EXPECT_EQ(client.send(request).error_cause, 503U);
  }
  EXPECT_EQ(client.counters().connections, 1U);
  EXPECT_EQ(client.counters().retransmissions, 0U);
}

TEST_F(RadsecPeerTest, SilenceIsTimeoutAndNothingIsRepeated) {
  Client client{settings()};
  const auto outcome = client.send(to("drop"));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(outcome.sendings, 1) << "TCP repeats";
}

TEST_F(RadsecPeerTest, SilentServerThatIsThereKeepsItsConnection) {
  ClientSettings watchful = settings();
  watchful.watchdog = milliseconds{1'000};
  watchful.max_duration = milliseconds{5'000};
  Client client{watchful};
  const auto outcome = client.send(to("drop"));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(outcome.sendings, 1);
  const Counters counters = client.counters();
  EXPECT_GE(counters.status_requests, 2U);
  EXPECT_EQ(counters.connections, 1U);
  EXPECT_EQ(counters.failed_connections, 0U);
}

TEST_F(RadsecPeerTest, FrozenServerLosesItsConnectionAndTheRequestGoesOutOnTheNext) {
  ClientSettings watchful = settings();
  watchful.watchdog = milliseconds{300};
  watchful.max_duration = milliseconds{20'000};
  Client client{watchful};
  ASSERT_EQ(client.send(to("sub")).kind, Outcome::Kind::kAck);
  ASSERT_TRUE(testing::peers_command("signal radsec STOP"));
  std::promise<Outcome> promise;
  client.submit(to("sub", "2"), [&](const Outcome& outcome) { promise.set_value(outcome); });
  while (client.counters().failed_connections == 0) std::this_thread::yield();
  ASSERT_TRUE(testing::peers_command("signal radsec CONT"));
  const Outcome outcome = promise.get_future().get();
  EXPECT_EQ(outcome.kind, Outcome::Kind::kAck) << outcome.detail;
  EXPECT_GE(client.counters().connections, 2U);
}

TEST_F(RadsecPeerTest, ThousandsGoThroughTheWindowAndNoneIsLost) {
  Client client{settings()};
  constexpr int kRequests = 3'000;
  std::atomic<int> acks = 0;
  std::atomic<int> left = kRequests;
  std::promise<void> all;
  for (int i = 0; i < kRequests; ++i) {
    client.submit(to("sub", std::to_string(i)), [&](const Outcome& outcome) {
      acks += outcome.kind == Outcome::Kind::kAck;
      if (--left == 0) all.set_value();
    });
  }
  all.get_future().wait();
  EXPECT_EQ(acks, kRequests);
  EXPECT_EQ(client.counters().connections, 1U);
}

TEST_F(RadsecPeerTest, CertificateThatDoesNotFitIsNoPeerAndNothingIsSent) {
  Client client{settings()};
  Request request = to("sub");
  request.tls.ca = place + "/other-ca.pem";
  auto outcome = client.send(request);
  EXPECT_EQ(outcome.kind, Outcome::Kind::kLocalError);
  EXPECT_NE(outcome.detail.find("certificate"), std::string::npos) << outcome.detail;
  request = to("sub");
  request.tls.server_name = "another.test";
  outcome = client.send(request);
  EXPECT_EQ(outcome.kind, Outcome::Kind::kLocalError);
  EXPECT_NE(outcome.detail.find("certificate"), std::string::npos) << outcome.detail;
  request.tls.server_name = "server.test";
  EXPECT_EQ(client.send(request).kind, Outcome::Kind::kAck);
}

TEST_F(RadsecPeerTest, StrangersCertificateIsRefusedByThePeer) {
  Client client{settings()};
  Request request = to("sub");
  request.tls.certificate = place + "/stranger.pem";
  request.tls.key = place + "/stranger.key";
  EXPECT_NE(client.send(request).kind, Outcome::Kind::kAck);
  EXPECT_EQ(client.counters().acks, 0U);
}

TEST_F(RadsecPeerTest, ConnectionThatIsLostIsMadeAgainAndTheRequestGoesOutOnIt) {
  ClientSettings patient = settings();
  patient.max_duration = milliseconds{20'000};
  Client client{patient};
  ASSERT_EQ(client.send(to("sub")).kind, Outcome::Kind::kAck);
  ASSERT_TRUE(testing::peers_command("kill radsec"));
  std::promise<Outcome> promise;
  client.submit(to("sub", "2"), [&](const Outcome& outcome) { promise.set_value(outcome); });
  ASSERT_TRUE(testing::peers_command("start radsec"));
  const Outcome outcome = promise.get_future().get();
  EXPECT_EQ(outcome.kind, Outcome::Kind::kAck) << outcome.detail;
  EXPECT_GE(client.counters().connections, 2U);
}

}  // namespace
}  // namespace addrflow::radius
