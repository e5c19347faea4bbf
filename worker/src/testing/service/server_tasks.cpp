// Workflow tasks: handed out, answered, failed, lost.
#include <fmt/format.h>
#include <temporal/api/errordetails/v1/message.pb.h>

#include <algorithm>

#include "converter/time.hpp"
#include "testing/command_events.hpp"
#include "testing/service/server.hpp"

namespace tempora::testing {

namespace {

using Phase = WorkflowTaskState::Phase;
using temporal::api::command::v1::Command;

// A task that failed is tried again after this long, as often as it takes.
constexpr std::chrono::seconds kTaskRetry{10};

bool is_terminal(const Command& command) {
  switch (command.command_type()) {
    case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
    case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
    case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
    case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION: return true;
    default: return false;
  }
}

// Says in the event which task brought it.
void set_completed_event(HistoryEvent& event, std::int64_t completed) {
  const auto* oneof = event.GetDescriptor()->FindOneofByName("attributes");
  const auto* field = event.GetReflection()->GetOneofFieldDescriptor(event, oneof);
  if (field == nullptr) return;
  auto* attributes = event.GetReflection()->MutableMessage(&event, field);
  const auto* id = attributes->GetDescriptor()->FindFieldByName("workflow_task_completed_event_id");
  if (id != nullptr) attributes->GetReflection()->SetInt64(attributes, id, completed);
}

}  // namespace

void Server::poll_workflow_task(const CallPtr& call) {
  const auto& queue = call->request<api::PollWorkflowTaskQueueRequest>().task_queue();
  auto& polled = workflow_queues_[queue.name()];
  polled.polls.push_back(call);
  polled.attended = true;
}

void Server::shutdown_worker(const CallPtr& call) {
  const std::string key = call->request<api::ShutdownWorkerRequest>().worker_instance_key();
  const auto end_polls = [&](auto& queues, auto request) {
    for (auto& [name, queue] : queues) {
      const auto polls = queue.polls;
      for (const CallPtr& poll : polls) {
        if (poll->request<decltype(request)>().worker_instance_key() != key) continue;
        std::erase(queue.polls, poll);
        if (queue.polls.empty()) queue.attended = false;
        poll->answer();  // without a task
      }
    }
  };
  end_polls(workflow_queues_, api::PollWorkflowTaskQueueRequest{});
  end_polls(activity_queues_, api::PollActivityTaskQueueRequest{});
  end_polls(nexus_queues_, api::PollNexusTaskQueueRequest{});
  call->answer();
}

void Server::lost(const std::string& worker) {
  if (query_in_hand_ && query_worker_ == worker) {
    query_in_hand_->refuse(grpc_code::kUnavailable, "the worker that had the query is gone");
    query_in_hand_.reset();
    task_in_hand_.reset();
  }
  for (const auto& [id, run] : by_run_id_) {
    if (!run->open()) continue;
    for (auto& [event, activity] : run->activities) {
      if (activity.worker == worker && activity.busy)
        finished(std::exchange(activity.busy, nullptr));
    }
    for (auto& [event, op] : run->nexus) {
      if (op.worker == worker && op.busy) ask_again(run, op, kTaskRetry);
    }
    if (run->task.phase != Phase::kStarted || run->task.worker != worker) continue;
    if (task_in_hand_ == run) task_in_hand_.reset();
    run->task.alarm = after(from_proto(run->started().workflow_task_timeout()),
                            [this, run = run, token = run->task.token] {
                              if (run->task.token == token) task_lost(run, false);
                            });
  }
}

void Server::schedule_task(const RunPtr& run, bool speculative) {
  WorkflowTaskState& task = run->task;
  if (!run->open() || run->first_task || task.phase == Phase::kStarted) return;
  if (task.phase == Phase::kScheduled) {
    if (speculative) return;
    task.speculative = false;  // something real has come: the task will be on record
    return;
  }
  task.phase = Phase::kScheduled;
  task.speculative = speculative;
  task.scheduled_event = 0;
  if (!speculative && task.attempt == 1) {
    auto& scheduled = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
                           .mutable_workflow_task_scheduled_event_attributes();
    *scheduled.mutable_task_queue() = run->started().task_queue();
    *scheduled.mutable_start_to_close_timeout() = run->started().workflow_task_timeout();
    scheduled.set_attempt(1);
    task.scheduled_event = run->last_event();
  }
  make_ready({.kind = Ready::Kind::kWorkflowTask, .run = run});
}

void Server::start_task(const RunPtr& run, const std::string& worker, bool sticky,
                        api::PollWorkflowTaskQueueResponse& task) {
  WorkflowTaskState& state = run->task;
  if (state.scheduled_event == 0) {
    auto& scheduled = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
                           .mutable_workflow_task_scheduled_event_attributes();
    *scheduled.mutable_task_queue() = run->started().task_queue();
    *scheduled.mutable_start_to_close_timeout() = run->started().workflow_task_timeout();
    scheduled.set_attempt(state.attempt);
    state.scheduled_event = run->last_event();
  }
  auto& started = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_STARTED)
                       .mutable_workflow_task_started_event_attributes();
  started.set_scheduled_event_id(state.scheduled_event);
  started.set_request_id(new_uuid());
  started.set_history_size_bytes(static_cast<std::int64_t>(run->history.ByteSizeLong()));
  started.set_suggest_continue_as_new(run->last_event() > 4'000);
  state.started_event = run->last_event();
  state.phase = Phase::kStarted;
  state.token = fmt::format("task-{}", ++next_token_);
  state.worker = worker;

  task.set_task_token(state.token);
  task.mutable_workflow_execution()->set_workflow_id(run->id);
  task.mutable_workflow_execution()->set_run_id(run->run_id);
  *task.mutable_workflow_type() = run->started().workflow_type();
  task.set_previous_started_event_id(run->previous_started);
  task.set_started_event_id(state.started_event);
  task.set_attempt(1);  // a worker reports only the first failure of a task; we want each
  write(now_, task.mutable_started_time());
  write(now_, task.mutable_scheduled_time());
  const std::int64_t after_event = sticky ? run->previous_started : 0;
  for (std::int64_t i = after_event; i < run->last_event(); ++i)
    *task.mutable_history()->add_events() = run->history.events(static_cast<int>(i));
  for (const std::string& id : run->update_order) {
    Update& update = run->updates.at(id);
    if (update.stage > Update::Stage::kSent) continue;
    update.stage = Update::Stage::kSent;
    auto& message = *task.add_messages();
    message.set_id(id + "/request");
    message.set_protocol_instance_id(id);
    message.set_event_id(state.started_event - 1);
    message.mutable_body()->PackFrom(update.request);
  }
  std::erase_if(run->queries, [](const auto& query) { return !query.call->open(); });
  for (const WaitingQuery& query : run->queries) {
    (*task.mutable_queries())[query.id] = query.call->request<api::QueryWorkflowRequest>().query();
  }
}

RunPtr Server::task_owner(const CallPtr& call, const std::string& token) {
  for (const auto& [id, run] : by_run_id_) {
    if (run->task.phase == Phase::kStarted && run->task.token == token) return run;
  }
  call->refuse(grpc_code::kNotFound, "workflow task not found");
  return nullptr;
}

// The task is over without a result. What it had put into the history for the first time stays,
// with the reason behind it; a repeated try leaves no trace.
void Server::task_lost(const RunPtr& run, bool failed) {
  WorkflowTaskState& task = run->task;
  if (task_in_hand_ == run) task_in_hand_.reset();
  cancel_alarm(task.alarm);
  run->sticky_queue.clear();
  if (task.attempt > 1) {
    run->history.mutable_events()->DeleteSubrange(static_cast<int>(run->last_event()) - 2, 2);
  } else if (!failed) {
    auto& event = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
                       .mutable_workflow_task_timed_out_event_attributes();
    event.set_scheduled_event_id(task.scheduled_event);
    event.set_started_event_id(task.started_event);
    event.set_timeout_type(enums::TIMEOUT_TYPE_START_TO_CLOSE);
  }
  const int attempt = task.attempt + 1;
  task = {};
  task.attempt = attempt;
  flush(run);
  if (!failed || !run->open()) return schedule_task(run);
  run->first_task = after(kTaskRetry, [this, run] {
    run->first_task.reset();
    schedule_task(run);
  });
}

void Server::flush(const RunPtr& run) {
  for (const auto& write : std::exchange(run->buffered, {})) write();
}

void Server::workflow_task_failed(const CallPtr& call) {
  const auto& request = call->request<api::RespondWorkflowTaskFailedRequest>();
  const RunPtr run = task_owner(call, request.task_token());
  if (run == nullptr) return;
  if (run->task.attempt == 1) {
    auto& event = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
                       .mutable_workflow_task_failed_event_attributes();
    event.set_scheduled_event_id(run->task.scheduled_event);
    event.set_started_event_id(run->task.started_event);
    event.set_cause(request.cause());
    *event.mutable_failure() = request.failure();
    event.set_identity(request.identity());
  }
  task_lost(run, true);
  call->answer();
  // It is tried again, but whoever waits now is told: most likely the test wants to know.
  give_up_waiting(
      run->id, grpc_code::kFailedPrecondition,
      fmt::format("the code of workflow {} failed: {}", run->id, request.failure().message()));
}

void Server::workflow_task_completed(const CallPtr& call) {
  const auto& request = call->request<api::RespondWorkflowTaskCompletedRequest>();
  const RunPtr run = task_owner(call, request.task_token());
  if (run == nullptr) return;
  if (roll() < options_.lost_task_rate) {
    task_lost(run, false);
    return call->refuse(grpc_code::kNotFound, "the answer was lost (lost_task_rate)");
  }
  const bool ends = std::ranges::any_of(request.commands(), is_terminal);
  if (ends && !run->buffered.empty()) {
    if (run->task.attempt == 1) {
      auto& event = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
                         .mutable_workflow_task_failed_event_attributes();
      event.set_scheduled_event_id(run->task.scheduled_event);
      event.set_started_event_id(run->task.started_event);
      event.set_cause(enums::WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND);
    }
    WorkflowTaskState& task = run->task;
    const int attempt = task.attempt;
    if (attempt > 1)
      run->history.mutable_events()->DeleteSubrange(static_cast<int>(run->last_event()) - 2, 2);
    if (task_in_hand_ == run) task_in_hand_.reset();
    task = {};
    run->sticky_queue.clear();
    flush(run);
    schedule_task(run);
    return call->refuse(grpc_code::kInvalidArgument, "UnhandledCommand");
  }
  auto& response = call->response<api::RespondWorkflowTaskCompletedResponse>();
  if (task_in_hand_ == run) task_in_hand_.reset();
  cancel_alarm(run->task.alarm);
  const bool dropped = conclude(run, request);
  if (dropped) response.set_reset_history_event_id(run->previous_started);
  // The next task goes with the answer where it may.
  const bool inline_task = run->open() && request.return_new_workflow_task() &&
                           run->task.phase == Phase::kScheduled && options_.seed == 0 &&
                           options_.evict_rate == 0 && task_in_hand_ == nullptr &&
                           !run->sticky_queue.empty() && moves();
  if (inline_task) {
    task_in_hand_ = run;
    start_task(run, request.worker_instance_key(), true, *response.mutable_workflow_task());
  }
  call->answer();
}

// True if the task was speculative and leaves no trace.
bool Server::conclude(const RunPtr& run, const api::RespondWorkflowTaskCompletedRequest& request) {
  WorkflowTaskState& task = run->task;
  run->sticky_queue = request.sticky_attributes().worker_task_queue().name();
  if (task.speculative && request.commands().empty() && run->buffered.empty() &&
      !request.force_create_new_workflow_task()) {
    run->history.mutable_events()->DeleteSubrange(static_cast<int>(run->last_event()) - 2, 2);
    task = {};
    apply_messages(run, request);
    answer_queries(run, request);
    return true;
  }
  auto& completed = *add(*run, enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
                         .mutable_workflow_task_completed_event_attributes();
  completed.set_scheduled_event_id(task.scheduled_event);
  completed.set_started_event_id(task.started_event);
  completed.set_identity(request.identity());
  if (request.has_sdk_metadata()) *completed.mutable_sdk_metadata() = request.sdk_metadata();
  run->previous_started = task.started_event;
  task = {};
  const std::int64_t completed_event = run->last_event();
  apply_messages(run, request);
  answer_queries(run, request);
  // While the commands are written, what they set off waits: it comes after all of them.
  task.phase = Phase::kStarted;
  for (const Command& command : request.commands()) {
    auto event = event_for(command, request.messages());
    if (!event) continue;
    event->set_event_id(run->last_event() + 1);
    write(now_, event->mutable_event_time());
    set_completed_event(*event, completed_event);
    if (event->has_workflow_execution_continued_as_new_event_attributes()) {
      event->mutable_workflow_execution_continued_as_new_event_attributes()
          ->set_new_execution_run_id(new_uuid());
    }
    if (event->has_workflow_execution_update_completed_event_attributes()) {
      auto& done = *event->mutable_workflow_execution_update_completed_event_attributes();
      done.set_accepted_event_id(run->updates[done.meta().update_id()].accepted_event);
    }
    *run->history.add_events() = *event;
    apply(run, command, *event);
    if (!run->open()) return false;
  }
  task = {};
  const bool news = !run->buffered.empty();
  flush(run);
  const bool updates = std::ranges::any_of(run->updates, [](const auto& update) {
    return update.second.stage == Update::Stage::kAdmitted;
  });
  if (news || request.force_create_new_workflow_task()) {
    schedule_task(run);
  } else if (updates) {
    schedule_task(run, true);
  }
  return false;
}

// Rejections have no command. Acceptances and outcomes are answered when their events are written.
void Server::apply_messages(const RunPtr& run,
                            const api::RespondWorkflowTaskCompletedRequest& request) {
  for (const auto& message : request.messages()) {
    temporal::api::update::v1::Rejection rejection;
    if (!message.body().UnpackTo(&rejection)) continue;
    const auto found = run->updates.find(message.protocol_instance_id());
    if (found == run->updates.end()) continue;
    Update update = std::move(found->second);
    std::erase(run->update_order, found->first);
    run->updates.erase(found);  // a rejected id may come again
    update.stage = Update::Stage::kCompleted;
    *update.outcome.mutable_failure() = rejection.failure();
    for (const CallPtr& call : std::exchange(update.waiters, {})) answer_update(call, run, update);
  }
}

void Server::answer_queries(const RunPtr& run,
                            const api::RespondWorkflowTaskCompletedRequest& request) {
  std::erase_if(run->queries, [&](const WaitingQuery& query) {
    const auto result = request.query_results().find(query.id);
    if (result == request.query_results().end()) return false;
    if (result->second.result_type() == enums::QUERY_RESULT_TYPE_ANSWERED) {
      *query.call->response<api::QueryWorkflowResponse>().mutable_query_result() =
          result->second.answer();
      query.call->answer();
    } else {
      query.call->refuse(grpc_code::kInvalidArgument, result->second.error_message());
    }
    return true;
  });
  if (!run->queries.empty()) make_ready({.kind = Ready::Kind::kQuery, .run = run});
}

void Server::query_task_completed(const CallPtr& call) {
  const auto& request = call->request<api::RespondQueryTaskCompletedRequest>();
  if (request.task_token() != query_token_ || query_in_hand_ == nullptr)
    return call->refuse(grpc_code::kNotFound, "query task not found");
  const CallPtr query = std::exchange(query_in_hand_, nullptr);
  task_in_hand_.reset();
  if (request.completed_type() == enums::QUERY_RESULT_TYPE_ANSWERED) {
    *query->response<api::QueryWorkflowResponse>().mutable_query_result() = request.query_result();
    query->answer();
  } else {
    query->refuse(grpc_code::kInvalidArgument, request.error_message());
  }
  call->answer();
}

void Server::apply(const RunPtr& run, const Command& command, const HistoryEvent& event) {
  const std::int64_t id = event.event_id();
  const auto transfer = [&](std::function<void()> act) {
    make_ready({.kind = Ready::Kind::kTransfer, .run = run, .act = std::move(act)});
  };
  switch (command.command_type()) {
    case enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK:
      return schedule_activity(run, event, command.schedule_activity_task_command_attributes());
    case enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK: {
      const auto found = run->activities.find(
          command.request_cancel_activity_task_command_attributes().scheduled_event_id());
      if (found == run->activities.end()) return;
      found->second.cancel_event = id;
      return ask_to_cancel(run, found->second);
    }
    case enums::COMMAND_TYPE_START_TIMER: {
      const auto& order = command.start_timer_command_attributes();
      const std::string timer_id = order.timer_id();
      const Alarm alarm =
          after(from_proto(order.start_to_fire_timeout()), [this, run, timer_id, id] {
            run->timers.erase(timer_id);
            tell(run, [this, run, timer_id, id] {
              auto& fired =
                  *add(*run, enums::EVENT_TYPE_TIMER_FIRED).mutable_timer_fired_event_attributes();
              fired.set_timer_id(timer_id);
              fired.set_started_event_id(id);
            });
          });
      run->timers[timer_id] = {id, alarm};
      return;
    }
    case enums::COMMAND_TYPE_CANCEL_TIMER: {
      const auto timer = run->timers.find(command.cancel_timer_command_attributes().timer_id());
      auto& written = *run->history.mutable_events(static_cast<int>(id) - 1);
      if (timer == run->timers.end()) return;
      written.mutable_timer_canceled_event_attributes()->set_started_event_id(timer->second.first);
      alarms_.erase(timer->second.second);
      run->timers.erase(timer);
      return;
    }
    case enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION: {
      const auto& order = command.start_child_workflow_execution_command_attributes();
      run->children[id] = {.workflow_id = order.workflow_id(),
                           .initiated_event = id,
                           .started_event = 0,
                           .order = order,
                           .run = {}};
      return transfer([this, run, id] { start_child(run, id); });
    }
    case enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION:
      return transfer([this, run, event] { signal_external(run, event); });
    case enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION:
      return transfer([this, run, event] { cancel_external(run, event); });
    case enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION:
      return schedule_nexus(run, event, command.schedule_nexus_operation_command_attributes());
    case enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION:
      return cancel_nexus(
          run, command.request_cancel_nexus_operation_command_attributes().scheduled_event_id(),
          id);
    case enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
      for (const auto& [name, value] :
           command.upsert_workflow_search_attributes_command_attributes()
               .search_attributes()
               .indexed_fields())
        run->search_attributes[name] = value;
      return;
    case enums::COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:
      for (const auto& [name, value] :
           command.modify_workflow_properties_command_attributes().upserted_memo().fields())
        run->memo[name] = value;
      return;
    case enums::COMMAND_TYPE_PROTOCOL_MESSAGE: {
      if (event.has_workflow_execution_update_accepted_event_attributes()) {
        const auto& accepted = event.workflow_execution_update_accepted_event_attributes();
        Update& update = run->updates[accepted.protocol_instance_id()];
        update.stage = Update::Stage::kAccepted;
        update.accepted_event = id;
        const auto waiters = std::exchange(update.waiters, {});
        for (const CallPtr& call : waiters) answer_update(call, run, update);
      } else {
        const auto& done = event.workflow_execution_update_completed_event_attributes();
        Update& update = run->updates[done.meta().update_id()];
        update.stage = Update::Stage::kCompleted;
        update.outcome = done.outcome();
        for (const CallPtr& call : std::exchange(update.waiters, {}))
          answer_update(call, run, update);
      }
      return;
    }
    case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
      close(run, enums::WORKFLOW_EXECUTION_STATUS_COMPLETED);
      tell_parent(run);
      return close_updates(run);
    case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION: {
      auto& written = *run->history.mutable_events(static_cast<int>(id) - 1)
                           ->mutable_workflow_execution_failed_event_attributes();
      auto next = retry_of(run, written.failure());
      written.set_retry_state(next ? enums::RETRY_STATE_IN_PROGRESS
                                   : enums::RETRY_STATE_RETRY_POLICY_NOT_SET);
      if (next) written.set_new_execution_run_id(next->run_id);
      close(run, enums::WORKFLOW_EXECUTION_STATUS_FAILED);
      if (next) {
        const RunPtr parent = run->parent.lock();
        const RunPtr made = make_run(std::move(*next));
        if (parent != nullptr && parent->children.contains(run->parent_initiated))
          parent->children[run->parent_initiated].run = made;
      } else {
        tell_parent(run);
      }
      return close_updates(run);
    }
    case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
      close(run, enums::WORKFLOW_EXECUTION_STATUS_CANCELED);
      tell_parent(run);
      return close_updates(run);
    case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION: {
      const std::string next =
          event.workflow_execution_continued_as_new_event_attributes().new_execution_run_id();
      close(run, enums::WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW);
      continue_as_new(run, next);
      return close_updates(run);
    }
    default: return;
  }
}

}  // namespace tempora::testing
