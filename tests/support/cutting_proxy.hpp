// A relay for PostgreSQL's lines that fails on demand, at the worst moment.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace addrflow::testing {

// Stands between a client and PostgreSQL. Armed, it lets a COMMIT through and then cuts the line
// before its answer: the client cannot know whether the commit happened. Freezing, it keeps a
// COMMIT to itself and the line open, as a client does that is stopped in the middle of a
// transaction.
class CuttingProxy {
 public:
  explicit CuttingProxy(std::uint16_t to) : to_(to), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, as_sockaddr(address), size), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    ::getsockname(listener_, as_sockaddr(address), &size);
    port = ntohs(address.sin_port);
    acceptor_ = std::thread{[this] { accept_all(); }};
  }
  ~CuttingProxy() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (auto& thread : relays_) thread.join();
    ::close(listener_);
  }
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  void arm(int commits_until_the_cut) { until_cut = commits_until_the_cut; }
  std::uint16_t port = 0;
  std::atomic<int> until_cut = -1;  // negative: nothing is cut
  std::atomic<int> cuts = 0;
  std::atomic<bool> freezing = false;
  std::atomic<int> frozen = 0;

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
  }
  static sockaddr* as_sockaddr(sockaddr_in& address) {
    return reinterpret_cast<sockaddr*>(&address);
  }

  void accept_all() {
    for (;;) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      relays_.emplace_back([this, client] { relay(client); });
    }
  }

  void relay(int client) {
    const int server = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = loopback(to_);
    if (::connect(server, as_sockaddr(address), sizeof address) == 0) {
      std::array<pollfd, 2> ends{{{client, POLLIN, 0}, {server, POLLIN, 0}}};
      bool cutting = false;
      while (::poll(ends.data(), ends.size(), 50) >= 0 && !stopping_) {
        if (ends[0].revents != 0 && !pass_on(client, server, &cutting)) break;
        if (ends[1].revents != 0) {
          if (cutting) {  // the server has answered, so the commit is done
            ++cuts;
            break;
          }
          if (!pass_on(server, client, nullptr)) break;
        }
      }
    }
    ::close(client);
    ::close(server);
  }

  bool pass_on(int from, int to, bool* cutting) {
    std::array<char, 65'536> buffer;
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    const std::string_view bytes{buffer.data(), static_cast<std::size_t>(got)};
    if (cutting != nullptr && bytes.find("COMMIT") != std::string_view::npos) {
      if (freezing) return ++frozen > 0;
      if (until_cut >= 0) *cutting = until_cut-- == 0;
    }
    return ::send(to, buffer.data(), bytes.size(), MSG_NOSIGNAL) == got;
  }

  const std::uint16_t to_;
  const int listener_;
  std::atomic<bool> stopping_ = false;
  std::thread acceptor_;
  std::vector<std::thread> relays_;
};

// "postgres://user@127.0.0.1:5433/name" → the port, and the same URL with another one.
inline std::uint16_t port_of(const std::string& url) {
  const auto colon = url.rfind(':', url.rfind('/'));
  return static_cast<std::uint16_t>(std::stoi(url.substr(colon + 1)));
}
inline std::string with_port(const std::string& url, std::uint16_t port) {
  const auto slash = url.rfind('/');
  const auto colon = url.rfind(':', slash);
  return url.substr(0, colon + 1) + std::to_string(port) + url.substr(slash);
}

}  // namespace addrflow::testing
