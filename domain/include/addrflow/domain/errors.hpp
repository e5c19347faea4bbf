// The one list of error codes: in results (`code`), as types of application failures, in the API
// and in metrics.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace addrflow::domain {

enum class ErrorCode {
  kOk,
  kInvalidArgument,
  kIllegalTransition,
  kNotFound,
  kConflict,
  kKeyReused,
  kGenerationMismatch,
  kNoSuchTenant,
  kNoSuchPool,
  kAmbiguousPool,
  kPoolExhausted,
  kAddressOutsidePool,
  kAddressTaken,
  kWrongAssignmentMode,
  kUnknownNas,
  kUsernameTaken,
  kSuperseded,
  kGaveUp,
  kNetboxConflict,
  kNetboxFailed,
  kCoaFailed,
  kAaaFailed,
  kUnsupported,
  kUnavailable,
  kInternal,
  kLedgerRestored,
};

struct ErrorInfo {
  ErrorCode code;
  std::string_view name;     // what travels
  std::string_view message;  // the general text; a concrete error says more and names the field
  // The same request may succeed later without anybody changing anything. Failures of other codes
  // are not retried: activities throw them as non-retryable.
  bool retryable;
};

std::span<const ErrorInfo> all_errors();
const ErrorInfo& info(ErrorCode code);
std::string_view to_string(ErrorCode code);
std::optional<ErrorCode> parse_error_code(std::string_view name);
bool retryable(ErrorCode code);

// An argument that was refused, and why. `message` begins with the field's name.
struct FieldError {
  std::string field;
  std::string message;
};

}  // namespace addrflow::domain
