#include "http_server.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace tempora::detail {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr std::uint32_t kLargestHeader = 16 * 1024;

}  // namespace

struct HttpServer::Impl {
  Impl(HttpLimits given, std::function<HttpResponse(const HttpRequest&)> answers)
      : limits(given), answer(std::move(answers)) {}

  void listen(const std::string& name, const HttpPlace& place);
  void accept();

  // One connection; it lives as long as something is asked of it.
  struct Session;

  const HttpLimits limits;
  const std::function<HttpResponse(const HttpRequest&)> answer;
  std::size_t connections = 0;  // used by the server's thread only
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  std::jthread thread;  // last: it ends before what it uses
};

struct HttpServer::Impl::Session : std::enable_shared_from_this<Session> {
  Session(Impl& its_server, tcp::socket socket) : server(its_server), stream(std::move(socket)) {
    ++server.connections;
  }
  ~Session() { --server.connections; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void read() {
    parser.emplace();
    parser->header_limit(kLargestHeader);
    parser->body_limit(server.limits.max_body_bytes);
    stream.expires_after(server.limits.timeout);
    http::async_read(stream, buffer, *parser,
                     [self = shared_from_this()](ErrorCode error, std::size_t) {
                       if (!error) return self->write(self->answered());
                       if (error == http::error::body_limit) self->refuse();
                     });
  }

  HttpResponse answered() const {
    HttpResponse made = server.answer(parser->get());
    made.keep_alive(parser->get().keep_alive());
    made.prepare_payload();
    return made;
  }

  // What is left of the request is not read: the connection ends with the answer.
  void refuse() {
    HttpResponse made{http::status::payload_too_large, 11};
    made.keep_alive(false);
    made.body() = "the body is too large";
    made.prepare_payload();
    write(std::move(made));
  }

  void write(HttpResponse made) {
    response = std::move(made);
    stream.expires_after(server.limits.timeout);
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
  HttpResponse response;
};

void HttpServer::Impl::listen(const std::string& name, const HttpPlace& place) {
  ErrorCode error;
  const auto address = asio::ip::make_address(place.address, error);
  if (error) throw std::invalid_argument{name + ": address: no address of a machine"};
  const tcp::endpoint endpoint{address, place.port};
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address{true}, error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) throw std::system_error{error, name + ": " + place.address};
}

void HttpServer::Impl::accept() {
  acceptor.async_accept([this](ErrorCode error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (!error && connections < limits.max_connections)
      std::make_shared<Session>(*this, std::move(socket))->read();
    accept();
  });
}

HttpServer::HttpServer(const std::string& name, const HttpPlace& place, HttpLimits limits,
                       std::function<HttpResponse(const HttpRequest&)> answer)
    : impl_(std::make_unique<Impl>(limits, std::move(answer))) {
  impl_->listen(name, place);
  impl_->accept();
  impl_->thread = std::jthread{[impl = impl_.get()] { impl->io.run(); }};
}

HttpServer::~HttpServer() { impl_->io.stop(); }

std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

}  // namespace tempora::detail
