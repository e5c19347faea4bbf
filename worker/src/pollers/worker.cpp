#include <fmt/format.h>
#include <google/protobuf/message.h>
#include <temporal/api/workflowservice/v1/request_response.pb.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <random>
#include <stdexcept>
#include <tempora/client.hpp>
#include <tempora/worker.hpp>
#include <thread>

#include "../activity/activity_registry.hpp"
#include "../activity/activity_worker.hpp"
#include "../engine/run.hpp"
#include "../nexus/nexus_worker.hpp"
#include "../transport/size_limits.hpp"
#include "../transport/virtual_time.hpp"
#include "calls.hpp"
#include "worker_heartbeat.hpp"
#include "workflow_worker.hpp"

namespace tempora {

namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
using pollers::CallEnvironment;
using Clock = TimerQueue::Clock;

namespace {

constexpr std::chrono::seconds kDescribeBudget{5};
constexpr std::chrono::seconds kShutdownCallBudget{3};
// How long open polls may take to end once the server was told to end them.
constexpr std::chrono::seconds kPollsClosedBudget{5};
// Workflow tasks in hand are answered within this time (while local activities run, within the
// grace) or given up: the server repeats them elsewhere.
constexpr std::chrono::seconds kWorkflowTasksBudget{10};
constexpr std::chrono::seconds kCancelledPollsBudget{2};

std::string random_uuid() {
  std::random_device source;
  std::array<std::uint32_t, 4> words{source(), source(), source(), source()};
  words[1] = (words[1] & 0xffff0fffU) | 0x00004000U;
  words[2] = (words[2] & 0x3fffffffU) | 0x80000000U;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", words[0], words[1] >> 16U,
                     words[1] & 0xffffU, words[2] >> 16U, words[2] & 0xffffU, words[3]);
}

std::string default_identity() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return fmt::format("{}@{}", getpid(), host.data());
}

// Waits for one call. Only for the start and the end of a worker.
template <class Response, class Request>
std::pair<CallStatus, Response> call_and_wait(const CallEnvironment& environment,
                                              std::string_view method, const Request& request,
                                              std::chrono::milliseconds budget) {
  Response response;
  CallEnd end = environment.caller.call(method, request, &response,
                                        {.attempt_deadline = budget, .budget = budget});
  return {std::move(end.status), std::move(response)};
}

void check(const WorkerOptions& options) {
  if (options.task_queue.empty()) throw std::invalid_argument{"task_queue must not be empty"};
  if (options.max_concurrent_activities == 0) {
    throw std::invalid_argument{"max_concurrent_activities must be at least 1"};
  }
  if (options.max_concurrent_nexus_tasks == 0) {
    throw std::invalid_argument{"max_concurrent_nexus_tasks must be at least 1"};
  }
  if (options.max_concurrent_local_activities == 0) {
    throw std::invalid_argument{"max_concurrent_local_activities must be at least 1"};
  }
  const std::size_t least = options.max_cached_workflows > 0 ? 2 : 1;
  if (options.max_concurrent_workflow_tasks < least) {
    throw std::invalid_argument{fmt::format(
        "max_concurrent_workflow_tasks must be at least {} with max_cached_workflows {}", least,
        options.max_cached_workflows)};
  }
  if (options.max_cached_workflow_bytes > 0 && options.max_cached_workflows == 0) {
    throw std::invalid_argument{"max_cached_workflow_bytes goes with max_cached_workflows above 0"};
  }
  if (options.versioning) {
    if (options.versioning->version.deployment.empty() ||
        options.versioning->version.build_id.empty()) {
      throw std::invalid_argument{"versioning.version: deployment and build_id go together"};
    }
  }
  if (options.default_heartbeat_throttle_interval <= Duration::zero()) {
    throw std::invalid_argument{"default_heartbeat_throttle_interval must be above 0"};
  }
  if (options.max_heartbeat_throttle_interval <= Duration::zero()) {
    throw std::invalid_argument{"max_heartbeat_throttle_interval must be above 0"};
  }
  for (const auto& [type, most] : options.max_concurrent_by_activity_type) {
    if (most == 0) {
      throw std::invalid_argument{
          fmt::format("max_concurrent_by_activity_type: {} must have at least 1", type)};
    }
  }
  if (options.resources && options.resources->least < least) {
    throw std::invalid_argument{fmt::format("resources.least must be at least {}", least)};
  }
  if (options.deadlock_timeout < Duration::zero()) {
    throw std::invalid_argument{"deadlock_timeout must not be negative"};
  }
  if (options.heartbeat_interval != Duration::zero() &&
      (options.heartbeat_interval < std::chrono::seconds{1} ||
       options.heartbeat_interval > std::chrono::seconds{60})) {
    throw std::invalid_argument{"heartbeat_interval must be 0 or 1 s to 60 s"};
  }
  if (options.max_activities_per_second < 0) {
    throw std::invalid_argument{"max_activities_per_second must not be negative"};
  }
}

}  // namespace

struct Worker::Impl {
  Impl(std::shared_ptr<Transport> transport, std::string space, WorkerOptions given)
      : options(std::move(given)), namespace_(std::move(space)) {
    check(options);
    if (options.identity.empty()) options.identity = default_identity();
    if (options.metrics == nullptr) options.metrics = no_metrics();
    options.log = std::move(options.log)
                      .with("Namespace", namespace_)
                      .with("TaskQueue", options.task_queue)
                      .with("WorkerID", options.identity);
    if (!options.build_id.empty()) {
      options.log = std::move(options.log).with("BuildID", options.build_id);
    }
    environment = std::make_shared<CallEnvironment>(std::move(transport), namespace_);
  }

  void start();
  void stop_polling();
  void shutdown();
  void abandon();
  bool server_ends_polls(std::chrono::milliseconds budget);
  void start_activities();
  void start_workflows();
  void start_nexus();
  void start_heartbeats();
  void fill(pollers::WorkerHeartbeats::Heartbeat& beat) const;
  void count_start(std::string_view worker_type) const;
  // The server takes no answer of a worker with a version that does not say it.
  void check_versioning(const WorkflowDefinition& definition) const {
    const VersioningBehavior unsaid = VersioningBehavior::kUnspecified;
    if (!options.versioning || options.versioning->behavior != unsaid) return;
    if (definition.versioning != unsaid) return;
    throw std::invalid_argument{fmt::format(
        "workflow type {}: its definition says no `versioning`, and versioning.behavior is no "
        "default",
        definition.name)};
  }
  bool on_virtual_time() const {
    return dynamic_cast<const VirtualTime*>(environment->caller.transport().get()) != nullptr;
  }
  bool tell_server();
  void close_polls();
  void end_workflow_tasks(Clock::time_point grace);
  void end_activities(Clock::time_point grace);

  WorkerOptions options;
  const std::string namespace_;
  const std::string worker_instance_key = random_uuid();
  // A name of its own for each worker object: a task on it finds the cached run here or nowhere.
  std::string sticky_queue;
  std::shared_ptr<const CallEnvironment> environment;
  std::shared_ptr<WorkflowRegistry> workflows = std::make_shared<WorkflowRegistry>();
  std::shared_ptr<activity::ActivityRegistry> activities =
      std::make_shared<activity::ActivityRegistry>();
  std::shared_ptr<activity::ActivityWorker> activity_worker;
  std::shared_ptr<activity::LocalRunner> local_runner;
  std::shared_ptr<nexus::NexusRegistry> nexus_handlers = std::make_shared<nexus::NexusRegistry>();
  std::shared_ptr<nexus::NexusWorker> nexus_worker;
  std::optional<Client> client;  // for handlers; none: made of the transport
  std::shared_ptr<pollers::WorkflowWorker> workflow_worker;
  std::shared_ptr<pollers::Resources> resources;  // or null
  std::shared_ptr<pollers::WorkerHeartbeats> heartbeats;
  // Of the namespace; unknown until the server was reached.
  std::optional<bool> ends_polls;
  bool wants_heartbeats = false;
  SizeLimits limits;
  bool started = false;
  bool ended = false;
};

// Asks what the namespace can do. Throws if there is no such namespace.
bool Worker::Impl::server_ends_polls(std::chrono::milliseconds budget) {
  if (ends_polls.has_value()) return *ends_polls;
  api::DescribeNamespaceRequest request;
  request.set_namespace_(namespace_);
  const auto [status, answer] = call_and_wait<api::DescribeNamespaceResponse>(
      *environment, methods::kDescribeNamespace, request, budget);
  if (status.code == grpc_code::kNotFound) throw std::runtime_error{status.message};
  if (!status.ok()) {
    options.log.warn("the server could not be asked about the namespace, code {}: {}", status.code,
                     status.message);
    limits = environment->caller.transport()->known();
    return false;
  }
  const auto& can = answer.namespace_info().capabilities();
  ends_polls = can.worker_poll_complete_on_shutdown();
  wants_heartbeats = can.worker_heartbeats();
  limits = environment->caller.transport()->learn(detail::limits_of(answer.namespace_info()));
  return *ends_polls;
}

void Worker::Impl::start() {
  if (started) throw std::logic_error{"the worker was started already"};
  if (workflows->empty() && activities->empty() && nexus_handlers->empty()) {
    throw std::logic_error{"nothing is registered with the worker"};
  }
  server_ends_polls(kDescribeBudget);
  started = true;
  sticky_queue = fmt::format("{}-{}", options.identity, random_uuid());
  if (options.resources) resources = std::make_shared<pollers::Resources>(*options.resources);
  if (!activities->empty()) start_activities();
  if (!workflows->empty()) start_workflows();
  if (!nexus_handlers->empty()) start_nexus();
  if (activity_worker != nullptr) activity_worker->start();
  if (workflow_worker != nullptr) workflow_worker->start();
  if (nexus_worker != nullptr) nexus_worker->start();
  start_heartbeats();
  options.log.info("worker started");
}

void Worker::Impl::start_activities() {
  activity_worker = std::make_shared<activity::ActivityWorker>(
      environment, activities,
      activity::ActivityWorkerOptions{
          .namespace_ = namespace_,
          .task_queue = options.task_queue,
          .identity = options.identity,
          .worker_instance_key = worker_instance_key,
          .max_concurrent = options.max_concurrent_activities,
          .resources = resources,
          .polls = options.activity_pollers,
          .most_polls = options.max_pollers,
          .heartbeats = {.without_timeout = options.default_heartbeat_throttle_interval,
                         .longest = options.max_heartbeat_throttle_interval},
          .max_by_type = options.max_concurrent_by_activity_type,
          .payload_limit_bytes = limits.payloads,
          .payload_warning_bytes = options.payload_warning_bytes,
          .max_per_second = options.max_activities_per_second,
          .max_task_queue_per_second = options.max_task_queue_activities_per_second,
          .versioning = options.versioning,
          .log = options.log,
          .interceptors = options.interceptors.activities,
          .metrics = options.metrics});
  count_start("ActivityWorker");
}

void Worker::Impl::start_workflows() {
  const std::size_t threads =
      options.workflow_threads > 0
          ? options.workflow_threads
          : std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 2);
  local_runner = std::make_shared<activity::LocalRunner>(
      activities, environment->timers,
      activity::LocalRunner::Options{.namespace_ = namespace_,
                                     .task_queue = options.task_queue,
                                     .max_concurrent = options.max_concurrent_local_activities,
                                     .pauses_are_timers = on_virtual_time(),
                                     .payload_limit_bytes = limits.payloads,
                                     .log = options.log,
                                     .interceptors = options.interceptors.activities,
                                     .metrics = options.metrics});
  workflow_worker = std::make_shared<pollers::WorkflowWorker>(
      environment, workflows,
      pollers::WorkflowWorkerOptions{
          .namespace_ = namespace_,
          .task_queue = options.task_queue,
          .sticky_queue = sticky_queue,
          .identity = options.identity,
          .worker_instance_key = worker_instance_key,
          .max_concurrent = options.max_concurrent_workflow_tasks,
          .resources = resources,
          .polls = options.workflow_pollers,
          .most_polls = options.max_pollers,
          .max_cached = options.max_cached_workflows,
          .max_cached_bytes = options.max_cached_workflow_bytes,
          .sticky_timeout = options.sticky_schedule_to_start_timeout,
          // In a test on virtual time somebody may sit in a debugger.
          .deadlock_timeout = on_virtual_time() ? Duration{} : options.deadlock_timeout,
          .payload_limit_bytes = limits.payloads,
          .memo_limit_bytes = limits.memo,
          .search_attribute_limit_bytes = options.max_search_attribute_bytes,
          .search_attributes_limit_bytes = options.max_search_attributes_bytes,
          .payload_warning_bytes = options.payload_warning_bytes,
          .threads = threads,
          .versioning = options.versioning,
          .log = options.log,
          .interceptors = options.interceptors.workflows,
          .metrics = options.metrics},
      activity_worker, local_runner);
  count_start("WorkflowWorker");
  count_start("LocalActivityWorker");
}

void Worker::Impl::start_nexus() {
  if (!client) {
    client = Client{environment->caller.transport(),
                    {.namespace_ = namespace_, .identity = options.identity}};
  }
  nexus_worker = std::make_shared<nexus::NexusWorker>(
      environment, nexus_handlers, *client,
      nexus::NexusWorkerOptions{.namespace_ = namespace_,
                                .task_queue = options.task_queue,
                                .identity = options.identity,
                                .worker_instance_key = worker_instance_key,
                                .max_concurrent = options.max_concurrent_nexus_tasks,
                                .resources = resources,
                                .polls = options.nexus_pollers,
                                .most_polls = options.max_pollers,
                                .payload_limit_bytes = limits.payloads,
                                .versioning = options.versioning,
                                .log = options.log,
                                .interceptors = options.interceptors.nexus,
                                .metrics = options.metrics});
  count_start("NexusWorker");
}

void Worker::Impl::count_start(std::string_view worker_type) const {
  const MetricTag tags[] = {
      {"namespace", namespace_}, {"task_queue", options.task_queue}, {"worker_type", worker_type}};
  options.metrics->count("temporal_worker_start", 1, tags);
}

void Worker::Impl::start_heartbeats() {
  const bool unknown = !ends_polls.has_value();  // the server was not reached
  if (options.heartbeat_interval == Duration::zero() || !(wants_heartbeats || unknown)) return;
  // `stop` comes before the end of this object.
  heartbeats = std::make_shared<pollers::WorkerHeartbeats>(
      environment, namespace_, options.identity, options.heartbeat_interval,
      [this](pollers::WorkerHeartbeats::Heartbeat& beat) { fill(beat); });
  if (unknown) {
    heartbeats->start_when_wanted();
  } else {
    heartbeats->start();
  }
}

void Worker::Impl::fill(pollers::WorkerHeartbeats::Heartbeat& beat) const {
  beat.set_worker_instance_key(worker_instance_key);
  beat.set_task_queue(options.task_queue);
  if (options.versioning) {
    beat.mutable_deployment_version()->set_deployment_name(options.versioning->version.deployment);
    beat.mutable_deployment_version()->set_build_id(options.versioning->version.build_id);
  }
  const auto write_slots = [this](const pollers::TaskNumbers& numbers, auto* slots) {
    slots->set_slot_supplier_kind(resources == nullptr ? "Fixed" : "ResourceBased");
    slots->set_current_used_slots(static_cast<std::int32_t>(numbers.used));
    slots->set_current_available_slots(static_cast<std::int32_t>(numbers.slots - numbers.used));
    slots->set_total_processed_tasks(numbers.processed);
    slots->set_total_failed_tasks(numbers.failed);
  };
  const auto write_polls = [this](std::size_t open, auto* polls) {
    polls->set_current_pollers(static_cast<std::int32_t>(open));
    polls->set_is_autoscaling(options.max_pollers > 0);
  };
  if (workflow_worker != nullptr) {
    const auto now = workflow_worker->numbers();
    write_slots(now.tasks, beat.mutable_workflow_task_slots_info());
    write_polls(now.tasks.polls, beat.mutable_workflow_poller_info());
    write_polls(now.sticky_polls, beat.mutable_workflow_sticky_poller_info());
    beat.set_total_sticky_cache_hit(now.cache_hits);
    beat.set_total_sticky_cache_miss(now.cache_misses);
    beat.set_current_sticky_cache_size(static_cast<std::int32_t>(workflow_worker->cached_runs()));
    write_slots(local_runner->numbers(), beat.mutable_local_activity_slots_info());
    // They come with a workflow task that has its slot: a full machine holds none of them back.
    beat.mutable_local_activity_slots_info()->set_slot_supplier_kind("Fixed");
  }
  if (activity_worker != nullptr) {
    const auto now = activity_worker->numbers();
    write_slots(now, beat.mutable_activity_task_slots_info());
    write_polls(now.polls, beat.mutable_activity_poller_info());
  }
  if (nexus_worker != nullptr) {
    const auto now = nexus_worker->numbers();
    write_slots(now, beat.mutable_nexus_task_slots_info());
    write_polls(now.polls, beat.mutable_nexus_poller_info());
  }
}

void Worker::Impl::stop_polling() {
  if (workflow_worker != nullptr) workflow_worker->stop_polling();
  if (activity_worker != nullptr) activity_worker->stop_polling();
  if (nexus_worker != nullptr) nexus_worker->stop_polling();
}

// Lets the server move cached runs back to the common queue at once, and end our open polls if it
// can. True if it took the call.
bool Worker::Impl::tell_server() {
  api::ShutdownWorkerRequest request;
  request.set_namespace_(namespace_);
  request.set_identity(options.identity);
  request.set_worker_instance_key(worker_instance_key);
  request.set_task_queue(options.task_queue);
  if (workflow_worker != nullptr) {
    request.add_task_queue_types(enums::TASK_QUEUE_TYPE_WORKFLOW);
    if (options.max_cached_workflows > 0) request.set_sticky_task_queue(sticky_queue);
  }
  if (activity_worker != nullptr) request.add_task_queue_types(enums::TASK_QUEUE_TYPE_ACTIVITY);
  if (nexus_worker != nullptr) request.add_task_queue_types(enums::TASK_QUEUE_TYPE_NEXUS);
  request.set_reason("graceful shutdown");
  if (heartbeats != nullptr) {
    if (wants_heartbeats) *request.mutable_worker_heartbeat() = heartbeats->last();
    heartbeats->stop();  // one that came later would say that the worker runs
  }
  const auto [status, answer] = call_and_wait<api::ShutdownWorkerResponse>(
      *environment, methods::kShutdownWorker, request, kShutdownCallBudget);
  if (!status.ok()) options.log.debug("ShutdownWorker, code {}: {}", status.code, status.message);
  return status.ok();
}

// A poll that the server ends cannot lose a task; a poll that we cancel may.
void Worker::Impl::close_polls() {
  const auto closed = [this](Clock::time_point until) {
    const bool workflow = workflow_worker == nullptr || workflow_worker->wait_polls_closed(until);
    const bool activity = activity_worker == nullptr || activity_worker->wait_polls_closed(until);
    const bool nexus = nexus_worker == nullptr || nexus_worker->wait_polls_closed(until);
    return workflow && activity && nexus;
  };
  bool waits = false;
  try {
    waits = server_ends_polls(kShutdownCallBudget);
  } catch (const std::exception& error) {
    options.log.debug("the namespace is gone: {}", error.what());
  }
  if (tell_server() && waits && closed(Clock::now() + kPollsClosedBudget)) return;
  if (workflow_worker != nullptr) workflow_worker->cancel_polls();
  if (activity_worker != nullptr) activity_worker->cancel_polls();
  if (nexus_worker != nullptr) nexus_worker->cancel_polls();
  closed(Clock::now() + kCancelledPollsBudget);
}

void Worker::Impl::end_workflow_tasks(Clock::time_point grace) {
  if (workflow_worker == nullptr) return;
  const Clock::time_point until = Clock::now() + kWorkflowTasksBudget;
  bool idle = workflow_worker->wait_idle(until);
  if (!idle && local_runner->busy()) idle = workflow_worker->wait_idle(grace);
  if (!idle) {
    options.log.warn("a workflow task was left unanswered");
    // Before its local activities are told: that they stop must not become their failure on record.
    workflow_worker->abandon();
  }
  local_runner->cancel_all(CancelReason::kWorkerShutdown);
  workflow_worker->stop_threads(until);
}

// All are told before the first is waited for.
void Worker::Impl::end_activities(Clock::time_point grace) {
  if (activity_worker != nullptr && !activity_worker->wait_idle(grace))
    activity_worker->cancel_running(CancelReason::kWorkerShutdown);
  if (nexus_worker != nullptr && !nexus_worker->wait_idle(grace)) nexus_worker->ask_to_stop();
  const Clock::time_point patience = std::max(grace, Clock::now()) + options.shutdown_patience;
  if (workflow_worker != nullptr && !local_runner->stop(patience))
    options.log.error("a local activity ignored the shutdown and was left behind");
  const auto ends = [patience](auto& worker) {
    return worker == nullptr || (worker->wait_idle(patience) && worker->stop_threads(patience));
  };
  if (!ends(activity_worker))
    options.log.error("an activity ignored the shutdown and was left behind");
  if (!ends(nexus_worker))
    options.log.error("a handler of Nexus ignored the shutdown and was left behind");
}

void Worker::Impl::shutdown() {
  if (!started || ended) return;
  ended = true;
  const Clock::time_point grace = Clock::now() + options.graceful_shutdown;
  options.log.info("worker stops");
  stop_polling();
  close_polls();
  end_workflow_tasks(grace);
  end_activities(grace);
  options.log.info("worker stopped");
}

void Worker::Impl::abandon() {
  if (!started || ended) return;
  ended = true;
  if (heartbeats != nullptr) heartbeats->stop();
  if (workflow_worker != nullptr) {
    workflow_worker->abandon();
    local_runner->cancel_all(CancelReason::kNotFound);
    workflow_worker->stop_threads(Clock::now() + kCancelledPollsBudget);
  }
  if (activity_worker != nullptr) {
    activity_worker->abandon();
    activity_worker->stop_threads(Clock::now() + kCancelledPollsBudget);
  }
  if (nexus_worker != nullptr) {
    nexus_worker->abandon();
    nexus_worker->stop_threads(Clock::now() + kCancelledPollsBudget);
  }
}

Worker::Worker(std::shared_ptr<Transport> transport, std::string namespace_, WorkerOptions options)
    : impl_(std::make_unique<Impl>(std::move(transport), std::move(namespace_),
                                   std::move(options))) {}

Worker::Worker(const Client& client, WorkerOptions options)
    : Worker(client.transport(), client.namespace_name(), [&] {
        if (options.identity.empty()) options.identity = client.identity();
        if (options.metrics == nullptr) options.metrics = client.metrics();
        return std::move(options);
      }()) {
  impl_->client = client;
  impl_->environment->caller.set_internal_is_final(client.server().internal_error_differentiation);
}

Worker::~Worker() { impl_->shutdown(); }

void Worker::add_workflow(std::shared_ptr<const WorkflowDefinition> definition) {
  if (impl_->started) throw std::logic_error{"workflows are registered before the worker starts"};
  const std::vector<std::string> taken = impl_->workflows->names();
  if (std::ranges::find(taken, definition->name) != taken.end())
    throw std::logic_error{fmt::format("workflow type {} is registered already", definition->name)};
  impl_->check_versioning(*definition);
  impl_->workflows->add(std::move(definition));
}

void Worker::add_fallback_workflow(std::shared_ptr<const WorkflowDefinition> definition) {
  if (impl_->started) throw std::logic_error{"workflows are registered before the worker starts"};
  impl_->check_versioning(*definition);
  impl_->workflows->add_fallback(std::move(definition));
}

void Worker::add_activity(std::string type, ActivityFunction function) {
  if (impl_->started) throw std::logic_error{"activities are registered before the worker starts"};
  impl_->activities->add(std::move(type), std::move(function));
}

void Worker::add_fallback_activity(ActivityFunction function) {
  if (impl_->started) throw std::logic_error{"activities are registered before the worker starts"};
  impl_->activities->add_fallback(std::move(function));
}

void Worker::add_nexus(std::string service, std::string operation,
                       std::shared_ptr<const NexusHandler> handler) {
  if (impl_->started) throw std::logic_error{"handlers are registered before the worker starts"};
  impl_->nexus_handlers->add(std::move(service), std::move(operation), std::move(handler));
}

void Worker::start() { impl_->start(); }
void Worker::shutdown() { impl_->shutdown(); }
void Worker::stop_polling() { impl_->stop_polling(); }
void Worker::abandon() { impl_->abandon(); }

std::size_t Worker::cached_workflows() const {
  return impl_->workflow_worker == nullptr ? 0 : impl_->workflow_worker->cached_runs();
}

std::size_t Worker::cached_workflow_bytes() const {
  return impl_->workflow_worker == nullptr ? 0 : impl_->workflow_worker->cached_bytes();
}

}  // namespace tempora
