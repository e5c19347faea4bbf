#include "play.hpp"

#include <algorithm>

namespace addrflow::workflows::testing {
namespace {

constexpr std::int64_t kEpoch_s = 1'800'000'000;
constexpr const char* kRunId = "0190a1b2-0000-7000-8000-00000000000a";
constexpr int kMostTasks = 2'000;

std::chrono::nanoseconds to_nanoseconds(const google::protobuf::Duration& duration) {
  return std::chrono::seconds{duration.seconds()} + std::chrono::nanoseconds{duration.nanos()};
}

}  // namespace

Play::Play(tempora::WorkflowRegistry registry, std::string type, std::string workflow_id,
           tempora::Payloads input)
    : registry_(std::move(registry)), type_(std::move(type)), workflow_id_(std::move(workflow_id)) {
  tempora::engine::RunOptions options;
  options.task_queue = catalog::kMainQueue;
  run_ = std::make_unique<tempora::engine::Run>(registry_, options);
  auto& started = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
                       .mutable_workflow_execution_started_event_attributes();
  started.mutable_workflow_type()->set_name(type_);
  started.mutable_task_queue()->set_name(catalog::kMainQueue);
  started.set_workflow_id(workflow_id_);
  started.set_original_execution_run_id(kRunId);
  started.set_first_execution_run_id(kRunId);
  *started.mutable_input() = std::move(input);
}

Play::~Play() {
  if (::testing::Test::HasFatalFailure()) return;
  const auto replayed = tempora::Replayer{registry_}.replay(history_);
  EXPECT_TRUE(replayed.has_value()) << replayed.error().message;
}

Play::Event& Play::add(enums::EventType type) {
  Event& event = *history_.add_events();
  event.set_event_id(history_.events_size());
  event.set_event_type(type);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now_);
  event.mutable_event_time()->set_seconds(kEpoch_s + seconds.count());
  event.mutable_event_time()->set_nanos(static_cast<int>((now_ - seconds).count()));
  return event;
}

void Play::add_signal(const std::string& name, tempora::Payloads input) {
  auto& signal = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
                      .mutable_workflow_execution_signaled_event_attributes();
  signal.set_signal_name(name);
  *signal.mutable_input() = std::move(input);
  news_ = true;
}

void Play::add_update(const std::string& id, const std::string& name, tempora::Payloads input) {
  temporal::api::update::v1::Request request;
  request.mutable_meta()->set_update_id(id);
  request.mutable_input()->set_name(name);
  *request.mutable_input()->mutable_args() = std::move(input);
  temporal::api::protocol::v1::Message message;
  message.set_id(id + "/request");
  message.set_protocol_instance_id(id);
  message.mutable_body()->PackFrom(request);
  messages_.push_back(std::move(message));
  news_ = true;
}

Play& Play::cancel() {
  add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
      .mutable_workflow_execution_cancel_requested_event_attributes();
  news_ = true;
  return *this;
}

Play::Task Play::task_with(std::int64_t after) const {
  Task task;
  task.set_task_token("token");
  task.mutable_workflow_execution()->set_workflow_id(workflow_id_);
  task.mutable_workflow_execution()->set_run_id(kRunId);
  task.mutable_workflow_type()->set_name(type_);
  task.set_previous_started_event_id(seen_);
  task.set_started_event_id(history_.events_size());
  task.set_attempt(1);
  for (const Event& event : history_.events()) {
    if (event.event_id() > after) *task.mutable_history()->add_events() = event;
  }
  return task;
}

// A task in which nothing but refused updates happened is dropped by the server; here it stays as
// an empty one.
void Play::run_task() {
  news_ = false;
  add(enums::EVENT_TYPE_WORKFLOW_TASK_SCHEDULED).mutable_workflow_task_scheduled_event_attributes();
  add(enums::EVENT_TYPE_WORKFLOW_TASK_STARTED)
      .mutable_workflow_task_started_event_attributes()
      ->set_scheduled_event_id(history_.events_size() - 1);
  Task task = task_with(seen_);
  for (auto message : messages_) {
    message.set_event_id(history_.events_size() - 1);
    *task.add_messages() = message;
  }
  messages_.clear();
  const tempora::engine::TaskOutcome outcome = run_->process(task);
  ASSERT_EQ(outcome.kind, tempora::engine::TaskOutcome::Kind::kCompleted)
      << outcome.failure.DebugString();
  seen_ = history_.events_size();
  auto& completed = *add(enums::EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
                         .mutable_workflow_task_completed_event_attributes();
  completed.set_scheduled_event_id(seen_ - 1);
  completed.set_started_event_id(seen_);
  for (const auto& message : outcome.completion.messages()) {
    temporal::api::update::v1::Rejection rejection;
    if (message.body().UnpackTo(&rejection)) {
      *outcomes_[message.protocol_instance_id()].mutable_failure() = rejection.failure();
    }
  }
  for (const auto& command : outcome.completion.commands()) record(command, outcome.completion);
  run_->completed({});
}

void Play::record(
    const temporal::api::command::v1::Command& command,
    const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& all) {
  switch (command.command_type()) {
    case enums::COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK: {
      const auto& wanted = command.schedule_activity_task_command_attributes();
      auto& scheduled = *add(enums::EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
                             .mutable_activity_task_scheduled_event_attributes();
      scheduled.set_activity_id(wanted.activity_id());
      *scheduled.mutable_activity_type() = wanted.activity_type();
      activities_[history_.events_size()] = {wanted.activity_type().name(), wanted.input(),
                                             wanted.activity_id(), false};
      scheduled_.push_back(wanted.activity_type().name());
      return;
    }
    case enums::COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK: {
      const auto scheduled =
          command.request_cancel_activity_task_command_attributes().scheduled_event_id();
      add(enums::EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
          .mutable_activity_task_cancel_requested_event_attributes()
          ->set_scheduled_event_id(scheduled);
      if (activities_.contains(scheduled)) activities_[scheduled].cancel_asked = true;
      return;
    }
    case enums::COMMAND_TYPE_START_TIMER: {
      const auto& wanted = command.start_timer_command_attributes();
      add(enums::EVENT_TYPE_TIMER_STARTED)
          .mutable_timer_started_event_attributes()
          ->set_timer_id(wanted.timer_id());
      timers_[history_.events_size()] = {now_ + to_nanoseconds(wanted.start_to_fire_timeout()),
                                         wanted.timer_id()};
      return;
    }
    case enums::COMMAND_TYPE_CANCEL_TIMER: {
      const std::string& id = command.cancel_timer_command_attributes().timer_id();
      const auto timer =
          std::ranges::find_if(timers_, [&](const auto& t) { return t.second.id == id; });
      ASSERT_NE(timer, timers_.end()) << "a timer that is not there is cancelled: " << id;
      auto& canceled =
          *add(enums::EVENT_TYPE_TIMER_CANCELED).mutable_timer_canceled_event_attributes();
      canceled.set_timer_id(id);
      canceled.set_started_event_id(timer->first);
      timers_.erase(timer);
      return;
    }
    case enums::COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
      *add(enums::EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
           .mutable_upsert_workflow_search_attributes_event_attributes()
           ->mutable_search_attributes() =
          command.upsert_workflow_search_attributes_command_attributes().search_attributes();
      return;
    case enums::COMMAND_TYPE_RECORD_MARKER: {
      const auto& wanted = command.record_marker_command_attributes();
      auto& marker =
          *add(enums::EVENT_TYPE_MARKER_RECORDED).mutable_marker_recorded_event_attributes();
      marker.set_marker_name(wanted.marker_name());
      *marker.mutable_details() = wanted.details();
      if (wanted.has_failure()) *marker.mutable_failure() = wanted.failure();
      return;
    }
    case enums::COMMAND_TYPE_PROTOCOL_MESSAGE:
      record_message(command.protocol_message_command_attributes().message_id(), all);
      return;
    case enums::COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
      add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)
          .mutable_workflow_execution_completed_event_attributes();
      break;
    case enums::COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION:
      add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_FAILED)
          .mutable_workflow_execution_failed_event_attributes();
      break;
    case enums::COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION:
      add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED)
          .mutable_workflow_execution_canceled_event_attributes();
      break;
    case enums::COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
      add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
          .mutable_workflow_execution_continued_as_new_event_attributes();
      break;
    default: FAIL() << "the play does not know " << command.DebugString();
  }
  closed_ = true;
  closing_ = command.command_type();
  last_command_ = command;
}

void Play::record_message(
    const std::string& id,
    const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& all) {
  for (const auto& message : all.messages()) {
    if (message.id() != id) continue;
    temporal::api::update::v1::Acceptance acceptance;
    temporal::api::update::v1::Response response;
    if (message.body().UnpackTo(&acceptance)) {
      auto& accepted = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)
                            .mutable_workflow_execution_update_accepted_event_attributes();
      accepted.set_protocol_instance_id(message.protocol_instance_id());
      accepted.set_accepted_request_message_id(acceptance.accepted_request_message_id());
      accepted.set_accepted_request_sequencing_event_id(
          acceptance.accepted_request_sequencing_event_id());
      *accepted.mutable_accepted_request() = acceptance.accepted_request();
    } else if (message.body().UnpackTo(&response)) {
      auto& completed = *add(enums::EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)
                             .mutable_workflow_execution_update_completed_event_attributes();
      *completed.mutable_meta() = response.meta();
      *completed.mutable_outcome() = response.outcome();
      outcomes_[response.meta().update_id()] = response.outcome();
    }
    return;
  }
  FAIL() << "the command names message " << id << ", which is not there";
}

// Plays the oldest activity that is not held; false if there is none.
bool Play::play_activities() {
  for (auto& [scheduled, activity] : activities_) {
    const std::int64_t id = scheduled;
    const bool held = held_.contains(activity.type);
    if (held && !activity.cancel_asked) continue;
    if (held) {
      add(enums::EVENT_TYPE_ACTIVITY_TASK_CANCELED)
          .mutable_activity_task_canceled_event_attributes()
          ->set_scheduled_event_id(id);
    } else {
      EXPECT_TRUE(fakes_.contains(activity.type)) << "nobody plays " << activity.type;
      if (!fakes_.contains(activity.type)) return false;
      const auto input = activity.input;
      std::optional<tempora::Payloads> output;
      tempora::FailureProto failure;
      try {
        output = fakes_.at(activity.type)(input);
      } catch (const tempora::Failure& thrown) {
        failure = thrown.proto();
      }
      add(enums::EVENT_TYPE_ACTIVITY_TASK_STARTED)
          .mutable_activity_task_started_event_attributes()
          ->set_scheduled_event_id(id);
      const std::int64_t started = history_.events_size();
      if (output) {
        auto& done = *add(enums::EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
                          .mutable_activity_task_completed_event_attributes();
        done.set_scheduled_event_id(id);
        done.set_started_event_id(started);
        *done.mutable_result() = *output;
      } else {
        auto& failed = *add(enums::EVENT_TYPE_ACTIVITY_TASK_FAILED)
                            .mutable_activity_task_failed_event_attributes();
        failed.set_scheduled_event_id(id);
        failed.set_started_event_id(started);
        failed.set_retry_state(enums::RETRY_STATE_NON_RETRYABLE_FAILURE);
        *failed.mutable_failure() = failure;
      }
    }
    activities_.erase(id);
    news_ = true;
    return true;
  }
  return false;
}

void Play::settle() {
  for (int i = 0; i < kMostTasks && !closed_; ++i) {
    if (news_) {
      run_task();
      if (::testing::Test::HasFatalFailure()) return;
    } else if (!play_activities()) {
      return;
    }
  }
  if (!closed_) ADD_FAILURE() << "the run never comes to rest";
}

bool Play::advance() {
  settle();
  if (closed_ || timers_.empty()) return false;
  const auto first =
      std::ranges::min_element(timers_, {}, [](const auto& timer) { return timer.second.due; });
  now_ = std::max(now_, first->second.due);
  auto& fired = *add(enums::EVENT_TYPE_TIMER_FIRED).mutable_timer_fired_event_attributes();
  fired.set_started_event_id(first->first);
  fired.set_timer_id(first->second.id);
  timers_.erase(first);
  news_ = true;
  settle();
  return true;
}

void Play::finish(int limit) {
  settle();
  for (int i = 0; i < limit && !closed_; ++i) {
    if (!advance()) break;
  }
  EXPECT_TRUE(closed_) << "the run is still open";
}

std::shared_ptr<const tempora::Failure> Play::failure() const {
  return tempora::to_failure(last_command_.fail_workflow_execution_command_attributes().failure());
}

std::string Play::update_failure(const std::string& id) const {
  const auto failure = tempora::to_failure(outcomes_.at(id).failure());
  const auto* error = tempora::find_application_error(*failure);
  return (error ? error->type() : std::string{"?"}) + ": " + failure->message();
}

int Play::count(const std::string& activity) const {
  return static_cast<int>(std::ranges::count(scheduled_, activity));
}

tempora::Payload Play::ask(const std::string& name) {
  Task task;
  task.set_task_token("query");
  task.mutable_workflow_execution()->set_workflow_id(workflow_id_);
  task.mutable_workflow_execution()->set_run_id(kRunId);
  task.mutable_workflow_type()->set_name(type_);
  task.set_previous_started_event_id(seen_);
  task.mutable_query()->set_query_type(name);
  const auto outcome = run_->process(task);
  EXPECT_EQ(outcome.query.completed_type(), enums::QUERY_RESULT_TYPE_ANSWERED)
      << outcome.query.error_message();
  return outcome.query.query_result().payloads_size() > 0 ? outcome.query.query_result().payloads(0)
                                                          : tempora::Payload{};
}

}  // namespace addrflow::workflows::testing
