// HTTP/1.1 on one thread: what the codec server and the metrics server are made of. Without TLS.
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tempora::detail {

struct HttpPlace {
  std::string address;     // of this machine
  std::uint16_t port = 0;  // 0: any that is free
};

struct HttpLimits {
  std::size_t max_body_bytes = 0;
  std::size_t max_connections = 0;  // one too many is closed at once
  std::chrono::seconds timeout{0};  // for each request and each answer
};

using HttpRequest = boost::beast::http::request<boost::beast::http::string_body>;
using HttpResponse = boost::beast::http::response<boost::beast::http::string_body>;

// Serves from construction to destruction.
class HttpServer {
 public:
  // `name` begins every message. `answer` is called on the server's thread and does not throw.
  // Throws `std::invalid_argument` for an address that is none, and `std::system_error` if address
  // and port cannot be had.
  HttpServer(const std::string& name, const HttpPlace& place, HttpLimits limits,
             std::function<HttpResponse(const HttpRequest&)> answer);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  std::uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora::detail
