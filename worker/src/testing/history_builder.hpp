// Histories made by hand, for tests of the engine.
#pragma once

#include <temporal/api/history/v1/message.pb.h>
#include <temporal/api/update/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <cstdint>
#include <string>
#include <tempora/failure.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <utility>

namespace tempora::testing {

namespace enums = temporal::api::enums::v1;
using temporal::api::history::v1::History;
using temporal::api::history::v1::HistoryEvent;
using WorkflowTask = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;

inline constexpr const char* kRunId = "0190a1b2-0000-7000-8000-00000000000a";
inline constexpr const char* kQueue = "queue";

class HistoryBuilder {
 public:
  // Each event is one second after the one before.
  HistoryEvent& add(enums::EventType type) {
    HistoryEvent& event = *history_.add_events();
    event.set_event_id(history_.events_size());
    event.set_event_type(type);
    event.mutable_event_time()->set_seconds(kEpoch + history_.events_size());
    return event;
  }
  std::int64_t last_id() const { return history_.events_size(); }
  void drop_last(int count) {
    for (int i = 0; i < count; ++i) history_.mutable_events()->RemoveLast();
  }

  template <class... A>
  HistoryBuilder& started(const std::string& type, const A&... arguments) {
    auto& attributes = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
                            .mutable_workflow_execution_started_event_attributes();
    attributes.mutable_workflow_type()->set_name(type);
    attributes.mutable_task_queue()->set_name(kQueue);
    attributes.set_workflow_id("workflow");
    attributes.set_original_execution_run_id(kRunId);
    attributes.set_first_execution_run_id(kRunId);
    *attributes.mutable_input() = encode_all(arguments...);
    return *this;
  }
  HistoryBuilder& task_started() {
    add(enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
        .mutable_workflow_task_scheduled_event_attributes();
    add(enums::EVENT_TYPE_WORKFLOW_TASK_STARTED).mutable_workflow_task_started_event_attributes();
    return *this;
  }
  HistoryBuilder& task_completed() {
    add(enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        .mutable_workflow_task_completed_event_attributes();
    return *this;
  }
  HistoryBuilder& task_timed_out() {
    add(enums::EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)
        .mutable_workflow_task_timed_out_event_attributes();
    return *this;
  }
  HistoryBuilder& task_failed(enums::WorkflowTaskFailedCause cause,
                              const std::string& new_run_id = {}) {
    auto& failed = *add(enums::EVENT_TYPE_WORKFLOW_TASK_FAILED)
                        .mutable_workflow_task_failed_event_attributes();
    failed.set_cause(cause);
    failed.set_new_run_id(new_run_id);
    return *this;
  }
  template <class... A>
  HistoryBuilder& signaled(const std::string& name, const A&... arguments) {
    auto& signal = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
                        .mutable_workflow_execution_signaled_event_attributes();
    signal.set_signal_name(name);
    *signal.mutable_input() = encode_all(arguments...);
    return *this;
  }
  HistoryBuilder& cancel_requested() {
    add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        .mutable_workflow_execution_cancel_requested_event_attributes();
    return *this;
  }
  HistoryBuilder& activity_scheduled(const std::string& id, const std::string& type) {
    auto& scheduled = *add(enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
                           .mutable_activity_task_scheduled_event_attributes();
    scheduled.set_activity_id(id);
    scheduled.mutable_activity_type()->set_name(type);
    return *this;
  }
  HistoryBuilder& activity_started(std::int64_t scheduled) {
    add(enums::EVENT_TYPE_ACTIVITY_TASK_STARTED)
        .mutable_activity_task_started_event_attributes()
        ->set_scheduled_event_id(scheduled);
    return *this;
  }
  template <class T>
  HistoryBuilder& activity_completed(std::int64_t scheduled, const T& result) {
    activity_started(scheduled);
    auto& completed = *add(enums::EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
                           .mutable_activity_task_completed_event_attributes();
    completed.set_scheduled_event_id(scheduled);
    completed.set_started_event_id(last_id() - 1);
    *completed.mutable_result() = encode_all(result);
    return *this;
  }
  HistoryBuilder& activity_failed(std::int64_t scheduled, const Failure& failure) {
    activity_started(scheduled);
    auto& failed = *add(enums::EVENT_TYPE_ACTIVITY_TASK_FAILED)
                        .mutable_activity_task_failed_event_attributes();
    failed.set_scheduled_event_id(scheduled);
    failed.set_started_event_id(last_id() - 1);
    failed.set_retry_state(enums::RETRY_STATE_NON_RETRYABLE_FAILURE);
    *failed.mutable_failure() = failure.proto();
    return *this;
  }
  HistoryBuilder& activity_canceled(std::int64_t scheduled) {
    add(enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED)
        .mutable_activity_task_canceled_event_attributes()
        ->set_scheduled_event_id(scheduled);
    return *this;
  }
  HistoryBuilder& timer_started(const std::string& id) {
    add(enums::EVENT_TYPE_TIMER_STARTED).mutable_timer_started_event_attributes()->set_timer_id(id);
    return *this;
  }
  HistoryBuilder& timer_fired(std::int64_t started, const std::string& id) {
    auto& fired = *add(enums::EVENT_TYPE_TIMER_FIRED).mutable_timer_fired_event_attributes();
    fired.set_started_event_id(started);
    fired.set_timer_id(id);
    return *this;
  }
  HistoryBuilder& child_initiated(const std::string& id, const std::string& type) {
    auto& child = *add(enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED)
                       .mutable_start_child_workflow_execution_initiated_event_attributes();
    child.set_workflow_id(id);
    child.mutable_workflow_type()->set_name(type);
    return *this;
  }
  HistoryBuilder& child_started(std::int64_t initiated, const std::string& id) {
    auto& child = *add(enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
                       .mutable_child_workflow_execution_started_event_attributes();
    child.set_initiated_event_id(initiated);
    child.mutable_workflow_execution()->set_workflow_id(id);
    child.mutable_workflow_execution()->set_run_id("run of " + id);
    return *this;
  }
  HistoryBuilder& child_refused(std::int64_t initiated) {
    auto& child = *add(enums::EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED)
                       .mutable_start_child_workflow_execution_failed_event_attributes();
    child.set_initiated_event_id(initiated);
    child.set_cause(enums::START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS);
    return *this;
  }
  template <class T>
  HistoryBuilder& child_completed(std::int64_t initiated, const T& result) {
    auto& child = *add(enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
                       .mutable_child_workflow_execution_completed_event_attributes();
    child.set_initiated_event_id(initiated);
    *child.mutable_result() = encode_all(result);
    return *this;
  }
  HistoryBuilder& child_canceled(std::int64_t initiated) {
    add(enums::EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED)
        .mutable_child_workflow_execution_canceled_event_attributes()
        ->set_initiated_event_id(initiated);
    return *this;
  }
  HistoryBuilder& patch_marker(const std::string& id, bool deprecated) {
    auto& marker =
        *add(enums::EVENT_TYPE_MARKER_RECORDED).mutable_marker_recorded_event_attributes();
    marker.set_marker_name("core_patch");
    *(*marker.mutable_details())["patch-data"].add_payloads() =
        PayloadCodec<nlohmann::json>::encode({{"id", id}, {"deprecated", deprecated}});
    return *this;
  }
  HistoryBuilder& change_version_upserted(const std::vector<std::string>& ids) {
    auto& upserted = *add(enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
                          .mutable_upsert_workflow_search_attributes_event_attributes();
    SearchAttributes{}
        .set_keyword_list("TemporalChangeVersion", ids)
        .write(upserted.mutable_search_attributes());
    return *this;
  }
  HistoryBuilder& completed() {
    add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)
        .mutable_workflow_execution_completed_event_attributes();
    return *this;
  }

  const History& history() const { return history_; }

  // A workflow task with everything (`after` = 0) or only what came after an event.
  WorkflowTask task(std::int64_t after, std::int64_t previous_started) const {
    WorkflowTask task;
    task.set_task_token("token");
    task.mutable_workflow_execution()->set_workflow_id("workflow");
    task.mutable_workflow_execution()->set_run_id(kRunId);
    task.mutable_workflow_type()->set_name(
        history_.events(0).workflow_execution_started_event_attributes().workflow_type().name());
    task.set_previous_started_event_id(previous_started);
    task.set_started_event_id(last_id());
    task.set_attempt(1);
    for (const HistoryEvent& event : history_.events()) {
      if (event.event_id() > after) *task.mutable_history()->add_events() = event;
    }
    return task;
  }
  WorkflowTask full_task() const { return task(0, 0); }

 private:
  static constexpr std::int64_t kEpoch = 1'800'000'000;
  History history_;
};

}  // namespace tempora::testing
