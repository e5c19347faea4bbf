// Connections to PostgreSQL, and transactions as the tenant or as the owner.
#pragma once

#include <addrflow/ledger/error.hpp>
#include <addrflow/ledger/settings.hpp>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <pqxx/pqxx>
#include <string>
#include <vector>

namespace addrflow::ledger {

constexpr int kMostAttempts = 5;  // of a transaction that met a deadlock or a broken connection

// A libpq error without what might hold a connection string.
[[noreturn]] void rethrow_as_ledger_error(const std::exception& error);

class Store {
 public:
  explicit Store(const Settings& settings);

  // Runs `work(pqxx::dbtransaction&)` in a transaction that sees the tenant's rows only, and
  // commits. It is run again after a deadlock and after a connection that broke before the commit.
  template <class F>
  auto as_tenant(const std::string& tenant, F work) {
    return run<pqxx::work>(work, [&](auto& tx) { become(tx, tenant); });
  }
  // The same in one snapshot that cannot write.
  template <class F>
  auto look_as_tenant(const std::string& tenant, F work) {
    using Look = pqxx::transaction<pqxx::isolation_level::repeatable_read,
                                   pqxx::readwrite_policy::read_only>;
    return run<Look>(work, [&](auto& tx) { become(tx, tenant); });
  }
  // Sees every tenant.
  template <class F>
  auto as_owner(F work) {
    return run<pqxx::work>(work, [](auto&) {});
  }
  // One snapshot.
  template <class F>
  auto in_snapshot(F work) {
    using Snapshot = pqxx::transaction<pqxx::isolation_level::repeatable_read>;
    return run<Snapshot>(work, [](auto&) {});
  }

 private:
  static void become(pqxx::dbtransaction& tx, const std::string& tenant) {
    tx.exec_params(
        "SELECT set_config('role', 'addrflow_app', true), set_config('app.tenant', $1, true)",
        tenant);
  }
  template <class Tx, class F, class Prepare>
  auto run(F& work, Prepare prepare) {
    for (int attempt = 1;; ++attempt) {
      auto connection = take();
      try {
        Lent lent{*this};
        Tx tx{*connection};
        prepare(tx);
        auto result = work(tx);
        tx.commit();
        lent.back = std::move(connection);
        return result;
      } catch (const LedgerError&) {
        throw;
      } catch (const std::exception& error) {
        if (attempt >= kMostAttempts || !may_run_again(error)) rethrow_as_ledger_error(error);
      }
    }
  }

  struct Lent {
    explicit Lent(Store& owner) : store(owner) {}
    ~Lent() { store.give_back(std::move(back)); }
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    Store& store;
    std::unique_ptr<pqxx::connection> back;  // empty: it is not used again
  };

  static bool may_run_again(const std::exception& error);
  std::unique_ptr<pqxx::connection> take();
  std::unique_ptr<pqxx::connection> open();
  void give_back(std::unique_ptr<pqxx::connection> connection);

  const Settings settings_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<pqxx::connection>> idle_;
  int in_use_ = 0;
};

}  // namespace addrflow::ledger
