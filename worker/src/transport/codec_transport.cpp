#include "codec_transport.hpp"

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include "retrying_caller.hpp"
#include "virtual_time.hpp"

namespace tempora {

namespace {

using google::protobuf::Message;
namespace api = temporal::api::workflowservice::v1;

// The server ends a workflow that sends more in one command, and takes no larger result. The worker
// measures before the codecs are applied; what they add may be too much.
constexpr std::size_t kLargestPayloads = std::size_t{2} << 20;

CallStatus too_large(std::string what, std::size_t bytes) {
  return {.code = grpc_code::kResourceExhausted,
          .message = "Sent message larger than max: [TMPRL1103] " + std::move(what) + " has " +
                     std::to_string(bytes) + " bytes as encoded, the server takes " +
                     std::to_string(kLargestPayloads)};
}

// What the server would punish, told as it tells it.
CallStatus check(const Message& request) {
  if (request.GetDescriptor() == api::RespondWorkflowTaskCompletedRequest::descriptor()) {
    for (const auto& command :
         static_cast<const api::RespondWorkflowTaskCompletedRequest&>(request).commands()) {
      if (const auto bytes = command.ByteSizeLong(); bytes > kLargestPayloads)
        return too_large("a command", bytes);
    }
  }
  if (request.GetDescriptor() == api::RespondActivityTaskCompletedRequest::descriptor()) {
    const auto& answer = static_cast<const api::RespondActivityTaskCompletedRequest&>(request);
    if (const auto bytes = answer.result().ByteSizeLong(); bytes > kLargestPayloads)
      return too_large("the result", bytes);
  }
  return {};
}

// A call that was refused before it left.
struct Ended final : PendingCall {
  void cancel() override {}
};

class CodecTransport : public Transport {
 public:
  CodecTransport(std::shared_ptr<Transport> inner, CodecOptions options)
      : inner_(std::move(inner)),
        options_(std::make_shared<const CodecOptions>(std::move(options))) {}

  std::shared_ptr<PendingCall> start(std::string_view method, const Message& request,
                                     Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const std::shared_ptr<Message> encoded{request.New()};
    encoded->CopyFrom(request);
    CallStatus refused;
    try {
      encode_payloads(*encoded, *options_);
      refused = check(*encoded);
    } catch (const std::exception& error) {
      refused = {.code = grpc_code::kInvalidArgument,
                 .message = std::string{"payload codec: "} + error.what()};
    }
    if (!refused.ok()) {
      done(std::move(refused));
      return std::make_shared<Ended>();
    }
    return inner_->start(
        method, *encoded, response, std::move(options),
        [codecs = options_, encoded, response, done = std::move(done)](CallStatus status) {
          if (status.ok()) decode_payloads(*response, *codecs);
          done(std::move(status));
        });
  }

 private:
  const std::shared_ptr<Transport> inner_;
  const std::shared_ptr<const CodecOptions> options_;
};

// What is marked below stays marked.
class VirtualCodecTransport final : public CodecTransport, public VirtualTime {
 public:
  using CodecTransport::CodecTransport;
};

}  // namespace

std::shared_ptr<Transport> with_codecs(std::shared_ptr<Transport> inner, CodecOptions options) {
  if (options.empty()) return inner;
  if (dynamic_cast<const VirtualTime*>(inner.get()) != nullptr)
    return std::make_shared<VirtualCodecTransport>(std::move(inner), std::move(options));
  return std::make_shared<CodecTransport>(std::move(inner), std::move(options));
}

}  // namespace tempora
