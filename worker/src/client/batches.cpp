#include <tempora/batch.hpp>

#include "client_core.hpp"
#include "reset_point.hpp"

namespace tempora {

using detail::Access;
namespace api = temporal::api::workflowservice::v1;

namespace {

constexpr int kMaxPages = 1'000;
constexpr std::size_t kMaxTargets = 10'000;  // the server has a limit of its own, mostly lower

ClientError invalid(std::string message, std::string_view job) {
  return detail::invalid_argument(std::move(message), "batch " + std::string{job});
}

Outcome<void> check(const BatchRequest& request) {
  if (request.query.empty() == request.workflows.empty())
    return std::unexpected(invalid("query: either it or workflows must be given", request.job_id));
  if (request.workflows.size() > kMaxTargets)
    return std::unexpected(invalid("workflows: too many, use a query", request.job_id));
  if (request.reason.empty())
    return std::unexpected(invalid("reason: must not be empty", request.job_id));
  if (request.max_per_second < 0)
    return std::unexpected(invalid("max_per_second: must not be negative", request.job_id));
  const auto* signal = std::get_if<BatchSignal>(&request.operation);
  if (signal != nullptr && signal->name.empty())
    return std::unexpected(invalid("operation.name: must not be empty", request.job_id));
  return {};
}

// Writes the operation's own part of the request.
struct WriteOperation {
  const std::string& identity;
  api::StartBatchOperationRequest& request;

  void operator()(const BatchTerminate& terminate) const {
    auto* proto = request.mutable_termination_operation();
    proto->set_identity(identity);
    if (terminate.details.payloads_size() > 0) *proto->mutable_details() = terminate.details;
  }
  void operator()(const BatchCancel&) const {
    request.mutable_cancellation_operation()->set_identity(identity);
  }
  void operator()(const BatchDelete&) const {
    request.mutable_deletion_operation()->set_identity(identity);
  }
  void operator()(const BatchSignal& signal) const {
    auto* proto = request.mutable_signal_operation();
    proto->set_identity(identity);
    proto->set_signal(signal.name);
    if (signal.input.payloads_size() > 0) *proto->mutable_input() = signal.input;
  }
  void operator()(const BatchReset& reset) const {
    auto* proto = request.mutable_reset_operation();
    proto->set_identity(identity);
    auto* options = proto->mutable_options();
    if (reset.point == ResetPoint::kFirstTask) {
      options->mutable_first_workflow_task();
    } else {
      options->mutable_last_workflow_task();
    }
    detail::write_excluded(reset.keep_signals, true, options);
  }
};

}  // namespace

Outcome<std::string> BatchClient::start(const BatchRequest& batch) const {
  if (auto checked = check(batch); !checked) return std::unexpected(std::move(checked.error()));
  api::StartBatchOperationRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_job_id(batch.job_id.empty() ? detail::random_uuid() : batch.job_id);
  request.set_reason(batch.reason);
  request.set_visibility_query(batch.query);
// Deprecated for `target_executions`, which only the newest servers know; they take this as well,
// but refuse both together.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  for (const BatchTarget& target : batch.workflows) {
    auto* execution = request.add_executions();
    execution->set_workflow_id(target.workflow_id);
    execution->set_run_id(target.run_id);
  }
#pragma GCC diagnostic pop
  request.set_max_operations_per_second(batch.max_per_second);
  std::visit(WriteOperation{core_->identity, request}, batch.operation);
  const auto response = core_->call<api::StartBatchOperationResponse>(
      methods::kStartBatch, request, request.job_id(), Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return request.job_id();
}

Outcome<BatchDescription> BatchClient::describe(std::string_view job_id) const {
  api::DescribeBatchOperationRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_job_id(std::string{job_id});
  const auto response = core_->call<api::DescribeBatchOperationResponse>(
      methods::kDescribeBatch, request, job_id, Access::kReads);
  if (!response) return std::unexpected(response.error());
  return BatchDescription{.job_id = response->job_id(),
                          .state = static_cast<BatchState>(response->state()),
                          .reason = response->reason(),
                          .identity = response->identity(),
                          .query = response->query(),
                          .total = response->total_operation_count(),
                          .complete = response->complete_operation_count(),
                          .failed = response->failure_operation_count()};
}

Outcome<void> BatchClient::stop(std::string_view job_id, std::string_view reason) const {
  api::StopBatchOperationRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_identity(core_->identity);
  request.set_job_id(std::string{job_id});
  request.set_reason(std::string{reason});
  const auto response = core_->call<api::StopBatchOperationResponse>(methods::kStopBatch, request,
                                                                     job_id, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

Outcome<std::vector<BatchDescription>> BatchClient::list() const {
  api::ListBatchOperationsRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_page_size(1000);
  std::vector<BatchDescription> jobs;
  for (int page = 0; page < kMaxPages; ++page) {
    const auto response = core_->call<api::ListBatchOperationsResponse>(
        methods::kListBatches, request, "list", Access::kReads);
    if (!response) return std::unexpected(response.error());
    for (const auto& job : response->operation_info()) {
      jobs.push_back(
          BatchDescription{.job_id = job.job_id(), .state = static_cast<BatchState>(job.state())});
    }
    if (response->next_page_token().empty()) return jobs;
    request.set_next_page_token(response->next_page_token());
  }
  return std::unexpected(invalid("the server knows too many", "list"));
}

BatchClient Client::batches() const {
  BatchClient client;
  client.core_ = core_;
  return client;
}

}  // namespace tempora
