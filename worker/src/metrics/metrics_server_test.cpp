#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <stdexcept>
#include <system_error>
#include <tempora/metrics_server.hpp>
#include <tempora/prometheus.hpp>

namespace tempora {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

http::response<http::string_body> ask(std::uint16_t port, http::verb how,
                                      const std::string& target) {
  asio::io_context io;
  beast::tcp_stream stream{io};
  stream.expires_after(std::chrono::seconds{20});
  stream.connect({asio::ip::address_v4::loopback(), port});
  http::request<http::string_body> request{how, target, 11};
  request.set(http::field::host, "localhost");
  request.prepare_payload();
  http::write(stream, request);
  beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::read(stream, buffer, response);
  return response;
}

TEST(MetricsServer, HandsOutWhatIsMeasuredByThen) {
  PrometheusMetrics metrics;
  const MetricsServer server{[&metrics] { return metrics.text(); }};
  metrics.gauge("ways_home", 3, {});
  const auto answer = ask(server.port(), http::verb::get, "/metrics?name=all");
  EXPECT_EQ(answer.result(), http::status::ok);
  EXPECT_EQ(answer[http::field::content_type], std::string{PrometheusMetrics::kContentType});
  EXPECT_NE(answer.body().find("\nways_home 3\n"), std::string::npos) << answer.body();
  metrics.gauge("ways_home", 4, {});
  EXPECT_NE(ask(server.port(), http::verb::get, "/metrics").body().find("\nways_home 4\n"),
            std::string::npos);
}

TEST(MetricsServer, SaysWhatIsWrongAndGoesOn) {
  bool broken = true;
  const MetricsServer server{[&broken]() -> std::string {
    if (broken) throw std::runtime_error{"the ledger is away"};
    return "fine 1\n";
  }};
  const auto failed = ask(server.port(), http::verb::get, "/metrics");
  EXPECT_EQ(failed.result(), http::status::internal_server_error);
  EXPECT_EQ(failed.body(), "the ledger is away\n");
  EXPECT_EQ(ask(server.port(), http::verb::get, "/").result(), http::status::not_found);
  const auto refused = ask(server.port(), http::verb::post, "/metrics");
  EXPECT_EQ(refused.result(), http::status::method_not_allowed);
  EXPECT_EQ(refused[http::field::allow], "GET");
  broken = false;
  EXPECT_EQ(ask(server.port(), http::verb::get, "/metrics").body(), "fine 1\n");
}

TEST(MetricsServer, RefusesOptionsThatMakeNoSense) {
  const auto text = [] { return std::string{}; };
  EXPECT_THROW((MetricsServer{nullptr}), std::invalid_argument);
  EXPECT_THROW((MetricsServer{text, {.path = "metrics"}}), std::invalid_argument);
  EXPECT_THROW((MetricsServer{text, {.max_connections = 0}}), std::invalid_argument);
  EXPECT_THROW((MetricsServer{text, {.timeout = std::chrono::seconds{0}}}), std::invalid_argument);
  EXPECT_THROW((MetricsServer{text, {.address = "nowhere"}}), std::invalid_argument);
  const MetricsServer first{text};
  EXPECT_THROW((MetricsServer{text, {.port = first.port()}}), std::system_error);
}

}  // namespace
}  // namespace tempora
