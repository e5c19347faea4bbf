// The part of ServiceLifecycle that goes on without a caller: effects tried until they are
// confirmed, the release gate, and what a new run takes up from the ledger.
#include "failures.hpp"
#include "service_lifecycle.hpp"

#include <addrflow/domain/operation.hpp>
#include <addrflow/domain/state.hpp>
#include <algorithm>

namespace addrflow::workflows {
namespace {

using tempora::Failure;

// An outcome after which no attempt would help.
bool is_final(const v1::EffectReply& reply) {
  const std::string& status = reply.status();
  return status == "confirmed" || status == "not_applicable" || status == "superseded" ||
         status == "abandoned" || (status == "refused" && !reply.retry());
}

const tempora::ActivityType<v1::EffectRequest, v1::EffectReply>& activity_for(
    const std::string& system) {
  if (system == "netbox") return catalog::kNetboxApply;
  if (system == "radius") return catalog::kRadiusSend;
  return catalog::kAaaApply;
}

}  // namespace

std::vector<std::string> families_in(const v1::ServiceView& view, std::string_view state) {
  std::vector<std::string> families;
  for (const v1::BindingView& binding : view.bindings()) {
    if (binding.state() == state) families.push_back(binding.family());
  }
  return families;
}

std::vector<std::string> families_on_the_way_out(const v1::ServiceView& view) {
  std::vector<std::string> families;
  for (const v1::BindingView& binding : view.bindings()) {
    const auto state = domain::parse_state(binding.state());
    const bool leaving = !state || !domain::is_live(*state) || *state == domain::State::kRevoking;
    if (binding.space_held() && leaving) families.push_back(binding.family());
  }
  // Former space of a line that lives on with other.
  for (const std::string& family : view.leaving()) {
    if (std::ranges::find(families, family) == families.end()) families.push_back(family);
  }
  return families;
}

std::vector<std::string> with_others(std::vector<std::string> families,
                                     const std::vector<std::string>& others) {
  for (const std::string& other : others) {
    if (std::ranges::find(families, other) == families.end()) families.push_back(other);
  }
  return families;
}

// --- effects
// ---------------------------------------------------------------------------------------------------------

bool ServiceLifecycle::over(const Pursuit& pursuit) const {
  return pursuit.settled || pursuit.stopped || pursuit.number != claim_.number();
}

std::shared_ptr<Pursuit> ServiceLifecycle::start_pursuit(Context& context,
                                                         const v1::EffectRef& effect,
                                                         std::int64_t number,
                                                         std::shared_ptr<Pursuit> after) {
  auto pursuit = std::make_shared<Pursuit>();
  pursuit->effect = effect;
  pursuit->number = number;
  pursuit->after = std::move(after);
  pursuits_.push_back(pursuit);
  progress_.pursues(pursuit);
  run_in_background(context, pursue(context, pursuit));
  return pursuit;
}

Pursuits ServiceLifecycle::start_pursuits(Context& context, const v1::TransitionReply& moved,
                                          std::int64_t number) {
  Pursuits started;
  std::shared_ptr<Pursuit> aaa;
  if (moved.aaa().effect_id() != 0)
    started.push_back(aaa = start_pursuit(context, moved.aaa(), number));
  if (moved.radius().effect_id() != 0)
    started.push_back(start_pursuit(context, moved.radius(), number, aaa));
  if (moved.netbox().effect_id() != 0)
    started.push_back(start_pursuit(context, moved.netbox(), number));
  for (const v1::EffectRef& effect : moved.more())
    started.push_back(start_pursuit(context, effect, number));
  return started;
}

// NetBox is told of that object by a newer effect.
static bool stands_for_newer(const Pursuit& pursuit) {
  return pursuit.effect.system() == "netbox" && pursuit.last.status() == "superseded";
}

Task<void> ServiceLifecycle::pursue(Context& context, std::shared_ptr<Pursuit> pursuit) {
  if (pursuit->after) {
    const std::function<bool()> may_go = [this, pursuit] {
      return pursuit->after->confirmed() || pursuit->after->ended || over(*pursuit);
    };
    co_await context.wait_until(may_go);
  }
  const bool may = !pursuit->after || pursuit->after->confirmed() ||
                   (stands_for_newer(*pursuit->after) &&
                    context.patched("what-a-newer-wish-stands-for-holds-up-nothing"));
  // The rows could not be written, so the packet would say what the next login contradicts.
  if (!may && pursuit->after->settled) pursuit->settled = true;
  const tempora::TimePoint started = context.now();
  const bool blocked = !may;  // given up with its predecessor, or carried over
  while (!blocked && !over(*pursuit)) {
    co_await attempt(context, pursuit);
    if (over(*pursuit) || draining_) break;
    if (pursuit->effect.system() == "netbox" && context.now() - started >= pace_.netbox_pursuit()) {
      // NetBox mirrors what the ledger decided: the catch-up goes on, no service stays open for it.
      pursuit->settled = true;
      break;
    }
    const int wakes = wakes_;
    const std::function<bool()> interrupted = [this, pursuit, wakes] {
      return over(*pursuit) || draining_ || wakes_ != wakes;
    };
    const milliseconds wait = std::max(pace_.effect_retry(pursuit->attempts),
                                       milliseconds{pursuit->last.retry_after_ms()});
    co_await context.wait_until(interrupted, wait);
    if (draining_) break;
  }
  pursuit->ended = true;
  if (over(*pursuit)) std::erase(pursuits_, pursuit);
}

// One execution of the effect's activity. Whatever goes wrong on the way there, the outcome is then
// unknown.
Task<void> ServiceLifecycle::attempt(Context& context, std::shared_ptr<Pursuit> pursuit) {
  v1::EffectRequest request;
  request.mutable_service()->set_tenant_id(id_.tenant);
  request.mutable_service()->set_subscriber_id(id_.subscriber);
  request.mutable_service()->set_service(id_.service);
  request.set_number(pursuit->number);
  *request.mutable_effect() = pursuit->effect;
  const std::string system = pursuit->effect.system();
  pursuit->in_flight = true;
  if (!pursuit->first_attempt) pursuit->first_attempt = context.now();
  bool told = true;
  v1::EffectReply reply;
  try {
    reply =
        co_await context.execute(activity_for(system), request, pace_.effect(system, id_.tenant));
  } catch (const Failure& failure) {
    const tempora::ApplicationError error = as_refusal(failure);
    reply.set_status(error.non_retryable() ? "refused" : "unknown");
    reply.set_code(error.type() == domain::to_string(domain::ErrorCode::kInternal) ? "timeout"
                                                                                   : error.type());
    reply.set_detail(error.message());
    reply.set_retry(!error.non_retryable());
    told = error.non_retryable();
  }
  pursuit->in_flight = false;
  pursuit->told = told;
  ++pursuit->attempts;
  pursuit->last_answer = context.now();
  pursuit->last = std::move(reply);
  pursuit->settled = is_final(pursuit->last);
  if (pursuit->settled && !pursuit->confirmed()) {
    context.log().warn("{}/{} ended as {}: {} {}", system, pursuit->effect.action(),
                       pursuit->last.status(), pursuit->last.code(), pursuit->last.detail());
  }
}

Task<void> ServiceLifecycle::await_answers(Context& context, Pursuits pursuits) {
  const std::function<bool()> answered = [this, pursuits] {
    return revokes_waiting_ > 0 || std::ranges::all_of(pursuits, [](const auto& pursuit) {
             return pursuit->settled || pursuit->ended;
           });
  };
  if (pursuits.empty()) co_return;
  co_await context.wait_until(answered, pace_.answer_wait());
}

Task<void> ServiceLifecycle::await_first_attempts(Context& context, Pursuits pursuits) {
  const std::function<bool()> tried = [this, pursuits] {
    return revokes_waiting_ > 0 || std::ranges::all_of(pursuits, [](const auto& pursuit) {
             const bool behind = pursuit->after && !pursuit->after->confirmed();
             return pursuit->attempts > 0 || pursuit->ended ||
                    (behind && pursuit->after->attempts > 0);
           });
  };
  co_await context.wait_until(tried);
}

// An attempt whose worker is lost or frozen, or cannot reach the ledger, may have done its work: it
// is no answer, and it is made again until somebody tells what came of it.
Task<void> ServiceLifecycle::await_told(Context& context, Pursuits pursuits) {
  co_await await_first_attempts(context, pursuits);
  co_await await_answers(context, pursuits);
  const std::function<bool()> told = [this, pursuits] {
    return revokes_waiting_ > 0 || std::ranges::all_of(pursuits, [](const auto& pursuit) {
             return pursuit->settled || pursuit->ended || (pursuit->told && !pursuit->in_flight);
           });
  };
  if (told() || !context.patched("what-nobody-told-is-asked-again")) co_return;
  co_await context.wait_until(told);
  co_await await_answers(context, pursuits);
  co_await context.wait_until(told);
}

Task<void> ServiceLifecycle::stop_pursuits(Context& context, Pursuits pursuits) {
  for (const auto& pursuit : pursuits) pursuit->stopped = true;
  const std::function<bool()> at_rest = [pursuits] {
    return std::ranges::none_of(pursuits, [](const auto& pursuit) { return pursuit->in_flight; });
  };
  co_await context.wait_until(at_rest);
}

// --- the background
// ----------------------------------------------------------------------------------------------------

void ServiceLifecycle::run_in_background(Context& context, Task<void> task) {
  ++background_;
  static_cast<void>(context.spawn(guarded(context, std::move(task))));
}

Task<void> ServiceLifecycle::guarded(Context& context, Task<void> task) {
  try {
    co_await task;
  } catch (const Failure& failure) {
    context.log().warn("background work ended: {}", as_refusal(failure).message());
  }
  --background_;
}

void ServiceLifecycle::restate_later(Context& context, const v1::ClaimReply& claimed,
                                     const v1::TransitionRequest& move) {
  if (!claimed.restate()) return;
  const milliseconds wait{claimed.restate_after_ms()};
  v1::TransitionRequest stated = move;
  stated.clear_plan_netbox();  // it is the session that may have been told something older
  run_in_background(context, restate(context, std::move(stated), wait, "restate"));
}

// What is undone may have a packet under way too; its own step, so that it is not taken for the
// restatement on account of what was there before the claim.
void ServiceLifecycle::restate_undone(Context& context, const v1::Claim& claim, milliseconds wait) {
  v1::TransitionRequest move;
  *move.mutable_claim() = claim;
  move.set_state("active");  // moves nothing: the ledger knows that the operation is undone
  move.set_keep_state(true);
  run_in_background(context, restate(context, move, wait, "restate-undone"));
}

// An older packet may still arrive: once it can leave no more, the present condition is stated
// again.
Task<void> ServiceLifecycle::restate(Context& context, v1::TransitionRequest move,
                                     milliseconds wait, std::string step) {
  const std::int64_t number = move.claim().number();
  const std::function<bool()> superseded = [this, number] { return claim_.number() != number; };
  if (co_await context.wait_until(superseded, wait)) co_return;
  move.set_step(step);
  const v1::TransitionReply moved = co_await transition(context, move);
  const Pursuits restated = start_pursuits(context, moved, number);
}

// The binding is `revoked` once every other system has confirmed or has nothing to do.
Task<void> ServiceLifecycle::settle_revoke(Context& context, v1::Claim claim,
                                           std::vector<std::string> families, Pursuits pursuits) {
  const std::int64_t number = claim.number();
  const std::function<bool()> at_rest = [this, number, pursuits] {
    return claim_.number() != number ||
           std::ranges::all_of(pursuits, [](const auto& pursuit) { return pursuit->ended; });
  };
  co_await context.wait_until(at_rest);
  // What a person has abandoned is waited for no more; the gate wants evidence all the same.
  const bool confirmed = std::ranges::all_of(pursuits, [](const auto& pursuit) {
    return pursuit->confirmed() || pursuit->last.status() == "abandoned";
  });
  if (claim_.number() != number) co_return;
  if (!confirmed) {
    // Refused for good: it stays `revoking` until somebody retries or forces it, or the hold time
    // is over.
    if (!draining_) refused_number_ = number;
    settling_number_ = 0;
    co_return;
  }
  v1::TransitionRequest move;
  *move.mutable_claim() = claim;
  for (const std::string& family : families) move.add_families(family);
  move.set_state("revoked");
  move.set_step("revoked");
  co_await transition(context, move);
  revoked_number_ = number;
}

// The space has a new life: a packet for the old session has nothing more to say, unless the line
// lives on and it is about the session that it has now.
void ServiceLifecycle::leave_session(Context& context, std::int64_t number) {
  Pursuits packets;
  std::ranges::copy_if(pursuits_, std::back_inserter(packets), [number](const auto& pursuit) {
    return pursuit->number == number && pursuit->effect.system() == "radius";
  });
  const bool lives = std::ranges::any_of(view_.bindings(), [](const v1::BindingView& binding) {
    return binding.state() == "allocated" || binding.state() == "active" ||
           binding.state() == "suspended";
  });
  if (packets.empty() || (lives && context.patched("gate-of-a-living-line"))) return;
  for (const auto& pursuit : packets) pursuit->stopped = true;
}

// Looks at the evidence until the space may go back to the pool, the point of no return.
Task<void> ServiceLifecycle::watch_gate(Context& context, v1::Claim claim,
                                        std::vector<std::string> families) {
  const std::int64_t number = claim.number();
  const auto gone = [this, number] { return claim_.number() != number || draining_; };
  const std::function<bool()> revoked = [this, number, gone] {
    return revoked_number_ == number || gone();
  };
  co_await context.wait_until(revoked, pace_.gate_poll());
  v1::GateRequest request;
  *request.mutable_service() = claim.service();
  request.set_number(number);
  for (const std::string& family : families) request.add_families(family);
  while (!gone()) {
    const v1::GateReply reply =
        co_await context.execute(catalog::kGate, request, pace_.ledger(id_.tenant));
    if (claim_.number() != number) co_return;
    gate_detail_ = reply.detail();
    if (reply.has_view()) see(context, reply.view());
    if (reply.open() || reply.superseded()) {
      gate_open_ = reply.open();
      gate_wanted_ = false;
      leave_session(context, number);
      co_return;
    }
    const int wakes = wakes_;
    const std::function<bool()> interrupted = [this, gone, wakes] {
      return gone() || wakes_ != wakes;
    };
    const milliseconds next{reply.next_check_ms()};
    co_await context.wait_until(interrupted,
                                next > milliseconds::zero() ? next : pace_.gate_poll());
  }
}

// --- what the ledger remembers
// -----------------------------------------------------------------------------------------

void ServiceLifecycle::owns(const v1::Claim& claim) {
  if (claim.number() == claim_.number()) return;
  claim_ = claim;
  gate_wanted_ = false;  // what an older transition gave back is this one's to decide anew
}

void ServiceLifecycle::see(Context& context, const v1::ServiceView& view) {
  if (!view.has_service() || view.number() < view_.number()) return;
  view_ = view;
  if (!pace_.search_attributes() || view_.bindings().empty()) return;
  const std::string state = view_.bindings(0).state();
  if (state == shown_state_) return;
  shown_state_ = state;
  tempora::SearchAttributes shown;
  shown.set_keyword("AddrflowTenant", id_.tenant)
      .set_keyword("AddrflowSubscriber", id_.subscriber)
      .set_keyword("AddrflowService", id_.service)
      .set_keyword("AddrflowState", state);
  context.upsert_search_attributes(shown);
}

// Called with the turn in hand. A claim that an earlier run left open is rolled forward before
// anything else.
Task<void> ServiceLifecycle::load(Context& context) {
  if (loaded_) co_return;
  v1::ViewRequest request;
  request.mutable_service()->set_tenant_id(id_.tenant);
  request.mutable_service()->set_subscriber_id(id_.subscriber);
  request.mutable_service()->set_service(id_.service);
  v1::PendingReply pending;
  try {
    pending = co_await context.execute(catalog::kPending, request, pace_.ledger(id_.tenant));
  } catch (const Failure& failure) {
    throw as_refusal(failure);
  }
  loaded_ = true;
  if (pending.has_pace()) pace_ = Pace{pending.pace()};
  if (pending.open_claim().operation_id() != 0) {
    co_await recover(context, pending);
  } else {
    take_up(context, pending);
  }
}

// After a start without a request, and after a wake.
Task<void> ServiceLifecycle::refresh(Context& context) {
  const tempora::MutexLock turn = co_await mutex_.lock(context);
  const bool again = loaded_ && wake_asked_;
  wake_asked_ = false;
  if (loaded_ && !again) co_return;
  loaded_ = false;
  try {
    co_await load(context);
  } catch (const Failure& failure) {
    context.log().warn("nothing could be learnt from the ledger: {}", failure.message());
    loaded_ = true;
  }
}

// Runs the operation again under its key: every step that is on record answers as it did then, the
// rest is done now.
Task<void> ServiceLifecycle::recover(Context& context, v1::PendingReply pending) {
  const v1::Claim claim = pending.open_claim();
  context.log().warn("operation {} was left open at number {}: it is rolled forward",
                     pending.open_operation(), claim.number());
  const auto operation = domain::parse_operation(pending.open_operation());
  std::optional<Order> order;
  if (operation) {
    if (auto read = order_from_json(*operation, pending.open_request_json(), id_))
      order = *std::move(read);
  }
  std::string refused;
  try {
    if (order) {
      set_key(*order, pending.open_key());
      co_await carry_out(context, *order);
    } else {
      owns(claim);
      const Outcome undone =
          co_await undo(context, claim, "internal", "the recorded request cannot be read");
      v1::FinishRequest finish;
      *finish.mutable_claim() = claim;
      Order nameless;
      if (operation) nameless.operation = *operation;
      *finish.mutable_result() = result_of(nameless, undone);
      co_await context.execute(catalog::kFinish, finish, pace_.ledger(id_.tenant));
    }
  } catch (const Failure& failure) {
    refused = as_refusal(failure).message();
  }
  if (!refused.empty())
    context.log().error("the open operation could not be rolled forward: {}", refused);
}

void ServiceLifecycle::take_up(Context& context, const v1::PendingReply& pending) {
  v1::Carried carried;
  *carried.mutable_pace() = pace_.wire();
  *carried.mutable_claim() = pending.claim();
  if (carried.claim().number() == 0) {
    *carried.mutable_claim()->mutable_service() = pending.view().service();
    carried.mutable_claim()->set_number(pending.view().number());
  }
  *carried.mutable_effects() = pending.effects();
  carried.set_gate(pending.gate());
  carried.set_revoke_refused(std::ranges::any_of(
      pending.view().unconfirmed(),
      [](const v1::EffectView& effect) { return effect.status() == "refused"; }));
  *carried.mutable_view() = pending.view();
  take_up(context, carried);
}

void ServiceLifecycle::take_up(Context& context, const v1::Carried& carried) {
  loaded_ = true;
  pace_ = Pace{carried.pace()};
  see(context, carried.view());
  if (carried.claim().number() < claim_.number()) return;
  owns(carried.claim());
  const std::int64_t number = claim_.number();
  const auto known = [this](const v1::EffectRef& effect) {
    return std::ranges::any_of(pursuits_, [&](const auto& pursuit) {
      return pursuit->effect.effect_id() == effect.effect_id();
    });
  };
  // AAA rows first, whatever the order of the list.
  std::shared_ptr<Pursuit> aaa;
  for (const bool rows : {true, false}) {
    for (const v1::EffectRef& effect : carried.effects()) {
      if (known(effect) || (effect.system() == "aaa") != rows) continue;
      auto pursuit =
          start_pursuit(context, effect, number, effect.system() == "radius" ? aaa : nullptr);
      if (rows) aaa = std::move(pursuit);
    }
  }
  const std::vector<std::string> revoking = families_in(view_, "revoking");
  if (carried.revoke_refused()) refused_number_ = number;
  if (!revoking.empty() && settling_number_ != number && refused_number_ != number) {
    Pursuits wanted;
    for (const auto& pursuit : pursuits_) {
      if (pursuit->number == number) wanted.push_back(pursuit);
    }
    settling_number_ = number;
    run_in_background(context, settle_revoke(context, claim_, revoking, wanted));
  } else if (!families_in(view_, "revoked").empty()) {
    revoked_number_ = number;
  }
  if (carried.gate() && !gate_wanted_) {
    gate_wanted_ = true;
    gate_open_ = false;
    gate_families_.assign(carried.families().begin(), carried.families().end());
    if (gate_families_.empty()) gate_families_ = families_on_the_way_out(view_);
    if (gate_families_.empty()) gate_families_.emplace_back(domain::kFamilyIpv4);
    run_in_background(context, watch_gate(context, claim_, gate_families_));
  }
}

v1::ServiceInput ServiceLifecycle::next_input() const {
  v1::ServiceInput next;
  next.set_tenant_id(id_.tenant);
  next.set_subscriber_id(id_.subscriber);
  next.set_service(id_.service);
  if (wake_asked_ || !loaded_) return next;  // the ledger knows more: the next run asks it
  v1::Carried& carried = *next.mutable_carried();
  *carried.mutable_pace() = pace_.wire();
  *carried.mutable_claim() = claim_;
  for (const auto& pursuit : pursuits_) {
    if (!over(*pursuit)) *carried.add_effects() = pursuit->effect;
  }
  carried.set_gate(gate_wanted_);
  for (const std::string& family : gate_families_) carried.add_families(family);
  carried.set_revoke_refused(refused_number_ == claim_.number());
  *carried.mutable_view() = view_;
  return next;
}

}  // namespace addrflow::workflows
