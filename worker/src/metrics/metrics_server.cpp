#include <boost/beast/http.hpp>

#include <stdexcept>
#include <string>
#include <tempora/metrics_server.hpp>
#include <tempora/prometheus.hpp>

#include "http/http_server.hpp"

namespace tempora {

namespace {

namespace http = boost::beast::http;

// A scrape asks for nothing with a body.
constexpr std::size_t kMaxBodyBytes = 4096;

detail::HttpResponse plain(http::status status, unsigned version, std::string text) {
  detail::HttpResponse response{status, version};
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.body() = std::move(text);
  return response;
}

}  // namespace

struct MetricsServer::Impl {
  Impl(std::function<std::string()> makes_text, MetricsServerOptions options)
      : text(std::move(makes_text)),
        path(std::move(options.path)),
        server("metrics server", {.address = options.address, .port = options.port},
               {.max_body_bytes = kMaxBodyBytes,
                .max_connections = options.max_connections,
                .timeout = options.timeout},
               [this](const detail::HttpRequest& request) { return answer(request); }) {}

  detail::HttpResponse answer(const detail::HttpRequest& request) const {
    const unsigned version = request.version();
    const auto target = request.target();
    if (target.substr(0, target.find('?')) != path)
      return plain(http::status::not_found, version, "measurements are at " + path + "\n");
    if (request.method() != http::verb::get) {
      auto refused = plain(http::status::method_not_allowed, version, "only GET\n");
      refused.set(http::field::allow, "GET");
      return refused;
    }
    try {
      auto made = plain(http::status::ok, version, text());
      made.set(http::field::content_type, std::string{PrometheusMetrics::kContentType});
      return made;
    } catch (const std::exception& error) {
      return plain(http::status::internal_server_error, version, std::string{error.what()} + "\n");
    }
  }

  const std::function<std::string()> text;
  const std::string path;
  detail::HttpServer server;  // last: it ends before what it uses
};

MetricsServer::MetricsServer(std::function<std::string()> text, MetricsServerOptions options) {
  if (!text) throw std::invalid_argument{"metrics server: text: there is nothing to hand out"};
  if (!options.path.starts_with('/'))
    throw std::invalid_argument{"metrics server: path must begin with /"};
  if (options.max_connections == 0 || options.timeout.count() <= 0)
    throw std::invalid_argument{"metrics server: max_connections and timeout must be above 0"};
  impl_ = std::make_unique<Impl>(std::move(text), std::move(options));
}

MetricsServer::~MetricsServer() = default;

std::uint16_t MetricsServer::port() const { return impl_->server.port(); }

}  // namespace tempora
