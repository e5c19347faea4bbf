// Failures as our callers see them: an application error whose type is a code of domain/errors.
#pragma once

#include <addrflow/domain/errors.hpp>
#include <string>
#include <tempora/failure.hpp>

namespace addrflow::workflows {

inline tempora::ApplicationError refusal(domain::ErrorCode code, std::string message) {
  return tempora::ApplicationError{std::move(message), std::string{domain::to_string(code)},
                                   !domain::retryable(code)};
}

inline tempora::ApplicationError refusal(
    const domain::FieldError& error, domain::ErrorCode code = domain::ErrorCode::kInvalidArgument) {
  return refusal(code, error.message);
}

// What an activity refused, without the wrapping that says which activity it was; anything else is
// `internal`.
inline tempora::ApplicationError as_refusal(const tempora::Failure& failure) {
  if (const auto* error = tempora::find_application_error(failure)) return *error;
  const tempora::Failure* innermost = &failure;
  while (innermost->cause() != nullptr) innermost = innermost->cause();
  return refusal(domain::ErrorCode::kInternal, innermost->message());
}

}  // namespace addrflow::workflows
