// The fields that every kind of start has in common.
#pragma once

#include <google/protobuf/util/time_util.h>
#include <temporal/api/common/v1/message.pb.h>
#include <temporal/api/workflow/v1/message.pb.h>

#include <string>
#include <string_view>
#include <tempora/client.hpp>

namespace tempora::detail {

inline google::protobuf::Duration to_proto_duration(Duration duration) {
  return google::protobuf::util::TimeUtil::NanosecondsToDuration(duration.count());
}

void write_retry(const RetryPolicy& policy, temporal::api::common::v1::RetryPolicy* proto);
void write_priority(const Priority& priority, temporal::api::common::v1::Priority* proto);
Outcome<void> check(const VersioningOverride& wanted, const std::string& where);
void write_versioning(const VersioningOverride& wanted,
                      temporal::api::workflow::v1::VersioningOverride* proto);

inline void write_memo(const std::map<std::string, Payload>& memo,
                       temporal::api::common::v1::Memo* proto) {
  for (const auto& [name, payload] : memo) (*proto->mutable_fields())[name] = payload;
}

// What StartWorkflowExecution, SignalWithStartWorkflowExecution and a schedule's action share.
template <class Proto>
void write_start(std::string_view type, const StartOptions& options, Payloads input, Proto& proto) {
  proto.set_workflow_id(options.id);
  proto.mutable_workflow_type()->set_name(std::string{type});
  proto.mutable_task_queue()->set_name(options.task_queue);
  if (input.payloads_size() > 0) *proto.mutable_input() = std::move(input);
  if (options.execution_timeout > Duration::zero()) {
    *proto.mutable_workflow_execution_timeout() = to_proto_duration(options.execution_timeout);
  }
  if (options.run_timeout > Duration::zero()) {
    *proto.mutable_workflow_run_timeout() = to_proto_duration(options.run_timeout);
  }
  if (options.task_timeout > Duration::zero()) {
    *proto.mutable_workflow_task_timeout() = to_proto_duration(options.task_timeout);
  }
  if (options.retry) write_retry(*options.retry, proto.mutable_retry_policy());
  proto.set_cron_schedule(options.cron);
  proto.set_workflow_id_reuse_policy(static_cast<temporal::api::enums::v1::WorkflowIdReusePolicy>(
      static_cast<int>(options.reuse) + 1));
  if (!options.memo.empty()) write_memo(options.memo, proto.mutable_memo());
  if (!options.search_attributes.empty())
    options.search_attributes.write(proto.mutable_search_attributes());
  write_priority(options.priority, proto.mutable_priority());
  if (options.versioning)
    write_versioning(*options.versioning, proto.mutable_versioning_override());
  if (!options.summary.empty()) {
    *proto.mutable_user_metadata()->mutable_summary() =
        PayloadCodec<std::string>::encode(options.summary);
  }
  if (!options.details.empty()) {
    *proto.mutable_user_metadata()->mutable_details() =
        PayloadCodec<std::string>::encode(options.details);
  }
}

}  // namespace tempora::detail
