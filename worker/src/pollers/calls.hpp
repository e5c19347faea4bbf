// Calls to the Temporal service as the worker makes them: asynchronous, each owning its messages.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "../transport/methods.hpp"
#include "../transport/retrying_caller.hpp"
#include "../transport/timer_queue.hpp"

namespace tempora::pollers {

// What all calls of one worker share.
struct CallEnvironment {
  CallEnvironment(std::shared_ptr<Transport> transport, const std::string& namespace_)
      : metadata{{"temporal-namespace", namespace_}},
        caller(std::move(transport), metadata),
        timers(std::make_shared<TimerQueue>()) {}

  const std::vector<std::pair<std::string, std::string>> metadata;
  const RetryingCaller caller;
  const std::shared_ptr<TimerQueue> timers;
};

// `done(status, response)` runs exactly once, on a thread that must not be blocked.
template <class Response, class Request, class Done>
void call_retrying(const CallEnvironment& environment, std::string_view method, Request request,
                   const CallPlan& plan, Done done) {
  struct Call {
    Request request;
    Response response;
    Done done;
  };
  auto call = std::make_shared<Call>(std::move(request), Response{}, std::move(done));
  environment.caller.start(method, call->request, &call->response, plan,
                           [call](const CallEnd& end) { call->done(end.status, call->response); });
}

}  // namespace tempora::pollers
