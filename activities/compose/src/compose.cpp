#include "answers.hpp"

#include <addrflow/compose/compose.hpp>
#include <addrflow/domain/errors.hpp>
#include <addrflow/domain/ids.hpp>

namespace addrflow::compose {
namespace {

using tempora::ActivityContext;
using tempora::ApplicationError;
using tempora::ClientError;

constexpr const char* kServiceWorkflow = "ServiceLifecycle";
constexpr const char* kWakeSignal = "wake";
constexpr const char* kGiveUpSignal = "give_up";

std::string workflow_id_of(const v1::ServiceRef& service) {
  return domain::service_workflow_id(
      {service.tenant_id(), service.subscriber_id(), service.service()});
}

tempora::StartOptions start_options(const v1::ServiceRef& service) {
  tempora::StartOptions options;
  options.id = workflow_id_of(service);
  options.task_queue = catalog::kMainQueue;
  options.conflict = tempora::IdConflictPolicy::kUseExisting;
  options.priority.fairness_key = service.tenant_id();
  return options;
}

tempora::Payloads input_of(const v1::ServiceRef& service) {
  v1::ServiceInput input;
  input.set_tenant_id(service.tenant_id());
  input.set_subscriber_id(service.subscriber_id());
  input.set_service(service.service());
  return tempora::encode_all(input);
}

// The operation's own request, as the update's argument.
tempora::Payloads argument_of(const v1::ComposeUpdateRequest& request) {
  if (request.has_allocate()) return tempora::encode_all(request.allocate());
  if (request.has_activate()) return tempora::encode_all(request.activate());
  if (request.has_suspend()) return tempora::encode_all(request.suspend());
  if (request.has_reactivate()) return tempora::encode_all(request.reactivate());
  if (request.has_revoke()) return tempora::encode_all(request.revoke());
  throw ApplicationError{"a compose_update needs the request of its operation", "invalid_argument",
                         true};
}

[[noreturn]] void try_again(const ClientError& error) {
  throw ApplicationError{error.text(),
                         std::string{domain::to_string(domain::ErrorCode::kUnavailable)}, false};
}

// Returns when the same call may be made again; throws when it would not help this attempt.
void wait_or_try_again(const ActivityContext& context, const ClientError& error) {
  if (error.code == tempora::ErrorCode::kTimeLimit) return;
  if (!error.retryable) try_again(error);
  context.wait_cancelled(std::chrono::milliseconds{250});
}

}  // namespace

ComposeActivities::ComposeActivities(tempora::Client client, Options options)
    : client_(std::move(client)), options_(options) {}

v1::ComposeUpdateReply ComposeActivities::update(ActivityContext& context,
                                                 const v1::ComposeUpdateRequest& request) const {
  const tempora::Payloads argument = argument_of(request);
  tempora::UpdateOptions options;
  options.id = request.update_id();
  options.limit = options_.slice;
  for (;;) {
    context.heartbeat(request.update_id());
    context.throw_if_cancelled();
    auto answer = client_.update_with_start_payloads(
        kServiceWorkflow, start_options(request.service()), input_of(request.service()),
        request.operation(), options, argument);
    v1::ComposeUpdateReply reply;
    if (answer) {
      *reply.mutable_result() = tempora::decode_argument<v1::LifecycleResult>(answer->outcome);
      return reply;
    }
    if (auto refused = refusal_in(answer.error(), request.operation())) {
      *reply.mutable_result() = *std::move(refused);
      return reply;
    }
    wait_or_try_again(context, answer.error());
  }
}

v1::ComposeWaitReply ComposeActivities::wait(ActivityContext& context,
                                             const v1::ComposeWaitRequest& request) const {
  const tempora::WorkflowHandle other = client_.handle(request.workflow_id(), request.run_id());
  v1::ComposeWaitReply reply;
  if (request.look_only()) {
    const auto described = other.describe();
    if (!described && described.error().code != tempora::ErrorCode::kNotFound) {
      try_again(described.error());
    }
    reply.set_closed(!described || described->status != tempora::WorkflowStatus::kRunning);
    reply.set_status(described ? std::string{tempora::to_string(described->status)} : "not_found");
    return reply;
  }
  if (request.give_up()) {
    const auto told = other.signal(kGiveUpSignal, std::string{"another request came first"});
    if (!told && told.error().code != tempora::ErrorCode::kNotFound) try_again(told.error());
  }
  tempora::ResultOptions options;
  options.limit = options_.slice;
  for (;;) {
    context.heartbeat(request.workflow_id());
    context.throw_if_cancelled();
    const auto result = other.result<v1::CompositionResult>(options);
    if (result) {
      reply.set_closed(true);
      reply.set_status("completed");
      *reply.mutable_result() = *result;
      return reply;
    }
    if (auto ended = end_in(result.error())) return *std::move(ended);
    wait_or_try_again(context, result.error());
  }
}

void register_activities(tempora::Worker& worker, const ComposeActivities& activities) {
  worker.add(catalog::kComposeUpdate,
             [activities](ActivityContext& context, const v1::ComposeUpdateRequest& request) {
               return activities.update(context, request);
             });
  worker.add(catalog::kComposeWait,
             [activities](ActivityContext& context, const v1::ComposeWaitRequest& request) {
               return activities.wait(context, request);
             });
}

ClientWaker::ClientWaker(tempora::Client client, tempora::Logger log)
    : client_(std::move(client)), log_(std::move(log)) {}

bool ClientWaker::wake(const v1::ServiceRef& service) noexcept {
  try {
    const auto woken = client_.signal_with_start(kServiceWorkflow, start_options(service),
                                                 input_of(service), kWakeSignal);
    if (!woken) {
      log_.warn("{} could not be woken: {}", workflow_id_of(service), woken.error().text());
    }
    return woken.has_value();
  } catch (const std::exception& error) {
    log_.warn("a service could not be woken: {}", error.what());
    return false;
  }
}

}  // namespace addrflow::compose
