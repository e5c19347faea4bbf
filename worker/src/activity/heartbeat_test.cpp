#include "heartbeat.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <future>

namespace tempora::activity {
namespace {

Payloads details(const std::string& text) { return encode_all(text); }
std::string text_of(const Payloads& details) { return decode_argument<std::string>(details); }

struct Beats {
  std::vector<Payloads> sent;
  std::deque<std::function<void(std::optional<HeartbeatAnswer>)>> open;  // one may bring the next
  std::vector<HeartbeatAnswer> answers;
  std::shared_ptr<Heartbeater> heartbeater;

  explicit Beats(std::chrono::milliseconds interval)
      : heartbeater(std::make_shared<Heartbeater>(
            std::make_shared<TimerQueue>(), interval,
            [this](Payloads payloads, std::chrono::milliseconds, auto done) {
              sent.push_back(std::move(payloads));
              open.push_back(std::move(done));
            },
            [this](const HeartbeatAnswer& answer) { answers.push_back(answer); })) {}
};

TEST(Heartbeat, IntervalIsFourFifthsOfTheTimeoutAtMostAMinute) {
  EXPECT_EQ(heartbeat_interval(std::chrono::seconds{10}), std::chrono::seconds{8});
  EXPECT_EQ(heartbeat_interval(std::chrono::seconds{0}), std::chrono::seconds{30});
  EXPECT_EQ(heartbeat_interval(std::chrono::hours{1}), std::chrono::seconds{60});
  const HeartbeatThrottle eager{.without_timeout = std::chrono::seconds{7},
                                .longest = std::chrono::seconds{5}};
  EXPECT_EQ(heartbeat_interval(std::chrono::seconds{5}, eager), std::chrono::seconds{4});
  EXPECT_EQ(heartbeat_interval(std::chrono::seconds{60}, eager), std::chrono::seconds{5});
  EXPECT_EQ(heartbeat_interval(std::chrono::seconds{0}, eager), std::chrono::seconds{5});
}

TEST(Heartbeat, SendsTheFirstAtOnceAndHoldsTheRestBack) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.heartbeater->beat(details("2"));
  EXPECT_EQ(beats.sent.size(), 1U);
  beats.open[0](HeartbeatAnswer{});
  beats.heartbeater->beat(details("3"));
  EXPECT_EQ(beats.sent.size(), 1U);
  beats.heartbeater->close();
}

TEST(Heartbeat, SendsTheNewestDetailsWhenTheIntervalIsOver) {
  // Owned by the callback: the timer's thread may still be in it when the test is over.
  struct Seen {
    std::promise<Payloads> second;
    int calls = 0;
  };
  const auto seen = std::make_shared<Seen>();
  auto second = seen->second.get_future();
  const auto heartbeater = std::make_shared<Heartbeater>(
      std::make_shared<TimerQueue>(), std::chrono::milliseconds{20},
      [seen](Payloads payloads, std::chrono::milliseconds, auto done) {
        if (++seen->calls == 2) seen->second.set_value(std::move(payloads));
        if (seen->calls < 3) done(HeartbeatAnswer{});
      },
      [](const HeartbeatAnswer&) {});
  heartbeater->beat(details("1"));
  heartbeater->beat(details("2"));
  heartbeater->beat(details("3"));
  EXPECT_EQ(PayloadCodec<std::string>::decode(second.get().payloads(0)), "3");
  heartbeater->close();
}

TEST(Heartbeat, TellsWhatTheServerSaidAndStopsWhenTheAttemptIsGone) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.open[0](HeartbeatAnswer{.not_found = true});
  ASSERT_EQ(beats.answers.size(), 1U);
  EXPECT_TRUE(beats.answers[0].not_found);
  beats.heartbeater->beat(details("2"));
  EXPECT_EQ(beats.sent.size(), 1U);
}

TEST(Heartbeat, DoesNotRepeatWhatIsRefusedEachTime) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.heartbeater->beat(details("2"));
  temporal::api::failure::v1::Failure failure;
  failure.set_message("too much");
  beats.open[0](HeartbeatAnswer{.refused = failure});
  ASSERT_EQ(beats.answers.size(), 1U);
  ASSERT_TRUE(beats.answers[0].refused.has_value());
  EXPECT_EQ(beats.answers[0].refused->message(), "too much");
  beats.heartbeater->beat(details("3"));
  EXPECT_EQ(beats.sent.size(), 1U);
}

TEST(Heartbeat, DropsWhatIsHeldBackWhenItIsClosed) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.heartbeater->beat(details("2"));
  beats.heartbeater->close();
  beats.open[0](HeartbeatAnswer{});
  EXPECT_EQ(beats.sent.size(), 1U);
}

TEST(Heartbeat, SendsWhatIsHeldBackBeforeItCloses) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.open[0](HeartbeatAnswer{});
  beats.heartbeater->beat(details("2"));
  beats.heartbeater->beat(details("3"));
  beats.heartbeater->send_and_close();
  ASSERT_EQ(beats.sent.size(), 2U);
  EXPECT_EQ(text_of(beats.sent[1]), "3");
  beats.open[1](std::nullopt);
  beats.heartbeater->beat(details("4"));
  EXPECT_EQ(beats.sent.size(), 2U) << "once";
}

TEST(Heartbeat, SendsWhatIsHeldBackAfterTheCallUnderWay) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.heartbeater->beat(details("2"));
  beats.heartbeater->send_and_close();
  EXPECT_EQ(beats.sent.size(), 1U) << "one at a time";
  beats.open[0](HeartbeatAnswer{});
  ASSERT_EQ(beats.sent.size(), 2U);
  EXPECT_EQ(text_of(beats.sent[1]), "2");
  beats.open[1](std::nullopt);
  EXPECT_EQ(beats.sent.size(), 2U) << "once";
}

TEST(Heartbeat, RepeatsTheLastOneBeforeItClosesIfItsCallFails) {
  Beats beats{std::chrono::seconds{10}};
  beats.heartbeater->beat(details("1"));
  beats.heartbeater->send_and_close();
  beats.open[0](std::nullopt);
  ASSERT_EQ(beats.sent.size(), 2U);
  EXPECT_EQ(text_of(beats.sent[1]), "1");
  beats.open[1](std::nullopt);
  EXPECT_EQ(beats.sent.size(), 2U) << "once";
}

TEST(Heartbeat, SendsNothingBeforeItClosesThatNobodyNeeds) {
  Beats known{std::chrono::seconds{10}};
  known.heartbeater->beat(details("1"));
  known.open[0](HeartbeatAnswer{});
  known.heartbeater->send_and_close();
  EXPECT_EQ(known.sent.size(), 1U);
  Beats gone{std::chrono::seconds{10}};
  gone.heartbeater->beat(details("1"));
  gone.heartbeater->beat(details("2"));
  gone.heartbeater->send_and_close();
  gone.open[0](HeartbeatAnswer{.not_found = true});
  EXPECT_EQ(gone.sent.size(), 1U);
}

}  // namespace
}  // namespace tempora::activity
