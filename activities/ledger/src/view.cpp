// What a service is now, and what of it is still to be pursued.
#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <addrflow/ledger/ledger.hpp>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr const char* kTime = "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'";

std::string time_of(const std::string& column) {
  return "coalesce(to_char(" + column + " AT TIME ZONE 'UTC', " + kTime + "), '')";
}

void add_bindings(Tx& tx, v1::ServiceView& view, std::int64_t service_id) {
  const std::string sql =
      "SELECT DISTINCT ON (r.family) r.family, r.lifecycle_state::text, abbrev(r.ip_address),"
      " p.pool_name, r.generation, " +
      time_of("r.lifecycle_allocated_at") + ", " + time_of("r.lifecycle_activated_at") + ", " +
      time_of("r.lifecycle_suspended_at") + ", " + time_of("r.lifecycle_revoked_at") +
      ", coalesce(r.netbox_ip_id, 0), coalesce(upper_inf(h.period), false),"
      " r.lifecycle_metadata::text"
      " FROM ip_reservations r JOIN ip_pools p ON p.id = r.pool_id"
      " LEFT JOIN holdings h ON h.id = r.holding_id WHERE r.service_id = $1"
      " ORDER BY r.family, (r.lifecycle_state = 'revoked'), r.generation DESC, r.id DESC";
  for (const auto& row : tx.exec_params(sql, service_id)) {
    v1::BindingView& binding = *view.add_bindings();
    binding.set_family(row[0].c_str());
    binding.set_state(row[1].c_str());
    const bool ipv4 = binding.family() == domain::kFamilyIpv4;
    (ipv4 ? *binding.mutable_address() : *binding.mutable_prefix()) = row[2].c_str();
    binding.set_pool(row[3].c_str());
    binding.set_generation(row[4].as<std::int64_t>());
    if (row[5].size() > 0) binding.set_allocated_at(row[5].c_str());
    if (row[6].size() > 0) binding.set_activated_at(row[6].c_str());
    if (row[7].size() > 0) binding.set_suspended_at(row[7].c_str());
    if (row[8].size() > 0) binding.set_revoked_at(row[8].c_str());
    if (const auto object = row[9].as<std::int64_t>(); object != 0) {
      if (ipv4) binding.set_netbox_ip_id(object);
      if (!ipv4) binding.set_netbox_prefix_id(object);
    }
    for (const std::string& hold : read_holds(tx, service_id, binding.family()))
      binding.add_holds(hold);
    binding.set_space_held(row[10].as<bool>());
    const auto metadata = nlohmann::json::parse(row[11].is_null() ? "{}" : row[11].c_str());
    for (const auto& [name, value] : metadata.items())
      (*binding.mutable_metadata())[name] =
          value.is_string() ? value.get<std::string>() : value.dump();
  }
}

void add_effects(Tx& tx, v1::ServiceView& view, std::int64_t service_id) {
  const std::string sql =
      "SELECT id, system, action, status, attempts, code, detail, " + time_of("updated_at") +
      ", number, not_before <= clock_timestamp() FROM effects WHERE service_id = $1 AND"
      " (number = $2 OR (system = 'netbox' AND status IN ('planned', 'sent', 'unknown', "
      "'refused')))"
      " ORDER BY id";
  bool pending = false;
  for (const auto& row : tx.exec_params(sql, service_id, view.number())) {
    v1::EffectView effect = read_effect(row);
    const std::string& status = effect.status();
    const bool open =
        status == "planned" || status == "sent" || status == "unknown" || status == "refused";
    const bool due = row[9].as<bool>();
    if (open && due) {
      *view.add_unconfirmed() = effect;
      pending = true;
    }
    if (row[8].as<std::int64_t>() == view.number()) *view.add_recent() = std::move(effect);
  }
  view.set_enforcement(pending ? "pending" : "confirmed");
}

void add_pending_effects(Tx& tx, v1::PendingReply& reply, const Head& head) {
  for (const auto& row : tx.exec_params(
           fmt::format("SELECT e.id, e.system, e.action FROM effects e WHERE e.service_id = $1"
                       " AND {} AND e.not_before <= clock_timestamp()"
                       " AND (e.number = $2 OR e.system = 'netbox') ORDER BY e.id",
                       kUnconfirmed),
           head.id, head.number)) {
    v1::EffectRef& effect = *reply.add_effects();
    effect.set_effect_id(row[0].as<std::int64_t>());
    effect.set_system(row[1].c_str());
    effect.set_action(row[2].c_str());
  }
}

}  // namespace

v1::ServiceView read_view(Tx& tx, const ServiceRef& service) {
  v1::ServiceView view;
  *view.mutable_service() = service;
  view.set_enforcement("confirmed");
  const auto head = read_head(tx, service, Lock::kNo);
  if (!head) return view;
  view.set_number(head->number);
  view.set_username(head->username);
  view.set_nas_ip(head->nas_ip);
  view.set_plan(head->plan);
  view.set_restrict_when(head->restrict_when);
  add_bindings(tx, view, head->id);
  for (const std::string& hold : read_holds(tx, head->id)) view.add_holds(hold);
  for (const auto& row :
       tx.exec_params("SELECT DISTINCT family FROM holdings WHERE service_id = $1"
                      " AND upper_inf(period) AND releasing AND NOT kept ORDER BY family",
                      head->id))
    view.add_leaving(row[0].c_str());
  add_effects(tx, view, head->id);
  return view;
}

v1::ServiceView Ledger::view(const v1::ServiceRef& asked) {
  const ServiceRef service = checked(asked);
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) { return read_view(tx, service); });
}

v1::PendingReply Ledger::pending(const v1::ViewRequest& request) {
  const ServiceRef service = checked(request.service());
  return store_->as_tenant(service.tenant_id(), [&](Tx& tx) {
    v1::PendingReply reply;
    *reply.mutable_pace() = settings_.pace;
    *reply.mutable_view() = read_view(tx, service);
    const auto head = read_head(tx, service, Lock::kNo);
    if (!head) return reply;
    const auto fill = [&](v1::Claim& claim, std::int64_t operation) {
      *claim.mutable_service() = service;
      claim.set_number(head->number);
      claim.set_operation_id(operation);
    };
    fill(*reply.mutable_claim(), head->last_operation);
    if (head->open_operation != 0) {
      fill(*reply.mutable_open_claim(), head->open_operation);
      const auto open =
          tx.exec_params("SELECT operation, key, request::text FROM operations WHERE id = $1",
                         head->open_operation);
      reply.set_open_operation(open[0][0].c_str());
      reply.set_open_key(open[0][1].c_str());
      reply.set_open_request_json(open[0][2].c_str());
    }
    add_pending_effects(tx, reply, *head);
    for (const Row& row : read_rows(tx, head->id)) {
      const bool leaving = row.state == State::kRevoking || row.state == State::kRevoked;
      if (leaving && row.space_held && !row.kept) reply.set_gate(true);
    }
    // Former space of a line that lives on with other.
    if (reply.view().leaving_size() > 0) reply.set_gate(true);
    return reply;
  });
}

}  // namespace addrflow::ledger
