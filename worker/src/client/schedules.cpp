#include <google/protobuf/util/time_util.h>

#include <tempora/schedule.hpp>

#include "client_core.hpp"
#include "describe.hpp"
#include "start_request.hpp"

namespace tempora {

using detail::Access;
namespace api = temporal::api::workflowservice::v1;
namespace enums = temporal::api::enums::v1;
namespace wire = temporal::api::schedule::v1;

namespace {

constexpr int kMaxUpdateTries = 10;  // somebody else wrote in between so often
constexpr int kMaxPages = 1'000;

enums::ScheduleOverlapPolicy to_wire(OverlapPolicy policy) {
  return static_cast<enums::ScheduleOverlapPolicy>(static_cast<int>(policy) + 1);
}

google::protobuf::Timestamp to_timestamp(TimePoint time) {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(time.time_since_epoch().count());
}

void write_calendar(const CalendarTimes& times, wire::CalendarSpec* calendar) {
  calendar->set_second(times.second);
  calendar->set_minute(times.minute);
  calendar->set_hour(times.hour);
  calendar->set_day_of_month(times.day_of_month);
  calendar->set_month(times.month);
  calendar->set_year(times.year);
  calendar->set_day_of_week(times.day_of_week);
  calendar->set_comment(times.comment);
}

void write_spec(const ScheduleSpec& spec, wire::ScheduleSpec* proto) {
  for (const std::string& cron : spec.cron) proto->add_cron_string(cron);
  for (const CalendarTimes& times : spec.calendars) write_calendar(times, proto->add_calendar());
// Deprecated for its structured twin, which would take a parser here; the server turns the one into
// the other.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  for (const CalendarTimes& times : spec.except)
    write_calendar(times, proto->add_exclude_calendar());
#pragma GCC diagnostic pop
  for (const IntervalTimes& times : spec.intervals) {
    auto* interval = proto->add_interval();
    *interval->mutable_interval() = detail::to_proto_duration(times.every);
    if (times.phase > Duration::zero())
      *interval->mutable_phase() = detail::to_proto_duration(times.phase);
  }
  if (spec.start_time) *proto->mutable_start_time() = to_timestamp(*spec.start_time);
  if (spec.end_time) *proto->mutable_end_time() = to_timestamp(*spec.end_time);
  if (spec.jitter > Duration::zero())
    *proto->mutable_jitter() = detail::to_proto_duration(spec.jitter);
  proto->set_timezone_name(spec.time_zone);
}

template <class Request>
Request request_for(const detail::ClientCore& core, std::string_view id) {
  Request request;
  request.set_namespace_(core.namespace_);
  request.set_schedule_id(std::string{id});
  if constexpr (requires { request.set_identity(core.identity); })
    request.set_identity(core.identity);
  if constexpr (requires { request.set_request_id(""); })
    request.set_request_id(detail::random_uuid());
  return request;
}

ClientError invalid(std::string message, std::string_view id) {
  ClientError error;
  error.code = ErrorCode::kInvalidArgument;
  error.message = std::move(message);
  error.where = "schedule " + std::string{id};
  return error;
}

Outcome<void> check(std::string_view id, const Schedule& schedule) {
  if (id.empty()) return std::unexpected(invalid("id: must not be empty", id));
  if (schedule.workflow_type.empty())
    return std::unexpected(invalid("workflow_type: must not be empty", id));
  for (const IntervalTimes& times : schedule.spec.intervals) {
    if (times.every < std::chrono::seconds{1}) {
      return std::unexpected(invalid("spec.intervals.every: must be a second or more", id));
    }
    if (times.phase < Duration::zero() || times.phase >= times.every) {
      return std::unexpected(invalid("spec.intervals.phase: must be less than every", id));
    }
  }
  if (schedule.catchup_window < std::chrono::seconds{10}) {
    return std::unexpected(invalid("catchup_window: must be 10 s or more", id));
  }
  auto checked = detail::check(schedule.start);
  if (!checked) checked.error().message = "start." + checked.error().message;
  return checked;
}

// Another writer was quicker; the server says so by the token.
bool is_conflict(const ClientError& error) {
  return error.grpc_code == grpc_code::kFailedPrecondition ||
         error.grpc_code == grpc_code::kAborted ||
         error.message.find("mismatched conflict token") != std::string::npos;
}

}  // namespace

ScheduleProto to_proto(const Schedule& schedule) {
  ScheduleProto proto;
  write_spec(schedule.spec, proto.mutable_spec());
  detail::write_start(schedule.workflow_type, schedule.start, schedule.input,
                      *proto.mutable_action()->mutable_start_workflow());
  // Each run has an id of its own: a reuse policy means nothing.
  proto.mutable_action()->mutable_start_workflow()->clear_workflow_id_reuse_policy();
  auto* policies = proto.mutable_policies();
  policies->set_overlap_policy(to_wire(schedule.overlap));
  *policies->mutable_catchup_window() = detail::to_proto_duration(schedule.catchup_window);
  policies->set_pause_on_failure(schedule.pause_on_failure);
  auto* state = proto.mutable_state();
  state->set_notes(schedule.note);
  state->set_paused(schedule.paused);
  state->set_limited_actions(schedule.remaining_actions > 0);
  state->set_remaining_actions(schedule.remaining_actions);
  return proto;
}

Outcome<void> ScheduleClient::create(std::string_view id, const Schedule& schedule,
                                     const std::map<std::string, Payload>& memo,
                                     const SearchAttributes& search_attributes) const {
  if (auto checked = check(id, schedule); !checked) return checked;
  auto request = request_for<api::CreateScheduleRequest>(*core_, id);
  *request.mutable_schedule() = to_proto(schedule);
  if (schedule.trigger_immediately) {
    request.mutable_initial_patch()->mutable_trigger_immediately()->set_overlap_policy(
        to_wire(schedule.overlap));
  }
  if (!memo.empty()) detail::write_memo(memo, request.mutable_memo());
  if (!search_attributes.empty()) search_attributes.write(request.mutable_search_attributes());
  auto response = core_->call<api::CreateScheduleResponse>(methods::kCreateSchedule, request, id,
                                                           Access::kWrites);
  if (response) return {};
  // The server keeps a schedule in a workflow and says so.
  if (response.error().code == ErrorCode::kAlreadyStarted)
    response.error().code = ErrorCode::kAlreadyExists;
  return std::unexpected(std::move(response.error()));
}

Outcome<ScheduleDescription> ScheduleClient::describe(std::string_view id) const {
  const auto request = request_for<api::DescribeScheduleRequest>(*core_, id);
  auto response = core_->call<api::DescribeScheduleResponse>(methods::kDescribeSchedule, request,
                                                             id, Access::kReads);
  if (!response) return std::unexpected(std::move(response.error()));
  return ScheduleDescription{
      .schedule = std::move(*response->mutable_schedule()),
      .info = std::move(*response->mutable_info()),
      .memo = {response->memo().fields().begin(), response->memo().fields().end()},
      .search_attributes = SearchAttributes{response->search_attributes()},
      .conflict_token = std::move(*response->mutable_conflict_token())};
}

Outcome<void> ScheduleClient::update(
    std::string_view id, const std::function<bool(ScheduleProto&)>& change,
    const std::optional<SearchAttributes>& search_attributes) const {
  for (int tries = 1;; ++tries) {
    auto current = describe(id);
    if (!current) return std::unexpected(std::move(current.error()));
    if (!change(current->schedule)) return {};
    auto request = request_for<api::UpdateScheduleRequest>(*core_, id);
    *request.mutable_schedule() = std::move(current->schedule);
    request.set_conflict_token(std::move(current->conflict_token));
    // Also if there are none: without the field the server leaves them.
    if (search_attributes) search_attributes->write(request.mutable_search_attributes());
    auto response = core_->call<api::UpdateScheduleResponse>(methods::kUpdateSchedule, request, id,
                                                             Access::kWrites);
    if (response) return {};
    if (!is_conflict(response.error()) || tries == kMaxUpdateTries)
      return std::unexpected(std::move(response.error()));
    core_->caller.clock().sleep_for(pause_after(tries, CallStatus{}));
  }
}

Outcome<void> ScheduleClient::patch(std::string_view id, const wire::SchedulePatch& patch) const {
  auto request = request_for<api::PatchScheduleRequest>(*core_, id);
  *request.mutable_patch() = patch;
  auto response = core_->call<api::PatchScheduleResponse>(methods::kPatchSchedule, request, id,
                                                          Access::kWrites);
  if (!response) return std::unexpected(std::move(response.error()));
  return {};
}

Outcome<void> ScheduleClient::trigger(std::string_view id,
                                      std::optional<OverlapPolicy> overlap) const {
  wire::SchedulePatch change;
  auto* now = change.mutable_trigger_immediately();
  if (overlap) now->set_overlap_policy(to_wire(*overlap));
  return patch(id, change);
}

Outcome<void> ScheduleClient::pause(std::string_view id, std::string_view note) const {
  wire::SchedulePatch change;
  change.set_pause(note.empty() ? "paused"
                                : std::string{note});  // an empty note would change nothing
  return patch(id, change);
}

Outcome<void> ScheduleClient::unpause(std::string_view id, std::string_view note) const {
  wire::SchedulePatch change;
  change.set_unpause(note.empty() ? "unpaused" : std::string{note});
  return patch(id, change);
}

Outcome<void> ScheduleClient::backfill(std::string_view id, TimePoint from, TimePoint to,
                                       OverlapPolicy overlap) const {
  wire::SchedulePatch change;
  auto* request = change.add_backfill_request();
  *request->mutable_start_time() = to_timestamp(from);
  *request->mutable_end_time() = to_timestamp(to);
  request->set_overlap_policy(to_wire(overlap));
  return patch(id, change);
}

Outcome<void> ScheduleClient::remove(std::string_view id) const {
  const auto request = request_for<api::DeleteScheduleRequest>(*core_, id);
  auto response = core_->call<api::DeleteScheduleResponse>(methods::kDeleteSchedule, request, id,
                                                           Access::kWrites);
  if (!response) return std::unexpected(std::move(response.error()));
  return {};
}

Outcome<std::vector<TimePoint>> ScheduleClient::times(std::string_view id, TimePoint from,
                                                      TimePoint to) const {
  auto request = request_for<api::ListScheduleMatchingTimesRequest>(*core_, id);
  *request.mutable_start_time() = to_timestamp(from);
  *request.mutable_end_time() = to_timestamp(to);
  const auto response = core_->call<api::ListScheduleMatchingTimesResponse>(
      methods::kScheduleTimes, request, id, Access::kReads);
  if (!response) return std::unexpected(response.error());
  std::vector<TimePoint> times;
  for (const auto& time : response->start_time()) times.push_back(detail::to_time(time));
  return times;
}

Outcome<std::vector<ScheduleEntry>> ScheduleClient::list(std::string_view query) const {
  api::ListSchedulesRequest request;
  request.set_namespace_(core_->namespace_);
  request.set_query(std::string{query});
  request.set_maximum_page_size(1000);
  std::vector<ScheduleEntry> entries;
  for (int page = 0; page < kMaxPages; ++page) {
    const auto response = core_->call<api::ListSchedulesResponse>(methods::kListSchedules, request,
                                                                  query, Access::kReads);
    if (!response) return std::unexpected(response.error());
    for (const auto& entry : response->schedules()) {
      entries.push_back({.id = entry.schedule_id(),
                         .workflow_type = entry.info().workflow_type().name(),
                         .note = entry.info().notes(),
                         .paused = entry.info().paused()});
    }
    if (response->next_page_token().empty()) return entries;
    request.set_next_page_token(response->next_page_token());
  }
  return std::unexpected(invalid("query: finds too many schedules", "list"));
}

}  // namespace tempora
