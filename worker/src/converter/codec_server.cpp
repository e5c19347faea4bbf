#include <boost/beast/http.hpp>

#include <stdexcept>
#include <tempora/codec_server.hpp>

#include "codec_endpoint.hpp"
#include "http/http_server.hpp"

namespace tempora {

namespace {

namespace http = boost::beast::http;

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

detail::HttpResponse respond(const detail::CodecEndpoint& endpoint,
                             const detail::HttpRequest& request) {
  const std::string_view target = view(request.target());
  const detail::CodecAnswer answer =
      endpoint.answer({.method = view(request.method_string()),
                       .path = target.substr(0, target.find('?')),
                       .origin = view(request[http::field::origin]),
                       .namespace_ = view(request["X-Namespace"]),
                       .authorization = view(request[http::field::authorization]),
                       .body = request.body()});
  detail::HttpResponse response{static_cast<http::status>(answer.status), request.version()};
  response.set(http::field::cache_control, "no-store");
  if (answer.status != 200 && answer.status != 204)
    response.set(http::field::content_type, "text/plain; charset=utf-8");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  response.body() = answer.body;
  return response;
}

}  // namespace

struct CodecServer::Impl {
  Impl(CodecOptions codecs, const CodecServerOptions& options)
      : endpoint(std::move(codecs), options.origins, options.authorize),
        server("codec server", {.address = options.address, .port = options.port},
               {.max_body_bytes = options.max_body_bytes,
                .max_connections = options.max_connections,
                .timeout = options.timeout},
               [this](const detail::HttpRequest& request) { return respond(endpoint, request); }) {}

  const detail::CodecEndpoint endpoint;
  detail::HttpServer server;  // last: it ends before what it uses
};

CodecServer::CodecServer(CodecOptions codecs, CodecServerOptions options) {
  if (options.max_body_bytes == 0 || options.max_connections == 0 || options.timeout.count() <= 0)
    throw std::invalid_argument{
        "codec server: max_body_bytes, max_connections and timeout must be above 0"};
  impl_ = std::make_unique<Impl>(std::move(codecs), options);
}

CodecServer::~CodecServer() = default;

std::uint16_t CodecServer::port() const { return impl_->server.port(); }

}  // namespace tempora
