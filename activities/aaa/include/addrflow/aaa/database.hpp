// Connections to the AAA database: a few, opened when needed, dropped when broken.
#pragma once

#include <addrflow/aaa/settings.hpp>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <vector>

namespace addrflow::aaa {

// Thread-safe.
class Database {
 public:
  explicit Database(Settings settings);

  const Settings& settings() const { return settings_; }

  // Runs `work(pqxx::connection&)`. A connection on which anything was thrown is not used again.
  // Throws what `work` throws, and pqxx::broken_connection where the database cannot be reached.
  template <class F>
  auto with(F work) {
    auto connection = take();
    struct Return {
      Database& database;
      ~Return() { database.give_back(); }
    } unless_given{*this};
    auto result = work(*connection);
    keep(std::move(connection));
    return result;
  }

 private:
  std::unique_ptr<pqxx::connection> take();
  void keep(std::unique_ptr<pqxx::connection> connection);
  void give_back();

  const Settings settings_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<pqxx::connection>> idle_;
  int in_use_ = 0;
};

}  // namespace addrflow::aaa
