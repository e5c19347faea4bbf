#include "addrflow/aaa/database.hpp"

#include <fmt/format.h>

#include <utility>

namespace addrflow::aaa {

Database::Database(Settings settings) : settings_(std::move(settings)) {}

std::unique_ptr<pqxx::connection> Database::take() {
  {
    std::unique_lock lock{mutex_};
    returned_.wait(lock, [&] { return in_use_ < settings_.max_connections; });
    ++in_use_;
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  try {
    auto connection = std::make_unique<pqxx::connection>(settings_.url);
    pqxx::nontransaction session{*connection};
    session.exec0(
        fmt::format("set statement_timeout = {0}; set lock_timeout = {0}; set timezone = 'UTC'",
                    settings_.statement_timeout.count()));
    session.commit();
    return connection;
  } catch (...) {
    give_back();
    throw;
  }
}

void Database::keep(std::unique_ptr<pqxx::connection> connection) {
  const std::lock_guard lock{mutex_};
  idle_.push_back(std::move(connection));
}

void Database::give_back() {
  const std::lock_guard lock{mutex_};
  --in_use_;
  returned_.notify_one();
}

}  // namespace addrflow::aaa
