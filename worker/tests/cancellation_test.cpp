// Cancelling a workflow: what is under way stops, cleanup behind a shield runs, the run ends as
// cancelled.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <atomic>
#include <peers.hpp>

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

}  // namespace
}  // namespace tempora::behaviour
