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
  // It stands at the same place in both families.
  static std::uint16_t port_of(const sockaddr_storage& address) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }

 public:
  struct Received {
    std::vector<std::uint8_t> octets;
    sockaddr_storage from{};
    socklen_t from_size = sizeof(sockaddr_storage);
    std::uint16_t from_port() const { return port_of(from); }
  };

  // On loopback of either family.
  explicit FakeNas(std::string secret = "s", int family = AF_INET) : secret_(std::move(secret)) {
    fd_ = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage address{};
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
    }
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no port for the fake NAS");
    }
    port_ = port_of(address);
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
    const ssize_t length =
        ::recvfrom(fd_, received.octets.data(), received.octets.size(), 0,
                   reinterpret_cast<sockaddr*>(&received.from), &received.from_size);
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
             to.from_size);
  }

 private:
  std::string secret_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  Signer signer_;
};

}  // namespace addrflow::radius
