// Options that commands of several kinds share.
#pragma once

#include <temporal/api/common/v1/message.pb.h>
#include <temporal/api/sdk/v1/user_metadata.pb.h>

#include <string>
#include <tempora/activity_type.hpp>
#include <tempora/payload.hpp>

#include "converter/time.hpp"

namespace tempora {

inline void write(const RetryPolicy& policy, temporal::api::common::v1::RetryPolicy* proto) {
  write(policy.initial_interval, proto->mutable_initial_interval());
  proto->set_backoff_coefficient(policy.backoff_coefficient);
  if (policy.maximum_interval > Duration{})
    write(policy.maximum_interval, proto->mutable_maximum_interval());
  proto->set_maximum_attempts(policy.maximum_attempts);
  for (const std::string& type : policy.non_retryable_error_types)
    proto->add_non_retryable_error_types(type);
}

inline bool is_set(const Priority& priority) {
  return priority.key != 0 || !priority.fairness_key.empty() || priority.fairness_weight != 0;
}

inline void write(const Priority& priority, temporal::api::common::v1::Priority* proto) {
  proto->set_priority_key(priority.key);
  proto->set_fairness_key(priority.fairness_key);
  proto->set_fairness_weight(priority.fairness_weight);
}

// What Temporal's UI shows beside a command.
template <class Command>
void write_metadata(const std::string& summary, const std::string& details, Command& command) {
  if (!summary.empty()) {
    *command.mutable_user_metadata()->mutable_summary() =
        PayloadCodec<std::string>::encode(summary);
  }
  if (!details.empty()) {
    *command.mutable_user_metadata()->mutable_details() =
        PayloadCodec<std::string>::encode(details);
  }
}

}  // namespace tempora
