// The deterministic heart: a FIFO of coroutines that are ready, futures that feed it, and scopes
// that cancel futures. One scheduler a run, one thread at a time, no locks. Resolving a future
// never resumes anybody: it only appends.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <string>
#include <tempora/detail/ref.hpp>
#include <tempora/payload.hpp>
#include <utility>
#include <vector>

namespace tempora::detail {

class FutureState;
class ScopeState;
class Scheduler;
struct Root;

// A node of a circular list. Unlinks itself when it dies: a frame may be destroyed while it waits.
struct ListHook {
  ListHook* prev = this;
  ListHook* next = this;

  ListHook() = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { unlink(); }

  bool linked() const { return next != this; }
  void unlink() {
    prev->next = next;
    next->prev = prev;
    prev = next = this;
  }
  // As a list head: `node` becomes the last one.
  void push_back(ListHook& node) {
    node.unlink();
    node.prev = prev;
    node.next = this;
    prev->next = &node;
    prev = &node;
  }
};

// Something that its scope can cancel.
class ScopeItem : public ListHook {
 public:
  virtual void cancel_by_scope(const std::string& reason) = 0;
  virtual RefCounted* keep_alive() = 0;

 protected:
  ~ScopeItem() = default;
};

class ScopeState final : public RefCounted, public ScopeItem {
 public:
  // A shielded scope is not cancelled with its parent.
  static Ref<ScopeState> root();
  static Ref<ScopeState> inside(ScopeState& parent, bool shielded);

  bool cancelled() const { return cancelled_; }
  const std::string& reason() const { return reason_; }
  // Cancels what is in the scope, in the order of creation. A second call does nothing.
  void cancel(const std::string& reason);
  void add(ScopeItem& item) { items_.push_back(item); }

  void cancel_by_scope(const std::string& reason) override { cancel(reason); }
  RefCounted* keep_alive() override { return this; }

 private:
  ListHook items_;
  std::string reason_;
  bool cancelled_ = false;
};

// Where a coroutine goes on, and as whom.
struct Suspension {
  std::coroutine_handle<> handle;
  Root* root = nullptr;
  Ref<ScopeState> scope;

  void capture(std::coroutine_handle<> self, FutureState* waiting_for);
  void schedule();
  void restore();
};

// One coroutine's place in the list of those who wait for a future. Lives in the coroutine's frame.
struct Waiter : ListHook {
  Suspension suspension;
  bool* woken = nullptr;  // shared by the waiters of one `select`: only the first one wakes
};

// Told when the owner of a future asks to cancel it.
class Cancellable {
 public:
  virtual void cancel(const std::string& reason) = 0;

 protected:
  ~Cancellable() = default;
};

class FutureState : public RefCounted, public ScopeItem {
 public:
  enum class Status : std::uint8_t { kPending, kReady, kFailed };

  bool pending() const { return status_ == Status::kPending; }
  bool failed() const { return status_ == Status::kFailed; }
  void fail(std::exception_ptr error);
  // Wakes the waiters; the value is in place.
  void fulfil();
  // Takes over a result off the wire; null if there is none.
  virtual void fulfil_from(const Payload* payload);
  void add_waiter(Waiter& waiter) { waiters_.push_back(waiter); }
  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }
  const std::exception_ptr& failure() const { return failure_; }

  void request_cancel(const std::string& reason);
  void cancel_by_scope(const std::string& reason) override { request_cancel(reason); }
  RefCounted* keep_alive() override { return this; }

  Cancellable* owner = nullptr;  // what stands behind; null: cancelling fails the future at once
  const char* what = "";         // for the stack trace: "activity", "timer" …
  std::source_location where{};  // the call that made it
  bool observed = false;         // somebody awaited it

 private:
  void wake();

  ListHook waiters_;
  std::exception_ptr failure_;
  Status status_ = Status::kPending;
};

template <class T>
class ValueState : public FutureState {
 public:
  std::optional<T> value;
  void set(T result) {
    value.emplace(std::move(result));
    fulfil();
  }
};
template <>
class ValueState<void> : public FutureState {};

// The state of an operation whose result comes as a payload.
template <class T>
class DecodedState final : public ValueState<T> {
 public:
  void fulfil_from(const Payload* payload) override {
    if (!this->pending()) return;
    try {
      if constexpr (!std::is_void_v<T>) {
        static const Payload kNone = null_payload();
        this->value.emplace(PayloadCodec<T>::decode(payload ? *payload : kNone));
      }
    } catch (...) {
      this->fail(std::current_exception());
      return;
    }
    this->fulfil();
  }
};

// The FIFO of a run. `current()` is set only while a run is being worked on.
class Scheduler {
 public:
  struct Ready {
    std::coroutine_handle<> handle;  // null: `root` starts
    Root* root;
  };

  static Scheduler* current();
  static Scheduler& required();  // throws `std::logic_error` outside a workflow

  class Use {  // makes a scheduler the current one of this thread
   public:
    explicit Use(Scheduler& scheduler);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Scheduler* previous_;
  };

  void push(std::coroutine_handle<> handle, Root* root) { ready_.push_back({handle, root}); }
  bool idle() const { return head_ == ready_.size(); }
  Ready pop();
  void forget_ready();

  Ref<ScopeState> scope;   // of the coroutine that runs
  Root* root = nullptr;    // whose coroutine runs
  bool root_done = false;  // its outermost coroutine has just ended
  bool evicting = false;   // frames are being destroyed: nobody may do anything
  bool read_only = false;  // a query, a validator or a condition runs: nobody may change anything
  std::ptrdiff_t counted_bytes = 0;  // frames, futures, machines: see `counted_new`

 private:
  std::vector<Ready> ready_;
  std::size_t head_ = 0;
};

void set_waiting_for(Root* root, FutureState* state);

struct AwaitableTag {};

}  // namespace tempora::detail
