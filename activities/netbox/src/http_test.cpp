#include "addrflow/netbox/http.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <future>
#include <stdexcept>
#include <string>
#include <vector>

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A server that answers a request only when the test says so.
class Held {
 public:
  Held() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    if (bind(listener_, generic, size) != 0 || listen(listener_, 16) != 0 ||
        getsockname(listener_, generic, &size) != 0) {
      throw std::runtime_error{"cannot listen on loopback"};
    }
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  }
  ~Held() { close(listener_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  const std::string& url() const { return url_; }

  // Waits for the next request.
  int next() {
    const int connection = accept(listener_, nullptr, nullptr);
    std::string request;
    std::array<char, 4096> part{};
    while (!request.contains("\r\n\r\n")) {
      const ssize_t got = read(connection, part.data(), part.size());
      if (got <= 0) throw std::runtime_error{"the request ended early"};
      request.append(part.data(), static_cast<std::size_t>(got));
    }
    return connection;
  }
  bool nobody_else() const {
    pollfd waiting{.fd = listener_, .events = POLLIN, .revents = 0};
    return poll(&waiting, 1, 0) == 0;
  }
  static void answer(int connection) {
    const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    EXPECT_EQ(write(connection, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(connection);
  }

 private:
  int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  std::string url_;
};

TEST(HttpConcurrency, NoMoreRequestsAreOnTheWayThanTheCapAndALateOneNeverLeaves) {
  constexpr std::size_t kCap = 3;
  Held server;
  const auto http = make_curl_http({.concurrency = kCap});
  const HttpRequest request{.method = "POST", .url = server.url(), .headers = {}, .body = "{}"};
  std::vector<std::future<std::expected<HttpResponse, HttpFailure>>> callers;
  std::vector<int> held;
  for (std::size_t i = 0; i < kCap; ++i) {
    callers.push_back(std::async(std::launch::async,
                                 [&] { return http->send(request, Clock::now() + seconds{30}); }));
    held.push_back(server.next());
  }

  const auto late = http->send(request, Clock::now() + milliseconds{100});
  ASSERT_FALSE(late);
  EXPECT_FALSE(late.error().sent);  // so that it may be repeated without a look
  EXPECT_TRUE(late.error().timed_out);
  EXPECT_TRUE(server.nobody_else());

  for (const int connection : held) Held::answer(connection);
  for (auto& caller : callers) EXPECT_EQ(caller.get()->status, 200);
}

}  // namespace
}  // namespace addrflow::netbox
