// Nexus: the three time-outs of an operation.
#include <peers.hpp>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

const NexusOperation<std::string, std::string> kSlow{"slow", "wait"};

struct Waiting {
  Task<std::string> run(Context& ctx) {
    co_await ctx.cancelled();
    co_return "";
  }
};
const Definition<Waiting> kWaiting{"NexusWaiting", run(&Waiting::run)};

struct Caller {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string which) {
    NexusOperationOptions options;
    if (which == "close") options.schedule_to_close = 2s;
    if (which == "start") options.schedule_to_start = 2s;
    if (which == "run") options.start_to_close = 1s;
    Task<std::string> outcome = outcome_of(ctx.nexus(endpoint).execute(kSlow, which, options));
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusTimeoutCaller", run(&Caller::run)};

TEST(NexusTimeouts, EndWhatTakesTooLong) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCaller).runs(kWaiting).serves(
        kSlow, [](NexusContext& context, const std::string& which) {
          if (which == "start") throw NexusHandlerError{NexusErrorType::kUnavailable, "not yet"};
          return context.start_workflow(kWaiting, {.id = unique("waiting"), .run_timeout = 60s});
        });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const std::pair<std::string, std::string> cases[] = {
        {"close", "timed out: TIMEOUT_TYPE_SCHEDULE_TO_CLOSE"},
        {"start", "timed out: TIMEOUT_TYPE_SCHEDULE_TO_START"},
        {"run", "timed out: TIMEOUT_TYPE_START_TO_CLOSE"}};
    std::vector<WorkflowHandle> calls;
    for (const auto& [which, expected] : cases)
      calls.push_back(stage.start(kCaller, endpoint.name(), which));
    for (std::size_t i = 0; i < calls.size(); ++i)
      EXPECT_EQ(must(calls[i].result<std::string>()), cases[i].second) << cases[i].first;
  });
}

}  // namespace
}  // namespace tempora::behaviour
