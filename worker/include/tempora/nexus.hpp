// Nexus, as a workflow sees it: operations of a service that somebody offers behind an endpoint, in
// this namespace or another. For who offers one: nexus_handler.hpp.
#pragma once

#include <map>
#include <optional>
#include <source_location>
#include <string>
#include <tempora/child_workflow.hpp>
#include <tempora/failure.hpp>
#include <tempora/payload.hpp>
#include <tempora/task.hpp>
#include <tempora/time.hpp>
#include <type_traits>
#include <utility>

namespace tempora {

// An operation by its names and types, for both sides. No implementation.
template <class I, class O>
struct NexusOperation {
  std::string service;
  std::string name;
};

// When the result of a cancelled operation becomes ready. The server passes a request to cancel on
// once the operation has started.
enum class NexusCancellationType {
  kWaitCompleted,  // when the operation has really ended, however it ended
  kTryCancel,      // at once, as cancelled; the handler is asked to stop it
  kAbandon,        // at once, as cancelled; the handler is not told
  kWaitRequested,  // as cancelled, once the handler has taken the request; if it refuses, with that
};

// A zero duration means "not set".
struct NexusOperationOptions {
  Duration schedule_to_close{};  // over all tries, until its end
  Duration schedule_to_start{};  // over all tries, until it has started or is done
  Duration start_to_close{};     // of one that goes on after its start
  NexusCancellationType cancellation = NexusCancellationType::kWaitCompleted;
  // For the handler, as they are: no codec touches them, and they stand in the history.
  std::map<std::string, std::string> headers{};
  std::string summary{};  // one line for Temporal's UI
};

// An operation that did not succeed, as its caller sees it. The cause says why: what the operation
// failed with, `CanceledError`, `TimeoutError`, or the handler's last `NexusHandlerError`.
class NexusOperationError : public Failure {
 public:
  explicit NexusOperationError(FailureProto proto) : Failure(std::move(proto)) {}
  const std::string& endpoint() const {
    return proto().nexus_operation_execution_failure_info().endpoint();
  }
  const std::string& service() const {
    return proto().nexus_operation_execution_failure_info().service();
  }
  const std::string& operation() const {
    return proto().nexus_operation_execution_failure_info().operation();
  }
  // Empty if it had not started.
  const std::string& token() const {
    return proto().nexus_operation_execution_failure_info().operation_token();
  }
};

// What became of a request to a handler, by the types that Nexus defines.
enum class NexusErrorType {
  kBadRequest,
  kUnauthenticated,
  kUnauthorized,
  kNotFound,
  kConflict,
  kNotImplemented,
  // The server tries these again, unless the error says otherwise.
  kResourceExhausted,
  kRequestTimeout,
  kInternal,
  kUnavailable,
  kUpstreamTimeout,
  kUnknown,  // any other name
};
// "BAD_REQUEST", …
std::string_view to_string(NexusErrorType type);

// Thrown by a handler that cannot do what it was asked for; a caller finds it as a cause.
class NexusHandlerError : public Failure {
 public:
  explicit NexusHandlerError(FailureProto proto) : Failure(std::move(proto)) {}
  // `retryable`: instead of what the type says.
  NexusHandlerError(NexusErrorType type, std::string message, std::optional<bool> retryable = {});
  NexusErrorType type() const;
  const std::string& type_name() const { return proto().nexus_handler_failure_info().type(); }
  bool retryable() const;
  // The changed error, so that a throw expression can be built in one go.
  NexusHandlerError with_cause(const Failure& cause) const;
};

namespace detail {

struct NexusRequest {
  std::string endpoint;
  std::string service;
  std::string operation;
  NexusOperationOptions options;
  std::optional<Payload> input;  // nothing where no command is sent
  std::source_location where;
};
void start_nexus_operation(Context& context, Ref<ValueState<std::string>> started,
                           Ref<FutureState> result, NexusRequest request);

}  // namespace detail

// An operation under way. Copies stand for the same one. If it does not succeed, its result fails
// with a `NexusOperationError`, and so does its start if that had not come.
template <class O>
class NexusCall {
 public:
  NexusCall(Future<std::string> started, Future<O> result)
      : started_(std::move(started)), result_(std::move(result)) {}

  // Ready with the operation's token once it has started; empty if it was done by then.
  const Future<std::string>& started() const { return started_; }
  const Future<O>& result() const { return result_; }
  // As `NexusOperationOptions::cancellation` says. Before it was sent: there never was one.
  void cancel(const std::string& reason = {}) const { result_.cancel(reason); }

 private:
  Future<std::string> started_;
  Future<O> result_;
};

// From `Context::nexus`.
class NexusEndpoint {
 public:
  NexusEndpoint(Context& context, std::string name) : context_(&context), name_(std::move(name)) {}

  // Scheduled now, awaited whenever.
  template <class I, class O>
  NexusCall<O> start(const NexusOperation<I, O>& operation, const std::type_identity_t<I>& request,
                     NexusOperationOptions options = {},
                     std::source_location where = std::source_location::current()) const {
    auto started = detail::make_ref<detail::ValueState<std::string>>();
    auto result = detail::make_ref<detail::DecodedState<O>>();
    std::optional<Payload> input;
    if (detail::encodes_arguments(*context_)) input = PayloadCodec<I>::encode(request);
    detail::start_nexus_operation(
        *context_, started, result,
        {name_, operation.service, operation.name, std::move(options), std::move(input), where});
    return {Future<std::string>{std::move(started)}, Future<O>{std::move(result)}};
  }
  template <class O>
  NexusCall<O> start(const NexusOperation<Void, O>& operation, NexusOperationOptions options = {},
                     std::source_location where = std::source_location::current()) const {
    return start(operation, Void{}, std::move(options), where);
  }

  // The same for those who want nothing but the result.
  template <class I, class O>
  Future<O> execute(const NexusOperation<I, O>& operation, const std::type_identity_t<I>& request,
                    NexusOperationOptions options = {},
                    std::source_location where = std::source_location::current()) const {
    return start(operation, request, std::move(options), where).result();
  }
  template <class O>
  Future<O> execute(const NexusOperation<Void, O>& operation, NexusOperationOptions options = {},
                    std::source_location where = std::source_location::current()) const {
    return start(operation, Void{}, std::move(options), where).result();
  }

 private:
  Context* context_;
  std::string name_;
};

}  // namespace tempora
