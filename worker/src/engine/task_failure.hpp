// Why a workflow task (never the workflow) fails.
#pragma once

#include <temporal/api/enums/v1/failed_cause.pb.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tempora/replayer.hpp>

namespace tempora::engine {

class TaskFailure : public std::runtime_error {
 public:
  TaskFailure(temporal::api::enums::v1::WorkflowTaskFailedCause cause, const std::string& message)
      : std::runtime_error(message), cause_(cause) {}
  explicit TaskFailure(ReplayError nondeterminism)
      : std::runtime_error(nondeterminism.message),
        cause_(temporal::api::enums::v1::WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR),
        nondeterminism_(std::move(nondeterminism)) {}

  temporal::api::enums::v1::WorkflowTaskFailedCause cause() const { return cause_; }
  const std::optional<ReplayError>& nondeterminism() const { return nondeterminism_; }

 private:
  temporal::api::enums::v1::WorkflowTaskFailedCause cause_;
  std::optional<ReplayError> nondeterminism_;
};

}  // namespace tempora::engine
