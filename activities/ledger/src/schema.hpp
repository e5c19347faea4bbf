// What the migrations make, compared with what is there.
#pragma once

#include <addrflow/ledger/migrator.hpp>
#include <functional>
#include <pqxx/pqxx>
#include <vector>

namespace addrflow::ledger {

// Runs `make` in a schema that nobody else sees, compares, and leaves nothing behind: the
// transaction must not be committed.
std::vector<Difference> compare_schema(pqxx::dbtransaction& tx,
                                       const std::function<void(pqxx::dbtransaction&)>& make);

}  // namespace addrflow::ledger
