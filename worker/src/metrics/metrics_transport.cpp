#include "metrics_transport.hpp"

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <algorithm>
#include <array>

#include "../transport/virtual_time.hpp"

namespace tempora {

namespace {

using google::protobuf::Message;
namespace api = temporal::api::workflowservice::v1;

// As gRPC for Go writes them, and so the dashboards.
constexpr std::array<std::string_view, 17> kCodes = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

std::string_view name_of_code(int code) {
  const auto index = static_cast<std::size_t>(code);
  return index < kCodes.size() ? kCodes[index] : kCodes[2];
}

// The server keeps the caller waiting: its time says nothing about the server.
bool is_long_poll(std::string_view operation, const Message& request) {
  if (operation.starts_with("Poll")) return true;
  return request.GetDescriptor() == api::GetWorkflowExecutionHistoryRequest::descriptor() &&
         static_cast<const api::GetWorkflowExecutionHistoryRequest&>(request).wait_new_event();
}

class MetricsTransport : public Transport {
 public:
  MetricsTransport(std::shared_ptr<Transport> inner, std::shared_ptr<Metrics> metrics)
      : inner_(std::move(inner)), metrics_(std::move(metrics)) {}

  std::shared_ptr<PendingCall> start(std::string_view method, const Message& request,
                                     Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const std::string_view operation = method.substr(method.rfind('/') + 1);
    const bool waits = is_long_poll(operation, request);
    const auto space = std::ranges::find(options.metadata, "temporal-namespace",
                                         &std::pair<std::string, std::string>::first);
    std::string name_space = space == options.metadata.end() ? std::string{} : space->second;
    return inner_->start(method, request, response, std::move(options),
                         [metrics = metrics_, operation = std::string{operation}, waits,
                          name_space = std::move(name_space), done = std::move(done),
                          began = std::chrono::steady_clock::now()](CallStatus status) {
                           tell(*metrics, operation, waits, name_space, status, began);
                           done(std::move(status));
                         });
  }

  SizeLimits learn(const SizeLimits& limits) override { return inner_->learn(limits); }
  SizeLimits known() const override { return inner_->known(); }

 private:
  static void tell(Metrics& metrics, std::string_view operation, bool waits,
                   std::string_view name_space, const CallStatus& status,
                   std::chrono::steady_clock::time_point began) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    const MetricTag tags[] = {{"namespace", name_space},
                              {"operation", operation},
                              {"status_code", name_of_code(status.code)}};
    const MetricTags plain = std::span{tags}.first(2);
    metrics.count(waits ? "temporal_long_request" : "temporal_request", 1, plain);
    metrics.observe_seconds(waits ? "temporal_long_request_latency" : "temporal_request_latency",
                            took.count(), plain);
    if (!status.ok()) {
      metrics.count(waits ? "temporal_long_request_failure" : "temporal_request_failure", 1, tags);
    }
  }

  const std::shared_ptr<Transport> inner_;
  const std::shared_ptr<Metrics> metrics_;
};

// What is marked below stays marked.
class VirtualMetricsTransport final : public MetricsTransport, public VirtualTime {
 public:
  using MetricsTransport::MetricsTransport;
};

}  // namespace

std::shared_ptr<Transport> with_metrics(std::shared_ptr<Transport> inner,
                                        std::shared_ptr<Metrics> metrics) {
  if (metrics == nullptr) return inner;
  if (dynamic_cast<const VirtualTime*>(inner.get()) != nullptr)
    return std::make_shared<VirtualMetricsTransport>(std::move(inner), std::move(metrics));
  return std::make_shared<MetricsTransport>(std::move(inner), std::move(metrics));
}

}  // namespace tempora
