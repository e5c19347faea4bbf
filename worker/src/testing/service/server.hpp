// The server's side of the protocol, in memory and on virtual time. One thread uses it (`Loop`).
//
// It hands out one task at a time, so that with a single-threaded client the same seed gives the
// same histories. Nothing moves unless somebody waits: a result, an update, a query, `advance`.
#pragma once

#include <temporal/api/failure/v1/message.pb.h>
#include <temporal/api/history/v1/message.pb.h>
#include <temporal/api/update/v1/message.pb.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <tempora/testing/environment.hpp>
#include <utility>
#include <vector>

#include "testing/service/open_call.hpp"

namespace tempora::testing {

namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
using temporal::api::history::v1::HistoryEvent;
using FailureProto = temporal::api::failure::v1::Failure;
using SignalAttributes = temporal::api::history::v1::WorkflowExecutionSignaledEventAttributes;

// When something is due; the number orders what is due at once.
using Alarm = std::pair<TimePoint, std::uint64_t>;

struct Activity {
  temporal::api::command::v1::ScheduleActivityTaskCommandAttributes order;
  std::int64_t scheduled_event = 0;
  std::int64_t cancel_event = 0;
  enum class State { kReady, kPausing, kRunning, kHeld } state = State::kReady;
  int attempt = 1;
  TimePoint scheduled{};
  TimePoint attempt_scheduled{};
  TimePoint started{};
  std::string token;
  std::string worker;
  std::shared_ptr<Busy> busy;
  std::optional<FailureProto> last_failure;
  Payloads heartbeat;
  Duration slow{};
  std::optional<Alarm> schedule_to_close, schedule_to_start, attempt_end, next;
};

// An operation of Nexus, on the side of its caller.
struct NexusOp {
  temporal::api::command::v1::ScheduleNexusOperationCommandAttributes order;
  std::int64_t scheduled_event = 0;
  std::int64_t cancel_event = 0;
  // What the handler is asked for next, or in hand.
  enum class Ask { kStart, kCancel, kNothing } ask = Ask::kStart;
  enum class State { kReady, kPausing, kRunning } state = State::kReady;
  int attempt = 1;
  std::string request_id;
  std::string operation_token;  // once it has started
  std::string task_token;
  std::string worker;
  std::shared_ptr<Busy> busy;
  std::optional<FailureProto> last_failure;
  std::optional<Alarm> schedule_to_close, schedule_to_start, start_to_close, next;
};

struct Update {
  temporal::api::update::v1::Request request;
  enum class Stage { kAdmitted, kSent, kAccepted, kCompleted } stage = Stage::kAdmitted;
  std::int64_t accepted_event = 0;
  temporal::api::update::v1::Outcome outcome;
  std::vector<CallPtr> waiters;
};

struct WaitingQuery {
  std::string id;
  CallPtr call;
};

struct WorkflowTaskState {
  enum class Phase { kNone, kScheduled, kStarted } phase = Phase::kNone;
  bool speculative = false;
  int attempt = 1;
  std::int64_t scheduled_event = 0;  // zero: written when the task is handed out
  std::int64_t started_event = 0;
  std::string token;
  std::string worker;
  std::optional<Alarm> alarm;
};

struct Run;
using RunPtr = std::shared_ptr<Run>;

struct Child {
  std::string workflow_id;
  std::int64_t initiated_event = 0;
  std::int64_t started_event = 0;
  temporal::api::command::v1::StartChildWorkflowExecutionCommandAttributes order;
  std::weak_ptr<Run> run;
};

struct Run {
  std::string id, run_id, first_run_id;
  temporal::api::history::v1::History history;
  enums::WorkflowExecutionStatus status = enums::WORKFLOW_EXECUTION_STATUS_RUNNING;
  TimePoint start_time{}, close_time{};
  std::string start_request_id;

  WorkflowTaskState task;
  std::int64_t previous_started = 0;  // of the last task that was completed
  std::string sticky_queue;
  // Events that come in while a task is in hand are written after its completion.
  std::vector<std::function<void()>> buffered;

  std::map<std::int64_t, Activity> activities;                   // by the scheduled event
  std::map<std::string, std::pair<std::int64_t, Alarm>> timers;  // by id
  std::map<std::int64_t, Child> children;                        // by the initiated event
  std::map<std::int64_t, NexusOp> nexus;                         // by the scheduled event
  // The operations of which this run's end is the end: caller's run and scheduled event.
  std::set<std::pair<std::string, std::int64_t>> callers;
  std::map<std::string, Update> updates;
  std::vector<std::string> update_order;
  std::vector<WaitingQuery> queries;
  bool cancel_requested = false;

  std::weak_ptr<Run> parent;
  std::int64_t parent_initiated = 0;
  std::optional<Alarm> first_task, run_timeout, execution_timeout;
  TimePoint execution_deadline{};
  std::map<std::string, Payload> memo;
  std::map<std::string, Payload> search_attributes;

  bool open() const { return status == enums::WORKFLOW_EXECUTION_STATUS_RUNNING; }
  std::int64_t last_event() const { return history.events_size(); }
  const temporal::api::history::v1::WorkflowExecutionStartedEventAttributes& started() const {
    return history.events(0).workflow_execution_started_event_attributes();
  }
};

class Server {
 public:
  explicit Server(EnvironmentOptions options);

  void call(std::string_view method, const CallPtr& call);
  void cancelled(const CallPtr& call);  // by the one who made it

  // Does one thing; false if nothing can be done until somebody calls.
  bool step();

  // Nobody waits any longer.
  void end() { give_up_waiting({}, grpc_code::kUnavailable, "the testing service has ended"); }

  TimePoint now() const { return now_; }
  // `done` runs when everything that happens within `time` has happened.
  void advance(Duration time, std::function<void()> done);
  void at(TimePoint time, std::function<void(std::shared_ptr<Busy>)> action);
  void add_fault(ActivityFaults::Rule rule) { faults_.push_back(std::move(rule)); }
  void finished(const std::shared_ptr<Busy>& busy);
  std::size_t activity_attempts(const std::string& type) const;
  std::vector<std::string> workflow_ids() const;
  std::vector<temporal::api::history::v1::History> histories(const std::string& workflow_id) const;
  // A worker ended without a word.
  void lost(const std::string& worker);

 private:
  using Handler = void (Server::*)(const CallPtr&);
  struct Ready {
    enum class Kind { kWorkflowTask, kActivity, kQuery, kTransfer, kNexus } kind;
    RunPtr run;
    std::int64_t event = 0;
    std::function<void()> act{};
  };

  // --- calls (server_calls.cpp)
  void get_system_info(const CallPtr& call);
  void describe_namespace(const CallPtr& call);
  void start_workflow(const CallPtr& call);
  void signal_with_start(const CallPtr& call);
  void multi_operation(const CallPtr& call);
  void signal_workflow(const CallPtr& call);
  void signal(const RunPtr& run, SignalAttributes signal);
  void query_workflow(const CallPtr& call);
  void update_workflow(const CallPtr& call);
  void poll_update(const CallPtr& call);
  void cancel_workflow(const CallPtr& call);
  void terminate_workflow(const CallPtr& call);
  void describe_workflow(const CallPtr& call);
  void get_history(const CallPtr& call);
  void list_workflows(const CallPtr& call);
  void count_workflows(const CallPtr& call);
  static void describe(const Run& run, temporal::api::workflow::v1::WorkflowExecutionInfo& info);
  bool answer_history(const CallPtr& call, const RunPtr& run);
  RunPtr find(const std::string& id, const std::string& run_id) const;
  RunPtr find_open(const CallPtr& call, const std::string& id, const std::string& run_id);
  // The run, or why not (then the call is refused). `made`: it is new.
  RunPtr start_or_find(const CallPtr& call, const api::StartWorkflowExecutionRequest& request,
                       bool& made, bool use_existing = false);
  void wait(const CallPtr& call, const std::string& workflow_id, bool moves_time);
  void answer_update(const CallPtr& call, const RunPtr& run, const Update& update);
  void admit(const CallPtr& call, const RunPtr& run,
             const temporal::api::update::v1::Request& request);

  // --- tasks (server_tasks.cpp)
  void poll_workflow_task(const CallPtr& call);
  void workflow_task_completed(const CallPtr& call);
  void workflow_task_failed(const CallPtr& call);
  void query_task_completed(const CallPtr& call);
  void shutdown_worker(const CallPtr& call);
  void schedule_task(const RunPtr& run, bool speculative = false);
  void start_task(const RunPtr& run, const std::string& worker, bool sticky,
                  api::PollWorkflowTaskQueueResponse& task);
  void task_lost(const RunPtr& run, bool failed);
  bool conclude(const RunPtr& run, const api::RespondWorkflowTaskCompletedRequest& request);
  void apply(const RunPtr& run, const temporal::api::command::v1::Command& command,
             const HistoryEvent& event);
  void apply_messages(const RunPtr& run, const api::RespondWorkflowTaskCompletedRequest& request);
  void answer_queries(const RunPtr& run, const api::RespondWorkflowTaskCompletedRequest& request);
  void flush(const RunPtr& run);
  RunPtr task_owner(const CallPtr& call, const std::string& token);

  // --- activities (server_activities.cpp)
  void poll_activity_task(const CallPtr& call);
  void activity_completed(const CallPtr& call);
  void activity_failed(const CallPtr& call);
  void activity_canceled(const CallPtr& call);
  void heartbeat(const CallPtr& call);
  void schedule_activity(const RunPtr& run, const HistoryEvent& event,
                         const temporal::api::command::v1::ScheduleActivityTaskCommandAttributes&);
  void start_activity(const RunPtr& run, std::int64_t event);
  void hand_out(const RunPtr& run, Activity& activity, const ActivityFault& fault);
  void ask_to_cancel(const RunPtr& run, Activity& activity);
  void attempt_failed(const RunPtr& run, std::int64_t event, FailureProto failure,
                      enums::TimeoutType timeout);
  void end_activity(const RunPtr& run, std::int64_t event,
                    const std::function<void(HistoryEvent&, std::int64_t started)>& write);
  std::optional<Duration> next_attempt(const Activity& activity, const FailureProto& failure,
                                       enums::RetryState& state) const;
  ActivityFault fault_for(const Run& run, const Activity& activity);
  std::pair<RunPtr, Activity*> activity_of(const CallPtr& call, const std::string& token);
  // What the worker said, at once or, if the activity is slow, later.
  void answered(const RunPtr& run, Activity& activity, std::function<void()> end);

  // --- Nexus (server_nexus.cpp)
  void poll_nexus_task(const CallPtr& call);
  void nexus_completed(const CallPtr& call);
  void nexus_failed(const CallPtr& call);
  void schedule_nexus(const RunPtr& run, const HistoryEvent& event,
                      const temporal::api::command::v1::ScheduleNexusOperationCommandAttributes&);
  void cancel_nexus(const RunPtr& run, std::int64_t scheduled_event, std::int64_t cancel_event);
  void hand_out_nexus(const RunPtr& run, std::int64_t event);
  void nexus_started(const RunPtr& run, NexusOp& op, const std::string& token);
  void nexus_refused(const RunPtr& run, NexusOp& op, const FailureProto& failure);
  void ask_again(const RunPtr& run, NexusOp& op, Duration pause);
  void end_nexus(const RunPtr& run, std::int64_t event,
                 const std::function<void(HistoryEvent&)>& write);
  void fail_nexus(const RunPtr& run, std::int64_t event, const FailureProto& cause);
  void clear(NexusOp& op);
  std::pair<RunPtr, NexusOp*> nexus_of(const CallPtr& call, const std::string& token);
  void remember_callers(const RunPtr& run, const api::StartWorkflowExecutionRequest& request);
  void tell_callers(const RunPtr& run);
  const std::string& nexus_queue(const std::string& endpoint) const;

  // --- runs (server_runs.cpp)
  struct NewRun {
    api::StartWorkflowExecutionRequest request;
    RunPtr continues;  // the run before, of the same chain
    enums::ContinueAsNewInitiator initiator = enums::CONTINUE_AS_NEW_INITIATOR_UNSPECIFIED;
    int attempt = 1;
    Duration first_task_after{};
    RunPtr parent;
    std::int64_t parent_initiated = 0;
    std::string run_id;
  };
  RunPtr make_run(NewRun start);
  HistoryEvent& add(Run& run, enums::EventType type);
  // An event from outside: at once, or after the task in hand; then a task is due.
  void tell(const RunPtr& run, std::function<void()> write);
  void close(const RunPtr& run, enums::WorkflowExecutionStatus status);
  void close_updates(const RunPtr& run);
  void tell_parent(const RunPtr& run);
  void close_children(const RunPtr& run);
  RunPtr continue_as_new(const RunPtr& run, std::string new_run_id);
  std::optional<NewRun> retry_of(const RunPtr& run, const FailureProto& failure);
  void start_child(const RunPtr& run, std::int64_t initiated);
  void signal_external(const RunPtr& run, const HistoryEvent& initiated);
  void cancel_external(const RunPtr& run, const HistoryEvent& initiated);
  void request_cancel(const RunPtr& run, const std::string& reason);
  void time_out(const RunPtr& run);
  RunPtr target_of(const RunPtr& from, const temporal::api::common::v1::WorkflowExecution& target,
                   bool child_only);

  // --- time and turns (server.cpp)
  Alarm after(Duration pause, std::function<void()> action);
  void cancel_alarm(std::optional<Alarm>& alarm);
  bool someone_works() const;
  bool moves() const;
  bool moves_time() const;
  bool deliver();
  bool can_deliver(const Ready& ready) const;
  bool blocked_by_earlier(const Ready& ready) const;
  const std::string& queue_of(const Ready& ready) const;
  void make_ready(Ready ready) { ready_.push_back(std::move(ready)); }
  void give_up_waiting(const std::string& workflow_id, int code, const std::string& why);
  void say_stuck();
  double roll();
  std::string new_uuid();

  struct Queue {
    std::deque<CallPtr> polls;
    bool attended = false;
  };
  using Queues = std::map<std::string, Queue>;
  static CallPtr take_poll(Queues& queues, const std::string& queue);
  const Queues& queues_for(Ready::Kind kind) const;
  struct Waiting {
    CallPtr call;
    std::string workflow_id;
    bool moves_time = false;
  };
  struct Advance {
    TimePoint until;
    std::function<void()> done;
  };

  const EnvironmentOptions options_;
  TimePoint now_;
  std::mt19937_64 random_;
  std::map<Alarm, std::function<void()>> alarms_;
  std::uint64_t next_alarm_ = 0;
  std::vector<Ready> ready_;
  Queues workflow_queues_, activity_queues_, nexus_queues_;
  std::vector<Waiting> waiting_;
  std::vector<Advance> advances_;
  std::vector<std::shared_ptr<Busy>> busy_;
  RunPtr task_in_hand_;  // of the run whose workflow task or query a worker has
  std::string query_token_;
  std::string query_worker_;
  CallPtr query_in_hand_;
  std::vector<ActivityFaults::Rule> faults_;
  std::map<std::string, std::size_t> attempts_;
  std::map<std::string, std::vector<RunPtr>> runs_;  // by workflow id, oldest first
  std::map<std::string, RunPtr> by_run_id_;
  std::uint64_t next_token_ = 0;
};

}  // namespace tempora::testing
