#include <openssl/evp.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <array>
#include <map>
#include <optional>
#include <pqxx/pqxx>

#include "embedded_migrations.hpp"
#include "legacy.hpp"
#include "schema.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

using domain::ErrorCode;

constexpr std::int64_t kLock = 0x61646472666c6f77;  // "addrflow"

struct Known {
  std::string name;
  std::string_view up;
  std::string_view down;
};

std::string checksum(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest.at(i));
  return hex;
}

std::map<int, Known> known_migrations() {
  std::map<int, Known> known;
  for (const MigrationFile& file : embedded_migrations()) {
    const std::string name{file.name};
    Known& migration = known[std::stoi(name)];
    if (name.ends_with(".up.sql")) {
      migration.name = name.substr(0, name.size() - 7);
      migration.up = file.sql;
    } else if (name.ends_with(".down.sql")) {
      migration.down = file.sql;
    }
  }
  return known;
}

// Holds the lock for as long as it lives: one migrator at a time.
class Session {
 public:
  explicit Session(const std::string& url) : connection_(url) {
    pqxx::nontransaction tx{connection_};
    tx.exec("SET client_min_messages = warning; SET lock_timeout = '30s'");
    tx.exec("SET application_name = 'addrflow migrate'");
    tx.exec_params("SELECT pg_advisory_lock($1)", kLock);
  }

  std::vector<Migration> status() {
    pqxx::read_transaction tx{connection_};
    return status(tx);
  }

  UpResult up(const MigrateOptions& options) {
    UpResult result;
    pqxx::work tx{connection_};
    for (const Migration& one : status(tx)) {
      if (one.changed) {
        throw LedgerError{ErrorCode::kConflict,
                          fmt::format("migration {} was changed after it was applied", one.name)};
      }
      if (!one.applied) result.applied.push_back(one);
    }
    Legacy legacy{tx};
    if (const auto schema = legacy.find(options.legacy_schema)) {
      result.legacy = legacy.judge(*schema, options);
      if (!options.dry_run) take_over(tx, legacy, *result.legacy, options, result.applied);
    } else if (!options.dry_run && !result.applied.empty()) {
      tx.exec(kMakeVersions);
      tx.commit();
      for (const Migration& one : result.applied) {
        pqxx::work own{connection_};
        apply(own, one.version);
        own.commit();
      }
    }
    return result;
  }

  // Everything newer than `version`, in one transaction.
  std::vector<Migration> down_to(int version, bool dry_run, bool discard_new) {
    pqxx::work tx{connection_};
    const auto all = status(tx);
    std::vector<Migration> done;
    for (auto one = all.rbegin(); one != all.rend() && one->version > version; ++one) {
      if (one->applied) done.push_back(*one);
    }
    Legacy legacy{tx};
    const bool gives_back = !done.empty() && done.back().version == kFirst && legacy.taken_over();
    if (gives_back) legacy.write_back(discard_new);
    for (const Migration& one : done) take_back(tx, one);
    if (gives_back) legacy.move_back();
    if (!dry_run) tx.commit();
    return done;
  }

  std::vector<Difference> verify() {
    pqxx::work tx{connection_};
    return compare_schema(tx, [](pqxx::dbtransaction& scratch) {
      for (const auto& [version, migration] : known_migrations())
        scratch.exec(std::string{migration.up});
    });
  }

 private:
  static constexpr int kFirst = 1;
  static constexpr const char* kMakeVersions =
      "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,"
      " name text NOT NULL, checksum text NOT NULL,"
      " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())";

  static std::vector<Migration> status(pqxx::dbtransaction& tx) {
    const auto known = known_migrations();
    std::map<int, Migration> all;
    for (const auto& [version, migration] : known) {
      all[version] = {.version = version, .name = migration.name, .applied_at = {}};
    }
    if (!tx.exec("SELECT to_regclass('schema_migrations')")[0][0].is_null()) {
      for (const auto& row :
           tx.exec("SELECT version, name, checksum, applied_at::text FROM schema_migrations")) {
        Migration& one = all[row[0].as<int>()];
        one.version = row[0].as<int>();
        if (one.name.empty()) one.name = row[1].c_str();
        one.applied = true;
        one.applied_at = row[3].c_str();
        const auto found = known.find(one.version);
        one.changed = found == known.end() || checksum(found->second.up) != row[2].c_str();
      }
    }
    std::vector<Migration> list;
    for (auto& [version, one] : all) list.push_back(std::move(one));
    return list;
  }

  static void apply(pqxx::dbtransaction& tx, int version) {
    const Known migration = known_migrations().at(version);
    tx.exec(std::string{migration.up});
    tx.exec_params("INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                   version, migration.name, checksum(migration.up));
  }

  static void take_back(pqxx::dbtransaction& tx, const Migration& one) {
    const auto known = known_migrations();
    if (!known.contains(one.version) || known.at(one.version).down.empty()) {
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("there is no way down from migration {}", one.name)};
    }
    tx.exec(std::string{known.at(one.version).down});
    tx.exec_params("DELETE FROM schema_migrations WHERE version = $1", one.version);
  }

  // All or nothing: whoever breaks it off finds the platform's tables as they were.
  static void take_over(pqxx::work& tx, Legacy& legacy, const LegacyReport& report,
                        const MigrateOptions& options, const std::vector<Migration>& missing) {
    if (!report.problems.empty()) {
      throw LedgerError{ErrorCode::kConflict,
                        fmt::format("the platform's tables cannot be taken over yet: {}",
                                    fmt::join(report.problems, "; "))};
    }
    legacy.move_away(report.schema);
    tx.exec(kMakeVersions);
    for (const Migration& one : missing) apply(tx, one.version);
    legacy.import(options);
    tx.commit();
  }

  pqxx::connection connection_;
};

template <class F>
auto guarded(F work) {
  try {
    return work();
  } catch (const LedgerError&) {
    throw;
  } catch (const std::exception& error) {
    rethrow_as_ledger_error(error);
  }
}

}  // namespace

std::vector<Migration> Migrator::status() {
  return guarded([&] { return Session{url_}.status(); });
}

std::vector<Migration> Migrator::up(bool dry_run) {
  MigrateOptions options;
  options.dry_run = dry_run;
  return up(options).applied;
}

UpResult Migrator::up(const MigrateOptions& options) {
  return guarded([&] { return Session{url_}.up(options); });
}

std::vector<Migration> Migrator::down(int steps, bool dry_run, bool discard_new) {
  return guarded([&] {
    Session session{url_};
    int version = 0;
    const auto all = session.status();
    for (auto one = all.rbegin(); one != all.rend(); ++one) {
      if (one->applied && steps-- <= 0) {
        version = one->version;
        break;
      }
    }
    return session.down_to(version, dry_run, discard_new);
  });
}

std::vector<Migration> Migrator::down_to(int version, bool dry_run, bool discard_new) {
  return guarded([&] { return Session{url_}.down_to(version, dry_run, discard_new); });
}

std::vector<Difference> Migrator::verify() {
  return guarded([&] { return Session{url_}.verify(); });
}

}  // namespace addrflow::ledger
