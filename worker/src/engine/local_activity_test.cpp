// Local activities: each scenario is done by a cached run, by a fresh one, and by the replayer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tempora/definition.hpp>

#include "testing/scenario.hpp"

namespace tempora {
namespace {

using namespace std::chrono_literals;
using testing::commands_of;
using ::testing::ElementsAre;
using testing::result_of;
using testing::Scenario;

const ActivityType<std::string, std::string> kLook{
    "look", {.start_to_close = 5s, .retry = RetryPolicy{.maximum_attempts = 7}}};
const ActivityType<std::string, std::string> kFar{"far", {.start_to_close = 5s}};

struct Sequence {
  Task<std::string> run(Context& ctx) {
    const std::string a = "a";
    const std::string first = co_await ctx.start_local(kLook, a);
    const std::string second = co_await ctx.start_local(kLook, first);
    co_await ctx.sleep(1s);
    co_return co_await ctx.execute(kFar, second);
  }
};
const Definition<Sequence> kSequence{"Sequence", run(&Sequence::run)};

TEST(LocalActivities, EndWithinTheTaskThatBeganThemAndLeaveMarkers) {
  Scenario scenario{kSequence};
  scenario.complete_local(1, std::string{"b"}, 300ms).complete_local(2, std::string{"c"});
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "RECORD_MARKER RECORD_MARKER START_TIMER(1)");
  const auto& marker = first.commands(0).record_marker_command_attributes();
  EXPECT_EQ(marker.marker_name(), "core_local_activity");
  EXPECT_EQ(
      marker.details().at("data").payloads(0).data(),
      R"({"seq":1,"attempt":1,"activity_id":"1","activity_type":"look","complete_time":{"seconds":1800000003,"nanos":300000000},"backoff":null,"original_schedule_time":{"seconds":1800000003,"nanos":0}})");
  EXPECT_EQ(marker.details().at("result").payloads(0).data(), "\"b\"");
  ASSERT_EQ(scenario.local_orders().size(), 2U);
  EXPECT_EQ(scenario.local_orders()[0].start_to_close, Duration{5s});
  EXPECT_EQ(scenario.local_orders()[0].retry.maximum_attempts, 7);
  EXPECT_EQ(scenario.local_orders()[1].input.payloads(0).data(), "\"b\"");
  scenario.fire_timer("1");
  // Local and other activities share one row of numbers.
  EXPECT_EQ(commands_of(scenario.task()), "SCHEDULE_ACTIVITY_TASK(3 far)");
  scenario.complete_activity("3", std::string{"d"});
  EXPECT_EQ(result_of(scenario.task()), "d");
}

struct SideBySide {
  std::string log;
  Task<void> one(Context& ctx, std::string name) {
    log += co_await ctx.start_local(kLook, name);
    const TimePoint before = ctx.now();
    co_await ctx.sleep(1s);
    log += ctx.now() > before ? "." : "!";
  }
  Task<std::string> run(Context& ctx) {
    const auto a = ctx.spawn(one(ctx, "a"));
    const auto b = ctx.spawn(one(ctx, "b"));
    const auto c = ctx.spawn(one(ctx, "c"));
    co_await join(ctx, {a, b, c});
    co_return log;
  }
};
const Definition<SideBySide> kSideBySide{"SideBySide", run(&SideBySide::run)};

TEST(LocalActivities, ResolveInTheOrderInWhichTheyEndedNotInThatOfTheirStart) {
  Scenario scenario{kSideBySide};
  scenario.complete_local(3, std::string{"C"})
      .complete_local(1, std::string{"A"})
      .complete_local(2, std::string{"B"});
  EXPECT_EQ(commands_of(scenario.task()),
            "RECORD_MARKER START_TIMER(1) RECORD_MARKER START_TIMER(2) RECORD_MARKER "
            "START_TIMER(3)");
  scenario.fire_timer("1").fire_timer("2").fire_timer("3");
  EXPECT_EQ(result_of(scenario.task()), "CAB...");
}

TEST(LocalActivities, ThatTakeLongerThanATaskGoOnOverAHeartbeat) {
  Scenario scenario{kSideBySide};
  scenario.complete_local(2, std::string{"B"});
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "RECORD_MARKER START_TIMER(1)");
  EXPECT_TRUE(first.force_create_new_workflow_task());
  EXPECT_EQ(scenario.local_orders().size(), 3U);
  // Nothing new: the workflow is not woken, its clock stands still.
  EXPECT_EQ(commands_of(scenario.task()), "");
  scenario.fire_timer("1").complete_local(1, std::string{"A"}).complete_local(3, std::string{"C"});
  const auto third = scenario.task();
  EXPECT_EQ(commands_of(third), "RECORD_MARKER START_TIMER(2) RECORD_MARKER START_TIMER(3)");
  EXPECT_FALSE(third.force_create_new_workflow_task());
  EXPECT_EQ(scenario.local_orders().size(), 3U) << "a cached run orders each of them once";
  scenario.fire_timer("2").fire_timer("3");
  EXPECT_EQ(result_of(scenario.task()), "B.AC..");
}

TEST(LocalActivities, AreOrderedAgainByARunThatWasRebuilt) {
  Scenario scenario{kSideBySide};
  scenario.complete_local(2, std::string{"B"});
  scenario.task();
  scenario.evict();
  scenario.complete_local(1, std::string{"A"}).complete_local(3, std::string{"C"});
  scenario.history();
  const auto before = scenario.local_orders().size();
  scenario.fire_timer("1");
  // A cached run that is new has seen nothing: it gets the whole history.
  auto rebuilt = scenario.fresh();
  auto history = scenario.history();
  history.task_started();
  auto task = history.task(0, 3);
  const auto outcome = rebuilt->process(task);
  EXPECT_EQ(outcome.kind, engine::TaskOutcome::Kind::kLocalActivities);
  ASSERT_EQ(outcome.local.start.size(), 2U);
  EXPECT_EQ(outcome.local.start[0].seq, 1U);
  EXPECT_EQ(outcome.local.start[1].seq, 3U);
  EXPECT_EQ(before, 3U);
}

struct Retries {
  Task<std::string> run(Context& ctx) {
    const std::string name = "x";
    std::string text;
    try {
      text = co_await ctx.start_local(kLook, name);
    } catch (const ActivityError& error) {
      text = find_application_error(error)->type();
    }
    co_return text;
  }
};
const Definition<Retries> kRetries{"Retries", run(&Retries::run)};

TEST(LocalActivities, FailWithTheirCause) {
  Scenario scenario{kRetries};
  scenario.fail_local(1, ApplicationError{"no", "Refused", true});
  EXPECT_EQ(result_of(scenario.task()), "Refused");
}

TEST(LocalActivities, AResultWithoutRoomInItsMarkerIsAFailureOnRecord) {
  Scenario scenario{kRetries};
  scenario.complete_local(1, std::string((std::size_t{2} << 20) - 100, 'x'));
  EXPECT_EQ(result_of(scenario.task()), "PayloadsTooLarge");
}

TEST(LocalActivities, AFailureTooLongForItsMarkerIsShortenedAndKeepsItsType) {
  Scenario scenario{kRetries};
  scenario.fail_local(1, ApplicationError{std::string(std::size_t{3} << 20, 'x'), "Refused", true});
  const auto first = scenario.task();
  ASSERT_EQ(commands_of(first), "RECORD_MARKER COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_EQ(result_of(first), "Refused");
  EXPECT_LT(first.commands(0).ByteSizeLong(), 10'000U);
}

TEST(LocalActivities, ALongPauseBeforeTheNextAttemptIsATimer) {
  Scenario scenario{kRetries};
  scenario.fail_local(1, ApplicationError{"not yet"}, Duration{120s});
  const auto first = scenario.task();
  EXPECT_EQ(commands_of(first), "RECORD_MARKER START_TIMER(1)");
  EXPECT_EQ(first.commands(1).start_timer_command_attributes().start_to_fire_timeout().seconds(),
            120);
  scenario.fire_timer("1").complete_local(2, std::string{"at last"});
  EXPECT_EQ(commands_of(scenario.task()), "RECORD_MARKER COMPLETE_WORKFLOW_EXECUTION");
  ASSERT_EQ(scenario.local_orders().size(), 2U);
  EXPECT_EQ(scenario.local_orders()[1].attempt, 2);
  EXPECT_EQ(scenario.local_orders()[1].scheduled_time, scenario.local_orders()[0].scheduled_time);
}

const ActivityType<std::string, std::string> kBounded{"look", {.schedule_to_close = 1h}};
struct Bounded {
  Task<std::string> run(Context& ctx) {
    const std::string name = "x";
    co_return co_await ctx.start_local(kBounded, name);
  }
};
const Definition<Bounded> kBoundedRun{"Bounded", run(&Bounded::run)};

TEST(LocalActivities, ScheduleToCloseBoundsAllAttemptsAndTheirPauses) {
  Scenario scenario{kBoundedRun};
  scenario.fail_local(1, ApplicationError{"not yet"}, Duration{120s});
  scenario.task();
  scenario.fire_timer("1").complete_local(2, std::string{"at last"});
  EXPECT_EQ(result_of(scenario.task()), "at last");
  ASSERT_EQ(scenario.local_orders().size(), 2U);
  const auto& first = scenario.local_orders()[0];
  const auto& second = scenario.local_orders()[1];
  EXPECT_EQ(first.schedule_to_close, Duration{1h});
  EXPECT_LT(second.schedule_to_close, Duration{1h});
  EXPECT_EQ(second.scheduled_time + second.schedule_to_close,
            first.scheduled_time + first.schedule_to_close);
}

struct Cancels {
  Task<std::string> run(Context& ctx, int type, bool during_pause) {
    LocalActivityOptions options;
    options.cancellation = static_cast<CancellationType>(type);
    const std::string name = "x";
    const auto future = ctx.start_local(kLook, name, options);
    const auto other = ctx.start_local(kLook, name);
    co_await other;
    if (during_pause) co_await ctx.sleep(1s);
    future.cancel("enough");
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
const Definition<Cancels> kCancels{"Cancels", run(&Cancels::run)};

TEST(LocalActivities, CancelledWithoutAWaitResolveAtOnceAndTheWorkerIsTold) {
  for (const int type : {0, 2}) {
    SCOPED_TRACE(type);
    Scenario scenario{kCancels, type, false};
    scenario.complete_local(2, std::string{"ok"}).complete_local(1, std::string{"too late"});
    EXPECT_EQ(commands_of(scenario.task()), "RECORD_MARKER RECORD_MARKER START_TIMER(1)");
    // None is left for which the task would stay open: it is told with the answer.
    const bool abandoned = type == 2;
    const auto& told = abandoned ? scenario.local_abandons() : scenario.local_cancels();
    const auto& other = abandoned ? scenario.local_cancels() : scenario.local_abandons();
    EXPECT_THAT(told, ElementsAre(1U));
    EXPECT_TRUE(other.empty());
    scenario.fire_timer("1");
    EXPECT_EQ(result_of(scenario.task()), "cancelled");
  }
}

TEST(LocalActivities, WaitingCancellationTakesTheRealEnd) {
  Scenario scenario{kCancels, 1, false};
  scenario.complete_local(2, std::string{"ok"}).complete_local(1, std::string{"in time"});
  EXPECT_EQ(commands_of(scenario.task()), "RECORD_MARKER RECORD_MARKER START_TIMER(1)");
  EXPECT_THAT(scenario.local_cancels(), ElementsAre(1U));
  scenario.fire_timer("1");
  EXPECT_EQ(result_of(scenario.task()), "in time");
}

TEST(LocalActivities, CancelledInAPauseCancelTheTimer) {
  Scenario scenario{kCancels, 0, true};
  scenario.fail_local(1, ApplicationError{"not yet"}, Duration{120s})
      .complete_local(2, std::string{"ok"});
  EXPECT_EQ(commands_of(scenario.task()),
            "RECORD_MARKER START_TIMER(1) RECORD_MARKER START_TIMER(2)");
  scenario.fire_timer("2");
  EXPECT_EQ(commands_of(scenario.task()), "CANCEL_TIMER(1) START_TIMER(3)");
  scenario.fire_timer("3");
  EXPECT_EQ(result_of(scenario.task()), "cancelled");
}

struct CancelsAtOnce {
  Task<std::string> run(Context& ctx) {
    const std::string name = "x";
    const auto future = ctx.start_local(kLook, name);
    future.cancel();
    try {
      co_await future;
    } catch (const Failure& failure) {
      co_return is_cancellation(failure) ? "cancelled" : "failed";
    }
    co_return "?";
  }
};
const Definition<CancelsAtOnce> kCancelsAtOnce{"CancelsAtOnce", run(&CancelsAtOnce::run)};

TEST(LocalActivities, CancelledBeforeTheWorkerHadThemLeaveNothing) {
  Scenario scenario{kCancelsAtOnce};
  EXPECT_EQ(commands_of(scenario.task()), "COMPLETE_WORKFLOW_EXECUTION");
  EXPECT_TRUE(scenario.local_orders().empty());
}

TEST(LocalActivities, AMarkerThatTheCodeDoesNotExpectIsNondeterminism) {
  Scenario scenario{kRetries};
  scenario.complete_local(1, std::string{"ok"});
  scenario.task();
  const auto& events = scenario.history().history();
  WorkflowRegistry registry;
  registry.add(Definition<CancelsAtOnce>{"Retries", run(&CancelsAtOnce::run)});
  const auto replayed = Replayer{registry}.replay(events);
  ASSERT_FALSE(replayed.has_value());
  EXPECT_TRUE(replayed.error().nondeterminism);
}

}  // namespace
}  // namespace tempora
