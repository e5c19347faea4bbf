// What becomes of an answer to a query that a codec or a limit refuses on this side, and of what a
// task decided that was over before its answer came.
#include "workflow_worker.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tempora/definition.hpp>
#include <utility>
#include <vector>

#include "fake_transport.hpp"
#include "testing/history_builder.hpp"

namespace tempora::pollers {
namespace {

using namespace std::chrono_literals;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;

struct Asked {
  bool done = false;
  Task<void> run(Context& ctx) {
    co_await ctx.wait_until([this] { return done; });
  }
  int get() const { return 5; }
};
const Definition<Asked> kAsked{"Asked", run(&Asked::run), query("get", &Asked::get)};

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

// Lets a test wait for the next call of a name.
class AwaitedTransport : public FakeTransport {
 public:
  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const std::lock_guard lock{gate_};
    auto call =
        FakeTransport::start(method, request, response, std::move(options), std::move(done));
    started_one_.notify_all();
    return call;
  }
  // Those of other names are kept. Null if none comes.
  std::shared_ptr<Call> next(std::string_view name) {
    std::shared_ptr<Call> call;
    std::unique_lock lock{gate_};
    started_one_.wait_for(lock, 10s, [&] {
      while (auto one = take()) open_.push_back(std::move(one));
      const auto found =
          std::ranges::find_if(open_, [&](const auto& one) { return one->method == name; });
      if (found == open_.end()) return false;
      call = std::move(*found);
      open_.erase(found);
      return true;
    });
    return call;
  }

 private:
  std::mutex gate_;
  std::condition_variable started_one_;
  std::deque<std::shared_ptr<Call>> open_;  // that nobody has asked for yet
};

struct Answering {
  std::shared_ptr<AwaitedTransport> transport = std::make_shared<AwaitedTransport>();
  std::shared_ptr<activity::LocalRunner> locals;
  std::shared_ptr<WorkflowWorker> worker;
  testing::HistoryBuilder history;

  explicit Answering(const std::string& type = "Asked") {
    const auto environment = std::make_shared<const CallEnvironment>(transport, "default");
    locals = make_locals(environment->timers);
    const auto registry = std::make_shared<WorkflowRegistry>();
    registry->add(kAsked);
    registry->add(kHurries);
    WorkflowWorkerOptions options;
    options.namespace_ = "default";
    options.task_queue = testing::kQueue;
    options.polls = 1;
    options.max_cached = 0;
    options.metrics = no_metrics();
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

}  // namespace
}  // namespace tempora::pollers
