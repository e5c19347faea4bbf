// A call that a client or worker has made and that is not answered yet.
#pragma once

#include <google/protobuf/message.h>
#include <temporal/api/enums/v1/update.pb.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transport/retrying_caller.hpp"

namespace tempora::testing {

// Somebody outside the service who works: an activity, a scheduled action. Time stands still
// meanwhile, except while he himself waits for the service.
struct Busy {
  int waits = 0;
  bool working() const { return waits == 0; }
};

class OpenCall final : public PendingCall {
 public:
  OpenCall(const google::protobuf::Message& request, google::protobuf::Message* response,
           std::function<void(CallStatus)> done, std::function<void()> on_cancel)
      : request_(request.New()),
        response_(response),
        done_(std::move(done)),
        on_cancel_(std::move(on_cancel)) {
    request_->CopyFrom(request);
  }

  template <class T>
  const T& request() const {
    return static_cast<const T&>(*request_);
  }
  template <class T>
  T& response() {
    return static_cast<T&>(*response_);
  }
  bool open() const { return done_ != nullptr; }
  void answer() { end(CallStatus{}); }
  void refuse(int code, std::string message, std::string details = {}) {
    end(CallStatus{.code = code, .message = std::move(message), .details = std::move(details)});
  }
  void cancel() override { on_cancel_(); }

  std::vector<std::shared_ptr<Busy>> waiting_for_me;  // they wait with this call
  // For the calls that wait for an update: which response they expect, and for which stage.
  enum class UpdateCall { kUpdate, kPoll, kWithStart } update_call = UpdateCall::kUpdate;
  temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage update_stage{};
  std::string history_run;  // of a call that waits for events: the run

 private:
  void end(CallStatus status) {
    if (done_ == nullptr) return;
    for (const auto& busy : waiting_for_me) --busy->waits;
    waiting_for_me.clear();
    std::exchange(done_, nullptr)(std::move(status));
  }

  std::unique_ptr<google::protobuf::Message> request_;
  google::protobuf::Message* response_;
  std::function<void(CallStatus)> done_;
  std::function<void()> on_cancel_;
};

using CallPtr = std::shared_ptr<OpenCall>;

}  // namespace tempora::testing
