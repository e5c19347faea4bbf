// The commands that change a line: a client of the workflows, and of nothing else.

#include "commands.hpp"
#include "plan.hpp"
#include "temporal.hpp"

#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/v1/provision.pb.h>
#include <fmt/format.h>
#include <addrflow/catalog/payload.hpp>
#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>

#include <cstdio>
#include <random>

namespace addrflow::cli {
namespace {

std::string new_key() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

// Made here and told, so that the same request can be repeated when its answer was lost.
void ensure_key(Target& target) {
  if (target.key.empty() && !target.dry_run) {
    target.key = new_key();
    fmt::print(stderr, "key {}\n", target.key);
  }
}

// Tells two requests under one key apart: else the server, which knows an update or a workflow by
// its id alone, would answer the second with the outcome of the first. The ledger refuses it.
std::string fingerprint(const google::protobuf::Message& request) {
  const std::size_t hash = std::hash<std::string>{}(v1::to_json_text(request));
  return fmt::format("{:08x}", static_cast<std::uint32_t>(hash ^ (hash >> 32)));
}

std::expected<void, domain::FieldError> check(const Target& target) {
  if (auto valid = domain::check_service({target.tenant, target.subscriber, target.service});
      !valid) {
    return valid;
  }
  return domain::check_key("key", target.key);
}

// What all messages that name a line have in common, in the two shapes of the contract.
template <class Message>
void fill_flat(Message& message, const Target& target) {
  message.set_tenant_id(target.tenant);
  message.set_subscriber_id(target.subscriber);
  message.set_service(target.service);
  message.set_key(target.key);
  message.set_actor(target.actor);
  message.set_username(target.username);
  message.set_nas_ip(target.nas_ip);
}

template <class Message>
void fill_nested(Message& message, const Target& target) {
  v1::ServiceRef& service = *message.mutable_service();
  service.set_tenant_id(target.tenant);
  service.set_subscriber_id(target.subscriber);
  service.set_service(target.service);
  v1::Caller& caller = *message.mutable_caller();
  caller.set_key(target.key);
  caller.set_actor(target.actor);
  caller.set_reason(target.reason);
}

template <class Message>
void fill_families(Message& message, const Target& target) {
  for (const std::string& family : target.families) message.add_families(family);
}

// Which space, of either family.
template <class Message>
void fill_pools(Message& message, const ProvisionArguments& arguments) {
  message.set_ipv4_pool_id(arguments.pool);
  message.set_requested_address(arguments.address);
  message.set_ipv6_pool_id(arguments.ipv6_pool);
  message.set_requested_prefix(arguments.prefix);
  message.set_ipv6_pd_size(arguments.pd_size);
}

template <class Message>
void fill_space(Message& message, const ProvisionArguments& arguments) {
  fill_pools(message, arguments);
  message.set_optional_family(arguments.optional_family);
  message.set_restrict_when(arguments.restrict_when);
  message.set_plan(arguments.plan);
}

template <class Message>
void fill_lift(Message& message, const LiftArguments& arguments) {
  message.set_send_disconnect(!arguments.no_disconnect);
  message.set_release_to_pool(!arguments.keep_space);
  message.set_update_netbox(!arguments.skip_netbox);
}

template <class Message>
void fill_policies(Message& message, const ProvisionArguments& arguments) {
  message.set_send_coa(arguments.send_coa);
  message.set_update_netbox(!arguments.skip_netbox);
  message.set_on_coa_failure(arguments.on_coa_failure);
  message.set_on_netbox_failure(arguments.on_netbox_failure);
}

v1::SubscriberRequest subscriber_request(const Target& target, bool no_coa) {
  v1::SubscriberRequest request;
  fill_flat(request, target);
  request.set_reason(target.reason);
  request.set_send_coa(!no_coa);
  fill_families(request, target);
  return request;
}

// `kind` as v1::PlanRequest has it.
Exit plan_of(const Shell& shell, const Target& target, const std::string& kind,
             const google::protobuf::Message& request) {
  if (auto valid = domain::check_service({target.tenant, target.subscriber, target.service});
      !valid) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", valid.error().message);
  }
  v1::PlanRequest plan;
  plan.mutable_service()->set_tenant_id(target.tenant);
  plan.mutable_service()->set_subscriber_id(target.subscriber);
  plan.mutable_service()->set_service(target.service);
  plan.set_kind(kind);
  plan.set_request_json(v1::to_json_text(request));
  return run_plan(shell, plan);
}

// The same key reaches the same run: a repeat waits for it, or reads its result.
template <class Request>
Exit run_composition(const Shell& shell, const Target& target, const char* workflow,
                     const char* verb, const Request& request) {
  if (target.dry_run) return plan_of(shell, target, workflow, request);
  if (auto valid = check(target); !valid) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", valid.error().message);
  }
  auto client = connect_temporal();
  if (!client) {
    return report(shell.output, client.error());
  }
  tempora::StartOptions options;
  options.id =
      fmt::format("{}/{}/{}/{}/{}.{}", verb, domain::escape_part(target.tenant),
                  domain::escape_part(target.subscriber), domain::escape_part(target.service),
                  domain::escape_part(target.key), fingerprint(request));
  options.task_queue = workflows::kTaskQueue;
  options.conflict = tempora::IdConflictPolicy::kUseExisting;
  options.priority.fairness_key = target.tenant;
  auto started = client->start(workflow, options, request);
  if (!started) {
    return report(shell.output, started.error());
  }
  auto result = started->template result<v1::CompositionResult>();
  return result ? shell.output.result(*result) : report(shell.output, result.error());
}

template <class Request>
Exit run_operation(const Shell& shell, const Target& target, domain::Operation operation,
                   const Request& request) {
  if (target.dry_run) return plan_of(shell, target, std::string{to_string(operation)}, request);
  if (auto valid = check(target); !valid) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", valid.error().message);
  }
  auto client = connect_temporal();
  if (!client) {
    return report(shell.output, client.error());
  }
  tempora::StartOptions options;
  options.id = domain::service_workflow_id({target.tenant, target.subscriber, target.service});
  options.task_queue = workflows::kTaskQueue;
  options.conflict = tempora::IdConflictPolicy::kUseExisting;
  options.priority.fairness_key = target.tenant;
  tempora::UpdateOptions update;
  update.id = domain::update_id(operation, target.key) + "." + fingerprint(request);
  const std::string name(to_string(operation));
  auto answer = client->update_with_start<v1::LifecycleResult>(
      workflows::service_lifecycle::kName, options, tempora::encode_all(request.service()), name,
      update, request);
  return answer ? shell.output.result(answer->outcome) : report(shell.output, answer.error());
}

}  // namespace

Exit run_provision(const Shell& shell, Target target, const ProvisionArguments& arguments) {
  ensure_key(target);
  v1::ProvisionRequest request;
  fill_flat(request, target);
  request.set_reason(target.reason);
  request.set_enable_ipv4(!arguments.no_ipv4);
  request.set_enable_ipv6(arguments.ipv6);
  fill_space(request, arguments);
  fill_policies(request, arguments);
  return run_composition(shell, target, workflows::kProvisionSubscriber, "provision", request);
}

Exit run_deprovision(const Shell& shell, Target target, const LiftArguments& arguments) {
  ensure_key(target);
  v1::DeprovisionRequest request;
  fill_flat(request, target);
  request.set_reason(target.reason);
  fill_families(request, target);
  fill_lift(request, arguments);
  return run_composition(shell, target, workflows::kDeprovisionSubscriber, "deprovision", request);
}

Exit run_suspend(const Shell& shell, Target target, bool no_coa) {
  ensure_key(target);
  return run_composition(shell, target, workflows::kSuspendSubscriber, "suspend",
                         subscriber_request(target, no_coa));
}

Exit run_reactivate(const Shell& shell, Target target, bool no_coa) {
  ensure_key(target);
  return run_composition(shell, target, workflows::kReactivateSubscriber, "reactivate",
                         subscriber_request(target, no_coa));
}

Exit run_allocate(const Shell& shell, Target target, const ProvisionArguments& arguments) {
  ensure_key(target);
  v1::AllocateRequest request;
  fill_nested(request, target);
  request.set_username(target.username);
  request.set_nas_ip(target.nas_ip);
  fill_families(request, target);
  fill_space(request, arguments);
  request.set_on_netbox_failure(arguments.on_netbox_failure);
  if (arguments.skip_netbox) request.set_update_netbox(false);
  return run_operation(shell, target, domain::Operation::kAllocate, request);
}

Exit run_activate(const Shell& shell, Target target, const ProvisionArguments& arguments) {
  ensure_key(target);
  v1::ActivateRequest request;
  fill_nested(request, target);
  request.set_username(target.username);
  request.set_nas_ip(target.nas_ip);
  fill_families(request, target);
  fill_policies(request, arguments);
  return run_operation(shell, target, domain::Operation::kActivate, request);
}

Exit run_revoke(const Shell& shell, Target target, const LiftArguments& arguments) {
  ensure_key(target);
  v1::RevokeRequest request;
  fill_nested(request, target);
  request.set_username(target.username);
  request.set_nas_ip(target.nas_ip);
  fill_families(request, target);
  fill_lift(request, arguments);
  if (arguments.generation) {
    request.set_generation(*arguments.generation);
  }
  return run_operation(shell, target, domain::Operation::kRevoke, request);
}

Exit run_retry(const Shell& shell, Target target) {
  ensure_key(target);
  v1::RetryRequest request;
  fill_nested(request, target);
  fill_families(request, target);
  return run_operation(shell, target, domain::Operation::kRetry, request);
}

Exit run_adopt(const Shell& shell, Target target, const std::string& state) {
  ensure_key(target);
  v1::AdoptRequest request;
  fill_nested(request, target);
  request.set_state(state);
  fill_families(request, target);
  return run_operation(shell, target, domain::Operation::kAdopt, request);
}

Exit run_force_release(const Shell& shell, Target target) {
  ensure_key(target);
  v1::ForceReleaseRequest request;
  fill_nested(request, target);
  fill_families(request, target);
  return run_operation(shell, target, domain::Operation::kForceRelease, request);
}

Exit run_move(const Shell& shell, Target target, const LiftArguments& arguments) {
  ensure_key(target);
  v1::MoveRequest request;
  fill_nested(request, target);
  request.set_nas_ip(target.nas_ip);
  request.set_send_disconnect(!arguments.no_disconnect);
  return run_operation(shell, target, domain::Operation::kMove, request);
}

Exit run_rebind(const Shell& shell, Target target, const LiftArguments& arguments) {
  ensure_key(target);
  v1::RebindRequest request;
  fill_nested(request, target);
  request.set_username(target.username);
  request.set_send_disconnect(!arguments.no_disconnect);
  return run_operation(shell, target, domain::Operation::kRebind, request);
}

Exit run_change_plan(const Shell& shell, Target target, const ProvisionArguments& arguments,
                     bool no_coa) {
  ensure_key(target);
  v1::ChangePlanRequest request;
  fill_nested(request, target);
  request.set_plan(arguments.plan);
  request.set_send_coa(!no_coa);
  request.set_on_coa_failure(arguments.on_coa_failure);
  return run_operation(shell, target, domain::Operation::kChangePlan, request);
}

Exit run_readdress(const Shell& shell, Target target, const ProvisionArguments& arguments,
                   bool no_coa) {
  ensure_key(target);
  v1::ReaddressRequest request;
  fill_nested(request, target);
  fill_families(request, target);
  fill_pools(request, arguments);
  request.set_nas_ip(target.nas_ip);
  request.set_send_coa(!no_coa);
  request.set_update_netbox(!arguments.skip_netbox);
  return run_operation(shell, target, domain::Operation::kReaddress, request);
}

}  // namespace addrflow::cli
