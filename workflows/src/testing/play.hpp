// A stage for one workflow run: activities are played by functions, time passes only when nothing
// else can happen. The engine below is the real one, and in the end the history that came about is
// replayed.
#pragma once

#include "engine/run.hpp"

#include <gtest/gtest.h>
#include <temporal/api/update/v1/message.pb.h>
#include <addrflow/catalog/catalog.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tempora/failure.hpp>
#include <tempora/replayer.hpp>
#include <vector>

namespace addrflow::workflows::testing {

namespace enums = temporal::api::enums::v1;

class Play {
 public:
  Play(tempora::WorkflowRegistry registry, std::string type, std::string workflow_id,
       tempora::Payloads input = {});
  ~Play();

  // What an activity answers; it may throw a `Failure`.
  template <class I, class O, class F>
  Play& on(const tempora::ActivityType<I, O>& type, F function) {
    fakes_[type.name] = [function](const tempora::Payloads& input) {
      const O output = function(tempora::decode_argument<I>(input));
      return tempora::encode_all(output);
    };
    return *this;
  }
  // Activities of this type stay under way until they are let go.
  void hold(const std::string& type) { held_.insert(type); }
  void let_go(const std::string& type) { held_.erase(type); }

  template <class... A>
  Play& signal(const std::string& name, const A&... arguments) {
    add_signal(name, tempora::encode_all(arguments...));
    return *this;
  }
  template <class... A>
  Play& update(const std::string& id, const std::string& name, const A&... arguments) {
    add_update(id, name, tempora::encode_all(arguments...));
    return *this;
  }
  Play& cancel();

  // Until nothing happens without time passing.
  void settle();
  // Fires the earliest timer and settles; false if there is none.
  bool advance();
  // Lets time pass until the run is closed or `limit` timers have fired.
  void finish(int limit = 200);

  bool closed() const { return closed_; }
  enums::CommandType closing_command() const { return closing_; }
  // Of the run, once closed.
  const temporal::api::command::v1::Command& last_command() const { return last_command_; }
  std::shared_ptr<const tempora::Failure> failure() const;
  template <class T>
  T result() const {
    return tempora::decode_argument<T>(
        last_command_.complete_workflow_execution_command_attributes().result());
  }

  bool update_answered(const std::string& id) const { return outcomes_.contains(id); }
  template <class T>
  T update_result(const std::string& id) const {
    return tempora::decode_argument<T>(outcomes_.at(id).success());
  }
  // The type and message of the application error that an update failed with.
  std::string update_failure(const std::string& id) const;

  template <class T>
  T query(const std::string& name) {
    return tempora::PayloadCodec<T>::decode(ask(name));
  }

  // Names of the activities as they were scheduled.
  const std::vector<std::string>& activities() const { return scheduled_; }
  int count(const std::string& activity) const;
  std::chrono::nanoseconds elapsed() const { return now_; }
  const temporal::api::history::v1::History& history() const { return history_; }

 private:
  using Event = temporal::api::history::v1::HistoryEvent;
  using Task = temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse;
  struct Activity {
    std::string type;
    tempora::Payloads input;
    std::string id;
    bool cancel_asked = false;
  };
  struct Timer {
    std::chrono::nanoseconds due{};
    std::string id;
  };

  Event& add(enums::EventType type);
  void add_signal(const std::string& name, tempora::Payloads input);
  void add_update(const std::string& id, const std::string& name, tempora::Payloads input);
  Task task_with(std::int64_t after) const;
  void run_task();
  void record(const temporal::api::command::v1::Command& command,
              const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& all);
  void record_message(
      const std::string& id,
      const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest& all);
  bool play_activities();
  tempora::Payload ask(const std::string& name);

  tempora::WorkflowRegistry registry_;
  std::string type_;
  std::string workflow_id_;
  std::unique_ptr<tempora::engine::Run> run_;
  temporal::api::history::v1::History history_;
  std::map<std::string, std::function<tempora::Payloads(const tempora::Payloads&)>> fakes_;
  std::set<std::string> held_;
  std::map<std::int64_t, Activity> activities_;  // by the scheduled event
  std::map<std::int64_t, Timer> timers_;         // by the started event
  std::vector<temporal::api::protocol::v1::Message> messages_;
  std::map<std::string, temporal::api::update::v1::Outcome> outcomes_;
  std::vector<std::string> scheduled_;
  std::chrono::nanoseconds now_{0};
  std::int64_t seen_ = 0;  // the last event that a task has shown to the run
  bool news_ = true;
  bool closed_ = false;
  enums::CommandType closing_{};
  temporal::api::command::v1::Command last_command_;
};

}  // namespace addrflow::workflows::testing
