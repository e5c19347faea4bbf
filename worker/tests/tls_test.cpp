// A server behind TLS, and one that wants to know its clients.
#include <fstream>
#include <iterator>
#include <peers.hpp>

#include "stage.hpp"
#include "tls_proxy.hpp"

namespace tempora::behaviour {
namespace {

using addrflow::testing::need_peer;

struct Short {
  Task<std::string> run(Context& ctx) {
    co_await ctx.timer(10ms);
    co_return "through";
  }
};
const Definition<Short> kShort{"Short", run(&Short::run)};

class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    NEEDS_SERVER();
    ADDRFLOW_NEEDS_PEER("RADSEC_CERTIFICATES");
    const std::string server = need_peer("TEMPORAL_ADDRESS");
    proxy_ = std::make_unique<TlsProxy>(need_peer("RADSEC_CERTIFICATES"),
                                        std::stoi(server.substr(server.rfind(':') + 1)), true);
  }
  static std::string pem(const std::string& name) {
    std::ifstream file{need_peer("RADSEC_CERTIFICATES") + "/" + name};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  ConnectionOptions options_as(const std::string& who) const {
    ConnectionOptions options;
    options.address = proxy_->address();
    options.connect_timeout = 3s;
    options.tls = TlsOptions{.server_ca_pem = pem("ca.pem")};
    if (!who.empty()) {
      options.tls->client_cert_pem = pem(who + ".pem");
      options.tls->client_key_pem = pem(who + ".key");
    }
    return options;
  }
  std::unique_ptr<TlsProxy> proxy_;
};

TEST_F(Tls, ClientAndWorkerWorkThroughMutualTls) {
  Stage stage{must(Client::connect(options_as("client"))), 1'000};
  stage.runs(kShort);
  stage.start_worker();
  EXPECT_EQ(must(stage.start(kShort).result<std::string>()), "through");
  stage.worker().shutdown();
}

TEST_F(Tls, TheCertificateMayBeForAnotherName) {
  ConnectionOptions options = options_as("client");
  options.tls->server_name = "server.test";
  EXPECT_TRUE(Client::connect(options));
  options.tls->server_name = "elsewhere.test";
  EXPECT_FALSE(Client::connect(options));
}

TEST_F(Tls, AStrangerIsNotLetIn) {
  EXPECT_FALSE(Client::connect(options_as("stranger")));
  EXPECT_FALSE(Client::connect(options_as("")));
}

TEST_F(Tls, AServerOfAnotherAuthorityIsNotBelieved) {
  ConnectionOptions options = options_as("client");
  options.tls->server_ca_pem = pem("other-ca.pem");
  EXPECT_FALSE(Client::connect(options));
  options.tls->disable_host_verification = true;
  EXPECT_TRUE(Client::connect(options));
}

TEST_F(Tls, PlainTextIsNoTls) {
  ConnectionOptions options = options_as("client");
  options.tls.reset();
  EXPECT_FALSE(Client::connect(options));
}

}  // namespace
}  // namespace tempora::behaviour
