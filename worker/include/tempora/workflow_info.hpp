// What a workflow knows about itself. All of it is the same on replay.
#pragma once

#include <temporal/api/common/v1/message.pb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tempora/payload.hpp>
#include <tempora/search_attributes.hpp>
#include <tempora/time.hpp>

namespace tempora {

struct ParentInfo {
  std::string namespace_;
  std::string workflow_id;
  std::string run_id;
};

struct WorkflowInfo {
  std::string workflow_id;
  std::string run_id;
  std::string first_execution_run_id;  // the same along a chain of continue-as-new, retry and cron
  std::string original_execution_run_id;  // the run before a reset
  std::string continued_run_id;           // the run that continued as this one; empty if none
  std::string workflow_type;
  std::string task_queue;
  std::string namespace_;
  int attempt = 1;
  TimePoint start_time{};
  Duration execution_timeout{};  // zero: none
  Duration run_timeout{};        // zero: none
  Duration task_timeout{};
  std::optional<ParentInfo> parent;
  std::string cron_schedule;
  std::int64_t history_length = 0;      // of the task in hand
  std::int64_t history_size_bytes = 0;  // as the server told
  bool suggest_continue_as_new = false;
  SearchAttributes search_attributes;   // with the changes made by this run
  std::map<std::string, Payload> memo;  // with the changes made by this run
};

}  // namespace tempora
