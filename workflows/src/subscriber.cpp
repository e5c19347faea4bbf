#include "subscriber.hpp"

#include "failures.hpp"
#include "order.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/workflows/names.hpp>
#include <algorithm>

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
  const bool ipv4 = !request.has_enable_ipv4() || request.enable_ipv4();
  if (!ipv4 && !request.enable_ipv6()) {
    throw refusal(ErrorCode::kInvalidArgument,
                  "enable_ipv4 and enable_ipv6 are false: there is nothing to provision");
  }
  require(check_text("ipv4_pool_id", request.ipv4_pool_id(), kLongestText));
  require(check_address("requested_address", request.requested_address()));
  require(check_text("ipv6_pool_id", request.ipv6_pool_id(), kLongestText));
  require(domain::check_pd_size("ipv6_pd_size", request.ipv6_pd_size()));
  require(adopt_prefix("requested_prefix", *request.mutable_requested_prefix(),
                       request.ipv6_pd_size()));
  if (!ipv4 && !request.requested_address().empty())
    throw refusal(ErrorCode::kInvalidArgument, "requested_address is given without enable_ipv4");
  if (!request.enable_ipv6() && !request.requested_prefix().empty())
    throw refusal(ErrorCode::kInvalidArgument, "requested_prefix is given without enable_ipv6");
  if (!request.optional_family().empty()) {
    require(check_family("optional_family", request.optional_family()));
    if (!ipv4 || !request.enable_ipv6())
      throw refusal(ErrorCode::kInvalidArgument, "optional_family needs another family beside it");
  }
  require(check_restriction("restrict_when", request.restrict_when()));
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

const v1::BindingView* binding_of(const v1::ServiceView& view, std::string_view family) {
  for (const v1::BindingView& binding : view.bindings()) {
    if (binding.family() == family) return &binding;
  }
  return nullptr;
}

// What an answer says of one family.
std::string state_in(const v1::LifecycleResult& result, std::string_view family) {
  const v1::BindingView* binding = binding_of(result.service_view(), family);
  if (result.service_view().bindings().empty()) return result.state();
  return binding == nullptr ? "" : binding->state();
}
std::string space_in(const v1::LifecycleResult& result, std::string_view family) {
  const v1::BindingView* binding = binding_of(result.service_view(), family);
  if (result.service_view().bindings().empty()) return result.address();
  if (binding == nullptr) return {};
  return binding->prefix().empty() ? binding->address() : binding->prefix();
}

[[noreturn]] void changed_meanwhile(std::string_view family, const std::string& state,
                                    std::string_view expected) {
  throw refusal(ErrorCode::kConflict, std::string{family} + " is " + state + ", not " +
                                          std::string{expected} +
                                          ": somebody else changed it meanwhile");
}

bool has(const std::vector<std::string>& families, std::string_view family) {
  return std::ranges::find(families, family) != families.end();
}

// The seeds' names of a step for either family.
struct StepNames {
  const char* ipv4;
  const char* ipv6;
  const char* of(std::string_view family) const {
    return family == domain::kFamilyIpv4 ? ipv4 : ipv6;
  }
};
constexpr StepNames kActivateSteps{kStepActivateIpv4, kStepActivateIpv6};
constexpr StepNames kSuspendSteps{kStepSuspendIpv4, kStepSuspendIpv6};
constexpr StepNames kReactivateSteps{kStepReactivateIpv4, kStepReactivateIpv6};
constexpr StepNames kRevokeSteps{kStepRevokeIpv4, kStepRevokeIpv6};

// The families of a request: those it names, else those that the line has or had. The latter do not
// change while the request is carried out, so its operations keep their keys when it is run again.
template <class Request>
std::vector<std::string> families_of(const Request& request, const v1::ServiceView& view) {
  std::vector<std::string> families(request.families().begin(), request.families().end());
  if (families.empty()) {
    for (const v1::BindingView& binding : view.bindings()) families.push_back(binding.family());
  }
  if (families.empty()) families.emplace_back(domain::kFamilyIpv4);
  std::ranges::sort(families);
  return families;
}

std::vector<std::string> steps_of(const StepNames& names,
                                  const std::vector<std::string>& families) {
  std::vector<std::string> steps;
  for (const std::string& family : families) steps.emplace_back(names.of(family));
  return steps;
}

}  // namespace

// --- provision
// ---------------------------------------------------------------------------------------------------------

ProvisionSubscriber::ProvisionSubscriber()
    : Composition({kStepAllocate, kStepActivateIpv4, kStepVerify}) {
  make_optional(kStepVerify);
}

Task<v1::CompositionResult> ProvisionSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::ProvisionRequest>(input);
  check_shape(request_);
  std::vector<std::string> steps{kStepAllocate};
  if (!request_.has_enable_ipv4() || request_.enable_ipv4()) steps.emplace_back(kStepActivateIpv4);
  if (request_.enable_ipv6()) steps.emplace_back(kStepActivateIpv6);
  steps.emplace_back(kStepVerify);
  set_steps(steps);
  return carry_out(context, {.service = service_of(request_),
                             .kind = "provision",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "provision")});
}

v1::ComposeUpdateRequest ProvisionSubscriber::allocation() const {
  v1::ComposeUpdateRequest wanted = request_for(Operation::kAllocate, kStepAllocate);
  v1::AllocateRequest& allocate = *wanted.mutable_allocate();
  *allocate.mutable_service() = subject().service;
  *allocate.mutable_caller() = caller_for(kStepAllocate, "provision");
  for (const std::string& family : families_) allocate.add_families(family);
  if (has(families_, domain::kFamilyIpv4)) {
    allocate.set_ipv4_pool_id(request_.ipv4_pool_id());
    allocate.set_requested_address(request_.requested_address());
  }
  if (has(families_, domain::kFamilyIpv6Pd)) {
    allocate.set_ipv6_pool_id(request_.ipv6_pool_id());
    allocate.set_requested_prefix(request_.requested_prefix());
    allocate.set_ipv6_pd_size(request_.ipv6_pd_size());
  }
  if (families_.size() > 1) allocate.set_optional_family(request_.optional_family());
  allocate.set_restrict_when(request_.restrict_when());
  allocate.set_username(request_.username());
  allocate.set_nas_ip(request_.nas_ip());
  allocate.set_plan(request_.plan());
  allocate.set_on_netbox_failure(request_.on_netbox_failure());
  allocate.set_created_by(subject().key);
  return wanted;
}

v1::ComposeUpdateRequest ProvisionSubscriber::activation(
    const std::vector<std::string>& families) const {
  const char* step = kActivateSteps.of(families.front());
  v1::ComposeUpdateRequest entitled = request_for(Operation::kActivate, step);
  v1::ActivateRequest& activate = *entitled.mutable_activate();
  *activate.mutable_service() = subject().service;
  *activate.mutable_caller() = caller_for(step, "provision");
  for (const std::string& family : families) activate.add_families(family);
  activate.set_username(request_.username());
  activate.set_nas_ip(request_.nas_ip());
  activate.set_send_coa(request_.send_coa());
  if (request_.has_update_netbox()) activate.set_update_netbox(request_.update_netbox());
  activate.set_on_coa_failure(request_.on_coa_failure());
  activate.set_on_netbox_failure(request_.on_netbox_failure());
  return entitled;
}

// A family that the line has already stays as it is while the other one is added to it.
void ProvisionSubscriber::choose_families() {
  if (!request_.has_enable_ipv4() || request_.enable_ipv4())
    families_.emplace_back(domain::kFamilyIpv4);
  if (request_.enable_ipv6()) families_.emplace_back(domain::kFamilyIpv6Pd);
  if (families_.size() < 2) return;
  const auto active = [this](const std::string& family) {
    const v1::BindingView* binding = binding_of(view(), family);
    return binding != nullptr && binding->state() == "active";
  };
  if (active(families_[0]) == active(families_[1])) return;
  const std::string there = active(families_[0]) ? families_[0] : families_[1];
  const v1::BindingView& binding = *binding_of(view(), there);
  const bool ipv4 = there == domain::kFamilyIpv4;
  const std::string& asked = ipv4 ? request_.requested_address() : request_.requested_prefix();
  const std::string& held = ipv4 ? binding.address() : binding.prefix();
  if (!asked.empty() && asked != held) {
    throw refusal(ErrorCode::kConflict,
                  std::string{ipv4 ? "requested_address" : "requested_prefix"} +
                      " differs from the one held: " + held);
  }
  std::erase(families_, there);
  mark(kActivateSteps.of(there), "skipped", "active already: " + held);
}

Task<void> ProvisionSubscriber::perform(Context& context) {
  choose_families();
  const v1::ComposeUpdateRequest wanted = allocation();
  const v1::LifecycleResult allocated = co_await step(context, kStepAllocate, wanted);

  std::vector<std::string> families = families_;
  for (const std::string& family : families_) {
    const bool known = allocated.service_view().bindings_size() > 0;
    if (family != request_.optional_family() || !known) continue;
    if (state_in(allocated, family) == "allocated") continue;
    std::erase(families, family);
    mark(kActivateSteps.of(family), "skipped", allocated.message());
  }
  if (families.size() > 1) together(kStepActivateIpv4, kStepActivateIpv6);
  const char* name = kActivateSteps.of(families.front());
  const v1::ComposeUpdateRequest entitled = activation(families);
  const v1::LifecycleResult activated = co_await step(context, name, entitled);

  if (!co_await begin(context, kStepVerify)) co_return;
  for (const std::string& family : families) {
    const std::string state = state_in(activated, family);
    if (state != "active") changed_meanwhile(family, state, "active");
    if (space_in(activated, family) != space_in(allocated, family)) {
      throw refusal(ErrorCode::kConflict, "the address changed from " +
                                              space_in(allocated, family) + " to " +
                                              space_in(activated, family) + " meanwhile");
    }
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
  for (const std::string& family : families_) revoke.add_families(family);
  // A line that lives on with its other family is not cut for an undo: the hold time decides when
  // the space is free.
  const bool lives_on = std::ranges::any_of(view().bindings(), [this](const auto& binding) {
    return (binding.state() == "active" || binding.state() == "suspended") &&
           !has(families_, binding.family());
  });
  if (lives_on) revoke.set_send_disconnect(false);
  co_await undo_step(context, wanted);
}

// --- deprovision
// -------------------------------------------------------------------------------------------------------

DeprovisionSubscriber::DeprovisionSubscriber() : Composition({kStepRevokeIpv4, kStepVerify}) {
  make_optional(kStepVerify);
}

Task<v1::CompositionResult> DeprovisionSubscriber::run(Context& context,
                                                       tempora::RawPayload input) {
  request_ = read_input<v1::DeprovisionRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  require(check_families(request_.families()));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "deprovision",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "deprovision")});
}

Task<void> DeprovisionSubscriber::perform(Context& context) {
  const std::vector<std::string> families = families_of(request_, view());
  std::vector<std::string> steps = steps_of(kRevokeSteps, families);
  steps.emplace_back(kStepVerify);
  set_steps(steps);
  // One revoke for both: one Disconnect, one change of the AAA rows.
  const char* name = kRevokeSteps.of(families.front());
  together(name, kRevokeSteps.of(families.back()));
  v1::ComposeUpdateRequest wanted = request_for(Operation::kRevoke, name);
  v1::RevokeRequest& revoke = *wanted.mutable_revoke();
  *revoke.mutable_service() = subject().service;
  *revoke.mutable_caller() = caller_for(name, request_.reason());
  *revoke.mutable_families() = request_.families();
  revoke.set_username(request_.username());
  revoke.set_nas_ip(request_.nas_ip());
  if (request_.has_send_disconnect()) revoke.set_send_disconnect(request_.send_disconnect());
  if (request_.has_release_to_pool()) revoke.set_release_to_pool(request_.release_to_pool());
  if (request_.has_update_netbox()) revoke.set_update_netbox(request_.update_netbox());
  const v1::LifecycleResult revoked = co_await step(context, name, wanted);
  if (!co_await begin(context, kStepVerify)) co_return;
  // Nothing was held: there is no state at all. `revoking`: the service's own workflow sees to the
  // rest.
  for (const std::string& family : families) {
    const std::string state = state_in(revoked, family);
    if (!state.empty() && state != "revoking" && state != "revoked")
      changed_meanwhile(family, state, "revoked");
  }
  mark(kStepVerify, "done");
}

// --- suspend and reactivate
// --------------------------------------------------------------------------------------------

SuspendSubscriber::SuspendSubscriber() : Composition({kStepSuspendIpv4}) {}

Task<v1::CompositionResult> SuspendSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::SubscriberRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  require(check_families(request_.families()));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "suspend",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "suspend")});
}

Task<void> SuspendSubscriber::perform(Context& context) {
  const std::vector<std::string> families = families_of(request_, view());
  set_steps(steps_of(kSuspendSteps, families));
  const char* name = kSuspendSteps.of(families.front());
  together(name, kSuspendSteps.of(families.back()));
  v1::ComposeUpdateRequest wanted = request_for(Operation::kSuspend, name);
  v1::SuspendRequest& suspend = *wanted.mutable_suspend();
  *suspend.mutable_service() = subject().service;
  *suspend.mutable_caller() = caller_for(name, request_.reason());
  *suspend.mutable_families() = request_.families();
  suspend.set_username(request_.username());
  suspend.set_nas_ip(request_.nas_ip());
  if (request_.has_send_coa()) suspend.set_send_coa(request_.send_coa());
  co_await step(context, name, wanted);
}

ReactivateSubscriber::ReactivateSubscriber() : Composition({kStepReactivateIpv4}) {}

Task<v1::CompositionResult> ReactivateSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::SubscriberRequest>(input);
  adopt_subject(request_);
  require(check_text("reason", request_.reason(), kLongestText));
  require(check_families(request_.families()));
  return carry_out(context, {.service = service_of(request_),
                             .kind = "reactivate",
                             .key = key_of(context, request_),
                             .actor = actor_of(request_),
                             .request_hash = hash_of(request_, "reactivate")});
}

Task<void> ReactivateSubscriber::perform(Context& context) {
  const std::vector<std::string> families = families_of(request_, view());
  set_steps(steps_of(kReactivateSteps, families));
  const char* name = kReactivateSteps.of(families.front());
  together(name, kReactivateSteps.of(families.back()));
  v1::ComposeUpdateRequest wanted = request_for(Operation::kReactivate, name);
  v1::ReactivateRequest& reactivate = *wanted.mutable_reactivate();
  *reactivate.mutable_service() = subject().service;
  *reactivate.mutable_caller() = caller_for(name, request_.reason());
  *reactivate.mutable_families() = request_.families();
  reactivate.set_username(request_.username());
  reactivate.set_nas_ip(request_.nas_ip());
  if (request_.has_send_coa()) reactivate.set_send_coa(request_.send_coa());
  co_await step(context, name, wanted);
}

// --- the table of names
// ------------------------------------------------------------------------------------------------

namespace {

// The same words for all of them.
template <class W>
tempora::Definition<W> composed(const char* name) {
  using C = Composition;
  using tempora::signal;
  using tempora::update;
  return tempora::Definition<W>{
      name,
      tempora::run(&W::run),
      signal(kPause, &C::on_signal<Command::kPause>),
      signal(kResume, &C::on_signal<Command::kResume>),
      signal(kRetry, &C::on_signal<Command::kRetry>),
      signal(kSkip, &C::on_signal<Command::kSkip>),
      signal(kGiveUp, &C::on_signal<Command::kGiveUp>),
      update(kPause, &C::on_update<Command::kPause>, &C::may<Command::kPause>),
      update(kResume, &C::on_update<Command::kResume>, &C::may<Command::kResume>),
      update(kRetry, &C::on_update<Command::kRetry>, &C::may<Command::kRetry>),
      update(kSkip, &C::on_update<Command::kSkip>, &C::may<Command::kSkip>),
      update(kGiveUp, &C::on_update<Command::kGiveUp>, &C::may<Command::kGiveUp>),
      tempora::query(kProgress, &C::progress)};
}

}  // namespace

const tempora::Definition<ProvisionSubscriber> kProvisionDefinition =
    composed<ProvisionSubscriber>(kProvisionSubscriber);
const tempora::Definition<DeprovisionSubscriber> kDeprovisionDefinition =
    composed<DeprovisionSubscriber>(kDeprovisionSubscriber);
const tempora::Definition<SuspendSubscriber> kSuspendDefinition =
    composed<SuspendSubscriber>(kSuspendSubscriber);
const tempora::Definition<ReactivateSubscriber> kReactivateDefinition =
    composed<ReactivateSubscriber>(kReactivateSubscriber);

}  // namespace addrflow::workflows
