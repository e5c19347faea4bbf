#include "size_transport.hpp"

#include <gtest/gtest.h>
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

TEST(SizeChecks, AFailureIsCutByTheServer) {
  api::RespondActivityTaskFailedRequest request;
  fill(request.mutable_failure()->mutable_application_failure_info()->mutable_details(), 2'000);
  EXPECT_EQ(find_oversize(request, kSmall), "");
}

}  // namespace
}  // namespace tempora
