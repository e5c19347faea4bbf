// What all handles of a client share, and how their calls are made.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <tempora/client.hpp>

#include "../transport/methods.hpp"
#include "../transport/retrying_caller.hpp"
#include "error_map.hpp"
#include "intercepted.hpp"

namespace tempora::detail {

namespace api = temporal::api::workflowservice::v1;

// Longer than the server keeps any call waiting, so that it answers first.
inline constexpr std::chrono::milliseconds kLongPollDeadline{70'000};

enum class Access { kReads, kWrites };

// A caller's own time limit; a zero duration is none.
class Limit {
  static constexpr std::chrono::hours kNoLimit{24 * 365};  // what is longer would overflow

 public:
  Limit(CallClock& clock, Duration limit)
      : clock_(clock),
        limited_(limit > Duration::zero()),
        end_(clock.now() + std::min<Duration>(limit, kNoLimit)) {}
  bool over() const { return limited_ && clock_.now() >= end_; }
  std::chrono::milliseconds left(std::chrono::milliseconds at_most) const {
    if (!limited_) return at_most;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - clock_.now());
    return std::clamp(left, std::chrono::milliseconds{1}, at_most);
  }
  // For handing on: zero if there is none.
  Duration left_or_none() const {
    if (!limited_) return Duration::zero();
    return std::max<Duration>(end_ - clock_.now(), std::chrono::milliseconds{1});
  }
  // Attempts and pauses of a call that the server keeps waiting.
  CallPlan long_poll_plan() const {
    return {.attempt_deadline = left(kLongPollDeadline),
            .budget = left(kLongPollDeadline + std::chrono::seconds{30}),
            .max_attempts = 0,
            .retry_deadline_exceeded = true};
  }

 private:
  CallClock& clock_;
  const bool limited_;
  const CallClock::Time end_;
};

ClientError invalid_argument(std::string message, std::string where);

struct ClientCore : std::enable_shared_from_this<ClientCore> {
  ClientCore(std::shared_ptr<Transport> transport, ConnectionOptions given,
             std::shared_ptr<CallClock> clock);

  // An ordinary call.
  template <class Response, class Request>
  Outcome<Response> call(std::string_view method, const Request& request, std::string_view subject,
                         Access access) const {
    return call<Response>(method, request, subject, access, plan());
  }
  template <class Response, class Request>
  Outcome<Response> call(std::string_view method, const Request& request, std::string_view subject,
                         Access access, const CallPlan& plan) const {
    if constexpr (Intercepted<Request>) {
      if (!options.interceptors.empty())
        return call_through<Response>(method, request, subject, access, plan);
    }
    return send<Response>(method, request, subject, access, plan);
  }
  template <class Response, class Request>
  Outcome<Response> send(std::string_view method, const Request& request, std::string_view subject,
                         Access access, const CallPlan& plan) const {
    Response response;
    const CallEnd end = caller.call(method, request, &response, plan);
    if (!end.ok())
      return std::unexpected(to_client_error(end, method, subject, access == Access::kWrites));
    return response;
  }
  // Inside the interceptors.
  template <class Response, class Request>
  Outcome<Response> call_through(std::string_view method, Request request, std::string_view subject,
                                 Access access, const CallPlan& plan) const {
    ClientCall told = to_call(request);
    std::optional<Outcome<Response>> answer;
    const auto made = through(options.interceptors, 0, told, [&]() -> Outcome<void> {
      write_call_headers(told.headers, request);
      answer = send<Response>(method, request, subject, access, plan);
      if (!*answer) return std::unexpected(answer->error());
      return {};
    });
    if (!made) return std::unexpected(made.error());
    if (!answer) {
      return std::unexpected(
          invalid_argument("an interceptor did not make the call", std::string{subject}));
    }
    return std::move(*answer);
  }

  CallPlan plan() const {
    return {.attempt_deadline = options.call_deadline, .budget = options.call_budget};
  }

  WorkflowHandle handle(std::string id, std::string run_id, std::string first_run_id) const;
  // The handle that a start gives; for the two answers that tell what was started.
  template <class Response>
  WorkflowHandle started(std::string id, const Response& response) const {
    std::string first = response.first_execution_run_id();
    // Older servers do not say: a run that was made now is the first of its chain.
    if (first.empty() && response.started()) first = response.run_id();
    WorkflowHandle made = handle(std::move(id), "", std::move(first));
    made.started_run_id_ = response.run_id();
    made.started_ = response.started();
    return made;
  }

  api::UpdateWorkflowExecutionRequest update_request(
      const std::string& workflow_id, const std::string& run_id, const std::string& first_run_id,
      std::string_view name, const std::string& update_id, Payloads input) const;
  // Sends until the update is accepted or, if the request waits for that, the server has waited as
  // long as it does.
  Outcome<UpdateHandle> send_update(const api::UpdateWorkflowExecutionRequest& request,
                                    const Limit& limit) const;
  Outcome<StartedUpdate> send_update_with_start(api::StartWorkflowExecutionRequest start,
                                                const api::UpdateWorkflowExecutionRequest& update,
                                                const Limit& limit) const;
  UpdateHandle update_handle(std::string workflow_id, std::string run_id,
                             std::string update_id) const;
  UpdateHandle sent_update(const api::UpdateWorkflowExecutionRequest& request,
                           const api::UpdateWorkflowExecutionResponse& response) const;

  const ConnectionOptions options;
  const std::string namespace_;
  const std::string identity;
  const RetryingCaller caller;
  ServerInfo server;  // written by connect only
};

// A request about one workflow.
template <class Request>
Request execution_request(const ClientCore& core, const std::string& id,
                          const std::string& run_id) {
  Request request;
  request.set_namespace_(core.namespace_);
  if constexpr (requires { request.set_identity(std::string{}); })
    request.set_identity(core.identity);
  auto* execution = [&] {
    if constexpr (requires { request.mutable_execution(); }) {
      return request.mutable_execution();
    } else {
      return request.mutable_workflow_execution();
    }
  }();
  execution->set_workflow_id(id);
  execution->set_run_id(run_id);
  return request;
}

api::StartWorkflowExecutionRequest start_request(const ClientCore& core, std::string_view type,
                                                 const StartOptions& options, Payloads input);
// A client whose pauses a test can watch.
Client client_on(std::shared_ptr<Transport> transport, ConnectionOptions options,
                 std::shared_ptr<CallClock> clock);
ClientError time_limit(std::string message, std::string where, bool in_doubt);
std::string random_uuid();
// An error that names the field if the options cannot be.
Outcome<void> check(const StartOptions& options);

}  // namespace tempora::detail
