// Schedules: the server starts workflows at set times.
#pragma once

#include <temporal/api/schedule/v1/message.pb.h>

#include <functional>
#include <tempora/client.hpp>

namespace tempora {

using ScheduleProto = temporal::api::schedule::v1::Schedule;

// What to do when the last run has not ended yet.
enum class OverlapPolicy {
  kSkip,
  kBufferOne,
  kBufferAll,
  kCancelOther,
  kTerminateOther,
  kAllowAll
};

// A calendar rule. Each field is text as in the Temporal CLI: "*", "5", "1-5", "*/10", "mon-fri";
// empty: second, minute and hour 0, the others any.
struct CalendarTimes {
  std::string second, minute, hour, day_of_month, month, year, day_of_week, comment;
};

struct IntervalTimes {
  Duration every{};
  Duration phase{};
};

struct ScheduleSpec {
  std::vector<std::string> cron;  // "0 3 * * *", "@daily"; the server stores them as calendars
  std::vector<CalendarTimes> calendars;
  std::vector<IntervalTimes> intervals;
  std::vector<CalendarTimes> except;
  std::optional<TimePoint> start_time;
  std::optional<TimePoint> end_time;
  Duration jitter{};
  std::string time_zone;  // IANA name; empty: UTC
};

struct Schedule {
  ScheduleSpec spec;
  std::string workflow_type;
  StartOptions start;  // the server appends the time to `id`
  Payloads input;
  OverlapPolicy overlap = OverlapPolicy::kSkip;
  // Runs missed in an outage are made up for only if they are not older. The server's own default
  // is a year.
  Duration catchup_window = std::chrono::minutes{10};
  bool pause_on_failure = false;
  std::string note;
  bool paused = false;
  std::int64_t remaining_actions = 0;  // zero: no limit
  bool trigger_immediately = false;
};

// As on the wire, so that a changed copy written back loses nothing.
struct ScheduleDescription {
  ScheduleProto schedule;
  temporal::api::schedule::v1::ScheduleInfo info;
  std::map<std::string, Payload> memo;
  SearchAttributes search_attributes;
  std::string conflict_token;
};

struct ScheduleEntry {
  std::string id;
  std::string workflow_type;
  std::string note;
  bool paused = false;
};

ScheduleProto to_proto(const Schedule& schedule);

class ScheduleClient {
 public:
  // `kAlreadyExists` if there is one of that id.
  Outcome<void> create(std::string_view id, const Schedule& schedule,
                       const std::map<std::string, Payload>& memo = {},
                       const SearchAttributes& search_attributes = {}) const;
  Outcome<ScheduleDescription> describe(std::string_view id) const;
  // Reads, lets `change` edit, writes if nobody wrote in between, else begins again. `change`
  // returns false to leave it. `search_attributes`, if given, take the place of all that the
  // schedule has; its memo stays.
  Outcome<void> update(std::string_view id, const std::function<bool(ScheduleProto&)>& change,
                       const std::optional<SearchAttributes>& search_attributes = {}) const;
  Outcome<void> trigger(std::string_view id, std::optional<OverlapPolicy> overlap = {}) const;
  Outcome<void> pause(std::string_view id, std::string_view note = {}) const;
  Outcome<void> unpause(std::string_view id, std::string_view note = {}) const;
  // As if the time from `from` to `to` had been lived through now.
  Outcome<void> backfill(std::string_view id, TimePoint from, TimePoint to,
                         OverlapPolicy overlap) const;
  Outcome<void> remove(std::string_view id) const;
  // When it would start workflows between the two, without pauses and limits.
  Outcome<std::vector<TimePoint>> times(std::string_view id, TimePoint from, TimePoint to) const;
  // Eventually consistent.
  Outcome<std::vector<ScheduleEntry>> list(std::string_view query = {}) const;

 private:
  friend class Client;
  Outcome<void> patch(std::string_view id,
                      const temporal::api::schedule::v1::SchedulePatch& patch) const;
  std::shared_ptr<const detail::ClientCore> core_;
};

}  // namespace tempora
