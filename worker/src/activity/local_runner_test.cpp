#include "local_runner.hpp"

#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <utility>

namespace tempora::activity {
namespace {

using namespace std::chrono_literals;
using engine::LocalRequest;
using engine::LocalResult;

// One thread; an activity "block" keeps it until it is released.
struct Locals {
  std::shared_ptr<ActivityRegistry> registry = std::make_shared<ActivityRegistry>();
  std::shared_ptr<TimerQueue> timers = std::make_shared<TimerQueue>();
  std::shared_ptr<LocalRunner> runner;
  std::promise<void> blocks;
  std::promise<void> release;
  std::atomic<int> runs{0};
  std::atomic<bool> told{false};  // "block_and_fail" was to stop

  Locals() {
    registry->add("block", [this](ActivityContext&, const Payloads&) {
      blocks.set_value();
      release.get_future().wait();
      return Payloads{};
    });
    registry->add("count", [this](ActivityContext&, const Payloads&) {
      ++runs;
      return Payloads{};
    });
    registry->add("fail", [this](ActivityContext&, const Payloads&) -> Payloads {
      ++runs;
      throw ApplicationError{"not yet"};
    });
    registry->add("block_and_fail", [this](ActivityContext& ctx, const Payloads&) -> Payloads {
      if (++runs == 1) {
        blocks.set_value();
        release.get_future().wait();
      }
      told = ctx.cancel_reasons().any();
      throw ApplicationError{"not yet"};
    });
    LocalRunner::Options options;
    options.max_concurrent = 1;
    options.metrics = no_metrics();
    runner = std::make_shared<LocalRunner>(registry, timers, std::move(options));
  }
  ~Locals() { runner->stop(TimerQueue::Clock::now() + 10s); }

  struct Begun {
    std::shared_ptr<LocalRunner::Call> call;
    std::future<LocalResult> end;
  };
  Begun start(LocalRequest request) const {
    auto end = std::make_shared<std::promise<LocalResult>>();
    Begun begun{.call = nullptr, .end = end->get_future()};
    begun.call = runner->start(std::move(request), LocalOwner{},
                               [end](LocalResult result) { end->set_value(std::move(result)); });
    return begun;
  }
  static LocalRequest order(const std::string& type, Duration start_to_close,
                            Duration schedule_to_close) {
    LocalRequest request;
    request.seq = 1;
    request.activity_type = type;
    request.start_to_close = start_to_close;
    request.schedule_to_close = schedule_to_close;
    request.local_retry_threshold = 1min;
    return request;
  }
  // Timers are numbered from 1; of one that is pending, and only of such a one, can be said that it
  // will not run.
  int pending() const {
    int found = 0;
    const auto last = timers->after(1h, [] {});
    for (TimerQueue::Id id = 1; id < last; ++id) found += timers->cancel(id) ? 1 : 0;
    timers->cancel(last);
    return found;
  }
  // One that is abandoned while its first attempt is under way, and that nobody else holds.
  std::future<LocalResult> abandoned() {
    LocalRequest request = order("block_and_fail", 24h, {});
    request.retry.initial_interval = 1ms;
    auto [call, end] = start(std::move(request));
    blocks.get_future().wait();
    runner->abandon(call);
    return std::move(end);
  }
  Begun block() {
    Begun begun = start(order("block", {}, {}));
    blocks.get_future().wait();
    return begun;
  }
};

TEST(LocalRunner, LeavesNoTimerBehind) {
  Locals locals;
  EXPECT_EQ(locals.start(Locals::order("count", 24h, 24h)).end.get().kind,
            LocalResult::Kind::kCompleted);
  EXPECT_EQ(locals.pending(), 0);

  LocalRequest pausing = Locals::order("fail", 24h, 24h);
  pausing.retry.initial_interval = 1min;
  const auto begun = locals.start(pausing);
  while (locals.runs < 2) std::this_thread::yield();
  locals.runner->cancel(begun.call);
  begun.end.wait();
  locals.runner->stop(TimerQueue::Clock::now() + 10s);
  EXPECT_EQ(locals.pending(), 0) << "the time-outs and the pause";
}

TEST(LocalRunner, GoesOnWithTheAttemptOfAnAbandonedCallAndTriesItNoMore) {
  Locals locals;
  auto end = locals.abandoned();
  EXPECT_EQ(end.wait_for(0s), std::future_status::timeout) << "its attempt goes on";
  locals.release.set_value();
  ASSERT_EQ(end.wait_for(10s), std::future_status::ready) << "it is tried again and again";
  EXPECT_EQ(end.get().kind, LocalResult::Kind::kFailed);
  EXPECT_EQ(locals.runs, 1);
  EXPECT_FALSE(locals.told);
  EXPECT_EQ(locals.pending(), 0);
}

TEST(LocalRunner, TellsAnAbandonedCallThatTheWorkerStops) {
  Locals locals;
  auto end = locals.abandoned();
  locals.runner->cancel_all(CancelReason::kWorkerShutdown);
  locals.release.set_value();
  ASSERT_EQ(end.wait_for(10s), std::future_status::ready);
  EXPECT_TRUE(locals.told);
}

TEST(LocalRunner, EndsAnAbandonedCallThatPauses) {
  Locals locals;
  LocalRequest request = Locals::order("fail", 24h, {});
  request.retry.initial_interval = 1min;
  const auto begun = locals.start(request);
  while (locals.runs < 1) std::this_thread::yield();
  locals.runner->stop(TimerQueue::Clock::now() + 10s);  // from here on it pauses
  EXPECT_EQ(begun.end.wait_for(0s), std::future_status::timeout);
  locals.runner->abandon(begun.call);
  EXPECT_EQ(begun.end.wait_for(0s), std::future_status::ready);
  EXPECT_EQ(locals.pending(), 0) << "the pause";
}

TEST(LocalRunner, RunsNoAttemptThatIsOverBeforeAThreadIsFree) {
  Locals locals;
  const auto blocked = locals.block();
  auto late = locals.start(Locals::order("count", {}, 1ms));
  EXPECT_TRUE(late.end.get().failure.has_timeout_failure_info());
  auto cancelled = locals.start(Locals::order("count", 1h, {}));
  locals.runner->cancel(cancelled.call);
  auto last = locals.start(Locals::order("count", 1h, {}));
  EXPECT_EQ(locals.pending(), 0) << "start_to_close does not count the wait for a thread";
  locals.release.set_value();
  EXPECT_EQ(last.end.get().kind, LocalResult::Kind::kCompleted);
  EXPECT_EQ(cancelled.end.get().kind, LocalResult::Kind::kCancelled);
  EXPECT_EQ(locals.runs, 1) << "the last one only";
}

TEST(LocalRunner, TellsOfItsSlotsAndOfWhatHasEnded) {
  Locals locals;
  auto blocked = locals.block();
  LocalRequest request = Locals::order("fail", 1h, {});
  request.retry.maximum_attempts = 1;
  auto failing = locals.start(std::move(request));
  EXPECT_EQ(locals.runner->numbers().slots, 1U);
  EXPECT_EQ(locals.runner->numbers().used, 1U) << "the other one has no thread";
  EXPECT_EQ(locals.runner->numbers().processed, 0);
  locals.release.set_value();
  blocked.end.wait();
  failing.end.wait();
  locals.runner->stop(TimerQueue::Clock::now() + 10s);  // a slot is free a moment after its task
  EXPECT_EQ(locals.runner->numbers().used, 0U);
  EXPECT_EQ(locals.runner->numbers().processed, 2);
  EXPECT_EQ(locals.runner->numbers().failed, 1);
}

}  // namespace
}  // namespace tempora::activity
