// A transport between worker and server: counts calls, shows each request, fails some on demand.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "../src/transport/transport.hpp"

namespace tempora::behaviour {

class BetweenTransport : public Transport, public std::enable_shared_from_this<BetweenTransport> {
 public:
  using Message = google::protobuf::Message;
  explicit BetweenTransport(std::shared_ptr<Transport> below) : below_(std::move(below)) {}

  std::shared_ptr<PendingCall> start(std::string_view method, const Message& request,
                                     Message* response, CallOptions options,
                                     std::function<void(CallStatus)> done) override {
    const std::string name{method.substr(method.rfind('/') + 1)};
    const bool poll = name.starts_with("Poll");
    if (const std::optional<CallStatus> refused = refusal(name)) {
      count(refused_, name);
      done(*refused);
      return std::make_shared<NothingPending>();
    }
    if (on_request) on_request(request);
    // An answer that is lost on its way back: the server has done what it was asked.
    const bool lose_answer =
        name == "RespondWorkflowTaskCompleted" && lose_completions > 0 && lose_completions-- > 0;
    return below_->start(method, request, response, std::move(options),
                         [self = shared_from_this(), name, poll, response, lose_answer,
                          done = std::move(done)](CallStatus status) {
                           // A poll counts if it brought a task: an idle one costs a call a minute.
                           const bool brought = status.ok() && response->ByteSizeLong() > 0;
                           if (!poll || brought) self->count(self->calls_, name);
                           // What was asked before the connection broke is answered to nobody.
                           if (self->down) {
                             response->Clear();
                             return done(no_connection());
                           }
                           if (brought && self->on_answer) self->on_answer(*response);
                           if (lose_answer) {
                             response->Clear();
                             status = CallStatus{
                                 .code = 4, .message = "scripted: answer lost", .details = {}};
                           }
                           done(std::move(status));
                         });
  }

  std::map<std::string, int> calls() { return copy_of(calls_); }
  std::map<std::string, int> refused() { return copy_of(refused_); }

  std::atomic<bool> down{false};
  std::atomic<int> lose_completions{0};
  // Set before the first call, called from many threads. `refuse`: what a call of that name is
  // answered with instead of being sent.
  std::function<std::optional<CallStatus>(const std::string& name)> refuse;
  std::function<void(const Message& request)> on_request;
  std::function<void(const Message& answer)> on_answer;

 private:
  struct NothingPending : PendingCall {
    void cancel() override {}
  };
  using Counts = std::map<std::string, int>;

  static CallStatus no_connection() {
    return {.code = 14, .message = "scripted: no connection", .details = {}};
  }
  std::optional<CallStatus> refusal(const std::string& name) const {
    if (down) return no_connection();
    return refuse ? refuse(name) : std::nullopt;
  }
  void count(Counts& counts, const std::string& name) {
    const std::lock_guard lock{mutex_};
    ++counts[name];
  }
  Counts copy_of(const Counts& counts) {
    const std::lock_guard lock{mutex_};
    return counts;
  }

  const std::shared_ptr<Transport> below_;
  std::mutex mutex_;
  Counts calls_;
  Counts refused_;
};

}  // namespace tempora::behaviour
