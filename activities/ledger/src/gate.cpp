// The release gate: return to the pool is the point of no return (docs/decisions/0007).
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

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

// What the ledger knows, before accounting is asked.
struct Facts {
  bool superseded = false;
  bool held = false;  // a releasing holding is open
  bool kept = false;
  bool exposed = false;
  bool forced = false;
  bool refused = false;  // the AAA rows refuse the next login: confirmed
  bool hold_over = false;
  std::int64_t hold_left_ms = 0;
  std::int64_t quarantine_s = 0;
  std::int64_t longest_quarantine_s = 0;
  system_clock::time_point refused_at;
  bool disconnected = false;  // ACK, or NAK 503
  system_clock::time_point disconnected_at;
  system_clock::time_point now;
  std::vector<std::string> usernames;
  std::string address;
  std::string nas_ip;
  std::int64_t holding_id = 0;
  std::int64_t row_id = 0;
  std::int64_t service_id = 0;
  std::int64_t operation = 0;
};

void read_session_facts(Tx& tx, Facts& facts) {
  const auto aaa = tx.exec_params(
      "SELECT status, wish->>'condition', extract(epoch FROM updated_at) FROM effects"
      " WHERE service_id = $1 AND system = 'aaa' AND status <> 'superseded'"
      " ORDER BY id DESC LIMIT 1",
      facts.service_id);
  if (!aaa.empty() && std::string{aaa[0][0].c_str()} == "confirmed" &&
      std::string{aaa[0][1].c_str()} == "refused") {
    facts.refused = true;
    facts.refused_at = from_epoch(aaa[0][2]);
  }
  const auto cut = tx.exec_params(
      "SELECT extract(epoch FROM e.updated_at) FROM effects e JOIN services s ON s.id = "
      "e.service_id"
      " WHERE e.service_id = $1 AND e.number = s.number AND e.action = 'disconnect'"
      " AND e.code IN ('ack', 'session-not-found')"
      " AND e.status IN ('confirmed', 'not_applicable') ORDER BY e.id DESC LIMIT 1",
      facts.service_id);
  if (!cut.empty()) {
    facts.disconnected = true;
    facts.disconnected_at = from_epoch(cut[0][0]);
  }
}

Facts read_facts(Tx& tx, const ServiceRef& service, std::int64_t number, Lock lock) {
  Facts facts;
  const auto head = read_head(tx, service, lock);
  if (!head || head->number != number) {
    facts.superseded = true;
    return facts;
  }
  facts.service_id = head->id;
  facts.operation = head->last_operation;
  facts.nas_ip = head->nas_ip;
  const auto names = tx.exec_params(
      "SELECT unnest(array_append(former_usernames, coalesce(nullif(username, ''),"
      " subscriber_id))) FROM services WHERE id = $1",
      head->id);
  for (const auto& name : names) facts.usernames.emplace_back(name[0].c_str());
  const auto held = tx.exec_params(
      "SELECT h.id, r.id, host(h.space), h.kept, h.exposed, h.forced, p.quarantine_s,"
      " greatest(p.quarantine_s, p.hold_time_s), extract(epoch FROM clock_timestamp()),"
      " (extract(epoch FROM h.releasing_since + p.hold_time_s * interval '1 second'"
      "   - clock_timestamp()) * 1000)::bigint"
      " FROM holdings h JOIN ip_reservations r ON r.holding_id = h.id"
      " JOIN ip_pools p ON p.id = h.pool_id"
      " WHERE h.service_id = $1 AND h.family = 'ipv4' AND upper_inf(h.period) AND h.releasing"
      " ORDER BY h.id LIMIT 1",
      head->id);
  if (held.empty()) return facts;
  const auto& row = held[0];
  facts.held = true;
  facts.holding_id = row[0].as<std::int64_t>();
  facts.row_id = row[1].as<std::int64_t>();
  facts.address = row[2].c_str();
  facts.kept = row[3].as<bool>();
  facts.exposed = row[4].as<bool>();
  facts.forced = row[5].as<bool>();
  facts.quarantine_s = row[6].as<std::int64_t>();
  facts.longest_quarantine_s = row[7].as<std::int64_t>();
  facts.now = from_epoch(row[8]);
  facts.hold_left_ms = row[9].as<std::int64_t>();
  facts.hold_over = facts.hold_left_ms <= 0;
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

// By accounting; everything here is about a session that may be alive.
Judgement by_accounting(const Facts& facts, const ports::SessionEvidence& seen, seconds interim,
                        seconds longest_lease) {
  if (!seen.open.empty()) {
    const ports::Session& session = seen.open.front();
    return closed(
        fmt::format("accounting shows a session at {} since it was last heard of", session.nas_ip));
  }
  if (seen.stopped_since) return {"strong", "an accounting Stop came after the AAA rows changed"};
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

}  // namespace

v1::GateReply Ledger::gate(const v1::GateRequest& request) {
  const ServiceRef service = checked(request.service());
  const Facts facts = store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    return read_facts(tx, service, request.number(), Lock::kNo);
  });
  v1::GateReply reply;
  const auto answer = [&](const Judgement& judged, bool open) {
    reply.set_open(open);
    reply.set_evidence(judged.evidence);
    reply.set_detail(judged.detail);
    reply.set_next_check_ms(judged.again_ms);
    *reply.mutable_view() = view(service);
    return reply;
  };
  if (facts.superseded) {
    reply.set_superseded(true);
    return reply;
  }
  if (!facts.held) return answer({"none", "the space is not held"}, true);
  if (facts.kept) return answer({"none", "kept for the subscriber"}, true);

  Judgement judged;
  if (facts.forced) {
    judged = {"forced", "a person has released it"};
  } else if (!facts.exposed) {
    judged = {"strong", "AAA has never handed it out"};
  } else if (!facts.refused) {
    judged = closed("the AAA rows do not refuse the next login yet", kSoonMs);
  } else if (facts.hold_over) {
    judged = {"hold_time", "the hold time is over"};
  } else if (sessions_ == nullptr) {
    judged = closed("accounting is not known: the hold time decides", facts.hold_left_ms);
  } else {
    const auto nas = facts.nas_ip.empty() ? std::nullopt : find(service.tenant_id(), facts.nas_ip);
    const seconds interim = nas ? nas->interim_interval : ports::NasRecord{}.interim_interval;
    try {
      const auto seen =
          sessions_->evidence(facts.usernames, facts.address, facts.nas_ip, facts.refused_at);
      judged = by_accounting(facts, seen, interim, settings_.longest_lease);
    } catch (const std::exception&) {
      judged = closed("accounting cannot be reached");
    }
    if (!judged.open() && (judged.again_ms == 0 || judged.again_ms > facts.hold_left_ms))
      judged.again_ms = std::min(facts.hold_left_ms + 1,
                                 std::max<std::int64_t>(settings_.pace.gate_poll_ms(), kSoonMs));
  }
  if (!judged.open()) return answer(judged, false);

  const bool released = store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    const Facts now = read_facts(tx, service, request.number(), Lock::kYes);
    if (now.superseded || now.holding_id != facts.holding_id) return false;
    const std::int64_t quarantine = facts.forced     ? now.longest_quarantine_s
                                    : !facts.exposed ? 0
                                                     : now.quarantine_s;
    close_holding(tx, now.holding_id, now.operation, judged.evidence, quarantine);
    tx.exec_params(
        "UPDATE ip_reservations SET lifecycle_state = 'revoked', updated_at = clock_timestamp(),"
        " lifecycle_revoked_at = coalesce(lifecycle_revoked_at, clock_timestamp()) WHERE id = $1",
        now.row_id);
    const auto effect = plan_netbox(tx, service, now.service_id, now.operation, request.number(),
                                    now.row_id, "release");
    if (effect.effect_id() != 0) {
      tx.exec_params(
          "UPDATE effects SET not_before = clock_timestamp() + $2::bigint * interval '1 second'"
          " WHERE id = $1",
          effect.effect_id(), quarantine);
    }
    write_audit(tx, service, "released", "", facts.address, "", "ok",
                judged.evidence + ": " + judged.detail);
    return true;
  });
  if (!released) {
    reply.set_superseded(true);
    return reply;
  }
  return answer(judged, true);
}

}  // namespace addrflow::ledger
