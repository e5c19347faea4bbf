#include "workflow_worker.hpp"

#include "version.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "converter/benign.hpp"
#include "converter/time.hpp"
#include "converter/too_large.hpp"
#include "converter/utf8.hpp"
#include "history_fetch.hpp"
#include "metrics/measure.hpp"
#include "poller_hint.hpp"
#include "transport/codec_transport.hpp"

namespace tempora::pollers {

namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
using Completion = api::RespondWorkflowTaskCompletedRequest;
using CompletionAnswer = api::RespondWorkflowTaskCompletedResponse;

namespace {

// The server hands over at most this many activities with one completion.
constexpr std::size_t kMostEagerActivities = 3;
// Longer than a workflow task may take by default: after that the answer would
// not be taken anyway.
constexpr std::chrono::seconds kAnswerBudget{10};
constexpr std::chrono::milliseconds kPollDeadline{70'000};
// What the server takes in one request.
constexpr std::size_t kLargestRequestBytes = std::size_t{4} << 20;

// Of a workflow task, where the start did not say.
constexpr Duration kUsualTaskTimeout = std::chrono::seconds{10};

// Runs that are remembered for an answer that was too large once it was encoded.
constexpr std::size_t kMostOutgrown = 1'000;

const CallPlan kAnswerPlan{.budget = kAnswerBudget};

// Refused on this side, each time anew.
bool is_refused_here(const CallStatus& status) {
  return is_message_too_large(status) || is_refused_by_codec(status);
}

// What a codec or a limit could take offence at.
bool holds_payloads(const api::RespondQueryTaskCompletedRequest& answer) {
  return answer.has_query_result() || answer.has_failure();
}
bool holds_payloads(const temporal::api::query::v1::WorkflowQueryResult& result) {
  return result.has_answer() || result.has_failure();
}

// The same task without them; nothing if there are none. Which of them was refused, or whether it
// was a command, is not known: all who ask are told why.
std::optional<Completion> without_answers(Completion completion, const std::string& why) {
  bool changed = false;
  for (auto& [id, result] : *completion.mutable_query_results()) {
    if (!holds_payloads(result)) continue;
    result.Clear();
    result.set_result_type(enums::QUERY_RESULT_TYPE_FAILED);
    result.set_error_message(valid_utf8(why));
    changed = true;
  }
  if (!changed) return std::nullopt;
  return completion;
}

bool starts_at_first_event(const PolledTask& task) {
  return task.history().events_size() > 0 && task.history().events(0).event_id() == 1;
}

temporal::api::failure::v1::Failure runtime_failure(std::string_view type,
                                                    const std::string& message) {
  temporal::api::failure::v1::Failure failure;
  failure.set_message(valid_utf8(message));
  failure.set_source("tempora");
  failure.mutable_application_failure_info()->set_type(std::string{type});
  return failure;
}

std::string_view failure_reason(enums::WorkflowTaskFailedCause cause) {
  switch (cause) {
    case enums::WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR: return "NonDeterminismError";
    case enums::WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE:
    case enums::WORKFLOW_TASK_FAILED_CAUSE_REQUEST_TOO_LARGE:
    case enums::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE: return "GrpcMessageTooLarge";
    default: return "WorkflowError";
  }
}

}  // namespace

// The local activities of one run. While none has ended, the open task is parked here.
struct LocalSession {
  explicit LocalSession(std::shared_ptr<activity::LocalRunner> given) : runner(std::move(given)) {}
  LocalSession(const LocalSession&) = delete;
  LocalSession& operator=(const LocalSession&) = delete;
  ~LocalSession() {
    for (const auto& [seq, call] : calls) runner->cancel(call);
  }

  const std::shared_ptr<activity::LocalRunner> runner;
  // Those that end with the run. Only whoever has the run in hand uses it.
  std::map<std::uint64_t, std::shared_ptr<activity::LocalRunner::Call>> calls;

  std::mutex mutex;  // guards what follows
  WorkflowWorker::Hand parked;
  std::deque<engine::LocalResult> results;
  std::uint64_t task = 0;  // counts the tasks, so that an old alarm is told from a new one
  bool heartbeat_due = false;
};

WorkflowWorker::WorkflowWorker(std::shared_ptr<const CallEnvironment> environment,
                               std::shared_ptr<const WorkflowRegistry> registry,
                               WorkflowWorkerOptions options,
                               std::shared_ptr<activity::ActivityWorker> activities,
                               std::shared_ptr<activity::LocalRunner> locals)
    : environment_(std::move(environment)),
      registry_(std::move(registry)),
      options_(std::move(options)),
      activities_(std::move(activities)),
      locals_(std::move(locals)),
      slots_(std::make_shared<SlotPool>(options_.max_concurrent,
                                        metrics::slot_gauges(options_.metrics, options_.namespace_,
                                                             options_.task_queue, "WorkflowWorker"),
                                        gate_for(options_.resources, environment_->timers))),
      threads_(std::make_shared<ThreadPool>(options_.threads)),
      cache_(options_.max_cached, options_.max_cached_bytes) {}

// With a cache one poll in five, and at least one, is for new runs; the rest is
// for runs that are cached here. There are never more polls than slots, so that
// neither kind can take all slots for itself.
void WorkflowWorker::start() {
  const std::size_t polls = std::clamp<std::size_t>(options_.polls, 1, sure_slots());
  if (!caching()) {
    polls_.push_back(make_polls(false, polls));
  } else {
    const std::size_t normal = std::max<std::size_t>(1, polls / 5);
    polls_.push_back(make_polls(false, normal));
    polls_.push_back(make_polls(true, std::max<std::size_t>(1, polls - normal)));
  }
  watchdog_ = std::make_shared<Watchdog>(environment_->timers, options_.deadlock_timeout,
                                         [weak = weak_from_this()](const Watchdog::Stuck& stuck) {
                                           if (const auto self = weak.lock()) self->give_up(stuck);
                                         });
  watchdog_->start();
  for (const auto& group : polls_) group->start();
}

// Those that are granted whatever the machine says.
std::size_t WorkflowWorker::sure_slots() const {
  if (options_.resources == nullptr) return options_.max_concurrent;
  return std::min(options_.max_concurrent, options_.resources->least());
}

std::shared_ptr<PollGroup> WorkflowWorker::make_polls(bool sticky, std::size_t polls) {
  auto request = std::make_unique<api::PollWorkflowTaskQueueRequest>();
  request->set_namespace_(options_.namespace_);
  auto& queue = *request->mutable_task_queue();
  queue.set_name(sticky ? options_.sticky_queue : options_.task_queue);
  queue.set_kind(sticky ? enums::TASK_QUEUE_KIND_STICKY : enums::TASK_QUEUE_KIND_NORMAL);
  if (sticky) queue.set_normal_name(options_.task_queue);
  request->set_identity(options_.identity);
  request->set_worker_instance_key(options_.worker_instance_key);
  write_version(options_.versioning, *request);
  PollGroup::Settings settings{
      .method = methods::kPollWorkflowTask,
      .request = std::move(request),
      .new_response = [] { return std::make_unique<PolledTask>(); },
      .is_empty =
          [](const auto& answer) {
            return static_cast<const PolledTask&>(answer).task_token().empty();
          },
      .on_task =
          [weak = weak_from_this()](PollGroup::MessagePtr answer, Permit permit) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            std::unique_ptr<PolledTask> task{static_cast<PolledTask*>(answer.release())};
            self->accept(WorkflowTask{.response = std::move(task), .permit = std::move(permit)});
          },
      .on_answer =
          [metrics = options_.metrics, task_queue = options_.task_queue,
           space = options_.namespace_](bool empty) {
            const MetricTag tags[] = {{"namespace", space}, {"task_queue", task_queue}};
            metrics->count(empty ? "temporal_workflow_task_queue_poll_empty"
                                 : "temporal_workflow_task_queue_poll_succeed",
                           1, tags);
          },
      .on_open = metrics::poll_gauge(options_.metrics, options_.namespace_, options_.task_queue,
                                     sticky ? "workflow_sticky_task" : "workflow_task"),
      .hint = scaling_hint<PolledTask>(options_.most_polls),
      .most_polls = std::min(options_.most_polls, sure_slots() / (caching() ? 2 : 1)),
      .rate = nullptr,
      .polls = polls,
      .deadline = kPollDeadline,
      .log = options_.log,
  };
  return std::make_shared<PollGroup>(environment_, slots_, std::move(settings));
}

void WorkflowWorker::accept(WorkflowTask task) {
  if (abandoned_) return;
  started(*task.response);
  RunCache::Taken taken = cache_.take(std::move(task));
  if (taken.task.response == nullptr) return;
  if (taken.entry == nullptr) return refuse(std::move(taken.task));
  auto hand = std::make_unique<InHand>();
  hand->entry = taken.entry;
  hand->task = std::move(taken.task);
  prepare(std::move(hand));
}

void WorkflowWorker::started(const PolledTask& task) const {
  if (task.has_query() || task.attempt() > 1) return;  // these waited for nobody here
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"workflow_type", task.workflow_type().name()}};
  options_.metrics->observe_seconds(
      "temporal_workflow_task_schedule_to_start_latency",
      metrics::seconds_between(from_proto(task.scheduled_time()), from_proto(task.started_time())),
      tags);
}

void WorkflowWorker::prepare(Hand hand) {
  const PolledTask& task = *hand->task.response;
  if (task.history().events().empty() && !task.has_query()) {
    log_of(*hand).warn("a workflow task without events and without a query was dropped");
    return finish(std::move(hand), false);
  }
  const bool whole_already = starts_at_first_event(task);
  const bool lines_up = hand->entry->run != nullptr && hand->entry->run->expects(task);
  if (caching() && task.previous_started_event_id() > 0) {
    count(lines_up ? "temporal_sticky_cache_hit" : "temporal_sticky_cache_miss", *hand);
    ++(lines_up ? cache_hits_ : cache_misses_);
  }
  hand->fresh_run = !lines_up;
  hand->task.full_history = whole_already;
  fetch(std::move(hand), !whole_already && !lines_up);
}

void WorkflowWorker::fetch(Hand hand, bool whole) {
  PolledTask& task = *hand->task.response;
  if (whole) hand->task.full_history = true;
  complete_history(
      environment_, options_.namespace_, task, whole,
      [self = shared_from_this(),
       hand = std::move(hand)](std::expected<void, HistoryError> done) mutable {
        if (self->abandoned_) return;
        if (!done.has_value()) {
          // Nobody else would tell the caller of a query.
          if (hand->task.response->has_query())
            return self->fail_query(std::move(hand), done.error().message);
          self->log_of(*hand).warn("a workflow task was dropped: {}", done.error().message);
          return self->finish(std::move(hand), false);
        }
        self->threads_->post(
            [self, hand = std::move(hand)]() mutable { self->process(std::move(hand)); });
      });
}

void WorkflowWorker::process(Hand hand) {
  if (abandoned_) return;
  const PolledTask& task = *hand->task.response;
  std::unique_ptr<engine::Run>& run = hand->entry->run;
  const auto began = Clock::now();
  engine::TaskOutcome outcome;
  const bool rebuilds = hand->fresh_run && task.previous_started_event_id() > 0;
  Watchdog::Watch watch{*watchdog_, task};
  try {
    if (hand->fresh_run) {
      run.reset();
      hand->entry->locals.reset();
    }
    hand->fresh_run = false;
    if (run == nullptr) {
      engine::RunOptions options;
      options.namespace_ = options_.namespace_;
      options.task_queue = options_.task_queue;
      options.logger = options_.log;
      options.interceptors = options_.interceptors;
      options.payload_limit_bytes = options_.payload_limit_bytes;
      options.memo_limit_bytes = options_.memo_limit_bytes;
      options.search_attribute_limit_bytes = options_.search_attribute_limit_bytes;
      options.search_attributes_limit_bytes = options_.search_attributes_limit_bytes;
      options.payload_warning_bytes = options_.payload_warning_bytes;
      options.answer_limit_bytes = answer_limit(task.workflow_execution().run_id());
      run = std::make_unique<engine::Run>(*registry_, std::move(options));
    }
    outcome = run->process(task);
  } catch (const std::exception& error) {
    outcome = {};
    outcome.kind = engine::TaskOutcome::Kind::kFailed;
    outcome.cause = enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE;
    outcome.failure = runtime_failure("RuntimeError", error.what());
  }
  if (watch.end()) return came_back(std::move(hand));
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"workflow_type", task.workflow_type().name()}};
  options_.metrics->observe_seconds("temporal_workflow_task_execution_latency",
                                    metrics::seconds_since(began), tags);
  if (rebuilds) {
    options_.metrics->observe_seconds("temporal_workflow_task_replay_latency",
                                      metrics::seconds_since(began), tags);
  }
  dispatch(std::move(hand), std::move(outcome));
}

void WorkflowWorker::dispatch(Hand hand, engine::TaskOutcome outcome) {
  const PolledTask& task = *hand->task.response;
  switch (outcome.kind) {
    case engine::TaskOutcome::Kind::kLocalActivities:
      return begin_locals(std::move(hand), std::move(outcome.local));
    case engine::TaskOutcome::Kind::kCompleted:
      tell_locals(*hand, outcome.local);
      return complete(std::move(hand), std::move(outcome));
    case engine::TaskOutcome::Kind::kQueryAnswered:
      hand->evict = outcome.evict;
      return answer_query(std::move(hand), std::move(outcome.query));
    case engine::TaskOutcome::Kind::kFailed:
      if (task.has_query()) return fail_query(std::move(hand), outcome.failure.message());
      return fail(std::move(hand), outcome.cause, std::move(outcome.failure));
    case engine::TaskOutcome::Kind::kNeedFullHistory:
      if (hand->task.full_history) {
        if (task.has_query())
          return fail_query(std::move(hand), "the run cannot be rebuilt from its whole history");
        log_of(*hand).error(
            "a workflow task was dropped: its run cannot be "
            "rebuilt from the whole history");
        return finish(std::move(hand), false);
      }
      hand->fresh_run = true;
      return fetch(std::move(hand), true);
  }
}

void WorkflowWorker::begin_locals(Hand hand, engine::LocalWork work) {
  std::shared_ptr<LocalSession>& session = hand->entry->locals;
  if (session == nullptr) session = std::make_shared<LocalSession>(locals_);
  const auto limit = work.task_timeout > Duration::zero() ? work.task_timeout : kUsualTaskTimeout;
  std::uint64_t task = 0;
  {
    const std::lock_guard lock{session->mutex};
    task = ++session->task;
    session->heartbeat_due = false;
  }
  const auto until = hand->task.received + limit * 4 / 5;
  environment_->timers->after(
      std::max<Clock::duration>(until - Clock::now(), Clock::duration::zero()),
      [weak = weak_from_this(), session = std::weak_ptr{session}, task] {
        if (const auto self = weak.lock()) self->heartbeat_due(session, task);
      });
  order_locals(*hand, std::move(work));
  go_on(std::move(hand));
}

void WorkflowWorker::order_locals(InHand& hand, engine::LocalWork work) {
  const std::shared_ptr<LocalSession>& session = hand.entry->locals;
  const PolledTask& task = *hand.task.response;
  const activity::LocalOwner owner{.workflow_id = task.workflow_execution().workflow_id(),
                                   .run_id = task.workflow_execution().run_id(),
                                   .workflow_type = task.workflow_type().name()};
  for (engine::LocalRequest& request : work.start) {
    const std::uint64_t seq = request.seq;
    session->calls[seq] = locals_->start(
        std::move(request), owner,
        [weak = weak_from_this(), session = std::weak_ptr{session}](engine::LocalResult result) {
          if (const auto self = weak.lock()) self->local_ended(session, std::move(result));
        });
  }
  tell_locals(hand, work);
}

void WorkflowWorker::tell_locals(InHand& hand, const engine::LocalWork& work) {
  const std::shared_ptr<LocalSession>& session = hand.entry->locals;
  if (session == nullptr) return;
  for (const std::uint64_t seq : work.cancel) {
    if (const auto call = session->calls.find(seq); call != session->calls.end())
      locals_->cancel(call->second);
  }
  hand.abandoned.insert(hand.abandoned.end(), work.abandon.begin(), work.abandon.end());
}

// Once the server has it: a run that is rebuilt starts them again.
void WorkflowWorker::let_go_of_abandoned(InHand& hand) {
  for (const std::uint64_t seq : std::exchange(hand.abandoned, {})) {
    const auto call = hand.entry->locals->calls.find(seq);
    if (call == hand.entry->locals->calls.end()) continue;
    locals_->abandon(call->second);
    hand.entry->locals->calls.erase(call);
  }
}

void WorkflowWorker::local_ended(const std::weak_ptr<LocalSession>& weak,
                                 engine::LocalResult result) {
  const auto session = weak.lock();
  if (session == nullptr || abandoned_) return;
  Hand hand;
  {
    const std::lock_guard lock{session->mutex};
    session->results.push_back(std::move(result));
    hand = std::move(session->parked);
  }
  if (hand == nullptr) return;
  threads_->post([self = shared_from_this(), hand = std::move(hand)]() mutable {
    self->go_on(std::move(hand));
  });
}

void WorkflowWorker::heartbeat_due(const std::weak_ptr<LocalSession>& weak, std::uint64_t task) {
  const auto session = weak.lock();
  if (session == nullptr || abandoned_) return;
  Hand hand;
  {
    const std::lock_guard lock{session->mutex};
    if (session->task != task) return;
    session->heartbeat_due = true;
    hand = std::move(session->parked);
  }
  if (hand == nullptr) return;
  threads_->post([self = shared_from_this(), hand = std::move(hand)]() mutable {
    self->go_on(std::move(hand));
  });
}

// What codecs make of a local activity's result or of an update's messages shows only when the
// server would not take it. The task fails, the run is rebuilt, and its local activities and
// updates run again: then with half the room, so that they end as a failure on record instead of
// failing every task. Again with half of that; a codec that takes more than 16 times the room is
// nobody's.
std::size_t WorkflowWorker::answer_limit(const std::string& run_id) {
  constexpr int kMostHalvings = 4;
  const std::lock_guard lock{outgrown_mutex_};
  const auto found = outgrown_.find(run_id);
  const int halvings = found == outgrown_.end() ? 0 : std::min(found->second, kMostHalvings);
  return options_.payload_limit_bytes >> halvings;
}

void WorkflowWorker::note_outgrown(const std::string& run_id) {
  const std::lock_guard lock{outgrown_mutex_};
  if (outgrown_.size() >= kMostOutgrown) outgrown_.clear();
  ++outgrown_[run_id];
}

// Tells the run what has ended, one at a time, until the task is done, its time is over, its answer
// has no room for more, or there is nothing more to tell.
void WorkflowWorker::go_on(Hand hand) {
  if (abandoned_) return;
  const std::shared_ptr<LocalSession> session = hand->entry->locals;
  engine::Run& run = *hand->entry->run;
  bool took_one = false;  // else a task that begins late would bring nothing on
  while (true) {
    engine::LocalResult result;
    bool beat = false;
    {
      const std::lock_guard lock{session->mutex};
      if (session->results.empty() && !session->heartbeat_due) {
        session->parked = std::move(hand);
        return;
      }
      beat = session->results.empty() || (session->heartbeat_due && took_one) ||
             !run.has_room(session->results.front());
      if (!beat) {
        took_one = true;
        result = std::move(session->results.front());
        session->results.pop_front();
      }
    }
    engine::TaskOutcome outcome;
    Watchdog::Watch watch{*watchdog_, *hand->task.response};
    if (beat) {
      outcome = run.heartbeat(*hand->task.response);
    } else {
      session->calls.erase(result.seq);
      outcome = run.resolve(*hand->task.response, result);
    }
    if (watch.end()) return came_back(std::move(hand));
    if (outcome.kind != engine::TaskOutcome::Kind::kLocalActivities)
      return dispatch(std::move(hand), std::move(outcome));
    order_locals(*hand, std::move(outcome.local));
  }
}

void WorkflowWorker::complete(Hand hand, engine::TaskOutcome outcome) {
  Completion completion = std::move(outcome.completion);
  hand->run_closed = outcome.run_closed;
  hand->evict = outcome.evict;
  hand->corrupted_signals = outcome.corrupted_signals;
  if (outcome.run_closed && !completion.commands().empty()) {
    const auto& end = completion.commands(completion.commands_size() - 1);
    hand->terminal_command = end.command_type();
    hand->benign = is_benign(end.fail_workflow_execution_command_attributes().failure());
  }
  completion.set_task_token(hand->task.response->task_token());
  completion.set_namespace_(options_.namespace_);
  completion.set_identity(options_.identity);
  completion.set_worker_instance_key(options_.worker_instance_key);
  write_version(options_.versioning, completion);
  if (options_.versioning) {
    const VersioningBehavior own = hand->entry->run->versioning();
    completion.set_versioning_behavior(static_cast<enums::VersioningBehavior>(
        own != VersioningBehavior::kUnspecified ? own : options_.versioning->behavior));
  }
  if (caching() && !stopping_ && !hand->run_closed) {
    auto& sticky = *completion.mutable_sticky_attributes();
    sticky.mutable_worker_task_queue()->set_name(options_.sticky_queue);
    sticky.mutable_worker_task_queue()->set_kind(enums::TASK_QUEUE_KIND_STICKY);
    sticky.mutable_worker_task_queue()->set_normal_name(options_.task_queue);
    const auto timeout = options_.sticky_timeout;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
    sticky.mutable_schedule_to_start_timeout()->set_seconds(seconds.count());
    sticky.mutable_schedule_to_start_timeout()->set_nanos(
        static_cast<int>((timeout - seconds).count()));
    completion.set_return_new_workflow_task(true);
  }
  if (completion.force_create_new_workflow_task()) completion.set_return_new_workflow_task(true);
  if (const std::size_t bytes = completion.ByteSizeLong(); bytes > kLargestRequestBytes) {
    return fail(std::move(hand), enums::WORKFLOW_TASK_FAILED_CAUSE_REQUEST_TOO_LARGE,
                runtime_failure("RequestTooLarge",
                                too_large("the completion", bytes, kLargestRequestBytes)));
  }
  request_eager(*hand, completion);
  hand->task.response->clear_history();  // the events are in the run now; the
                                         // rest waits for the server
  send(std::move(hand), std::move(completion));
}

// An answer to a query that is refused must not hold up the run for as long as somebody asks.
void WorkflowWorker::send(Hand hand, Completion completion) {
  std::unique_ptr<Completion> kept;  // most tasks have none
  if (!completion.query_results().empty()) kept = std::make_unique<Completion>(completion);
  call_retrying<CompletionAnswer>(
      *environment_, methods::kWorkflowTaskCompleted, std::move(completion), kAnswerPlan,
      [self = shared_from_this(), hand = std::move(hand), kept = std::move(kept)](
          const CallStatus& status, CompletionAnswer& answer) mutable {
        if (kept != nullptr && is_refused_here(status) && !self->abandoned_) {
          if (auto again = without_answers(std::move(*kept), status.message)) {
            self->log_of(*hand).warn("queries failed: {}", status.message);
            return self->send(std::move(hand), std::move(*again));
          }
        }
        self->completed(std::move(hand), status, answer);
      });
}

void WorkflowWorker::completed(Hand hand, const CallStatus& status, CompletionAnswer& answer) {
  if (abandoned_) return;
  if (!status.ok()) return not_completed(std::move(hand), status);
  ++processed_;
  // Not before: a task that is tried again meets them again.
  if (hand->corrupted_signals > 0)
    count("temporal_corrupted_signals", *hand, hand->corrupted_signals);
  let_go_of_abandoned(*hand);
  start_eager(*hand, answer);
  if (hand->run_closed) {
    count_end_of_run(*hand);
    return finish(std::move(hand), false);
  }
  hand->entry->run->completed(answer);
  if (!answer.workflow_task().task_token().empty()) {
    // The next task came inline: it is served under the same slot, like a
    // sticky poll's.
    auto next = std::make_unique<PolledTask>();
    next->Swap(answer.mutable_workflow_task());
    hand->task.response = std::move(next);
    hand->task.received = Clock::now();
    hand->task.full_history = false;
    hand->evict = false;
    return prepare(std::move(hand));
  }
  const bool keep = caching() && !stopping_ && !hand->evict;
  finish(std::move(hand), keep);
}

// Whether the server took the completion or not may be unknown: the run is
// dropped and the next task rebuilds it.
void WorkflowWorker::not_completed(Hand hand, const CallStatus& status) {
  hand->eager.clear();
  const Logger log = log_of(*hand);
  if (status.code == grpc_code::kNotFound) {
    log.debug("completion not taken, the task is over: {}", status.message);
  } else if (status.code == grpc_code::kInvalidArgument &&
             status.message.find("UnhandledCommand") != std::string::npos) {
    log.debug("new events came in before the end of the run; it goes on with them");
  } else if (is_message_too_large(status)) {
    note_outgrown(hand->entry->run_id);
    // Not GRPC_MESSAGE_TOO_LARGE, for which the server ends the workflow.
    return fail(std::move(hand), enums::WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE,
                runtime_failure("PayloadsTooLarge", status.message));
  } else if (is_refused_by_codec(status)) {
    return fail(std::move(hand),
                enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
                runtime_failure("CodecError", status.message));
  } else if (is_invalid_text(status)) {
    return fail(
        std::move(hand), enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
        runtime_failure("InvalidText",
                        "a name, an id or a key of this task is not UTF-8: " + status.message));
  } else if (status.code == grpc_code::kInvalidArgument) {
    log.error("completion refused: {}", status.message);
    // The server has failed the task itself, for a cause that its answer does not tell.
    count_failed(*hand->task.response, enums::WORKFLOW_TASK_FAILED_CAUSE_UNSPECIFIED);
  } else {
    log.warn("completion not taken, code {}: {}", status.code, status.message);
  }
  finish(std::move(hand), false);
}

api::RespondWorkflowTaskFailedRequest WorkflowWorker::failed_request(
    const PolledTask& task, enums::WorkflowTaskFailedCause cause,
    temporal::api::failure::v1::Failure failure) const {
  api::RespondWorkflowTaskFailedRequest request;
  request.set_task_token(task.task_token());
  request.set_namespace_(options_.namespace_);
  request.set_identity(options_.identity);
  write_version(options_.versioning, request);
  request.set_cause(cause);
  *request.mutable_failure() = std::move(failure);
  return request;
}

// Only the first attempt is reported: after that the task is left to time out,
// so that the server slows down.
void WorkflowWorker::fail(Hand hand, enums::WorkflowTaskFailedCause cause,
                          temporal::api::failure::v1::Failure failure) {
  const PolledTask& task = *hand->task.response;
  count_failed(task, cause);
  if (task.attempt() > 1) {
    log_of(*hand).warn("workflow task failed again ({}): {}",
                       enums::WorkflowTaskFailedCause_Name(cause), failure.message());
    return finish(std::move(hand), false);
  }
  log_of(*hand).error("workflow task failed ({}): {}", enums::WorkflowTaskFailedCause_Name(cause),
                      failure.message());
  auto request = failed_request(task, cause, std::move(failure));
  call_retrying<api::RespondWorkflowTaskFailedResponse>(
      *environment_, methods::kWorkflowTaskFailed, std::move(request), kAnswerPlan,
      [self = shared_from_this(), hand = std::move(hand)](const CallStatus& status,
                                                          const auto&) mutable {
        if (!status.ok())
          self->log_of(*hand).debug("failure not taken, code {}: {}", status.code, status.message);
        self->finish(std::move(hand), false);
      });
}

// The thread is lost for now, and so is the slot of the task; everything else goes on.
void WorkflowWorker::give_up(const Watchdog::Stuck& stuck) {
  if (abandoned_) return;
  const std::string message = fmt::format(
      "[TMPRL1101] the workflow's code has run for {:.1f} s without an await, {}: it holds up its "
      "thread",
      std::chrono::duration<double>{stuck.since}.count(), stuck.place);
  threads_->replace_one();
  for (WorkflowTask& waiting : cache_.mark_stuck(stuck.task.workflow_execution().run_id()))
    refuse(std::move(waiting));
  report_stuck(stuck.task, message);
}

void WorkflowWorker::refuse(WorkflowTask task) {
  if (!task.response->has_query()) return;  // it times out, and comes again
  report_stuck(*task.response,
               "[TMPRL1101] the workflow's code runs without an await: nobody can ask it");
}

void WorkflowWorker::report_stuck(const PolledTask& task, const std::string& message) {
  const Logger log = log_of(task);
  log.error("{}", message);
  if (task.has_query()) {
    api::RespondQueryTaskCompletedRequest answer;
    answer.set_task_token(task.task_token());
    answer.set_namespace_(options_.namespace_);
    answer.set_completed_type(enums::QUERY_RESULT_TYPE_FAILED);
    *answer.mutable_failure() = runtime_failure("Deadlock", message);
    answer.set_error_message(message);
    return call_retrying<api::RespondQueryTaskCompletedResponse>(
        *environment_, methods::kQueryTaskCompleted, std::move(answer), kAnswerPlan,
        [](const CallStatus&, const auto&) {});
  }
  const auto cause = enums::WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE;
  count_failed(task, cause);
  if (task.attempt() > 1) return;
  call_retrying<api::RespondWorkflowTaskFailedResponse>(
      *environment_, methods::kWorkflowTaskFailed,
      failed_request(task, cause, runtime_failure("Deadlock", message)), kAnswerPlan,
      [log](const CallStatus& status, const auto&) {
        if (!status.ok()) log.debug("failure not taken, code {}: {}", status.code, status.message);
      });
}

// The task was failed in the meantime: what its code brings is not used.
void WorkflowWorker::came_back(Hand hand) {
  log_of(*hand).warn("the workflow's code came back after its task was given up");
  threads_->replaced_one_is_back();
  finish(std::move(hand), false);
}

void WorkflowWorker::answer_query(Hand hand, api::RespondQueryTaskCompletedRequest answer) {
  answer.set_task_token(hand->task.response->task_token());
  answer.set_namespace_(options_.namespace_);
  if (answer.ByteSizeLong() > kLargestRequestBytes) {
    return fail_query(std::move(hand), "[TMPRL1103] the answer is larger than the server takes");
  }
  const bool may_be_refused = holds_payloads(answer);
  call_retrying<api::RespondQueryTaskCompletedResponse>(
      *environment_, methods::kQueryTaskCompleted, std::move(answer), kAnswerPlan,
      [self = shared_from_this(), hand = std::move(hand), may_be_refused](const CallStatus& status,
                                                                          const auto&) mutable {
        if (may_be_refused && is_refused_here(status) && !self->abandoned_) {
          self->log_of(*hand).warn("query failed: {}", status.message);
          api::RespondQueryTaskCompletedRequest refusal;
          refusal.set_completed_type(enums::QUERY_RESULT_TYPE_FAILED);
          refusal.set_error_message(valid_utf8(status.message));
          return self->answer_query(std::move(hand), std::move(refusal));
        }
        if (!status.ok())
          self->log_of(*hand).debug("answer not taken, code {}: {}", status.code, status.message);
        // A closed run is asked with its whole history each time: keeping it would gain nothing.
        const engine::Run* run = hand->entry->run.get();
        const bool keep =
            self->caching() && !self->stopping_ && !hand->evict && run != nullptr && !run->closed();
        self->finish(std::move(hand), keep);
      });
}

void WorkflowWorker::fail_query(Hand hand, const std::string& message) {
  log_of(*hand).warn("query failed: {}", message);
  hand->entry->run.reset();
  hand->entry->locals.reset();
  api::RespondQueryTaskCompletedRequest answer;
  answer.set_completed_type(enums::QUERY_RESULT_TYPE_FAILED);
  *answer.mutable_failure() = runtime_failure("QueryFailed", message);
  answer.set_error_message(answer.failure().message());
  answer_query(std::move(hand), std::move(answer));
}

void WorkflowWorker::finish(Hand hand, bool keep_run) {
  if (abandoned_) return;
  if (!keep_run) {
    hand->entry->run.reset();
    hand->entry->locals.reset();
  }
  const engine::Run* run = hand->entry->run.get();
  hand->entry->bytes = run == nullptr ? 0 : run->memory_bytes();
  std::vector<std::unique_ptr<engine::Run>> dropped;
  std::optional<WorkflowTask> next = cache_.give_back(hand->entry, dropped);
  if (caching() && metrics::wanted(options_.metrics)) count_cache(dropped.size());
  dropped.clear();
  hand->eager.clear();
  hand->task.permit.release();
  if (!next.has_value()) return;
  // Nothing of the task before it is true of this one.
  *hand = InHand{.entry = hand->entry, .task = std::move(*next)};
  prepare(std::move(hand));
}

// An activity of this very queue can come back with the answer to the
// completion, if a slot for it is ready.
void WorkflowWorker::request_eager(InHand& hand, Completion& completion) {
  for (auto& command : *completion.mutable_commands()) {
    if (!command.has_schedule_activity_task_command_attributes()) continue;
    auto& activity = *command.mutable_schedule_activity_task_command_attributes();
    if (!activity.request_eager_execution()) continue;
    activity.set_request_eager_execution(false);
    if (activities_ == nullptr || stopping_ || hand.eager.size() == kMostEagerActivities) continue;
    if (activity.task_queue().name() != options_.task_queue) continue;
    if (!activities_->knows(activity.activity_type().name())) continue;
    std::vector<Permit> permit = activities_->reserve_eager(1);
    if (permit.empty()) continue;
    hand.eager.push_back(std::move(permit.front()));
    activity.set_request_eager_execution(true);
  }
}

void WorkflowWorker::start_eager(InHand& hand, CompletionAnswer& answer) {
  for (auto& task : *answer.mutable_activity_tasks()) {
    if (hand.eager.empty()) break;  // the server sends no more than were asked for
    auto own = std::make_unique<activity::ActivityWorker::Task>();
    own->Swap(&task);
    activities_->accept(std::move(own), std::move(hand.eager.back()), true);
    hand.eager.pop_back();
  }
  hand.eager.clear();
}

Logger WorkflowWorker::log_of(const InHand& hand) const { return log_of(*hand.task.response); }

Logger WorkflowWorker::log_of(const PolledTask& task) const {
  return options_.log.with("WorkflowType", task.workflow_type().name())
      .with("WorkflowID", task.workflow_execution().workflow_id())
      .with("RunID", task.workflow_execution().run_id())
      .with("Attempt", std::to_string(task.attempt()));
}

void WorkflowWorker::count(std::string_view name, const InHand& hand, std::size_t times) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"workflow_type", hand.task.response->workflow_type().name()}};
  options_.metrics->count(name, times, tags);
}

void WorkflowWorker::count_failed(const PolledTask& task, enums::WorkflowTaskFailedCause cause) {
  ++failed_;
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"workflow_type", task.workflow_type().name()},
                            {"failure_reason", failure_reason(cause)}};
  options_.metrics->count("temporal_workflow_task_execution_failed", 1, tags);
}

void WorkflowWorker::count_cache(std::size_t evicted) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue}};
  options_.metrics->gauge("temporal_sticky_cache_size", static_cast<double>(cache_.cached()), tags);
  options_.metrics->gauge("temporal_sticky_cache_bytes", static_cast<double>(cache_.cached_bytes()),
                          tags);
  if (evicted > 0) {
    options_.metrics->count("temporal_sticky_cache_total_forced_eviction", evicted, tags);
  }
}

WorkflowWorker::Numbers WorkflowWorker::numbers() const {
  Numbers now{.tasks = {.slots = slots_->capacity(),
                        .used = slots_->used(),
                        .processed = processed_,
                        .failed = failed_},
              .cache_hits = cache_hits_,
              .cache_misses = cache_misses_};
  if (!polls_.empty()) now.tasks.polls = polls_.front()->open();
  if (polls_.size() > 1) now.sticky_polls = polls_.back()->open();
  return now;
}

void WorkflowWorker::count_end_of_run(const InHand& hand) const {
  const MetricTag tags[] = {{"namespace", options_.namespace_},
                            {"task_queue", options_.task_queue},
                            {"workflow_type", hand.task.response->workflow_type().name()}};
  options_.metrics->observe_seconds(
      "temporal_workflow_endtoend_latency",
      metrics::seconds_between(hand.entry->run->start_time(), metrics::wall_clock()), tags);
  switch (hand.terminal_command) {
    case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
      return count("temporal_workflow_completed", hand);
    case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
      if (!hand.benign) count("temporal_workflow_failed", hand);
      return;
    case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
      return count("temporal_workflow_canceled", hand);
    case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
      return count("temporal_workflow_continue_as_new", hand);
    default: return;
  }
}

void WorkflowWorker::stop_polling() {
  stopping_ = true;
  for (const auto& group : polls_) group->stop();
}

void WorkflowWorker::cancel_polls() {
  stop_polling();
  for (const auto& group : polls_) group->cancel_open();
}

bool WorkflowWorker::wait_polls_closed(Clock::time_point until) {
  bool closed = true;
  for (const auto& group : polls_) closed = group->wait_closed(until) && closed;
  slots_->close();
  return closed;
}

bool WorkflowWorker::wait_idle(Clock::time_point until) { return slots_->wait_idle(until); }

void WorkflowWorker::stop_threads(Clock::time_point until) {
  if (watchdog_ != nullptr) watchdog_->stop();
  threads_->stop(until);
  cache_.drop_idle().clear();
}

void WorkflowWorker::abandon() {
  abandoned_ = true;
  cancel_polls();
  slots_->close();
}

}  // namespace tempora::pollers
