// How many calls the work costs, and how the worker comes through a bad network: a transport in
// between counts calls and fails them on demand.
#include <peers.hpp>

#include "between_transport.hpp"
#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, int> kStep{
    "step", {.start_to_close = 10s, .retry = RetryPolicy{.initial_interval = 50ms}}};

struct Five {
  Task<int> run(Context& ctx) {
    int sum = 0;
    for (int i = 0; i < 5; ++i) {
      const int step = i;
      sum += co_await ctx.execute(kStep, step);
    }
    co_return sum;
  }
};

const Definition<Five> kFive{"Five", run(&Five::run)};

std::unique_ptr<Worker> worker_on(const std::shared_ptr<Transport>& transport, const Stage& stage) {
  auto worker = std::make_unique<Worker>(transport, stage.client().namespace_name(), stage.options);
  worker->add(kFive);
  worker->add(kStep, [](ActivityContext&, const int& step) { return step; });
  return worker;
}

TEST(Traffic, FiveActivitiesCostSeventeenCalls) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    stage.options.heartbeat_interval = {};  // one a minute, however many workflows
    const auto worker = worker_on(between, stage);
    stage.runs(kFive);
    worker->start();
    const auto before = between->calls();
    EXPECT_EQ(must(stage.start(kFive).result<int>()), 10);
    worker->shutdown();
    int total = 0;
    std::string text;
    for (const auto& [name, calls] : between->calls()) {
      const auto earlier = before.find(name);
      const int made = calls - (earlier == before.end() ? 0 : earlier->second);
      if (name == "ShutdownWorker") continue;
      total += made;
      text += name + " " + std::to_string(made) + ", ";
    }
    EXPECT_LE(total, 17) << text;
  });
}

TEST(Traffic, LostAnswersToCompletionsLoseNothingAndDoubleNothing) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    const auto worker = worker_on(between, stage);
    stage.runs(kFive);
    worker->start();
    between->lose_completions = 3;
    std::vector<WorkflowHandle> handles;
    for (int i = 0; i < 4; ++i) handles.push_back(stage.start(kFive));
    for (const auto& handle : handles) EXPECT_EQ(must(handle.result<int>()), 10);
    worker->shutdown();
  });
}

TEST(Traffic, TheWorkerComesBackByItselfWhenTheServerDoes) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    const auto between = std::make_shared<BetweenTransport>(stage.client().transport());
    const auto worker = worker_on(between, stage);
    stage.runs(kFive);
    between->down = true;
    worker->start();
    const auto handle = stage.start(kFive);
    between->down = false;
    EXPECT_EQ(must(handle.result<int>()), 10);
    worker->shutdown();
  });
}

}  // namespace
}  // namespace tempora::behaviour
