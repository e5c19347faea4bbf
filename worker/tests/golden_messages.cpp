// Signals, updates, cancellation, continue-as-new, patches.
#include <temporal/api/enums/v1/event_type.pb.h>

#include "golden.hpp"

namespace tempora::behaviour {
namespace {

namespace enums = temporal::api::enums::v1;

// --- signals: before their handler, by name and any, some at once, the rest in line

template <bool kChanged>
struct Signals {
  Semaphore places{2};
  int handled = 0;

  Task<void> run(Context& ctx) {
    co_await ctx.sleep(300ms);
    ctx.on_signal("named", [this, &ctx](Payloads input) {
      return handle(ctx, "named " + decode_argument<std::string>(input));
    });
    ctx.on_any_signal([this, &ctx](std::string name, Payloads input) {
      return handle(ctx, name + " " + decode_argument<std::string>(input));
    });
    co_await ctx.wait_until([this] { return handled == 6; });
  }
  Task<void> handle(Context& ctx, std::string what) {
    const SemaphorePermit permit = co_await places.acquire(ctx);
    if constexpr (!kChanged) co_await ctx.sleep(10ms);
    const ActivityOptions named{.activity_id = what};
    co_await ctx.execute(kWork, kOk, named);
    ++handled;
  }
  Task<void> direct(Context& ctx, std::string text) {
    Task<void> handled_as_the_others = handle(ctx, "direct " + text);
    co_await handled_as_the_others;
  }
};

template <bool kChanged>
auto signals() {
  using W = Signals<kChanged>;
  return Definition<W>{"Signals", run(&W::run), signal("direct", &W::direct)}.erased();
}

WorkflowHandle play_signals(Stage& stage) {
  const auto handle = make_run(stage, "Signals");
  int number = 0;  // for an activity's id, which must be its own
  for (const char* name : {"named", "odd", "direct", "named"})
    must(handle.signal(name, std::to_string(++number)));
  stage.wait_for_event(handle, enums::EVENT_TYPE_TIMER_FIRED, 2);
  for (const char* name : {"odd", "named"}) must(handle.signal(name, std::to_string(++number)));
  return ended(stage, handle);
}

// --- updates: accepted, refused, failed, in line, and one that outlives a task

template <bool kChanged>
struct Updates {
  Mutex turns;
  int total = 0;
  bool done = false;

  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this, &ctx] { return done && ctx.all_handlers_finished(); });
    co_return total;
  }
  Task<int> add(Context& ctx, int number) {
    const MutexLock lock = co_await turns.lock(ctx);
    if (kChanged || number > 10) co_await ctx.sleep(20ms);
    total += number;
    co_return total;
  }
  void may_add(const int& number) const {
    if (number < 0) throw ApplicationError{"negative", "Refused", true};
  }
  Task<int> fail(Context& ctx) {
    co_await ctx.execute(kWork, kOk);
    throw ApplicationError{"no", "Refused", true};
  }
  void finish(Context&) { done = true; }
};

template <bool kChanged>
auto updates() {
  using W = Updates<kChanged>;
  return Definition<W>{"Updates", run(&W::run), update("add", &W::add, &W::may_add),
                       update("fail", &W::fail), signal("finish", &W::finish)}
      .erased();
}

WorkflowHandle play_updates(Stage& stage) {
  const auto handle = make_run(stage, "Updates");
  must(handle.update<int>("add", {.id = "one"}, 1));
  EXPECT_FALSE(handle.update<int>("add", {.id = "refused"}, -1));
  const auto slow = must(handle.start_update("add", {.id = "twenty"}, 20));
  const auto next = must(handle.start_update("add", {.id = "thirty"}, 30));
  EXPECT_EQ(must(slow.result<int>()), 21);
  EXPECT_EQ(must(next.result<int>()), 51);
  EXPECT_FALSE(handle.update<int>("fail", {.id = "failed"}));
  must(handle.signal("finish"));
  return ended(stage, handle);
}

// --- cancellation: a scope, then the whole run, with work that is shielded

template <bool kChanged>
struct Cancelled {
  Task<std::string> run(Context& ctx) {
    const CancellationScope scope = ctx.new_scope();
    const Handle<void> inner = ctx.spawn(scope.run([&ctx] { return rest(ctx); }));
    co_await ctx.sleep(50ms);
    scope.cancel("enough");
    co_await join(ctx, {inner});
    const Future<std::string> held = ctx.start(kWork, kHeld);
    const Handle<void> outer = ctx.spawn(rest(ctx));
    try {
      co_await ctx.sleep(2h);
    } catch (const CanceledError&) {
      if constexpr (kChanged) throw;
    }
    Task<std::string> cleaned = ctx.shielded([&ctx] { return clean(ctx); });
    co_await cleaned;
    co_return co_await held;
  }
  static Task<void> rest(Context& ctx) {
    const std::vector<Future<void>> timers{ctx.timer(1h), ctx.timer(2h)};
    co_await timers[0];
  }
  static Task<std::string> clean(Context& ctx) { co_return co_await ctx.execute(kWork, kOk); }
};

template <bool kChanged>
auto cancelled() {
  using W = Cancelled<kChanged>;
  return Definition<W>{"Cancelled", run(&W::run)}.erased();
}

WorkflowHandle play_cancelled(Stage& stage) {
  const auto handle = make_run(stage, "Cancelled");
  stage.wait_for_event(handle, enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED);
  must(handle.cancel("not wanted"));
  EXPECT_EQ(handle.result_payloads().error().code, ErrorCode::kWorkflowCanceled);
  return this_run(stage, handle);
}

// --- continue-as-new

template <bool kChanged>
struct Chain {
  int heard = 0;

  Task<int> run(Context& ctx, int round) {
    ctx.upsert_memo("round", round);
    const ActivityOptions named{.activity_id = ctx.uuid()};
    co_await ctx.execute(kWork, kOk, named);
    if (round == 1) co_await ctx.wait_until([this] { return heard > 0; });
    if constexpr (kChanged) co_await ctx.sleep(1s);
    if (round < 2) ctx.continue_as_new(round + 1);
    co_return ctx.memo<int>("round").value_or(0);
  }
  void hear(Context&) { ++heard; }
};

template <bool kChanged>
auto chain() {
  using W = Chain<kChanged>;
  return Definition<W>{"Chain", run(&W::run), signal("hear", &W::hear)}.erased();
}

WorkflowHandle play_chain(Stage& stage) {
  const auto handle = make_run(stage, "Chain", 1);
  must(handle.signal("hear"));
  EXPECT_EQ(must(handle.result<int>()), 2);
  return this_run(stage, handle);
}

WorkflowHandle play_end_of_chain(Stage& stage) {
  const auto first = play_chain(stage);
  return stage.client().handle(first.id(),
                               must(stage.client().handle(first.id()).describe()).run_id);
}

// --- patches: one type as it was changed over time

enum class Age { kOld, kPatched, kDeprecated, kGone };

template <Age kAge>
struct Patches {
  Task<std::string> run(Context& ctx) {
    bool activity_first = kAge != Age::kOld;
    if constexpr (kAge == Age::kPatched) activity_first = ctx.patched("activity-first");
    if constexpr (kAge == Age::kDeprecated) ctx.deprecate_patch("activity-first");
    if (activity_first) co_await ctx.execute(kWork, kOk);
    co_await ctx.sleep(20ms);
    if constexpr (kAge == Age::kPatched) activity_first = ctx.patched("activity-first");
    if (!activity_first) co_await ctx.execute(kWork, kOk);
    co_return activity_first ? "new" : "old";
  }
};

template <Age kAge>
auto patches() {
  using W = Patches<kAge>;
  return Definition<W>{"Patches", run(&W::run)}.erased();
}

}  // namespace

std::vector<Golden> golden_messages() {
  const auto plays_patches = [](Stage& stage) { return ended(stage, make_run(stage, "Patches")); };
  return {
      {"signals",
       {signals<false>()},
       {signals<true>()},
       "TimerStarted",
       "ScheduleActivityTask",
       play_signals},
      {"updates",
       {updates<false>()},
       {updates<true>()},
       "WorkflowExecutionUpdateCompleted",
       "StartTimer timer_id \"1\"",
       play_updates},
      {"cancelled",
       {cancelled<false>()},
       {cancelled<true>()},
       "ActivityTaskScheduled",
       "CancelWorkflowExecution",
       play_cancelled},
      {"continue_as_new",
       {chain<false>()},
       {chain<true>()},
       "WorkflowExecutionContinuedAsNew",
       "StartTimer timer_id \"1\"",
       play_chain},
      {"continued",
       {chain<false>()},
       {chain<true>()},
       "WorkflowExecutionCompleted",
       "StartTimer timer_id \"1\"",
       play_end_of_chain},
      {"before_a_patch",
       {patches<Age::kPatched>()},
       {patches<Age::kGone>()},
       "TimerStarted",
       "ScheduleActivityTask",
       plays_patches,
       {patches<Age::kOld>()}},
      {"patched",
       {patches<Age::kPatched>()},
       {patches<Age::kOld>()},
       "MarkerRecorded",
       "StartTimer timer_id \"1\"",
       plays_patches},
      {"patch_to_be_deprecated",
       {patches<Age::kDeprecated>()},
       {patches<Age::kGone>()},
       "MarkerRecorded",
       "ScheduleActivityTask",
       plays_patches,
       {patches<Age::kPatched>()}},
      {"patch_deprecated",
       {patches<Age::kGone>()},
       {patches<Age::kOld>()},
       "ActivityTaskScheduled",
       "StartTimer timer_id \"1\"",
       plays_patches,
       {patches<Age::kDeprecated>()}},
  };
}

}  // namespace tempora::behaviour
