// A worker that stops: what it has is answered, what it cannot finish is handed over, and it always
// ends.
#include <temporal/api/enums/v1/event_type.pb.h>
#include <temporal/api/history/v1/message.pb.h>

#include <atomic>
#include <functional>
#include <optional>
#include <peers.hpp>
#include <stop_token>
#include <thread>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, std::string> kWork{
    "work", {.start_to_close = 30s, .retry = RetryPolicy{.initial_interval = 50ms}}};

struct Works {
  Task<std::string> run(Context& ctx) {
    const int nothing = 0;
    co_return co_await ctx.execute(kWork, nothing);
  }
};

const Definition<Works> kWorks{"Works", run(&Works::run)};

TEST(Shutdown, LetsAnActivityFinishWithinTheGrace) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<bool> begun{false};
    stage.options.graceful_shutdown = 5s;
    stage.runs(kWorks).does(kWork, [&](ActivityContext& ctx, const int&) -> std::string {
      begun = true;
      begun.notify_all();
      return ctx.wait_cancelled(500ms) ? "interrupted" : "finished";
    });
    stage.start_worker();
    const auto handle = stage.start(kWorks);
    begun.wait(false);
    stage.worker().shutdown();
    stage.start_worker();
    EXPECT_EQ(must(handle.result<std::string>()), "finished");
  });
}

TEST(Shutdown, TellsAnActivityAfterTheGraceAndAnotherWorkerRepeatsIt) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<bool> begun{false};
    std::atomic<bool> told{false};
    stage.options.graceful_shutdown = 200ms;
    stage.runs(kWorks).does(kWork, [&](ActivityContext& ctx, const int&) -> std::string {
      if (ctx.info().attempt > 1) return "second attempt";
      begun = true;
      begun.notify_all();
      ctx.wait_cancelled(20s);
      told = ctx.cancel_reasons().has(CancelReason::kWorkerShutdown);
      ctx.throw_if_cancelled();
      return "ignored it";
    });
    stage.start_worker();
    const auto handle = stage.start(kWorks);
    begun.wait(false);
    stage.worker().shutdown();
    EXPECT_TRUE(told.load());
    stage.start_worker();
    EXPECT_EQ(must(handle.result<std::string>()), "second attempt");
  });
}

TEST(Shutdown, EndsEvenIfAnActivityNeverDoes) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const auto begun = std::make_shared<std::atomic<bool>>(false);
    const auto release = std::make_shared<std::atomic<bool>>(false);
    stage.options.shutdown_patience = 500ms;
    stage.runs(kWorks).does(kWork, [begun, release](ActivityContext&, const int&) -> std::string {
      *begun = true;
      begun->notify_all();
      release->wait(false);
      return "late";
    });
    stage.start_worker();
    const auto handle = stage.start(kWorks);
    begun->wait(false);
    const auto before = std::chrono::steady_clock::now();
    stage.worker().shutdown();
    EXPECT_LT(std::chrono::steady_clock::now() - before, 20s);
    *release = true;
    release->notify_all();
    must(handle.terminate("the test is over"));
  });
}

const ActivityType<int, std::string> kLocalWork{"local work", {.start_to_close = 60s}};

struct WorksLocally {
  Task<std::string> run(Context& ctx) {
    LocalActivityOptions once;
    once.retry = RetryPolicy{.maximum_attempts = 1};
    const int nothing = 0;
    co_return co_await ctx.start_local(kLocalWork, nothing, once);
  }
};

const Definition<WorksLocally> kWorksLocally{"WorksLocally", run(&WorksLocally::run)};

// The worker lets it be for 10 s. Then its task is given up, and the next worker runs it again.
TEST(Shutdown, OfWhichALocalActivityHearsDoesNotFailIt) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<int> calls{0};
    std::atomic<bool> begun{false};
    std::optional<std::stop_callback<std::function<void()>>> slow;
    stage.runs(kWorksLocally).does(kLocalWork, [&](ActivityContext& ctx, const int&) {
      if (calls++ > 0) return std::string{"again"};
      // Holds up the shutdown where it tells the activity: time for a wrong end to get through.
      slow.emplace(ctx.stop_token(), [] { std::this_thread::sleep_for(500ms); });
      begun = true;
      begun.notify_all();
      ctx.wait_cancelled(60s);
      ctx.throw_if_cancelled();
      return std::string{"never told"};
    });
    stage.start_worker();
    StartOptions how = stage.start_options();
    how.task_timeout = 2s;
    const auto handle = stage.start_with(kWorksLocally, how);
    begun.wait(false);
    stage.worker().shutdown();
    stage.start_worker();
    EXPECT_EQ(must(handle.result<std::string>()), "again");
  });
}

struct Idle {
  bool done = false;
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
    co_return "done";
  }
  void finish(Context&) { done = true; }
};

const Definition<Idle> kIdle{"Idle", run(&Idle::run), signal("finish", &Idle::finish)};

// A cached run whose worker has stopped goes to the next worker at once: the sticky queue was given
// up, nothing timed out.
TEST(Shutdown, HandsCachedRunsOverWithoutATimeOut) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.options.sticky_schedule_to_start_timeout = 60s;
    stage.runs(kIdle);
    stage.start_worker();
    std::vector<WorkflowHandle> handles;
    for (int i = 0; i < 5; ++i) handles.push_back(stage.start(kIdle));
    for (const auto& handle : handles) {
      stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_COMPLETED);
    }
    stage.worker().shutdown();
    stage.start_worker();
    for (const auto& handle : handles) must(handle.signal("finish"));
    for (const auto& handle : handles) {
      EXPECT_EQ(must(handle.result<std::string>()), "done");
      EXPECT_EQ(
          stage.count_events(handle, temporal::api::enums::v1::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT),
          0);
    }
  });
}

TEST(Worker, SeveralQueuesInOneProcessKeepTheirOwnLimits) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    static const ActivityType<int, int> kElsewhere{"elsewhere", {.start_to_close = 20s}};
    struct Fans {
      Task<int> run(Context& ctx, std::string queue) {
        std::vector<Future<int>> started;
        for (int i = 0; i < 8; ++i)
          started.push_back(ctx.start(kElsewhere, i, {.task_queue = queue}));
        int sum = 0;
        for (auto& one : started) sum += co_await one;
        co_return sum;
      }
    };
    static const Definition<Fans> kFans{"Fans", run(&Fans::run)};
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    Stage other{stage.client(), stage.max_cached()};
    other.options.max_concurrent_activities = 2;
    other.does(kElsewhere, [&](ActivityContext& ctx, const int& i) {
      int now = ++inside;
      for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      ctx.wait_cancelled(30ms);
      --inside;
      return i;
    });
    other.start_worker();
    stage.runs(kFans).start_worker();
    EXPECT_EQ(must(stage.start(kFans, other.queue()).result<int>()), 28);
    EXPECT_LE(most.load(), 2);
    other.worker().shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
