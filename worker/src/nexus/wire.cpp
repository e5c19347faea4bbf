#include "wire.hpp"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace tempora::nexus {

namespace {

constexpr std::size_t kLongestTimeout = 64;
constexpr double kMostSeconds = 365.0 * 24 * 3600;

std::optional<double> seconds_in(std::string_view unit) {
  if (unit == "h") return 3600.0;
  if (unit == "m") return 60.0;
  if (unit == "s") return 1.0;
  if (unit == "ms") return 1e-3;
  if (unit == "us" || unit == "\u00b5s" || unit == "\u03bcs") return 1e-6;
  if (unit == "ns") return 1e-9;
  return std::nullopt;
}

}  // namespace

temporal::api::nexus::v1::Failure wrap(FailureProto failure) {
  temporal::api::nexus::v1::Failure wrapped;
  wrapped.set_message(failure.message());
  failure.clear_message();
  (*wrapped.mutable_metadata())["type"] = FailureProto::descriptor()->full_name();
  std::string json;
  if (google::protobuf::util::MessageToJsonString(failure, &json).ok()) wrapped.set_details(json);
  return wrapped;
}

// The fields for older servers are marked as deprecated.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
void write_failure(FailureProto failure, bool as_it_is,
                   temporal::api::nexus::v1::StartOperationResponse& response) {
  if (as_it_is) {
    *response.mutable_failure() = std::move(failure);
    return;
  }
  auto& error = *response.mutable_operation_error();
  error.set_operation_state(failure.has_canceled_failure_info() ? "canceled" : "failed");
  *error.mutable_failure() = wrap(std::move(failure));
}

void write_failure(FailureProto failure, bool as_it_is,
                   temporal::api::workflowservice::v1::RespondNexusTaskFailedRequest& request) {
  if (as_it_is) {
    *request.mutable_failure() = std::move(failure);
    return;
  }
  auto& error = *request.mutable_error();
  error.set_error_type(failure.nexus_handler_failure_info().type());
  error.set_retry_behavior(failure.nexus_handler_failure_info().retry_behavior());
  *error.mutable_failure() = wrap(std::move(failure));
}
#pragma GCC diagnostic pop

std::optional<Duration> read_timeout(std::string_view text) {
  if (text.empty() || text.size() > kLongestTimeout) return std::nullopt;
  const bool over = text.front() == '-';
  if (over || text.front() == '+') text.remove_prefix(1);
  double seconds = 0;
  while (!text.empty()) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    const std::size_t unit_end = std::min(text.find_first_of("0123456789.", digits), text.size());
    const auto unit = seconds_in(text.substr(digits, unit_end - digits));
    if (digits == 0 || !unit) return std::nullopt;
    seconds += std::strtod(std::string{text.substr(0, digits)}.c_str(), nullptr) * *unit;
    text.remove_prefix(unit_end);
  }
  if (over) return Duration::zero();
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>{std::min(seconds, kMostSeconds)});
}

}  // namespace tempora::nexus
