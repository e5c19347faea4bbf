#include "restore.hpp"

#include <fmt/format.h>

#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kPage = 500;
constexpr std::size_t kMostNotes = 100;
// Ids that AAA has seen are never given again, those of effects under way at the restore neither.
constexpr std::int64_t kIdsLeftOut = 100'000;

}  // namespace

void RestoreWatch::check(const std::string& incarnation, std::int64_t newest_here) {
  const std::lock_guard lock{mutex_};
  if (incarnation == verified_) return;
  std::int64_t newest = 0;
  try {
    newest = witness_.newest_effect();
  } catch (const std::exception&) {
    throw LedgerError{ErrorCode::kUnavailable,
                      "the AAA database cannot be asked whether the ledger was restored"};
  }
  if (newest > newest_here) {
    throw Restored{fmt::format("the AAA database has seen effect {}, the newest here is {}", newest,
                               newest_here)};
  }
  verified_ = incarnation;
}

void RestoreWatch::forget() {
  const std::lock_guard lock{mutex_};
  verified_.clear();
}

void Ledger::watch(ports::AaaListing& witness) { watch_ = std::make_unique<RestoreWatch>(witness); }

void Ledger::guard(Tx& tx) {
  const auto row = tx.exec1(
      "SELECT restored, detail, pg_postmaster_start_time()::text || '/' || (SELECT oid FROM"
      " pg_database WHERE datname = current_database()) || '/' ||"
      " pg_relation_filenode('services'),"
      " coalesce((SELECT last_value FROM effects_id_seq WHERE is_called), 0) FROM ledger_guard");
  if (row[0].as<bool>()) throw Restored{row[1].c_str()};
  if (watch_) watch_->check(row[2].c_str(), row[3].as<std::int64_t>());
}

// In a transaction of its own: the one that found out was rolled back.
void Ledger::mark_restored(const std::string& detail) {
  try {
    store_->as_owner([&](Tx& tx) {
      const auto marked = tx.exec_params(
          "UPDATE ledger_guard SET restored = true, detail = $1, found_at = clock_timestamp()"
          " WHERE NOT restored",
          detail);
      if (marked.affected_rows() > 0)
        write_audit(tx, {}, "ledger_restored", "", "", "", "ledger_restored", detail);
      return true;
    });
  } catch (const LedgerError&) {
    // The refusal stands; whoever asks next finds out again.
  }
}

namespace {

class Reconciling {
 public:
  Reconciling(Store& store, ports::AaaListing& witness, bool dry_run)
      : store_(store), witness_(witness), dry_run_(dry_run) {}

  Reconciled run() {
    move_numbers();
    block_spaces();
    return std::move(done_);
  }

 private:
  void note(std::string text) {
    if (done_.notes.size() < kMostNotes) done_.notes.push_back(std::move(text));
  }

  // The next transition of a service must win against what AAA has seen of it.
  void move_numbers() {
    ports::ServiceName after;
    while (true) {
      const auto fences = witness_.fences_after(after, kPage);
      if (fences.empty()) return;
      after = fences.back().service;
      store_.as_owner([&](Tx& tx) {
        for (const auto& fence : fences) move_number(tx, fence);
        return true;
      });
    }
  }

  void move_number(Tx& tx, const ports::AaaFence& fence) {
    const auto& name = fence.service;
    const auto known = tx.exec_params(
        "SELECT number FROM services WHERE tenant_id = $1 AND subscriber_id = $2 AND service = $3"
        " FOR UPDATE",
        name.tenant, name.subscriber, name.service);
    if (!known.empty() && known[0][0].as<std::int64_t>() >= fence.number) return;
    const std::string who = fmt::format("{}/{}/{}", name.tenant, name.subscriber, name.service);
    if (known.empty()) {
      ++done_.services_made;
      note(fmt::format("{}: unknown here, number {} in AAA", who, fence.number));
    } else {
      ++done_.services_moved;
      note(fmt::format("{}: number {} here, {} in AAA", who, known[0][0].as<std::int64_t>(),
                       fence.number));
    }
    if (dry_run_) return;
    tx.exec_params("INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING",
                   name.tenant);
    tx.exec_params(
        "INSERT INTO services (tenant_id, subscriber_id, service, number) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (tenant_id, subscriber_id, service) DO UPDATE SET number = excluded.number",
        name.tenant, name.subscriber, name.service, fence.number);
  }

  // Space that AAA hands out, or that a session uses, and that is not this ledger's line's.
  void block_spaces() {
    std::string space;
    std::string username;
    while (true) {
      const auto handed = witness_.handed_out_after(space, username, kPage);
      if (handed.empty()) return;
      space = handed.back().space;
      username = handed.back().username;
      store_.as_owner([&](Tx& tx) {
        for (const auto& one : handed) block_space(tx, one);
        return true;
      });
    }
  }

  void block_space(Tx& tx, const ports::HandedOut& handed) {
    if (!handed.now && !handed.online) return;
    const auto holders = tx.exec_params(
        "SELECT h.id, h.tenant_id, h.subscriber_id, h.service FROM holdings h"
        " WHERE h.space && $1::inet AND upper_inf(h.period)"
        " AND ($2 = '' OR EXISTS (SELECT 1 FROM pool_grants g WHERE g.pool_id = h.pool_id"
        "   AND g.tenant_id = $2))",
        handed.space, handed.tenant);
    for (const auto& row : holders) {
      const bool same = handed.tenant == row[1].c_str() && handed.subscriber == row[2].c_str() &&
                        handed.service == row[3].c_str();
      if (same) return;
    }
    for (const auto& row : holders) {
      if (!handed.now) continue;  // the session ends; the holding keeps everybody else out
      ++done_.holdings_closed;
      note(fmt::format("{}: held here by {}/{}, given to {}/{} since", handed.space, row[1].c_str(),
                       row[2].c_str(), handed.tenant, handed.subscriber));
      if (!dry_run_) give_up_holding(tx, row[0].as<std::int64_t>());
    }
    ++done_.spaces_blocked;
    note(fmt::format("{}: blocked, {} has it{}", handed.space, handed.username,
                     handed.now ? "" : " in a session"));
    if (dry_run_) return;
    tx.exec_params(
        "UPDATE pool_addresses SET state = 'blocked', why = $2 WHERE address = $1::inet"
        " AND pool_id IN (SELECT pool_id FROM pool_grants WHERE $3 = '' OR tenant_id = $3)",
        handed.space, "restored: AAA gave it to " + handed.username, handed.tenant);
    // A prefix that this ledger never handed out has no row yet.
    tx.exec_params(
        "INSERT INTO pool_exclusions (pool_id, space, reason) SELECT p.id, $1::inet, $2"
        " FROM ip_pools p WHERE p.family <> 'ipv4' AND p.prefix::inet >>= $1::inet AND p.id IN"
        " (SELECT pool_id FROM pool_grants WHERE $3 = '' OR tenant_id = $3)"
        " ON CONFLICT DO NOTHING",
        handed.space, "restored: AAA gave it to " + handed.username, handed.tenant);
  }

  static void give_up_holding(Tx& tx, std::int64_t holding) {
    close_holding(tx, holding, 0, "restored", 0);
    tx.exec_params(
        "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
        " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp())"
        " WHERE holding_id = $1",
        holding);
  }

  Store& store_;
  ports::AaaListing& witness_;
  bool dry_run_;
  Reconciled done_;
};

}  // namespace

Reconciled Ledger::reconcile_after_restore(ports::AaaListing& witness, const std::string& actor,
                                           bool dry_run) {
  if (actor.empty()) throw LedgerError{ErrorCode::kInvalidArgument, "actor: who does this?"};
  std::int64_t newest = 0;
  Reconciled done;
  try {
    newest = witness.newest_effect();
    // Nobody claims while it is compared.
    if (!dry_run) mark_restored("a person reconciles it");
    done = Reconciling{*store_, witness, dry_run}.run();
  } catch (const LedgerError&) {
    throw;
  } catch (const std::exception&) {
    throw LedgerError{ErrorCode::kUnavailable, "the AAA database cannot be reached"};
  }
  if (dry_run) return done;
  store_->as_owner([&](Tx& tx) {
    tx.exec_params(
        "SELECT setval('effects_id_seq', greatest($1::bigint, last_value) + $2::bigint)"
        " FROM effects_id_seq",
        newest, kIdsLeftOut);
    tx.exec_params(
        "UPDATE ledger_guard SET restored = false, detail = '', reconciled_by = $1,"
        " reconciled_at = clock_timestamp()",
        actor);
    write_audit(tx, {}, "ledger_reconciled", actor, "", "", "ok",
                fmt::format("{} services moved, {} made, {} spaces blocked, {} holdings closed",
                            done.services_moved, done.services_made, done.spaces_blocked,
                            done.holdings_closed));
    return true;
  });
  if (watch_) watch_->forget();
  return done;
}

}  // namespace addrflow::ledger
