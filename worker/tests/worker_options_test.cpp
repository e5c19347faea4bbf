// What a worker shows of itself, and how it limits itself.
#include <algorithm>
#include <atomic>
#include <peers.hpp>
#include <semaphore>
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
  const auto after = must(stage.client().list_workers(query)).workers;
  EXPECT_TRUE(after.empty() || !after.front().running);
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

// The server's hints decide how many; that everything is done is what can be seen.
TEST(PollerScaling, DoesAllTheWorkFromOnePollOn) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.options.workflow_pollers = 1;
    stage.options.activity_pollers = 1;
    stage.options.max_pollers = 20;
    const auto nothing = [](ActivityContext&, const Void&) { return Void{}; };
    stage.runs(kCrowd).does(kNarrow, nothing).does(kWide, nothing);
    stage.start_worker();
    std::vector<WorkflowHandle> all;
    for (int i = 0; i < 8; ++i) all.push_back(stage.start(kCrowd));
    for (const auto& each : all) EXPECT_TRUE(each.result<void>());
    stage.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
