// Cancelling an activity: the three types, and what the activity hears.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<std::string, std::string> kListens{
    "listens",
    {.start_to_close = 30s, .heartbeat = 30s, .retry = RetryPolicy{.maximum_attempts = 1}}};

struct Canceller {
  Task<std::string> run(Context& ctx, std::string how);
};

Task<std::string> Canceller::run(Context& ctx, std::string how) {
  ActivityOptions options;
  if (how.starts_with("wait")) options.cancellation = CancellationType::kWaitCancellationCompleted;
  if (how == "abandon") options.cancellation = CancellationType::kAbandon;
  Future<std::string> activity = ctx.start(kListens, how, options);
  co_await ctx.sleep(500ms);
  activity.cancel();
  std::string outcome;
  try {
    outcome = co_await activity;
  } catch (const Failure& failure) {
    outcome = is_cancellation(failure) ? "cancelled" : failure.what();
  }
  if (how == "abandon") {
    co_await ctx.sleep(100ms);  // the run goes on without it
  }
  co_return outcome;
}

const Definition<Canceller> kCanceller{"Canceller", run(&Canceller::run)};

TEST(ActivityCancellation, EveryTypeDoesWhatItSays) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.beat_often();
    std::atomic<int> heard{0};
    std::atomic<int> untold{0};
    stage.runs(kCanceller)
        .does(kListens, [&](ActivityContext& ctx, const std::string& how) -> std::string {
          for (int i = 0; i < 200; ++i) {
            ctx.heartbeat(i);
            if (!ctx.wait_cancelled(100ms)) continue;
            if (!ctx.cancel_reasons().has(CancelReason::kRequested)) break;
            ++heard;
            if (how == "wait_ignores") return "finished all the same";
            ctx.throw_if_cancelled();
          }
          ++untold;
          return "never asked";
        });
    stage.start_worker();
    const auto tries = stage.start(kCanceller, std::string{"try"});
    const auto waits = stage.start(kCanceller, std::string{"wait"});
    const auto ignores = stage.start(kCanceller, std::string{"wait_ignores"});
    const auto abandons = stage.start(kCanceller, std::string{"abandon"});
    EXPECT_EQ(must(tries.result<std::string>()), "cancelled");
    EXPECT_EQ(must(waits.result<std::string>()), "cancelled");
    EXPECT_EQ(must(ignores.result<std::string>()), "finished all the same");
    EXPECT_EQ(must(abandons.result<std::string>()), "cancelled");
    EXPECT_EQ(
        stage.count_events(waits, temporal::api::enums::v1::EVENT_TYPE_ACTIVITY_TASK_CANCELED), 1);
    EXPECT_EQ(stage.count_events(
                  abandons, temporal::api::enums::v1::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED),
              0);
    stage.worker().shutdown();
    EXPECT_GE(heard.load(), 2);  // at least those whose workflow waited for them
  });
}

const ActivityType<int, int> kNever{"never", {.start_to_close = 10s}};

struct CancelsUnsent {
  Task<std::string> run(Context& ctx) {
    const int nothing = 0;
    Future<int> activity = ctx.start(kNever, nothing);
    activity.cancel();
    try {
      co_await activity;
      co_return "ran";
    } catch (const Failure& failure) {
      co_return is_cancellation(failure) ? "cancelled" : "failed";
    }
  }
};

const Definition<CancelsUnsent> kCancelsUnsent{"CancelsUnsent", run(&CancelsUnsent::run)};

TEST(ActivityCancellation, WhatWasCancelledBeforeItWasSentLeavesNothingInTheHistory) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCancelsUnsent).does(kNever, [](ActivityContext&, const int& x) { return x; });
    stage.start_worker();
    const auto handle = stage.start(kCancelsUnsent);
    EXPECT_EQ(must(handle.result<std::string>()), "cancelled");
    EXPECT_EQ(
        stage.count_events(handle, temporal::api::enums::v1::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED),
        0);
  });
}

}  // namespace
}  // namespace tempora::behaviour
