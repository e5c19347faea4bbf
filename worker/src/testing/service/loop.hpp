// The thread of the testing service: the wire that clients and workers see, and the one user of
// `Server`.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>

#include "testing/service/server.hpp"
#include "transport/transport.hpp"
#include "transport/virtual_time.hpp"

namespace tempora::testing {

class Loop final : public Transport, public VirtualTime, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(EnvironmentOptions options) : server_(std::move(options)) {
    thread_ = std::thread{[this] { run(); }};
  }
  ~Loop() override { stop(); }
  void stop();

  std::shared_ptr<PendingCall> start(std::string_view method,
                                     const google::protobuf::Message& request,
                                     google::protobuf::Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override;

  // Runs `work(server)` on the thread, without waiting for it. False once it was stopped.
  bool post(std::function<void(Server&)> work);
  // The same, with its result.
  template <class F>
  auto ask(F work) -> std::invoke_result_t<F&, Server&> {
    using T = std::invoke_result_t<F&, Server&>;
    std::promise<T> promise;
    auto answer = promise.get_future();
    post([&](Server& server) {
      if constexpr (std::is_void_v<T>) {
        work(server);
        promise.set_value();
      } else {
        promise.set_value(work(server));
      }
    });
    return answer.get();
  }

 private:
  void run();

  Server server_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::function<void(Server&)>> inbox_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tempora::testing
