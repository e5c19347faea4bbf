#include <tempora/deployment.hpp>

#include "client_core.hpp"

namespace tempora {

using detail::Access;
namespace api = temporal::api::workflowservice::v1;

namespace {

constexpr int kMaxPages = 1'000;

template <class Request>
Request request_for(const detail::ClientCore& core, std::string_view deployment) {
  Request request;
  request.set_namespace_(core.namespace_);
  if constexpr (requires { request.set_deployment_name(std::string{}); })
    request.set_deployment_name(std::string{deployment});
  if constexpr (requires { request.set_identity(std::string{}); })
    request.set_identity(core.identity);
  return request;
}

template <class Request>
Request version_request(const detail::ClientCore& core, const DeploymentVersion& version) {
  auto request = request_for<Request>(core, version.deployment);
  request.mutable_deployment_version()->set_deployment_name(version.deployment);
  request.mutable_deployment_version()->set_build_id(version.build_id);
  return request;
}

template <class Request>
void write_routing(const RoutingOptions& options, Request& request) {
  request.set_conflict_token(options.conflict_token);
  request.set_ignore_missing_task_queues(options.ignore_missing_task_queues);
  request.set_allow_no_pollers(options.allow_no_pollers);
}

template <class Proto>
DeploymentVersionInfo to_version(const Proto& proto) {
  return {.version = {proto.deployment_version().deployment_name(),
                      proto.deployment_version().build_id()},
          .status = static_cast<VersionStatus>(proto.status())};
}

}  // namespace

Outcome<DeploymentDescription> DeploymentClient::describe(std::string_view deployment) const {
  const auto request = request_for<api::DescribeWorkerDeploymentRequest>(*core_, deployment);
  const auto response = core_->call<api::DescribeWorkerDeploymentResponse>(
      methods::kDescribeDeployment, request, deployment, Access::kReads);
  if (!response) return std::unexpected(response.error());
  const auto& info = response->worker_deployment_info();
  const auto& routing = info.routing_config();
  DeploymentDescription description{
      .name = info.name(),
      .current_build_id = routing.current_deployment_version().build_id(),
      .ramping_build_id = routing.ramping_deployment_version().build_id(),
      .ramping_percentage = routing.ramping_version_percentage(),
      .versions = {},
      .settled = info.routing_config_update_state() !=
                 temporal::api::enums::v1::ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS,
      .conflict_token = response->conflict_token()};
  for (const auto& version : info.version_summaries())
    description.versions.push_back(to_version(version));
  return description;
}

Outcome<std::vector<std::string>> DeploymentClient::list() const {
  api::ListWorkerDeploymentsRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_page_size(100);
  std::vector<std::string> names;
  for (int page = 0; page < kMaxPages; ++page) {
    const auto response = core_->call<api::ListWorkerDeploymentsResponse>(
        methods::kListDeployments, request, "list", Access::kReads);
    if (!response) return std::unexpected(response.error());
    for (const auto& deployment : response->worker_deployments())
      names.push_back(deployment.name());
    if (response->next_page_token().empty()) return names;
    request.set_next_page_token(response->next_page_token());
  }
  return std::unexpected(detail::invalid_argument("the server knows too many", "deployments"));
}

Outcome<DeploymentVersionInfo> DeploymentClient::describe_version(
    const DeploymentVersion& version) const {
  const auto request =
      version_request<api::DescribeWorkerDeploymentVersionRequest>(*core_, version);
  const auto response = core_->call<api::DescribeWorkerDeploymentVersionResponse>(
      methods::kDescribeDeploymentVersion, request, version.deployment, Access::kReads);
  if (!response) return std::unexpected(response.error());
  return to_version(response->worker_deployment_version_info());
}

Outcome<void> DeploymentClient::set_current(std::string_view deployment, std::string_view build_id,
                                            const RoutingOptions& options) const {
  auto request = request_for<api::SetWorkerDeploymentCurrentVersionRequest>(*core_, deployment);
  request.set_build_id(std::string{build_id});
  write_routing(options, request);
  const auto response = core_->call<api::SetWorkerDeploymentCurrentVersionResponse>(
      methods::kSetCurrentVersion, request, deployment, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

Outcome<void> DeploymentClient::set_ramping(std::string_view deployment, std::string_view build_id,
                                            float percentage, const RoutingOptions& options) const {
  if (!(percentage >= 0 && percentage <= 100)) {
    return std::unexpected(
        detail::invalid_argument("percentage: must be 0 to 100", std::string{deployment}));
  }
  auto request = request_for<api::SetWorkerDeploymentRampingVersionRequest>(*core_, deployment);
  request.set_build_id(std::string{build_id});
  request.set_percentage(percentage);
  write_routing(options, request);
  const auto response = core_->call<api::SetWorkerDeploymentRampingVersionResponse>(
      methods::kSetRampingVersion, request, deployment, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

Outcome<void> DeploymentClient::remove_version(const DeploymentVersion& version,
                                               bool skip_drainage) const {
  auto request = version_request<api::DeleteWorkerDeploymentVersionRequest>(*core_, version);
  request.set_skip_drainage(skip_drainage);
  const auto response = core_->call<api::DeleteWorkerDeploymentVersionResponse>(
      methods::kDeleteDeploymentVersion, request, version.deployment, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

Outcome<void> DeploymentClient::remove(std::string_view deployment) const {
  const auto request = request_for<api::DeleteWorkerDeploymentRequest>(*core_, deployment);
  const auto response = core_->call<api::DeleteWorkerDeploymentResponse>(
      methods::kDeleteDeployment, request, deployment, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

DeploymentClient Client::deployments() const {
  DeploymentClient client;
  client.core_ = core_;
  return client;
}

}  // namespace tempora
