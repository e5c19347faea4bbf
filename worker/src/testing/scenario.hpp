// A small server for one run: writes the events that our commands cause, and hands out tasks. Every
// task is done three times: by a run that stays cached, by a fresh run that gets the full history
// (cache size 0), and in the end the whole history is replayed. All three must agree: that is the
// property that every test of the engine checks besides its own.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/run.hpp"
#include "testing/history_builder.hpp"

namespace tempora::testing {

class Scenario {
 public:
  using Completion = temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest;

  template <class W, class... A>
  explicit Scenario(const Definition<W>& definition, const A&... arguments) {
    registry_.add(definition);
    builder_.started(definition.name(), arguments...);
    cached_ = fresh();
  }
  ~Scenario() {
    if (check_replay_) expect_replays();
  }

  HistoryBuilder& history() { return builder_; }

  template <class... A>
  Scenario& signal(const std::string& name, const A&... arguments) {
    builder_.signaled(name, arguments...);
    return *this;
  }
  template <class... A>
  Scenario& update(const std::string& id, const std::string& name, const A&... arguments) {
    temporal::api::update::v1::Request request;
    request.mutable_meta()->set_update_id(id);
    request.mutable_input()->set_name(name);
    *request.mutable_input()->mutable_args() = encode_all(arguments...);
    temporal::api::protocol::v1::Message message;
    message.set_id(id + "/request");
    message.set_protocol_instance_id(id);
    message.mutable_body()->PackFrom(request);
    updates_.push_back(std::move(message));
    return *this;
  }
  Scenario& query(const std::string& id, const std::string& name) {
    queries_[id].set_query_type(name);
    return *this;
  }
  Scenario& cancel() {
    builder_.cancel_requested();
    return *this;
  }
  template <class T>
  Scenario& complete_activity(const std::string& id, const T& result) {
    builder_.activity_completed(activities_.at(id), result);
    return *this;
  }
  Scenario& fail_activity(const std::string& id, const Failure& failure) {
    builder_.activity_failed(activities_.at(id), failure);
    return *this;
  }
  Scenario& cancel_activity(const std::string& id) {
    builder_.activity_canceled(activities_.at(id));
    return *this;
  }
  Scenario& start_child(const std::string& id) {
    builder_.child_started(children_.at(id), id);
    return *this;
  }
  Scenario& refuse_child(const std::string& id) {
    builder_.child_refused(children_.at(id));
    return *this;
  }
  template <class T>
  Scenario& complete_child(const std::string& id, const T& result) {
    builder_.child_completed(children_.at(id), result);
    return *this;
  }
  Scenario& cancel_child(const std::string& id) {
    builder_.child_canceled(children_.at(id));
    return *this;
  }
  // The answer to a signal to, or a request to cancel, another workflow; refused: it is not there.
  Scenario& answer_external(const std::string& id, bool taken) {
    const auto& [initiated, is_signal] = externals_.at(id);
    if (is_signal && taken) {
      builder_.add(enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED)
          .mutable_external_workflow_execution_signaled_event_attributes()
          ->set_initiated_event_id(initiated);
    } else if (is_signal) {
      builder_.add(enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
          .mutable_signal_external_workflow_execution_failed_event_attributes()
          ->set_initiated_event_id(initiated);
    } else if (taken) {
      builder_.add(enums::EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
          .mutable_external_workflow_execution_cancel_requested_event_attributes()
          ->set_initiated_event_id(initiated);
    } else {
      builder_.add(enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
          .mutable_request_cancel_external_workflow_execution_failed_event_attributes()
          ->set_initiated_event_id(initiated);
    }
    return *this;
  }
  // What happens to the Nexus operation of the name.
  Scenario& start_nexus(const std::string& operation, const std::string& token) {
    auto& started = *builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_STARTED)
                         .mutable_nexus_operation_started_event_attributes();
    started.set_scheduled_event_id(nexus_.at(operation));
    started.set_operation_token(token);
    return *this;
  }
  template <class T>
  Scenario& complete_nexus(const std::string& operation, const T& result) {
    auto& completed = *builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
                           .mutable_nexus_operation_completed_event_attributes();
    completed.set_scheduled_event_id(nexus_.at(operation));
    *completed.mutable_result() = PayloadCodec<T>::encode(result);
    return *this;
  }
  // As the server writes it: its own frame around the cause.
  Scenario& fail_nexus(const std::string& operation, const Failure& cause) {
    auto& failed = *builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_FAILED)
                        .mutable_nexus_operation_failed_event_attributes();
    failed.set_scheduled_event_id(nexus_.at(operation));
    failed.mutable_failure()->set_message("nexus operation completed unsuccessfully");
    failed.mutable_failure()->mutable_nexus_operation_execution_failure_info()->set_operation(
        operation);
    *failed.mutable_failure()->mutable_cause() = cause.proto();
    return *this;
  }
  // The handler's answer to a request to cancel; `refusal`: null if it took it.
  Scenario& answer_nexus_cancel(const std::string& operation, const Failure* refusal = nullptr) {
    if (refusal == nullptr) {
      builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
          .mutable_nexus_operation_cancel_request_completed_event_attributes()
          ->set_scheduled_event_id(nexus_.at(operation));
      return *this;
    }
    auto& failed = *builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED)
                        .mutable_nexus_operation_cancel_request_failed_event_attributes();
    failed.set_scheduled_event_id(nexus_.at(operation));
    *failed.mutable_failure() = refusal->proto();
    return *this;
  }
  // A local activity ends during the next task, in the order of these calls. A task that still has
  // some under way after that ends with a heartbeat.
  template <class T>
  Scenario& complete_local(std::uint64_t seq, const T& result, Duration elapsed = {}) {
    engine::LocalResult end;
    end.seq = seq;
    end.result = encode_all(result);
    end.elapsed = elapsed;
    local_ends_.push_back(std::move(end));
    return *this;
  }
  Scenario& fail_local(std::uint64_t seq, const Failure& failure,
                       std::optional<Duration> backoff = {}) {
    engine::LocalResult end;
    end.seq = seq;
    end.kind = engine::LocalResult::Kind::kFailed;
    end.failure = failure.proto();
    end.backoff = backoff;
    local_ends_.push_back(std::move(end));
    return *this;
  }
  // What the cached run has ordered so far.
  const std::vector<engine::LocalRequest>& local_orders() const { return local_orders_; }
  const std::vector<std::uint64_t>& local_cancels() const { return local_cancels_; }
  const std::vector<std::uint64_t>& local_abandons() const { return local_abandons_; }
  Scenario& fire_timer(const std::string& id) {
    builder_.timer_fired(timers_.at(id), id);
    return *this;
  }

  // Hands out a task for what has happened; the answer's commands become events.
  Completion task() {
    const bool speculative = builder_.last_id() == answered_ && !updates_.empty();
    builder_.task_started();
    engine::TaskOutcome outcome =
        settle(*cached_, make_task(last_started_, last_started_), /*remember=*/true);
    engine::TaskOutcome again = settle(*fresh(), make_task(0, last_started_), /*remember=*/false);
    local_ends_.clear();
    EXPECT_EQ(static_cast<int>(outcome.kind), static_cast<int>(again.kind))
        << again.failure.message();
    EXPECT_EQ(outcome.failure.DebugString(), again.failure.DebugString());
    // The full history may say that our name is known already, the rest must be the same.
    outcome.completion.clear_sdk_metadata();
    again.completion.clear_sdk_metadata();
    EXPECT_EQ(outcome.completion.DebugString(), again.completion.DebugString())
        << "a cached run and one that replays the full history differ";
    last_outcome_ = outcome;
    updates_.clear();
    queries_.clear();
    if (outcome.kind != engine::TaskOutcome::Kind::kCompleted) {
      check_replay_ = false;
      return outcome.completion;
    }
    temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse response;
    if (speculative && outcome.completion.commands().empty()) {
      builder_.drop_last(2);
      response.set_reset_history_event_id(last_started_);
    } else {
      last_started_ = builder_.last_id();
      builder_.task_completed();
      for (const auto& command : outcome.completion.commands()) record(command, outcome.completion);
      answered_ = builder_.last_id();
    }
    cached_->completed(response);
    return outcome.completion;
  }
  // A legacy query on the cached run.
  temporal::api::workflowservice::v1::RespondQueryTaskCompletedRequest legacy_query(
      const std::string& name) {
    WorkflowTask task;
    task.set_task_token("query");
    task.set_previous_started_event_id(last_started_);
    task.mutable_query()->set_query_type(name);
    engine::TaskOutcome outcome = cached_->process(task);
    WorkflowTask full = builder_.task(0, last_started_);
    full.set_started_event_id(0);
    full.mutable_query()->set_query_type(name);
    engine::TaskOutcome again = fresh()->process(full);
    EXPECT_EQ(outcome.query.DebugString(), again.query.DebugString());
    return outcome.query;
  }

  const engine::TaskOutcome& outcome() const { return last_outcome_; }
  engine::Run& cached() { return *cached_; }
  std::unique_ptr<engine::Run> fresh() const {
    engine::RunOptions options;
    options.task_queue = kQueue;
    return std::make_unique<engine::Run>(registry_, options);
  }
  const WorkflowRegistry& registry() const { return registry_; }
  // Drops the cached run, as an eviction does.
  void evict() { cached_ = fresh(); }
  void expect_replays() const {
    const auto replayed = Replayer{registry_}.replay(builder_.history());
    EXPECT_TRUE(replayed.has_value()) << replayed.error().message << "\n"
                                      << builder_.history().DebugString();
  }

 private:
  WorkflowTask make_task(std::int64_t after, std::int64_t previous_started) const {
    WorkflowTask task = builder_.task(after, previous_started);
    for (auto message : updates_) {
      message.set_event_id(builder_.last_id() - 1);
      *task.add_messages() = message;
    }
    for (const auto& [id, query] : queries_) (*task.mutable_queries())[id] = query;
    return task;
  }

  engine::TaskOutcome settle(engine::Run& run, const WorkflowTask& task, bool remember) {
    const auto note = [&](engine::TaskOutcome outcome) {
      if (!remember) return outcome;
      for (const auto& order : outcome.local.start) local_orders_.push_back(order);
      for (const std::uint64_t seq : outcome.local.cancel) local_cancels_.push_back(seq);
      for (const std::uint64_t seq : outcome.local.abandon) local_abandons_.push_back(seq);
      return outcome;
    };
    engine::TaskOutcome outcome = note(run.process(task));
    for (const engine::LocalResult& end : local_ends_) {
      if (outcome.kind != engine::TaskOutcome::Kind::kLocalActivities) break;
      outcome = note(run.resolve(task, end));
    }
    if (outcome.kind == engine::TaskOutcome::Kind::kLocalActivities)
      outcome = note(run.heartbeat(task));
    return outcome;
  }

  void record(const temporal::api::command::v1::Command& command, const Completion& completion) {
    switch (command.command_type()) {
      case enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK: {
        const auto& attributes = command.schedule_activity_task_command_attributes();
        builder_.activity_scheduled(attributes.activity_id(), attributes.activity_type().name());
        activities_[attributes.activity_id()] = builder_.last_id();
        return;
      }
      case enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK:
        builder_.add(enums::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
            .mutable_activity_task_cancel_requested_event_attributes()
            ->set_scheduled_event_id(
                command.request_cancel_activity_task_command_attributes().scheduled_event_id());
        return;
      case enums::COMMAND_TYPE_START_TIMER:
        builder_.timer_started(command.start_timer_command_attributes().timer_id());
        timers_[command.start_timer_command_attributes().timer_id()] = builder_.last_id();
        return;
      case enums::COMMAND_TYPE_CANCEL_TIMER: {
        const std::string& id = command.cancel_timer_command_attributes().timer_id();
        auto& canceled = *builder_.add(enums::EVENT_TYPE_TIMER_CANCELED)
                              .mutable_timer_canceled_event_attributes();
        canceled.set_timer_id(id);
        canceled.set_started_event_id(timers_.at(id));
        return;
      }
      case enums::COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION: {
        const auto& child = command.start_child_workflow_execution_command_attributes();
        builder_.child_initiated(child.workflow_id(), child.workflow_type().name());
        children_[child.workflow_id()] = builder_.last_id();
        return;
      }
      case enums::COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION: {
        const auto& attributes = command.signal_external_workflow_execution_command_attributes();
        auto& initiated =
            *builder_.add(enums::EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
                 .mutable_signal_external_workflow_execution_initiated_event_attributes();
        *initiated.mutable_workflow_execution() = attributes.execution();
        initiated.set_signal_name(attributes.signal_name());
        externals_[attributes.execution().workflow_id()] = {builder_.last_id(), true};
        return;
      }
      case enums::COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: {
        const std::string& id =
            command.request_cancel_external_workflow_execution_command_attributes().workflow_id();
        builder_.add(enums::EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED)
            .mutable_request_cancel_external_workflow_execution_initiated_event_attributes()
            ->mutable_workflow_execution()
            ->set_workflow_id(id);
        externals_[id] = {builder_.last_id(), false};
        return;
      }
      case enums::COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION: {
        const auto& order = command.schedule_nexus_operation_command_attributes();
        auto& scheduled = *builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_SCHEDULED)
                               .mutable_nexus_operation_scheduled_event_attributes();
        scheduled.set_service(order.service());
        scheduled.set_operation(order.operation());
        nexus_[order.operation()] = builder_.last_id();
        return;
      }
      case enums::COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION:
        builder_.add(enums::EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED)
            .mutable_nexus_operation_cancel_requested_event_attributes()
            ->set_scheduled_event_id(
                command.request_cancel_nexus_operation_command_attributes().scheduled_event_id());
        return;
      case enums::COMMAND_TYPE_RECORD_MARKER: {
        auto& marker = *builder_.add(enums::EVENT_TYPE_MARKER_RECORDED)
                            .mutable_marker_recorded_event_attributes();
        marker.set_marker_name(command.record_marker_command_attributes().marker_name());
        *marker.mutable_details() = command.record_marker_command_attributes().details();
        if (command.record_marker_command_attributes().has_failure())
          *marker.mutable_failure() = command.record_marker_command_attributes().failure();
        return;
      }
      case enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
        *builder_.add(enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
             .mutable_upsert_workflow_search_attributes_event_attributes()
             ->mutable_search_attributes() =
            command.upsert_workflow_search_attributes_command_attributes().search_attributes();
        return;
      case enums::COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES:
        *builder_.add(enums::EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED)
             .mutable_workflow_properties_modified_event_attributes()
             ->mutable_upserted_memo() =
            command.modify_workflow_properties_command_attributes().upserted_memo();
        return;
      case enums::COMMAND_TYPE_PROTOCOL_MESSAGE:
        record_message(command.protocol_message_command_attributes().message_id(), completion);
        return;
      case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION: builder_.completed(); return;
      case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
        builder_.add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED)
            .mutable_workflow_execution_failed_event_attributes();
        return;
      case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
        ASSERT_TRUE(command.has_cancel_workflow_execution_command_attributes())
            << "the server refuses it without";
        builder_.add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED)
            .mutable_workflow_execution_canceled_event_attributes();
        return;
      case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
        builder_.add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
            .mutable_workflow_execution_continued_as_new_event_attributes();
        return;
      default: FAIL() << "the scenario does not know " << command.DebugString();
    }
  }

  void record_message(const std::string& id, const Completion& completion) {
    for (const auto& message : completion.messages()) {
      if (message.id() != id) continue;
      temporal::api::update::v1::Acceptance acceptance;
      temporal::api::update::v1::Response response;
      if (message.body().UnpackTo(&acceptance)) {
        auto& accepted = *builder_.add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)
                              .mutable_workflow_execution_update_accepted_event_attributes();
        accepted.set_protocol_instance_id(message.protocol_instance_id());
        accepted.set_accepted_request_message_id(acceptance.accepted_request_message_id());
        accepted.set_accepted_request_sequencing_event_id(
            acceptance.accepted_request_sequencing_event_id());
        *accepted.mutable_accepted_request() = acceptance.accepted_request();
      } else if (message.body().UnpackTo(&response)) {
        auto& completed = *builder_.add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)
                               .mutable_workflow_execution_update_completed_event_attributes();
        *completed.mutable_meta() = response.meta();
        *completed.mutable_outcome() = response.outcome();
      }
      return;
    }
    FAIL() << "the command names message " << id << ", which is not in the completion";
  }

  WorkflowRegistry registry_;
  HistoryBuilder builder_;
  std::unique_ptr<engine::Run> cached_;
  std::vector<temporal::api::protocol::v1::Message> updates_;
  std::map<std::string, temporal::api::query::v1::WorkflowQuery> queries_;
  std::map<std::string, std::int64_t> activities_;
  std::map<std::string, std::int64_t> timers_;
  std::map<std::string, std::int64_t> children_;
  std::map<std::string, std::int64_t> nexus_;                       // by the operation's name
  std::map<std::string, std::pair<std::int64_t, bool>> externals_;  // true: a signal
  std::vector<engine::LocalResult> local_ends_;
  std::vector<engine::LocalRequest> local_orders_;
  std::vector<std::uint64_t> local_cancels_;
  std::vector<std::uint64_t> local_abandons_;
  engine::TaskOutcome last_outcome_;
  std::int64_t last_started_ = 0;
  std::int64_t answered_ = 0;
  bool check_replay_ = true;
};

// The text with which the workflow completes.
inline std::string result_of(const Scenario::Completion& completion) {
  for (const auto& command : completion.commands()) {
    if (command.has_complete_workflow_execution_command_attributes()) {
      return PayloadCodec<std::string>::decode(
          command.complete_workflow_execution_command_attributes().result().payloads(0));
    }
  }
  ADD_FAILURE() << "the workflow is not complete: " << completion.DebugString();
  return {};
}

// The commands of an answer in one line: "ScheduleActivityTask(1 reserve) StartTimer(1)".
inline std::string commands_of(const Scenario::Completion& completion) {
  std::string text;
  for (const auto& command : completion.commands()) {
    if (!text.empty()) text += ' ';
    std::string name = enums::CommandType_Name(command.command_type()).substr(13);
    if (command.has_schedule_activity_task_command_attributes()) {
      const auto& activity = command.schedule_activity_task_command_attributes();
      name += "(" + activity.activity_id() + " " + activity.activity_type().name() + ")";
    } else if (command.has_start_timer_command_attributes()) {
      name += "(" + command.start_timer_command_attributes().timer_id() + ")";
    } else if (command.has_cancel_timer_command_attributes()) {
      name += "(" + command.cancel_timer_command_attributes().timer_id() + ")";
    } else if (command.has_start_child_workflow_execution_command_attributes()) {
      const auto& child = command.start_child_workflow_execution_command_attributes();
      name += "(" + child.workflow_id() + " " + child.workflow_type().name() + ")";
    } else if (command.has_signal_external_workflow_execution_command_attributes()) {
      const auto& signal = command.signal_external_workflow_execution_command_attributes();
      name += "(" + signal.execution().workflow_id() + " " + signal.signal_name() + ")";
    } else if (command.has_request_cancel_external_workflow_execution_command_attributes()) {
      name +=
          "(" +
          command.request_cancel_external_workflow_execution_command_attributes().workflow_id() +
          ")";
    } else if (command.has_schedule_nexus_operation_command_attributes()) {
      name += "(" + command.schedule_nexus_operation_command_attributes().operation() + ")";
    } else if (command.has_protocol_message_command_attributes()) {
      name += "(" + command.protocol_message_command_attributes().message_id() + ")";
    }
    text += name;
  }
  return text;
}

}  // namespace tempora::testing
