#include <tempora/definition.hpp>
#include <tempora/nexus.hpp>
#include <tempora/workflow.hpp>

#include "engine/misuse.hpp"
#include "engine/run_state.hpp"

namespace tempora {

using detail::Ref;
using detail::Scheduler;

ActivityOptions merge(ActivityOptions defaults, const ActivityOptions& overrides) {
  const ActivityOptions untouched;
  const auto take = [](auto& field, const auto& wanted, const auto& plain) {
    if (wanted != plain) field = wanted;
  };
  take(defaults.task_queue, overrides.task_queue, untouched.task_queue);
  take(defaults.schedule_to_close, overrides.schedule_to_close, untouched.schedule_to_close);
  take(defaults.schedule_to_start, overrides.schedule_to_start, untouched.schedule_to_start);
  take(defaults.start_to_close, overrides.start_to_close, untouched.start_to_close);
  take(defaults.heartbeat, overrides.heartbeat, untouched.heartbeat);
  if (overrides.cancellation) defaults.cancellation = overrides.cancellation;
  take(defaults.summary, overrides.summary, untouched.summary);
  take(defaults.activity_id, overrides.activity_id, untouched.activity_id);
  if (overrides.eager) defaults.eager = overrides.eager;
  take(defaults.priority.key, overrides.priority.key, untouched.priority.key);
  take(defaults.priority.fairness_key, overrides.priority.fairness_key,
       untouched.priority.fairness_key);
  take(defaults.priority.fairness_weight, overrides.priority.fairness_weight,
       untouched.priority.fairness_weight);
  if (overrides.retry) defaults.retry = overrides.retry;
  return defaults;
}

bool Context::needs_arguments() const { return run_->sends_commands(); }

void Context::schedule_activity(Ref<detail::FutureState> state, const std::string& type,
                                const ActivityOptions& defaults, const ActivityOptions& overrides,
                                Payloads input, SourceLocation where) {
  if (!run_->may_command("activity")) return;
  run_->schedule_activity(state, type, merge(defaults, overrides), std::move(input), where);
}

void Context::start_local_activity(Ref<detail::FutureState> state, const std::string& type,
                                   const ActivityOptions& defaults,
                                   const LocalActivityOptions& options, Payloads input,
                                   SourceLocation where) {
  if (!run_->may_command("local activity")) return;
  run_->start_local_activity(state, type, defaults, options, std::move(input), where);
}

std::string Context::start_child_workflow(Ref<detail::ValueState<std::string>> started,
                                          Ref<detail::FutureState> result,
                                          const NamedHere& workflow_type,
                                          ChildWorkflowOptions options, Payloads input) {
  if (!run_->may_command("start_child")) return std::move(options.id);
  return run_->start_child(started, result, workflow_type, std::move(options), std::move(input));
}

namespace detail {

void raise_misuse(const std::string& why) { engine::Misuse::raise(why); }

bool encodes_arguments(Context& context) { return context.needs_arguments(); }

Future<void> signal_workflow(Context& context, const WorkflowTarget& target, NamedHere signal,
                             Payloads input) {
  auto state = make_ref<ValueState<void>>();
  if (context.run_->may_command("signal"))
    context.run_->signal_workflow(state, target, signal, std::move(input));
  return Future<void>{std::move(state)};
}

Future<void> cancel_workflow(Context& context, const WorkflowTarget& target,
                             const std::string& reason, std::source_location where) {
  auto state = make_ref<ValueState<void>>();
  if (context.run_->may_command("cancel"))
    context.run_->cancel_workflow(state, target, reason, where);
  return Future<void>{std::move(state)};
}

void start_nexus_operation(Context& context, Ref<ValueState<std::string>> started,
                           Ref<FutureState> result, NexusRequest request) {
  if (context.run_->may_command("Nexus operation"))
    context.run_->start_nexus(started, result, std::move(request));
}

}  // namespace detail

NexusEndpoint Context::nexus(std::string endpoint) { return {*this, std::move(endpoint)}; }

Future<void> Context::timer(Duration duration, const TimerOptions& options, SourceLocation where) {
  auto state = detail::make_ref<detail::ValueState<void>>();
  if (run_->may_command("timer")) run_->start_timer(state, duration, options.summary, where);
  return Future<void>{std::move(state)};
}

TimePoint Context::now() const { return run_->now(); }

void Context::spawn_root(Ref<detail::FutureState> state, Task<void> task, SourceLocation where) {
  if (run_->may_command("spawn")) run_->spawn(state, std::move(task), where);
}

int Context::handlers_running() const { return run_->handlers_running(); }

std::optional<UpdateInfo> Context::current_update() const {
  const detail::Root* root = run_->scheduler().root;
  if (root == nullptr || root->kind != engine::RootKind::kUpdate) return std::nullopt;
  return UpdateInfo{static_cast<const engine::UpdateMachine&>(*root->subject).id(), root->name};
}

namespace {

// Waits for the first of several futures.
class FirstAwaiter : public detail::AwaitableTag {
 public:
  explicit FirstAwaiter(std::vector<Ref<detail::FutureState>> states)
      : states_(std::move(states)), waiters_(std::make_unique<detail::Waiter[]>(states_.size())) {}
  FirstAwaiter(const FirstAwaiter&) = delete;
  FirstAwaiter& operator=(const FirstAwaiter&) = delete;

  bool await_ready() const { return first_ready() < states_.size(); }
  void await_suspend(std::coroutine_handle<> self) {
    for (std::size_t i = 0; i < states_.size(); ++i) {
      waiters_[i].suspension.capture(self, states_[i].get());
      waiters_[i].woken = &woken_;
      states_[i]->add_waiter(waiters_[i]);
    }
    detail::set_waiting_for(Scheduler::required().root, states_.front().get());
  }
  std::size_t await_resume() {
    if (woken_) waiters_[0].suspension.restore();
    return first_ready();
  }

 private:
  std::size_t first_ready() const {
    std::size_t i = 0;
    while (i < states_.size() && states_[i]->pending()) ++i;
    return i;
  }

  std::vector<Ref<detail::FutureState>> states_;
  std::unique_ptr<detail::Waiter[]> waiters_;
  bool woken_ = false;
};

}  // namespace

Task<bool> Context::wait_until(std::function<bool()> condition, SourceLocation where) {
  if (!run_->may_command("wait_until")) co_return false;
  if (run_->holds(condition)) co_return true;
  const Ref<engine::ConditionState> state = run_->watch(condition, where);
  detail::ReadyAwaiter wait{state};
  co_await wait;
  state->rethrow_failure();
  co_return true;
}

Task<bool> Context::wait_until(std::function<bool()> condition, Duration timeout,
                               SourceLocation where) {
  if (!run_->may_command("wait_until")) co_return false;
  if (run_->holds(condition)) co_return true;
  if (timeout <= Duration{}) co_return false;
  const Ref<engine::ConditionState> state = run_->watch(condition, where);
  const Future<void> limit = timer(timeout, {}, where);
  FirstAwaiter wait{{state, limit.state()}};
  co_await wait;
  if (state->failed()) {  // cancelled
    limit.cancel();
    state->rethrow_failure();
  }
  if (!state->pending()) {
    limit.cancel();  // the loser would cost an event and a wake-up
    co_return true;
  }
  state->node.unlink();
  state->unlink();
  limit.state()->rethrow_failure();
  co_return run_->holds(condition);
}

void Context::on_signal(const std::string& name, SignalHandler handler) {
  if (!run_->may_command("on_signal")) return;
  auto shared = std::make_shared<AnySignalHandler>(
      [handler = std::move(handler)](const std::string&, Payloads input) {
        return handler(std::move(input));
      });
  run_->on_signal(name, std::move(shared));
}
void Context::on_any_signal(AnySignalHandler handler) {
  if (!run_->may_command("on_any_signal")) return;
  run_->on_any_signal(std::make_shared<AnySignalHandler>(std::move(handler)));
}

Payload Context::side_effect_payload(const std::function<Payload()>& function,
                                     SourceLocation where) {
  if (!run_->may_command("side_effect")) return detail::null_payload();
  return run_->side_effect(function, where);
}

std::uint64_t Context::random() { return run_->may_command("random") ? run_->random() : 0; }
std::string Context::uuid() { return run_->may_command("uuid") ? run_->uuid() : std::string{}; }

bool Context::patched(std::string_view id, SourceLocation where) {
  return run_->may_command("patched") && run_->patched(id, /*deprecated=*/false, where);
}
void Context::deprecate_patch(std::string_view id, SourceLocation where) {
  if (run_->may_command("deprecate_patch")) run_->patched(id, /*deprecated=*/true, where);
}

void Context::upsert_search_attributes(const SearchAttributes& changes, SourceLocation where) {
  if (run_->may_command("upsert_search_attributes")) run_->upsert_search_attributes(changes, where);
}
void Context::upsert_memo(const std::map<std::string, Payload>& changes, SourceLocation where) {
  if (run_->may_command("upsert_memo")) run_->upsert_memo(changes, where);
}
void Context::set_current_details(std::string text) { run_->set_current_details(std::move(text)); }

const WorkflowInfo& Context::info() const { return run_->info(); }
bool Context::is_replaying() const { return run_->replaying(); }
Logger Context::log() const { return run_->logger(); }

CancellationScope Context::root_scope() const { return CancellationScope{run_->root_scope()}; }
CancellationScope Context::current_scope() const {
  const Ref<detail::ScopeState>& scope = run_->scheduler().scope;
  return CancellationScope{scope ? scope : run_->root_scope()};
}
bool Context::cancel_requested() const { return run_->cancel_requested(); }
Future<void> Context::cancelled(SourceLocation where) const {
  const Ref<detail::ValueState<void>>& state = run_->cancelled();
  state->what = "cancellation";
  state->where = where;
  return Future<void>{state};
}
CancellationScope Context::new_scope() const {
  return CancellationScope{run_->nested_scope(*current_scope().state(), /*shielded=*/false)};
}
CancellationScope Context::new_shielded_scope() const {
  return CancellationScope{run_->nested_scope(*current_scope().state(), /*shielded=*/true)};
}

Task<std::size_t> select(Context&, std::vector<AnyFuture> futures) {
  if (futures.empty()) engine::Misuse::raise("select: there is nothing to wait for");
  std::vector<Ref<detail::FutureState>> states;
  for (const AnyFuture& future : futures) states.push_back(future.state());
  FirstAwaiter wait{std::move(states)};
  co_return co_await wait;
}

Task<void> join(Context&, std::vector<AnyFuture> futures) {
  for (const AnyFuture& future : futures) {
    detail::ReadyAwaiter wait{future.state()};
    co_await wait;
  }
}

Task<SemaphorePermit> Semaphore::acquire(Context& context, SourceLocation where) {
  if (free_ <= 0) {
    auto turn = detail::make_ref<detail::ValueState<void>>();
    context.run_->enter_scope(*turn, name_, where);
    waiters_.push_back(turn);
    detail::ReadyAwaiter wait{turn};
    co_await wait;
    turn->rethrow_failure();  // cancelled: whoever releases passes this one over
    co_return SemaphorePermit{*this};
  }
  --free_;
  co_return SemaphorePermit{*this};
}

void Semaphore::release() {
  const Scheduler* scheduler = Scheduler::current();
  if (scheduler == nullptr || scheduler->evicting) return;
  while (!waiters_.empty()) {
    const Ref<detail::ValueState<void>> next = waiters_.front();
    waiters_.pop_front();
    if (!next->pending()) continue;
    next->fulfil();  // the place goes from hand to hand
    return;
  }
  ++free_;
}

void SemaphorePermit::release() {
  if (semaphore_ != nullptr) std::exchange(semaphore_, nullptr)->release();
}

Task<MutexLock> Mutex::lock(Context& context, SourceLocation where) {
  co_return MutexLock{co_await place_.acquire(context, where)};
}

void WorkflowRegistry::add(std::shared_ptr<const WorkflowDefinition> definition) {
  const std::string name = definition->name;
  definitions_.insert_or_assign(name, std::move(definition));
}

std::shared_ptr<const WorkflowDefinition> WorkflowRegistry::find(std::string_view name) const {
  const auto found = definitions_.find(name);
  return found == definitions_.end() ? fallback_ : found->second;
}

std::vector<std::string> WorkflowRegistry::names() const {
  std::vector<std::string> names;
  for (const auto& [name, definition] : definitions_) names.push_back(name);
  return names;
}

}  // namespace tempora
