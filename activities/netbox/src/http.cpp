#include "addrflow/netbox/http.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace addrflow::netbox {
namespace {

using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

struct Receiver {
  HttpResponse response;
  std::size_t limit = 0;
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& receiver = *static_cast<Receiver*>(user);
  if (receiver.response.body.size() + size * count > receiver.limit) return 0;  // ends the transfer
  receiver.response.body.append(data, size * count);
  return size * count;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  const std::string line(data, size * count);
  const auto colon = line.find(':');
  if (colon != std::string::npos) {
    std::string name = line.substr(0, colon);
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    const auto end = line.find_last_not_of(" \t\r\n");
    auto& headers = static_cast<Receiver*>(user)->response.headers;
    headers[name] =
        begin == std::string::npos || end < begin ? "" : line.substr(begin, end - begin + 1);
  }
  return size * count;
}

class CurlHttp : public Http {
 public:
  explicit CurlHttp(CurlOptions options) : options_(options) {
    static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
    static_cast<void>(started);
  }

  std::expected<HttpResponse, HttpFailure> send(const HttpRequest& request,
                                                Clock::time_point deadline) override {
    Handle handle = take(deadline);
    if (handle == nullptr) {
      return std::unexpected(
          HttpFailure{.sent = false, .timed_out = true, .message = "no free slot in time"});
    }
    auto answer = perform(handle.get(), request, deadline);
    // NetBox closes an idle connection after 2 s: a reused one may break under the request. A read
    // can be repeated; libcurl repeats nothing that has been answered in part.
    if (!answer && answer.error().sent && !answer.error().timed_out && request.method == "GET") {
      answer = perform(handle.get(), request, deadline);
    }
    give_back(std::move(handle));
    return answer;
  }

 private:
  Handle take(Clock::time_point deadline) {
    std::unique_lock lock{mutex_};
    if (!freed_.wait_until(lock, deadline, [this] { return in_use_ < options_.concurrency; })) {
      return {nullptr, &curl_easy_cleanup};
    }
    ++in_use_;
    if (idle_.empty()) return {curl_easy_init(), &curl_easy_cleanup};
    Handle handle = std::move(idle_.back());
    idle_.pop_back();
    return handle;
  }

  void give_back(Handle handle) {
    const std::lock_guard lock{mutex_};
    --in_use_;
    curl_easy_reset(handle.get());  // keeps its connection
    idle_.push_back(std::move(handle));
    freed_.notify_one();
  }

  std::expected<HttpResponse, HttpFailure> perform(CURL* curl, const HttpRequest& request,
                                                   Clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) {
      return std::unexpected(
          HttpFailure{.sent = false, .timed_out = true, .message = "no time left"});
    }
    Headers headers{nullptr, &curl_slist_free_all};
    for (const auto& [name, value] : request.headers) {
      headers.reset(curl_slist_append(headers.release(), (name + ": " + value).c_str()));
    }
    headers.reset(curl_slist_append(headers.release(), "Expect:"));
    Receiver receiver{.response = {}, .limit = options_.max_body_bytes};
    curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    if (!request.body.empty()) {
      curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(request.body.size()));
      curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.c_str());
    }
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(left.count()));
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(std::min(left, options_.connect_timeout).count()));
    curl_easy_setopt(curl, CURLOPT_MAXAGE_CONN, 1L);
    // libcurl repeats a request by itself when a reused connection breaks; a write goes out once,
    // on a connection of its own.
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, request.method == "GET" ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &receiver);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &receiver);
    const CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) return std::unexpected(failure_of(curl, code));
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    receiver.response.status = static_cast<int>(status);
    return std::move(receiver.response);
  }

  static HttpFailure failure_of(CURL* curl, CURLcode code) {
    // Zero until the connection (and TLS) stands and the request may go.
    curl_off_t pretransfer = 0;
    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &pretransfer);
    return {.sent = pretransfer > 0,
            .timed_out = code == CURLE_OPERATION_TIMEDOUT,
            .message = curl_easy_strerror(code)};
  }

  const CurlOptions options_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::size_t in_use_ = 0;
  std::vector<Handle> idle_;
};

}  // namespace

std::unique_ptr<Http> make_curl_http(CurlOptions options) {
  return std::make_unique<CurlHttp>(options);
}

}  // namespace addrflow::netbox
