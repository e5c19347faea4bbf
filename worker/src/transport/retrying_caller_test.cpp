#include "retrying_caller.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include "methods.hpp"
#include "scripted_transport.hpp"

namespace tempora {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using testing::ManualClock;
using testing::ScriptedTransport;
namespace api = temporal::api::workflowservice::v1;

class RetryingCallerTest : public ::testing::Test {
 protected:
  CallEnd call(CallPlan plan = {}) {
    const RetryingCaller caller{transport, {{"temporal-namespace", "n"}}, clock};
    request.set_request_id("r");
    return caller.call(methods::kSignalWorkflow, request, &response, plan);
  }

  std::shared_ptr<ScriptedTransport> transport = std::make_shared<ScriptedTransport>();
  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>();
  api::SignalWorkflowExecutionRequest request;
  api::SignalWorkflowExecutionResponse response;
};

TEST_F(RetryingCallerTest, RepeatsTheSameRequestUntilItIsAnswered) {
  transport->then(grpc_code::kUnavailable, "connection reset");
  transport->then(grpc_code::kAborted);
  transport->then_ok(api::SignalWorkflowExecutionResponse{});
  const CallEnd end = call();
  EXPECT_TRUE(end.ok());
  EXPECT_EQ(end.attempts, 3);
  EXPECT_FALSE(end.unanswered);
  EXPECT_THAT(clock->pauses, ElementsAre(milliseconds{100}, milliseconds{170}));
  for (const auto& seen : transport->seen) EXPECT_EQ(seen.request, transport->seen[0].request);
  EXPECT_THAT(transport->seen[0].options.metadata,
              ElementsAre(std::pair{"temporal-namespace", "n"}));
}

TEST_F(RetryingCallerTest, WaitsLongerWhenThrottled) {
  for (int i = 0; i < 5; ++i)
    transport->then(grpc_code::kResourceExhausted, "namespace rate limit");
  transport->then_ok(api::SignalWorkflowExecutionResponse{});
  EXPECT_TRUE(call({.budget = milliseconds{60'000}}).ok());
  EXPECT_THAT(clock->pauses,
              ElementsAre(milliseconds{1'000}, milliseconds{2'000}, milliseconds{4'000},
                          milliseconds{8'000}, milliseconds{10'000}));
}

TEST_F(RetryingCallerTest, NeverRepeatsAMessageThatIsTooLarge) {
  transport->then(grpc_code::kResourceExhausted,
                  "grpc: received message larger than max (4500246 vs. 4194304)");
  EXPECT_EQ(call().attempts, 1);
}

TEST_F(RetryingCallerTest, NeverRepeatsTextThatIsNotUtf8) {
  transport->then(grpc_code::kInternal,
                  "grpc: error unmarshalling request: string field contains invalid UTF-8");
  EXPECT_EQ(call().attempts, 1);
}

TEST_F(RetryingCallerTest, NeverRepeatsWhatWillNotChange) {
  for (const int code :
       {grpc_code::kInvalidArgument, grpc_code::kNotFound, grpc_code::kAlreadyExists,
        grpc_code::kFailedPrecondition, grpc_code::kPermissionDenied, grpc_code::kUnauthenticated,
        grpc_code::kUnimplemented, grpc_code::kDeadlineExceeded}) {
    transport->then(code);
    EXPECT_EQ(call().attempts, 1) << code;
  }
}

TEST_F(RetryingCallerTest, GivesUpAfterTenAttempts) {
  for (int i = 0; i < 12; ++i) transport->then(grpc_code::kUnavailable);
  const CallEnd end = call({.budget = milliseconds{600'000}});
  EXPECT_EQ(end.attempts, 10);
  EXPECT_EQ(end.status.code, grpc_code::kUnavailable);
}

TEST_F(RetryingCallerTest, NeitherPausesNorAttemptsBeyondTheBudget) {
  const auto slow = [this](const auto&, auto*) {
    clock->advance(milliseconds{3'000});
    return CallStatus{grpc_code::kUnavailable, "", ""};
  };
  transport->then(slow);
  transport->then(slow);
  transport->then(slow);
  const CallEnd end =
      call({.attempt_deadline = milliseconds{10'000}, .budget = milliseconds{5'000}});
  EXPECT_EQ(end.attempts, 2);
  EXPECT_EQ(transport->seen[0].options.deadline, milliseconds{5'000});
  EXPECT_EQ(transport->seen[1].options.deadline, milliseconds{1'900});
}

TEST_F(RetryingCallerTest, RepeatsInternalOnlyIfTheServerMeansPassingTrouble) {
  const RetryingCaller caller{transport, {}, clock};
  transport->then(grpc_code::kInternal);
  transport->then_ok(api::SignalWorkflowExecutionResponse{});
  EXPECT_TRUE(caller.call(methods::kSignalWorkflow, request, &response, {}).ok());
  caller.set_internal_is_final(true);
  transport->then(grpc_code::kInternal);
  EXPECT_EQ(caller.call(methods::kSignalWorkflow, request, &response, {}).attempts, 1);
}

TEST_F(RetryingCallerTest, RemembersThatAnEarlierAttemptGotNoAnswer) {
  transport->then(grpc_code::kUnavailable, "Socket closed");
  transport->then(grpc_code::kNotFound, "workflow execution already completed");
  EXPECT_TRUE(call().unanswered);  // the first one may have been the signal that counts
}

TEST_F(RetryingCallerTest, KnowsThatWithoutAConnectionNothingWasSent) {
  for (const char* text : {"failed to connect to all addresses; last error: refused",
                           "connections to all backends failing; last error: refused"}) {
    transport->then(grpc_code::kUnavailable, text);
    transport->then(grpc_code::kInvalidArgument);
    EXPECT_FALSE(call().unanswered) << text;
  }
}

TEST_F(RetryingCallerTest, RetriesWithoutBlockingToo) {
  transport->then(grpc_code::kUnavailable);
  transport->then_ok(api::SignalWorkflowExecutionResponse{});
  const RetryingCaller caller{transport, {}, clock};
  std::vector<CallEnd> ends;
  caller.start(methods::kSignalWorkflow, request, &response, {},
               [&](CallEnd end) { ends.push_back(std::move(end)); });
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_TRUE(ends[0].ok());
  EXPECT_EQ(ends[0].attempts, 2);
}

// Such as "context canceled" of a query that the server gave to a poll which was ending.
TEST_F(RetryingCallerTest, RepeatsWhatTheServerCancelled) {
  transport->then(grpc_code::kCancelled, "context canceled");
  transport->then_ok(api::SignalWorkflowExecutionResponse{});
  const CallEnd end = call();
  EXPECT_TRUE(end.ok());
  EXPECT_EQ(end.attempts, 2);
}

// Answers when it is told to.
class SlowTransport final : public Transport {
 public:
  std::shared_ptr<PendingCall> start(std::string_view /*method*/,
                                     const google::protobuf::Message& /*request*/,
                                     google::protobuf::Message* /*response*/,
                                     CallOptions /*options*/,
                                     std::function<void(CallStatus)> done) override {
    answer = std::move(done);
    return nullptr;
  }

  std::function<void(CallStatus)> answer;
};

TEST_F(RetryingCallerTest, NeverRepeatsWhatWasCancelledHere) {
  const auto slow = std::make_shared<SlowTransport>();
  const RetryingCaller caller{slow, {}, clock};
  std::vector<CallEnd> ends;
  caller
      .start(methods::kSignalWorkflow, request, &response, {},
             [&](CallEnd end) { ends.push_back(std::move(end)); })
      ->cancel();
  std::exchange(slow->answer, nullptr)({grpc_code::kCancelled, "CANCELLED", ""});
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(ends[0].status.code, grpc_code::kCancelled);
  EXPECT_EQ(ends[0].attempts, 1);
}

}  // namespace
}  // namespace tempora
