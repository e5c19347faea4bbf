// What a worker shows of itself, and how it limits itself.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <peers.hpp>
#include <semaphore>
#include <string_view>
#include <tempora/metrics.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<Void, Void> kNarrow{"narrow", {.start_to_close = 30s}};
const ActivityType<Void, Void> kWide{"wide", {.start_to_close = 30s}};

struct Crowd {
  Task<void> run(Context& ctx) {
    std::vector<Future<Void>> all;
    for (int i = 0; i < 6; ++i) all.push_back(ctx.start(kNarrow));
    for (int i = 0; i < 3; ++i) all.push_back(ctx.start(kWide));
    for (const auto& each : all) co_await each;
  }
};
const Definition<Crowd> kCrowd{"Crowd", run(&Crowd::run)};

struct Counted {
  std::atomic<int> now = 0, most = 0;
  void enter() {
    const int seen = ++now;
    for (int known = most; known < seen && !most.compare_exchange_weak(known, seen);) {
    }
  }
};

// The wide ones run although the narrow ones wait: six and three tasks for nine slots.
TEST(ActivityLimits, HoldATypeBackAndNoOther) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Counted narrow;
    std::counting_semaphore<> go{0};
    std::counting_semaphore<> wide{0};
    stage.options.max_concurrent_activities = 9;
    stage.options.max_concurrent_by_activity_type = {{"narrow", 2}};
    stage.runs(kCrowd)
        .does(kNarrow,
              [&](ActivityContext&, const Void&) {
                narrow.enter();
                go.acquire();
                --narrow.now;
                return Void{};
              })
        .does(kWide, [&](ActivityContext&, const Void&) {
          wide.release();
          return Void{};
        });
    stage.start_worker();
    const auto handle = stage.start(kCrowd);
    for (int i = 0; i < 3; ++i) wide.acquire();
    go.release(6);
    must(handle.result<void>());
    EXPECT_EQ(narrow.most, 2);
    stage.worker().shutdown();
  });
}

TEST(ActivityLimits, OfNoneAreRefused) {
  NEEDS_SERVER();
  WorkerOptions options{.task_queue = "nobody", .max_concurrent_by_activity_type = {{"never", 0}}};
  EXPECT_THROW((Worker{connect(), options}), std::invalid_argument);
}

TEST(WorkerHeartbeats, ShowTheWorkerToTemporalsTools) {
  NEEDS_SERVER();
  Stage stage{connect({.identity = unique("listed")}), 1'000};
  stage.options.heartbeat_interval = 1s;
  stage.runs(kCrowd);
  stage.start_worker();
  const std::string query = "TaskQueue = '" + stage.queue() + "'";
  const auto until = std::chrono::steady_clock::now() + 30s;
  std::vector<WorkerDescription> found;
  while (found.empty() && std::chrono::steady_clock::now() < until)
    found = must(stage.client().list_workers(query)).workers;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front().identity, stage.client().identity());
  EXPECT_EQ(found.front().task_queue, stage.queue());
  EXPECT_EQ(found.front().sdk, "tempora 0.1.0");
  EXPECT_TRUE(found.front().running);
  stage.worker().shutdown();
  const auto gone_by = std::chrono::steady_clock::now() + 10s;
  const auto is_running = [&] {
    const auto after = must(stage.client().list_workers(query)).workers;
    return !after.empty() && after.front().running;
  };
  while (is_running()) {  // a heartbeat may have been under way
    ASSERT_LT(std::chrono::steady_clock::now(), gone_by);
    std::this_thread::sleep_for(50ms);
  }
}

TEST(WorkerPolls, AreSeenInWhatTheServerTellsOfTheirQueue) {
  NEEDS_SERVER();
  Stage stage{connect({.identity = unique("polls")}), 1'000};
  stage.options.workflow_pollers = 10;  // so that no part of the queue goes without
  stage.options.activity_pollers = 10;
  stage.runs(kCrowd).does(kWide, [](ActivityContext&, const Void&) { return Void{}; });
  stage.start_worker();
  const auto until = std::chrono::steady_clock::now() + 30s;
  for (const TaskKind kind : {TaskKind::kWorkflow, TaskKind::kActivity}) {
    TaskQueueDescription found;
    while (found.pollers.empty() && std::chrono::steady_clock::now() < until)
      found = must(stage.client().describe_task_queue(stage.queue(), kind));
    ASSERT_EQ(found.pollers.size(), 1U);
    EXPECT_EQ(found.pollers.front().identity, stage.client().identity());
    EXPECT_EQ(found.backlog, 0);
  }
  stage.worker().shutdown();
}

// As if it were always full: only the least goes on, and everything gets done.
TEST(ResourceSlots, AFullMachineTakesNoMoreThanTheLeast) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Counted all;
    stage.options.resources = ResourceLimits{.memory = 0, .cpu = 0, .least = 2};
    const auto count = [&](ActivityContext& ctx, const Void&) {
      all.enter();
      (void)ctx.wait_cancelled(20ms);
      --all.now;
      return Void{};
    };
    stage.runs(kCrowd).does(kNarrow, count).does(kWide, count);
    stage.start_worker();
    must(stage.start(kCrowd).result<void>());
    EXPECT_LE(all.most, 2);
    stage.worker().shutdown();
  });
}

// How many polls for activities are open, from the worker's own measurements.
struct OpenPolls final : Metrics {
  std::atomic<int> now = 0, most = 0;
  void count(std::string_view, std::uint64_t, MetricTags) override {}
  void observe_seconds(std::string_view, double, MetricTags) override {}
  void gauge(std::string_view name, double value, MetricTags tags) override {
    const bool of_activities = std::ranges::any_of(tags, [](const MetricTag& tag) {
      return tag.key == "poller_type" && tag.value == "activity_task";
    });
    if (name != "temporal_num_pollers" || !of_activities) return;
    now = static_cast<int>(value);
    for (int known = most; known < now && !most.compare_exchange_weak(known, now);) {
    }
  }
};

// Many at once, which wait in the queue for a while; then one at a time.
struct Tides {
  bool ebb = false;
  Task<void> run(Context& ctx) {
    ActivityOptions queued;
    queued.eager = false;
    std::vector<Future<Void>> all;
    for (int i = 0; i < 100; ++i) all.push_back(ctx.start(kWide, queued));
    co_await ctx.sleep(1s);  // the server asks for more polls when tasks wait for so long
    for (const auto& each : all) co_await each;
    co_await ctx.wait_until([this] { return ebb; });
    for (int i = 0; i < 3; ++i) {
      co_await ctx.sleep(1500ms);  // and for fewer when it is the polls that wait
      co_await ctx.execute(kWide, queued);
    }
  }
  void turn(Context&) { ebb = true; }
};
const Definition<Tides> kTides{"Tides", run(&Tides::run), signal("turn", &Tides::turn)};

TEST(PollerScaling, OpensMorePollsForABacklogAndFewerWhenItIsGone) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    Stage planner{stage.client(), stage.max_cached()};  // so that tasks wait: it does no activity
    planner.options.task_queue = stage.queue();
    planner.runs(kTides).start_worker();
    const auto handle = stage.start(kTides);
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_FIRED);

    const auto polls = std::make_shared<OpenPolls>();
    stage.options.metrics = polls;
    stage.options.activity_pollers = 1;
    stage.options.max_pollers = 20;
    stage.runs(kTides).does(kWide, [](ActivityContext&, const Void&) { return Void{}; });
    stage.start_worker();
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_ACTIVITY_TASK_COMPLETED, 100);
    EXPECT_GT(polls->most, 1) << "more were asked for";
    const int at_most = polls->most;
    EXPECT_LE(at_most, 20);

    must(handle.signal("turn"));
    must(handle.result<void>());
    EXPECT_LT(polls->now, at_most) << "fewer were asked for";
    EXPECT_GE(polls->now, 1);
    stage.worker().shutdown();
    planner.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
