// Local activities: in the worker, with retries, long pauses, cancellation, over the end of a
// workflow task, and again after the worker was lost.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const ActivityType<std::string, std::string> kDo{"do", {.start_to_close = 20s}};

struct Locals {
  Task<std::string> run(Context& ctx, std::string how) {
    LocalActivityOptions options;
    if (how == "pause") {
      options.retry = RetryPolicy{.initial_interval = 1200ms, .maximum_attempts = 2};
      options.local_retry_threshold = 100ms;
    } else if (how == "time_out") {
      options.start_to_close = 50ms;
      options.retry = RetryPolicy{.maximum_attempts = 1};
    } else {
      options.retry = RetryPolicy{.initial_interval = 5ms, .maximum_attempts = 3};
    }
    std::string text;
    try {
      text = co_await ctx.start_local(kDo, how, options);
    } catch (const ActivityError& error) {
      if (dynamic_cast<const TimeoutError*>(error.cause()) != nullptr) text = "timed out";
      if (const auto* why = find_application_error(error)) text = "failed: " + why->type();
    }
    const std::string last = "last";
    text += ", " + co_await ctx.start_local(kDo, last);
    co_return text;
  }
};
const Definition<Locals> kLocals{"Locals", run(&Locals::run)};

std::string perform(ActivityContext& context, const std::string& how) {
  if (how == "refuse") throw ApplicationError{"no", "Refused", true};
  if ((how == "retry" && context.info().attempt < 3) ||
      (how == "pause" && context.info().attempt < 2)) {
    throw ApplicationError{"not yet"};
  }
  if (how == "time_out") context.wait_cancelled(10s);
  return how + " in attempt " + std::to_string(context.info().attempt);
}

TEST(LocalActivities, RunAndAreTriedAgainAndLeaveOneMarkerEach) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLocals).does(kDo, perform);
    stage.start_worker();
    const std::string last = ", last in attempt 1";
    const std::vector<std::pair<std::string, std::string>> cases{{"go", "go in attempt 1"},
                                                                 {"retry", "retry in attempt 3"},
                                                                 {"refuse", "failed: Refused"},
                                                                 {"time_out", "timed out"}};
    for (const auto& [how, end] : cases) {
      const auto handle = stage.start(kLocals, how);
      EXPECT_EQ(must(handle.result<std::string>()), end + last);
      EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_MARKER_RECORDED), 2);
      EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED), 1);
    }
  });
}

TEST(LocalActivities, ALongPauseIsATimerOfTheWorkflow) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLocals).does(kDo, perform);
    stage.start_worker();
    const auto handle = stage.start(kLocals, std::string{"pause"});
    EXPECT_EQ(must(handle.result<std::string>()), "pause in attempt 2, last in attempt 1");
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_TIMER_FIRED), 1);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_MARKER_RECORDED), 3);
  });
}

TEST(LocalActivities, MayTakeLongerThanAWorkflowTask) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> runs{0};
    stage.runs(kLocals).does(kDo, [&](ActivityContext& context, const std::string& how) {
      if (how == "slow") {
        ++runs;
        context.wait_cancelled(6s);
      }
      return how;
    });
    stage.start_worker();
    StartOptions options = stage.start_options();
    options.task_timeout = 3s;
    const auto handle = stage.start_with(kLocals, options, std::string{"slow"});
    EXPECT_EQ(must(handle.result<std::string>()), "slow, last");
    EXPECT_EQ(runs.load(), 1) << "the task was kept, so nothing ran twice";
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT), 0);
    EXPECT_GE(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED), 3);
  });
}

TEST(LocalActivities, RunAgainAfterTheWorkerWasLost) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> runs{0};
    stage.runs(kLocals).does(kDo, [&](ActivityContext& context, const std::string& how) {
      if (how == "stuck" && ++runs == 1) context.wait_cancelled(20s);
      return how;
    });
    stage.start_worker();
    StartOptions options = stage.start_options();
    options.task_timeout = 2s;
    const auto handle = stage.start_with(kLocals, options, std::string{"stuck"});
    stage.wait_for_event(handle, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
    stage.kill_worker();
    stage.start_worker();
    EXPECT_EQ(must(handle.result<std::string>()), "stuck, last");
    EXPECT_EQ(runs.load(), 2);
  });
}

struct StopsLocal {
  Task<std::string> run(Context& ctx, bool wait) {
    LocalActivityOptions options;
    options.cancellation =
        wait ? CancellationType::kWaitCancellationCompleted : CancellationType::kTryCancel;
    const std::string how = "until cancelled";
    const auto future = ctx.start_local(kDo, how, options);
    co_await ctx.sleep(10ms);
    future.cancel();
    std::string text;
    try {
      text = co_await future;
    } catch (const ActivityError& error) {
      text = is_cancellation(error) ? "cancelled" : "failed";
    }
    co_return text;
  }
};
const Definition<StopsLocal> kStopsLocal{"StopsLocal", run(&StopsLocal::run)};

TEST(LocalActivities, StopWhenTheyAreCancelled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> stopped{0};
    stage.runs(kStopsLocal).does(kDo, [&](ActivityContext& context, const std::string& how) {
      if (context.wait_cancelled(15s)) ++stopped;
      context.throw_if_cancelled();
      return how;
    });
    stage.start_worker();
    for (const bool wait : {true, false}) {
      StartOptions options = stage.start_options();
      options.task_timeout = 2s;
      EXPECT_EQ(must(stage.start_with(kStopsLocal, options, wait).result<std::string>()),
                "cancelled");
    }
    EXPECT_GE(stopped.load(), 1);
  });
}

}  // namespace
}  // namespace tempora::behaviour
