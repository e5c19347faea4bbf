// The journal of effects, and the NAS that they go to.
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>

#include "restore.hpp"
#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

struct Effect {
  std::int64_t id = 0;
  std::int64_t service_id = 0;
  std::int64_t number = 0;
  std::string system;
  std::string action;
  std::string object;
  nlohmann::json wish;
  std::string status;
  int attempts = 0;
  std::string reply;
};

std::optional<Effect> lock_effect(Tx& tx, std::int64_t id) {
  const auto found = tx.exec_params(
      "SELECT id, service_id, number, system, action, object, wish::text, status, attempts,"
      " coalesce(reply::text, '') FROM effects WHERE id = $1 FOR UPDATE",
      id);
  if (found.empty()) return std::nullopt;
  const auto& row = found[0];
  return Effect{.id = row[0].as<std::int64_t>(),
                .service_id = row[1].as<std::int64_t>(),
                .number = row[2].as<std::int64_t>(),
                .system = row[3].c_str(),
                .action = row[4].c_str(),
                .object = row[5].c_str(),
                .wish = nlohmann::json::parse(row[6].c_str()),
                .status = row[7].c_str(),
                .attempts = row[8].as<int>(),
                .reply = row[9].c_str()};
}

v1::EffectReply reply_of(const Effect& effect) {
  v1::EffectReply reply;
  if (!effect.reply.empty())
    static_cast<void>(v1::from_json(nlohmann::json::parse(effect.reply), reply));
  reply.set_status(effect.status);
  return reply;
}

bool is_over(const Effect& effect) {
  if (effect.status == "refused") return !reply_of(effect).retry();
  return effect.status == "confirmed" || effect.status == "not_applicable" ||
         effect.status == "abandoned";
}

// NetBox mirrors objects: there the newest wish for the object counts. AAA and the session belong
// to the last transition alone.
bool is_current(Tx& tx, const Effect& effect) {
  if (effect.system == "netbox") {
    return tx
        .exec_params(
            "SELECT NOT EXISTS (SELECT 1 FROM effects WHERE service_id = $1 AND"
            " system = 'netbox' AND object = $2 AND id > $3)",
            effect.service_id, effect.object, effect.id)[0][0]
        .as<bool>();
  }
  return tx
      .exec_params("SELECT number = $2 FROM services WHERE id = $1", effect.service_id,
                   effect.number)[0][0]
      .as<bool>();
}

// The present condition, after a packet that had another one: its plan may be on.
nlohmann::json wish_after(Tx& tx, const ServiceRef& service, const Effect& stale) {
  nlohmann::json wish =
      with_plans_left(tx, stale.service_id, session_wish(tx, service, stale.service_id));
  const auto plan = stale.wish.value("plan", std::string{});
  auto former = wish.value("former_plans", std::vector<std::string>{});
  const bool named =
      plan == wish.at("plan").get<std::string>() || std::ranges::find(former, plan) != former.end();
  if (stale.action != "coa" || plan.empty() || named) return wish;
  former.insert(former.begin(), plan);
  wish["former_plans"] = std::move(former);
  return wish;
}

// A stale packet may have changed the session: the service states its present condition again.
void state_again(Tx& tx, const ServiceRef& service, const Effect& stale) {
  if (stale.system != "radius") return;
  const auto head = read_head(tx, service, Lock::kYes);
  const nlohmann::json wish = wish_after(tx, service, stale);
  if (!head || wish.at("condition") == "refused") return;
  const bool waits = !tx.exec_params(
                            "SELECT 1 FROM effects WHERE service_id = $1 AND number = $2 AND"
                            " system = 'radius' AND status = 'planned'",
                            head->id, head->number)
                          .empty();
  if (waits) return;
  static_cast<void>(plan_effect(tx, service, head->id, head->last_operation, head->number, "radius",
                                "coa", "", wish));
}

}  // namespace

ports::Leave Ledger::begin(const v1::EffectRequest& request,
                           std::chrono::milliseconds hard_deadline) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    ports::Leave leave;
    const auto effect = lock_effect(tx, request.effect().effect_id());
    if (!effect) return leave;
    leave.effect_id = effect->id;
    leave.number = effect->number;
    leave.attempt = effect->attempts;
    leave.tenant = service.tenant_id();
    leave.system = effect->system;
    leave.action = effect->action;
    leave.wish = effect->wish;
    if (is_over(*effect)) {
      leave.kind = ports::Leave::Kind::kRecorded;
      leave.recorded = reply_of(*effect);
      return leave;
    }
    if (effect->status == "superseded" || !is_current(tx, *effect)) {
      tx.exec_params(
          "UPDATE effects SET status = 'superseded', updated_at = clock_timestamp()"
          " WHERE id = $1",
          effect->id);
      return leave;
    }
    try {
      guard(tx);
    } catch (const Restored& restored) {
      // Nothing leaves, and nothing is given up: after the reconciliation it is looked at again.
      throw LedgerError{ErrorCode::kUnavailable, restored.what()};
    }
    leave.kind = ports::Leave::Kind::kSend;
    leave.attempt = effect->attempts + 1;
    leave.earlier_unknown = effect->status == "sent" || effect->status == "unknown";
    if (effect->system == "netbox") {
      leave.wish["unsettled_ms"] = unsettled_ms(tx, effect->service_id, effect->object, effect->id);
    }
    tx.exec_params(
        "UPDATE effects SET status = 'sent', attempts = attempts + 1, reply = NULL,"
        " sent_at = clock_timestamp(), updated_at = clock_timestamp(), hard_deadline = "
        "greatest(hard_deadline,"
        " clock_timestamp() + $2::bigint * interval '1 millisecond') WHERE id = $1",
        effect->id, hard_deadline.count());
    // From here on the address may be in use.
    if (effect->system == "aaa" && effect->wish.value("condition", "refused") != "refused") {
      tx.exec_params(
          "UPDATE holdings SET exposed = true WHERE service_id = $1 AND upper_inf(period)"
          " AND NOT exposed AND abbrev(space) IN ($2, $3)",
          effect->service_id, effect->wish.value("framed_ip", ""),
          effect->wish.value("delegated_prefix", ""));
    }
    return leave;
  });
}

bool Ledger::still_current(const v1::EffectRequest& request) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    const auto found = tx.exec_params(
        "SELECT service_id, number, system, object, status FROM effects WHERE id = $1",
        request.effect().effect_id());
    if (found.empty() || std::string{found[0][4].c_str()} == "superseded") return false;
    Effect effect;
    effect.id = request.effect().effect_id();
    effect.service_id = found[0][0].as<std::int64_t>();
    effect.number = found[0][1].as<std::int64_t>();
    effect.system = found[0][2].c_str();
    effect.object = found[0][3].c_str();
    return is_current(tx, effect);
  });
}

bool Ledger::finish(const v1::EffectRequest& request, int attempt, const v1::EffectReply& outcome) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    // The head first, as everywhere: two orders of locks would meet in a deadlock.
    const auto head = read_head(tx, service, Lock::kYes);
    const auto effect = lock_effect(tx, request.effect().effect_id());
    if (!head || !effect) return false;
    if (outcome.netbox_id() != 0) {
      tx.exec_params(
          "UPDATE ip_reservations SET netbox_ip_id = $3 WHERE service_id = $1 AND netbox_key = $2",
          effect->service_id, effect->object, outcome.netbox_id());
    }
    const bool current = effect->status != "superseded" && is_current(tx, *effect);
    // What is final stays; a late answer of an earlier attempt may still make an unknown one known.
    const bool late = attempt < effect->attempts && outcome.status() == "unknown";
    if (!is_over(*effect) && !late) {
      const std::string status = current ? outcome.status() : "superseded";
      tx.exec_params(
          "UPDATE effects SET status = $2, code = $3, detail = $4, reply = $5::jsonb,"
          " updated_at = clock_timestamp() WHERE id = $1",
          effect->id, status, outcome.code(), outcome.detail(), v1::to_json_text(outcome));
    }
    if (!current) state_again(tx, service, *effect);
    return current;
  });
}

namespace {

// host() of each element, "a,b,c".
constexpr std::string_view kNasColumns =
    "id, tenant_id, name, host(nas_ip), coa_host, coa_port, dialect, secret_ref, nas_identifier,"
    " interim_interval_s, coalesce((SELECT string_agg(host(a), ',') FROM unnest(source_addresses) "
    "a),"
    " ''), next_secret_ref, rate, request_window, jitter_ms, redundancy_group, transport, tls_ca,"
    " tls_certificate, tls_key, tls_server_name";

ports::NasRecord nas_of(const pqxx::row& row) {
  ports::NasRecord nas;
  int column = 0;
  const auto next = [&] { return row[column++]; };
  nas.id = next().as<std::int64_t>();
  nas.tenant = next().c_str();
  nas.name = next().c_str();
  nas.nas_ip = next().c_str();
  nas.coa_host = next().c_str();
  nas.coa_port = static_cast<std::uint16_t>(next().as<int>());
  nas.dialect = next().c_str();
  nas.secret_ref = next().c_str();
  nas.nas_identifier = next().c_str();
  nas.interim_interval = std::chrono::seconds{next().as<std::int64_t>()};
  std::string addresses = next().c_str();
  for (std::size_t comma = 0; !addresses.empty(); addresses.erase(0, comma + 1)) {
    comma = std::min(addresses.find(','), addresses.size());
    nas.source_addresses.push_back(addresses.substr(0, comma));
    if (comma == addresses.size()) break;
  }
  nas.next_secret_ref = next().c_str();
  nas.rate = next().as<double>();
  nas.window = next().as<std::size_t>();
  nas.jitter = std::chrono::milliseconds{next().as<std::int64_t>()};
  nas.redundancy_group = next().c_str();
  nas.transport = next().c_str();
  nas.tls_ca = next().c_str();
  nas.tls_certificate = next().c_str();
  nas.tls_key = next().c_str();
  nas.tls_server_name = next().c_str();
  return nas;
}

std::vector<ports::NasRecord> nas_of(const pqxx::result& rows) {
  std::vector<ports::NasRecord> all;
  for (const auto& row : rows) all.push_back(nas_of(row));
  return all;
}

}  // namespace

std::vector<ports::NasRecord> Ledger::others_in_group(const ports::NasRecord& nas) {
  if (nas.redundancy_group.empty()) return {};
  return store_->as_tenant(nas.tenant, [&](Tx& tx) {
    return nas_of(tx.exec_params(
        fmt::format("SELECT {} FROM nas WHERE tenant_id = $1 AND redundancy_group = $2 AND id <> $3"
                    " ORDER BY name LIMIT 8",
                    kNasColumns),
        nas.tenant, nas.redundancy_group, nas.id));
  });
}

std::vector<ports::NasRecord> Ledger::list_nas(const std::string& tenant, const std::string& name) {
  return store_->as_tenant(tenant, [&](Tx& tx) {
    return nas_of(tx.exec_params(fmt::format("SELECT {} FROM nas WHERE tenant_id = $1"
                                             " AND ($2 = '' OR name = $2) ORDER BY name, nas_ip",
                                             kNasColumns),
                                 tenant, name));
  });
}

std::optional<ports::NasRecord> Ledger::find(const std::string& tenant, const std::string& nas_ip) {
  auto known = store_->as_tenant(tenant, [&](Tx& tx) -> std::optional<ports::NasRecord> {
    // Its own address goes before one that it merely uses; never trust a text to be an address.
    const auto found = tx.exec_params(
        fmt::format("SELECT {} FROM nas WHERE host(nas_ip) = $1 OR EXISTS (SELECT 1 FROM"
                    " unnest(source_addresses) a WHERE host(a) = $1)"
                    " ORDER BY (host(nas_ip) = $1) DESC, id LIMIT 1",
                    kNasColumns),
        nas_ip);
    if (found.empty()) return std::nullopt;
    return nas_of(found[0]);
  });
  if (known) return known;
  return settings_.default_nas;
}

}  // namespace addrflow::ledger
