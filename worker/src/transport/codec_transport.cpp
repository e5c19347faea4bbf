#include "codec_transport.hpp"

#include "refused_call.hpp"
#include "retrying_caller.hpp"
#include "virtual_time.hpp"

namespace tempora {

namespace {

using google::protobuf::Message;
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
    } catch (const std::exception& error) {
      refused = {.code = grpc_code::kInvalidArgument,
                 .message = std::string{"payload codec: "} + error.what()};
    }
    if (!refused.ok()) {
      done(std::move(refused));
      return std::make_shared<RefusedCall>();
    }
    return inner_->start(
        method, *encoded, response, std::move(options),
        [codecs = options_, encoded, response, done = std::move(done)](CallStatus status) {
          if (status.ok()) decode_payloads(*response, *codecs);
          done(std::move(status));
        });
  }

  void learn(const SizeLimits& limits) override { inner_->learn(limits); }

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
