// The testing service: a whole worker and client on virtual time.
#include <tempora/testing/environment.hpp>

#include <gtest/gtest.h>

#include <tempora/saga.hpp>

namespace tempora::testing {
namespace {

using namespace std::chrono_literals;

const ActivityType<std::string, std::string> kShout{"shout", {.start_to_close = 10s}};

struct Day {
  Task<std::string> run(Context& ctx, std::string name) {
    co_await ctx.sleep(24h);
    const std::string shouted = co_await ctx.execute(kShout, name);
    co_return shouted;
  }
};
const Definition<Day> kDay{"Day", tempora::run(&Day::run)};

std::string shout(const std::string& text) { return text + "!"; }

TEST(Environment, ADayPassesAtOnceAndTheHistoryReplays) {
  Environment env;
  env.add(kDay);
  env.add(kShout, shout);
  const auto day = env.start(kDay, "day", std::string{"hello"});
  const auto result = day.result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, "hello!");
  EXPECT_EQ(env.elapsed(), 24h);
  const auto replayed = env.replay("day");
  EXPECT_TRUE(replayed) << replayed.error().message;
}

TEST(Environment, AttemptsThatFailOrHangAreRetriedByThePolicyInVirtualTime) {
  Environment env;
  env.add(kDay);
  env.add(kShout, shout);
  env.time_out(kShout);                               // the second rule added: asked later
  env.fail(kShout, ApplicationError{"no voice"}, 2);  // 1 s, then 2 s of pause
  const auto result = env.start(kDay, "day", std::string{"hello"}).result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(env.elapsed(), 24h + 1s + 2s + 10s + 4s);
  EXPECT_EQ(env.attempts("shout"), 4u);
}

TEST(Environment, AWaitThatCanNeverEndIsRefused) {
  Environment env;
  env.add(kDay);  // nobody plays the activity, and it has no limit to wait for one
  const auto result = env.start(kDay, "day", std::string{"hello"}).result<std::string>();
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("nothing will ever happen"), std::string::npos)
      << result.error().text();
}

struct Counter {
  Task<int> run(Context& ctx) {
    co_await ctx.wait_until([this] { return closed_ && ready_; });
    co_return sum_;
  }
  Task<void> add(Context&, int by) {
    sum_ += by;
    co_return;
  }
  Task<int> close(Context& ctx, int by) {
    co_await ctx.sleep(1h);
    sum_ += by;
    closed_ = ready_ = true;
    co_return sum_;
  }
  int sum() const { return sum_; }
  int sum_ = 0;
  bool closed_ = false, ready_ = false;
};
const Definition<Counter> kCounter{"Counter", tempora::run(&Counter::run),
                                   signal("add", &Counter::add), query("sum", &Counter::sum),
                                   update("close", &Counter::close)};

TEST(Environment, SignalsQueriesAndUpdatesComeAtTheirTimes) {
  Environment env;
  env.add(kCounter);
  const auto counter = env.start(kCounter, "counter");
  int early = -1;
  int late = -1;
  env.at(10min, [&] { ASSERT_TRUE(counter.signal("add", 1)); });
  env.at(15min, [&] { early = *counter.query<int>("sum"); });
  env.at(20min, [&] { late = *counter.update<int>("close", {}, 10); });
  const auto result = counter.result<int>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, 11);
  EXPECT_EQ(early, 1);
  EXPECT_EQ(env.elapsed(), 20min + 1h);
  EXPECT_EQ(*counter.query<int>("sum"), 11) << "a closed run answers, too";
  EXPECT_TRUE(env.replay("counter"));
  env.settle();
  EXPECT_EQ(late, 11);
}

TEST(Environment, ALostWorkerIsReplacedAndTheRunGoesOn) {
  Environment env;
  env.add(kCounter);
  const auto counter = env.start(kCounter, "counter");
  ASSERT_TRUE(counter.signal("add", 5));
  env.settle();
  env.restart_worker();
  EXPECT_EQ(*counter.query<int>("sum"), 5);
  const auto closed = counter.update<int>("close", {}, 1);
  ASSERT_TRUE(closed) << closed.error().text();
  EXPECT_EQ(*closed, 6);
  EXPECT_TRUE(env.replay("counter"));
}

}  // namespace
}  // namespace tempora::testing
