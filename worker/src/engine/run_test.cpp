#include "engine/run.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>
#include <tempora/interceptor.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HistoryBuilder;
using testing::Scenario;

const ActivityType<std::string, std::string> kReserve{"reserve", {.start_to_close = 10s}};
const ActivityType<std::string, std::string> kRelease{"release", {.start_to_close = 10s}};

template <class T>
T result_of(const Scenario::Completion& completion) {
  for (const auto& command : completion.commands()) {
    if (command.has_complete_workflow_execution_command_attributes()) {
      return PayloadCodec<T>::decode(
          command.complete_workflow_execution_command_attributes().result().payloads(0));
    }
  }
  ADD_FAILURE() << "the workflow is not complete: " << completion.DebugString();
  return T{};
}

std::string failure_of(const Scenario::Completion& completion) {
  for (const auto& command : completion.commands()) {
    if (command.has_fail_workflow_execution_command_attributes()) {
      return command.fail_workflow_execution_command_attributes().failure().message();
    }
  }
  return {};
}

// --- activities

struct TwoSteps {
  Task<std::string> run(Context& ctx, std::string name) {
    const std::string reserved = co_await ctx.execute(kReserve, name);
    co_return co_await ctx.execute(kRelease, reserved);
  }
};
const Definition<TwoSteps> kTwoSteps{"TwoSteps", run(&TwoSteps::run)};

TEST(Activities, OneAfterTheOther) {
  Scenario scenario{kTwoSteps, std::string{"alice"}};
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "SCHEDULE_ACTIVITY_TASK(1 reserve)");
  const auto& attributes = first.commands(0).schedule_activity_task_command_attributes();
  EXPECT_EQ(attributes.task_queue().name(), testing::kQueue);
  EXPECT_EQ(attributes.start_to_close_timeout().seconds(), 10);
  EXPECT_EQ(attributes.input().payloads(0).data(), "\"alice\"");
  EXPECT_TRUE(attributes.request_eager_execution());
  scenario.complete_activity("1", std::string{"10.0.0.1"});
  EXPECT_EQ(commands_of(scenario.task()), "SCHEDULE_ACTIVITY_TASK(2 release)");
  scenario.complete_activity("2", std::string{"done"});
  EXPECT_EQ(result_of<std::string>(scenario.task()), "done");
  EXPECT_TRUE(scenario.outcome().run_closed);
}

TEST(Activities, AFailureThatNobodyCatchesFailsTheWorkflow) {
  Scenario scenario{kTwoSteps, std::string{"alice"}};
  scenario.task();
  scenario.fail_activity("1", ApplicationError{"pool is full", "pool_exhausted", true});
  const auto last = scenario.task();
  EXPECT_EQ(failure_of(last), "activity reserve failed");
  const Failure failure{last.commands(0).fail_workflow_execution_command_attributes().failure()};
  const ApplicationError* cause = find_application_error(failure);
  ASSERT_NE(cause, nullptr);
  EXPECT_EQ(cause->type(), "pool_exhausted");
  EXPECT_TRUE(cause->non_retryable());
}

struct Parallel {
  Task<std::string> run(Context& ctx) {
    const std::string a = "a", b = "b";
    std::vector<Future<std::string>> futures{ctx.start(kReserve, a), ctx.start(kReserve, b)};
    const std::size_t first = co_await select(ctx, {futures[0], futures[1]});
    std::string text = std::to_string(first);
    co_await join(ctx, {futures[0], futures[1]});
    for (const auto& future : futures) text += co_await future;
    for (const auto& future : futures) text += co_await future;  // a second time gives the same
    co_return text;
  }
};
const Definition<Parallel> kParallel{"Parallel", run(&Parallel::run)};

TEST(Activities, RunSideBySideAndAreSelectedAndJoined) {
  Scenario scenario{kParallel};
  EXPECT_EQ(commands_of(scenario.task()),
            "SCHEDULE_ACTIVITY_TASK(1 reserve) SCHEDULE_ACTIVITY_TASK(2 reserve)");
  scenario.complete_activity("2", std::string{"B"});
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.complete_activity("1", std::string{"A"});
  EXPECT_EQ(result_of<std::string>(scenario.task()), "1ABAB");
}

struct CancelActivity {
  Task<std::string> run(Context& ctx, int type) {
    ActivityOptions options;
    options.cancellation = static_cast<CancellationType>(type);
    const std::string name = "x";
    const auto future = ctx.start(kReserve, name, options);
    co_await ctx.sleep(1s);
    future.cancel("changed my mind");
    std::string text;
    try {
      text = co_await future;
    } catch (const Failure& failure) {
      text = is_cancellation(failure) ? "cancelled" : "failed";
    }
    co_await ctx.sleep(1s);
    co_return text;
  }
};
const Definition<CancelActivity> kCancelActivity{"CancelActivity", run(&CancelActivity::run)};

TEST(Activities, TryCancelResolvesAtOnceAndSwallowsTheEnd) {
  Scenario scenario{kCancelActivity, 0};
  scenario.task();
  scenario.fire_timer("1");
  EXPECT_EQ(commands_of(scenario.task()), "REQUEST_CANCEL_ACTIVITY_TASK START_TIMER(2)");
  scenario.complete_activity("1", std::string{"too late"});
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.fire_timer("2");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "cancelled");
}

// A call goes back to what is usual where the type's own options say something else.
TEST(Activities, WhatACallSetsCountsAlsoIfItIsTheUsual) {
  const ActivityOptions type{.cancellation = CancellationType::kWaitCancellationCompleted,
                             .eager = false};
  const ActivityOptions back =
      merge(type, {.cancellation = CancellationType::kTryCancel, .eager = true});
  EXPECT_EQ(back.cancellation, CancellationType::kTryCancel);
  EXPECT_EQ(back.eager, true);
  const ActivityOptions kept = merge(type, {.start_to_close = 1s});
  EXPECT_EQ(kept.cancellation, CancellationType::kWaitCancellationCompleted);
  EXPECT_EQ(kept.eager, false);
}

TEST(Activities, WaitingCancellationTakesTheRealEnd) {
  for (const bool completes : {true, false}) {
    Scenario scenario{kCancelActivity, 1};
    scenario.task();
    scenario.fire_timer("1");
    EXPECT_EQ(commands_of(scenario.task()), "REQUEST_CANCEL_ACTIVITY_TASK");
    if (completes) {
      scenario.complete_activity("1", std::string{"in time"});
    } else {
      scenario.cancel_activity("1");
    }
    EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2)");
    scenario.fire_timer("2");
    EXPECT_EQ(result_of<std::string>(scenario.task()), completes ? "in time" : "cancelled");
  }
}

TEST(Activities, AbandonSendsNothing) {
  Scenario scenario{kCancelActivity, 2};
  scenario.task();
  scenario.fire_timer("1");
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(2)");
  scenario.complete_activity("1", std::string{"ignored"});
  scenario.fire_timer("2");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "cancelled");
}

struct CancelBeforeSent {
  Task<std::string> run(Context& ctx) {
    const std::string name = "x";
    const auto activity = ctx.start(kReserve, name);
    const auto timer = ctx.timer(1s);
    activity.cancel();
    timer.cancel();
    try {
      co_await activity;
    } catch (const Failure& failure) {
      co_return is_cancellation(failure) ? "cancelled" : "failed";
    }
    co_return "?";
  }
};
const Definition<CancelBeforeSent> kCancelBeforeSent{"CancelBeforeSent",
                                                     run(&CancelBeforeSent::run)};

TEST(Activities, CancelledBeforeItWasSentLeavesNothing) {
  Scenario scenario{kCancelBeforeSent};
  const auto only = scenario.task();
  EXPECT_EQ(commands_of(only), "COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of<std::string>(only), "cancelled");
}

// --- timers and waits

struct Waits {
  bool flag = false;
  Task<std::string> run(Context& ctx) {
    const bool in_time = co_await ctx.wait_until([this] { return flag; }, 60s);
    co_await ctx.sleep(0s);
    co_return in_time ? "flag" : "time-out";
  }
  void raise(Context&) { flag = true; }
};
const Definition<Waits> kWaits{"Waits", run(&Waits::run), signal("raise", &Waits::raise)};

TEST(Waits, AConditionThatComesTrueCancelsTheLosingTimer) {
  Scenario scenario{kWaits};
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
  scenario.signal("raise");
  const auto last = scenario.task();
  EXPECT_EQ(commands_of(last), "CANCEL_TIMER(1) COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of<std::string>(last), "flag");
}

TEST(Waits, ATimeOutGivesFalse) {
  Scenario scenario{kWaits};
  scenario.task();
  scenario.fire_timer("1");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "time-out");
}

TEST(Waits, AFlagRaisedTogetherWithTheTimeOutCounts) {
  Scenario scenario{kWaits};
  scenario.task();
  scenario.fire_timer("1").signal("raise");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "flag");
}

TEST(Waits, AnEmptyTaskRunsNothing) {
  Scenario scenario{kWaits};
  scenario.task();
  EXPECT_EQ(commands_of(scenario.task()), "");
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.signal("raise");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "flag");
}

TEST(Waits, FailedAndTimedOutAttemptsLeaveNoTrace) {
  Scenario scenario{kWaits};
  scenario.task();
  scenario.history().task_started().task_timed_out();
  scenario.signal("raise");
  scenario.history().task_started().task_failed(
      temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND);
  EXPECT_EQ(result_of<std::string>(scenario.task()), "flag");
}

// --- signals

struct Log {
  std::vector<std::string> lines;
  Task<std::vector<std::string>> run(Context& ctx) {
    lines.push_back("main");
    co_await ctx.wait_until(
        [this, &ctx] { return lines.size() >= 4 && ctx.all_handlers_finished(); });
    co_return lines;
  }
  Task<void> slow(Context& ctx, std::string line) {
    lines.push_back("begin " + line);
    co_await ctx.sleep(1s);
    lines.push_back("end " + line);
  }
  void quick(Context&, std::string line) { lines.push_back(line); }
};
const Definition<Log> kLog{"Log", run(&Log::run), signal("slow", &Log::slow),
                           signal("quick", &Log::quick)};

TEST(Signals, HandlersOfTheFirstTaskStartBeforeMain) {
  Scenario scenario{kLog};
  scenario.signal("quick", std::string{"one"}).signal("slow", std::string{"two"});
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1)");
  scenario.fire_timer("1");
  EXPECT_THAT(result_of<std::vector<std::string>>(scenario.task()),
              ElementsAre("one", "begin two", "main", "end two"));
}

TEST(Signals, UnknownAndUndecodableOnesAreDropped) {
  Scenario scenario{kLog};
  scenario.signal("nobody", 1)
      .signal("quick", std::vector<int>{1, 2})
      .signal("quick", std::string{"a"});
  scenario.task();
  scenario.signal("quick", std::string{"b"}).signal("quick", std::string{"c"});
  EXPECT_THAT(result_of<std::vector<std::string>>(scenario.task()),
              ElementsAre("a", "main", "b", "c"));
}

TEST(Signals, UndecodableOnesAreCountedWhenTheyAreNew) {
  WorkflowRegistry registry;
  registry.add(kLog);
  const auto count = [](engine::Run& run, const testing::WorkflowTask& task) {
    const auto outcome = run.process(task);
    EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
    return outcome.corrupted_signals;
  };
  HistoryBuilder history;
  history.started("Log").signaled("quick", 1).signaled("quick", 2).signaled("nobody", 3);
  engine::Run cached{registry, {}};
  EXPECT_EQ(count(cached, history.task_started().full_task()), 2U);
  const std::int64_t first = history.last_id();
  history.task_completed().signaled("quick", std::string{"a"}).signaled("quick", 4).task_started();
  EXPECT_EQ(count(cached, history.task(first, first)), 1U);
  engine::Run rebuilt{registry, {}};
  EXPECT_EQ(count(rebuilt, history.task(0, first)), 1U) << "the others are old";
}

// Its frame is there before the handler's.
struct Awaits final : WorkflowInterceptor {
  Task<Payload> inbound(Context& /*context*/, InboundCall call, Next next) override {
    Task<Payload> inner = next(std::move(call));
    co_return co_await inner;
  }
};

TEST(Signals, UndecodableOnesAreDroppedBehindAnInterceptor) {
  WorkflowRegistry registry;
  registry.add(kLog);
  engine::RunOptions options;
  options.interceptors.emplace_back([] { return std::make_unique<Awaits>(); });
  engine::Run run{registry, std::move(options)};
  HistoryBuilder history;
  history.started("Log").signaled("quick", 1).signaled("quick", std::string{"a"});
  const auto outcome = run.process(history.task_started().full_task());
  EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  EXPECT_EQ(outcome.corrupted_signals, 1U);
}

// --- updates

struct Counter {
  int value = 0;
  int ticks = 0;
  bool stop = false;
  Mutex mutex;
  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] {
      ++ticks;  // (a condition must not do this; the test counts how often it is asked)
      return stop;
    });
    co_await ctx.wait_until([&ctx] { return ctx.all_handlers_finished(); });
    co_return value;
  }
  int add(Context&, int amount) { return value += amount; }
  void may_add(const int& amount) const {
    if (amount < 0) throw ApplicationError{"amount must not be negative", "invalid_argument", true};
  }
  Task<int> add_slowly(Context& ctx, int amount) {
    const MutexLock lock = co_await mutex.lock(ctx);
    const int before = value;
    const std::string name = std::to_string(amount);
    const std::string answer = co_await ctx.execute(kReserve, name);
    value = before + std::stoi(answer);
    co_return value;
  }
  Task<std::string> who(Context& ctx) { co_return ctx.current_update()->id; }
  Task<int> fail(Context&) {
    throw ApplicationError{"no", "conflict", true};
    co_return 0;
  }
  Task<int> crash(Context&) {
    throw std::runtime_error{"a bug"};
    co_return 0;
  }
  void finish(Context&) { stop = true; }
  int current() const { return value; }
};
const Definition<Counter> kCounter{"Counter",
                                   run(&Counter::run),
                                   signal("finish", &Counter::finish),
                                   query("current", &Counter::current),
                                   update("add", &Counter::add, &Counter::may_add),
                                   update("add_slowly", &Counter::add_slowly),
                                   update("who", &Counter::who),
                                   update("fail", &Counter::fail),
                                   update("crash", &Counter::crash)};

temporal::api::update::v1::Outcome outcome_of(const Scenario::Completion& completion,
                                              const std::string& id) {
  for (const auto& message : completion.messages()) {
    temporal::api::update::v1::Response response;
    if (message.protocol_instance_id() == id && message.body().UnpackTo(&response))
      return response.outcome();
  }
  return {};
}

TEST(Updates, AreAcceptedAndAnsweredInOneTask) {
  Scenario scenario{kCounter};
  scenario.update("u1", "add", 5);
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first),
            "PROTOCOL_MESSAGE(u1/request/accept) PROTOCOL_MESSAGE(u1/request/complete)");
  EXPECT_EQ(outcome_of(first, "u1").success().payloads(0).data(), "5");
  scenario.signal("finish");
  EXPECT_EQ(result_of<int>(scenario.task()), 5);
}

TEST(Updates, ARejectedOneLeavesNoTraceAndItsTaskIsRolledBack) {
  Scenario scenario{kCounter};
  scenario.task();
  const std::int64_t before = scenario.cached().last_started_event_id();
  scenario.update("u1", "add", -5);
  const auto rejected = scenario.task();
  EXPECT_EQ(commands_of(rejected), "");
  ASSERT_EQ(rejected.messages_size(), 1);
  EXPECT_EQ(rejected.messages(0).id(), "u1/request/reject");
  EXPECT_TRUE(rejected.capabilities().discard_speculative_workflow_task_with_events());
  EXPECT_EQ(scenario.cached().last_started_event_id(), before);
  scenario.update("u2", "add", 2);
  EXPECT_EQ(commands_of(scenario.task()),
            "PROTOCOL_MESSAGE(u2/request/accept) PROTOCOL_MESSAGE(u2/request/complete)");
  scenario.update("u3", "nobody", 2).update("u4", "add", 40);
  const auto mixed = scenario.task();
  EXPECT_EQ(commands_of(mixed),
            "PROTOCOL_MESSAGE(u4/request/accept) PROTOCOL_MESSAGE(u4/request/complete)");
  EXPECT_EQ(mixed.messages_size(), 3);
  scenario.signal("finish");
  EXPECT_EQ(result_of<int>(scenario.task()), 42);
}

TEST(Updates, HandlersTakeTurnsAtAMutex) {
  Scenario scenario{kCounter};
  scenario.update("u1", "add_slowly", 1).update("u2", "add_slowly", 10).update("u3", "who");
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first),
            "PROTOCOL_MESSAGE(u1/request/accept) SCHEDULE_ACTIVITY_TASK(1 reserve) "
            "PROTOCOL_MESSAGE(u2/request/accept) "
            "PROTOCOL_MESSAGE(u3/request/accept) PROTOCOL_MESSAGE(u3/request/complete)");
  EXPECT_EQ(outcome_of(first, "u3").success().payloads(0).data(), "\"u3\"");
  scenario.signal("finish");
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.complete_activity("1", std::string{"1"});
  EXPECT_EQ(commands_of(scenario.task()),
            "PROTOCOL_MESSAGE(u1/request/complete) SCHEDULE_ACTIVITY_TASK(2 reserve)");
  scenario.complete_activity("2", std::string{"10"});
  const auto last = scenario.task();
  EXPECT_EQ(commands_of(last), "PROTOCOL_MESSAGE(u2/request/complete) COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of<int>(last), 11);
}

TEST(Updates, AFailureIsTheAnswerAndABugFailsTheTask) {
  Scenario scenario{kCounter};
  scenario.update("u1", "fail");
  EXPECT_EQ(outcome_of(scenario.task(), "u1").failure().message(), "no");
  scenario.update("u2", "crash");
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_EQ(scenario.outcome().cause,
            temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE);
  EXPECT_TRUE(scenario.outcome().evict);
}

TEST(Updates, OneThatWasAdmittedByAResetIsDeliveredAndReplayed) {
  Scenario scenario{kCounter};
  scenario.task();
  auto& request = *scenario.history()
                       .add(temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED)
                       .mutable_workflow_execution_update_admitted_event_attributes()
                       ->mutable_request();
  request.mutable_meta()->set_update_id("u1");
  request.mutable_input()->set_name("add");
  *request.mutable_input()->mutable_args() = encode_all(7);
  EXPECT_EQ(commands_of(scenario.task()),
            "PROTOCOL_MESSAGE(u1/request/accept) PROTOCOL_MESSAGE(u1/request/complete)");
  scenario.signal("finish");
  EXPECT_EQ(result_of<int>(scenario.task()), 7);
}

// --- queries

TEST(Queries, AreAnsweredWithATaskAndAlone) {
  Scenario scenario{kCounter};
  scenario.update("u1", "add", 5).query("q1", "current").query("q2", "nobody");
  const auto first = scenario.task();
  EXPECT_EQ(first.query_results().at("q1").answer().payloads(0).data(), "5");
  EXPECT_EQ(first.query_results().at("q2").result_type(),
            temporal::api::enums::v1::QUERY_RESULT_TYPE_FAILED);
  EXPECT_THAT(first.query_results().at("q2").error_message(), HasSubstr("current"));
  EXPECT_EQ(scenario.legacy_query("current").query_result().payloads(0).data(), "5");
  EXPECT_THAT(scenario.legacy_query("__stack_trace").query_result().payloads(0).data(),
              HasSubstr("run_test.cpp"));
  EXPECT_THAT(
      scenario.legacy_query("__temporal_workflow_metadata").query_result().payloads(0).data(),
      HasSubstr("add_slowly"));
  scenario.signal("finish");
  scenario.task();
  EXPECT_EQ(scenario.legacy_query("current").query_result().payloads(0).data(), "5");
}

struct Cheat {
  explicit Cheat(Context& context) : ctx(context) {}
  Task<void> run(Context& context) { co_await context.sleep(1h); }
  int cheat() const {
    ctx.upsert_memo("name", 1);
    return 0;
  }
  Context& ctx;
};
const Definition<Cheat> kCheat{"Cheat", run(&Cheat::run), query("cheat", &Cheat::cheat)};

struct Talkative {
  bool done = false;
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
  }
  std::string all() const { return std::string(1'500'000, 'x'); }
};
const Definition<Talkative> kTalkative{"Talkative", run(&Talkative::run),
                                       query("all", &Talkative::all)};

// Not by a `Scenario`: which of them comes last may differ from task to task.
TEST(Queries, ThatHaveNoRoomTogetherFailTheLastAndNotTheTask) {
  HistoryBuilder history;
  history.started("Talkative").task_started();
  auto task = history.full_task();
  for (const std::string id : {"a", "b", "c"}) (*task.mutable_queries())[id].set_query_type("all");
  WorkflowRegistry registry;
  registry.add(kTalkative);
  engine::Run run{registry, {}};
  const auto outcome = run.process(task);
  ASSERT_EQ(outcome.kind, engine::TaskOutcome::Kind::kCompleted) << outcome.failure.message();
  int failed = 0;
  for (const auto& [id, result] : outcome.completion.query_results()) {
    if (result.has_answer()) continue;
    ++failed;
    EXPECT_THAT(result.error_message(), HasSubstr("[TMPRL1103] the answer of query all"));
  }
  EXPECT_EQ(failed, 1);
}

TEST(Queries, CannotCommand) {
  Scenario scenario{kCheat};
  scenario.task();
  EXPECT_THAT(scenario.legacy_query("cheat").error_message(), HasSubstr("must change nothing"));
}

// --- cancellation

struct Cleans {
  Task<std::string> run(Context& ctx) {
    const std::string name = "x";
    std::string seen;
    try {
      co_await ctx.execute(kReserve, name);
    } catch (const Failure& failure) {
      seen = is_cancellation(failure) ? "cancelled" : "failed";
    }
    try {
      co_await ctx.sleep(1s);  // the scope is cancelled: fails at once
    } catch (const CanceledError&) {
      seen += " again";
    }
    seen += " " + co_await ctx.shielded([&ctx] { return clean(ctx); });
    if (ctx.cancel_requested()) throw CanceledError{seen};
    co_return seen;
  }
  static Task<std::string> clean(Context& ctx) {
    const std::string name = "x";
    co_return co_await ctx.execute(kRelease, name);
  }
};
const Definition<Cleans> kCleans{"Cleans", run(&Cleans::run)};

// What begins the activity has ended long before the activity does.
struct Outlives {
  Task<Future<std::string>> begin(Context& ctx) {
    const std::string name = "x";
    co_return ctx.start(kReserve, name);
  }
  Task<Future<std::string>> spawns(Context& ctx) { co_return co_await ctx.spawn(begin(ctx)); }
  Task<std::string> run(Context& ctx, bool nested) {
    std::optional<Future<std::string>> future;
    if (nested) {
      Task<Future<std::string>> inner = ctx.new_scope().run([this, &ctx] { return spawns(ctx); });
      future = co_await inner;
    } else {
      future = co_await ctx.spawn(begin(ctx));
    }
    try {
      co_return co_await *future;
    } catch (const Failure& failure) {
      co_return is_cancellation(failure) ? "cancelled" : "failed";
    }
  }
};
const Definition<Outlives> kOutlives{"Outlives", run(&Outlives::run)};

TEST(Cancellation, ReachesOperationsThatHaveOutlivedTheirScope) {
  for (const bool nested : {false, true}) {
    Scenario scenario{kOutlives, nested};
    EXPECT_EQ(commands_of(scenario.task()), "SCHEDULE_ACTIVITY_TASK(1 reserve)");
    scenario.cancel();
    const auto cancelled = scenario.task();
    EXPECT_EQ(commands_of(cancelled), "REQUEST_CANCEL_ACTIVITY_TASK COMPLETE_WORKFLOW_EXECUTION")
        << nested;
    EXPECT_EQ(result_of<std::string>(cancelled), "cancelled");
  }
}

TEST(Cancellation, ShieldedCodeCleansUpAndTheRunEndsAsCancelled) {
  Scenario scenario{kCleans};
  scenario.task();
  scenario.cancel().cancel();
  EXPECT_EQ(commands_of(scenario.task()),
            "REQUEST_CANCEL_ACTIVITY_TASK SCHEDULE_ACTIVITY_TASK(2 release)");
  scenario.cancel_activity("1").complete_activity("2", std::string{"clean"});
  EXPECT_EQ(commands_of(scenario.task()), "CANCEL_WORKFLOW_EXECUTION");
}

TEST(Cancellation, AnActivityThatEndedInTheSameTaskIsNotAskedToStop) {
  Scenario scenario{kCleans};
  scenario.task();
  scenario.cancel().complete_activity("1", std::string{"done"});
  EXPECT_EQ(commands_of(scenario.task()), "SCHEDULE_ACTIVITY_TASK(2 release)");
}

struct Scopes {
  Task<std::string> run(Context& ctx) {
    const CancellationScope scope = ctx.new_scope();
    Handle<std::string> inner = ctx.spawn(scope.run([&ctx] { return wait(ctx); }));
    const Future<void> outside = ctx.timer(5s);
    co_await ctx.sleep(1s);
    scope.cancel("enough");
    const std::string text = co_await inner;
    co_await outside;
    co_return text;
  }
  static Task<std::string> wait(Context& ctx) {
    std::vector<Future<void>> timers{ctx.timer(1h), ctx.timer(2h)};
    std::string text;
    for (const auto& timer : timers) {
      try {
        co_await timer;
      } catch (const CanceledError& error) {
        text += error.message() + " ";
      }
    }
    co_return text;
  }
};
const Definition<Scopes> kScopes{"Scopes", run(&Scopes::run)};

TEST(Cancellation, AScopeCancelsWhatIsInItInOrderAndNothingElse) {
  Scenario scenario{kScopes};
  EXPECT_EQ(commands_of(scenario.task()),
            "START_TIMER(1) START_TIMER(2) START_TIMER(3) START_TIMER(4)");
  scenario.fire_timer("2");
  EXPECT_EQ(commands_of(scenario.task()), "CANCEL_TIMER(3) CANCEL_TIMER(4)");
  scenario.fire_timer("1");
  EXPECT_EQ(result_of<std::string>(scenario.task()), "enough enough ");
}

struct CancelsSpawned {
  Task<std::string> run(Context& ctx) {
    const Handle<void> task = ctx.spawn(wait(ctx));
    co_await ctx.sleep(1s);
    task.cancel("not needed");
    try {
      co_await task;
    } catch (const CanceledError& error) {
      co_return error.message();
    }
    co_return "?";
  }
  static Task<void> wait(Context& ctx) { co_await ctx.sleep(1h); }
};
const Definition<CancelsSpawned> kCancelsSpawned{"CancelsSpawned", run(&CancelsSpawned::run)};

TEST(Cancellation, AHandleCancelsWhatWasSpawned) {
  Scenario scenario{kCancelsSpawned};
  EXPECT_EQ(commands_of(scenario.task()), "START_TIMER(1) START_TIMER(2)");
  scenario.fire_timer("1");
  const auto last = scenario.task();
  EXPECT_EQ(commands_of(last), "CANCEL_TIMER(2) COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of<std::string>(last), "not needed");
}

TEST(Random, AResetSeedsAnew) {
  struct Draws {
    Task<std::vector<std::uint64_t>> run(Context& ctx) {
      std::vector<std::uint64_t> drawn{ctx.random()};
      co_await ctx.sleep(1s);
      drawn.push_back(ctx.random());
      co_return drawn;
    }
  };
  const Definition<Draws> definition{"Draws", run(&Draws::run)};
  std::vector<std::vector<std::uint64_t>> results;
  for (const bool reset : {false, true}) {
    Scenario scenario{definition};
    scenario.task();
    if (reset) {
      scenario.history().task_started().task_failed(
          temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW, "another-run");
    }
    scenario.fire_timer("1");
    results.push_back(result_of<std::vector<std::uint64_t>>(scenario.task()));
  }
  EXPECT_EQ(results[0][0], results[1][0]);
  EXPECT_NE(results[0][1], results[1][1]);
}

// --- the end

struct Continues {
  Task<int> run(Context& ctx, int round) {
    SearchAttributes attributes;
    attributes.set_keyword("Tenant", "t1");
    ctx.upsert_search_attributes(attributes);
    ctx.upsert_memo("note", std::string{"hello"});
    if (round == 0) ctx.continue_as_new(round + 1);
    co_return round;
  }
};
const Definition<Continues> kContinues{"Continues", run(&Continues::run)};

TEST(End, ContinueAsNewCarriesMemoAndSearchAttributes) {
  Scenario scenario{kContinues, 0};
  const auto only = scenario.task();
  EXPECT_EQ(commands_of(only),
            "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES MODIFY_WORKFLOW_PROPERTIES "
            "CONTINUE_AS_NEW_WORKFLOW_EXECUTION");
  const auto& next = only.commands(2).continue_as_new_workflow_execution_command_attributes();
  EXPECT_EQ(next.workflow_type().name(), "Continues");
  EXPECT_EQ(next.task_queue().name(), testing::kQueue);
  EXPECT_EQ(next.input().payloads(0).data(), "1");
  EXPECT_EQ(next.memo().fields().at("note").data(), "\"hello\"");
  EXPECT_EQ(next.search_attributes().indexed_fields().at("Tenant").metadata().at("type"),
            "Keyword");
}

struct Big {
  Task<std::string> run(Context&) { co_return std::string(3 * 1024 * 1024, 'x'); }
};
const Definition<Big> kBig{"Big", run(&Big::run)};

TEST(End, AnOversizeResultFailsTheTaskNotTheWorkflow) {
  Scenario scenario{kBig};
  scenario.task();
  EXPECT_EQ(scenario.outcome().kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_EQ(scenario.outcome().cause,
            temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE);
  EXPECT_THAT(scenario.outcome().failure.message(), HasSubstr("TMPRL1103"));
}

TEST(End, AnUnknownTypeFailsTheTask) {
  HistoryBuilder history;
  history.started("Nobody").task_started();
  WorkflowRegistry registry;
  registry.add(kWaits);
  engine::Run run{registry, {}};
  const auto outcome = run.process(history.full_task());
  EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kFailed);
  EXPECT_THAT(outcome.failure.message(), HasSubstr("Nobody"));
  EXPECT_THAT(outcome.failure.message(), HasSubstr("Waits"));
}

// --- deterministic sources

struct Sources {
  Task<std::string> run(Context& ctx) {
    const TimePoint begin = ctx.now();
    std::string text = std::to_string(ctx.random()) + " " + ctx.uuid();
    co_await ctx.sleep(1s);
    co_return text + " " + std::to_string((ctx.now() - begin) / 1s);
  }
};
const Definition<Sources> kSources{"Sources", run(&Sources::run)};

TEST(Sources, AreFrozen) {
  Scenario scenario{kSources};
  scenario.task();
  scenario.fire_timer("1");
  EXPECT_EQ(result_of<std::string>(scenario.task()),
            "17274759711526557067 48ff4b99-3bc6-426f-8ff2-e56c9debe932 5");
}

// --- lining up

TEST(Cache, AMissAsksForTheFullHistory) {
  Scenario scenario{kWaits};
  scenario.task();
  scenario.signal("raise");
  scenario.history().task_started();
  const auto task = scenario.history().task(3, 3);
  auto fresh = scenario.fresh();
  EXPECT_FALSE(fresh->expects(task));
  EXPECT_EQ(fresh->process(task).kind, engine::TaskOutcome::Kind::kNeedFullHistory);
  EXPECT_TRUE(scenario.cached().expects(task));
  EXPECT_FALSE(scenario.cached().expects(scenario.history().full_task()));
  scenario.history().drop_last(2);
}

TEST(Cache, EvictionDestroysFramesThatWait) {
  static int alive;
  alive = 0;
  struct Guard {
    Guard() { ++alive; }
    ~Guard() { --alive; }
  };
  struct Holds {
    Mutex mutex;
    Task<void> run(Context& ctx) {
      const Guard guard;
      const MutexLock lock = co_await mutex.lock(ctx);
      const Handle<void> spawned = ctx.spawn(other(ctx));
      co_await spawned;
    }
    Task<void> other(Context& ctx) {
      const Guard guard;
      const MutexLock lock = co_await mutex.lock(ctx);
      co_await ctx.sleep(1s);
    }
  };
  const Definition<Holds> definition{"Holds", run(&Holds::run)};
  {
    Scenario scenario{definition};
    scenario.task();
    EXPECT_EQ(alive, 2 * 1);  // the fresh run of the comparison is gone already
  }
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace tempora
