// Local activities: in the worker, with retries, long pauses, cancellation, over the end of a
// workflow task, and again after the worker was lost.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <peers.hpp>
#include <stdexcept>
#include <tempora/codec.hpp>

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
        context.wait_cancelled(17s);
      }
      return how;
    });
    stage.start_worker();
    StartOptions options = stage.start_options();
    options.task_timeout = 10s;  // its heartbeat comes 2 s earlier: time for a machine that stalls
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
    EXPECT_GE(runs.load(), 2);
  });
}

struct StopsLocal {
  bool over = false;
  Task<std::string> run(Context& ctx, std::string how) {
    LocalActivityOptions options;
    options.start_to_close = 1min;
    options.cancellation = CancellationType::kTryCancel;
    if (how == "wait") options.cancellation = CancellationType::kWaitCancellationCompleted;
    if (how == "abandon") options.cancellation = CancellationType::kAbandon;
    const auto future = ctx.start_local(kDo, how, options);
    co_await ctx.sleep(10ms);
    future.cancel();
    std::string text;
    try {
      text = co_await future;
    } catch (const ActivityError& error) {
      text = is_cancellation(error) ? "cancelled" : "failed";
    }
    if (how != "abandon") co_await ctx.wait_until([this] { return over; });
    co_return text;
  }
  Task<void> end(Context&) {
    over = true;
    co_return;
  }
};
const Definition<StopsLocal> kStopsLocal{"StopsLocal", run(&StopsLocal::run),
                                         signal("end", &StopsLocal::end)};

// What an activity has seen of its cancellation.
struct Seen {
  std::atomic<int> calls{0};
  std::atomic<int> stops{0};
  std::promise<void> end;

  void wait(ActivityContext& context, Duration at_most) {
    const bool first = ++calls == 1;
    if (context.wait_cancelled(at_most)) ++stops;
    if (first) end.set_value();
    context.throw_if_cancelled();
  }
};

TEST(LocalActivities, AreToldOnceOfTheirCancellationWhileTheirRunGoesOn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::map<std::string, Seen> seen;
    seen.try_emplace("wait");
    seen.try_emplace("try");
    stage.runs(kStopsLocal).does(kDo, [&](ActivityContext& context, const std::string& how) {
      seen.at(how).wait(context, 30s);
      return how;
    });
    stage.start_worker();
    for (auto& [how, one] : seen) {
      SCOPED_TRACE(how);
      StartOptions options = stage.start_options();
      options.task_timeout = 10s;
      const auto handle = stage.start_with(kStopsLocal, options, how);
      one.end.get_future().wait();
      must(handle.signal("end"));
      EXPECT_EQ(must(handle.result<std::string>()), "cancelled");
      EXPECT_EQ(one.stops.load(), 1);
      EXPECT_EQ(one.calls.load(), 1);
    }
  });
}

TEST(LocalActivities, ThatAreAbandonedGoOnAfterTheEndOfTheirRun) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    Seen seen;
    stage.runs(kStopsLocal).does(kDo, [&](ActivityContext& context, const std::string& how) {
      // Longer than the run, which hears of its timer with the second heartbeat of its task.
      seen.wait(context, 25s);
      return how;
    });
    stage.start_worker();
    StartOptions options = stage.start_options();
    options.task_timeout = 10s;
    const auto handle = stage.start_with(kStopsLocal, options, std::string{"abandon"});
    EXPECT_EQ(must(handle.result<std::string>()), "cancelled");
    seen.end.get_future().wait();
    EXPECT_EQ(seen.stops.load(), 0);
    EXPECT_EQ(seen.calls.load(), 1);
  });
}

TEST(LocalActivities, ThatBringTooMuchFailOnceAndTheRunGoesOn) {
  NEEDS_SERVER();
  const auto body = [](Stage& stage) {
    std::atomic<int> runs{0};
    stage.runs(kLocals).does(kDo, [&](ActivityContext&, const std::string& how) {
      if (how == "last") return how;
      ++runs;
      if (how == "text") throw ApplicationError{std::string(5'000, 'x'), "Long", true};
      return std::string(2'000, 'x');
    });
    stage.start_worker();
    for (const auto& [how, end] : std::map<std::string, std::string>{
             {"text", "failed: Long"}, {"result", "failed: PayloadsTooLarge"}}) {
      SCOPED_TRACE(how);
      runs = 0;
      const auto handle = stage.start(kLocals, how);
      EXPECT_EQ(must(handle.result<std::string>()), end + ", last");
      EXPECT_EQ(runs.load(), 1);
      EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED), 0);
    }
  };
  with_each_cache(body, {.max_payload_bytes = 1'000});
}

// Makes everything half as large again.
class Grows final : public Codec {
 public:
  std::vector<Payload> encode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) {
      Payload grown;
      grown.set_data(payload.SerializeAsString());
      (*grown.mutable_metadata())["encoding"] = kName;
      (*grown.mutable_metadata())["padding"] = std::string(grown.data().size() / 2, ' ');
      payload = std::move(grown);
    }
    return payloads;
  }
  std::vector<Payload> decode(std::vector<Payload> payloads) const override {
    for (Payload& payload : payloads) {
      const auto encoding = payload.metadata().find("encoding");
      if (encoding == payload.metadata().end() || encoding->second != kName) continue;
      Payload plain;
      if (!plain.ParseFromString(payload.data())) throw std::runtime_error{"not a payload"};
      payload = std::move(plain);
    }
    return payloads;
  }

 private:
  static constexpr const char* kName = "test/grown";
};

TEST(LocalActivities, WhoseResultACodecMakesTooLargeFailTheSecondTime) {
  NEEDS_SERVER();
  const auto body = [](Stage& stage) {
    std::atomic<int> runs{0};
    stage.runs(kLocals).does(kDo, [&](ActivityContext&, const std::string& how) {
      if (how == "last") return how;
      ++runs;
      return std::string(500, 'x');
    });
    stage.start_worker();
    const auto handle = stage.start(kLocals, std::string{"result"});
    EXPECT_EQ(must(handle.result<std::string>()), "failed: PayloadsTooLarge, last");
    EXPECT_EQ(runs.load(), 2);
    EXPECT_EQ(stage.count_events(handle, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED), 1);
  };
  with_each_cache(
      body, {.max_payload_bytes = 1'000, .codecs = {.codecs = {std::make_shared<const Grows>()}}});
}

}  // namespace
}  // namespace tempora::behaviour
