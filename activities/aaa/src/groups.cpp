#include "groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace addrflow::aaa {
namespace {

// The plan, as the ledger says it, of a line that nobody has given one.
constexpr std::string_view kNoPlan = "default";

// A group without rows says nothing, but rlm_sql would stop there.
bool has_rows(pqxx::transaction_base& tx, const std::string& group) {
  return tx
      .exec_params1(
          "select exists (select 1 from radgroupreply where groupname = $1)"
          " or exists (select 1 from radgroupcheck where groupname = $1)",
          group)[0]
      .as<bool>();
}

}  // namespace

std::string falls_through(std::string_view group) {
  return fmt::format(
      "exists (select 1 from radgroupreply through where through.groupname = {}"
      " and through.attribute = 'Fall-Through' and lower(through.value) in ('yes', '1'))",
      group);
}

GroupPlaces group_places(pqxx::transaction_base& tx, const Settings& settings,
                         const std::string& username, const std::string& former_plan,
                         const std::string& plan, bool restricted) {
  const auto rows = tx.exec_params(
      fmt::format("select g.groupname, coalesce(g.priority, 0), {} from radusergroup g"
                  " where g.username = $1 and g.groupname not in ($2, $3, $4) order by 2, 1",
                  falls_through("g.groupname")),
      username, settings.suspended_group, former_plan, plan);
  std::optional<std::int64_t> first;
  std::int64_t last = 0;
  for (const auto& row : rows) {
    if (row[2].as<bool>()) continue;
    last = row[1].as<std::int64_t>();
    if (!first) first = last;
  }
  GroupPlaces places;
  places.plan = settings.plan_priority;
  const bool plan_first = first && plan != kNoPlan && has_rows(tx, plan);
  if (first) {
    places.plan = plan_first ? std::min(places.plan, *first - 1) : std::max(places.plan, last + 1);
  }
  places.suspended = std::min({std::int64_t{0}, places.plan - 1, first.value_or(1) - 1});
  for (const auto& row : rows) {
    const char* how = row[2].as<bool>()          ? "falls through"
                      : plan_first || restricted ? "after ours"
                                                 : "before ours";
    places.foreign.push_back(
        fmt::format("{} priority {} ({})", row[0].c_str(), row[1].c_str(), how));
  }
  return places;
}

}  // namespace addrflow::aaa
