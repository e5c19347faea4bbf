#include <fmt/format.h>

#include <algorithm>
#include <tempora/nexus_handler.hpp>

#include "client/client_core.hpp"
#include "links.hpp"
#include "nexus_state.hpp"
#include "token.hpp"

namespace tempora {

namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
using nexus::Link;

namespace {

// How the official SDKs tell a caller that the handler had trouble with its own server.
NexusHandlerError to_handler_error(const ClientError& error) {
  const auto as = [&](NexusErrorType type, std::optional<bool> retryable = {}) {
    return NexusHandlerError{type, error.text(), retryable};
  };
  switch (error.code) {
    case ErrorCode::kInvalidArgument: return as(NexusErrorType::kBadRequest);
    case ErrorCode::kAlreadyStarted:
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kMessageTooLarge: return as(NexusErrorType::kInternal, false);
    case ErrorCode::kUnavailable: return as(NexusErrorType::kUnavailable);
    case ErrorCode::kNotFound: return as(NexusErrorType::kNotFound);
    case ErrorCode::kResourceExhausted: return as(NexusErrorType::kResourceExhausted);
    case ErrorCode::kUnimplemented: return as(NexusErrorType::kNotImplemented);
    case ErrorCode::kDeadlineExceeded: return as(NexusErrorType::kUpstreamTimeout);
    default: return as(NexusErrorType::kInternal);
  }
}

// What ties the workflow to the operation: whom to call at its end, and where it comes from.
void bind_to_operation(const temporal::api::nexus::v1::StartOperationRequest& start,
                       const std::string& token, api::StartWorkflowExecutionRequest& request) {
  for (const auto& each : start.links()) {
    if (auto link = nexus::from_url(each)) *request.add_links() = std::move(*link);
  }
  if (start.callback().empty()) return;
  auto& callback = *request.add_completion_callbacks();
  callback.mutable_nexus()->set_url(start.callback());
  auto& headers = *callback.mutable_nexus()->mutable_header();
  for (const auto& [name, text] : start.callback_header()) headers[name] = text;
  headers["nexus-operation-token"] = token;
  *callback.mutable_links() = request.links();
  // A run that is there already is told all of that, too.
  auto& joined = *request.mutable_on_conflict_options();
  joined.set_attach_request_id(true);
  joined.set_attach_completion_callbacks(true);
  joined.set_attach_links(true);
}

Link::WorkflowEvent started_event(const api::StartWorkflowExecutionRequest& request,
                                  const api::StartWorkflowExecutionResponse& response) {
  if (response.link().has_workflow_event()) return response.link().workflow_event();
  Link::WorkflowEvent event;
  event.set_namespace_(request.namespace_());
  event.set_workflow_id(request.workflow_id());
  event.set_run_id(response.run_id());
  event.mutable_event_ref()->set_event_type(enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED);
  return event;
}

}  // namespace

NexusContext::NexusContext(std::shared_ptr<detail::NexusTaskState> state)
    : state_(std::move(state)) {}
NexusContext::~NexusContext() = default;

const NexusInfo& NexusContext::info() const { return state_->info; }
const Client& NexusContext::client() const { return state_->client; }
std::stop_token NexusContext::stop_token() const { return state_->stop.get_token(); }
Logger NexusContext::log() const { return state_->log; }

Duration NexusContext::time_left() const {
  if (!state_->deadline) return Duration::max();
  return std::max<Duration>(*state_->deadline - std::chrono::steady_clock::now(), Duration::zero());
}

std::string NexusContext::start_payloads(std::string_view type, StartOptions options,
                                         Payloads input) {
  if (options.task_queue.empty()) options.task_queue = state_->info.task_queue;
  // A repeated request finds the run that the first one has started.
  if (options.request_id.empty()) options.request_id = state_->info.request_id;
  if (const auto checked = detail::check(options); !checked)
    throw NexusHandlerError{NexusErrorType::kInternal, checked.error().text(), false};
  const detail::ClientCore& core = *state_->client.core_;
  auto request = detail::start_request(core, type, options, std::move(input));
  std::string token = nexus::to_text({core.namespace_, options.id});
  bind_to_operation(state_->start, token, request);
  const auto response = core.call<api::StartWorkflowExecutionResponse>(
      methods::kStartWorkflow, request, options.id, detail::Access::kWrites);
  if (!response) throw to_handler_error(response.error());
  const std::lock_guard lock{state_->mutex};
  state_->links.push_back(nexus::to_url(started_event(request, *response)));
  return token;
}

namespace detail {

void cancel_nexus_workflow(NexusContext& context) {
  const auto token = nexus::read_token(context.info().token);
  if (!token || token->namespace_ != context.info().namespace_) {
    throw NexusHandlerError{NexusErrorType::kBadRequest,
                            "the token is not of a workflow of this namespace"};
  }
  const auto cancelled = context.client().handle(token->workflow_id).cancel();
  if (!cancelled) throw to_handler_error(cancelled.error());
}

void refuse_nexus_input(const PayloadError& error) {
  throw NexusHandlerError{NexusErrorType::kBadRequest,
                          fmt::format("the operation's input: {}", error.what())};
}

}  // namespace detail

}  // namespace tempora
