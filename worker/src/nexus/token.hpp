// The token of an operation that a workflow stands for. As the official SDKs write it, so that
// workers of several kinds may serve one queue.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tempora::nexus {

struct WorkflowToken {
  std::string namespace_;
  std::string workflow_id;
};
std::string to_text(const WorkflowToken& token);
// Nothing if it is no token of a workflow.
std::optional<WorkflowToken> read_token(std::string_view text);

}  // namespace tempora::nexus
