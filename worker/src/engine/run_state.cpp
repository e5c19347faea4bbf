// History → state: lining up, matching, reading ahead, jobs.
#include "engine/run_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "converter/time.hpp"
#include "engine/misuse.hpp"
#include "interceptor/chain.hpp"
#include "machines/activity.hpp"
#include "machines/local_activity.hpp"
#include "machines/marker.hpp"
#include "machines/timer.hpp"

namespace tempora::engine {
namespace {

namespace update = temporal::api::update::v1;

// Of one answer among several, at most.
constexpr std::size_t kFrameBytes = 32;

// All answers of a task share a message. That it is full fails a query and not the task, which
// would fail for as long as they are asked together.
temporal::api::query::v1::WorkflowQueryResult without_room(
    const temporal::api::query::v1::WorkflowQuery& query) {
  temporal::api::query::v1::WorkflowQueryResult result;
  result.set_result_type(enums::QUERY_RESULT_TYPE_FAILED);
  result.set_error_message(
      fmt::format("[TMPRL1103] the answer of query {} has no room beside the others of its task",
                  query.query_type()));
  return result;
}

// Wakes the workflow: without such an event (or an accepted update) a task runs no user code and
// moves no clock.
bool makes_job(const HistoryEvent& event) {
  switch (event.event_type()) {
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: return true;
    case enums::EVENT_TYPE_WORKFLOW_TASK_FAILED:
      return event.workflow_task_failed_event_attributes().cause() ==
             enums::WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW;
    default: return initiating_event_id(event) != 0;
  }
}

// Events that need nothing done. An unknown type is an error unless the server says that it may be
// ignored.
bool is_bookkeeping(const HistoryEvent& event) {
  switch (event.event_type()) {
    case enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
    case enums::EVENT_TYPE_WORKFLOW_TASK_STARTED:
    case enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
    case enums::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
    case enums::EVENT_TYPE_WORKFLOW_TASK_FAILED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED:
    // Older servers do not say there which operation it was.
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED:
    case enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED: return true;
    default: return event.worker_may_ignore();
  }
}

std::string position_of(const SourceLocation& where) {
  return where.line() == 0 ? std::string{} : fmt::format("{}:{}", where.file_name(), where.line());
}

TaskFailure unreadable(const HistoryEvent& event, std::string_view why) {
  return TaskFailure{enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
                     fmt::format("history {} {}", describe(event), why)};
}

}  // namespace

RunState::RunState(const WorkflowRegistry& registry, RunOptions options)
    : registry_(registry),
      options_(std::move(options)),
      context_(*this),
      root_scope_(detail::ScopeState::root()),
      cancelled_(detail::make_ref<detail::ValueState<void>>()) {
  info_.task_queue = options_.task_queue;
  info_.namespace_ = options_.namespace_;
}

RunState::~RunState() {
  // Frames go in the reverse order of their creation; destructors in them may still call the
  // runtime, which then does nothing.
  const detail::Scheduler::Use use{scheduler_};
  scheduler_.evicting = true;
  scheduler_.forget_ready();
  while (!roots_.empty()) roots_.pop_back();
  outgoing_.clear();
  operations_.clear();
  locals_.clear();
  workflow_.reset();
}

bool RunState::expects(const WorkflowTask& task) const { return !poisoned_ && lines_up(task); }

bool RunState::lines_up(const WorkflowTask& task) const {
  const Events& events = task.history().events();
  if (events.empty()) return last_started_ > 0 && task.previous_started_event_id() <= last_started_;
  const std::int64_t first = events.Get(0).event_id();
  if (first == 1) {
    // A worker without a cache may get the whole history again while its local activities run: the
    // first page of it, before the rest is fetched.
    const bool goes_on =
        !locals_.empty() && task.previous_started_event_id() == last_started_ &&
        std::max(events.rbegin()->event_id(), task.started_event_id()) > last_processed_;
    return last_processed_ == 0 || goes_on;
  }
  return last_processed_ > 0 && task.previous_started_event_id() == last_started_ &&
         first <= last_processed_ + 1;
}

TaskOutcome RunState::process(const WorkflowTask& task, bool replay_only) {
  TaskOutcome outcome;
  const Events& events = task.history().events();
  const bool has_work = !replay_only && task.started_event_id() != 0;
  bool complete =
      !has_work || (!events.empty() && events.rbegin()->event_id() == task.started_event_id());
  for (int i = 1; i < events.size(); ++i) {
    complete = complete && events.Get(i).event_id() == events.Get(i - 1).event_id() + 1;
  }
  if (poisoned_ || !lines_up(task) || (!complete && !events.empty())) {
    outcome.kind = TaskOutcome::Kind::kNeedFullHistory;
    return outcome;
  }
  return guarded(task, [&](TaskOutcome& done) {
    if (info_.run_id.empty()) {
      info_.workflow_id = task.workflow_execution().workflow_id();
      info_.run_id = task.workflow_execution().run_id();
    }
    for (const Chunk& chunk : cut(events, last_processed_)) {
      const bool live = has_work && chunk.wakes && !chunk.completed;
      // A task in somebody else's hands: nobody knows yet what it records.
      const bool open = chunk.wakes && !chunk.completed && !live;
      if (chunk.wakes && !open) {
        activate(task, chunk, live);
        last_started_ = last_processed_ = events.Get(chunk.end - 1).event_id();
      } else {
        const int other = match_consequences(events, chunk);
        if (other > chunk.begin) last_processed_ = events.Get(other - 1).event_id();
      }
      if (open) break;
    }
    if (task.has_query()) {
      measure_workflow();  // the run may be a fresh one, which will be kept
      done.kind = TaskOutcome::Kind::kQueryAnswered;
      auto result = answer(task.query());
      done.query.set_completed_type(result.result_type());
      *done.query.mutable_query_result() = std::move(*result.mutable_answer());
      done.query.set_error_message(result.error_message());
      if (result.has_failure())
        *done.query.mutable_failure() = std::move(*result.mutable_failure());
      return;
    }
    if (!replay_only) conclude(task, done);
  });
}

template <class Work>
TaskOutcome RunState::guarded(const WorkflowTask& task, Work work) {
  const detail::Scheduler::Use use{scheduler_};
  Misuse::forget();
  try {
    TaskOutcome outcome;
    work(outcome);
    return outcome;
  } catch (const TaskFailure& failure) {
    nondeterminism_ = failure.nondeterminism();
    return fail(task, failure.cause(), to_proto(failure));
  } catch (...) {
    return fail(task, enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
                to_proto(std::current_exception()));
  }
}

void RunState::conclude(const WorkflowTask& task, TaskOutcome& outcome) {
  if (!locals_.empty() && !ended_) {
    outcome.kind = TaskOutcome::Kind::kLocalActivities;
    outcome.local.task_timeout = info_.task_timeout;
    tell_of_locals(outcome.local);
    for (const auto& machine : locals_) {
      if (auto order = machine->take_order()) outcome.local.start.push_back(std::move(*order));
    }
    return;
  }
  locals_.clear();  // of a run that has ended: nobody waits for them
  seal_activation();
  if (ended_ && handlers_running_ > 0) {
    logger().warn("[TMPRL1102] the workflow ended while {} of its handlers were running",
                  handlers_running_);
  }
  if (ended_ && late_signals_ != nullptr && !late_signals_->waiting.empty()) {
    logger().warn("the workflow ended without a handler for {} signals, the first is {}",
                  late_signals_->waiting.size(), late_signals_->waiting.front().name);
  }
  answer_task(task, outcome);
}

// With every answer, also when nothing is left to wait for: the last one may be the one that was
// cancelled.
void RunState::tell_of_locals(LocalWork& work) {
  work.cancel = std::exchange(local_cancels_, {});
  work.abandon = std::exchange(local_abandons_, {});
}

void RunState::answer_task(const WorkflowTask& task, TaskOutcome& outcome) {
  tell_of_locals(outcome.local);
  collect(outcome.completion);
  for (const auto& [id, query] : task.queries()) {
    auto result = answer(query);
    const std::size_t bytes = outcome.completion.ByteSizeLong() + id.size() + result.ByteSizeLong();
    if (bytes + kFrameBytes > options_.completion_limit_bytes) result = without_room(query);
    (*outcome.completion.mutable_query_results())[id] = std::move(result);
  }
  check_sizes(outcome.completion);
  most_memo_bytes_ = most_search_attributes_bytes_ = 0;
  measure_workflow();
  outcome.corrupted_signals = std::exchange(corrupted_signals_, 0);
  outcome.run_closed = ended_;
}

TaskOutcome RunState::heartbeat(const WorkflowTask& task) {
  return guarded(task, [&](TaskOutcome& outcome) {
    answer_task(task, outcome);
    outcome.completion.set_force_create_new_workflow_task(true);
  });
}

// Results that are too much for one answer only together would fail the task, and all of them would
// run again, for ever. Half of the answer is left to what the workflow makes of this one. It comes
// in anyway where a heartbeat would hardly make more room.
bool RunState::has_room(const LocalResult& result) const {
  // As far as codecs have shown what they make of it.
  const std::size_t shrunk =
      options_.payload_limit_bytes / std::max<std::size_t>(1, answer_limit());
  const std::size_t limit = options_.completion_limit_bytes / std::max<std::size_t>(1, shrunk);
  if (collected_bytes_ <= limit / 64) return true;
  return collected_bytes_ + result.result.ByteSizeLong() + result.failure.ByteSizeLong() <=
         limit / 2;
}

TaskOutcome RunState::resolve(const WorkflowTask& task, const LocalResult& result) {
  return guarded(task, [&](TaskOutcome& outcome) {
    const auto found =
        std::ranges::find(locals_, result.seq, [](const auto& machine) { return machine->seq(); });
    if (found != locals_.end()) {
      const detail::Ref<LocalActivityMachine> machine = *found;
      LocalMarker end{.seq = result.seq,
                      .activity_type = machine->type(),
                      .attempt = result.attempt,
                      .complete_time = std::max(now_, machine->began() + result.elapsed),
                      .backoff = result.backoff,
                      .result = result.result};
      if (result.kind != LocalResult::Kind::kCompleted) end.failure = result.failure;
      machine->make_fit(end, answer_limit());
      replaying_ = false;
      resolve_local(*machine, end);
    }
    conclude(task, outcome);
  });
}

// One at a time: live in the order in which they ended, on replay in the order of their markers.
void RunState::resolve_local(LocalActivityMachine& machine, const LocalMarker& end) {
  now_ = std::max(now_, end.complete_time);
  touched_ = true;
  machine.resolve(end);
  drain();
  hand_over_locals();
}

void RunState::hand_over_locals() {
  for (const auto& machine : locals_) machine->hand_over();
}

void RunState::resolve_recorded_locals(const Events& events, const Chunk& chunk) {
  for (int i = chunk.end; i < chunk.consequences_end; ++i) {
    const LocalMarker marker = read_local_activity(events.Get(i));
    if (marker.seq == 0) continue;
    const auto found =
        std::ranges::find(locals_, marker.seq, [](const auto& machine) { return machine->seq(); });
    if (found != locals_.end() && (*found)->type() == marker.activity_type) {
      const detail::Ref<LocalActivityMachine> machine = *found;
      resolve_local(*machine, marker);
      continue;
    }
    // The workflow itself has ended it in the meantime, by cancelling.
    const bool queued = std::ranges::any_of(outgoing_, [&](const Outgoing& outgoing) {
      return outgoing.type == enums::COMMAND_TYPE_RECORD_MARKER &&
             outgoing.machine->matches(outgoing.type, events.Get(i));
    });
    if (!queued) nondeterminism(&events.Get(i), nullptr, "the history has it, the code does not");
  }
}

TaskOutcome RunState::fail(const WorkflowTask& task, enums::WorkflowTaskFailedCause cause,
                           temporal::api::failure::v1::Failure failure) {
  poisoned_ = true;
  scheduler_.forget_ready();
  TaskOutcome outcome;
  outcome.evict = true;
  outcome.cause = cause;
  if (task.has_query()) {
    // Never a failed task: the caller of the query would wait for its deadline.
    outcome.kind = TaskOutcome::Kind::kQueryAnswered;
    outcome.query.set_completed_type(enums::QUERY_RESULT_TYPE_FAILED);
    outcome.query.set_error_message(failure.message());
    outcome.query.set_cause(cause);
    *outcome.query.mutable_failure() = failure;
  } else {
    outcome.kind = TaskOutcome::Kind::kFailed;
  }
  outcome.failure = std::move(failure);
  return outcome;
}

void RunState::completed(
    const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& response) {
  if (ended_) closed_ = true;
  if (response.reset_history_event_id() == 0) return;
  // The server threw the speculative task away: its SCHEDULED and STARTED never were, their ids
  // come again.
  last_started_ = response.reset_history_event_id();
  last_processed_ -= 2;
}

void RunState::activate(const WorkflowTask& task, const Chunk& chunk, bool live) {
  const Events& events = task.history().events();
  closing_ = &events.Get(chunk.end - 1);
  touched_ = false;
  replaying_ = true;
  const int first = match_consequences(events, chunk);
  read_ahead(events, chunk);
  replaying_ = !live;

  bool has_job = false;
  for (int i = first; i < chunk.end; ++i) {
    const HistoryEvent& event = events.Get(i);
    if (is_command_event(event.event_type()))
      nondeterminism(&event, nullptr, "the history has it, the code does not");
    has_job = has_job || makes_job(event);
  }
  std::vector<Arrival> handlers =
      arrivals(task, {first, chunk.end, chunk.consequences_end, true, chunk.completed}, live);
  for (const Arrival& arrival : handlers)
    has_job = has_job || (arrival.update && arrival.update->replayed());
  if (has_job) touch();

  // Everything is applied to the state first (ranks 0, 2, 3, then 4 in event order); coroutines run
  // after that.
  std::unique_ptr<detail::Root> main;
  for (int i = first; i < chunk.end; ++i) {
    const HistoryEvent& event = events.Get(i);
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED) {
      if (workflow_) throw unreadable(event, "begins a run that has begun");
      initialise(task, event);
      main = std::make_unique<detail::Root>();
      main->scope = root_scope_;
      scheduler_.scope = root_scope_;
      const auto& begun = event.workflow_execution_started_event_attributes();
      main->task = main_coroutine(intercepted(
          InboundCall::Kind::kRun, info_.workflow_type, detail::read_headers(begun.header()),
          begun.input(), [this](InboundCall call) {
            return definition_->start(workflow_.get(), context_, call.input);
          }));
      scheduler_.scope = {};
    } else if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_FAILED && makes_job(event)) {
      const std::string& seed = event.workflow_task_failed_event_attributes().new_run_id();
      user_random_ = RandomStream{seed, "user"};
      id_random_ = RandomStream{seed, "id"};
    }
  }
  if (!workflow_) throw unreadable(*closing_, "comes before WorkflowExecutionStarted");
  for (Arrival& arrival : handlers) {
    if (arrival.update) {
      auto root = std::make_unique<detail::Root>();
      root->scope = root_scope_;
      root->kind = RootKind::kUpdate;
      root->name = arrival.update->name();
      root->subject = arrival.update;
      add_root(std::move(root));
      continue;
    }
    const auto& signal = arrival.signal->workflow_execution_signaled_event_attributes();
    deliver_signal(signal.signal_name(), signal.input(), signal.header());
  }
  if (main) add_root(std::move(main));
  for (int i = first; i < chunk.end; ++i) apply(events.Get(i));

  drain();
  hand_over_locals();
  if (!live) resolve_recorded_locals(events, chunk);
  unpacked_.clear();
  known_side_effects_.clear();
  // Live, the task may stay open for local activities: `conclude` ends it.
  if (!live) seal_activation();
  closing_ = nullptr;
}

void RunState::deliver_signal(const std::string& name, const Payloads& input,
                              const temporal::api::common::v1::Header& header) {
  const auto handler = definition_->signals.find(name);
  Task<void> task;
  std::shared_ptr<Context::AnySignalHandler> keeper;
  scheduler_.scope = root_scope_;
  try {
    if (handler != definition_->signals.end()) {
      task = intercepted_signal(name, detail::read_headers(header), input,
                                [this, signal = &handler->second](const Payloads& its_input) {
                                  return signal->start(workflow_.get(), context_, its_input);
                                });
    } else if (late_signals_ != nullptr && late_signals_->handlers.contains(name)) {
      keeper = late_signals_->handlers.find(name)->second;
      task = late_signal(name, detail::read_headers(header), input, keeper);
    } else if (definition_->dynamic_signal) {
      task = intercepted_signal(
          name, detail::read_headers(header), input, [this, name](const Payloads& its_input) {
            return definition_->dynamic_signal(workflow_.get(), context_, name, its_input);
          });
    } else if (late_signals_ != nullptr && late_signals_->any != nullptr) {
      keeper = late_signals_->any;
      task = late_signal(name, detail::read_headers(header), input, keeper);
    } else {
      logger().debug("signal {} has no handler yet and waits", name);
      late_signals().waiting.push_back({name, input, detail::read_headers(header)});
    }
  } catch (const PayloadError& error) {
    if (!drop_signal(name, input, error)) throw;
  }
  scheduler_.scope = {};
  if (!task) return;
  count_given(input);
  start_signal(name, std::move(task), std::move(keeper));
}

bool RunState::drop_signal(const std::string& name, const Payloads& input,
                           const PayloadError& error) {
  // With the codec's key the next attempt can read it: nothing may be lost for want of one.
  if (std::ranges::any_of(input.payloads(), detail::is_still_encoded)) return false;
  logger().error("signal {} cannot be decoded and is dropped: {}", name, error.what());
  if (!replaying_) ++corrupted_signals_;
  return true;
}

Task<void> RunState::late_signal(const std::string& name, Headers headers, const Payloads& input,
                                 const std::shared_ptr<Context::AnySignalHandler>& handler) {
  return intercepted_signal(
      name, std::move(headers), input,
      [name, handler](const Payloads& its_input) { return (*handler)(name, its_input); });
}

void RunState::start_signal(const std::string& name, Task<void> task,
                            std::shared_ptr<Context::AnySignalHandler> keeper) {
  auto root = std::make_unique<detail::Root>();
  root->scope = root_scope_;
  root->kind = RootKind::kSignal;
  root->name = name;
  root->task = std::move(task);
  root->keeper = std::move(keeper);
  ++handlers_running_;
  add_root(std::move(root));
}

RunState::LateSignals& RunState::late_signals() {
  if (late_signals_ == nullptr) late_signals_ = std::make_unique<LateSignals>();
  return *late_signals_;
}

void RunState::on_signal(const std::string& name,
                         std::shared_ptr<Context::AnySignalHandler> handler) {
  late_signals().handlers.insert_or_assign(name, handler);
  deliver_waiting(&name, handler);
}

void RunState::on_any_signal(std::shared_ptr<Context::AnySignalHandler> handler) {
  late_signals().any = handler;
  deliver_waiting(nullptr, handler);
}

void RunState::deliver_waiting(const std::string* name,
                               const std::shared_ptr<Context::AnySignalHandler>& handler) {
  auto waiting = std::exchange(late_signals_->waiting, {});
  const detail::Ref<detail::ScopeState> caller = scheduler_.scope;
  for (auto& [its_name, input, headers] : waiting) {
    if (name != nullptr && its_name != *name) {
      late_signals_->waiting.push_back({std::move(its_name), std::move(input), std::move(headers)});
      continue;
    }
    scheduler_.scope = root_scope_;
    Task<void> task = late_signal(its_name, std::move(headers), input, handler);
    scheduler_.scope = caller;
    count_given(input);
    start_signal(its_name, std::move(task), handler);
  }
}

int RunState::match_consequences(const Events& events, const Chunk& chunk) {
  int i = chunk.begin;
  if (i < chunk.end && events.Get(i).event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
    read_metadata(events.Get(i));
    ++i;
    while (i < chunk.end && is_command_event(events.Get(i).event_type())) {
      if (is_skippable_patch(events, i)) {
        ++i;
        // The upsert that came with the marker goes with it.
        if (i < chunk.end &&
            events.Get(i).event_type() == enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES &&
            events.Get(i)
                .upsert_workflow_search_attributes_event_attributes()
                .search_attributes()
                .indexed_fields()
                .contains(kChangeVersion)) {
          ++i;
        }
        continue;
      }
      match(events, i);
      ++i;
    }
  }
  if (!outgoing_.empty()) {
    nondeterminism(i < chunk.end ? &events.Get(i) : nullptr, &outgoing_.front(),
                   "the code has it, the history does not");
  }
  return i;
}

void RunState::match(const Events& events, int index) {
  const HistoryEvent& event = events.Get(index);
  if (outgoing_.empty()) nondeterminism(&event, nullptr, "the history has it, the code does not");
  Outgoing& head = outgoing_.front();
  const enums::EventType expected =
      head.type == enums::COMMAND_TYPE_PROTOCOL_MESSAGE
          ? static_cast<const UpdateMachine&>(*head.machine).next_event()
          : event_of(head.type);
  if (event.event_type() != expected || !head.machine->matches(head.type, event)) {
    nondeterminism(&event, &head, "the history and the code differ");
  }
  const Outgoing matched = std::move(head);
  outgoing_.erase(outgoing_.begin());
  matched.machine->recorded(matched.type, event);
  if (is_terminal_command_event(event.event_type())) closed_ = true;
}

bool RunState::is_skippable_patch(const Events& events, int index) const {
  const PatchData patch = read_patch(events.Get(index));
  if (patch.id.empty() || !patch.deprecated) return false;
  return outgoing_.empty() || outgoing_.front().type != enums::COMMAND_TYPE_RECORD_MARKER ||
         !outgoing_.front().machine->matches(outgoing_.front().type, events.Get(index));
}

void RunState::read_metadata(const HistoryEvent& completed) {
  const auto& metadata = completed.workflow_task_completed_event_attributes().sdk_metadata();
  if (metadata.sdk_name() == kSdkName && metadata.sdk_version() == kSdkVersion)
    sdk_recorded_ = true;
}

// No flag of ours is in use yet: a history with one was written by a newer runtime, which shows
// another order. Those of other SDKs, in whose histories a name stands as in ours, are theirs.
void RunState::refuse_unknown_flags(const HistoryEvent& completed) {
  const auto& metadata = completed.workflow_task_completed_event_attributes().sdk_metadata();
  if (!metadata.sdk_name().empty()) foreign_ = metadata.sdk_name() != kSdkName;
  const auto& flags =
      metadata.lang_used_flags().empty() ? metadata.core_used_flags() : metadata.lang_used_flags();
  if (foreign_ || flags.empty()) return;
  throw TaskFailure{
      enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
      fmt::format("event {} has the SDK flag {}, which {} {} does not know: a newer one wrote it, "
                  "update this worker",
                  completed.event_id(), flags.Get(0), kSdkName, kSdkVersion)};
}

void RunState::read_ahead(const Events& events, const Chunk& chunk) {
  for (int i = chunk.end; i < chunk.consequences_end; ++i) {
    const HistoryEvent& event = events.Get(i);
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
      refuse_unknown_flags(event);
      continue;
    }
    if (auto effect = read_side_effect(event)) {
      known_side_effects_.insert_or_assign(effect->number, std::move(effect->value));
      continue;
    }
    const PatchData patch = read_patch(event);
    if (patch.id.empty()) continue;
    const bool upserted =
        i + 1 < chunk.consequences_end &&
        events.Get(i + 1).event_type() == enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES &&
        events.Get(i + 1)
            .upsert_workflow_search_attributes_event_attributes()
            .search_attributes()
            .indexed_fields()
            .contains(kChangeVersion);
    known_patches_.try_emplace(patch.id,
                               KnownPatch{patch.deprecated, upserted, closing_->event_id()});
  }
}

std::vector<RunState::Arrival> RunState::arrivals(const WorkflowTask& task, const Chunk& chunk,
                                                  bool live) {
  const Events& events = task.history().events();
  std::vector<Arrival> found;
  std::vector<std::string> admitted_now;
  for (int i = chunk.begin; i < chunk.end; ++i) {
    const HistoryEvent& event = events.Get(i);
    if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) {
      found.push_back({event.event_id(), &event, {}});
    } else if (event.event_type() == enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED) {
      const auto& request = event.workflow_execution_update_admitted_event_attributes().request();
      admitted_.insert_or_assign(request.meta().update_id(), request);
      admitted_now.push_back(request.meta().update_id());
      if (live) {
        const std::string& id = request.meta().update_id();
        found.push_back(
            {event.event_id(), nullptr,
             detail::make_ref<UpdateMachine>(*this, id, id + "/request", event.event_id(),
                                             admitted_.at(id), /*replayed=*/false)});
      }
    }
  }
  for (int i = chunk.end; i < chunk.consequences_end; ++i) {
    const HistoryEvent& event = events.Get(i);
    if (event.event_type() != enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED) continue;
    const auto& accepted = event.workflow_execution_update_accepted_event_attributes();
    const update::Request* request = &accepted.accepted_request();
    if (!accepted.has_accepted_request()) {
      const auto admitted = admitted_.find(accepted.protocol_instance_id());
      if (admitted == admitted_.end())
        nondeterminism(&event, nullptr, "an update was accepted that nobody requested");
      request = &admitted->second;
    }
    found.push_back(
        {accepted.accepted_request_sequencing_event_id(), nullptr,
         detail::make_ref<UpdateMachine>(*this, accepted.protocol_instance_id(),
                                         accepted.accepted_request_message_id(),
                                         accepted.accepted_request_sequencing_event_id(), *request,
                                         /*replayed=*/true)});
  }
  if (live) {
    for (const auto& message : task.messages()) {
      const bool again =
          std::ranges::find(admitted_now, message.protocol_instance_id()) != admitted_now.end();
      auto request = std::make_unique<update::Request>();
      if (again || !message.body().UnpackTo(request.get())) continue;
      found.push_back(
          {message.event_id(), nullptr,
           detail::make_ref<UpdateMachine>(*this, message.protocol_instance_id(), message.id(),
                                           message.event_id(), *request, /*replayed=*/false)});
      unpacked_.push_back(std::move(request));
    }
  }
  // An update comes after the event that it names; order within one place is that of the messages.
  for (std::size_t i = 0; i < found.size(); ++i) found[i].order = i;
  std::ranges::sort(found, {}, [](const Arrival& arrival) {
    return std::tuple{arrival.after_event_id, static_cast<bool>(arrival.update), arrival.order};
  });
  return found;
}

void RunState::initialise(const WorkflowTask&, const HistoryEvent& event) {
  const auto& started = event.workflow_execution_started_event_attributes();
  info_.workflow_type = started.workflow_type().name();
  definition_ = registry_.find(info_.workflow_type);
  if (!definition_) {
    throw TaskFailure{enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
                      fmt::format("unknown workflow type \"{}\"; this worker knows: {}",
                                  info_.workflow_type, fmt::join(registry_.names(), ", "))};
  }
  if (!started.task_queue().name().empty()) info_.task_queue = started.task_queue().name();
  if (info_.workflow_id.empty()) info_.workflow_id = started.workflow_id();
  info_.first_execution_run_id = started.first_execution_run_id();
  info_.original_execution_run_id = started.original_execution_run_id();
  if (info_.original_execution_run_id.empty()) info_.original_execution_run_id = info_.run_id;
  info_.continued_run_id = started.continued_execution_run_id();
  info_.attempt = std::max(1, started.attempt());
  info_.start_time = from_proto(event.event_time());
  info_.execution_timeout = from_proto(started.workflow_execution_timeout());
  info_.run_timeout = from_proto(started.workflow_run_timeout());
  info_.task_timeout = from_proto(started.workflow_task_timeout());
  info_.cron_schedule = started.cron_schedule();
  if (started.has_parent_workflow_execution()) {
    info_.parent = ParentInfo{started.parent_workflow_namespace(),
                              started.parent_workflow_execution().workflow_id(),
                              started.parent_workflow_execution().run_id()};
  }
  if (started.has_search_attributes())
    info_.search_attributes = SearchAttributes{started.search_attributes()};
  for (const auto& [name, payload] : started.memo().fields()) info_.memo.emplace(name, payload);
  if (started.has_retry_policy()) {
    retry_policy_ =
        std::make_unique<temporal::api::common::v1::RetryPolicy>(started.retry_policy());
  }
  user_random_ = RandomStream{info_.original_execution_run_id, "user"};
  id_random_ = RandomStream{info_.original_execution_run_id, "id"};
  scheduler_.scope = root_scope_;
  for (const auto& make : options_.interceptors) interceptors_.push_back(make());
  count_given(started.input());
  workflow_ = definition_->create(context_, started.input());
  scheduler_.scope = {};
}

void RunState::apply(const HistoryEvent& event) {
  if (const std::int64_t initiator = initiating_event_id(event); initiator != 0) {
    const auto found = std::ranges::lower_bound(operations_, initiator, {},
                                                [](const auto& entry) { return entry.first; });
    if (found == operations_.end() || found->first != initiator) {
      if (is_bookkeeping(event))
        return;  // the answer to a request, after the end of what it is about
      nondeterminism(&event, nullptr,
                     fmt::format("nothing in the code stands behind event {}", initiator));
    }
    const detail::Ref<Machine> machine = found->second;
    if (!machine->on_event(event))
      nondeterminism(&event, nullptr, "the event does not fit the state of its operation");
    return;
  }
  switch (event.event_type()) {
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: return;
    case enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: {
      if (cancel_requested_) return;
      cancel_requested_ = true;
      const std::string& cause =
          event.workflow_execution_cancel_requested_event_attributes().cause();
      cancelled_->fulfil();
      root_scope_->cancel(cause.empty() ? "workflow cancellation requested" : cause);
      return;
    }
    default: break;
  }
  if (!is_bookkeeping(event))
    throw unreadable(event, "is of a type that this runtime does not know");
}

void RunState::touch() {
  if (touched_) return;
  touched_ = true;
  now_ = std::max(now_, from_proto(closing_->event_time()));
  const auto& started = closing_->workflow_task_started_event_attributes();
  info_.history_length = closing_->event_id();
  info_.history_size_bytes = started.history_size_bytes();
  info_.suggest_continue_as_new = started.suggest_continue_as_new();
}

void RunState::nondeterminism(const HistoryEvent* event, const Outgoing* command,
                              const std::string& why) const {
  ReplayError error;
  error.nondeterminism = true;
  error.workflow_type = info_.workflow_type;
  if (event != nullptr) {
    error.event_id = event->event_id();
    error.event_type = name_of(event->event_type());
  }
  std::string code = "no command";
  if (command != nullptr) {
    error.command = command->machine->describe(command->type);
    error.position = position_of(command->where);
    code = error.command;
  } else if (!roots_.empty() && roots_.front()->waiting_for != nullptr) {
    error.position = position_of(roots_.front()->waiting_for->where);
  }
  error.message = fmt::format(
      "[TMPRL1100] nondeterministic workflow: {}: history {}, code {}{}{}, workflow type \"{}\"",
      why, event != nullptr ? describe(*event) : "has ended", code,
      error.position.empty() ? ""
      : command != nullptr   ? " at "
                             : " (it waits for what began at ",
      error.position.empty() ? ""
      : command != nullptr   ? error.position
                             : error.position + ")",
      info_.workflow_type);
  throw TaskFailure{std::move(error)};
}

}  // namespace tempora::engine
