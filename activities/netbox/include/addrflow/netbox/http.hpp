// HTTP to NetBox over libcurl: pooled handles, a cap on requests at once, a limit on time and size.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <map>
#include <memory>
#include <string>

namespace addrflow::netbox {

using Clock = std::chrono::steady_clock;

struct HttpRequest {
  std::string method;
  std::string url;
  std::map<std::string, std::string> headers;
  std::string body;  // sent where it is not empty
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

// No answer. `sent` is false only where the request certainly never left.
struct HttpFailure {
  bool sent = true;
  bool timed_out = false;
  std::string message;  // without headers, so without the token
};

class Http {
 public:
  virtual ~Http() = default;
  // Thread-safe. Waits for a free slot and for the answer, both until the deadline.
  virtual std::expected<HttpResponse, HttpFailure> send(const HttpRequest& request,
                                                        Clock::time_point deadline) = 0;
};

struct CurlOptions {
  std::size_t concurrency = 6;  // NetBox serialises writes: more than 8 gains nothing
  std::chrono::milliseconds connect_timeout{5'000};
  std::size_t max_body_bytes = 8U << 20U;
};

std::unique_ptr<Http> make_curl_http(CurlOptions options);

}  // namespace addrflow::netbox
