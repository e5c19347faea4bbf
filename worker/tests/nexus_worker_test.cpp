// Nexus: the worker around the handlers: shutdown, deadlines, limits, interceptors, measurements.
#include <atomic>
#include <condition_variable>
#include <peers.hpp>
#include <tempora/prometheus.hpp>
#include <tempora/tracing.hpp>

#include "nexus_stage.hpp"

namespace tempora::behaviour {
namespace {

const NexusOperation<std::string, std::string> kDo{"doings", "do"};

struct Caller {
  Task<std::string> run(Context& ctx, std::string endpoint, std::string order) {
    Task<std::string> outcome = outcome_of(ctx.nexus(endpoint).execute(kDo, order));
    const std::string text = co_await outcome;
    co_return text;
  }
};
const Definition<Caller> kCaller{"NexusWorkerCaller", run(&Caller::run)};

// True if the handler was asked to stop before `at_most` had passed.
bool wait_stopped(const NexusContext& context, std::chrono::milliseconds at_most) {
  std::mutex mutex;
  std::condition_variable_any news;
  std::unique_lock lock{mutex};
  news.wait_for(lock, context.stop_token(), at_most, [] { return false; });
  return context.stop_token().stop_requested();
}

TEST(NexusWorker, LetsAHandlerFinishWithinTheGrace) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<bool> begun{false};
    stage.options.graceful_shutdown = 5s;
    stage.runs(kCaller).serves(kDo, [&](NexusContext& context, const std::string&) -> std::string {
      begun = true;
      begun.notify_all();
      return wait_stopped(context, 500ms) ? "interrupted" : "finished";
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const auto call = stage.start(kCaller, endpoint.name(), std::string{});
    begun.wait(false);
    stage.worker().shutdown();
    stage.start_worker();
    EXPECT_EQ(must(call.result<std::string>()), "finished");
  });
}

TEST(NexusWorker, AsksAHandlerToStopAfterTheGraceAndAnotherOneIsAsked) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<int> tries{0};
    stage.options.graceful_shutdown = 200ms;
    stage.runs(kCaller).serves(kDo, [&](NexusContext& context, const std::string&) -> std::string {
      if (++tries > 1) return "second try";
      tries.notify_all();
      if (wait_stopped(context, 8s))
        throw NexusHandlerError{NexusErrorType::kUnavailable, "shutting down"};
      return "never asked";
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    const auto call = stage.start(kCaller, endpoint.name(), std::string{});
    tries.wait(0);
    stage.worker().shutdown();
    stage.start_worker();
    EXPECT_EQ(must(call.result<std::string>()), "second try");
  });
}

TEST(NexusWorker, AsksAHandlerToStopWhenTheServerWaitsNoLonger) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    std::atomic<int> tries{0};
    std::atomic<bool> asked{false};
    stage.runs(kCaller).serves(kDo, [&](NexusContext& context, const std::string&) -> std::string {
      if (++tries > 1) return "second try";
      asked = wait_stopped(context, 60s);
      return "too late";
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kCaller, endpoint.name(), std::string{}).result<std::string>()),
              "second try");
    EXPECT_TRUE(asked);
  });
}

TEST(NexusWorker, SaysThatAResultIsTooLarge) {
  NEEDS_SERVER();
  with_default_cache([](Stage& stage) {
    stage.runs(kCaller).serves(kDo, [](NexusContext&, const std::string&) {
      return std::string(std::size_t{3} << 20, 'x');
    });
    const OwnEndpoint endpoint{stage};
    stage.start_worker();
    EXPECT_EQ(must(stage.start(kCaller, endpoint.name(), std::string{}).result<std::string>()),
              "refused: INTERNAL");
  });
}

class Noting final : public NexusInterceptor {
 public:
  void handle(NexusContext& context, const Next& next) override {
    last_ = context.info().operation;
    next(context);
  }
  std::string last_;
};

TEST(NexusWorker, HandsTheTraceOnAndCallsInterceptors) {
  NEEDS_SERVER();
  const TraceContext trace{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1"};
  ConnectionOptions how;
  how.interceptors = {trace_client([trace] { return trace; })};
  Stage stage{connect(how), 1};
  const auto noting = std::make_shared<Noting>();
  stage.options.interceptors = trace_worker();
  stage.options.interceptors.nexus.push_back(noting);
  stage.runs(kCaller).serves(kDo, [](NexusContext&, const std::string&) {
    const TraceContext seen = current_trace().value_or(TraceContext{"none", ""});
    return seen.traceparent + " " + seen.tracestate;
  });
  const OwnEndpoint endpoint{stage};
  stage.start_worker();
  EXPECT_EQ(must(stage.start(kCaller, endpoint.name(), std::string{}).result<std::string>()),
            trace.traceparent + " " + trace.tracestate);
  EXPECT_EQ(noting->last_, "do");
  stage.replay_all();
}

TEST(NexusWorker, IsMeasured) {
  NEEDS_SERVER();
  const auto metrics = std::make_shared<PrometheusMetrics>();
  Stage stage{connect({.metrics = metrics}), 1};
  stage.runs(kCaller).serves(kDo, [](NexusContext&, const std::string& order) -> std::string {
    if (order == "fail") throw NexusFailed{"no"};
    throw NexusHandlerError{NexusErrorType::kBadRequest, "what?"};
  });
  const OwnEndpoint endpoint{stage};
  stage.start_worker();
  must(stage.start(kCaller, endpoint.name(), std::string{"fail"}).result<std::string>());
  must(stage.start(kCaller, endpoint.name(), std::string{"what"}).result<std::string>());
  stage.worker().shutdown();
  const std::string text = metrics->text();
  for (const char* series :
       {"temporal_nexus_task_schedule_to_start_latency_seconds_count",
        "temporal_nexus_task_execution_latency_seconds_count",
        "temporal_nexus_task_endtoend_latency_seconds_count", "failure_reason=\"operation_failed\"",
        "failure_reason=\"handler_error_BAD_REQUEST\"", "poller_type=\"nexus_task\"",
        "worker_type=\"NexusWorker\""})
    EXPECT_NE(text.find(series), std::string::npos) << series << "\n" << text;
}

TEST(NexusWorker, TakesEachOperationOnce) {
  NEEDS_SERVER();
  Worker worker{connect(), {.task_queue = "q", .log = Logger{}}};
  const auto handler = [](NexusContext&, const std::string&) { return std::string{}; };
  worker.add(kDo, handler);
  EXPECT_THROW(worker.add(kDo, handler), std::logic_error);
  EXPECT_THROW(worker.add(NexusOperation<std::string, std::string>{"", "do"}, handler),
               std::logic_error);
}

}  // namespace
}  // namespace tempora::behaviour
