#include <openssl/evp.h>

#include <fmt/format.h>
#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <array>
#include <map>
#include <optional>
#include <pqxx/pqxx>

#include "embedded_migrations.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

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
    tx.exec("SET client_min_messages = warning");
    tx.exec_params("SELECT pg_advisory_lock($1)", kLock);
    tx.exec(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY,"
        " name text NOT NULL, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())");
  }

  std::vector<Migration> status() {
    const auto known = known_migrations();
    std::map<int, Migration> all;
    for (const auto& [version, migration] : known) {
      all[version] = {.version = version, .name = migration.name, .applied_at = {}};
    }
    pqxx::read_transaction tx{connection_};
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
    std::vector<Migration> list;
    for (auto& [version, one] : all) list.push_back(std::move(one));
    return list;
  }

  void apply(int version, const Known& migration) {
    pqxx::work tx{connection_};
    tx.exec(std::string{migration.up});
    tx.exec_params("INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                   version, migration.name, checksum(migration.up));
    tx.commit();
  }

  void take_back(int version, const Known& migration) {
    pqxx::work tx{connection_};
    tx.exec(std::string{migration.down});
    tx.exec_params("DELETE FROM schema_migrations WHERE version = $1", version);
    tx.commit();
  }

 private:
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
  return guarded([&] {
    Session session{url_};
    const auto known = known_migrations();
    std::vector<Migration> done;
    for (const Migration& one : session.status()) {
      if (one.changed) {
        throw LedgerError{domain::ErrorCode::kConflict,
                          fmt::format("migration {} was changed after it was applied", one.name)};
      }
      if (one.applied) continue;
      if (!dry_run) session.apply(one.version, known.at(one.version));
      done.push_back(one);
    }
    return done;
  });
}

std::vector<Migration> Migrator::down(int steps, bool dry_run) {
  return guarded([&] {
    Session session{url_};
    const auto known = known_migrations();
    auto all = session.status();
    std::vector<Migration> done;
    for (auto one = all.rbegin(); one != all.rend() && static_cast<int>(done.size()) < steps;
         ++one) {
      if (!one->applied) continue;
      if (!known.contains(one->version) || known.at(one->version).down.empty()) {
        throw LedgerError{domain::ErrorCode::kConflict,
                          fmt::format("there is no way down from migration {}", one->name)};
      }
      if (!dry_run) session.take_back(one->version, known.at(one->version));
      done.push_back(*one);
    }
    return done;
  });
}

}  // namespace addrflow::ledger
