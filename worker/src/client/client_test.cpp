// The client against a scripted server.
#include <gmock/gmock.h>
#include <google/rpc/status.pb.h>
#include <gtest/gtest.h>
#include <temporal/api/errordetails/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <tempora/client.hpp>
#include <tempora/schedule.hpp>

#include "../transport/codec_transport.hpp"
#include "../transport/scripted_transport.hpp"
#include "client_core.hpp"

namespace tempora {
namespace {

using testing::ManualClock;
using testing::ScriptedTransport;
namespace api = temporal::api::workflowservice::v1;
namespace details = temporal::api::errordetails::v1;
namespace enums = temporal::api::enums::v1;

template <class Detail>
std::string packed(int code, const std::string& message, const Detail& detail) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  status.add_details()->PackFrom(detail);
  return status.SerializeAsString();
}

template <class Request>
Request parsed(const ScriptedTransport::Seen& seen) {
  Request request;
  EXPECT_TRUE(request.ParseFromString(seen.request)) << seen.method;
  return request;
}

class ClientTest : public ::testing::Test {
 protected:
  std::shared_ptr<ScriptedTransport> transport = std::make_shared<ScriptedTransport>();
  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>();
  Client client = detail::client_on(
      transport, ConnectionOptions{.namespace_ = "space", .identity = "me"}, clock);
  StartOptions options{.id = "w", .task_queue = "q"};
};

api::StartWorkflowExecutionResponse started_run(const std::string& run_id) {
  api::StartWorkflowExecutionResponse response;
  response.set_run_id(run_id);
  response.set_started(true);
  return response;
}

TEST_F(ClientTest, StartSendsEveryOptionAndOneRequestIdOverAllRetries) {
  transport->then(grpc_code::kUnavailable, "Socket closed");
  transport->then_ok(started_run("run"));
  options.conflict = IdConflictPolicy::kUseExisting;
  options.reuse = IdReusePolicy::kRejectDuplicate;
  options.execution_timeout = std::chrono::seconds{60};
  options.start_delay = std::chrono::milliseconds{1500};
  options.priority = {.key = 2, .fairness_key = "tenant", .fairness_weight = 3};
  options.retry = RetryPolicy{.maximum_attempts = 4};
  options.memo["m"] = PayloadCodec<int>::encode(7);
  options.versioning = VersioningOverride{.version = {"deployment", "build"}};
  const auto handle = client.start("Type", options, std::string{"in"}, 5);
  ASSERT_TRUE(handle) << handle.error().text();
  EXPECT_EQ(handle->started_run_id(), "run");
  EXPECT_TRUE(handle->started());

  const auto first = parsed<api::StartWorkflowExecutionRequest>(transport->seen.at(0));
  const auto again = parsed<api::StartWorkflowExecutionRequest>(transport->seen.at(1));
  EXPECT_EQ(first.request_id(), again.request_id());
  EXPECT_EQ(first.request_id().size(), 36u);
  EXPECT_EQ(first.namespace_(), "space");
  EXPECT_EQ(first.identity(), "me");
  EXPECT_EQ(first.workflow_id_conflict_policy(), enums::WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING);
  EXPECT_EQ(first.workflow_id_reuse_policy(), enums::WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE);
  EXPECT_EQ(first.workflow_execution_timeout().seconds(), 60);
  EXPECT_EQ(first.workflow_start_delay().nanos(), 500'000'000);
  EXPECT_EQ(first.priority().fairness_key(), "tenant");
  EXPECT_EQ(first.retry_policy().maximum_attempts(), 4);
  EXPECT_EQ(first.memo().fields().at("m").data(), "7");
  EXPECT_EQ(first.versioning_override().pinned().version().deployment_name(), "deployment");
  EXPECT_EQ(first.versioning_override().pinned().version().build_id(), "build");
  EXPECT_EQ(first.input().payloads(0).data(), "\"in\"");
  EXPECT_EQ(first.input().payloads(1).data(), "5");
}

TEST_F(ClientTest, StartRefusesAnOverrideOfTheVersioningThatCannotBe) {
  const std::vector<std::pair<VersioningOverride, std::string>> cases{
      {{}, "versioning.version: must name deployment and build_id"},
      {{.version = {"deployment", ""}}, "versioning.version: must name deployment and build_id"},
      {{.behavior = VersioningBehavior::kAutoUpgrade, .version = {"deployment", "build"}},
       "versioning.version: only of kPinned"},
      {{.behavior = VersioningBehavior::kUnspecified},
       "versioning.behavior: must be kPinned or kAutoUpgrade"}};
  for (const auto& [wanted, why] : cases) {
    options.versioning = wanted;
    const auto handle = client.start("Type", options);
    ASSERT_FALSE(handle) << why;
    EXPECT_EQ(handle.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(handle.error().message, why);
  }
  EXPECT_TRUE(transport->seen.empty());
}

TEST_F(ClientTest, StartNamesTheOptionThatIsMissing) {
  options.task_queue.clear();
  const auto handle = client.start("Type", options);
  ASSERT_FALSE(handle);
  EXPECT_EQ(handle.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(handle.error().message, "task_queue: must not be empty");
  EXPECT_TRUE(transport->seen.empty());
}

TEST_F(ClientTest, ATakenIdIsATypedErrorWithTheRunInTheWay) {
  details::WorkflowExecutionAlreadyStartedFailure failure;
  failure.set_run_id("other");
  transport->then(grpc_code::kAlreadyExists, "already running",
                  packed(6, "already running", failure));
  const auto handle = client.start("Type", options);
  ASSERT_FALSE(handle);
  EXPECT_EQ(handle.error().code, ErrorCode::kAlreadyStarted);
  EXPECT_EQ(handle.error().run_id, "other");
  EXPECT_FALSE(handle.error().in_doubt);
  EXPECT_EQ(handle.error().where, "StartWorkflowExecution w");
}

TEST_F(ClientTest, AWriteWithoutAnswerIsInDoubtAReadIsNot) {
  transport->then(grpc_code::kDeadlineExceeded, "Deadline Exceeded");
  EXPECT_TRUE(client.handle("w").signal("s").error().in_doubt);
  transport->then(grpc_code::kDeadlineExceeded, "Deadline Exceeded");
  const auto description = client.handle("w").describe();
  EXPECT_EQ(description.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_FALSE(description.error().in_doubt);
}

TEST_F(ClientTest, AFailedQueryCarriesTheFailure) {
  details::QueryFailedFailure failure;
  failure.mutable_failure()->set_message("unknown query");
  transport->then(grpc_code::kInvalidArgument, "unknown query",
                  packed(3, "unknown query", failure));
  const auto answer = client.handle("w").query<int>("q");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kQueryFailed);
  EXPECT_EQ(answer.error().failure->message(), "unknown query");
}

TEST_F(ClientTest, AFailedQueryIsDecodedWithTheCodecs) {
  const CodecOptions codecs{.codecs = {}, .encode_failures = true};
  details::QueryFailedFailure failure;
  failure.mutable_failure()->set_message("unknown query");
  encode_payloads(failure, codecs);
  ASSERT_EQ(failure.failure().message(), "Encoded failure");
  transport->then(grpc_code::kInvalidArgument, "Encoded failure",
                  packed(3, "Encoded failure", failure));
  Client reader =
      detail::client_on(with_codecs(transport, codecs),
                        ConnectionOptions{.namespace_ = "space", .identity = "me"}, clock);
  const auto answer = reader.handle("w").query<int>("q");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kQueryFailed);
  EXPECT_EQ(answer.error().failure->message(), "unknown query");
  EXPECT_EQ(answer.error().message, "unknown query");
}

TEST_F(ClientTest, AnAnswerOfAnotherTypeIsAnErrorNotAThrow) {
  api::QueryWorkflowResponse response;
  *response.mutable_query_result() = encode_all(std::string{"text"});
  transport->then_ok(response);
  EXPECT_EQ(client.handle("w").query<int>("q").error().code, ErrorCode::kUndecodable);
}

api::GetWorkflowExecutionHistoryResponse completed(int result) {
  api::GetWorkflowExecutionHistoryResponse response;
  auto* event = response.mutable_history()->add_events();
  event->set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED);
  *event->mutable_workflow_execution_completed_event_attributes()->mutable_result() =
      encode_all(result);
  return response;
}

TEST_F(ClientTest, ResultAsksAgainWithTheTokenAndFollowsTheChainOfRuns) {
  api::GetWorkflowExecutionHistoryResponse nothing_yet;
  nothing_yet.set_next_page_token("token");
  transport->then_ok(nothing_yet);
  api::GetWorkflowExecutionHistoryResponse continued;
  auto* event = continued.mutable_history()->add_events();
  event->set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW);
  event->mutable_workflow_execution_continued_as_new_event_attributes()->set_new_execution_run_id(
      "second");
  transport->then_ok(continued);
  transport->then_ok(completed(42));

  const auto result = client.handle("w", "first").result<int>();
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(*result, 42);
  using Request = api::GetWorkflowExecutionHistoryRequest;
  EXPECT_EQ(parsed<Request>(transport->seen.at(0)).execution().run_id(), "first");
  EXPECT_EQ(parsed<Request>(transport->seen.at(1)).next_page_token(), "token");
  EXPECT_EQ(parsed<Request>(transport->seen.at(2)).execution().run_id(), "second");
  EXPECT_EQ(parsed<Request>(transport->seen.at(2)).next_page_token(), "");
}

TEST_F(ClientTest, AFailedWorkflowGivesItsApplicationError) {
  api::GetWorkflowExecutionHistoryResponse response;
  auto* event = response.mutable_history()->add_events();
  event->set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED);
  auto* failure = event->mutable_workflow_execution_failed_event_attributes()->mutable_failure();
  failure->set_message("no");
  failure->mutable_application_failure_info()->set_type("conflict");
  transport->then_ok(response);
  const auto result = client.handle("w").result<int>();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kWorkflowFailed);
  ASSERT_NE(result.error().application_error(), nullptr);
  EXPECT_EQ(result.error().application_error()->type(), "conflict");
}

TEST_F(ClientTest, ResultEndsAtTheCallersLimit) {
  transport->then([this](const auto&, auto*) {
    clock->advance(std::chrono::seconds{3});
    return CallStatus{grpc_code::kDeadlineExceeded, "", ""};
  });
  const auto result = client.handle("w").result<void>({.limit = std::chrono::seconds{3}});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kTimeLimit);
  EXPECT_EQ(transport->seen.at(0).options.deadline, std::chrono::seconds{3});
}

api::UpdateWorkflowExecutionResponse at_stage(enums::UpdateWorkflowExecutionLifecycleStage stage) {
  api::UpdateWorkflowExecutionResponse response;
  response.set_stage(stage);
  response.mutable_update_ref()->mutable_workflow_execution()->set_run_id("run");
  return response;
}

TEST_F(ClientTest, UpdateIsSentAgainUntilAcceptedThenItsOutcomeIsPolled) {
  transport->then_ok(at_stage(enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED));
  transport->then(grpc_code::kNotFound, "workflow update was aborted by closing workflow");
  transport->then(
      grpc_code::kFailedPrecondition,
      "Unable to perform workflow execution update due to unexpected workflow task failure.");
  transport->then_ok(at_stage(enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED));
  transport->then_ok(api::PollWorkflowExecutionUpdateResponse{});
  api::PollWorkflowExecutionUpdateResponse outcome;
  *outcome.mutable_outcome()->mutable_success() = encode_all(7);
  transport->then_ok(outcome);

  const auto answer = client.handle("w").update<int>("u", UpdateOptions{.id = "key"}, 1);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(*answer, 7);
  for (int i = 0; i < 4; ++i) {
    const auto sent = parsed<api::UpdateWorkflowExecutionRequest>(transport->seen.at(i));
    EXPECT_EQ(sent.request().meta().update_id(), "key");
  }
  const auto polled = parsed<api::PollWorkflowExecutionUpdateRequest>(transport->seen.at(4));
  EXPECT_EQ(polled.update_ref().update_id(), "key");
  EXPECT_EQ(polled.update_ref().workflow_execution().run_id(), "run");
}

TEST_F(ClientTest, ARefusedUpdateGivesItsApplicationError) {
  auto response = at_stage(enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED);
  auto* failure = response.mutable_outcome()->mutable_failure();
  failure->set_message("illegal");
  failure->mutable_application_failure_info()->set_type("illegal_transition");
  transport->then_ok(response);
  const auto answer = client.handle("w").update<int>("u", {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUpdateFailed);
  EXPECT_EQ(answer.error().application_error()->type(), "illegal_transition");
}

TEST_F(ClientTest, AnotherFailedPreconditionIsNotRepeated) {
  transport->then(grpc_code::kFailedPrecondition, "updates are disabled");
  EXPECT_EQ(client.handle("w").update<int>("u", {}).error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(transport->seen.size(), 1u);
}

api::ExecuteMultiOperationResponse started_and(api::UpdateWorkflowExecutionResponse update) {
  api::ExecuteMultiOperationResponse response;
  *response.add_responses()->mutable_start_workflow() = started_run("run");
  *response.add_responses()->mutable_update_workflow() = std::move(update);
  return response;
}

TEST_F(ClientTest, UpdateWithStartGoesOnWithTheSameUpdateWhenTheRunClosesUnderIt) {
  details::MultiOperationExecutionFailure failure;
  failure.add_statuses()->set_code(grpc_code::kAborted);
  auto* guilty = failure.add_statuses();
  guilty->set_code(grpc_code::kNotFound);
  guilty->set_message("workflow update was aborted by closing workflow");
  transport->then(grpc_code::kNotFound, "Update-with-Start could not be executed.",
                  packed(5, "Update-with-Start could not be executed.", failure));
  auto done = at_stage(enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED);
  *done.mutable_outcome()->mutable_success() = encode_all(9);
  transport->then_ok(started_and(done));

  options.conflict = IdConflictPolicy::kUseExisting;
  const auto answer =
      client.update_with_start<int>("Type", options, encode_all(1), "u", {.id = "key"}, 2);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->outcome, 9);
  EXPECT_EQ(answer->workflow.started_run_id(), "run");
  const auto first = parsed<api::ExecuteMultiOperationRequest>(transport->seen.at(0));
  const auto again = parsed<api::ExecuteMultiOperationRequest>(transport->seen.at(1));
  EXPECT_EQ(first.operations(1).update_workflow().request().meta().update_id(), "key");
  EXPECT_EQ(again.operations(1).update_workflow().request().meta().update_id(), "key");
  EXPECT_NE(first.operations(0).start_workflow().request_id(),
            again.operations(0).start_workflow().request_id());
}

TEST_F(ClientTest, AStartWithASignalOrAnUpdateJoinsAnOpenRunIfNothingElseIsSaid) {
  api::SignalWithStartWorkflowExecutionResponse signalled;
  signalled.set_run_id("run");
  transport->then_ok(signalled);
  auto done = at_stage(enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED);
  *done.mutable_outcome()->mutable_success() = encode_all(9);
  transport->then_ok(started_and(done));

  ASSERT_TRUE(client.signal_with_start("Type", options, encode_all(1), "s"));
  ASSERT_TRUE(client.update_with_start<int>("Type", options, encode_all(1), "u", {}, 2));
  const auto signal = parsed<api::SignalWithStartWorkflowExecutionRequest>(transport->seen.at(0));
  EXPECT_EQ(signal.workflow_id_conflict_policy(), enums::WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING);
  const auto update = parsed<api::ExecuteMultiOperationRequest>(transport->seen.at(1));
  EXPECT_EQ(update.operations(0).start_workflow().workflow_id_conflict_policy(),
            enums::WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING);

  options.conflict = IdConflictPolicy::kFail;
  const auto no_signal = client.signal_with_start("Type", options, encode_all(1), "s");
  ASSERT_FALSE(no_signal);
  EXPECT_EQ(no_signal.error().code, ErrorCode::kInvalidArgument) << no_signal.error().text();
  options.conflict = IdConflictPolicy::kTerminateExisting;
  const auto no_update = client.update_with_start<int>("Type", options, encode_all(1), "u", {}, 2);
  ASSERT_FALSE(no_update);
  EXPECT_EQ(no_update.error().code, ErrorCode::kInvalidArgument) << no_update.error().text();
}

TEST_F(ClientTest, ScheduleUpdateSendsSearchAttributesOnlyIfTheyAreGiven) {
  for (int i = 0; i < 2; ++i) {
    transport->then_ok(api::DescribeScheduleResponse{});
    transport->then_ok(api::UpdateScheduleResponse{});
  }
  const auto keep = [](ScheduleProto&) { return true; };
  ASSERT_TRUE(client.schedules().update("s", keep));
  ASSERT_TRUE(client.schedules().update("s", keep, SearchAttributes{}));
  EXPECT_FALSE(parsed<api::UpdateScheduleRequest>(transport->seen.at(1)).has_search_attributes());
  EXPECT_TRUE(parsed<api::UpdateScheduleRequest>(transport->seen.at(3)).has_search_attributes());
}

TEST_F(ClientTest, ScheduleUpdateBeginsAgainWhenSomebodyElseWrote) {
  api::DescribeScheduleResponse first;
  first.set_conflict_token("1");
  api::DescribeScheduleResponse second = first;
  second.set_conflict_token("2");
  transport->then_ok(first);
  transport->then(grpc_code::kFailedPrecondition, "mismatched conflict token");
  transport->then_ok(second);
  transport->then_ok(api::UpdateScheduleResponse{});
  int changes = 0;
  const auto updated = client.schedules().update("s", [&](ScheduleProto& schedule) {
    schedule.mutable_state()->set_notes("n");
    return ++changes > 0;
  });
  ASSERT_TRUE(updated) << updated.error().text();
  EXPECT_EQ(changes, 2);
  EXPECT_EQ(parsed<api::UpdateScheduleRequest>(transport->seen.at(3)).conflict_token(), "2");
}

}  // namespace
}  // namespace tempora
