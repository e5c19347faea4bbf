// `Task<T>`: a coroutine of a workflow. It starts when it is awaited (or given to
// `Context::spawn`), runs inside its awaiter's logical task, and is owned by whoever holds the
// object.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <tempora/detail/scheduler.hpp>
#include <type_traits>
#include <utility>

namespace tempora {

template <class T = void>
class Task;

namespace detail {

class TaskPromiseBase {
 public:
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) noexcept {
      TaskPromiseBase& promise = self.promise();
      if (promise.continuation_) return promise.continuation_;
      if (Scheduler* scheduler = Scheduler::current()) scheduler->root_done = true;
      return std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };

  // The coroutine's frame.
  static void* operator new(std::size_t size) { return counted_new(size); }
  static void operator delete(void* memory, std::size_t size) noexcept {
    counted_delete(memory, size);
  }

  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { error_ = std::current_exception(); }

  // Only what the runtime knows how to resume may be awaited.
  template <class A>
    requires std::derived_from<std::remove_cvref_t<A>, AwaitableTag>
  A&& await_transform(A&& awaitable) noexcept {
    return std::forward<A>(awaitable);
  }

  void set_continuation(std::coroutine_handle<> continuation) { continuation_ = continuation; }
  const std::exception_ptr& error() const { return error_; }

 protected:
  std::coroutine_handle<> continuation_;
  std::exception_ptr error_;
};

template <class T>
class TaskPromise final : public TaskPromiseBase {
 public:
  Task<T> get_return_object() noexcept;
  template <class U>
    requires std::constructible_from<T, U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    if (error_) std::rethrow_exception(error_);
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class TaskPromise<void> final : public TaskPromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() {
    if (error_) std::rethrow_exception(error_);
  }
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task : public detail::AwaitableTag {
 public:
  using promise_type = detail::TaskPromise<T>;
  using value_type = T;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { destroy(); }

  explicit operator bool() const { return static_cast<bool>(handle_); }
  bool done() const { return handle_ && handle_.done(); }
  Handle handle() const { return handle_; }

  class Awaiter {
   public:
    explicit Awaiter(Handle handle) : handle_(handle) {}
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> parent) {
      scope_ = detail::Scheduler::required().scope;
      handle_.promise().set_continuation(parent);
      return handle_;
    }
    T await_resume() {
      // A scope that the callee entered ends with the callee.
      if (auto* scheduler = detail::Scheduler::current()) scheduler->scope = std::move(scope_);
      return handle_.promise().take();
    }

   private:
    Handle handle_;
    detail::Ref<detail::ScopeState> scope_;
  };
  Awaiter operator co_await() const noexcept { return Awaiter{handle_}; }

 private:
  void destroy() {
    if (handle_) std::exchange(handle_, nullptr).destroy();
  }
  Handle handle_;
};

namespace detail {

template <class T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
  return Task<T>{std::coroutine_handle<TaskPromise<T>>::from_promise(*this)};
}
inline Task<void> TaskPromise<void>::get_return_object() noexcept {
  return Task<void>{std::coroutine_handle<TaskPromise<void>>::from_promise(*this)};
}

// Waits for one future, without looking at its result.
class ReadyAwaiter : public AwaitableTag {
 public:
  explicit ReadyAwaiter(Ref<FutureState> state) : state_(std::move(state)) {}
  ReadyAwaiter(const ReadyAwaiter& other) : AwaitableTag(), state_(other.state_) {}
  bool await_ready() const noexcept { return !state_->pending(); }
  void await_suspend(std::coroutine_handle<> self) {
    waiter_.suspension.capture(self, state_.get());
    state_->add_waiter(waiter_);
  }
  void await_resume() {
    state_->observed = true;
    if (waiter_.suspension.handle) waiter_.suspension.restore();
  }

 protected:
  Ref<FutureState> state_;
  Waiter waiter_;
};

}  // namespace detail

// The result of something under way: a shared handle. Awaiting it a second time gives the same
// result.
template <class T>
class [[nodiscard]] Future : public detail::AwaitableTag {
 public:
  Future() = default;
  explicit Future(detail::Ref<detail::ValueState<T>> state) : state_(std::move(state)) {}

  bool valid() const { return static_cast<bool>(state_); }
  bool ready() const { return !state_->pending(); }
  // Asks what stands behind to stop. The future then fails with a cancellation, at once or later
  // (CancellationType).
  void cancel(const std::string& reason = {}) const { state_->request_cancel(reason); }

  class Awaiter : public detail::ReadyAwaiter {
   public:
    using detail::ReadyAwaiter::ReadyAwaiter;
    T await_resume() {
      detail::ReadyAwaiter::await_resume();
      state_->rethrow_failure();
      if constexpr (!std::is_void_v<T>) {
        auto& state = static_cast<detail::ValueState<T>&>(*state_);
        if (state.unique()) return std::move(*state.value);  // nobody else can ask again
        return *state.value;
      }
    }
  };
  Awaiter operator co_await() const& { return Awaiter{state_}; }
  Awaiter operator co_await() && { return Awaiter{std::move(state_)}; }

  const detail::Ref<detail::ValueState<T>>& state() const { return state_; }

 private:
  detail::Ref<detail::ValueState<T>> state_;
};

// What `Context::spawn` returns; cancelling it cancels the scope in which the coroutine runs.
template <class T>
using Handle = Future<T>;

}  // namespace tempora
