// The client: start workflows, talk to them, wait for them. A `Client` is a value: cheap to copy,
// safe to use from many threads, each call blocks its thread. Nothing throws for what a server or
// network does; see errors.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tempora/activity_type.hpp>
#include <tempora/connection.hpp>
#include <tempora/errors.hpp>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <tempora/time.hpp>
#include <tempora/versioning.hpp>
#include <tempora/workflow_policies.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace temporal::api::history::v1 {
class History;
class HistoryEvent;
}  // namespace temporal::api::history::v1

namespace tempora {

class Transport;
class RetryingCaller;
class AsyncActivity;        // async_activity.hpp
class BatchClient;          // batch.hpp
class DeploymentClient;     // deployment.hpp
class NexusEndpointClient;  // nexus_endpoint.hpp
class ScheduleClient;       // schedule.hpp
template <class W>
class Definition;  // definition.hpp

template <class T>
using Outcome = std::expected<T, ClientError>;

enum class WorkflowStatus {
  kUnknown,
  kRunning,
  kCompleted,
  kFailed,
  kCanceled,
  kTerminated,
  kContinuedAsNew,
  kTimedOut,
  kPaused,
};
// "Running", "Completed", … as in visibility queries.
std::string_view to_string(WorkflowStatus status);

// A zero duration means "not set".
struct StartOptions {
  std::string id;
  std::string task_queue;
  // None: kFail; of a start that comes with a signal or an update: kUseExisting.
  std::optional<IdConflictPolicy> conflict{};
  IdReusePolicy reuse = IdReusePolicy::kAllowDuplicate;
  Duration execution_timeout{};  // over all runs of the chain
  Duration run_timeout{};
  Duration task_timeout{};
  std::optional<RetryPolicy> retry{};
  std::string cron;
  Duration start_delay{};
  std::map<std::string, Payload> memo{};
  SearchAttributes search_attributes{};
  Priority priority{};
  std::string summary;  // one line for Temporal's UI
  std::string details;  // Markdown for Temporal's UI
  std::string
      request_id;  // empty: made here. A start repeated with the same one gives the same run.
  // None: as the workers that run it say.
  std::optional<VersioningOverride> versioning{};
};

struct UpdateOptions {
  std::string id;    // empty: made here. Within a run the same id is the same update, so a repeated
                     // call is harmless.
  Duration limit{};  // zero: none. Over it: `kTimeLimit`, in doubt; ask again with the same id.
};

enum class QueryReject { kNone, kNotOpen, kNotCompletedCleanly };
struct QueryOptions {
  QueryReject reject = QueryReject::kNone;
  Duration limit{};  // zero: the connection's
};

struct ResultOptions {
  Duration limit{};         // zero: none. Over it: `kTimeLimit`; the workflow goes on.
  bool follow_runs = true;  // the result of the run that continues, retries or repeats this one
};

// Where a workflow begins anew.
enum class ResetPoint {
  kFirstTask,  // right after its start
  kLastTask,   // at its last completed workflow task
};

struct ResetOptions {
  ResetPoint point = ResetPoint::kLastTask;
  // Instead of `point`: the event that ended a workflow task. Zero: not set.
  std::int64_t event_id = 0;
  std::string reason;
  // What came in after the point is given to the new run, too.
  bool keep_signals = true;
  bool keep_updates = true;
};

struct PendingActivity {
  std::string id;
  std::string type;
  int attempt = 0;
  bool paused = false;
  bool cancel_requested = false;
  Payloads heartbeat_details;
  std::shared_ptr<const Failure> last_failure;
};

struct WorkflowDescription {
  std::string id;
  std::string run_id;
  std::string first_run_id;
  std::string type;
  std::string task_queue;
  WorkflowStatus status = WorkflowStatus::kUnknown;
  TimePoint start_time{};
  std::optional<TimePoint> close_time;
  std::int64_t history_length = 0;
  std::map<std::string, Payload> memo;
  SearchAttributes search_attributes;
  std::vector<PendingActivity> pending_activities;  // empty in lists
};

struct WorkflowPage {
  std::vector<WorkflowDescription> workflows;
  std::string next_page_token;  // empty: that was all
};

struct WorkflowCount {
  std::int64_t count = 0;
  struct Group {
    std::vector<Payload> values;
    std::int64_t count = 0;
  };
  std::vector<Group> groups;  // for a query that ends in GROUP BY
};

struct TaskQueuePoller {
  std::string identity;
  std::optional<TimePoint> last_access;
};

// Half of a task queue: workflow or activity tasks.
struct TaskQueueDescription {
  std::vector<TaskQueuePoller> pollers;  // of the last minutes
  std::int64_t backlog = 0;              // tasks waiting, roughly
  Duration backlog_age{};                // of the oldest of them
  float added_per_second = 0;
  float dispatched_per_second = 0;
};

enum class TaskKind { kWorkflow, kActivity };

// A worker as its heartbeats tell of it.
struct WorkerDescription {
  std::string instance_key;  // of one worker object
  std::string identity;
  std::string task_queue;
  std::string host;
  std::string process_id;
  std::string sdk;  // name and version
  bool running = false;
  std::optional<TimePoint> started;
};
struct WorkerPage {
  std::vector<WorkerDescription> workers;
  std::string next_page_token;  // empty: the last page
};

using History = temporal::api::history::v1::History;

enum class SearchAttributeType { kText, kKeyword, kInt, kDouble, kBool, kDatetime, kKeywordList };

// What the server can do; all false for a very old one.
struct ServerInfo {
  std::string version;
  bool internal_error_differentiation = false;
  bool signal_and_query_header = false;
  bool supports_schedules = false;
  bool upsert_memo = false;
  bool eager_workflow_start = false;
  bool sdk_metadata = false;
};

struct NamespaceInfo {
  std::string name;
  std::string description;
  Duration retention{};
  std::map<std::string, std::string> data;
};

class CallClock;
class Client;

namespace detail {

struct ClientCore;
Client client_on(std::shared_ptr<Transport> transport, ConnectionOptions options,
                 std::shared_ptr<CallClock> clock);  // for tests

// The value that `payloads` hold first.
template <class T>
Outcome<T> decode_answer(const Payloads& payloads, std::string_view where) {
  try {
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      if (payloads.payloads_size() == 0) return PayloadCodec<T>::decode(null_payload());
      return PayloadCodec<T>::decode(payloads.payloads(0));
    }
  } catch (const PayloadError& error) {
    ClientError undecodable;
    undecodable.code = ErrorCode::kUndecodable;
    undecodable.message = error.what();
    undecodable.where = where;
    return std::unexpected(std::move(undecodable));
  }
}

template <class T>
Outcome<T> decode_answer(const Outcome<Payloads>& payloads, std::string_view where) {
  if (!payloads) return std::unexpected(payloads.error());
  return decode_answer<T>(*payloads, where);
}

}  // namespace detail

// An update that was sent. It has been accepted; its outcome may still be to come.
class UpdateHandle {
 public:
  const std::string& id() const { return id_; }
  const std::string& workflow_id() const { return workflow_id_; }
  const std::string& run_id() const { return run_id_; }

  template <class T = void>
  Outcome<T> result(Duration limit = {}) const {
    return detail::decode_answer<T>(result_payloads(limit), id_);
  }
  // Asks again and again until the outcome is there. A failed update is `kUpdateFailed`.
  Outcome<Payloads> result_payloads(Duration limit = {}) const;

 private:
  friend class WorkflowHandle;
  friend class Client;
  friend struct detail::ClientCore;
  std::shared_ptr<const detail::ClientCore> core_;
  std::string id_;
  std::string workflow_id_;
  std::string run_id_;
  std::shared_ptr<const Outcome<Payloads>> known_;
};

// One workflow: a run, or (empty `run_id`) whichever run of the id is the latest. Copyable.
class WorkflowHandle {
 public:
  const std::string& id() const { return id_; }
  // The run that is addressed; empty: the latest.
  const std::string& run_id() const { return run_id_; }
  // By a start only: the run that it made or found, and whether it made it.
  const std::string& started_run_id() const { return started_run_id_; }
  bool started() const { return started_; }

  // Waits for the end. A workflow that failed, was cancelled, … is an error with that code and
  // `failure`.
  template <class T = void>
  Outcome<T> result(ResultOptions options = {}) const {
    return detail::decode_answer<T>(result_payloads(options), id_);
  }
  Outcome<Payloads> result_payloads(ResultOptions options = {}) const;

  template <class... A>
  Outcome<void> signal(std::string_view name, const A&... arguments) const {
    return signal_payloads(name, encode_all(arguments...));
  }
  template <class W, class M, class... A>
    requires std::is_member_function_pointer_v<M>
  Outcome<void> signal(const Definition<W>& definition, M member, const A&... arguments) const {
    return signal_payloads(definition.name_of(member), encode_all(arguments...));
  }
  Outcome<void> signal_payloads(std::string_view name, Payloads input) const;

  template <class T, class... A>
  Outcome<T> query(std::string_view name, const A&... arguments) const {
    return query_with<T>(name, QueryOptions{}, arguments...);
  }
  template <class T, class... A>
  Outcome<T> query_with(std::string_view name, QueryOptions options, const A&... arguments) const {
    return detail::decode_answer<T>(query_payloads(name, options, encode_all(arguments...)), name);
  }
  Outcome<Payloads> query_payloads(std::string_view name, QueryOptions options,
                                   Payloads input) const;

  // Sends an update and waits for its outcome.
  template <class T = void, class... A>
  Outcome<T> update(std::string_view name, const UpdateOptions& options,
                    const A&... arguments) const {
    return detail::decode_answer<T>(update_payloads(name, options, encode_all(arguments...)), name);
  }
  Outcome<Payloads> update_payloads(std::string_view name, const UpdateOptions& options,
                                    Payloads input) const;
  // Sends an update and waits until it is accepted (or, if it was quicker, done). A rejection is an
  // outcome, found by `result`.
  template <class... A>
  Outcome<UpdateHandle> start_update(std::string_view name, const UpdateOptions& options,
                                     const A&... arguments) const {
    return start_update_payloads(name, options, encode_all(arguments...));
  }
  Outcome<UpdateHandle> start_update_payloads(std::string_view name, const UpdateOptions& options,
                                              Payloads input) const;
  // For an update sent before, by this process or another.
  UpdateHandle update_handle(std::string update_id) const;

  Outcome<WorkflowDescription> describe() const;
  // Asks the workflow to end. OK also if it has ended or was asked before.
  Outcome<void> cancel(std::string_view reason = {}) const;
  // Ends the workflow without asking it. `kNotFound` if it has ended.
  Outcome<void> terminate(std::string_view reason, Payloads details = {}) const;
  // Starts a new run that shares this one's history up to a point; this one is terminated if it is
  // open. The handle of the new run.
  Outcome<WorkflowHandle> reset(const ResetOptions& options) const;
  // Removes a closed run from the server, soon; an open one is terminated first.
  Outcome<void> remove() const;
  // From its next workflow task on it goes where this says; nothing: where its workers say.
  Outcome<void> set_versioning(const std::optional<VersioningOverride>& wanted) const;

  // Activities of this workflow, by the id that `describe` shows.
  // A paused activity gets no new attempt; a running one hears of it with its next heartbeat.
  Outcome<void> pause_activity(std::string_view activity_id, std::string_view reason = {}) const;
  Outcome<void> unpause_activity(std::string_view activity_id) const;
  // Attempts count anew.
  Outcome<void> reset_activity(std::string_view activity_id, bool forget_heartbeat = false) const;

  // All events so far, page by page, until `visit` returns false.
  Outcome<void> for_each_event(
      const std::function<bool(const temporal::api::history::v1::HistoryEvent&)>& visit) const;
  // All events so far, all pages.
  Outcome<std::shared_ptr<const History>> history() const;
  // The same as JSON text that a `Replayer` (of any SDK) reads.
  Outcome<std::string> history_json() const;

 private:
  friend class Client;
  friend struct detail::ClientCore;
  std::shared_ptr<const detail::ClientCore> core_;
  std::string id_;
  std::string run_id_;
  std::string
      first_run_id_;  // guards cancel, terminate and update against a later chain with the same id
  std::string started_run_id_;
  bool started_ = false;
};

template <class T>
struct UpdateWithStart {
  WorkflowHandle workflow;
  T outcome;
};

template <>
struct UpdateWithStart<void> {
  WorkflowHandle workflow;
};

struct StartedUpdate {
  WorkflowHandle workflow;
  UpdateHandle update;
};

class Client {
 public:
  // Opens the connection and asks the server what it can do. Fails after `connect_timeout`.
  static Outcome<Client> connect(ConnectionOptions options);
  // The same without asking: the first call finds out whether the server is there.
  static Outcome<Client> connect_lazily(ConnectionOptions options);
  // On a transport of one's own: for tests.
  Client(std::shared_ptr<Transport> transport, ConnectionOptions options);

  const std::string& namespace_name() const;
  const std::string& identity() const;
  const ServerInfo& server() const;
  const std::shared_ptr<Metrics>& metrics() const;  // of the options; may be null
  std::shared_ptr<Transport> transport() const;

  // Starts a workflow by name or definition. The handle follows the chain of runs from the one that
  // was started.
  template <class... A>
  Outcome<WorkflowHandle> start(std::string_view workflow_type, const StartOptions& options,
                                const A&... arguments) const {
    return start_payloads(workflow_type, options, encode_all(arguments...));
  }
  template <class W, class... A>
  Outcome<WorkflowHandle> start(const Definition<W>& definition, const StartOptions& options,
                                const A&... arguments) const {
    return start_payloads(definition.name(), options, encode_all(arguments...));
  }
  Outcome<WorkflowHandle> start_payloads(std::string_view workflow_type,
                                         const StartOptions& options, Payloads input) const;

  // Starts the workflow unless it runs, and signals it, in one step: `input` is
  // `encode_all(arguments...)`. `conflict` kFail is refused.
  template <class... A>
  Outcome<WorkflowHandle> signal_with_start(std::string_view workflow_type,
                                            const StartOptions& options, Payloads input,
                                            std::string_view signal, const A&... arguments) const {
    return signal_with_start_payloads(workflow_type, options, std::move(input), signal,
                                      encode_all(arguments...));
  }
  template <class W, class M, class... A>
    requires std::is_member_function_pointer_v<M>
  Outcome<WorkflowHandle> signal_with_start(const Definition<W>& definition,
                                            const StartOptions& options, Payloads input, M member,
                                            const A&... arguments) const {
    return signal_with_start_payloads(definition.name(), options, std::move(input),
                                      definition.name_of(member), encode_all(arguments...));
  }
  Outcome<WorkflowHandle> signal_with_start_payloads(std::string_view workflow_type,
                                                     const StartOptions& options, Payloads input,
                                                     std::string_view signal,
                                                     Payloads signal_input) const;

  // Starts the workflow unless it runs, updates it and waits for the outcome. `conflict` kFail: an
  // open run is `kAlreadyStarted`; kTerminateExisting is refused.
  template <class T = void, class... A>
  Outcome<UpdateWithStart<T>> update_with_start(std::string_view workflow_type,
                                                const StartOptions& options, Payloads input,
                                                std::string_view update,
                                                const UpdateOptions& update_options,
                                                const A&... arguments) const {
    auto sent = update_with_start_payloads(workflow_type, options, std::move(input), update,
                                           update_options, encode_all(arguments...));
    if (!sent) return std::unexpected(std::move(sent.error()));
    auto value = detail::decode_answer<T>(sent->outcome, update);
    if (!value) return std::unexpected(std::move(value.error()));
    if constexpr (std::is_void_v<T>) {
      return UpdateWithStart<void>{std::move(sent->workflow)};
    } else {
      return UpdateWithStart<T>{std::move(sent->workflow), std::move(*value)};
    }
  }
  template <class T = void, class W, class... A>
  Outcome<UpdateWithStart<T>> update_with_start(const Definition<W>& definition,
                                                const StartOptions& options, Payloads input,
                                                std::string_view update,
                                                const UpdateOptions& update_options,
                                                const A&... arguments) const {
    return update_with_start<T>(std::string_view{definition.name()}, options, std::move(input),
                                update, update_options, arguments...);
  }
  Outcome<UpdateWithStart<Payloads>> update_with_start_payloads(
      std::string_view workflow_type, const StartOptions& options, Payloads input,
      std::string_view update, const UpdateOptions& update_options, Payloads update_input) const;
  // The same, but waits only until the update is accepted (or, if it was quicker, done). A
  // rejection is an outcome, found by `result`.
  template <class... A>
  Outcome<StartedUpdate> start_update_with_start(std::string_view workflow_type,
                                                 const StartOptions& options, Payloads input,
                                                 std::string_view update,
                                                 const UpdateOptions& update_options,
                                                 const A&... arguments) const {
    return start_update_with_start_payloads(workflow_type, options, std::move(input), update,
                                            update_options, encode_all(arguments...));
  }
  template <class W, class... A>
  Outcome<StartedUpdate> start_update_with_start(const Definition<W>& definition,
                                                 const StartOptions& options, Payloads input,
                                                 std::string_view update,
                                                 const UpdateOptions& update_options,
                                                 const A&... arguments) const {
    return start_update_with_start_payloads(definition.name(), options, std::move(input), update,
                                            update_options, encode_all(arguments...));
  }
  Outcome<StartedUpdate> start_update_with_start_payloads(std::string_view workflow_type,
                                                          const StartOptions& options,
                                                          Payloads input, std::string_view update,
                                                          const UpdateOptions& update_options,
                                                          Payloads update_input) const;

  // No call is made. `first_run_id`, if known, guards against a later chain with the same id.
  WorkflowHandle handle(std::string id, std::string run_id = {},
                        std::string first_run_id = {}) const;

  // By a visibility query ("WorkflowType = 'X' AND ExecutionStatus = 'Running'"). Eventually
  // consistent: never for decisions.
  Outcome<WorkflowPage> list(std::string_view query, int page_size = 100,
                             std::string page_token = {}) const;
  // Every workflow found, page by page, until `visit` returns false.
  Outcome<void> for_each(std::string_view query,
                         const std::function<bool(const WorkflowDescription&)>& visit) const;
  Outcome<WorkflowCount> count(std::string_view query) const;

  ScheduleClient schedules() const;
  BatchClient batches() const;
  DeploymentClient deployments() const;
  NexusEndpointClient nexus_endpoints() const;

  // An activity that answers later: by `ActivityInfo::task_token`, or by ids (empty `run_id`: the
  // latest run).
  AsyncActivity async_activity(std::string task_token) const;
  AsyncActivity async_activity(std::string workflow_id, std::string run_id,
                               std::string activity_id) const;

  // Of all queues, or by a query ("TaskQueue = 'payments'"); from heartbeats, so some seconds old.
  Outcome<WorkerPage> list_workers(std::string_view query = {}, int page_size = 100,
                                   std::string page_token = {}) const;
  Outcome<TaskQueueDescription> describe_task_queue(std::string_view name, TaskKind kind) const;

  // Registers what is missing; what is there with the same type is left alone, another type is
  // `kAlreadyExists`.
  Outcome<void> add_search_attributes(
      const std::map<std::string, SearchAttributeType>& wanted) const;
  Outcome<void> remove_search_attributes(const std::vector<std::string>& names) const;
  // The ones that were registered, without the system's own.
  Outcome<std::map<std::string, SearchAttributeType>> list_search_attributes() const;

  Outcome<NamespaceInfo> describe_namespace(
      std::string_view name = {}) const;  // empty: the client's own
  // Usable some seconds later. `retention` of closed workflows: a day at least.
  Outcome<void> register_namespace(std::string_view name, Duration retention,
                                   std::string_view description = {}) const;

 private:
  friend class NexusContext;
  friend Client detail::client_on(std::shared_ptr<Transport>, ConnectionOptions,
                                  std::shared_ptr<CallClock>);
  explicit Client(std::shared_ptr<const detail::ClientCore> core) : core_(std::move(core)) {}
  std::shared_ptr<const detail::ClientCore> core_;
};

}  // namespace tempora
