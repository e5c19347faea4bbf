// Cancelling a workflow: what is under way stops, cleanup behind a shield runs, the run ends as
// cancelled.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>
#include <semaphore>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<std::string, void> kClean{"clean", {.start_to_close = 10s}};

struct Tidy {
  std::string state = "waiting";

  Task<void> run(Context& ctx) {
    bool cancelled = false;
    try {
      co_await ctx.sleep(1h);
    } catch (const CanceledError&) {
      cancelled = true;
    }
    if (cancelled) {
      co_await ctx.shielded([this, &ctx] { return clean_up(ctx); });
      throw CanceledError{"tidied up"};
    }
  }
  Task<void> clean_up(Context& ctx) {
    const std::string what = "everything";
    co_await ctx.execute(kClean, what);
    co_await ctx.sleep(50ms);
    state = "clean";
  }
  std::string read() const { return state; }
};

const Definition<Tidy> kTidy{"Tidy", run(&Tidy::run), query("state", &Tidy::read)};

TEST(Cancellation, RunsTheShieldedCleanupAndEndsAsCancelled) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> cleaned{0};
    stage.runs(kTidy).does(kClean, [&](ActivityContext&, const std::string&) { ++cleaned; });
    stage.start_worker();
    const auto handle = stage.start(kTidy);
    EXPECT_EQ(must(handle.query<std::string>("state")), "waiting");
    must(handle.cancel("no longer needed"));
    const auto result = handle.result();
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::kWorkflowCanceled) << result.error().text();
    EXPECT_EQ(cleaned.load(), 1);
    EXPECT_EQ(must(handle.query<std::string>("state")), "clean");
    EXPECT_EQ(stage.count_events(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_CANCELED), 1);
  });
}

struct Stubborn {
  Task<std::string> run(Context& ctx) {
    co_await ctx.cancelled();
    co_return "finished in spite of it";
  }
};

const Definition<Stubborn> kStubborn{"Stubborn", run(&Stubborn::run)};

TEST(Cancellation, IsARequestThatAWorkflowMayDecline) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kStubborn);
    stage.start_worker();
    const auto handle = stage.start(kStubborn);
    must(handle.cancel());
    EXPECT_EQ(must(handle.result<std::string>()), "finished in spite of it");
  });
}

const ActivityType<Void, Void> kEndless{
    "endless",
    {.start_to_close = 60s,
     .heartbeat = 30s,
     .cancellation = CancellationType::kWaitCancellationCompleted}};

// Two parts, of which one is given up; in it a part that is not given up with it.
struct Parts {
  std::vector<std::string> log;
  bool enough = false;

  Task<std::vector<std::string>> run(Context& ctx) {
    const CancellationScope scope = ctx.new_scope();
    const Handle<void> part = ctx.spawn(inside(ctx, scope));
    Future<void> outside = ctx.timer(500ms);
    co_await ctx.wait_until([this] { return enough; });
    scope.cancel("enough");
    co_await part;
    co_await outside;
    log.push_back("outside");
    log.push_back(ctx.cancel_requested() ? "cancelled" : "not cancelled");
    co_return log;
  }
  Task<void> inside(Context& ctx, CancellationScope scope) {
    co_await scope.run([this, &ctx] { return given_up(ctx); });
  }
  Task<void> given_up(Context& ctx) {
    Future<Void> activity = ctx.start(kEndless);
    Future<void> timer = ctx.timer(1h);
    const CancellationScope shield = ctx.new_shielded_scope();
    const Handle<void> kept = ctx.spawn(keep(ctx, shield));
    try {
      co_await activity;
    } catch (const ActivityError& error) {
      if (is_cancellation(error)) log.push_back("activity");
    }
    try {
      co_await timer;
    } catch (const CanceledError& error) {
      log.push_back("timer: " + error.message());
    }
    try {
      co_await ctx.sleep(1h);
    } catch (const CanceledError&) {
      log.push_back("nothing begins any more");
    }
    co_await kept;
  }
  Task<void> keep(Context& ctx, CancellationScope shield) {
    co_await shield.run([this, &ctx]() -> Task<void> {
      co_await ctx.wait_until([this] { return enough; });
      co_await ctx.sleep(20ms);
      log.push_back("shielded");
    });
  }
  void stop(Context&) { enough = true; }
};
const Definition<Parts> kParts{"Parts", run(&Parts::run), signal("stop", &Parts::stop)};

TEST(Cancellation, OfAScopeTakesWhatIsInItAndNothingElse) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::counting_semaphore<> began{0};
    stage.beat_often();
    stage.runs(kParts).does(kEndless, [&](ActivityContext& ctx, const Void&) {
      began.release();
      for (int i = 0; i < 300 && !ctx.cancelled(); ++i) {
        ctx.heartbeat();
        (void)ctx.wait_cancelled(100ms);
      }
      ctx.throw_if_cancelled();
      return Void{};
    });
    stage.start_worker();
    const auto handle = stage.start(kParts);
    stage.wait_for_event(handle, temporal::api::enums::v1::EVENT_TYPE_TIMER_STARTED, 2);
    ASSERT_TRUE(began.try_acquire_for(30s));
    must(handle.signal("stop"));
    std::vector<std::string> log = must(handle.result<std::vector<std::string>>());
    // When the shielded part is through depends on the activity: it may come earlier or later.
    EXPECT_EQ(std::erase(log, "shielded"), 1U);
    EXPECT_EQ(log, (std::vector<std::string>{"activity", "timer: enough", "nothing begins any more",
                                             "outside", "not cancelled"}));
  });
}

}  // namespace
}  // namespace tempora::behaviour
