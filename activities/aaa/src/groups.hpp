// Which place our groups of a user take among those that somebody else gave the user.
#pragma once

#include <addrflow/aaa/settings.hpp>

#include <cstdint>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <vector>

namespace addrflow::aaa {

// rlm_sql reads a user's groups by priority and stops at the first one that lets the user in,
// unless its replies say Fall-Through = Yes. So a group of somebody else (of the platform that was
// taken over, say) that stands before ours, or beside it, would count instead. The suspended group
// goes before all of those; so does the plan's, where AAA knows that plan. A line that nobody has
// given a plan keeps the group that it has.
struct GroupPlaces {
  std::int64_t suspended = 0;  // priorities
  std::int64_t plan = 0;
  std::vector<std::string> foreign;  // "gold priority 0 (after ours)"
};

// `former_plan` is the plan's group that we wrote there last; empty: none.
GroupPlaces group_places(pqxx::transaction_base& tx, const Settings& settings,
                         const std::string& username, const std::string& former_plan,
                         const std::string& plan, bool restricted);

// SQL: whether rlm_sql reads on after this group.
std::string falls_through(std::string_view group);

}  // namespace addrflow::aaa
