// Nexus together with the official Python SDK: each side serves what the other calls.
#include <cstdio>
#include <peers.hpp>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

const NexusOperation<std::string, std::string> kAsk{"works", "ask"};
const NexusOperation<std::string, std::string> kWork{"works", "work"};

std::string command(const std::string& mode, const std::string& name) {
  return addrflow::testing::need_peer("PYTHON") + " -B " NEXUS_PEER " " + mode + " " +
         addrflow::testing::need_peer("TEMPORAL_ADDRESS") + " " + name;
}

// Ends when its input does.
struct Serving {
  explicit Serving(const std::string& queue) : pipe(popen(command("serve", queue).c_str(), "w")) {}
  ~Serving() {
    if (pipe != nullptr) pclose(pipe);
  }
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;
  std::FILE* pipe;
};

std::vector<std::string> called(const std::string& endpoint) {
  std::FILE* pipe = popen(command("call", endpoint).c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error{"the peer did not start"};
  std::vector<std::string> lines;
  char line[256];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    lines.emplace_back(line);
    lines.back().pop_back();
  }
  pclose(pipe);
  return lines;
}

struct Caller {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order, bool works) {
    Task<std::string> outcome =
        outcome_of(ctx.nexus(endpoint).execute(works ? kWork : kAsk, order));
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusPeerCaller", run(&Caller::run)};

struct Canceller {
  Task<std::string> run(Context& ctx, std::string endpoint) {
    const auto call = ctx.nexus(endpoint).start(kWork, "wait");
    co_await call.started();
    call.cancel();
    Task<std::string> outcome = outcome_of(call.result());
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Canceller> kCanceller{"NexusPeerCanceller", run(&Canceller::run)};

TEST(NexusPeer, ServesWhatWeCall) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kCaller).runs(kCanceller);
    stage.start_worker();
    const std::string queue = unique("peer");
    const Serving serving{queue};
    const OwnEndpoint endpoint{stage, queue};
    const auto outcome = [&](const std::string& order, bool works) {
      return must(stage.start(kCaller, endpoint.name(), order, works).result<std::string>());
    };
    EXPECT_EQ(outcome("this", false), "you said this");
    EXPECT_EQ(outcome("fail", false), "failed: OperationError");
    EXPECT_EQ(outcome("refuse", false), "refused: BAD_REQUEST");
    EXPECT_EQ(outcome("this", true), "did this");
    EXPECT_EQ(outcome("fail", true), "failed: Refused");
    EXPECT_EQ(must(stage.start(kCanceller, endpoint.name()).result<std::string>()), "cancelled");
  });
}

struct Work {
  Task<std::string> run(Context& ctx, std::string order) {
    if (order == "fail") throw ApplicationError{"no", "Refused", true};
    if (order == "wait") co_await ctx.wait_until([] { return false; });
    co_return "did " + order;
  }
};
const Definition<Work> kWorkflow{"NexusPeerWork", run(&Work::run)};

TEST(NexusPeer, CallsWhatWeServe) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kWorkflow)
        .serves(kAsk,
                [](NexusContext&, const std::string& order) {
                  if (order == "fail") throw NexusFailed{"no"};
                  if (order == "refuse")
                    throw NexusHandlerError{NexusErrorType::kBadRequest, "what?"};
                  return "you said " + order;
                })
        .serves(kWork, [](NexusContext& context, const std::string& order) {
          return context.start_workflow(kWorkflow, {.id = unique("work")}, order);
        });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const std::vector<std::string> expected{"you said this",        "failed: OperationError",
                                            "refused: BAD_REQUEST", "did this",
                                            "failed: Refused",      "CancelledError"};
    EXPECT_EQ(called(endpoint.name()), expected);
  });
}

}  // namespace
}  // namespace tempora::behaviour
