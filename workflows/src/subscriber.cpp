#include "subscriber.hpp"

#include "failures.hpp"
#include "order.hpp"
#include "requests.hpp"

#include <addrflow/domain/ids.hpp>
#include <addrflow/domain/ipv6.hpp>
#include <addrflow/workflows/names.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using domain::Operation;

constexpr std::size_t kLongestReason = 256;

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

template <class Request>
v1::PlanRequest plan_request(const Request& request, const char* kind) {
  v1::PlanRequest plan;
  *plan.mutable_service() = service_of(request);
  plan.set_kind(kind);
  plan.set_request_json(canonical_json(request, ""));
  return plan;
}

template <class Request>
std::string key_of(const Context& context, const Request& request) {
  return request.key().empty() ? domain::key_from(context.info().workflow_id) : request.key();
}

template <class Request>
std::string actor_of(const Request& request) {
  return request.actor().empty() ? "unknown" : request.actor();
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

std::vector<std::string> steps_of(const StepNames& names,
                                  const std::vector<std::string>& families) {
  std::vector<std::string> steps;
  for (const std::string& family : families) steps.emplace_back(names.of(family));
  return steps;
}

// What is on record for its operations.
std::string why_of(const v1::ProvisionRequest& request) {
  return request.reason().empty() ? "provision" : request.reason();
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
  const bool commits = take_commit(request_);
  check_shape(request_);
  if (!commits) return plan(context, plan_request(request_, kProvisionSubscriber));
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
  *wanted.mutable_allocate() = allocate_request(request_, families_, subject().key);
  *wanted.mutable_allocate()->mutable_caller() = caller_for(kStepAllocate, why_of(request_));
  return wanted;
}

v1::ComposeUpdateRequest ProvisionSubscriber::activation(
    const std::vector<std::string>& families) const {
  const char* step = kActivateSteps.of(families.front());
  v1::ComposeUpdateRequest entitled = request_for(Operation::kActivate, step);
  *entitled.mutable_activate() = activate_request(request_, families);
  *entitled.mutable_activate()->mutable_caller() = caller_for(step, why_of(request_));
  return entitled;
}

void ProvisionSubscriber::choose_families() {
  const Chosen chosen = chosen_families(request_, view());
  families_ = chosen.families;
  if (!chosen.there.empty())
    mark(kActivateSteps.of(chosen.there), "skipped", "active already: " + chosen.held);
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
  reason.resize(std::min(reason.size(), kLongestReason));
  *revoke.mutable_caller() = caller_for("undo", std::move(reason));
  revoke.set_only_created_by(subject().key);
  if (leaves_netbox_alone(request_)) revoke.set_update_netbox(false);
  for (const std::string& family : families_) revoke.add_families(family);
  // A line that lives on with its other family is not cut for an undo: the hold time decides when
  // the space is free.
  const bool lives_on = std::ranges::any_of(view().bindings(), [this](const auto& binding) {
    return (binding.state() == "active" || binding.state() == "suspended") &&
           !has(families_, binding.family());
  });
  if (lives_on) revoke.set_send_disconnect(false);
  const v1::LifecycleResult undone = co_await undo_step(context, wanted);
  name_what_stays(undone);
}

// What another request had allocated is not this one's to revoke, also where this one activated it.
void ProvisionSubscriber::name_what_stays(const v1::LifecycleResult& undone) {
  std::size_t standing = 0;
  for (const std::string& family : families_) {
    const std::string state = state_in(undone, family);
    const bool active = state == "active" || state == "suspended";
    if (!active && state != "allocated") continue;
    ++standing;
    if (!active) continue;
    const std::string what = family + " " + space_in(undone, family) + " is " + state +
                             " and stays: another request had allocated it";
    not_undone(kActivateSteps.of(family), "done", what);
    stays(what);
    fill_context(undone);
  }
  if (standing == families_.size())
    not_undone(kStepAllocate, "skipped", "another request had allocated it");
}

// --- deprovision
// -------------------------------------------------------------------------------------------------------

DeprovisionSubscriber::DeprovisionSubscriber() : Composition({kStepRevokeIpv4, kStepVerify}) {
  make_optional(kStepVerify);
}

Task<v1::CompositionResult> DeprovisionSubscriber::run(Context& context,
                                                       tempora::RawPayload input) {
  request_ = read_input<v1::DeprovisionRequest>(input);
  const bool commits = take_commit(request_);
  check_shape(request_);
  if (!commits) return plan(context, plan_request(request_, kDeprovisionSubscriber));
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
  *wanted.mutable_revoke() = revoke_request(request_);
  *wanted.mutable_revoke()->mutable_caller() = caller_for(name, request_.reason());
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
  const bool commits = take_commit(request_);
  check_shape(request_);
  if (!commits) return plan(context, plan_request(request_, kSuspendSubscriber));
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
  *wanted.mutable_suspend() = coa_request<v1::SuspendRequest>(request_);
  *wanted.mutable_suspend()->mutable_caller() = caller_for(name, request_.reason());
  co_await step(context, name, wanted);
}

ReactivateSubscriber::ReactivateSubscriber() : Composition({kStepReactivateIpv4}) {}

Task<v1::CompositionResult> ReactivateSubscriber::run(Context& context, tempora::RawPayload input) {
  request_ = read_input<v1::SubscriberRequest>(input);
  const bool commits = take_commit(request_);
  check_shape(request_);
  if (!commits) return plan(context, plan_request(request_, kReactivateSubscriber));
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
  *wanted.mutable_reactivate() = coa_request<v1::ReactivateRequest>(request_);
  *wanted.mutable_reactivate()->mutable_caller() = caller_for(name, request_.reason());
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
