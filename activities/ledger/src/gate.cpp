// The release gate: return to the pool is the point of no return (docs/decisions/0007).
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>
#include <functional>

#include "restore.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

constexpr std::int64_t kSoonMs = 1'000;

system_clock::time_point from_epoch(const pqxx::field& field) {
  return system_clock::time_point{std::chrono::duration_cast<system_clock::duration>(
      std::chrono::duration<double>{field.as<double>()})};
}

// What the ledger knows of one family's space, before accounting is asked.
struct Facts {
  bool superseded = false;
  bool held = false;  // a releasing holding is open
  bool kept = false;
  bool exposed = false;
  bool forced = false;
  bool withdrawn = false;   // the next login does not get this space: confirmed by the AAA rows
  bool line_lives = false;  // with another family: its session may be there, and is not this one's
  bool hold_over = false;
  std::int64_t hold_left_ms = 0;
  std::int64_t waited_ms = 0;  // since it is on its way out
  std::int64_t quarantine_s = 0;
  std::int64_t longest_quarantine_s = 0;
  system_clock::time_point withdrawn_at;
  bool disconnected = false;  // ACK, or NAK 503
  system_clock::time_point disconnected_at;
  system_clock::time_point now;
  std::vector<std::string> usernames;
  std::string family;
  std::string space;
  std::string nas_ip;
  std::int64_t holding_id = 0;
  std::int64_t row_id = 0;
  std::int64_t service_id = 0;
  std::int64_t operation = 0;
};

// What AAA and the NAS have confirmed since the space is on its way out.
void read_session_facts(Tx& tx, Facts& facts) {
  const auto aaa = tx.exec_params(
      "SELECT extract(epoch FROM min(e.updated_at)) FROM effects e JOIN holdings h ON h.id = $2"
      " WHERE e.service_id = $1 AND e.system = 'aaa' AND e.status = 'confirmed'"
      " AND e.planned_at >= h.releasing_since AND (e.wish->>'condition' = 'refused'"
      " OR coalesce(e.wish->>$3::text, '') <> $4)",
      facts.service_id, facts.holding_id, wish_key(facts.family), facts.space);
  if (!aaa[0][0].is_null()) {
    facts.withdrawn = true;
    facts.withdrawn_at = from_epoch(aaa[0][0]);
  }
  const auto cut = tx.exec_params(
      "SELECT extract(epoch FROM e.updated_at) FROM effects e JOIN holdings h ON h.id = $2"
      " WHERE e.service_id = $1 AND e.planned_at >= h.releasing_since"
      // What gives a session other space does so by a CoA, or by a Disconnect where the NAS cannot.
      " AND (e.action = 'disconnect' OR (e.wish->>'renumber')::boolean)"
      " AND e.code IN ('ack', 'session-not-found')"
      " AND e.status IN ('confirmed', 'not_applicable') ORDER BY e.id DESC LIMIT 1",
      facts.service_id, facts.holding_id);
  if (!cut.empty()) {
    facts.disconnected = true;
    facts.disconnected_at = from_epoch(cut[0][0]);
  }
}

// Of the family's first holding that is on its way out, from this id on.
Facts read_facts(Tx& tx, const ServiceRef& service, std::int64_t number, const std::string& family,
                 std::int64_t from, Lock lock, seconds longest_lease) {
  Facts facts;
  facts.family = family;
  const auto head = read_head(tx, service, lock);
  if (!head || head->number != number) {
    facts.superseded = true;
    return facts;
  }
  facts.service_id = head->id;
  facts.operation = head->last_operation;
  facts.nas_ip = head->nas_ip;
  const auto names = tx.exec_params(
      "SELECT unnest(former_names(id) || coalesce(nullif(username, ''), subscriber_id))"
      " FROM services WHERE id = $1",
      head->id);
  for (const auto& name : names) facts.usernames.emplace_back(name[0].c_str());
  const auto held = tx.exec_params(
      "SELECT h.id, r.id, abbrev(h.space), h.kept, h.exposed, h.forced, p.quarantine_s,"
      " greatest(p.quarantine_s, p.hold_time_s, $4::bigint), extract(epoch FROM clock_timestamp()),"
      // Of a pool that was made before the lease was that long, too.
      " (extract(epoch FROM h.releasing_since"
      "   + greatest(p.hold_time_s, $4::bigint) * interval '1 second'"
      "   - clock_timestamp()) * 1000)::bigint,"
      // Its session was where the line hung until it got other space.
      " coalesce((SELECT o.before->>'nas_ip' FROM holdings n JOIN operations o ON o.id = "
      "n.opened_by"
      "  WHERE n.service_id = h.service_id AND n.family = h.family AND n.id > h.id"
      "  AND o.operation IN ('readdress', 'allocate') ORDER BY n.id LIMIT 1), ''),"
      " (extract(epoch FROM clock_timestamp() - h.releasing_since) * 1000)::bigint"
      " FROM holdings h JOIN ip_reservations r ON r.holding_id = h.id"
      " JOIN ip_pools p ON p.id = h.pool_id"
      " WHERE h.service_id = $1 AND h.family = $2 AND upper_inf(h.period) AND h.releasing"
      " AND h.id >= $3 ORDER BY h.id LIMIT 1",
      head->id, family, from, static_cast<std::int64_t>(longest_lease.count()));
  if (held.empty()) return facts;
  const auto& row = held[0];
  if (row[10].size() > 0) facts.nas_ip = row[10].c_str();
  facts.held = true;
  facts.holding_id = row[0].as<std::int64_t>();
  facts.row_id = row[1].as<std::int64_t>();
  facts.space = row[2].c_str();
  facts.kept = row[3].as<bool>();
  facts.exposed = row[4].as<bool>();
  facts.forced = row[5].as<bool>();
  facts.quarantine_s = row[6].as<std::int64_t>();
  facts.longest_quarantine_s = row[7].as<std::int64_t>();
  facts.now = from_epoch(row[8]);
  facts.hold_left_ms = row[9].as<std::int64_t>();
  facts.hold_over = facts.hold_left_ms <= 0;
  facts.waited_ms = row[11].as<std::int64_t>();
  const auto rows = read_rows(tx, head->id);
  facts.line_lives = std::ranges::any_of(rows, [](const Row& other) {
    return other.state == State::kAllocated || other.state == State::kActive ||
           other.state == State::kSuspended;
  });
  read_session_facts(tx, facts);
  return facts;
}

struct Judgement {
  std::string evidence = "none";
  std::string detail;
  std::int64_t again_ms = 0;
  bool open() const { return evidence != "none"; }
};

Judgement closed(std::string why, std::int64_t again_ms = 0) {
  return {.detail = std::move(why), .again_ms = again_ms};
}

const std::string& space_of(const Facts& facts, const ports::Session& session) {
  return facts.family == domain::kFamilyIpv4 ? session.framed_ip : session.delegated_prefix;
}

// Whether the session may be the one that had the space. Where the line lives on with another
// family, or with other space, its subscriber logs in again at once: that session began after the
// rows changed, and does not show the space. One that was renumbered shows its other space since.
// Accounting knows whole seconds only, so one that began in the same second is taken for the new
// one when the old one's Stop is there.
bool may_be_the_old_one(const Facts& facts, const ports::SessionEvidence& seen,
                        const ports::Session& session) {
  if (!facts.line_lives) return true;
  const std::string& shown = space_of(facts, session);
  if (shown == facts.space) return true;
  if (!shown.empty() && session.updated > facts.withdrawn_at) return false;
  if (session.started > facts.withdrawn_at) return false;
  return !seen.stopped_since || session.started < std::chrono::floor<seconds>(facts.withdrawn_at);
}

// By accounting; everything here is about a session that may be alive.
Judgement by_accounting(const Facts& facts, const ports::SessionEvidence& seen, seconds interim,
                        seconds longest_lease) {
  for (const ports::Session& session : seen.open) {
    if (!may_be_the_old_one(facts, seen, session)) continue;
    return closed(
        fmt::format("accounting shows a session at {} since it was last heard of", session.nas_ip));
  }
  if (seen.stopped_since) {
    return {"strong", "an accounting Stop came after the AAA rows changed" +
                          (seen.stop.empty() ? "" : ": " + seen.stop)};
  }
  if (!facts.disconnected) return closed("no NAS has said that the session is gone");
  if (!seen.nas_last_heard || *seen.nas_last_heard < facts.now - 2 * interim)
    return closed("accounting from the NAS is not fresh");
  const auto floor = facts.disconnected_at + std::max(2 * interim, longest_lease);
  if (facts.now < floor) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(floor - facts.now);
    return closed("the floor after the Disconnect-ACK is not over", left.count());
  }
  return {"medium", "the NAS has disconnected it, and accounting shows no session"};
}

// Heard of within two intervals, with this very space: whatever the hold time says, somebody uses
// it. So may a session of the line's own where the NAS does not account that kind of space, as long
// as nothing else of the line lives on in that session.
bool in_use(const Facts& facts, const ports::SessionEvidence& seen, seconds interim) {
  return std::ranges::any_of(seen.open, [&](const ports::Session& session) {
    if (session.updated <= facts.now - 2 * interim) return false;
    const std::string& shown = space_of(facts, session);
    const bool own = std::ranges::find(facts.usernames, session.username) != facts.usernames.end();
    return shown == facts.space || (shown.empty() && own && !facts.line_lives);
  });
}

// Whether the user of that name holds the same space in another routing domain. Accounting knows no
// routing domains: that user's session says nothing of this space.
using HeldElsewhere = std::function<bool(const std::string& username)>;

bool is_foreign(const Facts& facts, const ports::Session& session, const HeldElsewhere& elsewhere) {
  return std::ranges::find(facts.usernames, session.username) == facts.usernames.end() &&
         elsewhere(session.username);
}

// What has waited long is looked at seldom: a look costs the service's history several events, and
// thousands of lines may wait until their hold time is over. Nothing opens later than by a quarter
// of the time it has waited.
std::int64_t poll_after(std::int64_t waited_ms, const v1::Pace& pace) {
  const std::int64_t often = std::max<std::int64_t>(pace.gate_poll_ms(), kSoonMs);
  return std::clamp(waited_ms / 4, often, std::max(pace.gate_poll_max_ms(), often));
}

// Without accounting, or by it.
Judgement judge(const Facts& facts, ports::SessionDirectory* sessions, seconds interim,
                const Settings& settings, const HeldElsewhere& elsewhere) {
  if (facts.forced) return {"forced", "a person has released it"};
  if (!facts.exposed) return {"strong", "AAA has never handed it out"};
  const std::int64_t poll = poll_after(facts.waited_ms, settings.pace);
  // By the first attempt as a rule, so soon at first.
  if (!facts.withdrawn)
    return closed("the AAA rows do not withhold it yet",
                  std::clamp(facts.waited_ms, kSoonMs, poll));
  const Judgement hold_over{"hold_time", "the hold time is over"};
  if (sessions == nullptr) {
    return facts.hold_over
               ? hold_over
               : closed("accounting is not known: the hold time decides", facts.hold_left_ms);
  }
  Judgement judged;
  try {
    auto seen = sessions->evidence(facts.usernames, facts.space, facts.nas_ip, facts.withdrawn_at);
    std::erase_if(seen.open,
                  [&](const ports::Session& one) { return is_foreign(facts, one, elsewhere); });
    if (facts.hold_over) {
      return in_use(facts, seen, interim)
                 ? closed("the hold time is over, but a session that is alive shows it", poll)
                 : hold_over;
    }
    judged = by_accounting(facts, seen, interim, settings.longest_lease);
  } catch (const std::exception&) {
    // Nobody can say whether a session that is alive shows it: that opens nothing, at any time.
    if (facts.hold_over)
      return closed("the hold time is over, but accounting cannot be reached", poll);
    judged = closed("accounting cannot be reached");
  }
  if (!judged.open() && (judged.again_ms == 0 || judged.again_ms > facts.hold_left_ms))
    judged.again_ms = std::min(facts.hold_left_ms + 1, poll);
  return judged;
}

// What is still to cut the session has nothing left to do, and the gate's evidence says so. Not
// while other space of the line is on its way out by the same Disconnect.
void settle_disconnects(Tx& tx, const Facts& facts, const Judgement& judged) {
  const std::string status = facts.forced ? "abandoned" : "not_applicable";
  v1::EffectReply reply;
  reply.set_status(status);
  reply.set_code("session-gone");
  reply.set_detail(judged.evidence + ": " + judged.detail);
  tx.exec_params(
      "UPDATE effects e SET status = $3, code = $4, detail = $5, reply = $6::jsonb,"
      " updated_at = clock_timestamp() FROM operations o, holdings h"
      " WHERE e.service_id = $1 AND h.id = $2 AND e.planned_at >= h.releasing_since"
      " AND e.system = 'radius' AND e.action = 'disconnect'"
      " AND e.status IN ('planned', 'sent', 'unknown', 'refused') AND o.id = e.operation_id"
      // A Disconnect may also restrict a session that lives on.
      " AND o.operation IN ('revoke', 'retry', 'force_release')"
      " AND NOT EXISTS (SELECT 1 FROM holdings other WHERE other.service_id = $1"
      "  AND other.id <> $2 AND upper_inf(other.period) AND other.releasing AND NOT other.kept"
      "  AND other.releasing_since <= e.planned_at)",
      facts.service_id, facts.holding_id, status, reply.code(), reply.detail(),
      v1::to_json_text(reply));
}

// False: a newer transition owns the service.
bool release(Tx& tx, const ServiceRef& service, std::int64_t number, const Facts& facts,
             const Judgement& judged, seconds longest_lease) {
  const Facts now =
      read_facts(tx, service, number, facts.family, facts.holding_id, Lock::kYes, longest_lease);
  if (now.superseded || now.holding_id != facts.holding_id) return false;
  const std::int64_t quarantine = facts.forced     ? now.longest_quarantine_s
                                  : !facts.exposed ? 0
                                                   : now.quarantine_s;
  settle_disconnects(tx, now, judged);
  close_holding(tx, now.holding_id, now.operation, judged.evidence, quarantine);
  tx.exec_params(
      "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
      " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
      now.row_id);
  const auto effect =
      plan_netbox(tx, service, now.service_id, now.operation, number, now.row_id, "release");
  if (effect.effect_id() != 0) {
    tx.exec_params(
        "UPDATE effects SET not_before = clock_timestamp() + $2::bigint * interval '1 second'"
        " WHERE id = $1",
        effect.effect_id(), quarantine);
  }
  write_audit(tx, service, "released", "", facts.space, "", "ok",
              judged.evidence + ": " + judged.detail);
  return true;
}

// What the looks at several families come to: open when all are, next look when the first wants
// one.
void add_look(v1::GateReply& reply, const Judgement& judged, bool open) {
  if (!open) {
    const bool first = reply.open();
    reply.set_open(false);
    reply.set_evidence(judged.evidence);
    reply.set_detail(judged.detail);
    if (first || judged.again_ms < reply.next_check_ms()) reply.set_next_check_ms(judged.again_ms);
  } else if (reply.open()) {
    reply.set_evidence(judged.evidence);
    reply.set_detail(judged.detail);
  }
}

}  // namespace

v1::GateReply Ledger::gate(const v1::GateRequest& request) {
  const ServiceRef service = checked(request.service());
  std::vector<std::string> families(request.families().begin(), request.families().end());
  if (families.empty()) families.emplace_back(domain::kFamilyIpv4);

  // One holding of the family, from this id on; its id, or 0 where there is none.
  const auto look = [&](const std::string& family, std::int64_t from, v1::GateReply& reply) {
    std::string restored;
    const Facts facts = store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
      try {
        guard(tx);
      } catch (const Restored& error) {
        restored = error.what();
      }
      const Facts facts = read_facts(tx, service, request.number(), family, from, Lock::kNo,
                                     settings_.longest_lease);
      tx.exec_params(
          "UPDATE holdings SET looked_at = clock_timestamp() WHERE id = $1 AND upper_inf(period)",
          facts.holding_id);
      return facts;
    });
    reply.set_superseded(facts.superseded);
    if (facts.superseded || (from > 0 && !facts.held)) return std::int64_t{0};
    if (!facts.held || facts.kept) {
      add_look(reply, {.detail = facts.kept ? "kept for the subscriber" : "the space is not held"},
               true);
      return facts.holding_id;
    }
    const auto nas = facts.nas_ip.empty() ? std::nullopt : find(service.tenant_id(), facts.nas_ip);
    const seconds interim = nas ? nas->interim_interval : ports::NasRecord{}.interim_interval;
    const auto elsewhere = [&](const std::string& username) {
      return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
        return tx.exec_params("SELECT held_elsewhere($1, $2)", facts.holding_id, username)[0][0]
            .as<bool>();
      });
    };
    const Judgement judged = restored.empty()
                                 ? judge(facts, sessions_, interim, settings_, elsewhere)
                                 : closed(restored, poll_after(facts.waited_ms, settings_.pace));
    if (judged.open()) {
      reply.set_superseded(!store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
        return release(tx, service, request.number(), facts, judged, settings_.longest_lease);
      }));
    }
    add_look(reply, judged, judged.open());
    return facts.holding_id;
  };

  v1::GateReply reply;
  reply.set_open(true);
  for (const std::string& family : families) {
    // What it was revoked with, and what it had before that.
    for (std::int64_t from = 0, found = 1; found != 0; from = found + 1) {
      found = look(family, from, reply);
      if (!reply.superseded()) continue;
      v1::GateReply gone;
      gone.set_superseded(true);
      return gone;
    }
  }
  *reply.mutable_view() = view(service);
  return reply;
}

}  // namespace addrflow::ledger
