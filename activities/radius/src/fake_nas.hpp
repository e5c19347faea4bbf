// A NAS in the test's own process, datagram by datagram: what no real peer can be made to do.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <addrflow/radius/packet.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace addrflow::radius {

class FakeNas {
 public:
  struct Received {
    std::vector<std::uint8_t> octets;
    sockaddr_in from{};
  };

  explicit FakeNas(std::string secret = "s") : secret_(std::move(secret)) {
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no port for the fake NAS");
    }
    port_ = ntohs(address.sin_port);
    const int buffer = 4 << 20;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  }
  ~FakeNas() { ::close(fd_); }
  FakeNas(const FakeNas&) = delete;
  FakeNas& operator=(const FakeNas&) = delete;

  std::uint16_t port() const { return port_; }

  // The next datagram; empty octets: none came in time.
  Received receive(std::chrono::milliseconds at_most = std::chrono::seconds{5}) {
    pollfd ready{fd_, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(at_most.count())) != 1) return {};
    Received received;
    received.octets.resize(4096);
    socklen_t size = sizeof received.from;
    const ssize_t length = ::recvfrom(fd_, received.octets.data(), received.octets.size(), 0,
                                      reinterpret_cast<sockaddr*>(&received.from), &size);
    received.octets.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    return received;
  }

  void answer(const Received& to, Code code, const std::vector<Attribute>& attributes = {},
              const std::string* other_secret = nullptr) {
    const auto octets = signer_.encode_answer(code, to.octets, attributes,
                                              other_secret == nullptr ? secret_ : *other_secret);
    send(to, *octets);
  }
  void send(const Received& to, const std::vector<std::uint8_t>& octets) {
    ::sendto(fd_, octets.data(), octets.size(), 0, reinterpret_cast<const sockaddr*>(&to.from),
             sizeof to.from);
  }

 private:
  std::string secret_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  Signer signer_;
};

}  // namespace addrflow::radius
