// How a call to the Temporal service can fail.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <tempora/failure.hpp>
#include <vector>

namespace tempora {

enum class ErrorCode {
  // From the server's typed error details, else from the gRPC code.
  kAlreadyStarted,  // the workflow id is taken (`run_id`: by which run), or the reuse policy
                    // refuses
  kAlreadyExists,   // a schedule, namespace or search attribute of that name
  kNotFound,        // no such workflow, run or schedule; or the run has ended
  kNamespaceNotFound,
  kNamespaceNotActive,
  kQueryFailed,       // the handler failed, or there is none (`failure`)
  kMultiOperation,    // `operations` says which of the two was to blame
  kWorkflowNotReady,  // no workflow task of the run has completed yet
  kInvalidArgument,
  kFailedPrecondition,
  kPermissionDenied,
  kUnauthenticated,
  kResourceExhausted,  // throttled
  kMessageTooLarge,    // the request (or answer) is over gRPC's limit: no retry will help
  kUnimplemented,
  kDeadlineExceeded,  // no answer in time
  kUnavailable,
  kCancelled,  // by this process, or by the server for reasons of its own
  kServer,     // the rest: UNKNOWN, INTERNAL, DATA_LOSS, …
  // How a workflow, update or query ended.
  kWorkflowFailed,  // `failure`
  kWorkflowCanceled,
  kWorkflowTerminated,
  kWorkflowTimedOut,
  kWorkflowContinued,  // as a new run (`run_id`) that the caller does not follow
  kUpdateFailed,       // rejected or failed (`failure`)
  kQueryRejected,      // by the caller's own reject condition
  // Found here.
  kTimeLimit,      // the caller's own limit: what was waited for goes on
  kUndecodable,    // an answer is not of the wanted type
  kConfiguration,  // names the key and, if there is one, the file
};

// "already_started", "query_failed", …
std::string_view to_string(ErrorCode code);

// One operation of an update-with-start.
struct OperationStatus {
  int grpc_code = 0;
  std::string message;
  bool innocent = false;  // undone only because the other one failed
  std::string run_id;     // of the run that is in the way, for a refused start
};

struct ClientError {
  ErrorCode code = ErrorCode::kServer;
  std::string message;
  bool retryable = false;  // the same call may succeed later
  bool in_doubt =
      false;  // an attempt may have taken effect although no answer came; never set for reads
  std::string where;  // "StartWorkflowExecution service/a/b/c"
  int grpc_code = 0;  // zero: not a gRPC error
  std::string run_id;
  std::shared_ptr<const Failure> failure;
  std::vector<OperationStatus> operations;

  // "already_started: Workflow execution is already running (StartWorkflowExecution service/a/b/c)"
  std::string text() const;
  // The application error that a workflow, update or query ended with; null if it was something
  // else.
  const ApplicationError* application_error() const {
    return failure ? find_application_error(*failure) : nullptr;
  }
};

}  // namespace tempora
