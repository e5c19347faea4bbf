// The requests that carry headers, as interceptors see them.
#pragma once

#include <temporal/api/workflowservice/v1/request_response.pb.h>

#include "../interceptor/chain.hpp"

namespace tempora::detail {

using HeaderProto = temporal::api::common::v1::Header;

// Overloads for the six kinds; anything else is passed by.
inline HeaderProto* header_of(
    temporal::api::workflowservice::v1::StartWorkflowExecutionRequest& request) {
  return request.mutable_header();
}
inline HeaderProto* header_of(
    temporal::api::workflowservice::v1::SignalWithStartWorkflowExecutionRequest& request) {
  return request.mutable_header();
}
inline HeaderProto* header_of(
    temporal::api::workflowservice::v1::SignalWorkflowExecutionRequest& request) {
  return request.mutable_header();
}
inline HeaderProto* header_of(temporal::api::workflowservice::v1::QueryWorkflowRequest& request) {
  return request.mutable_query()->mutable_header();
}
inline HeaderProto* header_of(
    temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest& request) {
  return request.mutable_request()->mutable_input()->mutable_header();
}
// Of its start.
inline HeaderProto* header_of(
    temporal::api::workflowservice::v1::ExecuteMultiOperationRequest& request) {
  return header_of(*request.mutable_operations(0)->mutable_start_workflow());
}

// The two operations of an update-with-start get the same.
template <class Request>
void write_call_headers(const Headers& headers, Request& request) {
  write_headers(headers, header_of(request));
  if constexpr (requires { request.mutable_operations(1); })
    write_headers(headers, header_of(*request.mutable_operations(1)->mutable_update_workflow()));
}

template <class Request>
concept Intercepted = requires(Request& request) { header_of(request); };

inline ClientCall to_call(
    const temporal::api::workflowservice::v1::StartWorkflowExecutionRequest& request) {
  return {.kind = ClientCall::Kind::kStart,
          .workflow_id = request.workflow_id(),
          .name = request.workflow_type().name()};
}
inline ClientCall to_call(
    const temporal::api::workflowservice::v1::SignalWithStartWorkflowExecutionRequest& request) {
  return {.kind = ClientCall::Kind::kSignalWithStart,
          .workflow_id = request.workflow_id(),
          .name = request.signal_name()};
}
inline ClientCall to_call(
    const temporal::api::workflowservice::v1::SignalWorkflowExecutionRequest& request) {
  return {.kind = ClientCall::Kind::kSignal,
          .workflow_id = request.workflow_execution().workflow_id(),
          .name = request.signal_name()};
}
inline ClientCall to_call(const temporal::api::workflowservice::v1::QueryWorkflowRequest& request) {
  return {.kind = ClientCall::Kind::kQuery,
          .workflow_id = request.execution().workflow_id(),
          .name = request.query().query_type()};
}
inline ClientCall to_call(
    const temporal::api::workflowservice::v1::UpdateWorkflowExecutionRequest& request) {
  return {.kind = ClientCall::Kind::kUpdate,
          .workflow_id = request.workflow_execution().workflow_id(),
          .name = request.request().input().name()};
}
inline ClientCall to_call(
    const temporal::api::workflowservice::v1::ExecuteMultiOperationRequest& request) {
  ClientCall call = to_call(request.operations(1).update_workflow());
  call.kind = ClientCall::Kind::kUpdateWithStart;
  return call;
}

}  // namespace tempora::detail
