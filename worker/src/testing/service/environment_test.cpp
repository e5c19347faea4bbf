// The testing service: a whole worker and client on virtual time.
#include <tempora/testing/environment.hpp>

#include <gtest/gtest.h>
#include <temporal/api/history/v1/message.pb.h>

#include <atomic>
#include <optional>
#include <tempora/codec.hpp>
#include <tempora/saga.hpp>
#include <tempora/tracing.hpp>

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

struct Greeting {
  Task<std::string> run(Context& ctx) {
    co_await ctx.wait_until([this] { return !name_.empty(); });
    co_return "hello " + name_;
  }
  Task<void> greet(Context&, std::string name) {
    name_ = std::move(name);
    co_return;
  }
  std::string name_;
};
const Definition<Greeting> kGreeting{"Greeting", tempora::run(&Greeting::run),
                                     signal("greet", &Greeting::greet)};

StartOptions with_every_option(std::string id) {
  StartOptions options{.id = std::move(id), .task_queue = "test"};
  options.execution_timeout = 72h;
  options.run_timeout = 48h;
  options.task_timeout = 5s;
  options.retry = RetryPolicy{.maximum_attempts = 2};
  options.start_delay = 1h;
  options.memo["note"] = PayloadCodec<std::string>::encode("mine");
  options.priority = {.key = 2, .fairness_key = "tenant", .fairness_weight = 3};
  options.summary = "one line";
  options.details = "many lines";
  options.versioning = VersioningOverride{.behavior = VersioningBehavior::kAutoUpgrade};
  return options;
}

// The first event, without what is each run's own.
temporal::api::history::v1::HistoryEvent started_event(const WorkflowHandle& handle) {
  temporal::api::history::v1::HistoryEvent event = (*handle.history())->events(0);
  auto& started = *event.mutable_workflow_execution_started_event_attributes();
  started.clear_workflow_id();
  started.clear_original_execution_run_id();
  started.clear_first_execution_run_id();
  return event;
}

TEST(Environment, ASignalWithStartStartsAsAStartDoes) {
  Environment env;
  env.add(kGreeting);
  env.start_worker();
  const Client client = env.client();
  const auto plain = client.start(kGreeting, with_every_option("plain"));
  ASSERT_TRUE(plain) << plain.error().text();
  const auto signalled = client.signal_with_start("Greeting", with_every_option("signalled"), {},
                                                  "greet", std::string{"Ann"});
  ASSERT_TRUE(signalled) << signalled.error().text();

  const auto event = started_event(*signalled);
  EXPECT_EQ(event.DebugString(), started_event(*plain).DebugString());
  const auto& started = event.workflow_execution_started_event_attributes();
  EXPECT_EQ(started.first_workflow_task_backoff().seconds(), 3600);
  EXPECT_EQ(started.priority().priority_key(), 2);
  EXPECT_TRUE(started.versioning_override().auto_upgrade());
  EXPECT_TRUE(event.user_metadata().has_summary());
  EXPECT_TRUE(event.user_metadata().has_details());
  const auto history = *signalled->history();
  ASSERT_EQ(history->events_size(), 2) << "no task before its time";
  EXPECT_EQ(history->events(1).workflow_execution_signaled_event_attributes().identity(), "test");

  const auto result = signalled->result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, "hello Ann");
  EXPECT_EQ(env.elapsed(), 1h);
}

TEST(Environment, ASecondSignalWithStartEndsTheStartDelay) {
  Environment env;
  env.add(kGreeting);
  env.start_worker();
  const Client client = env.client();
  std::optional<WorkflowHandle> handle;
  for (int i = 0; i < 2; ++i) {
    auto sent = client.signal_with_start("Greeting", with_every_option("again"), {}, "greet",
                                         std::string{"Ann"});
    ASSERT_TRUE(sent) << sent.error().text();
    handle = std::move(*sent);
  }
  const auto result = handle->result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_LT(env.elapsed(), 1h);
}

// What it makes can be read by nobody else.
struct Scrambler final : Codec {
  std::vector<Payload> encode(std::vector<Payload> payloads) const override {
    encoded += payloads.size();
    return turned(std::move(payloads));
  }
  std::vector<Payload> decode(std::vector<Payload> payloads) const override {
    return turned(std::move(payloads));
  }
  static std::vector<Payload> turned(std::vector<Payload> payloads) {
    for (Payload& payload : payloads) {
      for (char& byte : *payload.mutable_data()) byte = static_cast<char>(byte ^ 0x55);
    }
    return payloads;
  }
  mutable std::atomic<std::size_t> encoded{0};
};

TEST(Environment, CodecsLieBetweenClientWorkerAndReplayAndTheService) {
  const auto scrambler = std::make_shared<Scrambler>();
  EnvironmentOptions options;
  options.codecs.codecs = {scrambler};
  Environment env{options};
  env.add(kDay);
  env.add(kShout, shout);
  const auto result = env.start(kDay, "day", std::string{"hello"}).result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, "hello!");
  EXPECT_EQ(scrambler->encoded, 4U) << "two arguments, two results";
  const auto replayed = env.replay("day");
  EXPECT_TRUE(replayed) << replayed.error().message;
}

const TraceContext kTrace{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1"};

TEST(Environment, HeadersGoFromTheClientToActivities) {
  EnvironmentOptions options;
  options.client_interceptors = {trace_client([] { return kTrace; })};
  options.worker_interceptors = trace_worker();
  Environment env{options};
  env.add(kDay);
  env.add(kShout, [](const std::string&) {
    return current_trace().value_or(TraceContext{"none", ""}).traceparent;
  });
  const auto result = env.start(kDay, "day", std::string{"hello"}).result<std::string>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, kTrace.traceparent);
  const auto replayed = env.replay("day");
  EXPECT_TRUE(replayed) << replayed.error().message;
}

}  // namespace
}  // namespace tempora::testing
