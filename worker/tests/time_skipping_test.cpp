// Temporal's own time-skipping server as an environment: a month of timers, retries and updates in
// a moment, played by other people's code than ours.
#include <gtest/gtest.h>
#include <temporal/api/enums/v1/event_type.pb.h>

#include <cstdlib>
#include <peers.hpp>
#include <tempora/replayer.hpp>
#include <tempora/testing/time_skipping_server.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

using testing::TimeSkippingServer;

const ActivityType<int, int> kTwice{
    "twice",
    {.start_to_close = 10s, .retry = RetryPolicy{.initial_interval = 1h, .maximum_attempts = 5}}};

struct Month {
  Task<int> run(Context& ctx, int days) {
    for (int day = 0; day < days && !stopped_; ++day) {
      co_await ctx.sleep(24h);
      ++days_;
    }
    co_return co_await ctx.execute(kTwice, days_);
  }
  Task<int> stop(Context&) {
    stopped_ = true;
    co_return days_;
  }

 private:
  int days_ = 0;
  bool stopped_ = false;
};
const Definition<Month> kMonth{"Month", run(&Month::run), update("stop", &Month::stop)};

class TimeSkipping : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto program = addrflow::testing::peer("TEMPORAL_TEST_SERVER");
    if (!program) return;
    auto started = TimeSkippingServer::start({.program = *program});
    ASSERT_TRUE(started) << started.error().text();
    server = new TimeSkippingServer{std::move(*started)};
  }
  static void TearDownTestSuite() {
    delete server;
    server = nullptr;
  }
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("TEMPORAL_TEST_SERVER");
    ASSERT_NE(server, nullptr);
  }

  std::unique_ptr<Worker> worker_on(const std::string& queue, int failures = 0) {
    auto worker = std::make_unique<Worker>(server->client(), WorkerOptions{.task_queue = queue});
    worker->add(kMonth);
    worker->add(kTwice, [failures](ActivityContext& context, int value) {
      if (context.info().attempt <= failures) throw ApplicationError{"not yet", "NotYet"};
      return 2 * value;
    });
    worker->start();
    return worker;
  }

  static inline TimeSkippingServer* server = nullptr;
};

TEST_F(TimeSkipping, AMonthOfTimersAndHoursOfRetriesTakeAMoment) {
  const auto worker = worker_on("month", 3);
  const TimePoint begin = must(server->now());
  const auto month =
      must(server->client().start(kMonth, {.id = "month", .task_queue = "month"}, 30));
  EXPECT_EQ(must(server->result<int>(month)), 60);
  // Retried after one, two and four hours.
  EXPECT_GE(must(server->now()) - begin, 30 * 24h + 7h);
}

TEST_F(TimeSkipping, TimeThatIsSetForwardFiresWhatFallsDueAndNothingElse) {
  const auto worker = worker_on("steps");
  const auto month =
      must(server->client().start(kMonth, {.id = "steps", .task_queue = "steps"}, 30));
  for (int day = 0; day < 2; ++day) must(server->advance(24h));
  const int seen = must(month.update<int>("stop", {}));
  EXPECT_GE(seen, 1);
  EXPECT_LE(seen, 2);
  EXPECT_EQ(must(server->result<int>(month)) % 2, 0);
}

TEST_F(TimeSkipping, TimeIsSetForwardOnlyByWhatMakesSense) {
  for (const auto& refused : {server->advance(-1h), server->advance(1h, 0ms)}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kConfiguration) << refused.error().text();
  }
}

TEST_F(TimeSkipping, ItsHistoriesReplay) {
  const auto worker = worker_on("replay");
  const auto month =
      must(server->client().start(kMonth, {.id = "replayed", .task_queue = "replay"}, 3));
  EXPECT_EQ(must(server->result<int>(month)), 6);
  WorkflowRegistry registry;
  registry.add(kMonth);
  const auto replayed = Replayer{registry}.replay(*must(month.history()));
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
}

TEST(TimeSkippingServerStart, SaysWhichProgramIsMissing) {
  const auto started = TimeSkippingServer::start({.program = "/nowhere/at-all"});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::kConfiguration);
  EXPECT_NE(started.error().message.find("/nowhere/at-all"), std::string::npos);
}

}  // namespace
}  // namespace tempora::behaviour
