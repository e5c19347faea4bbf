// The server killed and started again under running workers, one with each cache size. Runs alone:
// it takes the server away from everybody.
#include <temporal/api/enums/v1/event_type.pb.h>

#include <barrier>
#include <map>
#include <mutex>
#include <peers.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, int> kStep{
    "step", {.start_to_close = 10s, .retry = RetryPolicy{.initial_interval = 100ms}}};

struct Walks {
  bool done = false;
  Task<int> run(Context& ctx) {
    int sum = 0;
    for (int i = 1; i <= 4; ++i) {
      const int step = i;
      sum += co_await ctx.execute(kStep, step);
      co_await ctx.sleep(300ms);
    }
    co_await ctx.wait_until([this] { return done; });
    co_return sum;
  }
  void finish(Context&) { done = true; }
};

const Definition<Walks> kWalks{"Walks", run(&Walks::run), signal("finish", &Walks::finish)};

// Each step is done at least once, and recorded once. It may be done again: an answer that was
// under way when the server died is lost, and nobody can know whether it was written.
TEST(ServerRestart, TheWorkersGoOnAndNothingIsLost) {
  NEEDS_SERVER();
  ADDRFLOW_NEEDS_PEER("ADDRFLOW_PEERS_TOOL");
  bool restarted = false;
  std::barrier all_under_way{
      3, [&]() noexcept { restarted = addrflow::testing::peers_command("restart temporal"); }};
  with_each_cache([&](Stage& stage) {
    std::mutex mutex;
    std::map<std::pair<std::string, int>, int> executions;
    stage.runs(kWalks).does(kStep, [&](ActivityContext& ctx, const int& step) {
      const std::lock_guard lock{mutex};
      ++executions[{ctx.info().workflow_id, step}];
      return step;
    });
    std::vector<WorkflowHandle> handles;
    try {
      stage.start_worker();
      for (int i = 0; i < 5; ++i) handles.push_back(stage.start(kWalks));
    } catch (...) {
      all_under_way.arrive_and_drop();  // the others are not to wait for this one
      throw;
    }
    all_under_way.arrive_and_wait();
    ASSERT_TRUE(restarted);
    for (const auto& handle : handles) must(handle.signal("finish"));
    for (const auto& handle : handles) {
      EXPECT_EQ(must(handle.result<int>()), 10);
      EXPECT_EQ(
          stage.count_events(handle, temporal::api::enums::v1::EVENT_TYPE_ACTIVITY_TASK_COMPLETED),
          4);
      const std::lock_guard lock{mutex};
      for (int step = 1; step <= 4; ++step) EXPECT_GE((executions[{handle.id(), step}]), 1);
    }
  });
}

}  // namespace
}  // namespace tempora::behaviour
