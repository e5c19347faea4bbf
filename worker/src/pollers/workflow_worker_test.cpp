// What becomes of an answer to a query that a codec or a limit refuses on this side.
#include "workflow_worker.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
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
  // Those before it are passed over. Null if none comes.
  std::shared_ptr<Call> next(std::string_view name) {
    std::shared_ptr<Call> call;
    std::unique_lock lock{gate_};
    started_one_.wait_for(lock, 10s, [&] {
      do {
        call = take();
      } while (call != nullptr && call->method != name);
      return call != nullptr;
    });
    return call;
  }

 private:
  std::mutex gate_;
  std::condition_variable started_one_;
};

struct Answering {
  std::shared_ptr<AwaitedTransport> transport = std::make_shared<AwaitedTransport>();
  std::shared_ptr<WorkflowWorker> worker;
  testing::HistoryBuilder history;

  Answering() {
    const auto registry = std::make_shared<WorkflowRegistry>();
    registry->add(kAsked);
    WorkflowWorkerOptions options;
    options.namespace_ = "default";
    options.task_queue = testing::kQueue;
    options.polls = 1;
    options.max_cached = 0;
    options.metrics = no_metrics();
    worker = std::make_shared<WorkflowWorker>(
        std::make_shared<const CallEnvironment>(transport, "default"), registry, std::move(options),
        nullptr, nullptr);
    worker->start();
    history.started("Asked").task_started();
  }
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;
  ~Answering() {
    worker->abandon();
    worker->stop_threads(TimerQueue::Clock::now() + 10s);
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

}  // namespace
}  // namespace tempora::pollers
