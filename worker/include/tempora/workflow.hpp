// What workflow code may do: everything goes through `Context`. The same calls in the same order
// happen again whenever the history is replayed, so workflow code uses no clock, no randomness, no
// thread and no I/O of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <tempora/activity_type.hpp>
#include <tempora/child_workflow.hpp>
#include <tempora/failure.hpp>
#include <tempora/local_activity.hpp>
#include <tempora/logging.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <tempora/task.hpp>
#include <tempora/time.hpp>
#include <tempora/workflow_info.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace tempora {

namespace engine {
class RunState;
}
class NexusEndpoint;  // nexus.hpp
namespace detail {
template <class W>
struct RunOf;  // definition.hpp
struct NexusRequest;
void start_nexus_operation(Context&, Ref<ValueState<std::string>>, Ref<FutureState>, NexusRequest);
}  // namespace detail

using SourceLocation = std::source_location;

struct TimerOptions {
  std::string summary;  // shown in the Temporal UI
};

struct ContinueAsNewOptions {
  std::string workflow_type;  // empty: the same
  std::string task_queue;     // empty: the same
  Duration run_timeout{};     // zero: the same
  Duration task_timeout{};    // zero: the same
};

// Thrown by `Context::continue_as_new`. Not a `std::exception`, so that no handler for failures
// takes it by accident.
struct ContinueAsNewRequest {
  Payloads arguments;
  ContinueAsNewOptions options;
};

// The update whose handler is running.
struct UpdateInfo {
  std::string id;  // given by the caller; the same for a repeated request
  std::string name;
};

// Workflow code did what it must not do: a command from a query, a call from outside the run …
// Fails the task.
struct WorkflowMisuse : std::logic_error {
  using std::logic_error::logic_error;
};

namespace detail {
// Throws a `WorkflowMisuse`, which fails the task also where it is caught.
[[noreturn]] void raise_misuse(const std::string& why);
}  // namespace detail

// A part of a workflow that is cancelled as one. What is started in a scope (timers, activities,
// waits, nested scopes) is cancelled with it, in the order in which it was started; what is started
// in a cancelled scope fails at once.
class CancellationScope {
 public:
  explicit CancellationScope(detail::Ref<detail::ScopeState> state) : state_(std::move(state)) {}
  void cancel(const std::string& reason = "scope cancelled") const { state_->cancel(reason); }
  bool cancelled() const { return state_->cancelled(); }

  // Runs the coroutine that `factory()` makes inside this scope. `factory` is kept until the
  // coroutine has ended.
  template <class F>
  auto run(F factory) const -> std::invoke_result_t<F&> {
    return run_in<typename std::invoke_result_t<F&>::value_type>(*this, std::move(factory));
  }
  const detail::Ref<detail::ScopeState>& state() const { return state_; }

 private:
  template <class T, class F>
  static Task<T> run_in(CancellationScope scope, F factory) {
    detail::Scheduler::required().scope = scope.state_;
    co_return co_await factory();
  }
  detail::Ref<detail::ScopeState> state_;
};

// A future of any type, for `select` and `join`.
class AnyFuture {
 public:
  template <class T>
  AnyFuture(const Future<T>& future)
      : state_(future.state()) {}  // NOLINT: futures of all types go into one list
  bool ready() const { return !state_->pending(); }
  const detail::Ref<detail::FutureState>& state() const { return state_; }

 private:
  detail::Ref<detail::FutureState> state_;
};

class Context {
 public:
  explicit Context(engine::RunState& run) : run_(&run) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // --- activities: scheduled now, awaited whenever. `request` must be a named object.
  template <class I, class O>
  Future<O> start(const ActivityType<I, O>& type, const I& request,
                  const ActivityOptions& overrides = {},
                  SourceLocation where = SourceLocation::current()) {
    auto state = detail::make_ref<detail::DecodedState<O>>();
    Payloads input;
    if constexpr (!std::is_same_v<I, Void>) {
      if (needs_arguments()) *input.add_payloads() = PayloadCodec<I>::encode(request);
    }
    schedule_activity(state, type.name, type.defaults, overrides, std::move(input), where);
    return Future<O>{std::move(state)};
  }
  template <class O>
  Future<O> start(const ActivityType<Void, O>& type, const ActivityOptions& overrides = {},
                  SourceLocation where = SourceLocation::current()) {
    static const Void kNothing;
    return start(type, kNothing, overrides, where);
  }
  template <class I, class O>
  Future<O> start(const ActivityType<I, O>& type, const I&& request,
                  const ActivityOptions& overrides = {},
                  SourceLocation where = SourceLocation::current()) = delete;

  // The same as `start`; reads better behind `co_await`.
  template <class I, class O>
  Future<O> execute(const ActivityType<I, O>& type, const I& request,
                    const ActivityOptions& overrides = {},
                    SourceLocation where = SourceLocation::current()) {
    return start(type, request, overrides, where);
  }
  template <class O>
  Future<O> execute(const ActivityType<Void, O>& type, const ActivityOptions& overrides = {},
                    SourceLocation where = SourceLocation::current()) {
    return start(type, overrides, where);
  }
  template <class I, class O>
  Future<O> execute(const ActivityType<I, O>& type, const I&& request,
                    const ActivityOptions& overrides = {},
                    SourceLocation where = SourceLocation::current()) = delete;

  // --- local activities: in this worker, without a task of their own; `request` must be named
  template <class I, class O>
  Future<O> start_local(const ActivityType<I, O>& type, const I& request,
                        const LocalActivityOptions& options = {},
                        SourceLocation where = SourceLocation::current()) {
    auto state = detail::make_ref<detail::DecodedState<O>>();
    Payloads input;  // on replay, too: one that had not ended is run again
    if constexpr (!std::is_same_v<I, Void>)
      *input.add_payloads() = PayloadCodec<I>::encode(request);
    start_local_activity(state, type.name, type.defaults, options, std::move(input), where);
    return Future<O>{std::move(state)};
  }
  template <class O>
  Future<O> start_local(const ActivityType<Void, O>& type, const LocalActivityOptions& options = {},
                        SourceLocation where = SourceLocation::current()) {
    static const Void kNothing;
    return start_local(type, kNothing, options, where);
  }
  template <class I, class O>
  Future<O> start_local(const ActivityType<I, O>& type, const I&& request,
                        const LocalActivityOptions& options = {},
                        SourceLocation where = SourceLocation::current()) = delete;

  // --- other workflows
  // Starts a child, by name or by its definition. `execute_child` is the same for those who want
  // nothing but its result. The position in the code, which errors and stack traces name, is that
  // of the name or of the call; by definition and with several arguments there is none.
  template <class O = void, class... A>
  ChildWorkflow<O> start_child(NamedHere workflow_type, ChildWorkflowOptions options,
                               const A&... arguments) {
    auto started = detail::make_ref<detail::ValueState<std::string>>();
    auto result = detail::make_ref<detail::DecodedState<O>>();
    std::string id =
        start_child_workflow(started, result, workflow_type, std::move(options),
                             needs_arguments() ? encode_all(arguments...) : Payloads{});
    return {*this, std::move(id), Future<std::string>{std::move(started)},
            Future<O>{std::move(result)}};
  }
  template <class W>
  auto start_child(const Definition<W>& definition, ChildWorkflowOptions options,
                   SourceLocation where = SourceLocation::current()) {
    return start_child_at(where, definition, std::move(options));
  }
  template <class W, class A>
  auto start_child(const Definition<W>& definition, ChildWorkflowOptions options, const A& argument,
                   SourceLocation where = SourceLocation::current()) {
    return start_child_at(where, definition, std::move(options), argument);
  }
  template <class W, class... A>
    requires(sizeof...(A) > 1)
  auto start_child(const Definition<W>& definition, ChildWorkflowOptions options,
                   const A&... arguments) {
    return start_child_at(SourceLocation{}, definition, std::move(options), arguments...);
  }
  template <class O = void, class... A>
  Future<O> execute_child(NamedHere workflow_type, ChildWorkflowOptions options,
                          const A&... arguments) {
    return start_child<O>(workflow_type, std::move(options), arguments...).result();
  }
  template <class W>
  auto execute_child(const Definition<W>& definition, ChildWorkflowOptions options,
                     SourceLocation where = SourceLocation::current()) {
    return start_child_at(where, definition, std::move(options)).result();
  }
  template <class W, class A>
  auto execute_child(const Definition<W>& definition, ChildWorkflowOptions options,
                     const A& argument, SourceLocation where = SourceLocation::current()) {
    return start_child_at(where, definition, std::move(options), argument).result();
  }
  template <class W, class... A>
    requires(sizeof...(A) > 1)
  auto execute_child(const Definition<W>& definition, ChildWorkflowOptions options,
                     const A&... arguments) {
    return start_child_at(SourceLocation{}, definition, std::move(options), arguments...).result();
  }
  // A workflow of the namespace, for signals and requests to cancel. Empty `run_id`: its latest
  // run.
  ExternalWorkflow external(std::string workflow_id, std::string run_id = {}) {
    return {*this, std::move(workflow_id), std::move(run_id)};
  }

  // --- Nexus (nexus.hpp): services that others offer behind an endpoint
  NexusEndpoint nexus(std::string endpoint);

  // --- time
  // Zero or less is ready at once and leaves nothing in the history.
  Future<void> timer(Duration duration, const TimerOptions& options = {},
                     SourceLocation where = SourceLocation::current());
  Future<void> sleep(Duration duration, SourceLocation where = SourceLocation::current()) {
    return timer(duration, {}, where);
  }
  // The time at which the task in hand was started; never goes back.
  TimePoint now() const;

  // --- waiting
  // True once `condition` holds. It is asked whenever the run has come to rest, so it must be cheap
  // and change nothing.
  Task<bool> wait_until(std::function<bool()> condition,
                        SourceLocation where = SourceLocation::current());
  // False if the time is over and `condition` still does not hold.
  Task<bool> wait_until(std::function<bool()> condition, Duration timeout,
                        SourceLocation where = SourceLocation::current());
  // Runs `task` beside the others, in a scope of its own inside the current one.
  template <class T>
  Handle<T> spawn(Task<T> task, SourceLocation where = SourceLocation::current()) {
    auto state = detail::make_ref<detail::ValueState<T>>();
    spawn_root(state, drive<T>(std::move(task), state), where);
    return Handle<T>{std::move(state)};
  }
  // No signal or update handler is under way. Inside a handler: none but itself would make this
  // true.
  bool all_handlers_finished() const { return handlers_running() == 0; }
  int handlers_running() const;
  // The update in whose handler (or in what it awaits) this is called; nothing elsewhere, also not
  // in what it spawned.
  std::optional<UpdateInfo> current_update() const;

  // --- signals whose handlers are made while the workflow runs
  // A signal without a handler waits. When one is made, it gets what has waited for it, in the
  // order of arrival. The handler is kept until the run ends or another one takes its place.
  using SignalHandler = std::function<Task<void>(Payloads)>;
  using AnySignalHandler = std::function<Task<void>(std::string, Payloads)>;
  void on_signal(const std::string& name, SignalHandler handler);
  void on_any_signal(AnySignalHandler handler);

  // --- what may come out differently each time
  // Runs `function` once and records what it returns; on replay it is not run. It must not touch
  // the workflow's state, and it is run again if the task fails.
  template <class F>
  auto side_effect(F function, SourceLocation where = SourceLocation::current())
      -> std::invoke_result_t<F&> {
    using T = std::invoke_result_t<F&>;
    return PayloadCodec<T>::decode(
        side_effect_payload([&function] { return PayloadCodec<T>::encode(function()); }, where));
  }

  // --- deterministic randomness
  std::uint64_t random();
  std::string uuid();  // version 4

  // --- changing code under running workflows
  // ------------------------------------------------------------------------ True if this run
  // executes the code of the change `id`: always in new runs; in older ones only if it was so then.
  bool patched(std::string_view id, SourceLocation where = SourceLocation::current());
  // Instead of `patched(id)`, when no run without the change is left.
  void deprecate_patch(std::string_view id, SourceLocation where = SourceLocation::current());

  // --- visible state
  void upsert_search_attributes(const SearchAttributes& changes,
                                SourceLocation where = SourceLocation::current());
  void upsert_memo(const std::map<std::string, Payload>& changes,
                   SourceLocation where = SourceLocation::current());
  template <class T>
  void upsert_memo(const std::string& name, const T& value,
                   SourceLocation where = SourceLocation::current()) {
    upsert_memo(std::map<std::string, Payload>{{name, PayloadCodec<T>::encode(value)}}, where);
  }
  // The value in the memo; nothing if there is none. Throws `PayloadError` if it is of another
  // type.
  template <class T>
  std::optional<T> memo(const std::string& name) const {
    const auto found = info().memo.find(name);
    if (found == info().memo.end()) return std::nullopt;
    return PayloadCodec<T>::decode(found->second);
  }
  // Shown by the Temporal UI while the workflow runs.
  void set_current_details(std::string text);

  // --- about this run
  const WorkflowInfo& info() const;
  bool is_replaying() const;
  // Silent while replaying.
  Logger log() const;

  // --- cancellation
  CancellationScope root_scope() const;
  CancellationScope current_scope() const;
  bool cancel_requested() const;
  // Ready once cancellation of the workflow has been requested. Belongs to no scope. One future for
  // all who ask: a stack trace names the place of the latest call.
  Future<void> cancelled(SourceLocation where = SourceLocation::current()) const;
  CancellationScope new_scope() const;           // cancelled with the current one
  CancellationScope new_shielded_scope() const;  // cancelled only by itself
  // Runs the coroutine that `factory()` makes where no cancellation reaches it.
  template <class F>
  auto shielded(F factory) const -> std::invoke_result_t<F&> {
    return new_shielded_scope().run(std::move(factory));
  }

  // --- the end
  // Ends this run and starts the next one of the same type with `arguments`. Drain handlers first.
  template <class... A>
  [[noreturn]] void continue_as_new(const A&... arguments) {
    throw ContinueAsNewRequest{encode_all(arguments...), {}};
  }
  template <class... A>
  [[noreturn]] void continue_as_new_with(ContinueAsNewOptions options, const A&... arguments) {
    throw ContinueAsNewRequest{encode_all(arguments...), std::move(options)};
  }

 private:
  friend class Semaphore;
  friend bool detail::encodes_arguments(Context&);
  friend Future<void> detail::signal_workflow(Context&, const detail::WorkflowTarget&, NamedHere,
                                              Payloads);
  friend Future<void> detail::cancel_workflow(Context&, const detail::WorkflowTarget&,
                                              const std::string&, std::source_location);
  friend void detail::start_nexus_operation(Context&, detail::Ref<detail::ValueState<std::string>>,
                                            detail::Ref<detail::FutureState>, detail::NexusRequest);
  friend Task<std::size_t> select(Context&, std::vector<AnyFuture>);

  template <class T>
  static Task<void> drive(Task<T> task, detail::Ref<detail::ValueState<T>> state) {
    try {
      if constexpr (std::is_void_v<T>) {
        co_await task;
        state->fulfil();
      } else {
        state->set(co_await task);
      }
    } catch (const Failure&) {
      state->fail(std::current_exception());
    }
  }

  bool needs_arguments() const;  // false on replay: what was sent then is not compared
  void schedule_activity(detail::Ref<detail::FutureState> state, const std::string& type,
                         const ActivityOptions& defaults, const ActivityOptions& overrides,
                         Payloads input, SourceLocation where);
  void start_local_activity(detail::Ref<detail::FutureState> state, const std::string& type,
                            const ActivityOptions& defaults, const LocalActivityOptions& options,
                            Payloads input, SourceLocation where);
  template <class W, class... A>
  auto start_child_at(SourceLocation where, const Definition<W>& definition,
                      ChildWorkflowOptions options, const A&... arguments) {
    using O = typename detail::RunOf<W>::Result;
    return start_child<O>(NamedHere{definition.name(), where}, std::move(options), arguments...);
  }
  // The child's id.
  std::string start_child_workflow(detail::Ref<detail::ValueState<std::string>> started,
                                   detail::Ref<detail::FutureState> result,
                                   const NamedHere& workflow_type, ChildWorkflowOptions options,
                                   Payloads input);
  Payload side_effect_payload(const std::function<Payload()>& function, SourceLocation where);
  void spawn_root(detail::Ref<detail::FutureState> state, Task<void> task, SourceLocation where);

  engine::RunState* run_;
};

// The index of the first future in list order that is ready, as soon as one is. Does not take its
// result.
Task<std::size_t> select(Context& context, std::vector<AnyFuture> futures);
// Returns when all are ready, however they ended. Does not take their results.
Task<void> join(Context& context, std::vector<AnyFuture> futures);

class Semaphore;

// Holds one place of a semaphore while it lives.
class [[nodiscard]] SemaphorePermit {
 public:
  SemaphorePermit() = default;
  explicit SemaphorePermit(Semaphore& semaphore) : semaphore_(&semaphore) {}
  SemaphorePermit(SemaphorePermit&& other) noexcept
      : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
  SemaphorePermit& operator=(SemaphorePermit&& other) noexcept {
    if (this != &other) {
      release();
      semaphore_ = std::exchange(other.semaphore_, nullptr);
    }
    return *this;
  }
  ~SemaphorePermit() { release(); }
  void release();

 private:
  Semaphore* semaphore_ = nullptr;
};

// So many of the handlers of one run at once: so many activities under way, say. First come first
// served.
class Semaphore {
 public:
  explicit Semaphore(int places) : free_(places) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Throws `CanceledError` if the scope in which it waits is cancelled.
  Task<SemaphorePermit> acquire(Context& context, SourceLocation where = SourceLocation::current());
  int free() const { return free_; }

 private:
  friend class Mutex;
  friend class SemaphorePermit;
  // `name`: what a stack trace says that is waited for.
  Semaphore(int places, const char* name) : name_(name), free_(places) {}
  void release();

  std::deque<detail::Ref<detail::ValueState<void>>> waiters_;
  const char* name_ = "semaphore";
  int free_;
};

// Holds a mutex while it lives.
class [[nodiscard]] MutexLock {
 public:
  MutexLock() = default;
  explicit MutexLock(SemaphorePermit permit) : permit_(std::move(permit)) {}
  void unlock() { permit_.release(); }

 private:
  SemaphorePermit permit_;
};

// A semaphore with one place: lets the handlers of one run take turns. A member of the workflow's
// class: handlers interleave at every `co_await`, so state that must not change in between needs
// one.
class Mutex {
 public:
  Mutex() = default;
  explicit Mutex(Context&) {}

  // Throws `CanceledError` if the scope in which it waits is cancelled.
  Task<MutexLock> lock(Context& context, SourceLocation where = SourceLocation::current());
  bool locked() const { return place_.free() == 0; }

 private:
  Semaphore place_{1, "mutex"};
};

}  // namespace tempora
