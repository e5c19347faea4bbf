// Ends TLS in front of a server that has none, as a gateway does. For tests on loopback.
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace tempora::behaviour {

class TlsProxy {
 public:
  // `certificates`: server.pem and server.key, and ca.pem, of whose authority a client must be if
  // it is asked for a certificate.
  TlsProxy(const std::string& certificates, int upstream_port, bool asks_for_certificate)
      : upstream_(upstream_port), context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
    // OpenSSL writes without MSG_NOSIGNAL, to clients that may be gone.
    std::signal(SIGPIPE, SIG_IGN);
    SSL_CTX* context = context_.get();
    must(SSL_CTX_use_certificate_file(context, (certificates + "/server.pem").c_str(),
                                      SSL_FILETYPE_PEM));
    must(SSL_CTX_use_PrivateKey_file(context, (certificates + "/server.key").c_str(),
                                     SSL_FILETYPE_PEM));
    SSL_CTX_set_alpn_select_cb(context, choose_http2, nullptr);
    if (asks_for_certificate) {
      must(SSL_CTX_load_verify_locations(context, (certificates + "/ca.pem").c_str(), nullptr));
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    must(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    must(listen(listener_, 16) == 0);
    must(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::jthread{[this] { accept_all(); }};
  }
  ~TlsProxy() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::lock_guard lock{mutex_};
      stopping_ = true;
      for (const int each : open_) shutdown(each, SHUT_RDWR);
    }
    connections_.clear();
    close(listener_);
  }
  TlsProxy(const TlsProxy&) = delete;
  TlsProxy& operator=(const TlsProxy&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  using Ssl = std::unique_ptr<SSL, decltype(&SSL_free)>;

  static void must(bool done) {
    if (!done) throw std::runtime_error{"the TLS proxy cannot start"};
  }
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
  }
  static int choose_http2(SSL*, const unsigned char** out, unsigned char* length,
                          const unsigned char*, unsigned, void*) {
    static constexpr unsigned char kHttp2[] = {'h', '2'};
    *out = kHttp2;
    *length = sizeof kHttp2;
    return SSL_TLSEXT_ERR_OK;
  }

  void accept_all() {
    for (;;) {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      connections_.emplace_back([this, client] { serve(client); });
    }
  }

  void serve(int client) {
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    {
      const std::lock_guard lock{mutex_};
      open_.push_back(client);
      open_.push_back(server);
    }
    const sockaddr_in address = loopback(upstream_);
    const Ssl ssl{SSL_new(context_.get()), SSL_free};
    SSL_set_fd(ssl.get(), client);
    if (!stopping_ && SSL_accept(ssl.get()) == 1 &&
        connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      pump(ssl.get(), client, server);
    }
    {
      const std::lock_guard lock{mutex_};
      std::erase(open_, client);
      std::erase(open_, server);
    }
    close(client);
    close(server);
  }

  static void pump(SSL* ssl, int client, int server) {
    std::array<char, 16'384> buffer{};
    for (;;) {
      std::array<pollfd, 2> ready{{{client, POLLIN, 0}, {server, POLLIN, 0}}};
      if (SSL_pending(ssl) == 0 && poll(ready.data(), ready.size(), -1) < 0) return;
      if (SSL_pending(ssl) > 0 || ready[0].revents != 0) {
        const int got = SSL_read(ssl, buffer.data(), static_cast<int>(buffer.size()));
        if (got <= 0 ||
            send(server, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got)
          return;
      }
      if (ready[1].revents != 0) {
        const auto got = recv(server, buffer.data(), buffer.size(), 0);
        if (got <= 0 || SSL_write(ssl, buffer.data(), static_cast<int>(got)) <= 0) return;
      }
    }
  }

  const int upstream_;
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  const int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  int port_ = 0;
  std::mutex mutex_;
  std::atomic<bool> stopping_{false};
  std::vector<int> open_;
  std::vector<std::jthread> connections_;  // the acceptor's, until it has ended
  std::jthread acceptor_;
};

}  // namespace tempora::behaviour
