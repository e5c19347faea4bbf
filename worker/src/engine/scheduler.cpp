#include <stdexcept>
#include <tempora/detail/scheduler.hpp>
#include <tempora/failure.hpp>
#include <tempora/workflow.hpp>

#include "engine/misuse.hpp"
#include "engine/place.hpp"
#include "engine/root.hpp"

namespace tempora::detail {
namespace {

thread_local Scheduler* t_current = nullptr;
thread_local std::exception_ptr t_misuse;

// What the allocator needs for itself, about.
constexpr std::size_t kAllocationBytes = 16;

void count(std::size_t size, int sign) {
  if (t_current != nullptr)
    t_current->counted_bytes += sign * static_cast<std::ptrdiff_t>(size + kAllocationBytes);
}

// Destructors in frames that are being destroyed may ask; then nothing happens.
bool may_cancel() {
  if (t_current == nullptr || t_current->evicting) return false;
  if (t_current->read_only)
    engine::Misuse::raise("cancel: a query, validator or condition must change nothing");
  return true;
}

}  // namespace

void* counted_new(std::size_t size) {
  void* memory = ::operator new(size);
  count(size, 1);
  return memory;
}

void counted_delete(void* memory, std::size_t size) noexcept {
  count(size, -1);
  ::operator delete(memory, size);
}

Scheduler* Scheduler::current() { return t_current; }

Scheduler& Scheduler::required() {
  if (t_current == nullptr) throw std::logic_error("workflow code was called outside a workflow");
  return *t_current;
}

Scheduler::Use::Use(Scheduler& scheduler) : previous_(std::exchange(t_current, &scheduler)) {}
Scheduler::Use::~Use() { t_current = previous_; }

Scheduler::Ready Scheduler::pop() {
  const Ready first = ready_[head_++];
  if (head_ == ready_.size()) {
    // An idle run keeps no storage for a burst that is over.
    if (ready_.capacity() > 16) ready_ = {};
    ready_.clear();
    head_ = 0;
  }
  return first;
}

void Scheduler::forget_ready() {
  ready_.clear();
  head_ = 0;
}

void set_waiting_for(Root* root, FutureState* state) {
  if (root != nullptr) root->waiting_for = state;
}

void Suspension::capture(std::coroutine_handle<> self, FutureState* waiting_for) {
  Scheduler& scheduler = Scheduler::required();
  handle = self;
  root = scheduler.root;
  scope = scheduler.scope;
  set_waiting_for(root, waiting_for);
}

void Suspension::schedule() { Scheduler::required().push(handle, root); }

void Suspension::restore() {
  if (root != nullptr && root->waiting_for != nullptr)
    engine::Place::of_this_thread().go_on(root->waiting_for->what, root->waiting_for->where);
  set_waiting_for(root, nullptr);
  Scheduler::required().scope = std::move(scope);
}

Ref<ScopeState> ScopeState::root() { return make_ref<ScopeState>(); }

Ref<ScopeState> ScopeState::inside(ScopeState& parent, bool shielded) {
  Ref<ScopeState> scope = make_ref<ScopeState>();
  if (shielded) return scope;
  if (parent.cancelled_) {
    scope->cancel(parent.reason_);
  } else {
    parent.add(*scope);
  }
  return scope;
}

void ScopeState::cancel(const std::string& reason) {
  if (cancelled_ || !may_cancel()) return;
  cancelled_ = true;
  reason_ = reason;
  unlink();
  const Ref<ScopeState> self{this};
  while (items_.linked()) {
    auto& item = static_cast<ScopeItem&>(*items_.next);
    const Ref<RefCounted> alive{item.keep_alive()};
    item.unlink();
    item.cancel_by_scope(reason_);
  }
}

void FutureState::fail(std::exception_ptr error) {
  if (!pending()) return;
  failure_ = std::move(error);
  status_ = Status::kFailed;
  wake();
}

void FutureState::fulfil() {
  if (!pending()) return;
  status_ = Status::kReady;
  wake();
}

void FutureState::fulfil_from(const Payload*) { fulfil(); }

void FutureState::wake() {
  unlink();  // its scope has nothing left to cancel
  owner = nullptr;
  while (waiters_.linked()) {
    auto& waiter = static_cast<Waiter&>(*waiters_.next);
    waiter.unlink();
    if (waiter.woken != nullptr) {
      if (*waiter.woken) continue;
      *waiter.woken = true;
    }
    waiter.suspension.schedule();
  }
}

void FutureState::request_cancel(const std::string& reason) {
  if (!pending()) return;
  if (!may_cancel()) return;
  const Ref<FutureState> self{this};
  if (owner != nullptr) {
    owner->cancel(reason);
  } else {
    fail(std::make_exception_ptr(CanceledError{reason.empty() ? "canceled" : reason}));
  }
}

}  // namespace tempora::detail

namespace tempora::engine {

void Misuse::raise(const std::string& why) {
  const std::exception_ptr error = std::make_exception_ptr(WorkflowMisuse{why});
  if (detail::t_current != nullptr && !detail::t_misuse) detail::t_misuse = error;
  std::rethrow_exception(error);
}

void Misuse::rethrow() {
  if (detail::t_misuse) std::rethrow_exception(std::exchange(detail::t_misuse, nullptr));
}

void Misuse::forget() { detail::t_misuse = nullptr; }

}  // namespace tempora::engine
