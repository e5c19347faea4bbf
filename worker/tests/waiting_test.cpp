// Timers, conditions with and without a time-out, select, join, and the mutex's queue.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

struct Waiter {
  bool open = false;
  std::vector<std::string> log;

  Task<std::vector<std::string>> run(Context& ctx) {
    const bool early = co_await ctx.wait_until([this] { return open; }, 200ms);
    log.push_back(early ? "opened" : "timed out");
    const bool late = co_await ctx.wait_until([this] { return open; }, 1h);
    log.push_back(late ? "opened" : "timed out");
    Future<void> slow = ctx.timer(1h);
    Future<void> quick = ctx.timer(100ms);
    const std::size_t first = co_await select(ctx, {slow, quick});
    log.push_back("first is " + std::to_string(first));
    slow.cancel();
    try {
      co_await slow;
    } catch (const CanceledError&) {
      log.push_back("slow cancelled");
    }
    Future<void> a = ctx.timer(20ms);
    Future<void> b = ctx.timer(40ms);
    co_await join(ctx, {a, b});
    log.push_back("both");
    co_await ctx.sleep(0ms);
    co_return log;
  }
  void let_in(Context&) { open = true; }
};

const Definition<Waiter> kWaiter{"Waiter", run(&Waiter::run), signal("open", &Waiter::let_in)};

TEST(Waiting, ConditionsTimersSelectAndJoinTakeTheSameBranchesOnReplay) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kWaiter);
    stage.start_worker();
    const auto handle = stage.start(kWaiter);
    // The second wait has begun: the signal cannot come together with the first one's time-out.
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_STARTED, 2);
    must(handle.signal("open"));
    EXPECT_EQ(
        must(handle.result<std::vector<std::string>>()),
        (std::vector<std::string>{"timed out", "opened", "first is 1", "slow cancelled", "both"}));
  });
}

struct Queue {
  Mutex mutex;
  std::vector<int> order;
  int inside = 0;
  bool overlapped = false;
  int wanted = 0;

  Task<std::vector<int>> run(Context& ctx, int callers) {
    wanted = callers;
    co_await ctx.wait_until(
        [this] { return wanted > 0 && static_cast<int>(order.size()) == wanted; });
    if (overlapped) throw ApplicationError{"two were inside at once", "Overlap", true};
    co_return order;
  }
  Task<void> enter(Context& ctx, int number) {
    const MutexLock lock = co_await mutex.lock(ctx);
    if (++inside > 1) overlapped = true;
    co_await ctx.sleep(30ms);
    --inside;
    order.push_back(number);
  }
};

const Definition<Queue> kQueue{"Queue", run(&Queue::run), signal("enter", &Queue::enter)};

TEST(Waiting, TheMutexLetsHandlersInInTheOrderTheyCame) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kQueue);
    stage.start_worker();
    const int callers = 6;
    const auto handle = stage.start(kQueue, callers);
    std::vector<int> expected;
    for (int i = 0; i < callers; ++i) {
      expected.push_back(i);
      must(handle.signal("enter", i));
    }
    EXPECT_EQ(must(handle.result<std::vector<int>>()), expected);
  });
}

const ActivityType<int, void> kJob{"job", {.start_to_close = 20s}};

struct Crowd {
  Semaphore places{2};
  std::vector<int> order;
  int inside = 0;
  int most = 0;

  Task<std::vector<int>> run(Context& ctx, int jobs) {
    std::vector<Handle<void>> all;
    for (int i = 0; i < jobs; ++i) all.push_back(ctx.spawn(one(ctx, i)));
    for (const auto& each : all) co_await each;
    if (most != 2 || places.free() != 2) throw ApplicationError{"not two at once", "Places", true};
    co_return order;
  }
  Task<void> one(Context& ctx, int number) {
    const SemaphorePermit permit = co_await places.acquire(ctx);
    order.push_back(number);
    most = std::max(most, ++inside);
    co_await ctx.execute(kJob, number);
    --inside;
  }
};
const Definition<Crowd> kCrowd{"Crowd", run(&Crowd::run)};

TEST(Waiting, TheSemaphoreLetsInAsManyAsItHasPlacesInTheOrderTheyCame) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> running{0};
    std::atomic<bool> crowded{false};
    stage.runs(kCrowd).does(kJob, [&](ActivityContext& ctx, const int&) {
      if (++running > 2) crowded = true;
      (void)ctx.wait_cancelled(20ms);
      --running;
    });
    stage.start_worker();
    const int jobs = 6;
    EXPECT_EQ(must(stage.start(kCrowd, jobs).result<std::vector<int>>()),
              (std::vector<int>{0, 1, 2, 3, 4, 5}));
    EXPECT_FALSE(crowded);
  });
}

}  // namespace
}  // namespace tempora::behaviour
