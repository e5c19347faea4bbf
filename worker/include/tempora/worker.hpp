// A worker: polls one task queue and runs the workflows and activities registered with it. One
// process may hold several, each with its own limits, over one client.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tempora/activity.hpp>
#include <tempora/activity_type.hpp>
#include <tempora/definition.hpp>
#include <tempora/interceptor.hpp>
#include <tempora/logging.hpp>
#include <tempora/metrics.hpp>
#include <tempora/time.hpp>
#include <tempora/versioning.hpp>
#include <utility>

namespace tempora {

class Client;
class Transport;

template <class I, class O>
struct NexusOperation;  // nexus.hpp
struct NexusHandler;    // nexus_handler.hpp
namespace detail {
template <class I, class O, class F>
std::shared_ptr<const NexusHandler> erase_nexus(F function);
}

// How full the machine, or the container with limits of its own, may be before no more work is
// taken. Limits of a container are those of its cgroup (version 1 or 2) below /sys/fs/cgroup.
struct ResourceLimits {
  // Of 1: of the machine, and of the container without page cache that the kernel takes back first.
  double memory = 0.8;
  // Of 1: of the container's quota; of all cores of the machine, if there is none.
  double cpu = 0.9;
  // Of each kind, so many tasks are taken whatever the machine says: work must go on.
  std::size_t least = 5;
};

struct WorkerOptions {
  std::string task_queue;
  std::size_t max_concurrent_workflow_tasks = 100;    // at least 2 with a cache
  std::size_t max_concurrent_activities = 100;        // a thread each, when in use
  std::size_t max_concurrent_local_activities = 100;  // a thread each, when in use
  std::size_t max_concurrent_nexus_tasks = 100;       // a thread each, when in use
  // Of one activity type, at most so many at once. A task above that keeps its slot and waits here
  // for its turn, and its start_to_close time runs meanwhile.
  std::map<std::string, std::size_t> max_concurrent_by_activity_type{};
  // Fewer than the above while the machine is full. None: the numbers alone decide.
  std::optional<ResourceLimits> resources{};
  std::size_t workflow_pollers = 5;
  std::size_t activity_pollers = 5;
  std::size_t nexus_pollers = 2;
  // Above 0 the numbers above are where it begins: the server's hints then move each of them
  // between 1 and this.
  std::size_t max_pollers = 0;
  std::size_t max_cached_workflows = 1'000;  // 0: every task replays the whole history
  // What cached workflows may hold together; 0: no limit. Above it idle ones are dropped, the least
  // recently used first, and replayed when their next task comes; one that alone holds more is
  // dropped after each of its tasks. A workflow counts, when a task of it has ended, with its
  // coroutines' frames, its operations under way, memo, search attributes and signals that wait,
  // with its object, and with what the object says that it holds (`held_bytes`); if it says
  // nothing, with all arguments, signals, updates and results that it was ever given. Not counted:
  // what else objects and coroutines keep on the heap, failures, interceptors, and what tasks in
  // hand need (events, commands). So this is an estimate: leave room.
  std::size_t max_cached_workflow_bytes = 0;
  // How long the server keeps a task of a cached run for this worker before it gives it to any.
  Duration sticky_schedule_to_start_timeout = std::chrono::seconds{10};
  // Activities and handlers of Nexus are left alone for this long after `shutdown` began, then they
  // are told to stop; local activities that a workflow task waits for, for 10 s at least.
  Duration graceful_shutdown{};
  // An activity that ignores that for so long is left behind: `shutdown` always ends.
  Duration shutdown_patience = std::chrono::seconds{30};
  // Heartbeats of one attempt are sent at 0.8 of its heartbeat time-out, or at this interval if it
  // has none, and never less often than the maximum: news of a cancellation comes with a beat.
  Duration default_heartbeat_throttle_interval = std::chrono::seconds{30};
  Duration max_heartbeat_throttle_interval = std::chrono::seconds{60};
  double max_activities_per_second = 0;             // 0: no limit; this worker
  double max_task_queue_activities_per_second = 0;  // 0: no limit; all workers of the queue
  std::size_t workflow_threads = 0;                 // 0: two, or one on a machine with one core
  // Workflow code that runs for so long without an await fails its task, with the place named, and
  // its thread is replaced: it would hold up all others. 0: never, for debuggers.
  Duration deadlock_timeout = std::chrono::seconds{2};
  // Shown by `temporal worker list`. 0: never; a namespace that does not want them gets none.
  Duration heartbeat_interval = std::chrono::seconds{60};
  // What comes near a limit of the server is told in the log.
  std::size_t payload_warning_bytes = std::size_t{512} << 10;
  // Of a search attribute's value, and of all of a workflow's together: above it the task fails,
  // where the server would end the workflow. No namespace tells what it has; these are the server's
  // defaults (limit.searchAttributesSizeOfValue, limit.searchAttributesTotalSize). 0: not checked.
  std::size_t max_search_attribute_bytes = std::size_t{2} << 10;
  std::size_t max_search_attributes_bytes = std::size_t{40} << 10;
  std::string identity;                          // empty: the client's
  std::string build_id;                          // in log lines
  std::optional<WorkerVersioning> versioning{};  // none: a worker without a version
  Logger log = Logger::standard();
  WorkerInterceptors interceptors{};
  std::shared_ptr<Metrics> metrics{};  // none: the client's
};

class Worker {
 public:
  // Throws `std::invalid_argument` that names the option which cannot be.
  Worker(const Client& client, WorkerOptions options);
  // Below a client: what tests and other transports use.
  Worker(std::shared_ptr<Transport> transport, std::string namespace_, WorkerOptions options);
  ~Worker();  // as `shutdown`
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Registration, before `start`. Throws `std::logic_error` if a name is taken, or if a workflow
  // with a version has no versioning behavior.
  template <class W>
  void add(const Definition<W>& definition) {
    add_workflow(definition.erased());
  }
  // For every workflow type that is not registered: its `run` takes `Payloads`.
  template <class W>
  void add_fallback(const Definition<W>& definition) {
    add_fallback_workflow(definition.erased());
  }
  void add_fallback_workflow(std::shared_ptr<const WorkflowDefinition> definition);
  // `function` is `O(ActivityContext&, const I&)`.
  template <class I, class O, class F>
    requires std::invocable<F&, ActivityContext&, const I&>
  void add(const ActivityType<I, O>& type, F function) {
    add_activity(type.name, erase_activity<I, O>(std::move(function)));
  }
  // For every activity type that is not registered; `ActivityContext::info` says which it is.
  void add_fallback_activity(ActivityFunction function);
  // `function` is `O(NexusContext&, const I&)`, or returns a `NexusWorkflowRun<O>`. Include
  // nexus_handler.hpp.
  template <class I, class O, class F>
  void add(const NexusOperation<I, O>& operation, F function) {
    add_nexus(operation.service, operation.name, detail::erase_nexus<I, O>(std::move(function)));
  }
  void add_nexus(std::string service, std::string operation,
                 std::shared_ptr<const NexusHandler> handler);
  void add_workflow(std::shared_ptr<const WorkflowDefinition> definition);
  void add_activity(std::string type, ActivityFunction function);

  // Starts polling and returns. Throws `std::runtime_error` if the server says that the namespace
  // does not exist; a server that cannot be reached is waited for.
  void start();

  // Ends gracefully and blocks until it is done: no new polls, tasks that arrived are answered,
  // activities get their time. Safe to call twice.
  void shutdown();
  // The first step of `shutdown`, for a process that stops several workers at once. Does not block.
  void stop_polling();
  // Ends as a killed process would: what is under way is answered nowhere. For tests.
  void abandon();

  std::size_t cached_workflows() const;
  // What they hold, as `max_cached_workflow_bytes` counts it.
  std::size_t cached_workflow_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora
