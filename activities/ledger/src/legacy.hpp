// The tables of the platform that addrflow takes over from (docs/migration.md): found by the
// catalog, judged without a change, imported in the transaction that makes the ledger, and given
// back.
#pragma once

#include <addrflow/ledger/migrator.hpp>
#include <optional>
#include <pqxx/pqxx>
#include <string>

namespace addrflow::ledger {

class Legacy {
 public:
  explicit Legacy(pqxx::dbtransaction& tx) : tx_(tx) {}

  // The schema with the platform's tables, when there are any that were not taken over yet.
  // `named` (may be empty) says where to look besides the current schema.
  std::optional<std::string> find(const std::string& named);
  // Reads the platform's rows and decides about each; changes nothing but temporary tables.
  LegacyReport judge(const std::string& schema, const MigrateOptions& options);
  // Out of the way of the tables with the same names, into a schema of their own.
  void move_away(const std::string& schema);
  // After the last migration: what `judge` decided becomes rows of the ledger.
  void import(const MigrateOptions& options);

  // Has the ledger begun with an import?
  bool taken_over();
  // Before the ledger's tables go: what became of the imported rows is written into the old ones.
  // Refuses while there are bindings that the old tables do not know, unless they may be lost.
  void write_back(bool discard_new);
  void move_back();

 private:
  std::int64_t count(const std::string& sql);

  pqxx::dbtransaction& tx_;
};

}  // namespace addrflow::ledger
