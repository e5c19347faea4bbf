#include "tls_stream.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace addrflow::radius {
namespace {

// Unacknowledged octets for so long: the connection is dead, whatever TCP hopes.
constexpr unsigned kUserTimeout_ms = 15'000;
// A NAS that takes nothing for so long is no NAS: 64 requests of the largest size are less.
constexpr std::size_t kMaxUnsent = 1 << 20;

// The oldest error of OpenSSL's queue, in words; the queue is empty afterwards.
std::string openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  const char* reason = ERR_reason_error_string(code);
  return reason == nullptr ? fmt::format("error {:x}", code) : reason;
}

bool is_address(const std::string& host) {
  in6_addr octets{};
  return inet_pton(AF_INET, host.c_str(), &octets) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &octets) == 1;
}

}  // namespace

std::expected<std::unique_ptr<TlsStream>, std::string> TlsStream::open(const sockaddr* address,
                                                                       socklen_t size,
                                                                       const TlsFiles& files,
                                                                       const std::string& host) {
  std::unique_ptr<TlsStream> stream{new TlsStream};
  ERR_clear_error();
  stream->context_ = SSL_CTX_new(TLS_client_method());
  if (stream->context_ == nullptr) return std::unexpected(openssl_error());
  SSL_CTX* context = stream->context_;
  // RFC 9325: nothing below 1.2. A NAS without a certificate that we can check is no NAS of ours.
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (SSL_CTX_load_verify_locations(context, files.ca.c_str(), nullptr) != 1) {
    return std::unexpected(fmt::format("authority {}: {}", files.ca, openssl_error()));
  }
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return std::unexpected(fmt::format("certificate {}: {}", files.certificate, openssl_error()));
  }
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return std::unexpected(fmt::format("key {}: {}", files.key, openssl_error()));
  }
  stream->ssl_ = SSL_new(context);
  if (stream->ssl_ == nullptr) return std::unexpected(openssl_error());

  const std::string& name = files.server_name.empty() ? host : files.server_name;
  if (is_address(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(stream->ssl_), name.c_str());
  } else {
    SSL_set1_host(stream->ssl_, name.c_str());
    SSL_set_tlsext_host_name(stream->ssl_, name.c_str());
  }

  stream->fd_ = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (stream->fd_ < 0) return std::unexpected(std::string{std::strerror(errno)});
  const int on = 1;
  setsockopt(stream->fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(stream->fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(stream->fd_, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeout_ms, sizeof kUserTimeout_ms);
  if (::connect(stream->fd_, address, size) != 0 && errno != EINPROGRESS) {
    return std::unexpected(std::string{std::strerror(errno)});
  }
  SSL_set_fd(stream->ssl_, stream->fd_);
  SSL_set_connect_state(stream->ssl_);
  return stream;
}

TlsStream::~TlsStream() {
  if (ssl_ != nullptr) {
    if (ready_ && failure_.empty()) SSL_shutdown(ssl_);
    SSL_free(ssl_);
    ERR_clear_error();
  }
  SSL_CTX_free(context_);
  if (fd_ >= 0) ::close(fd_);
}

bool TlsStream::wants_to_write() const {
  if (!connected_) return true;
  return ready_ ? !out_.empty() : handshake_wants_write_;
}

void TlsStream::fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

bool TlsStream::shake_hands() {
  if (!connected_) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof peer;
    if (error != 0) {
      fail(std::strerror(error));
      return false;
    }
    // Not there yet: the loop woke for another reason.
    if (getpeername(fd_, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0) return false;
    connected_ = true;
  }
  if (ready_) return true;
  ERR_clear_error();
  const int done = SSL_do_handshake(ssl_);
  if (done == 1) {
    ready_ = true;
    return true;
  }
  const int why = SSL_get_error(ssl_, done);
  handshake_wants_write_ = why == SSL_ERROR_WANT_WRITE;
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return false;
  const long verdict = SSL_get_verify_result(ssl_);
  fail(verdict != X509_V_OK
           ? fmt::format("its certificate: {}", X509_verify_cert_error_string(verdict))
           : fmt::format("TLS: {}", openssl_error()));
  ERR_clear_error();
  return false;
}

void TlsStream::advance(const std::function<void(std::span<const std::uint8_t>)>& packet) {
  if (!failure_.empty() || !shake_hands()) return;
  flush();
  read(packet);
}

void TlsStream::write(std::span<const std::uint8_t> octets) {
  if (unsent_ + octets.size() > kMaxUnsent) return fail("it takes nothing any more");
  out_.emplace_back(octets.begin(), octets.end());
  unsent_ += octets.size();
}

void TlsStream::flush() {
  while (!out_.empty() && failure_.empty()) {
    ERR_clear_error();
    std::size_t taken = 0;
    const int done = SSL_write_ex(ssl_, out_.front().data(), out_.front().size(), &taken);
    if (done == 1) {
      unsent_ -= out_.front().size();
      out_.pop_front();
      continue;
    }
    const int why = SSL_get_error(ssl_, done);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return;
    fail(fmt::format("connection lost: {}", openssl_error()));
  }
}

void TlsStream::read(const std::function<void(std::span<const std::uint8_t>)>& packet) {
  std::array<std::uint8_t, 16'384> buffer;
  while (failure_.empty()) {
    ERR_clear_error();
    std::size_t size = 0;
    const int done = SSL_read_ex(ssl_, buffer.data(), buffer.size(), &size);
    if (done != 1) {
      const int why = SSL_get_error(ssl_, done);
      if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) break;
      fail(why == SSL_ERROR_ZERO_RETURN ? "the NAS closed the connection"
                                        : fmt::format("connection lost: {}", openssl_error()));
      break;
    }
    in_.insert(in_.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(size));
    std::size_t at = 0;
    while (in_.size() - at >= kHeaderSize) {
      const std::size_t length = static_cast<std::size_t>(in_[at + 2]) << 8U | in_[at + 3];
      if (length < kHeaderSize || length > kMaxPacketSize) {
        // Where the next packet begins is not known any more (RFC 6613 2.6.4).
        return fail(fmt::format("a packet of Length {}", length));
      }
      if (in_.size() - at < length) break;
      packet({in_.data() + at, length});
      at += length;
    }
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

}  // namespace addrflow::radius
