#include "size_transport.hpp"

#include <gtest/gtest.h>
#include <temporal/api/update/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

namespace tempora {
namespace {

namespace api = temporal::api::workflowservice::v1;

constexpr SizeLimits kSmall{.payloads = 1'000, .memo = 500};

template <class Payloads>
void fill(Payloads* payloads, std::size_t bytes) {
  payloads->add_payloads()->set_data(std::string(bytes, 'x'));
}

TEST(SizeChecks, NameTheFieldItsSizeAndTheLimit) {
  api::StartWorkflowExecutionRequest request;
  fill(request.mutable_input(), 2'000);
  EXPECT_EQ(find_oversize(request, kSmall),
            "input of StartWorkflowExecutionRequest has 2006 bytes, the server takes 1000");
}

TEST(SizeChecks, LookAtEachListAndNotAtTheirSum) {
  api::SignalWithStartWorkflowExecutionRequest request;
  fill(request.mutable_input(), 800);
  fill(request.mutable_signal_input(), 800);
  EXPECT_EQ(find_oversize(request, kSmall), "");
  fill(request.mutable_signal_input(), 300);
  EXPECT_NE(find_oversize(request, kSmall).find("signal_input"), std::string::npos);
}

TEST(SizeChecks, AMemoHasALimitOfItsOwn) {
  api::StartWorkflowExecutionRequest request;
  (*request.mutable_memo()->mutable_fields())["note"].set_data(std::string(600, 'x'));
  EXPECT_NE(find_oversize(request, kSmall).find("memo"), std::string::npos);
}

TEST(SizeChecks, LookInsideWhatIsNested) {
  api::ExecuteMultiOperationRequest request;
  fill(request.add_operations()->mutable_start_workflow()->mutable_input(), 2'000);
  EXPECT_NE(find_oversize(request, kSmall).find("input of StartWorkflowExecutionRequest"),
            std::string::npos);
}

TEST(SizeChecks, ACommandIsOnePiece) {
  api::RespondWorkflowTaskCompletedRequest request;
  auto& marker = *request.add_commands()->mutable_record_marker_command_attributes();
  fill(&(*marker.mutable_details())["a"], 600);
  fill(&(*marker.mutable_details())["b"], 600);
  EXPECT_NE(find_oversize(request, kSmall).find("commands"), std::string::npos);
}

TEST(SizeChecks, ACommandsMemoHasTheLimitOfMemos) {
  api::RespondWorkflowTaskCompletedRequest request;
  auto& next =
      *request.add_commands()->mutable_continue_as_new_workflow_execution_command_attributes();
  fill(next.mutable_input(), 600);
  EXPECT_EQ(find_oversize(request, kSmall), "");
  next.clear_input();
  (*next.mutable_memo()->mutable_fields())["note"].set_data(std::string(600, 'x'));
  EXPECT_NE(find_oversize(request, kSmall).find("memo"), std::string::npos);
}

// Packed, as the server measures it: an update's answer is not to be seen from outside.
TEST(SizeChecks, AMessagesBodyIsOnePiece) {
  temporal::api::update::v1::Response response;
  fill(response.mutable_outcome()->mutable_success(), 900);
  api::RespondWorkflowTaskCompletedRequest request;
  request.add_messages()->mutable_body()->PackFrom(response);
  EXPECT_EQ(find_oversize(request, kSmall), "");
  fill(response.mutable_outcome()->mutable_success(), 100);
  request.mutable_messages(0)->mutable_body()->PackFrom(response);
  EXPECT_NE(find_oversize(request, kSmall).find("body of Message has 1"), std::string::npos);
}

TEST(SizeChecks, AFailureIsCutByTheServer) {
  api::RespondActivityTaskFailedRequest request;
  fill(request.mutable_failure()->mutable_application_failure_info()->mutable_details(), 2'000);
  EXPECT_EQ(find_oversize(request, kSmall), "");
}

class Taker final : public Transport {
 public:
  std::shared_ptr<PendingCall> start(std::string_view /*method*/,
                                     const google::protobuf::Message& /*request*/,
                                     google::protobuf::Message* /*response*/,
                                     CallOptions /*options*/,
                                     std::function<void(CallStatus)> done) override {
    done({});
    return nullptr;
  }
};

TEST(SizeChecks, TellWhatHoldsAlsoBeforeTheServerHasTold) {
  const auto told = with_size_checks(std::make_shared<Taker>(), 0);
  EXPECT_EQ(told->known().payloads, SizeLimits{}.payloads);
  told->learn(kSmall);
  EXPECT_EQ(told->known().payloads, kSmall.payloads);
  EXPECT_EQ(told->known().memo, kSmall.memo);
  const auto fixed = with_size_checks(std::make_shared<Taker>(), 300);
  EXPECT_EQ(fixed->known().payloads, 300U);
}

}  // namespace
}  // namespace tempora
