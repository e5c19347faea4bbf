// An operator pauses, resumes and resets single activities.
#include <atomic>
#include <peers.hpp>
#include <semaphore>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<Void, int> kStubborn{"stubborn",
                                        {.start_to_close = 60s,
                                         .heartbeat = 30s,
                                         .retry = RetryPolicy{.initial_interval = 100ms},
                                         .activity_id = "stubborn"}};

struct Patient {
  Task<int> run(Context& ctx) { co_return co_await ctx.execute(kStubborn); }
};
const Definition<Patient> kPatient{"Patient", run(&Patient::run)};

// Beats until it should stop; returns its attempt once `may_end`.
struct Stubborn {
  std::atomic<bool> may_end = false;
  std::atomic<unsigned> reasons = 0;
  std::counting_semaphore<> begun{0}, stopped{0};

  int operator()(ActivityContext& ctx) {
    begun.release();
    while (!may_end) {
      ctx.heartbeat(ctx.info().attempt);
      if (!ctx.wait_cancelled(50ms)) continue;
      reasons = ctx.cancel_reasons().bits();
      stopped.release();
      throw ActivityCancelled{};
    }
    return ctx.info().attempt;
  }
};

bool is_paused(const WorkflowHandle& handle) {
  const auto pending = must(handle.describe()).pending_activities;
  return pending.size() == 1 && pending.front().paused;
}

TEST(ActivityPause, StopsTheAttemptAndHoldsTheNextUntilItIsResumed) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.beat_often();
    Stubborn stubborn;
    stage.runs(kPatient).does(kStubborn,
                              [&](ActivityContext& ctx, const Void&) { return stubborn(ctx); });
    stage.start_worker();
    const auto handle = stage.start(kPatient);
    stubborn.begun.acquire();
    must(handle.pause_activity("stubborn", "let us look"));
    stubborn.stopped.acquire();
    EXPECT_TRUE(CancelReasons{stubborn.reasons}.has(CancelReason::kPaused));
    EXPECT_TRUE(is_paused(handle));
    EXPECT_FALSE(stubborn.begun.try_acquire_for(500ms)) << "no attempt while it is paused";
    stubborn.may_end = true;
    must(handle.unpause_activity("stubborn"));
    EXPECT_GE(must(handle.result<int>()), 1);
    stage.worker().shutdown();
  });
}

TEST(ActivityPause, AResetIsHeardByTheAttemptAndAnotherFollows) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.beat_often();
    Stubborn stubborn;
    stage.runs(kPatient).does(kStubborn,
                              [&](ActivityContext& ctx, const Void&) { return stubborn(ctx); });
    stage.start_worker();
    const auto handle = stage.start(kPatient);
    stubborn.begun.acquire();
    // Of a later attempt than the first the server (1.31) takes no heartbeat after a reset: that
    // attempt hears `kNotFound`, and the next begins when its heartbeat time-out is over.
    must(handle.reset_activity("stubborn"));
    stubborn.stopped.acquire();
    EXPECT_TRUE(CancelReasons{stubborn.reasons}.has(CancelReason::kReset)) << stubborn.reasons;
    stubborn.may_end = true;
    EXPECT_EQ(must(handle.result<int>()), 2);
    stage.worker().shutdown();
  });
}

struct Failing {
  Task<int> run(Context& ctx) {
    // A back-off that only the reset ends.
    co_return co_await ctx.execute(kStubborn, {.retry = RetryPolicy{.initial_interval = 60s}});
  }
};
const Definition<Failing> kFailing{"Failing", run(&Failing::run)};

TEST(ActivityPause, AResetEndsTheBackOffAndCountsAttemptsAnew) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<bool> fails = true;
    stage.runs(kFailing).does(kStubborn, [&](ActivityContext& ctx, const Void&) {
      if (fails) throw std::runtime_error{"the first attempt fails"};
      return ctx.info().attempt;
    });
    stage.start_worker();
    const auto handle = stage.start(kFailing);
    const auto backs_off = [&] {
      const auto now = must(handle.describe());
      EXPECT_EQ(now.status, WorkflowStatus::kRunning);
      return now.status != WorkflowStatus::kRunning ||
             (now.pending_activities.size() == 1 && now.pending_activities.front().attempt == 2);
    };
    while (!backs_off()) std::this_thread::sleep_for(20ms);
    fails = false;
    must(handle.reset_activity("stubborn"));
    EXPECT_EQ(must(handle.result<int>()), 1);
    stage.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
