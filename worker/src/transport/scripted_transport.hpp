// Test support: a transport that answers by script, and a clock that only moves when someone
// sleeps.
#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "retrying_caller.hpp"

namespace tempora::testing {

class ScriptedTransport final : public Transport {
 public:
  // Answers one attempt: looks at the request, fills the response, returns the status.
  using Answer = std::function<CallStatus(const google::protobuf::Message& request,
                                          google::protobuf::Message* response)>;
  struct Seen {
    std::string method;
    std::string request;  // serialised
    CallOptions options;
  };

  void then(Answer answer) { script_.push_back(std::move(answer)); }
  void then(int code, std::string message = {}, std::string details = {}) {
    then([=](const auto&, auto*) { return CallStatus{code, message, details}; });
  }
  template <class Response>
  void then_ok(Response answer) {
    then([answer = std::move(answer)](const auto&, google::protobuf::Message* response) {
      response->CopyFrom(answer);
      return CallStatus{};
    });
  }

  // An attempt beyond the script is UNIMPLEMENTED, which nobody retries.
  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    seen.push_back({std::string{method}, request.SerializeAsString(), std::move(options)});
    if (script_.empty()) {
      done({grpc_code::kUnimplemented, "the script has ended", ""});
      return nullptr;
    }
    const Answer answer = std::move(script_.front());
    script_.pop_front();
    done(answer(request, response));
    return nullptr;
  }

  bool done() const { return script_.empty(); }
  std::vector<Seen> seen;

 private:
  std::deque<Answer> script_;
};

class ManualClock final : public CallClock {
 public:
  Time now() override { return now_; }
  void sleep_for(std::chrono::milliseconds pause) override {
    pauses.push_back(pause);
    now_ += pause;
  }
  void after(std::chrono::milliseconds pause, std::function<void()> callback) override {
    sleep_for(pause);
    callback();
  }
  double jitter() override { return 1.0; }
  void advance(std::chrono::milliseconds by) { now_ += by; }

  std::vector<std::chrono::milliseconds> pauses;

 private:
  Time now_{};
};

}  // namespace tempora::testing
