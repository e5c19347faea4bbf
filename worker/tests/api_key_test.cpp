// The key with which every call says who it is from. A server of its own looks at the headers: the
// real one asks nobody for a key.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <mutex>
#include <set>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

// Answers every call with UNIMPLEMENTED and keeps what came as `authorization`.
class Gatekeeper final : public grpc::CallbackGenericService {
 public:
  Gatekeeper() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~Gatekeeper() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    {
      const std::lock_guard lock{mutex_};
      std::string keys;
      const auto [begin, end] = context->client_metadata().equal_range("authorization");
      for (auto each = begin; each != end; ++each)
        keys += std::string{each->second.data(), each->second.size()} + ";";
      seen_.insert(keys);
    }
    class Refusal : public grpc::ServerGenericBidiReactor {
     public:
      Refusal() { Finish({grpc::StatusCode::UNIMPLEMENTED, "only a gatekeeper"}); }
      void OnDone() override { delete this; }
    };
    return new Refusal;
  }
  ConnectionOptions options() const {
    ConnectionOptions options;
    options.address = "127.0.0.1:" + std::to_string(port_);
    options.tls_enabled = false;  // a key alone would switch it on
    return options;
  }
  // What the calls since the last look said, each once.
  std::set<std::string> seen() {
    const std::lock_guard lock{mutex_};
    return std::exchange(seen_, {});
  }

 private:
  int port_ = 0;
  std::mutex mutex_;
  std::set<std::string> seen_;
  std::unique_ptr<grpc::Server> server_;
};

void call(const Client& client) { (void)client.handle("any").describe(); }

using Keys = std::set<std::string>;

TEST(ApiKey, GoesWithEveryCall) {
  Gatekeeper server;
  ConnectionOptions options = server.options();
  options.api_key = "secret-1";
  call(must(Client::connect_lazily(options)));
  EXPECT_EQ(server.seen(), Keys{"Bearer secret-1;"});
}

TEST(ApiKey, IsAskedForAnewAtEachCall) {
  Gatekeeper server;
  ConnectionOptions options = server.options();
  std::string key = "first";
  options.api_key = "of the options";
  options.api_key_provider = [&] { return key; };
  const Client client = must(Client::connect_lazily(options));
  call(client);
  EXPECT_EQ(server.seen(), Keys{"Bearer first;"});
  key = "second";
  call(client);
  EXPECT_EQ(server.seen(), Keys{"Bearer second;"});
}

TEST(ApiKey, YieldsToAHeaderOfThatName) {
  Gatekeeper server;
  ConnectionOptions options = server.options();
  options.api_key = "secret-1";
  options.headers["authorization"] = "Basic abc";
  call(must(Client::connect_lazily(options)));
  EXPECT_EQ(server.seen(), Keys{"Basic abc;"});
}

TEST(ApiKey, SwitchesTlsOn) {
  Gatekeeper server;
  ConnectionOptions options = server.options();
  options.tls_enabled.reset();
  options.api_key = "secret-1";
  options.connect_timeout = 1s;
  EXPECT_FALSE(Client::connect(options));
  EXPECT_EQ(server.seen(), Keys{}) << "the key has left in plain text";
}

}  // namespace
}  // namespace tempora::behaviour
