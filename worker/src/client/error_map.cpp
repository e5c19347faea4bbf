#include "error_map.hpp"

#include <fmt/format.h>
#include <google/rpc/status.pb.h>
#include <temporal/api/errordetails/v1/message.pb.h>

#include <algorithm>

namespace tempora {

namespace {

namespace details = temporal::api::errordetails::v1;

ErrorCode by_grpc_code(int code) {
  switch (code) {
    case grpc_code::kCancelled: return ErrorCode::kCancelled;
    case grpc_code::kInvalidArgument: return ErrorCode::kInvalidArgument;
    case grpc_code::kDeadlineExceeded: return ErrorCode::kDeadlineExceeded;
    case grpc_code::kNotFound: return ErrorCode::kNotFound;
    case grpc_code::kAlreadyExists: return ErrorCode::kAlreadyExists;
    case grpc_code::kPermissionDenied: return ErrorCode::kPermissionDenied;
    case grpc_code::kResourceExhausted: return ErrorCode::kResourceExhausted;
    case grpc_code::kFailedPrecondition: return ErrorCode::kFailedPrecondition;
    case grpc_code::kUnimplemented: return ErrorCode::kUnimplemented;
    case grpc_code::kUnavailable: return ErrorCode::kUnavailable;
    case grpc_code::kUnauthenticated: return ErrorCode::kUnauthenticated;
    default: return ErrorCode::kServer;
  }
}

OperationStatus operation_of(
    const details::MultiOperationExecutionFailure::OperationStatus& status) {
  OperationStatus operation{
      .grpc_code = status.code(), .message = status.message(), .innocent = false, .run_id = {}};
  for (const auto& detail : status.details()) {
    details::WorkflowExecutionAlreadyStartedFailure started;
    if (detail.type_url().ends_with("MultiOperationExecutionAborted")) operation.innocent = true;
    if (detail.UnpackTo(&started)) operation.run_id = started.run_id();
  }
  return operation;
}

void read_multi_operation(const details::MultiOperationExecutionFailure& failure,
                          ClientError& error) {
  error.code = ErrorCode::kMultiOperation;
  for (const auto& status : failure.statuses()) error.operations.push_back(operation_of(status));
  const auto guilty = std::ranges::find_if(error.operations, [](const OperationStatus& status) {
    return status.grpc_code != 0 && !status.innocent;
  });
  if (guilty == error.operations.end()) return;
  error.message = guilty->message;
  error.run_id = guilty->run_id;
  if (!guilty->run_id.empty()) error.code = ErrorCode::kAlreadyStarted;
}

// What the server says in its own types; the first that is known decides.
void read_detail(const google::protobuf::Any& any, ClientError& error) {
  if (details::WorkflowExecutionAlreadyStartedFailure started; any.UnpackTo(&started)) {
    error.code = ErrorCode::kAlreadyStarted;
    error.run_id = started.run_id();
  } else if (details::QueryFailedFailure query; any.UnpackTo(&query)) {
    error.code = ErrorCode::kQueryFailed;
    if (query.has_failure()) {
      error.failure = to_failure(query.failure());
      // The server's text is the failure's own, which may have been encoded.
      if (!query.failure().message().empty()) error.message = query.failure().message();
    }
  } else if (details::MultiOperationExecutionFailure multi; any.UnpackTo(&multi)) {
    read_multi_operation(multi, error);
  } else if (any.Is<details::NamespaceNotFoundFailure>()) {
    error.code = ErrorCode::kNamespaceNotFound;
  } else if (any.Is<details::NamespaceNotActiveFailure>() ||
             any.Is<details::NamespaceUnavailableFailure>() ||
             any.Is<details::NamespaceInvalidStateFailure>()) {
    error.code = ErrorCode::kNamespaceNotActive;
  } else if (any.Is<details::NamespaceAlreadyExistsFailure>()) {
    error.code = ErrorCode::kAlreadyExists;
  } else if (any.Is<details::WorkflowNotReadyFailure>()) {
    error.code = ErrorCode::kWorkflowNotReady;
  } else if (details::PermissionDeniedFailure denied; any.UnpackTo(&denied)) {
    error.code = ErrorCode::kPermissionDenied;
    if (!denied.reason().empty()) error.message += ": " + denied.reason();
  }
}

}  // namespace

ClientError to_client_error(const CallEnd& end, std::string_view method, std::string_view subject,
                            bool writes) {
  const std::string_view name = method.substr(method.rfind('/') + 1);
  ClientError error;
  error.code = is_message_too_large(end.status) ? ErrorCode::kMessageTooLarge
                                                : by_grpc_code(end.status.code);
  error.message = end.status.message;
  error.grpc_code = end.status.code;
  error.retryable = is_retryable(end.status) || end.status.code == grpc_code::kDeadlineExceeded;
  error.in_doubt = writes && end.unanswered;
  error.where = subject.empty() ? std::string{name} : fmt::format("{} {}", name, subject);
  if (google::rpc::Status status;
      !end.status.details.empty() && status.ParseFromString(end.status.details)) {
    for (const auto& detail : status.details()) read_detail(detail, error);
  }
  return error;
}

bool is_aborted_by_closing_run(const ClientError& error) {
  constexpr std::string_view kText = "workflow update was aborted by closing workflow";
  if (error.message.find(kText) != std::string::npos) return true;
  return std::ranges::any_of(error.operations, [&](const OperationStatus& operation) {
    return operation.message.find(kText) != std::string::npos;
  });
}

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kAlreadyStarted: return "already_started";
    case ErrorCode::kAlreadyExists: return "already_exists";
    case ErrorCode::kNotFound: return "not_found";
    case ErrorCode::kNamespaceNotFound: return "namespace_not_found";
    case ErrorCode::kNamespaceNotActive: return "namespace_not_active";
    case ErrorCode::kQueryFailed: return "query_failed";
    case ErrorCode::kMultiOperation: return "multi_operation";
    case ErrorCode::kWorkflowNotReady: return "workflow_not_ready";
    case ErrorCode::kInvalidArgument: return "invalid_argument";
    case ErrorCode::kFailedPrecondition: return "failed_precondition";
    case ErrorCode::kPermissionDenied: return "permission_denied";
    case ErrorCode::kUnauthenticated: return "unauthenticated";
    case ErrorCode::kResourceExhausted: return "resource_exhausted";
    case ErrorCode::kMessageTooLarge: return "message_too_large";
    case ErrorCode::kUnimplemented: return "unimplemented";
    case ErrorCode::kDeadlineExceeded: return "deadline_exceeded";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kCancelled: return "cancelled";
    case ErrorCode::kServer: return "server";
    case ErrorCode::kWorkflowFailed: return "workflow_failed";
    case ErrorCode::kWorkflowCanceled: return "workflow_canceled";
    case ErrorCode::kWorkflowTerminated: return "workflow_terminated";
    case ErrorCode::kWorkflowTimedOut: return "workflow_timed_out";
    case ErrorCode::kWorkflowContinued: return "workflow_continued";
    case ErrorCode::kUpdateFailed: return "update_failed";
    case ErrorCode::kQueryRejected: return "query_rejected";
    case ErrorCode::kTimeLimit: return "time_limit";
    case ErrorCode::kUndecodable: return "undecodable";
    case ErrorCode::kConfiguration: return "configuration";
  }
  return "server";
}

std::string ClientError::text() const {
  return fmt::format("{}: {}{}{}", to_string(code), message,
                     where.empty() ? "" : fmt::format(" ({})", where),
                     in_doubt ? "; whether it took effect is not known" : "");
}

}  // namespace tempora
