// The server killed and started again under a running worker. Runs alone: it takes the server away
// from everybody.
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

TEST(ServerRestart, TheWorkerGoesOnAndNothingIsLostOrDoubled) {
  NEEDS_SERVER();
  ADDRFLOW_NEEDS_PEER("ADDRFLOW_PEERS_TOOL");
  with_default_cache([](Stage& stage) {
    stage.runs(kWalks).does(kStep, [](ActivityContext&, const int& step) { return step; });
    stage.start_worker();
    std::vector<WorkflowHandle> handles;
    for (int i = 0; i < 10; ++i) handles.push_back(stage.start(kWalks));
    ASSERT_TRUE(addrflow::testing::peers_command("restart temporal"));
    for (const auto& handle : handles) must(handle.signal("finish"));
    for (const auto& handle : handles) EXPECT_EQ(must(handle.result<int>()), 10);
  });
}

}  // namespace
}  // namespace tempora::behaviour
