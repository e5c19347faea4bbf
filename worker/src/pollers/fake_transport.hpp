// A transport for tests: calls stay open until the test answers them.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "../transport/transport.hpp"

namespace tempora::pollers {

class FakeTransport : public Transport {
 public:
  struct Call : PendingCall {
    std::string method;
    std::string request;  // serialised
    google::protobuf::Message* response = nullptr;
    CallOptions options;
    std::function<void(CallStatus)> done;
    bool cancelled = false;

    void answer(const google::protobuf::Message& message) {
      response->CopyFrom(message);
      std::exchange(done, nullptr)(CallStatus{});
    }
    void fail(int code, std::string message = "scripted") {
      std::exchange(done, nullptr)(CallStatus{.code = code, .message = std::move(message)});
    }
    void cancel() override {
      cancelled = true;
      if (done) fail(1, "cancelled");
    }
  };

  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    auto call = std::make_shared<Call>();
    call->method = std::string{method.substr(method.rfind('/') + 1)};
    call->request = request.SerializeAsString();
    call->response = response;
    call->options = std::move(options);
    call->done = std::move(done);
    const std::lock_guard lock{mutex_};
    calls_.push_back(call);
    ++started_;
    return call;
  }

  // The oldest call that the test has not taken yet; null if there is none.
  std::shared_ptr<Call> take() {
    const std::lock_guard lock{mutex_};
    if (calls_.empty()) return nullptr;
    auto call = calls_.front();
    calls_.pop_front();
    return call;
  }
  std::size_t started() const {
    const std::lock_guard lock{mutex_};
    return started_;
  }

 private:
  mutable std::mutex mutex_;
  std::deque<std::shared_ptr<Call>> calls_;
  std::size_t started_ = 0;
};

}  // namespace tempora::pollers
