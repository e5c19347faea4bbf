#include "addrflow/aaa/database.hpp"

#include <fmt/format.h>

#include <utility>

namespace addrflow::aaa {

Database::Database(Settings settings) : settings_(std::move(settings)) {}

Database::Lease::Lease(Database& database) : database_(database) {
  connection_ = database_.take_idle();
  reused_ = connection_ != nullptr;
  if (reused_) return;
  try {
    connection_ = database_.open();
  } catch (...) {
    database_.give_back();
    throw;
  }
}

Database::Lease::~Lease() {
  connection_.reset();
  database_.give_back();
}

void Database::Lease::keep() {
  const std::lock_guard lock{database_.mutex_};
  database_.idle_.push_back(std::move(connection_));
}

// Waits until one more may be in use; null: there is no idle one.
std::unique_ptr<pqxx::connection> Database::take_idle() {
  std::unique_lock lock{mutex_};
  returned_.wait(lock, [&] { return in_use_ < settings_.max_connections; });
  ++in_use_;
  if (idle_.empty()) return nullptr;
  auto connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

std::unique_ptr<pqxx::connection> Database::open() const {
  auto connection = std::make_unique<pqxx::connection>(settings_.url);
  pqxx::nontransaction session{*connection};
  session.exec0(
      // A worker that is stopped inside a transaction must not keep others from its rows.
      fmt::format("set statement_timeout = {0}; set lock_timeout = {0};"
                  " set idle_in_transaction_session_timeout = {0}; set timezone = 'UTC'",
                  settings_.statement_timeout.count()));
  session.commit();
  return connection;
}

void Database::drop_idle() {
  std::vector<std::unique_ptr<pqxx::connection>> dropped;
  const std::lock_guard lock{mutex_};
  dropped.swap(idle_);
}

void Database::give_back() {
  const std::lock_guard lock{mutex_};
  --in_use_;
  returned_.notify_one();
}

}  // namespace addrflow::aaa
