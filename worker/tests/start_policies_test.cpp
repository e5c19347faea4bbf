// Runs that begin later, again, at set times, or not at all because their id is taken.
#include <atomic>
#include <chrono>
#include <peers.hpp>
#include <semaphore>
#include <tempora/schedule.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Stubborn {
  Task<int> run(Context& ctx) {
    if (ctx.info().attempt < 3) throw ApplicationError{"not yet"};
    co_return ctx.info().attempt;
  }
};
const Definition<Stubborn> kStubborn{"Stubborn", run(&Stubborn::run)};

TEST(StartPolicies, AFailedRunIsTriedAgainAsItsPolicySays) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kStubborn);
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.retry = RetryPolicy{.initial_interval = 10ms, .maximum_attempts = 3};
    EXPECT_EQ(must(stage.start_with(kStubborn, how).result<int>()), 3);
    how.id = unique("run");
    how.retry->maximum_attempts = 2;
    EXPECT_EQ(stage.start_with(kStubborn, how).result<int>().error().code,
              ErrorCode::kWorkflowFailed);
  });
}

struct Waits {
  bool done = false;
  std::string text;
  Task<std::string> run(Context& ctx, std::string given) {
    text = std::move(given);
    co_await ctx.wait_until([this] { return done; });
    co_return text + " " + ctx.memo<std::string>("note").value_or("without a note");
  }
  void finish(Context&) { done = true; }
};
const Definition<Waits> kWaits{"Waits", run(&Waits::run), signal("finish", &Waits::finish)};

TEST(StartPolicies, ASecondStartOfTheIdIsRefusedJoinsOrReplacesTheFirst) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kWaits);
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.memo["note"] = PayloadCodec<std::string>::encode("with a note");
    const std::string one = "first";
    const std::string two = "second";
    const auto first = stage.start_with(kWaits, how, one);
    EXPECT_EQ(stage.client().start(kWaits, how, two).error().code, ErrorCode::kAlreadyStarted);
    how.conflict = IdConflictPolicy::kUseExisting;
    const auto joined = must(stage.client().start(kWaits, how, two));
    EXPECT_EQ(joined.started_run_id(), first.started_run_id());
    how.conflict = IdConflictPolicy::kTerminateExisting;
    const auto replacing = stage.start_with(kWaits, how, two);
    EXPECT_EQ(first.result<std::string>().error().code, ErrorCode::kWorkflowTerminated);
    must(replacing.signal("finish"));
    EXPECT_EQ(must(replacing.result<std::string>()), "second with a note");
  });
}

// The times at which runs began.
const ActivityType<std::int64_t, void> kBegan{"began", {.start_to_close = 10s}};
struct Notes {
  Task<void> run(Context& ctx) {
    const std::int64_t now = ctx.now().time_since_epoch().count();
    co_await ctx.execute(kBegan, now);
  }
};
const Definition<Notes> kNotes{"Notes", run(&Notes::run)};

Duration since_start(const WorkflowHandle& handle, std::int64_t began) {
  return TimePoint{TimePoint::duration{began}} - must(handle.describe()).start_time;
}

TEST(StartPolicies, ADelayedRunBeginsWhenItsTimeHasCome) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<std::int64_t> began{0};
    stage.runs(kNotes).does(kBegan,
                            [&](ActivityContext&, const std::int64_t& time) { began = time; });
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.start_delay = 1s;
    const auto handle = stage.start_with(kNotes, how);
    must(handle.result<void>());
    EXPECT_GE(since_start(handle, began), 1s);
  });
}

// A worker that tells of each run that has begun.
void start_noting(Stage& stage, std::counting_semaphore<>& began) {
  stage.runs(kNotes).does(kBegan,
                          [&began](ActivityContext&, const std::int64_t&) { began.release(); });
  stage.start_worker();
}

// The first run by hand, the others by the clock; a worker does each.
TEST(StartPolicies, ARunOfACronScheduleIsFollowedByTheNext) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::counting_semaphore<> began{0};
    start_noting(stage, began);
    StartOptions how = stage.start_options();
    how.cron = "@every 1s";
    const auto handle = stage.start_with(kNotes, how);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(began.try_acquire_for(60s));
    must(stage.client().handle(handle.id()).terminate("enough"));
    stage.worker().shutdown();
  });
}

TEST(StartPolicies, AScheduleStartsRunsThatAWorkerDoes) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::counting_semaphore<> began{0};
    start_noting(stage, began);
    const std::string id = unique("schedule");
    Schedule schedule{.workflow_type = kNotes.name(), .start = stage.start_options()};
    schedule.spec.intervals.push_back({.every = 1s});
    schedule.overlap = OverlapPolicy::kAllowAll;
    schedule.remaining_actions = 2;
    const ScheduleClient schedules = stage.client().schedules();
    must(schedules.create(id, schedule));
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(began.try_acquire_for(60s));
    // The server names a run by its time in whole seconds, and drops one whose name is taken: by an
    // action of the same second, too.
    bool again = false;
    for (int tries = 0; tries < 12 && !again; ++tries) {
      must(schedules.trigger(id));
      again = began.try_acquire_for(5s);
    }
    EXPECT_TRUE(again);
    must(schedules.remove(id));
    stage.worker().shutdown();
  });
}

// Three full hours of a day that is over.
TEST(StartPolicies, AScheduleTellsItsTimesAndMakesUpForThoseThatAreOver) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::counting_semaphore<> began{0};
    start_noting(stage, began);
    const std::string id = unique("schedule");
    Schedule schedule{.workflow_type = kNotes.name(), .start = stage.start_options()};
    schedule.spec.intervals.push_back({.every = 1h});
    const ScheduleClient schedules = stage.client().schedules();
    must(schedules.create(id, schedule));
    const TimePoint day = std::chrono::sys_days{std::chrono::January / 5 / 2026};
    const TimePoint from = day + 30min;
    const TimePoint to = day + 3h + 30min;
    EXPECT_EQ(must(schedules.times(id, from, to)),
              (std::vector<TimePoint>{day + 1h, day + 2h, day + 3h}));
    must(schedules.backfill(id, from, to, OverlapPolicy::kAllowAll));
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(began.try_acquire_for(60s));
    must(schedules.remove(id));
    stage.worker().shutdown();
  });
}

struct Ends {
  Task<void> run(Context&, bool well) {
    if (!well) throw ApplicationError{"badly"};
    co_return;
  }
};
const Definition<Ends> kEnds{"Ends", run(&Ends::run)};

TEST(StartPolicies, AScheduleIsPausedByARunThatFailsIfItSaysSo) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kEnds);
    stage.start_worker();
    const std::string id = unique("schedule");
    Schedule schedule{.workflow_type = kEnds.name(),
                      .start = stage.start_options(),
                      .input = encode_all(false),
                      .pause_on_failure = true};
    schedule.spec.intervals.push_back({.every = 24h});
    const ScheduleClient schedules = stage.client().schedules();
    must(schedules.create(id, schedule));
    EXPECT_FALSE(must(schedules.describe(id)).schedule.state().paused());
    must(schedules.trigger(id));
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (!must(schedules.describe(id)).schedule.state().paused()) {  // there is no event
      ASSERT_LT(std::chrono::steady_clock::now(), until);
      std::this_thread::sleep_for(100ms);
    }
    must(schedules.remove(id));
    stage.worker().shutdown();
  });
}

TEST(StartPolicies, AnIdIsUsedAgainOnlyAfterAFailureIfThePolicySaysSo) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kEnds);
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.reuse = IdReusePolicy::kAllowDuplicateFailedOnly;
    const bool well = true;
    const bool badly = false;
    EXPECT_EQ(stage.start_with(kEnds, how, badly).result<void>().error().code,
              ErrorCode::kWorkflowFailed);
    must(stage.start_with(kEnds, how, well).result<void>());
    const auto third = stage.client().start(kEnds, how, well);
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().code, ErrorCode::kAlreadyStarted) << third.error().text();
  });
}

}  // namespace
}  // namespace tempora::behaviour
