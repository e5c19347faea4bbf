// One TLS connection to a NAS (RADIUS over TLS, RFC 6614), for a loop on epoll: nothing here waits.
// Not for two threads at once.
#pragma once

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <addrflow/radius/client.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace addrflow::radius {

class TlsStream {
 public:
  // Begins to connect. What is wrong with a file, or why there is no socket, is told at once.
  static std::expected<std::unique_ptr<TlsStream>, std::string> open(const sockaddr* address,
                                                                     socklen_t size,
                                                                     const TlsFiles& files,
                                                                     const std::string& host);
  ~TlsStream();
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  int fd() const { return fd_; }
  bool ready() const { return ready_; }
  // Set once the connection cannot be used any more: why.
  const std::string& failure() const { return failure_; }
  bool wants_to_write() const;

  // Goes on with connecting, shaking hands, reading and writing, as far as it goes without waiting.
  // Whole packets are handed out; what breaks the framing ends the connection.
  void advance(const std::function<void(std::span<const std::uint8_t>)>& packet);
  // Goes out with the next advance().
  void write(std::span<const std::uint8_t> octets);

 private:
  TlsStream() = default;
  bool shake_hands();
  void read(const std::function<void(std::span<const std::uint8_t>)>& packet);
  void flush();
  void fail(const std::string& what);

  int fd_ = -1;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
  bool ready_ = false;
  bool handshake_wants_write_ = false;
  std::string failure_;
  std::vector<std::uint8_t> in_;
  // One packet a record: FreeRADIUS 3.2 ends a connection whose record holds several.
  std::deque<std::vector<std::uint8_t>> out_;
  std::size_t unsent_ = 0;
};

}  // namespace addrflow::radius
