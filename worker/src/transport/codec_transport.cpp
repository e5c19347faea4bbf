#include "codec_transport.hpp"

#include <google/rpc/status.pb.h>

#include "refused_call.hpp"
#include "retrying_caller.hpp"
#include "virtual_time.hpp"

namespace tempora {

namespace {

using google::protobuf::Message;

constexpr std::string_view kRefused = "payload codec: ";

// The failure of a query comes packed into the details of the status.
void decode_details(CallStatus& status, const CodecOptions& codecs) {
  google::rpc::Status packed;
  if (status.details.empty() || !packed.ParseFromString(status.details)) return;
  decode_payloads(packed, codecs);
  status.details = packed.SerializeAsString();
}

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
                 .message = std::string{kRefused} + error.what()};
    } catch (...) {
      refused = {.code = grpc_code::kInvalidArgument,
                 .message = std::string{kRefused} + "it threw something that is no std::exception"};
    }
    if (!refused.ok()) {
      done(std::move(refused));
      return std::make_shared<RefusedCall>();
    }
    return inner_->start(
        method, *encoded, response, std::move(options),
        [codecs = options_, encoded, response, done = std::move(done)](CallStatus status) {
          if (status.ok()) {
            decode_payloads(*response, *codecs);
          } else {
            decode_details(status, *codecs);
          }
          done(std::move(status));
        });
  }

  SizeLimits learn(const SizeLimits& limits) override { return inner_->learn(limits); }
  SizeLimits known() const override { return inner_->known(); }

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

bool is_refused_by_codec(const CallStatus& status) {
  return status.code == grpc_code::kInvalidArgument && status.message.starts_with(kRefused);
}

std::shared_ptr<Transport> with_codecs(std::shared_ptr<Transport> inner, CodecOptions options) {
  if (options.empty()) return inner;
  if (dynamic_cast<const VirtualTime*>(inner.get()) != nullptr)
    return std::make_shared<VirtualCodecTransport>(std::move(inner), std::move(options));
  return std::make_shared<CodecTransport>(std::move(inner), std::move(options));
}

}  // namespace tempora
