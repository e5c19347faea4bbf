// Hands measurements out to Prometheus.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tempora {

struct MetricsServerOptions {
  std::string address = "127.0.0.1";  // of this machine; whoever reaches it reads everything
  std::uint16_t port = 0;             // 0: any that is free
  std::string path = "/metrics";
  std::size_t max_connections = 16;
  std::chrono::seconds timeout{30};  // for each request and each answer
};

// Serves from construction to destruction, on a thread of its own and without TLS: for other
// machines put a proxy before it.
class MetricsServer {
 public:
  // `text` makes what a scrape gets, `PrometheusMetrics::text()` for one. It is called on the
  // server's thread; what it throws is the scrape's error (500). Throws `std::invalid_argument` for
  // options that make no sense and `std::system_error` if address and port cannot be had.
  explicit MetricsServer(std::function<std::string()> text, MetricsServerOptions options = {});
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  std::uint16_t port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tempora
