// Runs: how they begin, what they hear, how they end.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "converter/time.hpp"
#include "testing/service/server.hpp"

namespace tempora::testing {

HistoryEvent& Server::add(Run& run, enums::EventType type) {
  HistoryEvent& event = *run.history.add_events();
  event.set_event_id(run.history.events_size());
  event.set_event_type(type);
  write(now_, event.mutable_event_time());
  return event;
}

RunPtr Server::make_run(NewRun start) {
  auto run = std::make_shared<Run>();
  const auto& request = start.request;
  run->id = request.workflow_id();
  run->run_id = start.run_id.empty() ? new_uuid() : start.run_id;
  run->first_run_id = start.continues ? start.continues->first_run_id : run->run_id;
  run->start_time = now_;
  run->start_request_id = request.request_id();
  run->parent = start.parent;
  run->parent_initiated = start.parent_initiated;
  for (const auto& [name, payload] : request.memo().fields()) run->memo[name] = payload;
  for (const auto& [name, payload] : request.search_attributes().indexed_fields())
    run->search_attributes[name] = payload;

  auto& started = *add(*run, enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
                       .mutable_workflow_execution_started_event_attributes();
  *started.mutable_workflow_type() = request.workflow_type();
  started.mutable_task_queue()->set_name(request.task_queue().name());
  started.mutable_task_queue()->set_kind(enums::TASK_QUEUE_KIND_NORMAL);
  if (request.has_input()) *started.mutable_input() = request.input();
  *started.mutable_workflow_execution_timeout() = request.workflow_execution_timeout();
  *started.mutable_workflow_run_timeout() = request.workflow_run_timeout();
  *started.mutable_workflow_task_timeout() = request.workflow_task_timeout();
  if (from_proto(request.workflow_task_timeout()) == Duration::zero())
    started.mutable_workflow_task_timeout()->set_seconds(10);
  started.set_original_execution_run_id(run->run_id);
  started.set_first_execution_run_id(run->first_run_id);
  started.set_identity(request.identity());
  if (request.has_retry_policy()) *started.mutable_retry_policy() = request.retry_policy();
  started.set_attempt(start.attempt);
  started.set_workflow_id(run->id);
  if (request.has_memo()) *started.mutable_memo() = request.memo();
  if (request.has_search_attributes())
    *started.mutable_search_attributes() = request.search_attributes();
  if (request.has_header()) *started.mutable_header() = request.header();
  if (request.has_priority()) *started.mutable_priority() = request.priority();
  if (request.has_versioning_override())
    *started.mutable_versioning_override() = request.versioning_override();
  if (request.has_user_metadata())
    *run->history.mutable_events(0)->mutable_user_metadata() = request.user_metadata();
  if (start.continues) {
    started.set_continued_execution_run_id(start.continues->run_id);
    started.set_initiator(start.initiator);
  }
  if (start.parent) {
    started.set_parent_workflow_namespace(options_.task_queue.empty() ? "" : "default");
    started.mutable_parent_workflow_execution()->set_workflow_id(start.parent->id);
    started.mutable_parent_workflow_execution()->set_run_id(start.parent->run_id);
    started.set_parent_initiated_event_id(start.parent_initiated);
  }
  if (start.continues) run->callers = std::exchange(start.continues->callers, {});
  runs_[run->id].push_back(run);
  by_run_id_[run->run_id] = run;

  const std::weak_ptr<Run> weak = run;
  if (const Duration limit = from_proto(request.workflow_run_timeout()); limit > Duration::zero())
    run->run_timeout = after(limit, [this, weak] { time_out(weak.lock()); });
  if (const Duration limit = from_proto(request.workflow_execution_timeout());
      limit > Duration::zero()) {
    run->execution_deadline = start.continues ? start.continues->execution_deadline : now_ + limit;
    run->execution_timeout =
        after(run->execution_deadline - now_, [this, weak] { time_out(weak.lock()); });
  }
  const Duration delay = start.first_task_after > Duration::zero()
                             ? start.first_task_after
                             : from_proto(request.workflow_start_delay());
  if (delay > Duration::zero()) {
    write(delay, started.mutable_first_workflow_task_backoff());
    run->first_task = after(delay, [this, run] {
      run->first_task.reset();
      schedule_task(run);
    });
  } else {
    schedule_task(run);
  }
  return run;
}

void Server::tell(const RunPtr& run, std::function<void()> write) {
  if (!run->open()) return;
  if (run->task.phase == WorkflowTaskState::Phase::kStarted) {
    run->buffered.push_back(std::move(write));
    return;
  }
  write();
  if (run->open()) schedule_task(run);
}

void Server::close(const RunPtr& run, enums::WorkflowExecutionStatus status) {
  run->status = status;
  run->close_time = now_;
  run->task = {};
  for (auto& [id, timer] : run->timers) alarms_.erase(timer.second);
  run->timers.clear();
  for (auto& [event, activity] : run->activities) {
    for (auto* alarm : {&activity.schedule_to_close, &activity.schedule_to_start,
                        &activity.attempt_end, &activity.next})
      cancel_alarm(*alarm);
    if (activity.busy) finished(activity.busy);
  }
  run->activities.clear();
  for (auto& [event, op] : run->nexus) clear(op);
  run->nexus.clear();
  for (auto* alarm : {&run->first_task, &run->run_timeout, &run->execution_timeout})
    cancel_alarm(*alarm);
  run->buffered.clear();
  close_children(run);
}

// Those who wait for the run hear of its end once a successor, if there is one, exists.
void Server::close_updates(const RunPtr& run) {
  const bool goes_on = runs_[run->id].back() != run;
  for (auto& [id, update] : run->updates) {
    if (update.stage == Update::Stage::kCompleted) continue;
    if (update.stage == Update::Stage::kAccepted) {
      auto& failure = *update.outcome.mutable_failure();
      failure.set_message(
          "Workflow Update failed because the Workflow completed before the Update completed.");
      failure.set_source("Server");
      failure.mutable_application_failure_info()->set_type("AcceptedUpdateCompletedWorkflow");
      failure.mutable_application_failure_info()->set_non_retryable(true);
      update.stage = Update::Stage::kCompleted;
      for (const CallPtr& call : std::exchange(update.waiters, {}))
        answer_update(call, run, update);
    } else {
      for (const CallPtr& call : std::exchange(update.waiters, {})) {
        call->refuse(goes_on ? grpc_code::kAborted : grpc_code::kNotFound,
                     goes_on ? "workflow update was aborted by closing workflow"
                             : "workflow execution already completed");
      }
    }
  }
  const auto waiting = waiting_;
  for (const Waiting& each : waiting) {
    if (each.workflow_id == run->id && each.call->open()) answer_history(each.call, run);
  }
  if (!run->queries.empty()) make_ready({.kind = Ready::Kind::kQuery, .run = run});
}

void Server::time_out(const RunPtr& run) {
  if (run == nullptr || !run->open()) return;
  auto& ended = *add(*run, enums::EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT)
                     .mutable_workflow_execution_timed_out_event_attributes();
  ended.set_retry_state(enums::RETRY_STATE_TIMEOUT);
  close(run, enums::WORKFLOW_EXECUTION_STATUS_TIMED_OUT);
  tell_parent(run);
  close_updates(run);
}

void Server::tell_parent(const RunPtr& run) {
  tell_callers(run);
  const RunPtr parent = run->parent.lock();
  if (parent == nullptr) return;
  const std::int64_t initiated = run->parent_initiated;
  tell(parent, [this, parent, run, initiated] {
    const auto found = parent->children.find(initiated);
    if (found == parent->children.end()) return;
    const Child child = found->second;
    parent->children.erase(found);
    const HistoryEvent& last = run->history.events(run->history.events_size() - 1);
    const auto describe = [&](auto& event) {
      event.set_namespace_("default");
      event.mutable_workflow_execution()->set_workflow_id(run->id);
      event.mutable_workflow_execution()->set_run_id(run->run_id);
      *event.mutable_workflow_type() = run->started().workflow_type();
      event.set_initiated_event_id(initiated);
      event.set_started_event_id(child.started_event);
    };
    switch (run->status) {
      case enums::WORKFLOW_EXECUTION_STATUS_COMPLETED: {
        auto& event = *add(*parent, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
                           .mutable_child_workflow_execution_completed_event_attributes();
        *event.mutable_result() = last.workflow_execution_completed_event_attributes().result();
        return describe(event);
      }
      case enums::WORKFLOW_EXECUTION_STATUS_FAILED: {
        auto& event = *add(*parent, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED)
                           .mutable_child_workflow_execution_failed_event_attributes();
        const auto& failed = last.workflow_execution_failed_event_attributes();
        *event.mutable_failure() = failed.failure();
        event.set_retry_state(failed.retry_state());
        return describe(event);
      }
      case enums::WORKFLOW_EXECUTION_STATUS_CANCELED: {
        auto& event = *add(*parent, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED)
                           .mutable_child_workflow_execution_canceled_event_attributes();
        *event.mutable_details() = last.workflow_execution_canceled_event_attributes().details();
        return describe(event);
      }
      case enums::WORKFLOW_EXECUTION_STATUS_TIMED_OUT: {
        auto& event = *add(*parent, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT)
                           .mutable_child_workflow_execution_timed_out_event_attributes();
        event.set_retry_state(enums::RETRY_STATE_TIMEOUT);
        return describe(event);
      }
      default:
        return describe(*add(*parent, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED)
                             .mutable_child_workflow_execution_terminated_event_attributes());
    }
  });
}

void Server::close_children(const RunPtr& run) {
  for (const auto& [initiated, child] : std::exchange(run->children, {})) {
    const RunPtr open = child.run.lock();
    if (open == nullptr) continue;
    // The child may go on as another run.
    const RunPtr latest = runs_[open->id].back();
    if (!latest->open() || latest->first_run_id != open->first_run_id) continue;
    latest->parent.reset();
    switch (child.order.parent_close_policy()) {
      case enums::PARENT_CLOSE_POLICY_ABANDON: break;
      case enums::PARENT_CLOSE_POLICY_REQUEST_CANCEL:
        make_ready({.kind = Ready::Kind::kTransfer, .run = latest, .act = [this, latest] {
                      request_cancel(latest, "by parent close policy");
                    }});
        break;
      default:
        make_ready({.kind = Ready::Kind::kTransfer, .run = latest, .act = [this, latest] {
                      if (!latest->open()) return;
                      add(*latest, enums::EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)
                          .mutable_workflow_execution_terminated_event_attributes()
                          ->set_reason("by parent close policy");
                      close(latest, enums::WORKFLOW_EXECUTION_STATUS_TERMINATED);
                      tell_callers(latest);
                      close_updates(latest);
                    }});
    }
  }
}

RunPtr Server::continue_as_new(const RunPtr& run, std::string new_run_id) {
  const auto& event = run->history.events(run->history.events_size() - 1)
                          .workflow_execution_continued_as_new_event_attributes();
  const auto& old = run->started();
  NewRun next;
  next.continues = run;
  next.initiator = enums::CONTINUE_AS_NEW_INITIATOR_WORKFLOW;
  next.run_id = std::move(new_run_id);
  next.parent = run->parent.lock();
  next.parent_initiated = run->parent_initiated;
  auto& request = next.request;
  request.set_workflow_id(run->id);
  request.mutable_workflow_type()->set_name(event.workflow_type().name().empty()
                                                ? old.workflow_type().name()
                                                : event.workflow_type().name());
  request.mutable_task_queue()->set_name(
      event.task_queue().name().empty() ? old.task_queue().name() : event.task_queue().name());
  *request.mutable_input() = event.input();
  *request.mutable_workflow_execution_timeout() = old.workflow_execution_timeout();
  *request.mutable_workflow_run_timeout() =
      event.has_workflow_run_timeout() ? event.workflow_run_timeout() : old.workflow_run_timeout();
  *request.mutable_workflow_task_timeout() = event.has_workflow_task_timeout()
                                                 ? event.workflow_task_timeout()
                                                 : old.workflow_task_timeout();
  if (old.has_retry_policy()) *request.mutable_retry_policy() = old.retry_policy();
  for (const auto& [name, value] : run->memo)
    (*request.mutable_memo()->mutable_fields())[name] = value;
  for (const auto& [name, value] : run->search_attributes)
    (*request.mutable_search_attributes()->mutable_indexed_fields())[name] = value;
  if (event.has_header()) *request.mutable_header() = event.header();
  const RunPtr made = make_run(std::move(next));
  if (const RunPtr parent = run->parent.lock()) {
    if (const auto child = parent->children.find(run->parent_initiated);
        child != parent->children.end())
      child->second.run = made;
  }
  return made;
}

std::optional<Server::NewRun> Server::retry_of(const RunPtr& run, const FailureProto& failure) {
  const auto& started = run->started();
  if (!started.has_retry_policy()) return std::nullopt;
  const auto& policy = started.retry_policy();
  if (policy.maximum_attempts() > 0 && started.attempt() >= policy.maximum_attempts())
    return std::nullopt;
  const auto& application = failure.application_failure_info();
  if (application.non_retryable() ||
      std::ranges::find(policy.non_retryable_error_types(), application.type()) !=
          policy.non_retryable_error_types().end())
    return std::nullopt;
  NewRun next;
  next.continues = run;
  next.initiator = enums::CONTINUE_AS_NEW_INITIATOR_RETRY;
  next.attempt = started.attempt() + 1;
  next.run_id = new_uuid();
  next.parent = run->parent.lock();
  next.parent_initiated = run->parent_initiated;
  Duration initial = from_proto(policy.initial_interval());
  if (initial == Duration::zero()) initial = std::chrono::seconds{1};
  const double coefficient = policy.backoff_coefficient() > 0 ? policy.backoff_coefficient() : 2.0;
  next.first_task_after = Duration{static_cast<Duration::rep>(
      static_cast<double>(initial.count()) * std::pow(coefficient, started.attempt() - 1))};
  auto& request = next.request;
  request.set_workflow_id(run->id);
  *request.mutable_workflow_type() = started.workflow_type();
  *request.mutable_task_queue() = started.task_queue();
  *request.mutable_input() = started.input();
  *request.mutable_workflow_execution_timeout() = started.workflow_execution_timeout();
  *request.mutable_workflow_run_timeout() = started.workflow_run_timeout();
  *request.mutable_workflow_task_timeout() = started.workflow_task_timeout();
  *request.mutable_retry_policy() = policy;
  if (started.has_memo()) *request.mutable_memo() = started.memo();
  if (started.has_search_attributes())
    *request.mutable_search_attributes() = started.search_attributes();
  if (started.has_header()) *request.mutable_header() = started.header();
  return next;
}

void Server::start_child(const RunPtr& run, std::int64_t initiated) {
  const auto found = run->children.find(initiated);
  if (found == run->children.end()) return;
  const auto order = found->second.order;
  const auto chain = runs_.find(order.workflow_id());
  if (chain != runs_.end()) {
    const RunPtr& last = chain->second.back();
    const bool refused =
        last->open() ||
        order.workflow_id_reuse_policy() == enums::WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE ||
        (order.workflow_id_reuse_policy() ==
             enums::WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY &&
         last->status == enums::WORKFLOW_EXECUTION_STATUS_COMPLETED);
    if (refused) {
      run->children.erase(found);
      return tell(run, [this, run, order, initiated] {
        auto& failed = *add(*run, enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
                            .mutable_start_child_workflow_execution_failed_event_attributes();
        failed.set_namespace_("default");
        failed.set_workflow_id(order.workflow_id());
        *failed.mutable_workflow_type() = order.workflow_type();
        failed.set_cause(
            enums::START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS);
        failed.set_initiated_event_id(initiated);
      });
    }
  }
  NewRun start;
  start.parent = run;
  start.parent_initiated = initiated;
  auto& request = start.request;
  request.set_workflow_id(order.workflow_id());
  *request.mutable_workflow_type() = order.workflow_type();
  request.mutable_task_queue()->set_name(order.task_queue().name().empty()
                                             ? run->started().task_queue().name()
                                             : order.task_queue().name());
  *request.mutable_input() = order.input();
  *request.mutable_workflow_execution_timeout() = order.workflow_execution_timeout();
  *request.mutable_workflow_run_timeout() = order.workflow_run_timeout();
  *request.mutable_workflow_task_timeout() = order.workflow_task_timeout();
  if (order.has_retry_policy()) *request.mutable_retry_policy() = order.retry_policy();
  if (order.has_memo()) *request.mutable_memo() = order.memo();
  if (order.has_search_attributes())
    *request.mutable_search_attributes() = order.search_attributes();
  if (order.has_header()) *request.mutable_header() = order.header();
  if (order.has_priority()) *request.mutable_priority() = order.priority();
  const RunPtr made = make_run(std::move(start));
  run->children[initiated].run = made;
  tell(run, [this, run, made, initiated] {
    auto& started = *add(*run, enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
                         .mutable_child_workflow_execution_started_event_attributes();
    started.set_namespace_("default");
    started.set_initiated_event_id(initiated);
    started.mutable_workflow_execution()->set_workflow_id(made->id);
    started.mutable_workflow_execution()->set_run_id(made->run_id);
    *started.mutable_workflow_type() = made->started().workflow_type();
    if (const auto child = run->children.find(initiated); child != run->children.end())
      child->second.started_event = run->last_event();
  });
}

RunPtr Server::target_of(const RunPtr& from,
                         const temporal::api::common::v1::WorkflowExecution& target,
                         bool child_only) {
  const RunPtr run = find(target.workflow_id(), target.run_id());
  if (run == nullptr || !run->open()) return nullptr;
  if (child_only && run->parent.lock() != from) return nullptr;
  return run;
}

void Server::signal_external(const RunPtr& run, const HistoryEvent& initiated) {
  const auto order = initiated.signal_external_workflow_execution_initiated_event_attributes();
  const std::int64_t id = initiated.event_id();
  const RunPtr target = target_of(run, order.workflow_execution(), order.child_workflow_only());
  if (target != nullptr) {
    tell(target, [this, run, target, order] {
      auto& signal = *add(*target, enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
                          .mutable_workflow_execution_signaled_event_attributes();
      signal.set_signal_name(order.signal_name());
      if (order.has_input()) *signal.mutable_input() = order.input();
      if (order.has_header()) *signal.mutable_header() = order.header();
      signal.mutable_external_workflow_execution()->set_workflow_id(run->id);
      signal.mutable_external_workflow_execution()->set_run_id(run->run_id);
    });
  }
  tell(run, [this, run, order, id, found = target != nullptr] {
    if (found) {
      auto& event = *add(*run, enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
                         .mutable_external_workflow_execution_signaled_event_attributes();
      event.set_initiated_event_id(id);
      *event.mutable_workflow_execution() = order.workflow_execution();
    } else {
      auto& event = *add(*run, enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
                         .mutable_signal_external_workflow_execution_failed_event_attributes();
      event.set_cause(
          enums::
              SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND);
      event.set_initiated_event_id(id);
      *event.mutable_workflow_execution() = order.workflow_execution();
    }
  });
}

void Server::cancel_external(const RunPtr& run, const HistoryEvent& initiated) {
  const auto order =
      initiated.request_cancel_external_workflow_execution_initiated_event_attributes();
  const std::int64_t id = initiated.event_id();
  const RunPtr target = target_of(run, order.workflow_execution(), order.child_workflow_only());
  if (target != nullptr) request_cancel(target, order.reason());
  tell(run, [this, run, order, id, found = target != nullptr] {
    if (found) {
      auto& event = *add(*run, enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
                         .mutable_external_workflow_execution_cancel_requested_event_attributes();
      event.set_initiated_event_id(id);
      *event.mutable_workflow_execution() = order.workflow_execution();
    } else {
      auto& event =
          *add(*run, enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
               .mutable_request_cancel_external_workflow_execution_failed_event_attributes();
      event.set_cause(
          enums::
              CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND);
      event.set_initiated_event_id(id);
      *event.mutable_workflow_execution() = order.workflow_execution();
    }
  });
}

void Server::request_cancel(const RunPtr& run, const std::string& reason) {
  if (!run->open() || run->cancel_requested) return;
  run->cancel_requested = true;
  tell(run, [this, run, reason] {
    add(*run, enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        .mutable_workflow_execution_cancel_requested_event_attributes()
        ->set_cause(reason);
  });
}

}  // namespace tempora::testing
