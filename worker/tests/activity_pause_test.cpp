// An operator pauses, resumes and resets single activities.
#include <atomic>
#include <peers.hpp>
#include <semaphore>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<Void, int> kStubborn{
    "stubborn",
    {.start_to_close = 60s,
     .heartbeat = 5s,  // not less: the news comes with a beat, and a slow machine must beat in time
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
  with_default_cache([](Stage& stage) {
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

TEST(ActivityPause, AResetCountsAttemptsAnew) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Stubborn stubborn;
    std::atomic<int> attempts = 0;
    stage.runs(kPatient).does(kStubborn, [&](ActivityContext& ctx, const Void&) {
      if (++attempts == 1) throw std::runtime_error{"the first attempt fails"};
      return stubborn(ctx);
    });
    stage.start_worker();
    const auto handle = stage.start(kPatient);
    stubborn.begun.acquire();  // the second attempt
    must(handle.reset_activity("stubborn"));
    stubborn.stopped.acquire();
    EXPECT_TRUE(CancelReasons{stubborn.reasons}.has(CancelReason::kReset)) << stubborn.reasons;
    stubborn.may_end = true;
    EXPECT_EQ(must(handle.result<int>()), 1);
    stage.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
