#include "addrflow/radius/client.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <set>

#include "fake_nas.hpp"

namespace addrflow::radius {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Repeats nothing while a test takes its time.
ClientSettings patient() {
  ClientSettings settings;
  settings.initial_wait = seconds{5};
  settings.max_wait = seconds{5};
  settings.max_duration = seconds{9};
  settings.rate = 1e6;
  settings.burst = 1e6;
  return settings;
}

// Repeats soon, and does not give up while a test takes its time.
ClientSettings quick() {
  ClientSettings settings = patient();
  settings.initial_wait = milliseconds{50};
  settings.max_wait = milliseconds{200};
  settings.max_sendings = 20;
  return settings;
}

Request to(const FakeNas& nas, std::string session = {}) {
  Request request;
  request.host = "127.0.0.1";
  request.port = nas.port();
  request.secret = "s";
  request.attributes = {{0, attribute::kUserName, "sub1"}};
  request.session = std::move(session);
  return request;
}

// Submits and gives the outcome as a future.
std::future<Outcome> ask(Client& client, Request request, Client::Ticket* ticket = nullptr) {
  auto promise = std::make_shared<std::promise<Outcome>>();
  auto future = promise->get_future();
  const auto number = client.submit(
      std::move(request), [promise](const Outcome& outcome) { promise->set_value(outcome); });
  if (ticket != nullptr) *ticket = number;
  return future;
}

TEST(ClientTest, TakesAckAndNakWithItsCause) {
  FakeNas nas;
  Client client{patient()};
  auto first = ask(client, to(nas));
  nas.answer(nas.receive(), Code::kCoaAck);
  EXPECT_EQ(first.get().kind, Outcome::Kind::kAck);
  auto second = ask(client, to(nas));
  nas.answer(nas.receive(), Code::kCoaNak,
             {{0, attribute::kErrorCause, integer_value(506)}, {0, 18, "too\nmuch"}});
  const Outcome outcome = second.get();
  EXPECT_EQ(outcome.kind, Outcome::Kind::kNak);
  EXPECT_EQ(outcome.error_cause, 506U);
  EXPECT_EQ(outcome.detail, "too?much") << "what a NAS says goes to logs";
}

TEST(ClientTest, SpeaksToANasOverIpv6) {
  FakeNas nas{"s", AF_INET6};
  Client client{patient()};
  Request request = to(nas);
  request.host = "::1";
  auto answer = ask(client, std::move(request));
  nas.answer(nas.receive(), Code::kCoaAck);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
}

TEST(ClientTest, RepeatsTheSameOctetsFromTheSamePort) {
  FakeNas nas;
  Client client{quick()};
  auto answer = ask(client, to(nas));
  const auto first = nas.receive();
  const auto second = nas.receive();
  EXPECT_EQ(first.octets, second.octets);
  EXPECT_EQ(first.from_port(), second.from_port());
  ASSERT_NE(decode(first.octets)->find(attribute::kEventTimestamp), nullptr);
  nas.answer(second, Code::kCoaAck);
  const Outcome outcome = answer.get();
  EXPECT_EQ(outcome.kind, Outcome::Kind::kAck);
  EXPECT_GE(outcome.sendings, 2);
  EXPECT_EQ(static_cast<std::uint64_t>(outcome.sendings), client.counters().sent);
}

TEST(ClientTest, NoAnswerIsTimeoutAfterAllSendings) {
  FakeNas nas;
  auto settings = quick();
  settings.max_sendings = 3;
  settings.initial_wait = milliseconds{10};
  Client client{settings};
  const Outcome outcome = client.send(to(nas));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(outcome.sendings, 3);
  EXPECT_EQ(client.counters().retransmissions, 2U);
}

TEST(ClientTest, WaitsAreDoubled) {
  FakeNas nas;
  Client client{quick()};
  const auto begin = Clock::now();
  auto answer = ask(client, to(nas));
  nas.receive();
  nas.receive();
  const auto third = nas.receive();
  // Without it the third comes after 110 ms at the latest.
  EXPECT_GE(Clock::now() - begin, milliseconds{120});
  nas.answer(third, Code::kCoaAck);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
}

TEST(ClientTest, ForgedAnswerIsDiscardedAndTheRightOneStillTaken) {
  FakeNas nas;
  Client client{patient()};
  auto answer = ask(client, to(nas));
  const auto request = nas.receive();
  const std::string other = "other";
  nas.answer(request, Code::kCoaNak, {}, &other);
  nas.answer(request, Code::kDisconnectAck);
  nas.send(request, {1, 2, 3});
  nas.answer(request, Code::kCoaAck);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
  EXPECT_EQ(client.counters().invalid_answers, 2U);
  EXPECT_EQ(client.counters().unexpected_answers, 1U);
}

TEST(ClientTest, AnswerWithStaleTimestampIsDiscarded) {
  FakeNas nas;
  Client client{quick()};
  auto answer = ask(client, to(nas));
  auto request = nas.receive();
  nas.answer(request, Code::kCoaAck, {{0, attribute::kEventTimestamp, integer_value(1)}});
  request = nas.receive();
  nas.answer(request, Code::kCoaNak);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kNak);
}

TEST(ClientTest, OneRequestAtATimeForOneSession) {
  FakeNas nas;
  Client client{patient()};
  auto first = ask(client, to(nas, "A"));
  auto second = ask(client, to(nas, "A"));
  auto other = ask(client, to(nas, "B"));
  const auto one = nas.receive();
  const auto two = nas.receive();
  EXPECT_TRUE(nas.receive(milliseconds{100}).octets.empty()) << "the second of A must wait";
  nas.answer(two, Code::kCoaAck);
  EXPECT_EQ(other.get().kind, Outcome::Kind::kAck);
  nas.answer(one, Code::kCoaNak);
  EXPECT_EQ(first.get().kind, Outcome::Kind::kNak);
  nas.answer(nas.receive(), Code::kCoaAck);
  EXPECT_EQ(second.get().kind, Outcome::Kind::kAck);
}

TEST(ClientTest, WindowLimitsWhatIsOutstanding) {
  FakeNas nas;
  auto settings = patient();
  settings.window = 2;
  Client client{settings};
  std::vector<std::future<Outcome>> answers;
  for (int i = 0; i < 3; ++i) answers.push_back(ask(client, to(nas)));
  const auto one = nas.receive();
  const auto two = nas.receive();
  EXPECT_TRUE(nas.receive(milliseconds{100}).octets.empty());
  nas.answer(one, Code::kCoaAck);
  const auto three = nas.receive();
  nas.answer(two, Code::kCoaAck);
  nas.answer(three, Code::kCoaAck);
  for (auto& answer : answers) EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
}

TEST(ClientTest, RateHoldsRequestsBack) {
  FakeNas nas;
  auto settings = patient();
  settings.rate = 20;
  settings.burst = 1;
  Client client{settings};
  std::vector<std::future<Outcome>> answers;
  const auto begin = Clock::now();
  for (int i = 0; i < 5; ++i) answers.push_back(ask(client, to(nas)));
  for (int i = 0; i < 5; ++i) nas.answer(nas.receive(), Code::kCoaAck);
  for (auto& answer : answers) EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
  EXPECT_GE(Clock::now() - begin, milliseconds{190});
}

TEST(ClientTest, IdentifierIsNotTakenAgainBeforeItRested) {
  FakeNas nas;
  Client client{patient()};
  std::set<std::pair<int, int>> seen;  // port and identifier
  for (int i = 0; i < 600; ++i) {
    auto answer = ask(client, to(nas));
    const auto request = nas.receive();
    ASSERT_TRUE(seen.emplace(request.from_port(), request.octets[1]).second) << "request " << i;
    nas.answer(request, Code::kCoaAck);
    ASSERT_EQ(answer.get().kind, Outcome::Kind::kAck);
  }
}

TEST(ClientTest, IdentifiersGoRoundWhereNoMorePortsMayOpen) {
  FakeNas nas;
  auto settings = patient();
  settings.max_ports_per_nas = 1;
  Client client{settings};
  int last = -1;
  for (int i = 0; i < 300; ++i) {
    auto answer = ask(client, to(nas));
    const auto request = nas.receive();
    ASSERT_EQ(request.octets[1], (last + 1) % 256) << "never the lowest free one";
    last = request.octets[1];
    nas.answer(request, Code::kCoaAck);
    ASSERT_EQ(answer.get().kind, Outcome::Kind::kAck);
  }
}

TEST(ClientTest, NothingIsSentAfterTheDeadline) {
  FakeNas nas;
  auto settings = quick();
  settings.initial_wait = milliseconds{600};
  settings.max_wait = milliseconds{600};
  Client client{settings};
  auto late = to(nas);
  late.deadline = Clock::now() - milliseconds{1};
  const Outcome outcome = client.send(std::move(late));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kLocalError);
  EXPECT_TRUE(nas.receive(milliseconds{50}).octets.empty());
  auto brief = to(nas);
  brief.deadline = Clock::now() + milliseconds{500};
  EXPECT_EQ(client.send(std::move(brief)).kind, Outcome::Kind::kTimeout);
  EXPECT_FALSE(nas.receive().octets.empty());
  EXPECT_TRUE(nas.receive(milliseconds{300}).octets.empty());
}

TEST(ClientTest, CancelEndsRepetition) {
  FakeNas nas;
  Client client{patient()};
  Client::Ticket ticket = 0;
  auto answer = ask(client, to(nas), &ticket);
  nas.receive();
  client.cancel(ticket);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kTimeout) << "it had left: nobody knows";
}

TEST(ClientTest, RefusedPortIsTriedAgain) {
  std::uint16_t port = 0;
  {
    const FakeNas gone;
    port = gone.port();
  }
  auto settings = quick();
  settings.initial_wait = milliseconds{10};
  settings.max_sendings = 3;
  Client client{settings};
  Request request;
  request.host = "127.0.0.1";
  request.port = port;
  request.secret = "s";
  const Outcome outcome = client.send(std::move(request));
  EXPECT_EQ(outcome.kind, Outcome::Kind::kTimeout);
  EXPECT_EQ(outcome.sendings, 3);
  EXPECT_TRUE(outcome.unreachable);
}

TEST(ClientTest, FullQueueRefusesAtOnce) {
  FakeNas nas;
  auto settings = patient();
  settings.window = 1;
  settings.max_queued_per_nas = 2;
  std::vector<std::future<Outcome>> answers;
  {
    Client client{settings};
    for (int i = 0; i < 4; ++i) answers.push_back(ask(client, to(nas)));
    EXPECT_EQ(answers.back().get().kind, Outcome::Kind::kLocalError);
  }
  EXPECT_EQ(answers[0].get().kind, Outcome::Kind::kTimeout) << "shut down after it was sent";
  EXPECT_EQ(answers[1].get().kind, Outcome::Kind::kLocalError);
}

TEST(ClientTest, LocalTroubleIsReported) {
  Client client{patient()};
  Request request;
  request.host = "no.such.host.invalid";
  EXPECT_EQ(client.send(request).kind, Outcome::Kind::kLocalError);
  FakeNas nas;
  auto large = to(nas);
  large.attributes = {{0, 1, std::string(300, 'x')}};
  EXPECT_EQ(client.send(std::move(large)).kind, Outcome::Kind::kLocalError);
  auto next = ask(client, to(nas));
  nas.answer(nas.receive(), Code::kCoaAck);
  EXPECT_EQ(next.get().kind, Outcome::Kind::kAck) << "the window must not leak";
}

TEST(ClientTest, DatagramsMayBeLostAndNoRequestIs) {
  FakeNas nas;
  auto settings = quick();
  settings.window = 64;
  Client client{settings};
  std::vector<std::future<Outcome>> answers;
  for (int i = 0; i < 300; ++i) answers.push_back(ask(client, to(nas, std::to_string(i))));
  // Of every third request the first two datagrams are lost.
  std::map<std::pair<int, int>, int> seen;
  const auto is_open = [](const auto& answer) {
    return answer.wait_for(seconds{0}) != std::future_status::ready;
  };
  while (std::ranges::any_of(answers, is_open)) {
    const auto request = nas.receive(milliseconds{100});
    if (request.octets.empty()) continue;
    const std::pair key{request.from_port(), request.octets[1]};
    const int sending = ++seen[key];
    if (key.second % 3 != 0 || sending > 2) nas.answer(request, Code::kCoaAck);
  }
  for (auto& answer : answers) EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
  EXPECT_EQ(seen.size(), answers.size());
}

TEST(ClientTest, WindowOfTheRequestGoesBeforeTheClients) {
  FakeNas nas;
  Client client{quick()};
  std::vector<std::future<Outcome>> answers;
  for (int i = 0; i < 5; ++i) {
    Request request = to(nas);
    request.window = 2;
    answers.push_back(ask(client, std::move(request)));
  }
  std::set<std::uint8_t> identifiers;
  std::vector<FakeNas::Received> received;
  // Repetitions come as well, so count what differs.
  for (int i = 0; i < 6; ++i) {
    auto one = nas.receive();
    identifiers.insert(one.octets.at(1));
    received.push_back(std::move(one));
  }
  EXPECT_EQ(identifiers.size(), 2U);
  Request wide = to(nas);
  wide.window = 65;
  EXPECT_EQ(ask(client, std::move(wide)).get().kind, Outcome::Kind::kLocalError);
}

TEST(ClientTest, BothSecretsAreTakenWhileOneIsChanged) {
  FakeNas nas{"new"};
  Client client{quick()};
  Request request = to(nas);
  request.secret = "old";
  request.next_secret = "new";
  Signer signer;

  auto answer = ask(client, request);
  const auto first = nas.receive();
  EXPECT_TRUE(signer.verify_request(first.octets, "old")) << "the present one goes first";
  auto then = nas.receive();
  while (!signer.verify_request(then.octets, "new")) then = nas.receive();
  EXPECT_NE(then.octets.at(1), first.octets.at(1)) << "other octets, other identifier";
  EXPECT_EQ(decode(then.octets)->find(attribute::kEventTimestamp)->value,
            decode(first.octets)->find(attribute::kEventTimestamp)->value);
  nas.answer(then, Code::kCoaAck);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);

  auto next = ask(client, request);
  auto directly = nas.receive();
  while (directly.octets == then.octets) directly = nas.receive();  // sent before its answer came
  EXPECT_TRUE(signer.verify_request(directly.octets, "new")) << "it has answered to that one";
  const std::string old = "old";
  nas.answer(directly, Code::kCoaAck, {}, &old);
  EXPECT_EQ(next.get().kind, Outcome::Kind::kAck) << "an answer keyed by the other is right too";
}

TEST(ClientTest, AnswerToTheFirstSecretStillCountsAfterTheSecondWasTried) {
  FakeNas nas{"old"};
  Client client{quick()};
  Request request = to(nas);
  request.secret = "old";
  request.next_secret = "new";
  auto answer = ask(client, request);
  const auto first = nas.receive();
  Signer signer;
  while (!signer.verify_request(nas.receive().octets, "new")) {
  }
  nas.answer(first, Code::kCoaAck);
  EXPECT_EQ(answer.get().kind, Outcome::Kind::kAck);
}

TEST(ClientTest, RadsecWithoutItsFilesIsNeverSentAndSaysWhy) {
  ClientSettings settings = quick();
  settings.max_duration = milliseconds{200};
  settings.reconnect_wait = milliseconds{20};
  Client client{settings};
  FakeNas nas;
  Request request = to(nas);
  request.transport = Transport::kRadsec;
  request.tls = {.ca = "/nonexistent/ca.pem", .certificate = "c", .key = "k", .server_name = {}};
  const Outcome outcome = ask(client, std::move(request)).get();
  EXPECT_EQ(outcome.kind, Outcome::Kind::kLocalError);
  EXPECT_NE(outcome.detail.find("/nonexistent/ca.pem"), std::string::npos) << outcome.detail;
}

TEST(ClientTest, SettingsThatCannotWorkAreNamed) {
  auto settings = patient();
  settings.window = 65;
  EXPECT_NE(check(settings).find("window"), std::string::npos);
  EXPECT_THROW(Client{settings}, std::invalid_argument);
}

}  // namespace
}  // namespace addrflow::radius
