#include <google/protobuf/util/time_util.h>
#include <temporal/api/operatorservice/v1/request_response.pb.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <tempora/client.hpp>
#include <tempora/schedule.hpp>

#include "../metrics/metrics_transport.hpp"
#include "../transport/codec_transport.hpp"
#include "../transport/grpc_transport.hpp"
#include "../transport/size_limits.hpp"
#include "../transport/size_transport.hpp"
#include "client_core.hpp"
#include "describe.hpp"
#include "start_request.hpp"

namespace tempora {

using detail::Access;
using detail::ClientCore;
namespace api = temporal::api::workflowservice::v1;
namespace operators = temporal::api::operatorservice::v1;
namespace enums = temporal::api::enums::v1;

namespace {

// List calls end: a query that finds more is for a page at a time.
constexpr int kMaxPages = 10'000;

std::string default_identity() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0) std::snprintf(host, sizeof host, "unknown");
  return std::to_string(getpid()) + "@" + host;
}

std::vector<std::pair<std::string, std::string>> metadata_of(const ConnectionOptions& options) {
  return {{"temporal-namespace", options.namespace_}};
}

// Sends until the update has reached the stage that it waits for.
Outcome<StartedUpdate> send_update_with_start(const ClientCore& core, std::string_view type,
                                              const StartOptions& options, Payloads input,
                                              const api::UpdateWorkflowExecutionRequest& update,
                                              const detail::Limit& limit) {
  if (auto checked = detail::check(options); !checked)
    return std::unexpected(std::move(checked.error()));
  if (options.conflict == IdConflictPolicy::kTerminateExisting) {
    return std::unexpected(detail::invalid_argument(
        "conflict: an update-with-start takes kFail or kUseExisting", options.id));
  }
  StartOptions how = options;
  if (!how.conflict) how.conflict = IdConflictPolicy::kUseExisting;
  return core.send_update_with_start(detail::start_request(core, type, how, std::move(input)),
                                     update, limit);
}

}  // namespace

namespace detail {

ClientCore::ClientCore(std::shared_ptr<Transport> transport, ConnectionOptions given,
                       std::shared_ptr<CallClock> clock)
    : options(std::move(given)),
      namespace_(options.namespace_),
      identity(options.identity.empty() ? default_identity() : options.identity),
      caller(with_codecs(with_size_checks(with_metrics(std::move(transport), options.metrics),
                                          options.max_payload_bytes),
                         options.codecs),
             metadata_of(options), std::move(clock)) {}

ClientError invalid_argument(std::string message, std::string where) {
  ClientError error;
  error.code = ErrorCode::kInvalidArgument;
  error.message = std::move(message);
  error.where = std::move(where);
  return error;
}

std::string random_uuid() {
  thread_local std::mt19937_64 generator{[] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    return std::mt19937_64{seed};
  }()};
  const std::uint64_t high = (generator() & ~0xf000ULL) | 0x4000ULL;                   // version 4
  const std::uint64_t low = (generator() & ~(3ULL << 62)) | (std::uint64_t{2} << 62);  // RFC 4122
  char text[37];
  std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16 & 0xffff), static_cast<unsigned>(high & 0xffff),
                static_cast<unsigned>(low >> 48),
                static_cast<unsigned long long>(low & 0xffff'ffff'ffffULL));
  return text;
}

api::StartWorkflowExecutionRequest start_request(const ClientCore& core, std::string_view type,
                                                 const StartOptions& options, Payloads input) {
  api::StartWorkflowExecutionRequest request;
  request.set_namespace_(core.namespace_);
  request.set_identity(core.identity);
  // Made once: every retry of this call is the same start.
  request.set_request_id(options.request_id.empty() ? random_uuid() : options.request_id);
  write_start(type, options, std::move(input), request);
  request.set_workflow_id_conflict_policy(static_cast<enums::WorkflowIdConflictPolicy>(
      static_cast<int>(options.conflict.value_or(IdConflictPolicy::kFail)) + 1));
  if (options.start_delay > Duration::zero()) {
    *request.mutable_workflow_start_delay() = to_proto_duration(options.start_delay);
  }
  return request;
}

Client client_on(std::shared_ptr<Transport> transport, ConnectionOptions options,
                 std::shared_ptr<CallClock> clock) {
  return Client{
      std::make_shared<ClientCore>(std::move(transport), std::move(options), std::move(clock))};
}

Outcome<void> check(const VersioningOverride& wanted, const std::string& where) {
  const auto refuse = [&](const char* why) -> Outcome<void> {
    return std::unexpected(detail::invalid_argument(why, where));
  };
  const bool pinned = wanted.behavior == VersioningBehavior::kPinned;
  if (!pinned && wanted.behavior != VersioningBehavior::kAutoUpgrade)
    return refuse("versioning.behavior: must be kPinned or kAutoUpgrade");
  if (pinned && (wanted.version.deployment.empty() || wanted.version.build_id.empty()))
    return refuse("versioning.version: must name deployment and build_id");
  if (!pinned && wanted.version != DeploymentVersion{})
    return refuse("versioning.version: only of kPinned");
  return {};
}

Outcome<void> check(const StartOptions& options) {
  if (options.id.empty())
    return std::unexpected(detail::invalid_argument("id: must not be empty", "start options"));
  if (options.task_queue.empty()) {
    return std::unexpected(detail::invalid_argument("task_queue: must not be empty",
                                                    "start options of " + options.id));
  }
  if (options.priority.key < 0 || options.priority.key > 5) {
    return std::unexpected(detail::invalid_argument("priority.key: must be 1 to 5, or 0",
                                                    "start options of " + options.id));
  }
  if (options.versioning) return check(*options.versioning, "start options of " + options.id);
  return {};
}

ClientError time_limit(std::string message, std::string where, bool in_doubt) {
  ClientError error;
  error.code = ErrorCode::kTimeLimit;
  error.message = std::move(message);
  error.where = std::move(where);
  error.retryable = true;
  error.in_doubt = in_doubt;
  return error;
}

void write_retry(const RetryPolicy& policy, temporal::api::common::v1::RetryPolicy* proto) {
  *proto->mutable_initial_interval() = to_proto_duration(policy.initial_interval);
  proto->set_backoff_coefficient(policy.backoff_coefficient);
  if (policy.maximum_interval > Duration::zero()) {
    *proto->mutable_maximum_interval() = to_proto_duration(policy.maximum_interval);
  }
  proto->set_maximum_attempts(policy.maximum_attempts);
  for (const std::string& type : policy.non_retryable_error_types)
    proto->add_non_retryable_error_types(type);
}

void write_priority(const Priority& priority, temporal::api::common::v1::Priority* proto) {
  proto->set_priority_key(priority.key);
  proto->set_fairness_key(priority.fairness_key);
  proto->set_fairness_weight(priority.fairness_weight);
}

void write_versioning(const VersioningOverride& wanted,
                      temporal::api::workflow::v1::VersioningOverride* proto) {
  using Proto = temporal::api::workflow::v1::VersioningOverride;
  if (wanted.behavior == VersioningBehavior::kAutoUpgrade) {
    proto->set_auto_upgrade(true);
    return;
  }
  auto& pinned = *proto->mutable_pinned();
  pinned.set_behavior(Proto::PINNED_OVERRIDE_BEHAVIOR_PINNED);
  pinned.mutable_version()->set_deployment_name(wanted.version.deployment);
  pinned.mutable_version()->set_build_id(wanted.version.build_id);
}

}  // namespace detail

Client::Client(std::shared_ptr<Transport> transport, ConnectionOptions options)
    : core_(std::make_shared<ClientCore>(std::move(transport), std::move(options),
                                         steady_call_clock())) {}

Outcome<Client> Client::connect_lazily(ConnectionOptions options) {
  auto transport = make_grpc_transport(options);
  if (!transport) return std::unexpected(std::move(transport.error()));
  return Client{std::move(*transport), std::move(options)};
}

Outcome<Client> Client::connect(ConnectionOptions options) {
  auto transport = make_grpc_transport(options);
  if (!transport) return std::unexpected(std::move(transport.error()));
  auto core =
      std::make_shared<ClientCore>(std::move(*transport), std::move(options), steady_call_clock());

  const CallPlan plan{.attempt_deadline = core->options.connect_timeout,
                      .budget = core->options.connect_timeout};
  const auto info =
      core->call<api::GetSystemInfoResponse>(methods::kGetSystemInfo, api::GetSystemInfoRequest{},
                                             core->options.address, Access::kReads, plan);
  if (info) {
    const auto& can = info->capabilities();
    core->server = {.version = info->server_version(),
                    .internal_error_differentiation = can.internal_error_differentiation(),
                    .signal_and_query_header = can.signal_and_query_header(),
                    .supports_schedules = can.supports_schedules(),
                    .upsert_memo = can.upsert_memo(),
                    .eager_workflow_start = can.eager_workflow_start(),
                    .sdk_metadata = can.sdk_metadata()};
    core->caller.set_internal_is_final(core->server.internal_error_differentiation);
  } else if (info.error().code !=
             ErrorCode::kUnimplemented) {  // a very old server: no capabilities
    return std::unexpected(info.error());
  }

  Client client{std::shared_ptr<const ClientCore>{core}};
  if (core->options.check_namespace) {
    if (auto known = client.describe_namespace(); !known)
      return std::unexpected(std::move(known.error()));
  }
  return client;
}

const std::string& Client::namespace_name() const { return core_->namespace_; }
const std::string& Client::identity() const { return core_->identity; }
const ServerInfo& Client::server() const { return core_->server; }
const std::shared_ptr<Metrics>& Client::metrics() const { return core_->options.metrics; }
std::shared_ptr<Transport> Client::transport() const { return core_->caller.transport(); }

WorkflowHandle Client::handle(std::string id, std::string run_id, std::string first_run_id) const {
  return core_->handle(std::move(id), std::move(run_id), std::move(first_run_id));
}

Outcome<WorkflowHandle> Client::start_payloads(std::string_view workflow_type,
                                               const StartOptions& options, Payloads input) const {
  if (auto checked = detail::check(options); !checked)
    return std::unexpected(std::move(checked.error()));
  const auto request = detail::start_request(*core_, workflow_type, options, std::move(input));
  const auto response = core_->call<api::StartWorkflowExecutionResponse>(
      methods::kStartWorkflow, request, options.id, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return core_->started(options.id, *response);
}

Outcome<WorkflowHandle> Client::signal_with_start_payloads(std::string_view workflow_type,
                                                           const StartOptions& options,
                                                           Payloads input, std::string_view signal,
                                                           Payloads signal_input) const {
  if (auto checked = detail::check(options); !checked)
    return std::unexpected(std::move(checked.error()));
  if (options.conflict == IdConflictPolicy::kFail) {
    return std::unexpected(detail::invalid_argument(
        "conflict: a signal-with-start takes kUseExisting or kTerminateExisting", options.id));
  }
  api::SignalWithStartWorkflowExecutionRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_identity(core_->identity);
  request.set_request_id(options.request_id.empty() ? detail::random_uuid() : options.request_id);
  detail::write_start(workflow_type, options, std::move(input), request);
  request.set_workflow_id_conflict_policy(
      options.conflict == IdConflictPolicy::kTerminateExisting
          ? enums::WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
          : enums::WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING);
  if (options.start_delay > Duration::zero()) {
    *request.mutable_workflow_start_delay() = detail::to_proto_duration(options.start_delay);
  }
  request.set_signal_name(std::string{signal});
  if (signal_input.payloads_size() > 0) *request.mutable_signal_input() = std::move(signal_input);
  const auto response = core_->call<api::SignalWithStartWorkflowExecutionResponse>(
      methods::kSignalWithStart, request, options.id, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return core_->started(options.id, *response);
}

Outcome<UpdateWithStart<Payloads>> Client::update_with_start_payloads(
    std::string_view workflow_type, const StartOptions& options, Payloads input,
    std::string_view update, const UpdateOptions& update_options, Payloads update_input) const {
  const detail::Limit limit{core_->caller.clock(), update_options.limit};
  const auto request =
      core_->update_request(options.id, "", "", update, update_options.id, std::move(update_input));
  auto sent =
      send_update_with_start(*core_, workflow_type, options, std::move(input), request, limit);
  if (!sent) return std::unexpected(std::move(sent.error()));
  auto outcome = sent->update.result_payloads(limit.left_or_none());
  if (!outcome) return std::unexpected(std::move(outcome.error()));
  return UpdateWithStart<Payloads>{std::move(sent->workflow), std::move(*outcome)};
}

Outcome<StartedUpdate> Client::start_update_with_start_payloads(
    std::string_view workflow_type, const StartOptions& options, Payloads input,
    std::string_view update, const UpdateOptions& update_options, Payloads update_input) const {
  const detail::Limit limit{core_->caller.clock(), update_options.limit};
  auto request =
      core_->update_request(options.id, "", "", update, update_options.id, std::move(update_input));
  request.mutable_wait_policy()->set_lifecycle_stage(
      enums::UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED);
  return send_update_with_start(*core_, workflow_type, options, std::move(input), request, limit);
}

Outcome<WorkflowPage> Client::list(std::string_view query, int page_size,
                                   std::string page_token) const {
  api::ListWorkflowExecutionsRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_query(std::string{query});
  request.set_page_size(page_size);
  request.set_next_page_token(std::move(page_token));
  auto response = core_->call<api::ListWorkflowExecutionsResponse>(methods::kListWorkflows, request,
                                                                   query, Access::kReads);
  if (!response) return std::unexpected(std::move(response.error()));
  WorkflowPage page;
  for (const auto& info : response->executions())
    page.workflows.push_back(detail::to_description(info));
  page.next_page_token = std::move(*response->mutable_next_page_token());
  return page;
}

Outcome<void> Client::for_each(std::string_view query,
                               const std::function<bool(const WorkflowDescription&)>& visit) const {
  std::string token;
  for (int i = 0; i < kMaxPages; ++i) {
    auto page = list(query, 1000, std::move(token));
    if (!page) return std::unexpected(std::move(page.error()));
    for (const auto& workflow : page->workflows) {
      if (!visit(workflow)) return {};
    }
    if (page->next_page_token.empty()) return {};
    token = std::move(page->next_page_token);
  }
  return std::unexpected(
      detail::invalid_argument("query: finds too many workflows", std::string{query}));
}

Outcome<WorkflowCount> Client::count(std::string_view query) const {
  api::CountWorkflowExecutionsRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_query(std::string{query});
  const auto response = core_->call<api::CountWorkflowExecutionsResponse>(
      methods::kCountWorkflows, request, query, Access::kReads);
  if (!response) return std::unexpected(response.error());
  WorkflowCount count{.count = response->count(), .groups = {}};
  for (const auto& group : response->groups()) {
    count.groups.push_back(
        {{group.group_values().begin(), group.group_values().end()}, group.count()});
  }
  return count;
}

Outcome<std::map<std::string, SearchAttributeType>> Client::list_search_attributes() const {
  operators::ListSearchAttributesRequest request;
  request.set_namespace_(core_->namespace_);
  const auto response = core_->call<operators::ListSearchAttributesResponse>(
      methods::kListSearchAttributes, request, core_->namespace_, Access::kReads);
  if (!response) return std::unexpected(response.error());
  std::map<std::string, SearchAttributeType> attributes;
  for (const auto& [name, type] : response->custom_attributes()) {
    if (type == enums::INDEXED_VALUE_TYPE_UNSPECIFIED) continue;
    attributes.emplace(name, static_cast<SearchAttributeType>(static_cast<int>(type) - 1));
  }
  return attributes;
}

Outcome<void> Client::add_search_attributes(
    const std::map<std::string, SearchAttributeType>& wanted) const {
  const auto known = list_search_attributes();
  if (!known) return std::unexpected(known.error());
  operators::AddSearchAttributesRequest request;
  request.set_namespace_(core_->namespace_);
  for (const auto& [name, type] : wanted) {
    const auto found = known->find(name);
    if (found == known->end()) {
      (*request.mutable_search_attributes())[name] =
          static_cast<enums::IndexedValueType>(static_cast<int>(type) + 1);
    } else if (found->second != type) {
      ClientError error = detail::invalid_argument(
          "search attribute '" + name + "' is registered with another type", namespace_name());
      error.code = ErrorCode::kAlreadyExists;
      return std::unexpected(std::move(error));
    }
  }
  if (request.search_attributes().empty()) return {};
  const auto response = core_->call<operators::AddSearchAttributesResponse>(
      methods::kAddSearchAttributes, request, core_->namespace_, Access::kWrites);
  // Another process may have been quicker.
  if (!response && response.error().code != ErrorCode::kAlreadyExists)
    return std::unexpected(response.error());
  return {};
}

Outcome<void> Client::remove_search_attributes(const std::vector<std::string>& names) const {
  operators::RemoveSearchAttributesRequest request;
  request.set_namespace_(core_->namespace_);
  for (const std::string& name : names) request.add_search_attributes(name);
  const auto response = core_->call<operators::RemoveSearchAttributesResponse>(
      methods::kRemoveSearchAttributes, request, core_->namespace_, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

Outcome<WorkerPage> Client::list_workers(std::string_view query, int page_size,
                                         std::string page_token) const {
  api::ListWorkersRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_query(std::string{query});
  request.set_page_size(page_size);
  request.set_next_page_token(std::move(page_token));
  const auto response =
      core_->call<api::ListWorkersResponse>(methods::kListWorkers, request, query, Access::kReads);
  if (!response) return std::unexpected(response.error());
  WorkerPage page{.workers = {}, .next_page_token = response->next_page_token()};
  for (const auto& each : response->workers()) {
    WorkerDescription& worker = page.workers.emplace_back();
    worker.instance_key = each.worker_instance_key();
    worker.identity = each.worker_identity();
    worker.task_queue = each.task_queue();
    worker.host = each.host_name();
    worker.process_id = each.process_id();
    worker.sdk = each.sdk_name() + " " + each.sdk_version();
    worker.running = each.status() == enums::WORKER_STATUS_RUNNING;
    if (each.has_start_time()) worker.started = detail::to_time(each.start_time());
  }
  return page;
}

Outcome<TaskQueueDescription> Client::describe_task_queue(std::string_view name,
                                                          TaskKind kind) const {
  api::DescribeTaskQueueRequest request;
  request.set_namespace_(core_->namespace_);
  request.mutable_task_queue()->set_name(std::string{name});
  request.mutable_task_queue()->set_kind(enums::TASK_QUEUE_KIND_NORMAL);
  request.set_task_queue_type(kind == TaskKind::kWorkflow ? enums::TASK_QUEUE_TYPE_WORKFLOW
                                                          : enums::TASK_QUEUE_TYPE_ACTIVITY);
  request.set_report_stats(true);
  const auto response = core_->call<api::DescribeTaskQueueResponse>(methods::kDescribeTaskQueue,
                                                                    request, name, Access::kReads);
  if (!response) return std::unexpected(response.error());
  const auto& stats = response->stats();
  TaskQueueDescription queue{
      .pollers = {},
      .backlog = stats.approximate_backlog_count(),
      .backlog_age = Duration{google::protobuf::util::TimeUtil::DurationToNanoseconds(
          stats.approximate_backlog_age())},
      .added_per_second = stats.tasks_add_rate(),
      .dispatched_per_second = stats.tasks_dispatch_rate()};
  for (const auto& poller : response->pollers()) {
    TaskQueuePoller& one = queue.pollers.emplace_back();
    one.identity = poller.identity();
    if (poller.has_last_access_time()) one.last_access = detail::to_time(poller.last_access_time());
  }
  return queue;
}

Outcome<NamespaceInfo> Client::describe_namespace(std::string_view name) const {
  api::DescribeNamespaceRequest request;
  request.set_namespace_(name.empty() ? core_->namespace_ : std::string{name});
  const auto response = core_->call<api::DescribeNamespaceResponse>(
      methods::kDescribeNamespace, request, request.namespace_(), Access::kReads);
  if (!response) return std::unexpected(response.error());
  const auto& info = response->namespace_info();
  if (request.namespace_() == core_->namespace_) transport()->learn(detail::limits_of(info));
  return NamespaceInfo{
      .name = info.name(),
      .description = info.description(),
      .retention = Duration{google::protobuf::util::TimeUtil::DurationToNanoseconds(
          response->config().workflow_execution_retention_ttl())},
      .data = {info.data().begin(), info.data().end()}};
}

Outcome<void> Client::register_namespace(std::string_view name, Duration retention,
                                         std::string_view description) const {
  api::RegisterNamespaceRequest request;
  request.set_namespace_(std::string{name});
  request.set_description(std::string{description});
  *request.mutable_workflow_execution_retention_period() = detail::to_proto_duration(retention);
  const auto response = core_->call<api::RegisterNamespaceResponse>(methods::kRegisterNamespace,
                                                                    request, name, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

ScheduleClient Client::schedules() const {
  ScheduleClient client;
  client.core_ = core_;
  return client;
}

}  // namespace tempora
