// Failures that their thrower expects: told to the caller like any other, but no alarm.
#pragma once

#include <temporal/api/failure/v1/message.pb.h>

namespace tempora {

inline bool is_benign(const temporal::api::failure::v1::Failure& failure) {
  return failure.application_failure_info().category() ==
         temporal::api::enums::v1::APPLICATION_ERROR_CATEGORY_BENIGN;
}

}  // namespace tempora
