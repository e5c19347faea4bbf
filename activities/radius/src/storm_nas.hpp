// A thousand NAS on one socket of loopback: every address of 127.0.0.0/8 is one, and each answers
// from its own address. For the restart storm and for bench/coa.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <addrflow/radius/packet.hpp>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace addrflow::radius {

class StormNas {
 public:
  struct Datagram {
    std::vector<std::uint8_t> octets;
    sockaddr_in from{};
    in_addr to{};  // which NAS it was meant for
  };

  explicit StormNas(std::string secret) : secret_(std::move(secret)) {
    fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    // As root past the system's limit, else up to it: a storm must not be lost in this test's own
    // socket.
    const int buffer = 64 << 20;
    if (::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    }
    ::setsockopt(fd_, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t size = sizeof address;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no port for the storm");
    }
    port_ = ntohs(address.sin_port);
  }
  ~StormNas() { ::close(fd_); }
  StormNas(const StormNas&) = delete;
  StormNas& operator=(const StormNas&) = delete;

  std::uint16_t port() const { return port_; }
  static std::string host(int number) {
    return "127.1." + std::to_string(number / 250) + "." + std::to_string(1 + number % 250);
  }

  // What has come, up to a batch; empty after a while without anything.
  std::vector<Datagram> receive(int wait_ms) {
    pollfd ready{fd_, POLLIN, 0};
    std::vector<Datagram> result;
    if (::poll(&ready, 1, wait_ms) != 1) return result;
    constexpr std::size_t kBatch = 64;
    static thread_local std::array<std::array<std::uint8_t, 1024>, kBatch> buffers;
    std::array<std::array<char, CMSG_SPACE(sizeof(in_pktinfo))>, kBatch> control;
    std::array<iovec, kBatch> parts;
    std::array<sockaddr_in, kBatch> from;
    std::array<mmsghdr, kBatch> messages{};
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {buffers[i].data(), buffers[i].size()};
      messages[i].msg_hdr = {.msg_name = &from[i],
                             .msg_namelen = sizeof from[i],
                             .msg_iov = &parts[i],
                             .msg_iovlen = 1,
                             .msg_control = control[i].data(),
                             .msg_controllen = control[i].size()};
    }
    const int count = ::recvmmsg(fd_, messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      Datagram datagram{.octets = {buffers[at].begin(), buffers[at].begin() + messages[at].msg_len},
                        .from = from[at]};
      msghdr& header = messages[at].msg_hdr;
      for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO) continue;
        in_pktinfo info{};
        std::memcpy(&info, CMSG_DATA(c), sizeof info);
        datagram.to = info.ipi_addr;
      }
      result.push_back(std::move(datagram));
    }
    return result;
  }

  void acknowledge(const Datagram& datagram) {
    const Code code = datagram.octets[0] == static_cast<std::uint8_t>(Code::kCoaRequest)
                          ? Code::kCoaAck
                          : Code::kDisconnectAck;
    const auto answer = signer_.encode_answer(code, datagram.octets, {}, secret_, false);
    std::array<char, CMSG_SPACE(sizeof(in_pktinfo))> control{};
    iovec part{const_cast<std::uint8_t*>(answer->data()), answer->size()};
    auto to = datagram.from;
    msghdr header{.msg_name = &to,
                  .msg_namelen = sizeof to,
                  .msg_iov = &part,
                  .msg_iovlen = 1,
                  .msg_control = control.data(),
                  .msg_controllen = control.size()};
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
    in_pktinfo info{};
    info.ipi_spec_dst = datagram.to;
    std::memcpy(CMSG_DATA(c), &info, sizeof info);
    ::sendmsg(fd_, &header, MSG_NOSIGNAL);
  }

 private:
  std::string secret_;
  int fd_ = -1;
  std::uint16_t port_ = 0;
  Signer signer_;
};

}  // namespace addrflow::radius
