// Nexus, for who offers a service: handlers of operations, registered with a worker that polls the
// task queue of an endpoint (nexus_endpoint.hpp).
// An operation is done when its handler returns, for which the caller's server waits some seconds
// only, or it goes on as a workflow that the handler starts: that one's end is the operation's, and
// cancelling the operation cancels it. A handler may be called again with the same request, so what
// it does must bear repeating: ids come from the input. What it may throw: see docs/nexus.md.
#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <tempora/client.hpp>
#include <tempora/definition.hpp>
#include <tempora/logging.hpp>
#include <tempora/nexus.hpp>
#include <type_traits>
#include <utility>

namespace tempora {

struct NexusInfo {
  std::string namespace_;  // of this worker
  std::string task_queue;
  std::string endpoint;  // by which it came; empty from servers before 1.30
  std::string service;
  std::string operation;
  std::string request_id;                      // of a start: the same for all tries
  std::string token;                           // of a request to cancel: which operation
  std::map<std::string, std::string> headers;  // names in lower case
};

// Thrown by a handler: the operation has failed, for good, with this. A `CanceledError` thrown by
// one says that the operation was cancelled; all else is said of the request, and may be repeated.
class NexusFailed : public std::exception {
 public:
  explicit NexusFailed(ApplicationError failure) : failure_(std::move(failure)) {}
  explicit NexusFailed(std::string message)
      : failure_(std::move(message), "OperationError", /*non_retryable=*/true) {}
  const char* what() const noexcept override { return failure_.what(); }
  const ApplicationError& failure() const { return failure_; }

 private:
  ApplicationError failure_;
};

// The workflow that an operation goes on as; a handler returns it. From
// `NexusContext::start_workflow`.
template <class O>
class NexusWorkflowRun {
 public:
  explicit NexusWorkflowRun(std::string token) : token_(std::move(token)) {}
  const std::string& token() const { return token_; }

 private:
  std::string token_;
};

namespace detail {
struct NexusTaskState;
}

// Valid while the handler runs. All members may be called from any of its threads.
class NexusContext {
 public:
  explicit NexusContext(std::shared_ptr<detail::NexusTaskState> state);  // made by the worker
  ~NexusContext();
  NexusContext(const NexusContext&) = delete;
  NexusContext& operator=(const NexusContext&) = delete;

  const NexusInfo& info() const;
  // The worker's, for the handler's own calls.
  const Client& client() const;
  // Asked to stop when the time for the request is over, or the worker stops.
  std::stop_token stop_token() const;
  // How long the server still waits for an answer, never negative; `Duration::max()` if it did not
  // say.
  Duration time_left() const;
  Logger log() const;

  // Starts the workflow that the operation goes on as. Empty `task_queue`: this worker's. A
  // `conflict` policy of `kUseExisting` joins a run of the id that there is: then its end is also
  // this operation's. Throws `NexusHandlerError` if the start was refused.
  template <class O, class... A>
  NexusWorkflowRun<O> start_workflow(std::string_view type, StartOptions options,
                                     const A&... arguments) {
    return NexusWorkflowRun<O>{start_payloads(type, std::move(options), encode_all(arguments...))};
  }
  template <class W, class... A>
  auto start_workflow(const Definition<W>& definition, StartOptions options,
                      const A&... arguments) {
    using O = typename detail::RunOf<W>::Result;
    return start_workflow<O>(definition.name(), std::move(options), arguments...);
  }

 private:
  std::string start_payloads(std::string_view type, StartOptions options, Payloads input);

  std::shared_ptr<detail::NexusTaskState> state_;
};

// The erased form of a handler.
struct NexusHandler {
  struct Answer {
    std::optional<Payload> result;  // done
    std::string token;              // or going on
  };
  std::function<Answer(NexusContext&, const Payload&)> start;
  // Cancels the operation of `info().token`; null: it cannot be cancelled.
  std::function<void(NexusContext&)> cancel;
};

namespace detail {

// Throws `NexusHandlerError` kBadRequest for a token that is none of ours.
void cancel_nexus_workflow(NexusContext& context);
[[noreturn]] void refuse_nexus_input(const PayloadError& error);

template <class I>
I decode_nexus_input(const Payload& input) {
  try {
    return PayloadCodec<I>::decode(input);
  } catch (const PayloadError& error) {
    refuse_nexus_input(error);
  }
}

template <class I, class F>
decltype(auto) call_nexus(const F& function, NexusContext& context, const Payload& input) {
  if constexpr (std::is_same_v<I, Void> && std::invocable<const F&, NexusContext&>) {
    return function(context);
  } else {
    const I decoded = decode_nexus_input<I>(input);
    return function(context, decoded);
  }
}

// Wraps a typed function (`Worker::add`), called without an argument if `I` is `Void`.
template <class I, class O, class F>
std::shared_ptr<const NexusHandler> erase_nexus(F function) {
  using R = std::remove_cvref_t<decltype(call_nexus<I>(function, std::declval<NexusContext&>(),
                                                       std::declval<const Payload&>()))>;
  auto handler = std::make_shared<NexusHandler>();
  handler->start = [function = std::move(function)](NexusContext& context, const Payload& input) {
    if constexpr (std::is_same_v<R, NexusWorkflowRun<O>>) {
      return NexusHandler::Answer{{}, call_nexus<I>(function, context, input).token()};
    } else if constexpr (std::is_void_v<O>) {
      static_assert(std::is_void_v<R>, "the operation has no result");
      call_nexus<I>(function, context, input);
      return NexusHandler::Answer{PayloadCodec<void>::encode(), {}};
    } else {
      const O result = call_nexus<I>(function, context, input);
      return NexusHandler::Answer{PayloadCodec<O>::encode(result), {}};
    }
  };
  if constexpr (std::is_same_v<R, NexusWorkflowRun<O>>) handler->cancel = cancel_nexus_workflow;
  return handler;
}

}  // namespace detail

}  // namespace tempora
