#include "temporal.hpp"

#include <addrflow/v1/provision.pb.h>
#include <addrflow/catalog/payload.hpp>
#include <tempora/profile.hpp>

namespace addrflow::cli {

tempora::Outcome<tempora::Client> connect_temporal(std::shared_ptr<tempora::Metrics> metrics) {
  auto options = tempora::load_connection_options();
  if (!options) {
    return std::unexpected(options.error());
  }
  options->metrics = std::move(metrics);
  return tempora::Client::connect(*std::move(options));
}

Exit report(const Output& output, const tempora::ClientError& error) {
  if (const tempora::ApplicationError* refusal = error.application_error()) {
    // A composition that began, and undid what it did, says so in its first detail.
    if (refusal->details().payloads_size() > 0) {
      try {
        return output.result(
            tempora::PayloadCodec<v1::CompositionResult>::decode(refusal->details().payloads(0)));
      } catch (const tempora::PayloadError&) {
        // Not one of ours: the message says what there is to say.
      }
    }
    return output.fail(Exit::kRefused, refusal->type(), refusal->message());
  }
  switch (error.code) {
    case tempora::ErrorCode::kConfiguration:
      return output.fail(Exit::kUsage, to_string(error.code), error.text());
    case tempora::ErrorCode::kWorkflowFailed:
    case tempora::ErrorCode::kWorkflowCanceled:
    case tempora::ErrorCode::kWorkflowTerminated:
    case tempora::ErrorCode::kUpdateFailed:
    case tempora::ErrorCode::kInvalidArgument:
    case tempora::ErrorCode::kNotFound:
    case tempora::ErrorCode::kAlreadyStarted:
    case tempora::ErrorCode::kAlreadyExists:
      return output.fail(Exit::kRefused, to_string(error.code), error.text());
    default: return output.fail(Exit::kUnknown, to_string(error.code), error.text());
  }
}

}  // namespace addrflow::cli
