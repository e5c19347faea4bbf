#include <temporal/api/operatorservice/v1/request_response.pb.h>

#include <tempora/nexus_endpoint.hpp>

#include "client_core.hpp"
#include "describe.hpp"

namespace tempora {

using detail::Access;
namespace operators = temporal::api::operatorservice::v1;
namespace nexus_api = temporal::api::nexus::v1;

namespace {

constexpr int kMaxPages = 1'000;
constexpr int kPageSize = 100;

ClientError wrong(std::string_view field, std::string_view why, const NexusEndpointSpec& spec) {
  return detail::invalid_argument(std::string{field} + ": " + std::string{why},
                                  "Nexus endpoint " + spec.name);
}

Outcome<nexus_api::EndpointSpec> to_proto(const detail::ClientCore& core,
                                          const NexusEndpointSpec& spec) {
  if (spec.name.empty()) return std::unexpected(wrong("name", "must not be empty", spec));
  if (spec.url.empty() == spec.task_queue.empty())
    return std::unexpected(wrong("task_queue", "either it or url must be given", spec));
  if (!spec.url.empty() && !spec.namespace_.empty())
    return std::unexpected(wrong("namespace_", "goes with a task queue", spec));
  nexus_api::EndpointSpec proto;
  proto.set_name(spec.name);
  if (!spec.description.empty())
    *proto.mutable_description() = PayloadCodec<std::string>::encode(spec.description);
  if (!spec.url.empty()) {
    proto.mutable_target()->mutable_external()->set_url(spec.url);
  } else {
    auto& worker = *proto.mutable_target()->mutable_worker();
    worker.set_namespace_(spec.namespace_.empty() ? core.namespace_ : spec.namespace_);
    worker.set_task_queue(spec.task_queue);
  }
  return proto;
}

std::string text_of(const Payload& payload) {
  try {
    return PayloadCodec<std::string>::decode(payload);
  } catch (const PayloadError&) {
    return {};  // written by somebody else, in a way of his own
  }
}

NexusEndpointDescription to_description(const nexus_api::Endpoint& proto) {
  NexusEndpointDescription endpoint{.id = proto.id(), .version = proto.version(), .spec = {}};
  const auto& target = proto.spec().target();
  endpoint.spec = {.name = proto.spec().name(),
                   .description = proto.spec().has_description()
                                      ? text_of(proto.spec().description())
                                      : std::string{},
                   .namespace_ = target.worker().namespace_(),
                   .task_queue = target.worker().task_queue(),
                   .url = target.external().url()};
  if (proto.has_created_time()) endpoint.created = detail::to_time(proto.created_time());
  if (proto.has_last_modified_time())
    endpoint.changed = detail::to_time(proto.last_modified_time());
  return endpoint;
}

template <class Response>
Outcome<NexusEndpointDescription> described(const Outcome<Response>& response) {
  if (!response) return std::unexpected(response.error());
  return to_description(response->endpoint());
}

// All of the name, or (empty) all there are.
Outcome<std::vector<NexusEndpointDescription>> list_endpoints(const detail::ClientCore& core,
                                                              std::string_view name) {
  operators::ListNexusEndpointsRequest request;
  request.set_page_size(kPageSize);
  request.set_name(std::string{name});
  std::vector<NexusEndpointDescription> found;
  for (int page = 0; page < kMaxPages; ++page) {
    const auto response = core.call<operators::ListNexusEndpointsResponse>(
        methods::kListNexusEndpoints, request, name, Access::kReads);
    if (!response) return std::unexpected(response.error());
    for (const auto& endpoint : response->endpoints()) found.push_back(to_description(endpoint));
    if (response->next_page_token().empty()) return found;
    request.set_next_page_token(response->next_page_token());
  }
  return std::unexpected(detail::invalid_argument("the server knows too many", "Nexus endpoints"));
}

}  // namespace

Outcome<NexusEndpointDescription> NexusEndpointClient::create(const NexusEndpointSpec& spec) const {
  const auto proto = to_proto(*core_, spec);
  if (!proto) return std::unexpected(proto.error());
  operators::CreateNexusEndpointRequest request;
  *request.mutable_spec() = *proto;
  return described(core_->call<operators::CreateNexusEndpointResponse>(
      methods::kCreateNexusEndpoint, request, spec.name, Access::kWrites));
}

Outcome<NexusEndpointDescription> NexusEndpointClient::describe(std::string_view id) const {
  operators::GetNexusEndpointRequest request;
  request.set_id(std::string{id});
  return described(core_->call<operators::GetNexusEndpointResponse>(methods::kGetNexusEndpoint,
                                                                    request, id, Access::kReads));
}

Outcome<std::optional<NexusEndpointDescription>> NexusEndpointClient::find(
    std::string_view name) const {
  if (name.empty())
    return std::unexpected(detail::invalid_argument("name: must not be empty", "Nexus endpoint"));
  auto found = list_endpoints(*core_, name);
  if (!found) return std::unexpected(std::move(found.error()));
  if (found->empty()) return std::nullopt;
  return std::move(found->front());
}

Outcome<std::vector<NexusEndpointDescription>> NexusEndpointClient::list() const {
  return list_endpoints(*core_, {});
}

Outcome<NexusEndpointDescription> NexusEndpointClient::update(std::string_view id,
                                                              std::int64_t version,
                                                              const NexusEndpointSpec& spec) const {
  const auto proto = to_proto(*core_, spec);
  if (!proto) return std::unexpected(proto.error());
  operators::UpdateNexusEndpointRequest request;
  request.set_id(std::string{id});
  request.set_version(version);
  *request.mutable_spec() = *proto;
  return described(core_->call<operators::UpdateNexusEndpointResponse>(
      methods::kUpdateNexusEndpoint, request, id, Access::kWrites));
}

Outcome<void> NexusEndpointClient::remove(std::string_view id, std::int64_t version) const {
  operators::DeleteNexusEndpointRequest request;
  request.set_id(std::string{id});
  request.set_version(version);
  const auto response = core_->call<operators::DeleteNexusEndpointResponse>(
      methods::kDeleteNexusEndpoint, request, id, Access::kWrites);
  if (!response) return std::unexpected(response.error());
  return {};
}

NexusEndpointClient Client::nexus_endpoints() const {
  NexusEndpointClient client;
  client.core_ = core_;
  return client;
}

}  // namespace tempora
