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

  // Runs `work(pqxx::connection&)`, which must bear to be run twice: on a connection that turns out
  // to have broken while it was idle, it is run again on a fresh one. A connection on which
  // anything was thrown is not used again. Throws what `work` throws, and pqxx::broken_connection
  // where the database cannot be reached.
  template <class F>
  auto with(F work) {
    while (true) {
      Lease lease{*this};
      try {
        auto result = work(lease.connection());
        lease.keep();
        return result;
      } catch (const pqxx::in_doubt_error&) {
        throw;
      } catch (const pqxx::failure&) {
        if (!lease.reused() || lease.connection().is_open()) throw;
      }
      drop_idle();
    }
  }

 private:
  // One of the connections that may be in use at a time; given up unless it is kept.
  class Lease {
   public:
    explicit Lease(Database& database);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    pqxx::connection& connection() { return *connection_; }
    bool reused() const { return reused_; }
    void keep();

   private:
    Database& database_;
    std::unique_ptr<pqxx::connection> connection_;
    bool reused_ = false;
  };

  std::unique_ptr<pqxx::connection> take_idle();
  std::unique_ptr<pqxx::connection> open() const;
  void drop_idle();
  void give_back();

  const Settings settings_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<pqxx::connection>> idle_;
  int in_use_ = 0;
};

}  // namespace addrflow::aaa
