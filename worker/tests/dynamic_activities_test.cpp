// Activities of any name: one function for all that a worker has not registered.
#include <peers.hpp>
#include <stdexcept>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

const ActivityType<int, int> kKnown{"known", {.start_to_close = 10s}};
const ActivityType<std::string, std::string> kOther{"other", {.start_to_close = 10s}};
const ActivityType<int, std::string> kNumbered{"numbered", {.start_to_close = 10s}};
const ActivityType<Void, Void> kRefused{"refused", {.start_to_close = 10s}};

struct Asks {
  Task<std::string> run(Context& ctx) {
    const int number = 20;
    const std::string word = "word";
    const int known = co_await ctx.execute(kKnown, number);
    std::string told = std::to_string(known);
    told += "; " + co_await ctx.execute(kOther, word);
    told += "; " + co_await ctx.execute(kNumbered, number);
    told += "; " + co_await ctx.start_local(kOther, word);
    try {
      co_await ctx.execute(kRefused);
    } catch (const ActivityError& error) {
      const ApplicationError* why = find_application_error(error);
      told += "; " + (why == nullptr ? "no reason" : why->type());
    }
    co_return told;
  }
};
const Definition<Asks> kAsks{"Asks", run(&Asks::run)};

// Answers with its name, and with what it was given as it came.
Payloads answer(ActivityContext& ctx, const Payloads& arguments) {
  const std::string& type = ctx.info().activity_type;
  if (type == "refused") throw ApplicationError{"not this one", "Refused", true};
  return encode_all(type + " " + arguments.payloads(0).data());
}

TEST(DynamicActivities, TakeEveryTypeThatHasNoFunctionOfItsOwn) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kAsks).does_any(answer);
    stage.does(kKnown, [](ActivityContext&, const int& number) { return 2 * number; });
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kAsks).result<std::string>()),
              "40; other \"word\"; numbered 20; other \"word\"; Refused");
  });
}

struct AsksOne {
  Task<std::string> run(Context& ctx) {
    const std::string word = "word";
    co_return co_await ctx.execute(kOther, word);
  }
};
const Definition<AsksOne> kAsksOne{"AsksOne", run(&AsksOne::run)};

TEST(DynamicActivities, OneFunctionIsEnoughForAWorkerThatHasNoOther) {
  NEEDS_SERVER();
  with_each_cache([](Stage& stage) {
    stage.runs(kAsksOne).does_any(answer);
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kAsksOne).result<std::string>()), "other \"word\"");
  });
}

TEST(DynamicActivities, ASecondFunctionForAllIsRefused) {
  NEEDS_SERVER();
  Worker worker{connect(), {.task_queue = "nobody"}};
  worker.add_fallback_activity(answer);
  EXPECT_THROW(worker.add_fallback_activity(answer), std::logic_error);
}

}  // namespace
}  // namespace tempora::behaviour
