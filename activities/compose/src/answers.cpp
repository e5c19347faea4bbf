#include "answers.hpp"

#include <addrflow/catalog/payload.hpp>
#include <addrflow/domain/errors.hpp>

namespace addrflow::compose {

using tempora::ApplicationError;
using tempora::ClientError;
using tempora::ErrorCode;

std::optional<v1::LifecycleResult> refusal_in(const ClientError& error,
                                              const std::string& operation) {
  if (error.code != ErrorCode::kUpdateFailed) return std::nullopt;
  const ApplicationError* refused = error.application_error();
  if (refused == nullptr) return std::nullopt;
  const auto code = domain::parse_error_code(refused->type());
  // A workflow that closed under the update, or a bug on the other side: the next run may do
  // better.
  if (!code || domain::retryable(*code)) return std::nullopt;
  v1::LifecycleResult result;
  result.set_success(false);
  result.set_code(refused->type());
  result.set_message(refused->message());
  result.set_operation(operation);
  return result;
}

namespace {

// A composition that failed carries its result as the first detail.
std::optional<v1::CompositionResult> failed_result(const ClientError& error) {
  const ApplicationError* failed = error.application_error();
  if (failed == nullptr) return std::nullopt;
  try {
    return failed->detail<v1::CompositionResult>();
  } catch (const tempora::PayloadError&) {
    return std::nullopt;
  }
}

}  // namespace

std::optional<v1::ComposeWaitReply> end_in(const ClientError& error) {
  v1::ComposeWaitReply reply;
  reply.set_closed(true);
  switch (error.code) {
    case ErrorCode::kWorkflowFailed:
      reply.set_status("failed");
      if (auto result = failed_result(error)) *reply.mutable_result() = *std::move(result);
      return reply;
    case ErrorCode::kWorkflowCanceled: reply.set_status("canceled"); return reply;
    case ErrorCode::kWorkflowTerminated: reply.set_status("terminated"); return reply;
    case ErrorCode::kWorkflowTimedOut: reply.set_status("timed_out"); return reply;
    case ErrorCode::kNotFound: reply.set_status("not_found"); return reply;
    default: return std::nullopt;
  }
}

}  // namespace addrflow::compose
