#include "grpc_transport.hpp"

#include <absl/synchronization/mutex.h>
#include <google/protobuf/empty.pb.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <climits>

#include "refused_call.hpp"
#include "retrying_caller.hpp"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEMPORA_UNDER_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#endif

namespace tempora {

namespace {

using google::protobuf::Message;
// Serialises any message: no stub code of the service is compiled.
using Stub = grpc::TemplatedGenericStub<Message, Message>;

constexpr const char* kClientName = "temporal-cpp";
constexpr const char* kClientVersion = "0.1.0";

ClientError refused(std::string message) {
  ClientError error;
  error.code = ErrorCode::kConfiguration;
  error.message = std::move(message);
  error.where = "connection options";
  return error;
}

// What happens before a call is handed to gRPC happens before its completion. The thread sanitizer
// cannot see that in a libgrpc that was built without it, so it is told.
void hand_over([[maybe_unused]] void* call) {
#ifdef TEMPORA_UNDER_TSAN
  __tsan_release(call);
#endif
}
void take_back([[maybe_unused]] void* call) {
#ifdef TEMPORA_UNDER_TSAN
  __tsan_acquire(call);
#endif
}

bool is_printable(std::string_view value) {
  return std::ranges::all_of(value, [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
}

struct Call final : PendingCall {
  void cancel() override { context.TryCancel(); }
  grpc::ClientContext context;
  std::function<void(CallStatus)> done;
};

class GrpcTransport final : public Transport {
 public:
  GrpcTransport(std::vector<std::unique_ptr<Stub>> stubs, const ConnectionOptions& options)
      : stubs_(std::move(stubs)), headers_(options.headers.begin(), options.headers.end()) {
    const bool own = options.headers.contains("authorization");
    if (own) return;
    api_key_ = options.api_key_provider;
    if (!api_key_ && !options.api_key.empty()) {
      headers_.emplace_back("authorization", "Bearer " + options.api_key);
    }
  }

  std::shared_ptr<PendingCall> start(std::string_view method, const Message& request,
                                     Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const auto key = current_key();
    if (!key) {
      done({.code = grpc_code::kUnauthenticated, .message = key.error(), .details = {}});
      return std::make_shared<RefusedCall>();
    }
    auto call = std::make_shared<Call>();
    call->done = std::move(done);
    grpc::ClientContext& context = call->context;
    context.set_deadline(std::chrono::system_clock::now() + options.deadline);
    context.AddMetadata("client-name", kClientName);
    context.AddMetadata("client-version", kClientVersion);
    for (const auto& [key, value] : headers_) context.AddMetadata(key, value);
    if (api_key_) context.AddMetadata("authorization", "Bearer " + *key);
    for (const auto& [key, value] : options.metadata) context.AddMetadata(key, value);

    hand_over(call.get());
    next_stub()->UnaryCall(&context, std::string{method}, {}, &request, response,
                           [call](grpc::Status status) {
                             take_back(call.get());
                             const auto done = std::exchange(call->done, nullptr);
                             done({.code = status.error_code(),
                                   .message = status.error_message(),
                                   .details = status.error_details()});
                           });
    return call;
  }

 private:
  // gRPC aborts the process over a value that no header can have, and nobody above its threads
  // would catch what the provider throws. The error says nothing of what the provider gave.
  std::expected<std::string, std::string> current_key() const {
    if (!api_key_) return {};
    try {
      std::string key = api_key_();
      if (is_printable(key)) return key;
      return std::unexpected("api_key_provider: gave a key that is not printable ASCII");
    } catch (const std::exception& error) {
      return std::unexpected(std::string{"api_key_provider: "} + error.what());
    } catch (...) {
      return std::unexpected("api_key_provider: threw something that is no std::exception");
    }
  }

  Stub* next_stub() {
    if (stubs_.size() == 1) return stubs_.front().get();
    return stubs_[next_.fetch_add(1, std::memory_order_relaxed) % stubs_.size()].get();
  }

  const std::vector<std::unique_ptr<Stub>> stubs_;
  std::atomic<std::size_t> next_ = 0;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::function<std::string()> api_key_;
};

// gRPC ends its callback threads with the last channel that used them, on whichever thread lets go
// of it. Were that one of those threads, after the last answer, it would join itself. So a channel
// that leads nowhere keeps them as long as the process lives.
void keep_callback_threads() {
  static Stub* const keeper = [] {
    auto* stub = new Stub{grpc::CreateCustomChannel("", nullptr, {})};
    auto call = std::make_shared<Call>();
    auto message = std::make_shared<google::protobuf::Empty>();
    stub->UnaryCall(&call->context, "/tempora/Keep", {}, message.get(), message.get(),
                    [call, message](const grpc::Status&) {});
    return stub;
  }();
  (void)keeper;
}

// Debian's Abseil is compiled to look for cycles of locks at every lock of gRPC's, and takes a lock
// of the whole process for it. Its own default for a release is not to.
void look_for_no_cycles_of_locks() {
#ifdef NDEBUG
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
#endif
}

// "dns:///host:port", unless the address names a scheme itself.
std::string target_of(const std::string& address) {
  for (const char* scheme : {"dns:", "unix:", "ipv4:", "ipv6:", "unix-abstract:"}) {
    if (address.starts_with(scheme)) return address;
  }
  return "dns:///" + address;
}

bool is_loopback(std::string_view address) {
  return address.starts_with("localhost:") || address.starts_with("127.") ||
         address.starts_with("[::1]");
}

grpc::ChannelArguments channel_arguments(const ConnectionOptions& options) {
  grpc::ChannelArguments arguments;
  const auto limit = [](std::size_t bytes) {
    return static_cast<int>(std::min<std::size_t>(bytes, INT_MAX));
  };
  arguments.SetMaxReceiveMessageSize(limit(options.max_message_bytes));
  arguments.SetMaxSendMessageSize(limit(options.max_request_bytes));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(options.keep_alive_time.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   static_cast<int>(options.keep_alive_timeout.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Reconnect soon after a restart of the server; gRPC's own limit is two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5'000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // retries are ours alone
  // Nobody asks gRPC for its own statistics, which it would keep on every call.
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetLoadBalancingPolicyName("round_robin");
  if (is_loopback(options.address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Each channel its own connection.
  if (options.channels > 1) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

std::shared_ptr<grpc::ChannelCredentials> unverified(const TlsOptions& tls) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_verify_server_certs(false);
  options.set_check_call_host(false);
  options.set_certificate_verifier(std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
  if (!tls.client_cert_pem.empty()) {
    options.set_certificate_provider(
        std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
            std::vector<grpc::experimental::IdentityKeyCertPair>{
                {tls.client_key_pem, tls.client_cert_pem}}));
    options.watch_identity_key_cert_pairs();
  }
  return grpc::experimental::TlsCredentials(options);
}

std::expected<std::shared_ptr<grpc::ChannelCredentials>, ClientError> credentials(
    const ConnectionOptions& options) {
  const bool has_key = !options.api_key.empty() || options.api_key_provider;
  if (!options.tls_enabled.value_or(options.tls.has_value() || has_key))
    return grpc::InsecureChannelCredentials();
  const TlsOptions tls = options.tls.value_or(TlsOptions{});
  if (tls.client_cert_pem.empty() != tls.client_key_pem.empty()) {
    return std::unexpected(refused("tls: client_cert_pem and client_key_pem go together"));
  }
  if (tls.disable_host_verification) return unverified(tls);
  return grpc::SslCredentials({.pem_root_certs = tls.server_ca_pem,
                               .pem_private_key = tls.client_key_pem,
                               .pem_cert_chain = tls.client_cert_pem});
}

std::expected<void, ClientError> check(const ConnectionOptions& options) {
  if (options.address.empty()) return std::unexpected(refused("address: must not be empty"));
  if (options.channels < 1 || options.channels > 64)
    return std::unexpected(refused("channels: must be 1 to 64"));
  if (options.max_message_bytes < 1024)
    return std::unexpected(refused("max_message_bytes: must be 1024 or more"));
  if (!is_printable(options.namespace_))
    return std::unexpected(refused("namespace: is not printable ASCII"));
  if (!is_printable(options.api_key))
    return std::unexpected(refused("api_key: is not printable ASCII"));
  for (const auto& [key, value] : options.headers) {
    const bool plain = !key.empty() && std::ranges::all_of(key, [](unsigned char c) {
      return std::islower(c) || std::isdigit(c) || c == '-' || c == '_' || c == '.';
    });
    if (!plain)
      return std::unexpected(refused("headers: '" + key + "' is not a lower-case header name"));
    if (!is_printable(value))
      return std::unexpected(refused("headers: the value of '" + key + "' is not printable ASCII"));
  }
  return {};
}

}  // namespace

std::expected<std::shared_ptr<Transport>, ClientError> make_grpc_transport(
    const ConnectionOptions& options) {
  if (auto checked = check(options); !checked) return std::unexpected(std::move(checked.error()));
  auto secured = credentials(options);
  if (!secured) return std::unexpected(std::move(secured.error()));
  grpc::ChannelArguments arguments = channel_arguments(options);
  if (options.tls && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  keep_callback_threads();
  look_for_no_cycles_of_locks();
  std::vector<std::unique_ptr<Stub>> stubs;
  for (int i = 0; i < options.channels; ++i) {
    stubs.push_back(std::make_unique<Stub>(
        grpc::CreateCustomChannel(target_of(options.address), *secured, arguments)));
  }
  return std::make_shared<GrpcTransport>(std::move(stubs), options);
}

}  // namespace tempora
