// One workflow run: events in, commands out. Single threaded, no I/O, no clock: the same input
// gives the same output.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tempora/definition.hpp>
#include <tempora/logging.hpp>
#include <tempora/replayer.hpp>

#include <tempora/interceptor.hpp>

#include "engine/local.hpp"

namespace tempora::engine {

class RunState;

struct RunOptions {
  std::string namespace_ = "default";
  std::string task_queue;
  Logger logger{};
  std::vector<WorkflowInterceptorFactory> interceptors{};
  bool eager_activities =
      true;  // ask for eager starts on our own queue; the poller withdraws what it has no slot for
  std::size_t payload_limit_bytes =
      std::size_t{2} * 1024 * 1024;  // the server terminates the workflow beyond it
  std::size_t memo_limit_bytes = std::size_t{2} * 1024 * 1024;         // of all that was upserted
  std::size_t search_attribute_limit_bytes = std::size_t{2} * 1024;    // of a value; 0: no limit
  std::size_t search_attributes_limit_bytes = std::size_t{40} * 1024;  // of all; 0: no limit
  std::size_t payload_warning_bytes = std::size_t{512} * 1024;         // 0: no warnings
  std::size_t answer_limit_bytes =
      std::size_t{2} * 1024 *
      1024;  // where lower: for ends of local activities and messages of updates
  std::size_t completion_limit_bytes =
      std::size_t{4} * 1024 * 1024 -
      std::size_t{64} * 1024;  // of the request, the poller's fields included
};

struct TaskOutcome {
  // kLocalActivities: the task stays open until they have ended (`Run::resolve`) or it is time for
  // a heartbeat.
  enum class Kind { kCompleted, kFailed, kQueryAnswered, kNeedFullHistory, kLocalActivities };
  Kind kind = Kind::kCompleted;
  // kCompleted: commands, messages, query results, sdk_metadata, capabilities. The poller adds
  // token, identity …
  temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedRequest completion;
  // kFailed
  temporal::api::enums::v1::WorkflowTaskFailedCause cause{};
  temporal::api::failure::v1::Failure failure;
  // kQueryAnswered: a legacy query, also when the replay before it failed (then FAILED and `evict`)
  temporal::api::workflowservice::v1::RespondQueryTaskCompletedRequest query;
  // kCompleted: new signals that were dropped, as their payloads cannot be decoded
  std::size_t corrupted_signals = 0;
  LocalWork local;          // what is new for the worker; with kCompleted nothing starts
  bool run_closed = false;  // a terminal command is in the completion
  bool evict = false;       // the run is of no further use, whatever the answer of the server
};

class Run {
 public:
  Run(const WorkflowRegistry& registry, RunOptions options);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // Does one task to its end. `task` must hold the complete list of events for it.
  TaskOutcome process(
      const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse& task);
  // A local activity of the open task has ended. One that the run no longer waits for changes
  // nothing.
  TaskOutcome resolve(const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse& task,
                      const LocalResult& result);
  // The commands so far, so that the task does not time out; asks for the next task at once.
  TaskOutcome heartbeat(
      const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse& task);
  // Whether `resolve` may be called with it in the open task; otherwise a heartbeat comes first.
  bool has_room(const LocalResult& result) const;
  // After the server took the completion. `reset_history_event_id` rolls a discarded speculative
  // task back.
  void completed(
      const temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse& response);

  std::int64_t last_started_event_id() const;
  // Whether `task` goes on where this run stands (a fresh run expects event 1).
  bool expects(const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse& task) const;
  // Set after a task failed for nondeterminism.
  const std::optional<ReplayError>& nondeterminism() const;
  bool closed() const;  // the terminal command was accepted or recorded
  const std::string& workflow_type() const;
  TimePoint start_time() const;  // as the server has it
  // What it holds, about; see `WorkerOptions::max_cached_workflow_bytes`.
  std::size_t memory_bytes() const;
  VersioningBehavior versioning() const;  // of the definition

  // For the replayer: `task` is a whole history, nothing is new work, nothing is answered.
  TaskOutcome replay(const temporal::api::workflowservice::v1::PollWorkflowTaskQueueResponse& task);

 private:
  std::unique_ptr<RunState> state_;
};

}  // namespace tempora::engine
