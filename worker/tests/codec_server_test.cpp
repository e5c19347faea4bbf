// A codec server, asked as the web UI and the CLI ask it, over payloads that a real server stores.
#include <google/protobuf/util/json_util.h>
#include <temporal/api/history/v1/message.pb.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <peers.hpp>
#include <tempora/codec_server.hpp>

#include "stage.hpp"

namespace tempora::behaviour {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

const std::string kOrigin = "http://ui.example";

CodecOptions secret() {
  return {.codecs = {std::make_shared<AesGcmCodec>(
              std::map<std::string, std::string>{{"key", std::string(32, 'k')}}, "key")}};
}

// A connection that is kept from one request to the next.
class Browser {
 public:
  explicit Browser(std::uint16_t port) {
    stream_.expires_after(20s);
    stream_.connect({asio::ip::address_v4::loopback(), port});
  }
  http::response<http::string_body> ask(http::verb how, const std::string& target,
                                        const std::string& body) {
    http::request<http::string_body> request{how, target, 11, body};
    request.set(http::field::host, "localhost");
    request.set(http::field::origin, kOrigin);
    request.set(http::field::content_type, "application/json");
    request.set("X-Namespace", "default");
    request.prepare_payload();
    http::write(stream_, request);
    http::response<http::string_body> response;
    http::read(stream_, buffer_, response);
    return response;
  }
  bool is_closed() {
    std::array<char, 1> byte{};
    beast::error_code error;
    stream_.socket().read_some(asio::buffer(byte), error);
    return error.failed();
  }

 private:
  asio::io_context io_;
  beast::tcp_stream stream_{io_};
  beast::flat_buffer buffer_;
};

std::string output_of(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error{"cannot run " + command};
  std::array<char, 4096> chunk{};
  while (const std::size_t size = std::fread(chunk.data(), 1, chunk.size(), pipe))
    text.append(chunk.data(), size);
  ::pclose(pipe);
  return text;
}

struct Keeper {
  Task<std::string> run(Context&, std::string what) { co_return what + " back"; }
};
const Definition<Keeper> kKeeper{"Keeper", run(&Keeper::run)};

TEST(CodecServer, ShowsAWebPageWhatTheServerCannotRead) {
  NEEDS_SERVER();
  ConnectionOptions options;
  options.codecs = secret();
  Stage stage{connect(options), 1'000};
  stage.runs(kKeeper);
  stage.start_worker();
  const auto handle = stage.start(kKeeper, std::string{"xyzzy"});
  EXPECT_EQ(must(handle.result<std::string>()), "xyzzy back");

  const auto stored = must(connect().handle(handle.id(), handle.started_run_id()).history());
  Payloads input = stored->events(0).workflow_execution_started_event_attributes().input();
  std::string asked;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(input, &asked).ok());
  ASSERT_EQ(input.DebugString().find("xyzzy"), std::string::npos);

  const CodecServer server{secret(), {.origins = {kOrigin}}};
  Browser browser{server.port()};
  const auto allowed = browser.ask(http::verb::options, "/decode", "");
  EXPECT_EQ(allowed.result(), http::status::no_content);
  EXPECT_EQ(allowed["Access-Control-Allow-Origin"], kOrigin);

  const auto shown = browser.ask(http::verb::post, "/decode?page=1", asked);
  ASSERT_EQ(shown.result(), http::status::ok) << shown.body();
  EXPECT_EQ(shown["Access-Control-Allow-Origin"], kOrigin);
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(shown.body(), &input).ok());
  EXPECT_EQ(decode_argument<std::string>(input), "xyzzy");

  // What is typed in is hidden, for a workflow that is started by hand.
  const auto hidden = browser.ask(http::verb::post, "/encode", shown.body());
  EXPECT_EQ(hidden.result(), http::status::ok);
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(hidden.body(), &input).ok());
  EXPECT_EQ(input.DebugString().find("xyzzy"), std::string::npos);
  const auto by_hand =
      must(connect().start("Keeper", stage.start_options(), RawPayload{input.payloads(0)}));
  EXPECT_EQ(must(stage.client().handle(by_hand.id()).result<std::string>()), "xyzzy back");
}

// `temporal workflow show` with and without us.
TEST(CodecServer, ShowsTheCommandLineWhatTheServerCannotRead) {
  NEEDS_SERVER();
  ADDRFLOW_NEEDS_PEER("TEMPORAL_CLI");
  ConnectionOptions options;
  options.codecs = secret();
  Stage stage{connect(options), 1'000};
  stage.runs(kKeeper);
  stage.start_worker();
  const auto handle = stage.start(kKeeper, std::string{"xyzzy"});
  EXPECT_EQ(must(handle.result<std::string>()), "xyzzy back");
  const std::string show =
      addrflow::testing::need_peer("TEMPORAL_CLI") + " workflow show --output json --address " +
      addrflow::testing::need_peer("TEMPORAL_ADDRESS") + " --workflow-id " + handle.id();
  const std::string back = "Inh5enp5IGJhY2si";  // "xyzzy back", as histories have it in JSON
  EXPECT_EQ(output_of(show).find(back), std::string::npos);
  const CodecServer server{secret()};
  const std::string shown =
      output_of(show + " --codec-endpoint http://127.0.0.1:" + std::to_string(server.port()));
  EXPECT_NE(shown.find(back), std::string::npos) << shown;
}

TEST(CodecServer, RefusesABodyThatIsTooLargeAndAConnectionTooMany) {
  const CodecServer server{secret(),
                           {.origins = {kOrigin}, .max_body_bytes = 1'000, .max_connections = 1}};
  Browser browser{server.port()};
  EXPECT_EQ(browser.ask(http::verb::get, "/decode", "").result(), http::status::method_not_allowed);
  EXPECT_TRUE(Browser{server.port()}.is_closed());
  EXPECT_EQ(browser.ask(http::verb::post, "/decode", std::string(2'000, ' ')).result(),
            http::status::payload_too_large);
}

TEST(CodecServer, SaysWhichAddressItCannotHave) {
  const CodecServer server{secret()};
  EXPECT_THROW((CodecServer{secret(), {.port = server.port()}}), std::system_error);
  EXPECT_THROW((CodecServer{secret(), {.address = "nowhere"}}), std::invalid_argument);
}

}  // namespace
}  // namespace tempora::behaviour
