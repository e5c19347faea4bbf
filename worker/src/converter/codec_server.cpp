#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <optional>
#include <stdexcept>
#include <system_error>
#include <tempora/codec_server.hpp>
#include <thread>

#include "codec_endpoint.hpp"

namespace tempora {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr std::uint32_t kLargestHeader = 16 * 1024;

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

http::response<http::string_body> respond(const detail::CodecEndpoint& endpoint,
                                          const http::request<http::string_body>& request) {
  const std::string_view target = view(request.target());
  const detail::CodecAnswer answer =
      endpoint.answer({.method = view(request.method_string()),
                       .path = target.substr(0, target.find('?')),
                       .origin = view(request[http::field::origin]),
                       .namespace_ = view(request["X-Namespace"]),
                       .authorization = view(request[http::field::authorization]),
                       .body = request.body()});
  http::response<http::string_body> response{static_cast<http::status>(answer.status),
                                             request.version()};
  response.keep_alive(request.keep_alive());
  response.set(http::field::cache_control, "no-store");
  if (answer.status != 200 && answer.status != 204)
    response.set(http::field::content_type, "text/plain; charset=utf-8");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  response.body() = answer.body;
  response.prepare_payload();
  return response;
}

}  // namespace

struct CodecServer::Impl {
  Impl(CodecOptions codecs, CodecServerOptions given)
      : options(std::move(given)),
        endpoint(std::move(codecs), options.origins, options.authorize) {}

  void listen();
  void accept();

  // One connection; it lives as long as something is asked of it.
  struct Session;

  const CodecServerOptions options;
  const detail::CodecEndpoint endpoint;
  std::size_t connections = 0;  // used by the server's thread only
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  std::jthread thread;  // last: it ends before what it uses
};

struct CodecServer::Impl::Session : std::enable_shared_from_this<Session> {
  Session(Impl& its_server, tcp::socket socket) : server(its_server), stream(std::move(socket)) {
    ++server.connections;
  }
  ~Session() { --server.connections; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void read() {
    parser.emplace();
    parser->header_limit(kLargestHeader);
    parser->body_limit(server.options.max_body_bytes);
    stream.expires_after(server.options.timeout);
    http::async_read(stream, buffer, *parser,
                     [self = shared_from_this()](ErrorCode error, std::size_t) {
                       if (!error)
                         return self->write(respond(self->server.endpoint, self->parser->get()));
                       if (error == http::error::body_limit) self->refuse();
                     });
  }

  // What is left of the request is not read: the connection ends with the answer.
  void refuse() {
    http::response<http::string_body> response{http::status::payload_too_large, 11};
    response.keep_alive(false);
    response.body() = "the body is too large";
    response.prepare_payload();
    write(std::move(response));
  }

  void write(http::response<http::string_body> made) {
    response = std::move(made);
    stream.expires_after(server.options.timeout);
    http::async_write(stream, response, [self = shared_from_this()](ErrorCode error, std::size_t) {
      if (!error && self->response.keep_alive()) return self->read();
      ErrorCode ignored;
      self->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
    });
  }

  Impl& server;
  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  std::optional<http::request_parser<http::string_body>> parser;
  http::response<http::string_body> response;
};

void CodecServer::Impl::listen() {
  ErrorCode error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) throw std::invalid_argument{"codec server: address: no address of a machine"};
  const tcp::endpoint place{address, options.port};
  acceptor.open(place.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address{true}, error);
  if (!error) acceptor.bind(place, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) throw std::system_error{error, "codec server: " + options.address};
}

void CodecServer::Impl::accept() {
  acceptor.async_accept([this](ErrorCode error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    // One too many is closed at once.
    if (!error && connections < options.max_connections)
      std::make_shared<Session>(*this, std::move(socket))->read();
    accept();
  });
}

CodecServer::CodecServer(CodecOptions codecs, CodecServerOptions options) {
  if (options.max_body_bytes == 0 || options.max_connections == 0 || options.timeout.count() <= 0)
    throw std::invalid_argument{
        "codec server: max_body_bytes, max_connections and timeout must be above 0"};
  impl_ = std::make_unique<Impl>(std::move(codecs), std::move(options));
  impl_->listen();
  impl_->accept();
  impl_->thread = std::jthread{[impl = impl_.get()] { impl->io.run(); }};
}

CodecServer::~CodecServer() { impl_->io.stop(); }

std::uint16_t CodecServer::port() const { return impl_->acceptor.local_endpoint().port(); }

}  // namespace tempora
