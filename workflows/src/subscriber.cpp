#include "subscriber.hpp"

#include "failures.hpp"
#include "order.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/workflows/names.hpp>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using domain::FieldError;
using domain::Operation;
using Checked = std::expected<void, FieldError>;

constexpr std::size_t kLongestText = 256;
constexpr std::size_t kLongestUsername = 253;
constexpr std::size_t kLongestPlan = 64;

// Reads the input and says what is wrong with it in the caller's words: the workflow fails at once,
// nothing is changed.
template <class Request>
Request read_input(const tempora::RawPayload& input) {
  Request request;
  if (input.payload.metadata().empty() && input.payload.data().empty()) return request;
  try {
    v1::decode_payload(input.payload, request);
  } catch (const tempora::PayloadError& error) {
    throw refusal(ErrorCode::kInvalidArgument, error.what());
  }
  return request;
}

void require(const Checked& checked) {
  if (!checked) throw refusal(checked.error());
}

// Who is meant. `customer_id` is the seeds' name for the subscriber (C9).
template <class Request>
void adopt_subject(Request& request) {
  require(domain::check_id("tenant_id", request.tenant_id()));
  if (request.subscriber_id().empty() && !request.customer_id().empty()) {
    require(domain::check_id("customer_id", request.customer_id()));
    request.set_subscriber_id(request.customer_id());
  }
  require(domain::check_id("subscriber_id", request.subscriber_id()));
  if (!request.customer_id().empty() && request.customer_id() != request.subscriber_id()) {
    throw refusal(ErrorCode::kInvalidArgument, "customer_id and subscriber_id differ: give one");
  }
  request.clear_customer_id();
  if (request.service().empty()) request.set_service(std::string{domain::kDefaultService});
  require(domain::check_id("service", request.service()));
  if (!request.key().empty()) require(domain::check_key("key", request.key()));
  require(check_text("actor", request.actor(), kLongestText));
  require(check_text("username", request.username(), kLongestUsername));
  require(check_address("nas_ip", request.nas_ip()));
}

void check_shape(v1::ProvisionRequest& request) {
  adopt_subject(request);
  if (request.enable_ipv6())
    throw refusal(ErrorCode::kUnsupported, "not supported yet: enable_ipv6");
  if (request.has_enable_ipv4() && !request.enable_ipv4()) {
    throw refusal(ErrorCode::kInvalidArgument,
                  "enable_ipv4 is false: there is nothing to provision");
  }
  require(check_text("ipv4_pool_id", request.ipv4_pool_id(), kLongestText));
  require(check_address("requested_address", request.requested_address()));
  require(check_text("plan", request.plan(), kLongestPlan));
  require(check_policy("on_coa_failure", request.on_coa_failure()));
  require(check_policy("on_netbox_failure", request.on_netbox_failure()));
}

// One request is another's repeat if they want the same; who asks, and under which key, is not part
// of it.
template <class Request>
std::string hash_of(Request request, std::string_view kind) {
  request.clear_key();
  request.clear_actor();
  return sha256_hex(std::string{kind} + canonical_json(request, ""));
}

template <class Request>
v1::ServiceRef service_of(const Request& request) {
  v1::ServiceRef service;
  service.set_tenant_id(request.tenant_id());
  service.set_subscriber_id(request.subscriber_id());
  service.set_service(request.service());
  return service;
}

template <class Request>
std::string key_of(const Context& context, const Request& request) {
  return request.key().empty() ? domain::key_from(context.info().workflow_id) : request.key();
}

template <class Request>
std::string actor_of(const Request& request) {
  return request.actor().empty() ? "unknown" : request.actor();
}

void expect_state(const v1::LifecycleResult& result, std::string_view state) {
  if (result.state() == state) return;
  throw refusal(ErrorCode::kConflict, "the service is " + result.state() + ", not " +
                                          std::string{state} +
                                          ": somebody else changed it meanwhile");
}

}  // namespace

// --- provision
// ---------------------------------------------------------------------------------------------------------

ProvisionSubscriber::ProvisionSubscriber()
    : Composition({kStepAllocate, kStepActivateIpv4, kStepVerify}) {}

Task<v1::CompositionResult> ProvisionSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::ProvisionRequest>(input);
  check_shape(request_);
  return carry_out(context, {.service = service_of(request_),
                             .kind = "provision",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "provision")});
}

Task<void> ProvisionSubscriber::perform(Context& context) {
  v1::ComposeUpdateRequest wanted = request_for(Operation::kAllocate, kStepAllocate);
  v1::AllocateRequest& allocate = *wanted.mutable_allocate();
  *allocate.mutable_service() = subject().service;
  *allocate.mutable_caller() = caller_for(kStepAllocate, "provision");
  allocate.set_ipv4_pool_id(request_.ipv4_pool_id());
  allocate.set_requested_address(request_.requested_address());
  allocate.set_username(request_.username());
  allocate.set_nas_ip(request_.nas_ip());
  allocate.set_plan(request_.plan());
  allocate.set_on_netbox_failure(request_.on_netbox_failure());
  allocate.set_created_by(subject().key);
  const v1::LifecycleResult allocated = co_await step(context, kStepAllocate, wanted);

  v1::ComposeUpdateRequest entitled = request_for(Operation::kActivate, kStepActivateIpv4);
  v1::ActivateRequest& activate = *entitled.mutable_activate();
  *activate.mutable_service() = subject().service;
  *activate.mutable_caller() = caller_for(kStepActivateIpv4, "provision");
  activate.set_username(request_.username());
  activate.set_nas_ip(request_.nas_ip());
  activate.set_send_coa(request_.send_coa());
  if (request_.has_update_netbox()) activate.set_update_netbox(request_.update_netbox());
  activate.set_on_coa_failure(request_.on_coa_failure());
  activate.set_on_netbox_failure(request_.on_netbox_failure());
  const v1::LifecycleResult activated = co_await step(context, kStepActivateIpv4, entitled);

  mark(kStepVerify, "running");
  expect_state(activated, "active");
  if (activated.address() != allocated.address()) {
    throw refusal(ErrorCode::kConflict, "the address changed from " + allocated.address() + " to " +
                                            activated.address() + " meanwhile");
  }
  mark(kStepVerify, "done");
}

// Revokes what this request created, and nothing else: a line that was there before stays as it
// was.
Task<void> ProvisionSubscriber::take_back(Context& context, std::string reason) {
  if (!maybe_done(kStepAllocate)) co_return;
  v1::ComposeUpdateRequest wanted = request_for(Operation::kRevoke, "undo");
  v1::RevokeRequest& revoke = *wanted.mutable_revoke();
  *revoke.mutable_service() = subject().service;
  reason.resize(std::min(reason.size(), kLongestText));
  *revoke.mutable_caller() = caller_for("undo", std::move(reason));
  revoke.set_only_created_by(subject().key);
  co_await undo_step(context, wanted);
}

// --- deprovision
// -------------------------------------------------------------------------------------------------------

DeprovisionSubscriber::DeprovisionSubscriber() : Composition({kStepRevokeIpv4, kStepVerify}) {}

Task<v1::CompositionResult> DeprovisionSubscriber::run(Context& context,
                                                       tempora::RawPayload input) {
  request_ = read_input<v1::DeprovisionRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "deprovision",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "deprovision")});
}

Task<void> DeprovisionSubscriber::perform(Context& context) {
  v1::ComposeUpdateRequest wanted = request_for(Operation::kRevoke, kStepRevokeIpv4);
  v1::RevokeRequest& revoke = *wanted.mutable_revoke();
  *revoke.mutable_service() = subject().service;
  *revoke.mutable_caller() = caller_for(kStepRevokeIpv4, request_.reason());
  revoke.set_username(request_.username());
  revoke.set_nas_ip(request_.nas_ip());
  if (request_.has_send_disconnect()) revoke.set_send_disconnect(request_.send_disconnect());
  if (request_.has_release_to_pool()) revoke.set_release_to_pool(request_.release_to_pool());
  if (request_.has_update_netbox()) revoke.set_update_netbox(request_.update_netbox());
  const v1::LifecycleResult revoked = co_await step(context, kStepRevokeIpv4, wanted);
  mark(kStepVerify, "running");
  // Nothing was held: there is no state at all. `revoking`: the service's own workflow sees to the
  // rest.
  if (!revoked.state().empty() && revoked.state() != "revoking") expect_state(revoked, "revoked");
  mark(kStepVerify, "done");
}

// --- suspend and reactivate
// --------------------------------------------------------------------------------------------

SuspendSubscriber::SuspendSubscriber() : Composition({kStepSuspendIpv4}) {}

Task<v1::CompositionResult> SuspendSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::SubscriberRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "suspend",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "suspend")});
}

Task<void> SuspendSubscriber::perform(Context& context) {
  v1::ComposeUpdateRequest wanted = request_for(Operation::kSuspend, kStepSuspendIpv4);
  v1::SuspendRequest& suspend = *wanted.mutable_suspend();
  *suspend.mutable_service() = subject().service;
  *suspend.mutable_caller() = caller_for(kStepSuspendIpv4, request_.reason());
  suspend.set_username(request_.username());
  suspend.set_nas_ip(request_.nas_ip());
  if (request_.has_send_coa()) suspend.set_send_coa(request_.send_coa());
  co_await step(context, kStepSuspendIpv4, wanted);
}

ReactivateSubscriber::ReactivateSubscriber() : Composition({kStepReactivateIpv4}) {}

Task<v1::CompositionResult> ReactivateSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::SubscriberRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "reactivate",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "reactivate")});
}

Task<void> ReactivateSubscriber::perform(Context& context) {
  v1::ComposeUpdateRequest wanted = request_for(Operation::kReactivate, kStepReactivateIpv4);
  v1::ReactivateRequest& reactivate = *wanted.mutable_reactivate();
  *reactivate.mutable_service() = subject().service;
  *reactivate.mutable_caller() = caller_for(kStepReactivateIpv4, request_.reason());
  reactivate.set_username(request_.username());
  reactivate.set_nas_ip(request_.nas_ip());
  if (request_.has_send_coa()) reactivate.set_send_coa(request_.send_coa());
  co_await step(context, kStepReactivateIpv4, wanted);
}

// --- the table of names
// ------------------------------------------------------------------------------------------------

using tempora::query;
using tempora::signal;

const tempora::Definition<ProvisionSubscriber> kProvisionDefinition{
    kProvisionSubscriber, tempora::run(&ProvisionSubscriber::run),
    signal(kGiveUp, &ProvisionSubscriber::give_up),
    query(kProgress, &ProvisionSubscriber::progress)};
const tempora::Definition<DeprovisionSubscriber> kDeprovisionDefinition{
    kDeprovisionSubscriber, tempora::run(&DeprovisionSubscriber::run),
    signal(kGiveUp, &DeprovisionSubscriber::give_up),
    query(kProgress, &DeprovisionSubscriber::progress)};
const tempora::Definition<SuspendSubscriber> kSuspendDefinition{
    kSuspendSubscriber, tempora::run(&SuspendSubscriber::run),
    signal(kGiveUp, &SuspendSubscriber::give_up), query(kProgress, &SuspendSubscriber::progress)};
const tempora::Definition<ReactivateSubscriber> kReactivateDefinition{
    kReactivateSubscriber, tempora::run(&ReactivateSubscriber::run),
    signal(kGiveUp, &ReactivateSubscriber::give_up),
    query(kProgress, &ReactivateSubscriber::progress)};

}  // namespace addrflow::workflows
