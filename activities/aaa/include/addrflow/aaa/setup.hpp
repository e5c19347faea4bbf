// What addrflow adds to FreeRADIUS' database, and what it needs to find there.
#pragma once

#include <addrflow/aaa/database.hpp>

#include <string>
#include <vector>

namespace addrflow::aaa {

// What is missing of the tables and columns that we read and write, as "radacct.acctstoptime";
// empty: all there.
std::vector<std::string> missing_columns(Database& database);

// Creates our two tables, the indexes, and radgroupreply rows for the suspended group where it has
// none. Safe to repeat. Throws std::runtime_error that names what is missing.
void set_up(Database& database);

}  // namespace addrflow::aaa
