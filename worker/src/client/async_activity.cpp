#include <tempora/async_activity.hpp>

#include "client_core.hpp"

namespace tempora {

using detail::Access;
namespace api = temporal::api::workflowservice::v1;

namespace {

// What the two forms of an answer, by token and by ids, have in common.
struct Named {
  const detail::ClientCore& core;
  std::string_view token, workflow_id, run_id, activity_id;

  template <class Request>
  Request request() const {
    Request request;
    request.set_namespace_(core.namespace_);
    request.set_identity(core.identity);
    if constexpr (requires { request.set_task_token(std::string{}); }) {
      request.set_task_token(std::string{token});
    } else {
      request.set_workflow_id(std::string{workflow_id});
      request.set_run_id(std::string{run_id});
      request.set_activity_id(std::string{activity_id});
    }
    return request;
  }

  template <class Response, class Request, class Fill>
  Outcome<Response> send(std::string_view method, const Fill& fill) const {
    auto message = request<Request>();
    fill(message);
    return core.call<Response>(method, message, subject(), Access::kWrites);
  }

  std::string subject() const {
    return token.empty()
               ? "activity " + std::string{activity_id} + " of " + std::string{workflow_id}
               : "activity by token";
  }
};

template <class T>
Outcome<void> done(const Outcome<T>& answer) {
  if (!answer) return std::unexpected(answer.error());
  return {};
}

template <class T>
Outcome<HeartbeatReply> reply(const Outcome<T>& answer) {
  if (!answer) return std::unexpected(answer.error());
  return HeartbeatReply{.cancel_requested = answer->cancel_requested(),
                        .paused = answer->activity_paused(),
                        .reset = answer->activity_reset()};
}

}  // namespace

Outcome<void> AsyncActivity::complete_payloads(Payloads result) const {
  const Named named{*core_, token_, workflow_id_, run_id_, activity_id_};
  const auto fill = [&](auto& request) { *request.mutable_result() = std::move(result); };
  if (token_.empty()) {
    return done(named.send<api::RespondActivityTaskCompletedByIdResponse,
                           api::RespondActivityTaskCompletedByIdRequest>(
        methods::kActivityCompletedById, fill));
  }
  return done(
      named.send<api::RespondActivityTaskCompletedResponse,
                 api::RespondActivityTaskCompletedRequest>(methods::kActivityTaskCompleted, fill));
}

Outcome<void> AsyncActivity::fail(const std::exception& error) const {
  const Named named{*core_, token_, workflow_id_, run_id_, activity_id_};
  const auto fill = [&](auto& request) { *request.mutable_failure() = to_proto(error); };
  if (token_.empty()) {
    return done(
        named.send<api::RespondActivityTaskFailedByIdResponse,
                   api::RespondActivityTaskFailedByIdRequest>(methods::kActivityFailedById, fill));
  }
  return done(
      named.send<api::RespondActivityTaskFailedResponse, api::RespondActivityTaskFailedRequest>(
          methods::kActivityTaskFailed, fill));
}

Outcome<void> AsyncActivity::cancel_payloads(Payloads details) const {
  const Named named{*core_, token_, workflow_id_, run_id_, activity_id_};
  const auto fill = [&](auto& request) { *request.mutable_details() = std::move(details); };
  if (token_.empty()) {
    return done(named.send<api::RespondActivityTaskCanceledByIdResponse,
                           api::RespondActivityTaskCanceledByIdRequest>(
        methods::kActivityCanceledById, fill));
  }
  return done(
      named.send<api::RespondActivityTaskCanceledResponse, api::RespondActivityTaskCanceledRequest>(
          methods::kActivityTaskCanceled, fill));
}

Outcome<HeartbeatReply> AsyncActivity::heartbeat_payloads(Payloads details) const {
  const Named named{*core_, token_, workflow_id_, run_id_, activity_id_};
  const auto fill = [&](auto& request) { *request.mutable_details() = std::move(details); };
  if (token_.empty()) {
    return reply(named.send<api::RecordActivityTaskHeartbeatByIdResponse,
                            api::RecordActivityTaskHeartbeatByIdRequest>(
        methods::kActivityHeartbeatById, fill));
  }
  return reply(
      named.send<api::RecordActivityTaskHeartbeatResponse, api::RecordActivityTaskHeartbeatRequest>(
          methods::kActivityHeartbeat, fill));
}

AsyncActivity Client::async_activity(std::string task_token) const {
  AsyncActivity activity;
  activity.core_ = core_;
  activity.token_ = std::move(task_token);
  return activity;
}

AsyncActivity Client::async_activity(std::string workflow_id, std::string run_id,
                                     std::string activity_id) const {
  AsyncActivity activity;
  activity.core_ = core_;
  activity.workflow_id_ = std::move(workflow_id);
  activity.run_id_ = std::move(run_id);
  activity.activity_id_ = std::move(activity_id);
  return activity;
}

}  // namespace tempora
