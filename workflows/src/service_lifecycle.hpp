// The life of one service, in one place: every change of state goes through this workflow, one
// operation at a time.
//
//   update → shape checked → FIFO mutex → ledger_claim → steps → effects (AAA, then RADIUS; NetBox
//   beside) → finish → answer
//                                                             └→ pursued in the background until
//                                                             confirmed ─→ gate
#pragma once

#include "order.hpp"
#include "pace.hpp"
#include "pursuit.hpp"
#include "service_progress.hpp"

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/ids.hpp>
#include <memory>
#include <tempora/definition.hpp>
#include <tempora/workflow.hpp>
#include <vector>

namespace addrflow::workflows {

using tempora::Context;
using tempora::Task;

std::vector<std::string> families_in(const v1::ServiceView& view, std::string_view state);
// Those whose space is held although they are not live any more: their gate is still to open.
std::vector<std::string> families_on_the_way_out(const v1::ServiceView& view);
// `families`, and those of `others` that are not among them.
std::vector<std::string> with_others(std::vector<std::string> families,
                                     const std::vector<std::string>& others);

class ServiceLifecycle {
 public:
  ServiceLifecycle(Context& context, const tempora::RawPayload& input);

  Task<void> run(Context& context, tempora::RawPayload input);

  Task<v1::LifecycleResult> allocate(Context& context, v1::AllocateRequest request);
  Task<v1::LifecycleResult> activate(Context& context, v1::ActivateRequest request);
  Task<v1::LifecycleResult> suspend(Context& context, v1::SuspendRequest request);
  Task<v1::LifecycleResult> reactivate(Context& context, v1::ReactivateRequest request);
  Task<v1::LifecycleResult> revoke(Context& context, v1::RevokeRequest request);
  Task<v1::LifecycleResult> retry(Context& context, v1::RetryRequest request);
  Task<v1::LifecycleResult> adopt(Context& context, v1::AdoptRequest request);
  Task<v1::LifecycleResult> force_release(Context& context, v1::ForceReleaseRequest request);
  Task<v1::LifecycleResult> move(Context& context, v1::MoveRequest request);
  Task<v1::LifecycleResult> rebind(Context& context, v1::RebindRequest request);
  Task<v1::LifecycleResult> change_plan(Context& context, v1::ChangePlanRequest request);
  Task<v1::LifecycleResult> readdress(Context& context, v1::ReaddressRequest request);

  // Shape only: a resting service has loaded nothing yet.
  void may_allocate(const v1::AllocateRequest& request) const;
  void may_activate(const v1::ActivateRequest& request) const;
  void may_suspend(const v1::SuspendRequest& request) const;
  void may_reactivate(const v1::ReactivateRequest& request) const;
  void may_revoke(const v1::RevokeRequest& request) const;
  void may_retry(const v1::RetryRequest& request) const;
  void may_adopt(const v1::AdoptRequest& request) const;
  void may_force_release(const v1::ForceReleaseRequest& request) const;
  void may_move(const v1::MoveRequest& request) const;
  void may_rebind(const v1::RebindRequest& request) const;
  void may_change_plan(const v1::ChangePlanRequest& request) const;
  void may_readdress(const v1::ReaddressRequest& request) const;

  // Decoded by hand: what cannot be read is put on record, and the workflow goes on.
  Task<void> on_suspend(Context& context, tempora::RawPayload request);
  Task<void> on_reactivate(Context& context, tempora::RawPayload request);
  Task<void> on_revoke(Context& context, tempora::RawPayload request);
  void on_wake();

  v1::ServiceStatus status() const;
  v1::CompositionProgress progress() const { return progress_.shown(); }

 private:
  // What came of an operation's steps. The effects that it waits for are in `pursuits`.
  struct Outcome {
    bool success = true;
    std::string code = "ok";
    std::string message;
    Pursuits pursuits;
  };

  struct Reserved {
    v1::ReserveReply reply;
    std::shared_ptr<Pursuit> netbox;  // null: nothing to be written there
  };

  // --- handlers: turn taking, recovery, failures
  template <class Request>
  void must_have_shape(const Request& request) const;
  template <class Request>
  Task<v1::LifecycleResult> handle(Context& context, Request request);
  template <class Request>
  Task<void> handle_signal(Context& context, tempora::RawPayload payload,
                           domain::Operation operation);
  Task<void> live(Context& context);
  Task<v1::LifecycleResult> plan(Context& context, Order order);
  Task<v1::LifecycleResult> operate(Context& context, Order order);
  Task<v1::LifecycleResult> carry_out(Context& context, Order order);
  Task<v1::LifecycleResult> claim_and_finish(Context& context, Order order);
  Task<void> audit(Context& context, std::string event, std::string code, std::string detail);

  // --- what each operation does between claim and finish
  Task<Outcome> steps(Context& context, Order order, v1::ClaimReply claimed);
  Task<Outcome> allocate_steps(Context& context, Order order, v1::ClaimReply claimed);
  Task<Reserved> reserve(Context& context, Order order, v1::Claim claim, std::string family);
  void let_go(Context& context, const v1::EffectRef& former, std::int64_t number,
              std::shared_ptr<Pursuit> after);
  Task<Reserved> take(Context& context, v1::ReserveRequest request, v1::ReserveReply asked);
  Task<std::string> leave_out(Context& context, v1::Claim claim, std::string family,
                              tempora::ApplicationError why);
  Task<Outcome> entitle_steps(Context& context, Order order, v1::ClaimReply claimed);
  Task<Outcome> retry_steps(Context& context, Order order, v1::ClaimReply claimed);
  Task<Outcome> revoke_steps(Context& context, Order order, v1::ClaimReply claimed);
  Task<Outcome> force_release_steps(Context& context, Order order, v1::ClaimReply claimed);
  void check_policies(const Order& order, const Pursuits& pursuits) const;
  Task<Outcome> undo(Context& context, v1::Claim claim, std::string code, std::string reason);
  void pursue_others(Context& context, const Order& order, const v1::Claim& claim,
                     const Pursuits& pursuits);
  Task<v1::TransitionReply> transition(Context& context, v1::TransitionRequest move);
  v1::LifecycleResult result_of(const Order& order, const Outcome& outcome) const;

  // --- effects
  std::shared_ptr<Pursuit> start_pursuit(Context& context, const v1::EffectRef& effect,
                                         std::int64_t number,
                                         std::shared_ptr<Pursuit> after = nullptr);
  Pursuits start_pursuits(Context& context, const v1::TransitionReply& moved, std::int64_t number);
  Task<void> pursue(Context& context, std::shared_ptr<Pursuit> pursuit);
  Task<void> attempt(Context& context, std::shared_ptr<Pursuit> pursuit);
  // Until all are settled, at most as long as a caller should wait; a revoke that has come in ends
  // it early.
  Task<void> await_answers(Context& context, Pursuits pursuits);
  // Until the first attempt of each has an outcome: what a caller with the policy "fail" needs.
  Task<void> await_first_attempts(Context& context, Pursuits pursuits);
  // Both, for what must be known before the operation goes on.
  Task<void> await_told(Context& context, Pursuits pursuits);
  Task<void> stop_pursuits(Context& context, Pursuits pursuits);
  bool over(const Pursuit& pursuit) const;

  // --- the background
  void run_in_background(Context& context, Task<void> task);
  Task<void> guarded(Context& context, Task<void> task);
  Task<void> restate(Context& context, v1::TransitionRequest move, milliseconds wait,
                     std::string step);
  void restate_later(Context& context, const v1::ClaimReply& claimed,
                     const v1::TransitionRequest& move);
  void restate_undone(Context& context, const v1::Claim& claim, milliseconds wait);
  Task<void> settle_revoke(Context& context, v1::Claim claim, std::vector<std::string> families,
                           Pursuits pursuits);
  void leave_session(Context& context, std::int64_t number);
  Task<void> watch_gate(Context& context, v1::Claim claim, std::vector<std::string> families);

  // --- what the ledger remembers
  Task<void> load(Context& context);
  Task<void> refresh(Context& context);
  Task<void> recover(Context& context, v1::PendingReply pending);
  void take_up(Context& context, const v1::PendingReply& pending);
  void take_up(Context& context, const v1::Carried& carried);
  v1::ServiceInput next_input() const;
  bool idle(const Context& context) const;
  void owns(const v1::Claim& claim);
  void see(Context& context, const v1::ServiceView& view);

  domain::ServiceId id_;
  std::string refusal_;  // why the input cannot be: `run` fails with it
  v1::ServiceInput input_;
  tempora::Mutex mutex_;
  Pace pace_;
  bool loaded_ = false;
  v1::ServiceView view_;
  v1::Claim claim_;      // of the newest transition; what older ones want is superseded
  std::string running_;  // the operation that holds the mutex
  OperationProgress progress_;
  int waiting_ = 0;          // operations that wait for it
  int revokes_waiting_ = 0;  // a revoke pre-empts the waits of what is before it
  Pursuits pursuits_;
  int background_ = 0;  // coroutines that nobody awaits
  int wakes_ = 0;       // cuts back-offs short
  bool wake_asked_ = false;
  bool draining_ = false;  // this run is long: nothing new is tried, it continues as new
  bool gate_wanted_ = false;
  bool gate_open_ = false;
  // Of the transition in question; a newer one has another number.
  std::int64_t settling_number_ = 0;  // its effects are waited for, then it is `revoked`
  std::int64_t revoked_number_ = 0;   // every system has confirmed it
  std::int64_t refused_number_ = 0;   // a system refused for good: it stays `revoking`
  std::string gate_detail_;
  std::vector<std::string> gate_families_;
  std::string shown_state_;  // the search attribute as last written
};

extern const tempora::Definition<ServiceLifecycle> kServiceLifecycle;

}  // namespace addrflow::workflows
