#include "testing/service/loop.hpp"

#include <string>

namespace tempora::testing {

void Loop::stop() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool Loop::post(std::function<void(Server&)> work) {
  {
    const std::lock_guard lock{mutex_};
    if (stopping_) return false;
    inbox_.push_back(std::move(work));
  }
  work_.notify_one();
  return true;
}

std::shared_ptr<PendingCall> Loop::start(std::string_view method,
                                         const google::protobuf::Message& request,
                                         google::protobuf::Message* response, CallOptions,
                                         std::function<void(CallStatus)> done) {
  // Who cancels holds the call; who holds the call must not keep it alive through itself.
  const auto self = std::make_shared<std::weak_ptr<OpenCall>>();
  const auto call = std::make_shared<OpenCall>(
      request, response, std::move(done), [weak = weak_from_this(), self] {
        const auto loop = weak.lock();
        const auto call = self->lock();
        if (loop != nullptr && call != nullptr)
          loop->post([call](Server& server) { server.cancelled(call); });
      });
  *self = call;
  const bool taken =
      post([name = std::string{method}, call](Server& server) { server.call(name, call); });
  if (!taken) call->refuse(grpc_code::kUnavailable, "the testing service has ended");
  return call;
}

void Loop::run() {
  while (true) {
    std::function<void(Server&)> work;
    {
      std::unique_lock lock{mutex_};
      if (inbox_.empty()) {
        if (stopping_) return server_.end();
        lock.unlock();
        const bool moved = server_.step();
        lock.lock();
        if (moved) continue;
        work_.wait(lock, [this] { return stopping_ || !inbox_.empty(); });
        if (inbox_.empty()) return server_.end();
      }
      work = std::move(inbox_.front());
      inbox_.pop_front();
    }
    work(server_);
  }
}

}  // namespace tempora::testing
