// A transport for tests: calls stay open until the test answers them.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
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
    {
      const std::lock_guard lock{mutex_};
      ++started_;
      if (!closed_) {
        calls_.push_back(call);
        started_one_.notify_all();
        return call;
      }
    }
    call->cancel();
    return call;
  }

  // The oldest call that the test has not taken yet; null if there is none.
  std::shared_ptr<Call> take() {
    const std::lock_guard lock{mutex_};
    return take_locked({});
  }
  // The oldest of this name, or of any, for which it waits. Null if none comes.
  std::shared_ptr<Call> next(std::string_view method = {}) {
    std::shared_ptr<Call> call;
    std::unique_lock lock{mutex_};
    started_one_.wait_for(lock, std::chrono::seconds{10}, [&] {
      call = take_locked(method);
      return call != nullptr;
    });
    return call;
  }
  // Ends every call that the test has not taken, and from now on each at once.
  void close() {
    {
      const std::lock_guard lock{mutex_};
      closed_ = true;
    }
    while (const auto call = take()) call->cancel();
  }
  std::size_t started() const {
    const std::lock_guard lock{mutex_};
    return started_;
  }

 private:
  std::shared_ptr<Call> take_locked(std::string_view method) {
    const auto found = std::ranges::find_if(
        calls_, [&](const auto& call) { return method.empty() || call->method == method; });
    if (found == calls_.end()) return nullptr;
    auto call = std::move(*found);
    calls_.erase(found);
    return call;
  }

  mutable std::mutex mutex_;
  std::condition_variable started_one_;
  std::deque<std::shared_ptr<Call>> calls_;  // that the test has not taken yet
  std::size_t started_ = 0;
  bool closed_ = false;
};

}  // namespace tempora::pollers
