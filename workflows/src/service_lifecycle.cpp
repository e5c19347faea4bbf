#include "service_lifecycle.hpp"

#include "failures.hpp"
#include "moves.hpp"

#include <addrflow/domain/transition_table.hpp>
#include <addrflow/v1/answers.hpp>
#include <addrflow/v1/json.hpp>
#include <addrflow/workflows/names.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

using domain::ErrorCode;
using domain::Operation;
using tempora::ApplicationError;
using tempora::Failure;

constexpr int kMostConflicts =
    32;  // addresses that NetBox may call taken before an allocate gives up
constexpr std::int64_t kLongHistory = 1'000;  // events, after which a run continues as new

// A payload that was not given is an empty message.
template <class Message>
Message decode_or_empty(const tempora::RawPayload& raw) {
  Message message;
  if (raw.payload.metadata().empty() && raw.payload.data().empty()) return message;
  v1::decode_payload(raw.payload, message);
  return message;
}

// The answer of a NAS in the seeds' words (A33), from the code of the activity: "ack", "nak-503",
// "timeout" …
v1::NasAnswer nas_answer(const Pursuit& pursuit) {
  const std::string kind = pursuit.effect.action() == "disconnect" ? "Disconnect" : "CoA";
  const std::string& status = pursuit.last.status();
  const std::string& code = pursuit.last.code();
  v1::NasAnswer answer;
  answer.set_success(pursuit.confirmed());
  answer.set_error_cause(pursuit.last.error_cause());
  answer.set_message(pursuit.last.detail());
  if (status == "not_applicable" || code == "no-session" || code == "session-not-found") {
    answer.set_code("not-applicable");
  } else if (status == "superseded") {
    answer.set_code("superseded");
  } else if (code.starts_with("ack")) {
    answer.set_code(kind + "-ACK");
  } else if (code.starts_with("nak")) {
    answer.set_code(kind + "-NAK");
  } else {
    answer.set_code(code.empty() ? "timeout" : code);
  }
  return answer;
}

// What AAA refuses for good has not happened.
void must_have_rows(const Pursuits& pursuits) {
  for (const auto& pursuit : pursuits) {
    if (pursuit->effect.system() == "aaa" && pursuit->last.status() == "refused")
      throw refusal(ErrorCode::kAaaFailed, pursuit->last.detail());
  }
}

std::string pool_id_of(const v1::ReserveReply& reply) {
  const auto found = reply.metadata().find("pool_id");
  return found == reply.metadata().end() ? std::string{} : found->second;
}

// NetBox mirrors these: what it has not confirmed yet holds up nobody, and takes nothing from the
// answer.
bool mirror_may_lag(Operation operation) {
  return operation == Operation::kSuspend || operation == Operation::kReactivate ||
         operation == Operation::kAdopt;
}

Pursuits that_count(const Order& order, Pursuits pursuits) {
  if (mirror_may_lag(order.operation)) {
    std::erase_if(pursuits,
                  [](const auto& pursuit) { return pursuit->effect.system() == "netbox"; });
  }
  return pursuits;
}

v1::EffectView effect_view(const Pursuit& pursuit) {
  v1::EffectView view;
  view.set_effect_id(pursuit.effect.effect_id());
  view.set_system(pursuit.effect.system());
  view.set_action(pursuit.effect.action());
  view.set_status(pursuit.last.status().empty() ? "planned" : pursuit.last.status());
  view.set_attempts(pursuit.attempts);
  view.set_code(pursuit.last.code());
  view.set_detail(pursuit.last.detail());
  return view;
}

}  // namespace

ServiceLifecycle::ServiceLifecycle(Context& context, const tempora::RawPayload& input) {
  const auto own = domain::parse_service_workflow_id(context.info().workflow_id);
  if (!own) {
    refusal_ = "workflow_id must be service/{tenant}/{subscriber}/{service}";
    return;
  }
  id_ = *own;
  if (const auto checked = domain::check_service(id_); !checked)
    refusal_ = "workflow_id: " + checked.error().message;
  try {
    input_ = decode_or_empty<v1::ServiceInput>(input);
  } catch (const tempora::PayloadError& error) {
    refusal_ = error.what();
  }
  const auto differs = [](const std::string& given, const std::string& known) {
    return !given.empty() && given != known;
  };
  if (differs(input_.tenant_id(), id_.tenant)) refusal_ = "tenant_id is not the workflow id's";
  if (differs(input_.subscriber_id(), id_.subscriber))
    refusal_ = "subscriber_id is not the workflow id's";
  if (differs(input_.service(), id_.service)) refusal_ = "service is not the workflow id's";
}

// --- the main coroutine
// --------------------------------------------------------------------------------------------

Task<void> ServiceLifecycle::run(Context& context, tempora::RawPayload) {
  if (!refusal_.empty()) throw refusal(ErrorCode::kInvalidArgument, refusal_);
  // Nothing is left half done by a request to cancel: handlers end, then the run does.
  const auto work = [this, &context] { return live(context); };
  co_await context.shielded(work);
  if (context.cancel_requested())
    throw tempora::CanceledError{"the service's workflow was cancelled"};
}

Task<void> ServiceLifecycle::live(Context& context) {
  if (input_.has_carried()) take_up(context, input_.carried());
  const std::function<bool()> is_idle = [this, &context] { return idle(context); };
  const std::function<bool()> is_busy = [this, &context] { return !idle(context); };
  const std::function<bool()> has_news = [this, &context] {
    return wake_asked_ || idle(context) || context.cancel_requested() ||
           context.info().history_length > kLongHistory;
  };
  if (!loaded_) co_await refresh(context);
  for (;;) {
    co_await context.wait_until(has_news);
    if (context.cancel_requested() || context.info().history_length > kLongHistory) break;
    if (wake_asked_) {
      co_await refresh(context);
      continue;
    }
    if (pace_.idle() == milliseconds::zero()) co_return;
    const bool busy = co_await context.wait_until(is_busy, pace_.idle());
    if (!busy) co_return;
  }
  draining_ = true;
  const std::function<bool()> is_drained = [this, &context] {
    return context.all_handlers_finished() && background_ == 0;
  };
  co_await context.wait_until(is_drained);
  if (context.cancel_requested()) co_return;
  const v1::ServiceInput next = next_input();
  context.continue_as_new(next);
}

bool ServiceLifecycle::idle(const Context& context) const {
  return context.all_handlers_finished() && background_ == 0 && !wake_asked_;
}

// --- handlers
// --------------------------------------------------------------------------------------------------------

template <class Request>
void ServiceLifecycle::must_have_shape(const Request& request) const {
  // Not accepted: this run is about to fail, and an accepted update would be lost with it.
  if (!refusal_.empty()) throw refusal(ErrorCode::kInvalidArgument, refusal_);
  if (const auto order = to_order(request, id_); !order) throw refusal(order.error());
}

void ServiceLifecycle::may_allocate(const v1::AllocateRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_activate(const v1::ActivateRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_suspend(const v1::SuspendRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_reactivate(const v1::ReactivateRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_revoke(const v1::RevokeRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_retry(const v1::RetryRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_adopt(const v1::AdoptRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_force_release(const v1::ForceReleaseRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_move(const v1::MoveRequest& request) const { must_have_shape(request); }
void ServiceLifecycle::may_rebind(const v1::RebindRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_change_plan(const v1::ChangePlanRequest& request) const {
  must_have_shape(request);
}
void ServiceLifecycle::may_readdress(const v1::ReaddressRequest& request) const {
  must_have_shape(request);
}

template <class Request>
Task<v1::LifecycleResult> ServiceLifecycle::handle(Context& context, Request request) {
  auto order = to_order(std::move(request), id_);
  if (!order) throw refusal(order.error());
  if (!order->commit) co_return co_await plan(context, *order);
  if (order->caller.key().empty()) {
    const auto update = context.current_update();
    set_key(*order,
            update ? domain::key_of_update_id(order->operation, update->id) : context.uuid());
  }
  const auto work = [this, &context, wanted = *order] { return operate(context, wanted); };
  co_return co_await context.shielded(work);
}

// Without the mutex: it changes nothing, and what is under way has the say.
Task<v1::LifecycleResult> ServiceLifecycle::plan(Context& context, Order order) {
  v1::PlanRequest request;
  *request.mutable_service() = order.service;
  request.set_kind(std::string{domain::to_string(order.operation)});
  request.set_request_json(order.request_json);
  const tempora::ActivityOptions options = pace_.plan(id_.tenant);
  v1::PlanReply planned;
  try {
    planned = co_await context.execute(catalog::kPlan, request, options);
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  co_return planned.result();
}

Task<v1::LifecycleResult> ServiceLifecycle::allocate(Context& context,
                                                     v1::AllocateRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::activate(Context& context,
                                                     v1::ActivateRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::suspend(Context& context, v1::SuspendRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::reactivate(Context& context,
                                                       v1::ReactivateRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::revoke(Context& context, v1::RevokeRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::retry(Context& context, v1::RetryRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::adopt(Context& context, v1::AdoptRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::force_release(Context& context,
                                                          v1::ForceReleaseRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::move(Context& context, v1::MoveRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::rebind(Context& context, v1::RebindRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::change_plan(Context& context,
                                                        v1::ChangePlanRequest request) {
  return handle(context, std::move(request));
}
Task<v1::LifecycleResult> ServiceLifecycle::readdress(Context& context,
                                                      v1::ReaddressRequest request) {
  return handle(context, std::move(request));
}

// A signal has nobody to answer: what cannot be done goes on record, and the workflow goes on.
template <class Request>
Task<void> ServiceLifecycle::handle_signal(Context& context, tempora::RawPayload payload,
                                           Operation operation) {
  std::string code{domain::to_string(ErrorCode::kInvalidArgument)};
  std::string refused;
  std::optional<Order> order;
  try {
    auto read = to_order(decode_or_empty<Request>(payload), id_);
    if (read && !read->commit) {
      refused = "commit = false has nobody to answer: send it as an update";
    } else if (read) {
      order = *std::move(read);
    } else {
      refused = read.error().message;
    }
  } catch (const tempora::PayloadError& error) {
    refused = error.what();
  }
  if (order) {
    if (order->caller.key().empty()) set_key(*order, "signal:" + context.uuid());
    const auto work = [this, &context, wanted = *order] { return operate(context, wanted); };
    try {
      const v1::LifecycleResult result = co_await context.shielded(work);
      if (!result.success()) {
        code = result.code();
        refused = result.message();
      }
    } catch (const Failure& failure) {
      const ApplicationError error = as_refusal(failure);
      code = error.type();
      refused = error.message();
    }
  }
  if (refused.empty()) co_return;
  const std::string event = "signal " + std::string{domain::to_string(operation)} + " refused";
  const auto record = [this, &context, event, code, refused] {
    return audit(context, event, code, refused);
  };
  co_await context.shielded(record);
}

Task<void> ServiceLifecycle::on_suspend(Context& context, tempora::RawPayload request) {
  return handle_signal<v1::SuspendRequest>(context, std::move(request), Operation::kSuspend);
}
Task<void> ServiceLifecycle::on_reactivate(Context& context, tempora::RawPayload request) {
  return handle_signal<v1::ReactivateRequest>(context, std::move(request), Operation::kReactivate);
}
Task<void> ServiceLifecycle::on_revoke(Context& context, tempora::RawPayload request) {
  return handle_signal<v1::RevokeRequest>(context, std::move(request), Operation::kRevoke);
}

void ServiceLifecycle::on_wake() {
  wake_asked_ = true;
  ++wakes_;
}

Task<void> ServiceLifecycle::audit(Context& context, std::string event, std::string code,
                                   std::string detail) {
  context.log().warn("{}: {} ({})", event, detail, code);
  v1::AuditRequest request;
  request.mutable_service()->set_tenant_id(id_.tenant);
  request.mutable_service()->set_subscriber_id(id_.subscriber);
  request.mutable_service()->set_service(id_.service);
  request.set_actor("signal");
  request.set_event(std::move(event));
  request.set_code(std::move(code));
  request.set_detail(std::move(detail));
  tempora::ActivityOptions options = pace_.ledger(id_.tenant);
  options.schedule_to_close = std::chrono::minutes{1};  // a record is wanted, not at any price
  try {
    co_await context.execute(catalog::kAudit, request, options);
  } catch (const Failure& failure) {
    context.log().error("the refusal could not be put on record: {}", failure.message());
  }
}

// --- one operation
// -----------------------------------------------------------------------------------------------------

Task<v1::LifecycleResult> ServiceLifecycle::operate(Context& context, Order order) {
  const bool revokes =
      order.operation == Operation::kRevoke || order.operation == Operation::kForceRelease;
  ++waiting_;
  if (revokes) ++revokes_waiting_;
  const tempora::MutexLock turn = co_await mutex_.lock(context);
  --waiting_;
  if (revokes) --revokes_waiting_;

  v1::LifecycleResult result;
  std::exception_ptr failed;
  try {
    co_await load(context);
    running_ = domain::to_string(order.operation);
    result = co_await carry_out(context, order);
  } catch (const Failure&) {
    failed = std::current_exception();
  }
  running_.clear();
  if (failed) std::rethrow_exception(failed);
  co_return result;
}

Task<v1::LifecycleResult> ServiceLifecycle::carry_out(Context& context, Order order) {
  progress_.begin(order, context.now());
  v1::LifecycleResult result;
  std::exception_ptr failed;
  std::string why;
  try {
    result = co_await claim_and_finish(context, order);
  } catch (const Failure& failure) {
    failed = std::current_exception();
    why = as_refusal(failure).message();
  }
  progress_.end(!failed, why, context.now());
  if (failed) std::rethrow_exception(failed);
  co_return result;
}

Task<v1::LifecycleResult> ServiceLifecycle::claim_and_finish(Context& context, Order order) {
  v1::ClaimRequest request = claim_request(order);
  request.set_workflow_id(context.info().workflow_id);
  request.set_run_id(context.info().run_id);
  v1::ClaimReply claimed;
  try {
    claimed = co_await context.execute(catalog::kClaim, request, pace_.ledger(id_.tenant));
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  if (claimed.has_pace()) pace_ = Pace{claimed.pace()};
  see(context, claimed.view());
  if (claimed.outcome() != "claimed") co_return claimed.result();
  owns(claimed.claim());
  take_families(order, claimed);

  Outcome outcome;
  std::optional<ApplicationError> refused;
  try {
    outcome = co_await steps(context, order, claimed);
  } catch (const Failure& failure) {
    refused = as_refusal(failure);
  }
  if (refused) {
    // Somebody else owns the service now: what this operation left behind is theirs to see to.
    if (refused->type() == domain::to_string(ErrorCode::kSuperseded)) throw *refused;
    progress_.undoing(refused->message(), context.now());
    outcome = co_await undo(context, claimed.claim(), refused->type(), refused->message());
  }
  if (outcome.success && !claimed.left_out().empty()) outcome.message = claimed.left_out();
  v1::FinishRequest finish;
  *finish.mutable_claim() = claimed.claim();
  *finish.mutable_result() = result_of(order, outcome);
  v1::FinishReply finished;
  try {
    finished = co_await context.execute(catalog::kFinish, finish, pace_.ledger(id_.tenant));
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  if (finished.result().has_service_view()) see(context, finished.result().service_view());
  pursue_others(context, order, claimed.claim(), that_count(order, outcome.pursuits));
  co_return finished.result();
}

Task<ServiceLifecycle::Outcome> ServiceLifecycle::steps(Context& context, Order order,
                                                        v1::ClaimReply claimed) {
  switch (order.operation) {
    case Operation::kAllocate:
    case Operation::kReaddress: co_return co_await allocate_steps(context, order, claimed);
    case Operation::kActivate:
    case Operation::kMove:
    case Operation::kRebind:
    case Operation::kChangePlan:
    case Operation::kSuspend:
    case Operation::kReactivate:
    case Operation::kAdopt: co_return co_await entitle_steps(context, order, claimed);
    case Operation::kRevoke: co_return co_await revoke_steps(context, order, claimed);
    case Operation::kRetry: co_return co_await retry_steps(context, order, claimed);
    case Operation::kForceRelease: co_return co_await force_release_steps(context, order, claimed);
  }
  throw refusal(ErrorCode::kInternal, "an operation without steps");
}

// The step that broke off runs again: the revoke of what is on its way out; of what failed the
// activate if it had been allocated before, else the allocate. Families that want different steps
// are retried one after the other, by a retry each.
Task<ServiceLifecycle::Outcome> ServiceLifecycle::retry_steps(Context& context, Order order,
                                                              v1::ClaimReply claimed) {
  std::vector<std::string> revoking;
  std::vector<std::string> without_space;
  std::vector<std::string> allocated;
  std::vector<std::string> reserved;
  for (const v1::BindingView& binding : claimed.view().bindings()) {
    if (std::ranges::find(order.families, binding.family()) == order.families.end()) continue;
    auto& group = binding.state() == "revoking" ? revoking
                  : !binding.space_held()       ? without_space
                  : binding.has_allocated_at()  ? allocated
                                                : reserved;
    group.push_back(binding.family());
  }
  order.send_radius = !revoking.empty();
  if (!revoking.empty()) {
    order.families = revoking;
    co_return co_await revoke_steps(context, order, claimed);
  }
  const bool activates = without_space.empty() && reserved.empty();
  order.operation = activates ? Operation::kActivate : Operation::kAllocate;
  if (!without_space.empty()) {
    order.families = without_space;
    co_return co_await allocate_steps(context, order, claimed);
  }
  order.families = activates ? allocated : reserved;
  co_return co_await entitle_steps(context, order, claimed);
}

Task<v1::TransitionReply> ServiceLifecycle::transition(Context& context,
                                                       v1::TransitionRequest move) {
  if (move.step().empty()) progress_.step("change", context.now());
  v1::TransitionReply moved =
      co_await context.execute(catalog::kTransition, move, pace_.ledger(id_.tenant));
  see(context, moved.view());
  co_return moved;
}

Task<ServiceLifecycle::Outcome> ServiceLifecycle::allocate_steps(Context& context, Order order,
                                                                 v1::ClaimReply claimed) {
  const v1::Claim claim = claimed.claim();
  Outcome outcome;
  // All space first: both families are had, or nothing has happened that anybody could see.
  const std::vector<std::string> wanted = order.families;
  for (const std::string& family : wanted) {
    std::optional<ApplicationError> refused;
    try {
      Reserved reserved = co_await reserve(context, order, claim, family);
      if (reserved.netbox) outcome.pursuits.push_back(std::move(reserved.netbox));
    } catch (const Failure& failure) {
      refused = as_refusal(failure);
    }
    if (!refused) continue;
    const bool superseded = refused->type() == domain::to_string(ErrorCode::kSuperseded);
    if (family != order.optional_family || superseded) throw *refused;
    outcome.message = co_await leave_out(context, claim, family, *refused);
    std::erase(order.families, family);
  }
  const Move move = first_move(order, claimed);
  const v1::TransitionReply moved = co_await transition(context, move.request);
  const Pursuits aaa = start_pursuits(context, moved, claim.number());
  if (claimed.restate() && context.patched("allocate-restates"))
    restate_later(context, claimed, move.request);
  co_await await_answers(context, aaa);
  must_have_rows(aaa);
  // The Disconnect that an allocate carries for an older packet is pursued; it was the end of the
  // allocate once.
  const auto refused = std::ranges::find_if(
      aaa, [](const auto& pursuit) { return pursuit->last.status() == "refused"; });
  if (refused != aaa.end() && !context.patched("allocate-outlives-a-refused-packet"))
    throw refusal(ErrorCode::kAaaFailed, (*refused)->last.detail());
  outcome.pursuits.insert(outcome.pursuits.end(), aaa.begin(), aaa.end());
  co_return outcome;
}

// The line comes up without a family that its caller can do without. What was begun for it is taken
// back, and the answer says why it is not there.
Task<std::string> ServiceLifecycle::leave_out(Context& context, v1::Claim claim, std::string family,
                                              ApplicationError why) {
  v1::UndoRequest request;
  *request.mutable_claim() = claim;
  request.set_family(family);
  request.set_code(why.type());
  request.set_reason(why.message());
  const v1::UndoReply undone =
      co_await context.execute(catalog::kUndo, request, pace_.ledger(id_.tenant));
  see(context, undone.view());
  if (undone.netbox().effect_id() != 0) start_pursuit(context, undone.netbox(), claim.number());
  context.log().warn("{} is left out: {}", family, why.message());
  co_return family + " is left out: " + why.message();
}

// Takes an address, and asks NetBox before anybody is told: an address that NetBox gave to somebody
// else is not ours.
Task<ServiceLifecycle::Reserved> ServiceLifecycle::reserve(Context& context, Order order,
                                                           v1::Claim claim, std::string family) {
  progress_.step("reserve_" + family, context.now());
  v1::ReserveRequest request = reservation_of(order, claim, family);
  const bool ipv4 = family == domain::kFamilyIpv4;
  v1::EffectRef former;  // the space that a readdress leaves, as NetBox is to show it
  for (int i = 0; i < kMostConflicts; ++i) {
    Reserved reserved;
    reserved.reply = co_await context.execute(catalog::kReserve, request, pace_.ledger(id_.tenant));
    if (reserved.reply.former().effect_id() != 0) former = reserved.reply.former();
    if (former.effect_id() != 0 && !context.patched("netbox-knows-the-new-space-first")) {
      start_pursuit(context, former, claim.number());
      former.Clear();
    }
    if (reserved.reply.netbox_picks()) {
      reserved = co_await take(context, request, reserved.reply);
      if (reserved.reply.former().effect_id() != 0) former = reserved.reply.former();
      if (!reserved.reply.address().empty()) {
        let_go(context, former, claim.number(), reserved.netbox);
        co_return reserved;
      }
      // The ledger cannot have NetBox's pick, or NetBox has none left in that pool.
      if (reserved.reply.refused().empty()) request.add_exhausted(pool_id_of(reserved.reply));
      request.set_netbox_asked(!reserved.reply.refused().empty());
      continue;
    }
    if (reserved.reply.netbox().effect_id() == 0) {
      let_go(context, former, claim.number(), nullptr);
      co_return reserved;
    }
    const bool required = order.fail_on_netbox || reserved.reply.netbox_mode() == "authoritative";
    reserved.netbox = start_pursuit(context, reserved.reply.netbox(), claim.number());
    const Pursuits asked{reserved.netbox};
    if (required) {
      co_await await_told(context, asked);
    } else {
      co_await await_answers(context, asked);
    }
    if (!reserved.netbox->last.conflict()) {
      if (required && !reserved.netbox->confirmed()) {
        co_await stop_pursuits(context, asked);
        throw refusal(ErrorCode::kNetboxFailed,
                      "NetBox did not confirm the reservation: " + reserved.netbox->last.detail());
      }
      let_go(context, former, claim.number(), reserved.netbox);
      co_return reserved;
    }
    if (!request.requested_address().empty()) {
      const std::string field = ipv4 ? "requested_address" : "requested_prefix";
      throw refusal(ErrorCode::kNetboxConflict,
                    field + " is taken in NetBox: " + request.requested_address());
    }
    request.add_avoid(reserved.reply.address());
  }
  throw refusal(ErrorCode::kNetboxConflict, "every address that was tried is taken in NetBox");
}

// NetBox learns that the former space is left when it knows of the new one.
void ServiceLifecycle::let_go(Context& context, const v1::EffectRef& former, std::int64_t number,
                              std::shared_ptr<Pursuit> after) {
  if (former.effect_id() != 0) start_pursuit(context, former, number, std::move(after));
}

// NetBox picks, and the ledger writes down what it picked. Without an address: `refused` says why
// the ledger cannot have it, or the pool is exhausted there.
Task<ServiceLifecycle::Reserved> ServiceLifecycle::take(Context& context,
                                                        v1::ReserveRequest request,
                                                        v1::ReserveReply asked) {
  Reserved reserved;
  reserved.netbox = start_pursuit(context, asked.netbox(), request.claim().number());
  const Pursuits asking{reserved.netbox};
  co_await await_told(context, asking);
  const v1::EffectReply& said = reserved.netbox->last;
  if (said.status() == "refused" && said.code() == "netbox-exhausted") {
    reserved.reply = std::move(asked);
    co_return reserved;
  }
  if (said.status() != "confirmed") {
    co_await stop_pursuits(context, asking);
    throw refusal(ErrorCode::kNetboxFailed, "NetBox did not pick an address: " + said.detail());
  }
  request.set_taken_effect(asked.netbox().effect_id());
  reserved.reply = co_await context.execute(catalog::kReserve, request, pace_.ledger(id_.tenant));
  co_return reserved;
}

// Activate, suspend, reactivate, adopt: one move, then AAA, then the session.
Task<ServiceLifecycle::Outcome> ServiceLifecycle::entitle_steps(Context& context, Order order,
                                                                v1::ClaimReply claimed) {
  const Move planned = first_move(order, claimed);
  const v1::TransitionRequest& move = planned.request;
  const v1::TransitionReply moved = co_await transition(context, move);
  Outcome outcome;
  outcome.message = planned.message;
  outcome.pursuits = start_pursuits(context, moved, claimed.claim().number());
  restate_later(context, claimed, move);
  const Pursuits awaited = that_count(order, outcome.pursuits);
  if (order.fail_on_coa || order.fail_on_netbox) co_await await_first_attempts(context, awaited);
  co_await await_answers(context, awaited);
  if (domain::changes_line(order.operation)) must_have_rows(outcome.pursuits);
  const bool fails = std::ranges::any_of(awaited, [&](const auto& pursuit) {
    const bool counts = (order.fail_on_coa && pursuit->effect.system() == "radius") ||
                        (order.fail_on_netbox && pursuit->effect.system() == "netbox");
    return counts && !pursuit->confirmed();
  });
  if (fails) {
    co_await stop_pursuits(context, outcome.pursuits);
    check_policies(order, outcome.pursuits);
  }
  co_return outcome;
}

// Throws what the request's policy makes of an effect that is not confirmed.
void ServiceLifecycle::check_policies(const Order& order, const Pursuits& pursuits) const {
  for (const auto& pursuit : pursuits) {
    if (pursuit->confirmed()) continue;
    const std::string said = pursuit->last.code().empty() ? "no answer" : pursuit->last.code();
    const std::string why =
        said + (pursuit->last.detail().empty() ? "" : ": " + pursuit->last.detail());
    if (order.fail_on_coa && pursuit->effect.system() == "radius") {
      throw refusal(ErrorCode::kCoaFailed, "the NAS did not confirm the change: " + why);
    }
    if (order.fail_on_netbox && pursuit->effect.system() == "netbox") {
      throw refusal(ErrorCode::kNetboxFailed, "NetBox did not confirm the change: " + why);
    }
  }
}

Task<ServiceLifecycle::Outcome> ServiceLifecycle::revoke_steps(Context& context, Order order,
                                                               v1::ClaimReply claimed) {
  const v1::Claim claim = claimed.claim();
  const v1::TransitionRequest move = first_move(order, claimed).request;
  const v1::TransitionReply moved = co_await transition(context, move);
  Outcome outcome;
  outcome.pursuits = start_pursuits(context, moved, claim.number());
  restate_later(context, claimed, move);
  gate_wanted_ = true;
  gate_open_ = false;
  gate_families_ = with_others(order.families, families_on_the_way_out(view_));
  settling_number_ = claim.number();
  const auto settling = with_others(order.families, families_in(view_, "revoking"));
  run_in_background(context, settle_revoke(context, claim, settling, outcome.pursuits));
  run_in_background(context, watch_gate(context, claim, gate_families_));
  const std::function<bool()> answered = [this, number = claim.number(),
                                          pursuits = outcome.pursuits] {
    const bool refused =
        std::ranges::all_of(pursuits, [](const auto& p) { return p->settled || p->ended; }) &&
        !std::ranges::all_of(pursuits, [](const auto& p) { return p->confirmed(); });
    return revoked_number_ == number || revokes_waiting_ > 0 || refused;
  };
  co_await context.wait_until(answered, pace_.answer_wait());
  if (revoked_number_ != claim.number())
    outcome.message = "revoking: not every system has confirmed yet";
  co_return outcome;
}

// A person decides that the space is free: the gate opens, the quarantine is at its longest.
Task<ServiceLifecycle::Outcome> ServiceLifecycle::force_release_steps(Context& context, Order order,
                                                                      v1::ClaimReply claimed) {
  const v1::Claim claim = claimed.claim();
  const v1::TransitionRequest move = first_move(order, claimed).request;
  const v1::TransitionReply moved = co_await transition(context, move);
  Outcome outcome;
  outcome.pursuits = start_pursuits(context, moved, claim.number());
  co_await await_answers(context, outcome.pursuits);
  if (claim_.number() != claim.number()) co_return outcome;
  revoked_number_ = claim.number();
  gate_wanted_ = true;
  gate_open_ = false;
  gate_families_ = with_others(order.families, families_on_the_way_out(view_));
  run_in_background(context, watch_gate(context, claim, gate_families_));
  const std::function<bool()> opened = [this] { return gate_open_; };
  co_await context.wait_until(opened, pace_.answer_wait());
  co_return outcome;
}

// Takes back what this claim created and nothing else.
Task<ServiceLifecycle::Outcome> ServiceLifecycle::undo(Context& context, v1::Claim claim,
                                                       std::string code, std::string reason) {
  // An attempt that is under way must not land after the undo of what it does.
  co_await stop_pursuits(context, pursuits_);
  v1::UndoRequest request;
  *request.mutable_claim() = claim;
  request.set_code(code);
  request.set_reason(reason);
  v1::UndoReply undone;
  try {
    undone = co_await context.execute(catalog::kUndo, request, pace_.ledger(id_.tenant));
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  see(context, undone.view());
  Outcome outcome{.success = false, .code = code, .message = reason, .pursuits = {}};
  std::vector<v1::EffectRef> effects{undone.aaa(), undone.netbox()};
  effects.insert(effects.end(), undone.more().begin(), undone.more().end());
  std::shared_ptr<Pursuit> rows;  // they go before the packet
  for (const v1::EffectRef& effect : effects) {
    if (effect.effect_id() == 0) continue;
    auto pursuit = start_pursuit(context, effect, claim.number(),
                                 effect.system() == "radius" ? rows : nullptr);
    if (effect.system() == "aaa") rows = pursuit;
    outcome.pursuits.push_back(std::move(pursuit));
  }
  if (undone.restate()) restate_undone(context, claim, milliseconds{undone.restate_after_ms()});
  co_await await_answers(context, outcome.pursuits);
  // Space that AAA has seen comes free through the gate only.
  const std::vector<std::string> held = families_on_the_way_out(undone.view());
  if (!held.empty()) {
    gate_wanted_ = true;
    gate_open_ = false;
    revoked_number_ = claim.number();
    gate_families_ = held;
    run_in_background(context, watch_gate(context, claim, gate_families_));
  }
  co_return outcome;
}

// A family that was on its way out before this operation came still is: its revoke is this number's
// to confirm now, and its gate is watched under it.
void ServiceLifecycle::pursue_others(Context& context, const Order& order, const v1::Claim& claim,
                                     const Pursuits& pursuits) {
  if (claim_.number() != claim.number()) return;
  const auto without = [&](std::vector<std::string> families) {
    for (const std::string& own : order.families) std::erase(families, own);
    return families;
  };
  const std::vector<std::string> revoking = without(families_in(view_, "revoking"));
  if (!revoking.empty() && settling_number_ != claim.number() &&
      refused_number_ != claim.number()) {
    settling_number_ = claim.number();
    run_in_background(context, settle_revoke(context, claim, revoking, pursuits));
  }
  // What its own families had before their present space waits for the gate as well.
  const std::vector<std::string> held = with_others(
      without(families_on_the_way_out(view_)), {view_.leaving().begin(), view_.leaving().end()});
  if (held.empty() || gate_wanted_) return;
  gate_wanted_ = true;
  gate_open_ = false;
  gate_families_ = held;
  if (revoking.empty()) revoked_number_ = claim.number();
  run_in_background(context, watch_gate(context, claim, gate_families_));
}

v1::LifecycleResult ServiceLifecycle::result_of(const Order& order, const Outcome& outcome) const {
  v1::LifecycleResult result;
  result.set_success(outcome.success);
  result.set_code(outcome.code);
  result.set_operation(std::string{domain::to_string(order.operation)});
  v1::show_bindings(result, view_, order.families);
  const bool confirmed =
      std::ranges::all_of(that_count(order, outcome.pursuits),
                          [](const auto& pursuit) { return pursuit->confirmed(); });
  for (const auto& pursuit : outcome.pursuits) {
    *result.add_effects() = effect_view(*pursuit);
    if (pursuit->effect.action() == "coa") *result.mutable_coa_result() = nas_answer(*pursuit);
    if (pursuit->effect.action() == "disconnect")
      *result.mutable_disconnect_result() = nas_answer(*pursuit);
  }
  result.set_enforcement(confirmed ? "confirmed" : "pending");
  const std::string pending = confirmed ? "done" : "done; not every system has confirmed yet";
  result.set_message(outcome.message.empty() ? pending : outcome.message);
  return result;
}

v1::ServiceStatus ServiceLifecycle::status() const {
  v1::ServiceStatus status;
  *status.mutable_view() = view_;
  if (!status.view().has_service()) {
    status.mutable_view()->mutable_service()->set_tenant_id(id_.tenant);
    status.mutable_view()->mutable_service()->set_subscriber_id(id_.subscriber);
    status.mutable_view()->mutable_service()->set_service(id_.service);
  }
  status.set_loaded(loaded_);
  status.set_operation(running_);
  status.set_waiting(waiting_);
  for (const auto& pursuit : pursuits_) {
    if (!over(*pursuit)) *status.add_pursuing() = effect_view(*pursuit);
  }
  if (gate_open_) status.set_gate("open");
  if (gate_wanted_) status.set_gate("closed");
  status.set_gate_detail(gate_detail_);
  return status;
}

using tempora::query;
using tempora::signal;
using tempora::update;
using W = ServiceLifecycle;
namespace names = service_lifecycle;

const tempora::Definition<ServiceLifecycle> kServiceLifecycle{
    names::kName,
    tempora::run(&W::run),
    update(names::kAllocate, &W::allocate, &W::may_allocate),
    update(names::kActivate, &W::activate, &W::may_activate),
    update(names::kSuspend, &W::suspend, &W::may_suspend),
    update(names::kReactivate, &W::reactivate, &W::may_reactivate),
    update(names::kRevoke, &W::revoke, &W::may_revoke),
    update(names::kRetry, &W::retry, &W::may_retry),
    update(names::kAdopt, &W::adopt, &W::may_adopt),
    update(names::kForceRelease, &W::force_release, &W::may_force_release),
    update(names::kMove, &W::move, &W::may_move),
    update(names::kRebind, &W::rebind, &W::may_rebind),
    update(names::kChangePlan, &W::change_plan, &W::may_change_plan),
    update(names::kReaddress, &W::readdress, &W::may_readdress),
    signal(names::kSuspend, &W::on_suspend),
    signal(names::kReactivate, &W::on_reactivate),
    signal(names::kRevoke, &W::on_revoke),
    signal(names::kWake, &W::on_wake),
    query(names::kStatus, &W::status),
    query(kProgress, &W::progress)};

}  // namespace addrflow::workflows
