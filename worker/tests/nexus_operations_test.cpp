// Nexus: operations that are done at once, and everything a handler may answer.
#include <atomic>
#include <peers.hpp>
#include <set>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

const NexusOperation<std::string, std::string> kAnswer{"answers", "answer"};
const NexusOperation<Void, void> kNothing{"answers", "nothing"};
const NexusOperation<std::string, std::string> kMissing{"answers", "missing"};
// The names of `kAnswer`, but another type goes in.
const NexusOperation<int, std::string> kMistyped{"answers", "answer"};

// Does what it is told.
std::string answer(NexusContext& context, const std::string& order) {
  if (order == "fail") throw NexusFailed{ApplicationError{"no", "Refused", true}};
  if (order == "fail in words") throw NexusFailed{"no"};
  if (order == "cancel") throw CanceledError{"not today"};
  if (order == "bad request") throw NexusHandlerError{NexusErrorType::kBadRequest, "what?"};
  if (order == "never again") throw ApplicationError{"no", "Broken", true};
  if (order == "header") return context.info().headers.at("tenant");
  if (order == "about") {
    const bool limited = context.time_left() > 0s && context.time_left() < 1h;
    return context.info().service + " " + context.info().operation + " " +
           (context.info().request_id.empty() ? "no id" : "id") + (limited ? " limited" : "");
  }
  return "you said " + order;
}

struct Caller {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order) {
    const NexusEndpoint there = ctx.nexus(endpoint);
    if (order == "nothing") {
      const Future<void> nothing = there.execute(kNothing);
      co_await nothing;
      co_return "done";
    }
    const NexusOperationOptions options{.schedule_to_close = 60s, .headers = {{"Tenant", "blue"}}};
    Future<std::string> result;
    if (order == "missing") {
      result = there.execute(kMissing, order);
    } else if (order == "mistyped") {
      result = there.execute(kMistyped, 7);
    } else {
      result = there.execute(kAnswer, order, options);
    }
    Task<std::string> outcome = outcome_of(result);
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusCaller", run(&Caller::run)};

TEST(NexusOperations, GiveTheirResultOrSayWhyThereIsNone) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCaller).serves(kAnswer, answer).serves(kNothing, [](NexusContext&) {});
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const std::pair<std::string, std::string> cases[] = {
        {"hello", "you said hello"},
        {"nothing", "done"},
        {"header", "blue"},
        {"about", "answers answer id limited"},
        {"fail", "failed: Refused"},
        {"fail in words", "failed: OperationError"},
        {"cancel", "cancelled"},
        {"bad request", "refused: BAD_REQUEST"},
        {"never again", "refused: INTERNAL"},
        {"missing", "refused: NOT_FOUND"},
        {"mistyped", "refused: BAD_REQUEST"}};
    std::vector<WorkflowHandle> calls;
    for (const auto& [order, expected] : cases)
      calls.push_back(stage.start(kCaller, endpoint.name(), order));
    for (std::size_t i = 0; i < calls.size(); ++i)
      EXPECT_EQ(must(calls[i].result<std::string>()), cases[i].second) << cases[i].first;
  });
}

TEST(NexusOperations, AreTriedAgainUntilTheHandlerCan) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    std::atomic<int> tries{0};
    std::mutex mutex;
    std::set<std::string> ids;
    stage.runs(kCaller).serves(kAnswer, [&](NexusContext& context, const std::string& order) {
      {
        const std::lock_guard lock{mutex};
        ids.insert(context.info().request_id);
      }
      switch (++tries) {
        case 1: throw NexusHandlerError{NexusErrorType::kUnavailable, "not yet"};
        case 2: throw std::runtime_error{"still not"};
        default: return "at last " + order;
      }
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    EXPECT_EQ(
        must(stage.start(kCaller, endpoint.name(), std::string{"hello"}).result<std::string>()),
        "at last hello");
    EXPECT_EQ(tries, 3);
    EXPECT_EQ(ids.size(), 1u) << "every try is the same request";
  });
}

// Many at once.
struct Crowd {
  Task<int> run(Context& ctx, std::string endpoint, int size) {
    std::vector<Future<std::string>> results;
    for (int i = 0; i < size; ++i)
      results.push_back(ctx.nexus(endpoint).execute(kAnswer, std::to_string(i)));
    int right = 0;
    for (int i = 0; i < size; ++i) {
      const std::string said = co_await results[static_cast<std::size_t>(i)];
      right += said == "you said " + std::to_string(i) ? 1 : 0;
    }
    co_return right;
  }
};
const Definition<Crowd> kCrowd{"NexusCrowd", run(&Crowd::run)};

TEST(NexusOperations, RunSideBySide) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kCrowd).serves(kAnswer, answer);
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kCrowd, endpoint.name(), 10).result<int>()), 10);
  });
}

}  // namespace
}  // namespace tempora::behaviour
