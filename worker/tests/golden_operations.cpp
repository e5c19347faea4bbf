// Activities, local activities, timers, children, other workflows, what is drawn, Nexus.
#include <fmt/format.h>
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <random>
#include <tempora/nexus.hpp>

#include "golden.hpp"
#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

const std::string kFlaky = "fail twice";
const std::string kRefused = "refuse";
const std::string kSlow = "slow";
const std::string kSilent = "say nothing";

// --- activities: retries, time-outs, the first of two, every way to cancel

template <bool kChanged>
struct Activities {
  Task<std::string> run(Context& ctx) {
    std::string text = co_await ctx.execute(kWork, kFlaky);
    Task<std::string> refused = end_of(ctx.execute(kWork, kRefused));
    text += ", " + co_await refused;
    const ActivityOptions hasty{.start_to_close = 1s, .retry = RetryPolicy{.maximum_attempts = 1}};
    Task<std::string> late = end_of(ctx.execute(kWork, kSilent, hasty));
    text += ", " + co_await late;

    // The id of the next one says which was first.
    const std::vector<Future<std::string>> both{ctx.start(kWork, kSlow), ctx.start(kWork, kOk)};
    const std::size_t first = co_await select(ctx, {both[0], both[1]});
    const ActivityOptions named{.activity_id = "after-" + std::to_string(first)};
    if constexpr (kChanged) co_await ctx.sleep(1s);
    text += ", " + co_await ctx.execute(kWork, kOk, named);
    co_await join(ctx, {both[0], both[1]});

    const std::vector<CancellationType> ways{CancellationType::kTryCancel,
                                             CancellationType::kWaitCancellationCompleted,
                                             CancellationType::kAbandon};
    for (const CancellationType way : ways) {
      const ActivityOptions options{.cancellation = way};
      const auto held = ctx.start(kWork, kHeld, options);
      co_await ctx.sleep(100ms);
      held.cancel("enough");
      Task<std::string> end = end_of(held);
      text += ", " + co_await end;
    }
    co_return text;
  }
};

template <bool kChanged>
auto activities() {
  using W = Activities<kChanged>;
  return Definition<W>{"Activities", run(&W::run)}.erased();
}

// --- local activities: retries, a pause that is a timer, two at once, over the end of a task

const ActivityType<std::string, std::string> kOther{"other", {.start_to_close = 10s}};

template <bool kChanged>
struct Locals {
  Task<std::string> run(Context& ctx) {
    const LocalActivityOptions soon{
        .retry = RetryPolicy{.initial_interval = 5ms, .maximum_attempts = 3}};
    std::string text = co_await ctx.start_local(kWork, kFlaky, soon);
    const LocalActivityOptions patient{
        .retry = RetryPolicy{.initial_interval = 200ms, .maximum_attempts = 3},
        .local_retry_threshold = 100ms};
    text += ", " + co_await ctx.start_local(kWork, kFlaky, patient);
    Task<std::string> refused = end_of(ctx.start_local(kWork, kRefused, soon));
    text += ", " + co_await refused;

    // The type of the next one says which was first.
    const std::vector<Future<std::string>> both{ctx.start_local(kWork, kSlow),
                                                ctx.start_local(kWork, kOk)};
    const std::size_t first = co_await select(ctx, {both[0], both[1]});
    if constexpr (kChanged) co_await ctx.sleep(1s);
    text += ", " + co_await ctx.start_local(first == 0 ? kWork : kOther, kOk);
    co_await join(ctx, {both[0], both[1]});

    const std::string very_slow = "very slow";
    text += ", " + co_await ctx.start_local(kWork, very_slow);
    const std::vector<CancellationType> ways{CancellationType::kTryCancel,
                                             CancellationType::kWaitCancellationCompleted};
    for (const CancellationType way : ways) {
      const LocalActivityOptions options{.cancellation = way};
      const auto held = ctx.start_local(kWork, kHeld, options);
      co_await ctx.sleep(10ms);
      held.cancel("enough");
      Task<std::string> end = end_of(held);
      text += ", " + co_await end;
    }
    co_return text;
  }
};

template <bool kChanged>
auto locals() {
  using W = Locals<kChanged>;
  return Definition<W>{"Locals", run(&W::run)}.erased();
}

WorkflowHandle play_locals(Stage& stage) {
  stage.does(kOther, [](ActivityContext&, const std::string& order) { return order; });
  stage.start_worker();
  StartOptions options = stage.start_options();
  options.id = "golden-Locals";
  options.task_timeout = 2s;  // which the slowest one outlasts
  return ended(stage, must(stage.client().start("Locals", options)));
}

// --- timers and conditions

template <bool kChanged>
struct Timers {
  bool rung = false;
  Mutex turns;

  Task<std::string> run(Context& ctx) {
    co_await ctx.sleep(0s);
    const Future<void> slow = ctx.timer(1s);
    const Future<void> quick = ctx.timer(20ms);
    const Future<void> never = ctx.timer(1h);
    const std::size_t first = co_await select(ctx, {slow, quick, never});
    if (first == 1) never.cancel();
    const bool in_time = co_await ctx.wait_until([this] { return rung; }, 1h);
    if constexpr (kChanged) slow.cancel();
    const bool too_late = !co_await ctx.wait_until([] { return false; }, 30ms);
    const Future<void> taken_back = ctx.timer(2h);
    taken_back.cancel();
    const std::vector<Handle<void>> tasks{ctx.spawn(take_turn(ctx)), ctx.spawn(take_turn(ctx))};
    co_await join(ctx, {tasks[0], tasks[1], slow});
    co_return fmt::format("{} {} {}", first, in_time, too_late);
  }
  Task<void> take_turn(Context& ctx) {
    const MutexLock lock = co_await turns.lock(ctx);
    co_await ctx.sleep(10ms);
  }
  void ring(Context&) { rung = true; }
};

template <bool kChanged>
auto timers() {
  using W = Timers<kChanged>;
  return Definition<W>{"Timers", run(&W::run), signal("ring", &W::ring)}.erased();
}

WorkflowHandle play_timers(Stage& stage) {
  const auto handle = make_run(stage, "Timers");
  stage.wait_for_event(handle, enums::EVENT_TYPE_TIMER_CANCELED);
  must(handle.signal("ring"));
  return ended(stage, handle);
}

// --- children and other workflows

// Does what it is told.
struct Other {
  std::string heard;

  Task<std::string> run(Context& ctx, std::string order) {
    if (order == "fail") throw ApplicationError{"no", "Refused", true};
    if (order == "wait") co_await ctx.wait_until([this] { return !heard.empty(); });
    if (order == "take time") {
      co_await ctx.cancelled();
      Task<void> last = ctx.shielded([&ctx]() -> Task<void> { co_await ctx.sleep(20ms); });
      co_await last;
    }
    co_return order + heard;
  }
  void tell(Context&, std::string text) { heard = text; }
};
const Definition<Other> kOtherType{"Other", run(&Other::run), signal("tell", &Other::tell)};

template <bool kChanged>
struct Parent {
  Task<std::string> run(Context& ctx, std::string taken) {
    const std::string hello = "hello";
    std::string text = co_await ctx.execute_child(kOtherType, {}, hello);
    const ChildWorkflowOptions same{.id = taken};
    Task<std::string> refused = end_of(ctx.execute_child(kOtherType, same, hello));
    text += ", " + co_await refused;
    const std::string fail = "fail";
    if constexpr (kChanged) co_await ctx.sleep(1s);
    Task<std::string> failed = end_of(ctx.execute_child(kOtherType, {}, fail));
    text += ", " + co_await failed;

    const std::string wait = "wait";
    const auto told = ctx.start_child(kOtherType, {}, wait);
    co_await told.started();
    co_await told.signal("tell", hello);
    text += ", " + co_await told.result();

    const std::string take_time = "take time";
    const std::vector<ChildCancellationType> ways{ChildCancellationType::kWaitCompleted,
                                                  ChildCancellationType::kTryCancel,
                                                  ChildCancellationType::kWaitRequested};
    for (const ChildCancellationType way : ways) {
      const ChildWorkflowOptions options{.cancellation = way};
      const auto child = ctx.start_child(kOtherType, options, take_time);
      co_await child.started();
      child.cancel("enough");
      Task<std::string> end = end_of(child.result());
      text += ", " + co_await end;
    }
    ctx.start_child(kOtherType, {}, hello).cancel();  // never was
    co_await ctx.sleep(500ms);                        // for the ends of those that were given up
    co_return text;
  }
};

template <bool kChanged>
auto parent() {
  using W = Parent<kChanged>;
  return Definition<W>{"Parent", run(&W::run)}.erased();
}

// A run of the other type, which waits.
WorkflowHandle other_that_waits(Stage& stage) {
  StartOptions options = stage.start_options();
  options.id = "golden-Other";
  options.conflict = IdConflictPolicy::kTerminateExisting;
  return must(stage.client().start(kOtherType, options, std::string{"wait"}));
}

WorkflowHandle play_parent(Stage& stage) {
  const auto taken = other_that_waits(stage);
  const auto handle = ended(stage, make_run(stage, "Parent", taken.id()));
  must(taken.terminate("no longer needed"));
  return handle;
}

template <bool kChanged>
struct Caller {
  Task<std::string> run(Context& ctx, std::string there) {
    const ExternalWorkflow other = ctx.external(there);
    const ExternalWorkflow nobody = ctx.external("golden-nobody");
    std::string text;
    co_await other.cancel("enough");
    try {
      co_await nobody.signal("tell", text);
    } catch (const ApplicationError& error) {
      text += error.type();
    }
    if constexpr (kChanged) co_await other.signal("tell", text);
    try {
      co_await nobody.cancel();
    } catch (const ApplicationError& error) {
      text += ", " + error.type();
    }
    // Two at once, one of which fails.
    const Future<void> bad = nobody.signal("tell", text);
    const Future<void> good = other.signal("tell", text);
    co_await join(ctx, {bad, good});
    co_return text;
  }
};

template <bool kChanged>
auto caller() {
  using W = Caller<kChanged>;
  return Definition<W>{"Caller", run(&W::run)}.erased();
}

// Is asked to stop, and waits for what it is told all the same.
struct Stubborn {
  bool heard = false;
  Task<void> run(Context& ctx) {
    Task<void> all = ctx.shielded(
        [this, &ctx]() -> Task<void> { co_await ctx.wait_until([this] { return heard; }); });
    co_await all;
  }
  void tell(Context&, std::string) { heard = true; }
};
const Definition<Stubborn> kStubborn{"Stubborn", run(&Stubborn::run),
                                     signal("tell", &Stubborn::tell)};

WorkflowHandle play_caller(Stage& stage) {
  StartOptions options = stage.start_options();
  options.id = "golden-Stubborn";
  options.conflict = IdConflictPolicy::kTerminateExisting;
  const auto other = must(stage.client().start(kStubborn, options));
  return ended(stage, make_run(stage, "Caller", other.id()));
}

// --- what is drawn: ids are compared on replay, so it goes into them

template <bool kChanged>
struct Sources {
  Task<std::string> run(Context& ctx) {
    const auto dice = ctx.side_effect([] { return std::random_device{}() % 1'000; });
    const ActivityOptions first{.activity_id = fmt::format("{} {}", ctx.random(), ctx.uuid())};
    std::string text = co_await ctx.execute(kWork, kOk, first);
    co_await ctx.sleep(50ms);
    if constexpr (kChanged) static_cast<void>(ctx.random());
    const auto now = ctx.now().time_since_epoch() / 1ns;
    const ActivityOptions second{
        .activity_id = fmt::format("{} {} {} {}", dice, now, ctx.random(), ctx.uuid())};
    co_return text + co_await ctx.execute(kWork, kOk, second);
  }
};

template <bool kChanged>
auto sources() {
  using W = Sources<kChanged>;
  return Definition<W>{"Sources", run(&W::run)}.erased();
}

// The second half again, with another seed.
WorkflowHandle play_reset(Stage& stage) {
  const auto handle = ended(stage, make_run(stage, "Sources"));
  std::int64_t second_task = 0;
  int tasks = 0;
  must(handle.for_each_event([&](const auto& event) {
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
      second_task = event.event_id();
      ++tasks;
    }
    return tasks < 2;
  }));
  return ended(stage, must(handle.reset({.event_id = second_task, .reason = "once more"})));
}

// --- Nexus: done by a workflow, failed, cancelled

const NexusOperation<std::string, std::string> kOperation{"golden", "operation"};

template <bool kChanged>
struct NexusCaller {
  Task<std::string> run(Context& ctx, std::string endpoint) {
    const NexusEndpoint there = ctx.nexus(endpoint);
    const std::string hello = "hello";
    std::string text = co_await there.execute(kOperation, hello);
    const std::string fail = "fail";
    if constexpr (kChanged) co_await ctx.sleep(1s);
    Task<std::string> failed = end_of(there.execute(kOperation, fail));
    text += ", " + co_await failed;
    const std::string wait = "wait";
    const auto held = there.start(kOperation, wait);
    co_await held.started();
    held.cancel("enough");
    Task<std::string> cancelled = end_of(held.result());
    text += ", " + co_await cancelled;
    co_return text;
  }
};

template <bool kChanged>
auto nexus_caller() {
  using W = NexusCaller<kChanged>;
  return Definition<W>{"NexusCaller", run(&W::run)}.erased();
}

WorkflowHandle play_nexus(Stage& stage) {
  stage.serves(kOperation, [](NexusContext& context, const std::string& order) {
    return context.start_workflow(
        kOtherType, {.id = "golden-operation-" + order, .conflict = IdConflictPolicy::kUseExisting},
        order);
  });
  const OwnEndpoint endpoint{stage};
  return ended(stage, make_run(stage, "NexusCaller", endpoint.name()));
}

}  // namespace

std::vector<Golden> golden_operations() {
  const auto begins = [](const char* type) {
    return [type](Stage& stage) { return ended(stage, make_run(stage, type)); };
  };
  const auto other = kOtherType.erased();
  return {
      {"activities",
       {activities<false>()},
       {activities<true>()},
       "ActivityTaskScheduled",
       "StartTimer timer_id \"1\"",
       begins("Activities")},
      {"local_activities", {locals<false>()}, {locals<true>()}, "MarkerRecorded", "", play_locals},
      {"timers",
       {timers<false>()},
       {timers<true>()},
       "TimerStarted",
       "CancelTimer timer_id \"1\"",
       play_timers},
      {"children",
       {parent<false>(), other},
       {parent<true>()},
       "StartChildWorkflowExecutionInitiated",
       "StartTimer timer_id \"1\"",
       play_parent},
      {"other_workflows",
       {caller<false>(), kStubborn.erased()},
       {caller<true>()},
       "RequestCancelExternalWorkflowExecutionInitiated",
       "SignalExternalWorkflowExecution",
       play_caller},
      {"sources",
       {sources<false>()},
       {sources<true>()},
       "ActivityTaskScheduled",
       "ScheduleActivityTask",
       begins("Sources")},
      {"sources_reset",
       {sources<false>()},
       {sources<true>()},
       "ActivityTaskScheduled",
       "ScheduleActivityTask",
       play_reset},
      {"nexus",
       {nexus_caller<false>(), other},
       {nexus_caller<true>()},
       "NexusOperationScheduled",
       "StartTimer timer_id \"1\"",
       play_nexus},
  };
}

}  // namespace tempora::behaviour
