// From the server's descriptions to ours.
#pragma once

#include <temporal/api/workflow/v1/message.pb.h>

#include <tempora/client.hpp>

namespace tempora::detail {

TimePoint to_time(const google::protobuf::Timestamp& timestamp);
WorkflowDescription to_description(const temporal::api::workflow::v1::WorkflowExecutionInfo& info);
PendingActivity to_pending(const temporal::api::workflow::v1::PendingActivityInfo& info);

}  // namespace tempora::detail
