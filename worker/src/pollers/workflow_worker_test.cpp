// What becomes of an answer to a query that a codec or a limit refuses on this side, and of what a
// task decided that was over before its answer came; what is counted of completions.
#include "workflow_worker.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/prometheus.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "fake_transport.hpp"
#include "testing/history_builder.hpp"

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
using ::testing::HasSubstr;
using ::testing::Not;

struct Asked {
  bool done = false;
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
  }
  int get() const { return 5; }
  void end(Context&, bool really) { done = really; }
};
const Definition<Asked> kAsked{"Asked", run(&Asked::run), query("get", &Asked::get),
                               signal("end", &Asked::end)};

const ActivityType<Void, void> kSlow{"slow", {.start_to_close = 1min}};
const ActivityType<Void, void> kQuick{"quick", {.start_to_close = 1min}};

// Does not wait for the slow activity, which goes on.
struct Hurries {
  bool over = false;
  Task<void> run(Context& ctx) {
    LocalActivityOptions options;
    options.cancellation = CancellationType::kAbandon;
    const auto slow = ctx.start_local(kSlow, options);
    co_await ctx.start_local(kQuick);
    slow.cancel();
    co_await ctx.wait_until([this] { return over; });
  }
  Task<void> end(Context&) {
    over = true;
    co_return;
  }
};
const Definition<Hurries> kHurries{"Hurries", run(&Hurries::run), signal("end", &Hurries::end)};

// Takes longer over the result that comes first than is left of its task; the other one waits all
// the time.
struct Ponders {
  Task<void> run(Context& ctx) {
    const auto one = ctx.start_local(kQuick);
    const auto other = ctx.start_local(kQuick);
    co_await select(ctx, {one, other});
    std::this_thread::sleep_for(3s);
    co_await join(ctx, {one, other});
  }
};
const Definition<Ponders> kPonders{"Ponders", run(&Ponders::run)};

struct Answering {
  std::shared_ptr<FakeTransport> transport = std::make_shared<FakeTransport>();
  std::shared_ptr<activity::LocalRunner> locals;
  std::shared_ptr<WorkflowWorker> worker;
  std::shared_ptr<PrometheusMetrics> metrics = std::make_shared<PrometheusMetrics>();
  testing::HistoryBuilder history;

  explicit Answering(const std::string& type = "Asked") {
    const auto environment = std::make_shared<const CallEnvironment>(transport, "default");
    locals = make_locals(environment->timers);
    const auto registry = std::make_shared<WorkflowRegistry>();
    registry->add(kAsked);
    registry->add(kHurries);
    registry->add(kPonders);
    WorkflowWorkerOptions options;
    options.namespace_ = "default";
    options.task_queue = testing::kQueue;
    options.polls = 1;
    options.max_cached = 0;
    options.metrics = metrics;
    worker = std::make_shared<WorkflowWorker>(environment, registry, std::move(options), nullptr,
                                              locals);
    worker->start();
    history.started(type).task_started();
  }
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;
  ~Answering() {
    worker->abandon();
    worker->stop_threads(TimerQueue::Clock::now() + 10s);
    locals->cancel_all(CancelReason::kWorkerShutdown);
    locals->stop(TimerQueue::Clock::now() + 10s);
  }

  // A slow activity ends when it is told to.
  static std::shared_ptr<activity::LocalRunner> make_locals(std::shared_ptr<TimerQueue> timers) {
    const auto registry = std::make_shared<activity::ActivityRegistry>();
    registry->add("slow", [](ActivityContext& context, const Payloads&) {
      context.wait_cancelled(1min);
      return Payloads{};
    });
    registry->add("quick", [](ActivityContext&, const Payloads&) { return Payloads{}; });
    activity::LocalRunner::Options options;
    options.max_concurrent = 2;
    options.metrics = no_metrics();
    return std::make_shared<activity::LocalRunner>(registry, std::move(timers), std::move(options));
  }

  void hand_out(const testing::WorkflowTask& task) const {
    const auto poll = transport->next("PollWorkflowTaskQueue");
    ASSERT_NE(poll, nullptr);
    poll->answer(task);
  }
};

std::vector<CallStatus> refusals() {
  return {{.code = grpc_code::kInvalidArgument, .message = "payload codec: no key"},
          {.code = grpc_code::kResourceExhausted,
           .message = "Sent message larger than max: [TMPRL1103] query_result is too large"}};
}

TEST(WorkflowWorker, TellsTheCallerOfAQueryThatItsAnswerWasRefused) {
  for (const CallStatus& refusal : refusals()) {
    SCOPED_TRACE(refusal.message);
    Answering answering;
    answering.history.task_completed();
    testing::WorkflowTask task = answering.history.task(0, 3);
    task.set_started_event_id(0);
    task.mutable_query()->set_query_type("get");
    answering.hand_out(task);
    const auto answer = answering.transport->next("RespondQueryTaskCompleted");
    ASSERT_NE(answer, nullptr);
    answer->fail(refusal.code, refusal.message);
    const auto instead = answering.transport->next("RespondQueryTaskCompleted");
    ASSERT_NE(instead, nullptr) << "the caller would wait until its call times out";
    api::RespondQueryTaskCompletedRequest request;
    ASSERT_TRUE(request.ParseFromString(instead->request));
    EXPECT_EQ(request.task_token(), task.task_token());
    EXPECT_EQ(request.completed_type(), enums::QUERY_RESULT_TYPE_FAILED);
    EXPECT_EQ(request.error_message(), refusal.message);
    EXPECT_FALSE(request.has_query_result());
    EXPECT_FALSE(request.has_failure()) << "a codec that refuses would refuse it, too";
    instead->answer(api::RespondQueryTaskCompletedResponse{});
  }
}

TEST(WorkflowWorker, CompletesATaskWithoutTheAnswersToQueriesThatAreRefused) {
  for (const CallStatus& refusal : refusals()) {
    SCOPED_TRACE(refusal.message);
    const Answering answering;
    testing::WorkflowTask task = answering.history.full_task();
    (*task.mutable_queries())["q"].set_query_type("get");
    answering.hand_out(task);
    const auto whole = answering.transport->next("RespondWorkflowTaskCompleted");
    ASSERT_NE(whole, nullptr);
    api::RespondWorkflowTaskCompletedRequest request;
    ASSERT_TRUE(request.ParseFromString(whole->request));
    ASSERT_TRUE(request.query_results().at("q").has_answer());
    whole->fail(refusal.code, refusal.message);
    const auto rest = answering.transport->next("RespondWorkflowTaskCompleted");
    ASSERT_NE(rest, nullptr) << "the task fails for as long as somebody asks";
    ASSERT_TRUE(request.ParseFromString(rest->request));
    EXPECT_EQ(request.task_token(), task.task_token());
    const auto& result = request.query_results().at("q");
    EXPECT_EQ(result.result_type(), enums::QUERY_RESULT_TYPE_FAILED);
    EXPECT_EQ(result.error_message(), refusal.message);
    EXPECT_FALSE(result.has_answer());
    EXPECT_FALSE(result.has_failure());
    // It was something else: that is for the task.
    rest->fail(refusal.code, refusal.message);
    const auto failed = answering.transport->next("RespondWorkflowTaskFailed");
    ASSERT_NE(failed, nullptr);
    failed->answer(api::RespondWorkflowTaskFailedResponse{});
  }
}

// Its answer got lost on the way back: the server goes on, and knows nothing of a second try.
TEST(WorkflowWorker, LetsGoOfNoLocalActivityForATaskThatIsOver) {
  Answering answering{"Hurries"};
  testing::HistoryBuilder& history = answering.history;
  answering.hand_out(history.full_task());
  const auto lost = answering.transport->next("RespondWorkflowTaskCompleted");
  ASSERT_NE(lost, nullptr);
  api::RespondWorkflowTaskCompletedRequest request;
  ASSERT_TRUE(request.ParseFromString(lost->request));
  ASSERT_EQ(request.commands_size(), 2) << "of the quick one, and of the one it let go of";
  history.task_completed();
  for (const auto& command : request.commands()) {
    const auto& recorded = command.record_marker_command_attributes();
    auto& marker =
        *history.add(enums::EVENT_TYPE_MARKER_RECORDED).mutable_marker_recorded_event_attributes();
    marker.set_marker_name(recorded.marker_name());
    *marker.mutable_details() = recorded.details();
    if (recorded.has_failure()) *marker.mutable_failure() = recorded.failure();
  }
  history.signaled("end").task_started();
  answering.hand_out(history.task(0, 3));  // waits for the task before it
  lost->fail(grpc_code::kNotFound, "the task is over");
  const auto last = answering.transport->next("RespondWorkflowTaskCompleted");
  ASSERT_NE(last, nullptr);
  ASSERT_TRUE(request.ParseFromString(last->request));
  ASSERT_EQ(request.commands_size(), 1);
  EXPECT_EQ(request.commands(0).command_type(), enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION);
  // The run was built anew: there is no local activity that it could let go of.
  last->answer(api::RespondWorkflowTaskCompletedResponse{});
  EXPECT_EQ(answering.worker->numbers().tasks.processed, 1);
  EXPECT_NE(answering.transport->next("PollWorkflowTaskQueue"), nullptr);
}

TEST(WorkflowWorker, HeartbeatsATaskAlsoWhileResultsWait) {
  Answering answering{"Ponders"};
  testing::WorkflowTask task = answering.history.full_task();
  auto& timeout = *task.mutable_history()
                       ->mutable_events(0)
                       ->mutable_workflow_execution_started_event_attributes()
                       ->mutable_workflow_task_timeout();
  timeout.set_seconds(2);
  answering.hand_out(task);
  const auto beat = answering.transport->next("RespondWorkflowTaskCompleted");
  ASSERT_NE(beat, nullptr);
  api::RespondWorkflowTaskCompletedRequest request;
  ASSERT_TRUE(request.ParseFromString(beat->request));
  EXPECT_TRUE(request.force_create_new_workflow_task());
  ASSERT_EQ(request.commands_size(), 1) << "of the one that came first";
  EXPECT_EQ(request.commands(0).command_type(), enums::COMMAND_TYPE_RECORD_MARKER);
  beat->fail(grpc_code::kNotFound, "the task is over");
}

TEST(WorkflowWorker, CountsACompletionThatTheServerRefusesAsAFailedTask) {
  const Answering answering;
  answering.hand_out(answering.history.full_task());
  const auto refused = answering.transport->next("RespondWorkflowTaskCompleted");
  ASSERT_NE(refused, nullptr);
  refused->fail(grpc_code::kInvalidArgument, "BadStartTimerAttributes: no timer id");
  EXPECT_EQ(answering.worker->numbers().tasks.failed, 1);
  EXPECT_THAT(answering.metrics->text(),
              HasSubstr("temporal_workflow_task_execution_failed_total{namespace=\"default\","
                        "task_queue=\"queue\",workflow_type=\"Asked\","
                        "failure_reason=\"WorkflowError\"} 1\n"));
}

TEST(WorkflowWorker, CountsASignalThatCannotBeDecodedOnce) {
  Answering answering;
  testing::HistoryBuilder& history = answering.history;
  const std::string no_bool = "no bool";
  history.task_completed().signaled("end", no_bool).signaled("end", no_bool).task_started();
  const auto answered = [&](std::int64_t previous_started) {
    answering.hand_out(history.task(0, previous_started));
    return answering.transport->next("RespondWorkflowTaskCompleted");
  };
  const auto lost = answered(3);
  ASSERT_NE(lost, nullptr);
  lost->fail(grpc_code::kNotFound, "the task is over");
  EXPECT_THAT(answering.metrics->text(), Not(HasSubstr("temporal_corrupted_signals")));
  const auto again = answered(3);
  ASSERT_NE(again, nullptr);
  again->answer(api::RespondWorkflowTaskCompletedResponse{});
  const std::string counted =
      "temporal_corrupted_signals_total{namespace=\"default\",task_queue=\"queue\","
      "workflow_type=\"Asked\"} 2\n";
  EXPECT_THAT(answering.metrics->text(), HasSubstr(counted));
  const std::int64_t started = history.last_id();
  history.task_completed().signaled("end", true).task_started();
  const auto last = answered(started);
  ASSERT_NE(last, nullptr);
  last->answer(api::RespondWorkflowTaskCompletedResponse{});
  EXPECT_THAT(answering.metrics->text(), HasSubstr(counted)) << "the run was built anew";
}

}  // namespace
}  // namespace tempora::pollers
