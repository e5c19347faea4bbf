// Histories of more than one page, and runs that come back after their worker died or the cache
// forgot them.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, int> kNext{"next", {.start_to_close = 3s}};

struct Long {
  int signals = 0;
  int steps = 0;

  Task<int> run(Context& ctx, int wanted) {
    for (; steps < 5; ++steps) {
      const int step = steps;
      co_await ctx.execute(kNext, step);
    }
    co_await ctx.wait_until([this, wanted] { return signals == wanted; });
    const int last = steps;
    co_await ctx.execute(kNext, last);
    co_return signals;
  }
  void count(Context&) { ++signals; }
  int read() const { return signals; }
};

const Definition<Long> kLong{"Long", run(&Long::run), signal("count", &Long::count),
                             query("read", &Long::read)};

TEST(LongHistory, OfSeveralPagesIsFollowedWithAndWithoutACache) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLong).does(kNext, [](ActivityContext&, const int& step) { return step + 1; });
    const int wanted = 300;
    const auto handle = stage.start(kLong, wanted);
    for (int i = 0; i < wanted; ++i)
      must(handle.signal("count"));  // all before the first task: one long page
    stage.start_worker();
    EXPECT_EQ(must(handle.result<int>()), wanted);
    EXPECT_EQ(must(handle.query<int>("read")), wanted);
  });
}

TEST(LongHistory, IsRebuiltByAWorkerThatHasNeverSeenTheRun) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLong).does(kNext, [](ActivityContext&, const int& step) { return step + 1; });
    stage.start_worker();
    const int wanted = 140;
    const auto handle = stage.start(kLong, wanted);
    for (int i = 0; i < wanted / 2; ++i) must(handle.signal("count"));
    EXPECT_EQ(must(handle.query<int>("read")), wanted / 2);
    stage.kill_worker();
    for (int i = 0; i < wanted / 2; ++i) must(handle.signal("count"));
    stage.start_worker();
    EXPECT_EQ(must(handle.result<int>()), wanted);
  });
}

const ActivityType<int, int> kSlow{"slow", {.start_to_close = 20s}};

struct WaitsLocally {
  Task<int> run(Context& ctx) {
    const int nothing = 0;
    co_return co_await ctx.start_local(kSlow, nothing);
  }
  void count(Context&) {}
};

const Definition<WaitsLocally> kWaitsLocally{"WaitsLocally", run(&WaitsLocally::run),
                                             signal("count", &WaitsLocally::count)};

// Longer than its task may take: each heartbeat brings another one.
TEST(LongHistory, OfSeveralPagesDoesNotRepeatALocalActivity) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> calls{0};
    stage.runs(kWaitsLocally).does(kSlow, [&](ActivityContext& ctx, const int&) {
      if (++calls == 1) ctx.wait_cancelled(13s);
      return calls.load();
    });
    StartOptions how = stage.start_options();
    how.task_timeout = 10s;  // its heartbeat comes 2 s earlier: time for a machine that stalls
    const auto handle = stage.start_with(kWaitsLocally, how);
    for (int i = 0; i < 300; ++i) must(handle.signal("count"));
    stage.start_worker();
    EXPECT_EQ(must(handle.result<int>()), 1);
    EXPECT_GT(
        stage.count_events(handle, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED),
        1);
  });
}

TEST(Worker, KilledInTheMiddleOfAnActivityLosesNothing) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> begun{0};
    stage.runs(kLong).does(kNext, [&](ActivityContext& ctx, const int& step) {
      if (step == 2 && ++begun == 1) {
        ctx.wait_cancelled(20s);  // until the worker is killed
      }
      return step + 1;
    });
    stage.start_worker();
    StartOptions how = stage.start_options();
    const auto handle = stage.start_with(kLong, how, 0);
    while (begun == 0) std::this_thread::yield();
    stage.kill_worker();
    stage.start_worker();
    EXPECT_EQ(must(handle.result<int>()), 0);
    EXPECT_GE(begun.load(), 2) << "the activity was tried again after its time-out";
  });
}

TEST(Cache, ManyRunsThatPushEachOtherOutAllEndRight) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kLong).does(kNext, [](ActivityContext&, const int& step) { return step + 1; });
    stage.start_worker();
    std::vector<WorkflowHandle> handles;
    for (int i = 0; i < 12; ++i) handles.push_back(stage.start(kLong, 3));
    for (int round = 0; round < 3; ++round) {
      for (const auto& handle : handles) must(handle.signal("count"));
    }
    for (const auto& handle : handles) EXPECT_EQ(must(handle.result<int>()), 3);
    EXPECT_LE(stage.worker().cached_workflows(), stage.max_cached());
  });
}

}  // namespace
}  // namespace tempora::behaviour
