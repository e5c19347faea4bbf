// Sizes are checked before anything is sent: an oversize payload would end the
// workflow, an oversize request would only ever be refused.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <optional>
#include <string>
#include <temporal/api/enums/v1/failed_cause.pb.h>

namespace tempora::pollers {

struct TooLarge {
  temporal::api::enums::v1::WorkflowTaskFailedCause cause;
  std::string message;
};

inline constexpr std::size_t kLargestRequestBytes = 4 * 1024 * 1024;
inline constexpr std::size_t kLargestBlobBytes = 2 * 1024 * 1024;

// What is too large about a completion, if anything.
std::optional<TooLarge>
find_too_large(const temporal::api::workflowservice::v1::
                   RespondWorkflowTaskCompletedRequest &completion);

} // namespace tempora::pollers
