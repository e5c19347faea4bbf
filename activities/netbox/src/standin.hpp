// Starts the stand-in for NetBox for one test program and ends it with it.
#pragma once

#include <addrflow/netbox/http.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace addrflow::netbox {

class StandIn {
 public:
  static constexpr const char* kToken = "0123456789abcdef0123456789abcdef01234567";

  explicit StandIn(const char* version = "4.6") {
    int out[2];
    if (pipe(out) != 0) throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      close(out[0]);
      close(out[1]);
      execl(ADDRFLOW_PYTHON, ADDRFLOW_PYTHON, "-B", ADDRFLOW_NETBOX_STANDIN, "--netbox", version,
            static_cast<char*>(nullptr));
      _exit(127);
    }
    close(out[1]);
    std::string line;
    for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    close(out[0]);
    const auto begin = line.find("http://");
    if (begin == std::string::npos) throw std::runtime_error("the stand-in does not start");
    url_ = line.substr(begin, line.find(' ', begin) - begin);
  }
  ~StandIn() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
  }
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  const std::string& url() const { return url_; }

  void fault(const nlohmann::json& order) { ask("POST", "/standin/faults", order); }
  void create(const nlohmann::json& address) { ask("POST", "/api/ipam/ip-addresses/", address); }
  std::int64_t create_prefix(const nlohmann::json& prefix) {
    return ask("POST", "/api/ipam/prefixes/", prefix)["id"];
  }
  nlohmann::json addresses() { return ask("GET", "/api/ipam/ip-addresses/", {})["results"]; }
  int writes() {
    int count = 0;
    for (const auto& one : ask("GET", "/standin/requests", {})) {
      if (one["method"] != "GET") ++count;
    }
    return count;
  }

 private:
  nlohmann::json ask(const std::string& method, const std::string& path,
                     const nlohmann::json& body) {
    HttpRequest request{.method = method, .url = url_ + path, .headers = {}, .body = ""};
    request.headers = {{"Authorization", std::string("Token ") + kToken},
                       {"Content-Type", "application/json"}};
    if (!body.is_null()) request.body = body.dump();
    const auto answer = http_->send(request, Clock::now() + std::chrono::seconds{10});
    if (!answer || answer->status >= 300) throw std::runtime_error("stand-in refused " + path);
    return answer->body.empty() ? nlohmann::json{} : nlohmann::json::parse(answer->body);
  }

  pid_t pid_ = -1;
  std::string url_;
  std::unique_ptr<Http> http_ = make_curl_http({});
};

}  // namespace addrflow::netbox
