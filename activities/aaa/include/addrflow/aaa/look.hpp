// What an `aaa_apply` would change, without changing it.
#pragma once

#include <addrflow/v1/lifecycle.pb.h>
#include <addrflow/aaa/database.hpp>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace addrflow::aaa {

// The rows that are there now, "- radreply …", and those that would be, "+ radreply …", of the
// wish's username and former ones; of rows that stay only groups of somebody else are named,
// "= radusergroup …". In one read-only snapshot. A
// username that belongs to another service throws `std::invalid_argument`, as the effect would be
// refused. `seen` are the rows that earlier looks of the same plan supposed, by username; they are
// brought up to date.
using SupposedRows = std::map<std::string, std::vector<std::string>>;
std::vector<std::string> look(Database& database, const v1::ServiceRef& service,
                              const nlohmann::json& wish, SupposedRows& seen);

}  // namespace addrflow::aaa
