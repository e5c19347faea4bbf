#include "store.hpp"

#include <fmt/format.h>

namespace addrflow::ledger {

using domain::ErrorCode;

namespace {

// A serialization failure or a deadlock; for libpqxx 6 they are no `sql_error`s.
bool rolled_back(const std::exception& error) {
  return dynamic_cast<const pqxx::transaction_rollback*>(&error) != nullptr &&
         dynamic_cast<const pqxx::statement_completion_unknown*>(&error) == nullptr;
}

}  // namespace

void rethrow_as_ledger_error(const std::exception& error) {
  if (dynamic_cast<const pqxx::in_doubt_error*>(&error) != nullptr) {
    throw LedgerError{ErrorCode::kUnavailable, "the connection broke during a commit", true};
  }
  if (dynamic_cast<const pqxx::broken_connection*>(&error) != nullptr) {
    throw LedgerError{ErrorCode::kUnavailable, "the ledger's database cannot be reached"};
  }
  if (rolled_back(error)) {
    throw LedgerError{ErrorCode::kUnavailable,
                      std::string{"the ledger's database rolled back: "} + error.what()};
  }
  if (const auto* sql = dynamic_cast<const pqxx::sql_error*>(&error)) {
    const std::string state = sql->sqlstate();
    const bool passing =
        state.starts_with("53") || state.starts_with("55") || state.starts_with("57");
    throw LedgerError{passing ? ErrorCode::kUnavailable : ErrorCode::kInternal,
                      fmt::format("the ledger's database answered {}: {}", state, error.what())};
  }
  throw LedgerError{ErrorCode::kInternal, error.what()};
}

Store::Store(const Settings& settings) : settings_(settings) {}

bool Store::may_run_again(const std::exception& error) {
  if (dynamic_cast<const pqxx::in_doubt_error*>(&error) != nullptr) return false;
  if (dynamic_cast<const pqxx::broken_connection*>(&error) != nullptr) return true;
  if (rolled_back(error)) return true;
  const auto* sql = dynamic_cast<const pqxx::sql_error*>(&error);
  if (sql == nullptr) return false;
  // an exclusion that a race lost, terminated by an administrator
  return sql->sqlstate() == "23P01" || sql->sqlstate() == "57P01";
}

std::unique_ptr<pqxx::connection> Store::take() {
  {
    std::unique_lock lock{mutex_};
    const bool free = returned_.wait_for(lock, settings_.wait_for_connection,
                                         [this] { return in_use_ < settings_.pool_size; });
    if (!free)
      throw LedgerError{ErrorCode::kUnavailable, "every connection to the ledger is in use"};
    ++in_use_;
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  try {
    return open();
  } catch (const std::exception& error) {
    give_back(nullptr);
    rethrow_as_ledger_error(error);
  }
}

std::unique_ptr<pqxx::connection> Store::open() {
  const auto seconds =
      std::max<long>(2, std::chrono::ceil<std::chrono::seconds>(settings_.connect_timeout).count());
  std::string url = settings_.url;
  if (url.find("connect_timeout") == std::string::npos) {
    if (url.starts_with("postgres")) {
      url += fmt::format("{}connect_timeout={}", url.contains('?') ? "&" : "?", seconds);
    } else {
      url += fmt::format(" connect_timeout={}", seconds);
    }
  }
  auto connection = std::make_unique<pqxx::connection>(url);
  pqxx::nontransaction setup{*connection};
  setup.exec(
      // The last one: a worker that is stopped inside a transaction must not keep others from its
      // rows.
      fmt::format("SET statement_timeout = {0}; SET lock_timeout = {1};"
                  " SET idle_in_transaction_session_timeout = {0};"
                  " SET timezone = 'UTC'; SET application_name = 'addrflow'",
                  settings_.statement_timeout.count(), settings_.lock_timeout.count()));
  return connection;
}

void Store::give_back(std::unique_ptr<pqxx::connection> connection) {
  const std::lock_guard lock{mutex_};
  --in_use_;
  if (connection) {
    idle_.push_back(std::move(connection));
  } else {
    // Others in the pool may have broken with it: they are cheap to make anew.
    idle_.clear();
  }
  returned_.notify_one();
}

}  // namespace addrflow::ledger
