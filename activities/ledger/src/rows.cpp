#include "rows.hpp"

#include <fmt/format.h>
#include <addrflow/domain/ids.hpp>
#include <algorithm>

namespace addrflow::ledger {

ServiceRef checked(const ServiceRef& service) {
  ServiceRef whole = service;
  if (whole.service().empty()) whole.set_service(std::string{domain::kDefaultService});
  const domain::ServiceId id{whole.tenant_id(), whole.subscriber_id(), whole.service()};
  if (const auto ok = domain::check_service(id); !ok)
    throw LedgerError{ErrorCode::kInvalidArgument, ok.error().message};
  return whole;
}

std::optional<Head> read_head(Tx& tx, const ServiceRef& service, Lock lock) {
  const auto found = tx.exec_params(
      "SELECT id, number, coalesce(open_operation_id, 0), coalesce(last_operation_id, 0),"
      " generation, username, nas_ip, plan, restrict_when FROM services"
      " WHERE tenant_id = $1 AND subscriber_id = $2 AND service = $3" +
          std::string{lock == Lock::kYes ? " FOR UPDATE" : ""},
      service.tenant_id(), service.subscriber_id(), service.service());
  if (found.empty()) return std::nullopt;
  const auto& row = found[0];
  return Head{.id = row[0].as<std::int64_t>(),
              .number = row[1].as<std::int64_t>(),
              .open_operation = row[2].as<std::int64_t>(),
              .last_operation = row[3].as<std::int64_t>(),
              .generation = row[4].as<std::int64_t>(),
              .username = row[5].c_str(),
              .nas_ip = row[6].c_str(),
              .plan = row[7].c_str(),
              .restrict_when = row[8].c_str()};
}

// Never trust a text to be an address.
std::optional<std::string> known_nas(Tx& tx, const std::string& nas_ip) {
  if (nas_ip.empty()) return std::nullopt;
  const auto found = tx.exec_params(
      "SELECT host(nas_ip) FROM nas WHERE host(nas_ip) = $1 OR EXISTS (SELECT 1 FROM"
      " unnest(source_addresses) a WHERE host(a) = $1) ORDER BY (host(nas_ip) = $1) DESC, id"
      " LIMIT 1",
      nas_ip);
  if (found.empty()) return std::nullopt;
  return found[0][0].c_str();
}

std::string nas_address(Tx& tx, const std::string& nas_ip) {
  return known_nas(tx, nas_ip).value_or(nas_ip);
}

std::vector<Row> read_rows(Tx& tx, std::int64_t service_id) {
  std::vector<Row> rows;
  for (const auto& row : tx.exec_params(
           "SELECT DISTINCT ON (r.family) r.id, r.family, r.lifecycle_state::text,"
           " abbrev(r.ip_address), r.pool_id::text, r.generation, coalesce(r.holding_id, 0),"
           " r.created_by_operation, r.created_by, coalesce(upper_inf(h.period), false),"
           " coalesce(h.kept, false)"
           " FROM ip_reservations r LEFT JOIN holdings h ON h.id = r.holding_id"
           " WHERE r.service_id = $1 ORDER BY r.family, (r.lifecycle_state = 'revoked'),"
           " r.generation DESC, r.id DESC",
           service_id)) {
    rows.push_back({.id = row[0].as<std::int64_t>(),
                    .family = row[1].c_str(),
                    .state = domain::parse_state(row[2].c_str()).value(),
                    .address = row[3].c_str(),
                    .pool_id = row[4].c_str(),
                    .generation = row[5].as<std::int64_t>(),
                    .holding_id = row[6].as<std::int64_t>(),
                    .created_by_operation = row[7].as<std::int64_t>(),
                    .created_by = row[8].c_str(),
                    .space_held = row[9].as<bool>(),
                    .kept = row[10].as<bool>()});
  }
  return rows;
}

const Row* find_row(const std::vector<Row>& rows, std::string_view family) {
  const auto found = std::ranges::find(rows, family, &Row::family);
  return found == rows.end() ? nullptr : &*found;
}

std::vector<std::string> read_holds(Tx& tx, std::int64_t service_id, std::string_view family) {
  std::vector<std::string> holds;
  for (const auto& row :
       tx.exec_params("SELECT reason FROM holds WHERE service_id = $1 AND ($2 = '' OR family = $2)"
                      " GROUP BY reason ORDER BY min(since), reason",
                      service_id, text(family)))
    holds.emplace_back(row[0].c_str());
  return holds;
}

v1::EffectView read_effect(const pqxx::row& row) {
  v1::EffectView effect;
  effect.set_effect_id(row[0].as<std::int64_t>());
  effect.set_system(row[1].c_str());
  effect.set_action(row[2].c_str());
  effect.set_status(row[3].c_str());
  effect.set_attempts(row[4].as<int>());
  effect.set_code(row[5].c_str());
  effect.set_detail(row[6].c_str());
  effect.set_updated_at(row[7].c_str());
  return effect;
}

std::string array_of(const std::vector<std::string>& words) {
  return fmt::format("{{{}}}", fmt::join(words, ","));
}

std::vector<std::string> words_of(std::string_view array) {
  std::vector<std::string> words;
  array = array.substr(1, array.size() - 2);
  while (!array.empty()) {
    const auto end = std::min(array.find(','), array.size());
    words.emplace_back(array.substr(0, end));
    array.remove_prefix(std::min(end + 1, array.size()));
  }
  return words;
}

std::vector<std::string> families_of(Tx& tx, std::int64_t operation) {
  const auto found =
      tx.exec_params("SELECT families::text FROM operations WHERE id = $1", operation);
  return found.empty() ? std::vector<std::string>{} : words_of(found[0][0].c_str());
}

Head fenced_head(Tx& tx, const v1::Claim& claim, Fence fence) {
  const auto head = read_head(tx, checked(claim.service()), Lock::kYes);
  if (!head) throw LedgerError{ErrorCode::kNotFound, "service is not known"};
  const bool current =
      head->number == claim.number() && head->last_operation == claim.operation_id();
  const bool open = head->open_operation == claim.operation_id();
  if (!current || (fence == Fence::kOpenOperation && !open)) {
    throw LedgerError{ErrorCode::kSuperseded,
                      fmt::format("claim.number {} is not the service's: it is at {}",
                                  claim.number(), head->number)};
  }
  return *head;
}

void record_step(Tx& tx, const std::string& tenant, std::int64_t operation, const std::string& step,
                 const google::protobuf::Message& reply) {
  tx.exec_params(
      "INSERT INTO operation_steps (operation_id, tenant_id, step, reply)"
      " VALUES ($1, $2, $3, $4::jsonb)",
      operation, tenant, step, v1::to_json_text(reply));
}

std::string wish_key(std::string_view family) {
  return family == domain::kFamilyIpv4 ? "framed_ip" : "delegated_prefix";
}

SessionFacts read_session_facts(Tx& tx, std::int64_t service_id) {
  const auto head = tx.exec_params(
      "SELECT username, to_jsonb(former_names(id))::text, nas_ip, plan,"
      " restrict_when, to_jsonb(former_usernames)::text FROM services WHERE id = $1",
      service_id);
  return {
      .username = head[0][0].c_str(),
      .former_usernames = nlohmann::json::parse(head[0][1].c_str()).get<std::vector<std::string>>(),
      .left_usernames = nlohmann::json::parse(head[0][5].c_str()).get<std::vector<std::string>>(),
      .nas_ip = head[0][2].c_str(),
      .plan = head[0][3].c_str(),
      .restrict_when = head[0][4].c_str(),
      .rows = read_rows(tx, service_id)};
}

nlohmann::json aaa_wish(nlohmann::json wish, const std::vector<std::string>& left_usernames) {
  wish["former_usernames"] = left_usernames;
  return wish;
}

nlohmann::json session_wish(Tx& tx, const ServiceRef& service, std::int64_t service_id) {
  return session_wish(service, read_session_facts(tx, service_id));
}

nlohmann::json session_wish(const ServiceRef& service, const SessionFacts& facts) {
  nlohmann::json wish{{"username", domain::username_of(facts.username, service.subscriber_id())},
                      {"former_usernames", facts.former_usernames},
                      {"nas_ip", facts.nas_ip},
                      {"plan", facts.plan.empty() ? "default" : facts.plan},
                      {"framed_ip", ""},
                      {"delegated_prefix", ""},
                      {"condition", "refused"}};
  bool live = false;
  bool suspended = false;
  bool active = false;
  for (const Row& row : facts.rows) {
    const bool entitled = row.state == State::kAllocated || row.state == State::kActive;
    if (!entitled && row.state != State::kSuspended) continue;
    live = true;
    active = active || row.state == State::kActive;
    suspended = suspended || row.state == State::kSuspended;
    wish[wish_key(row.family)] = row.address;
  }
  if (live) {
    const bool lifted = active && facts.restrict_when == "all";
    wish["condition"] = suspended && !lifted ? "restricted" : "full";
    return wish;
  }
  // Nothing is to be had any more: what was had still says which session it is.
  for (const Row& row : facts.rows) wish[wish_key(row.family)] = row.address;
  return wish;
}

// The newest wish for an object stands for all older ones.
static void supersede_older(Tx& tx, std::int64_t service_id, const std::string& object) {
  tx.exec_params(
      fmt::format("UPDATE effects e SET status = 'superseded', updated_at = clock_timestamp()"
                  " WHERE e.service_id = $1 AND e.system = 'netbox' AND e.object = $2 AND {}",
                  kUnconfirmed),
      service_id, object);
}

v1::EffectRef plan_effect(Tx& tx, const ServiceRef& service, std::int64_t service_id,
                          std::int64_t operation, std::int64_t number, const std::string& system,
                          const std::string& action, const std::string& object,
                          const nlohmann::json& wish) {
  if (system == "netbox") supersede_older(tx, service_id, object);
  const auto made = tx.exec_params(
      "INSERT INTO effects (tenant_id, service_id, operation_id, number, system, action, object,"
      " wish) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb) RETURNING id",
      service.tenant_id(), service_id, operation, number, system, action, object,
      system == "aaa" ? aaa_wish(wish, read_session_facts(tx, service_id).left_usernames).dump()
                      : wish.dump());
  v1::EffectRef effect;
  effect.set_effect_id(made[0][0].as<std::int64_t>());
  effect.set_system(system);
  effect.set_action(action);
  return effect;
}

std::optional<NetboxFacts> read_netbox_facts(Tx& tx, std::int64_t row_id) {
  const auto found = tx.exec_params(
      "SELECT p.netbox_mode, r.netbox_key, abbrev(r.ip_address),"
      " CASE WHEN r.family = 'ipv4' THEN masklen(p.prefix) ELSE masklen(r.ip_address) END,"
      " coalesce(d.netbox_vrf_id, 0), coalesce(r.netbox_ip_id, 0), r.lifecycle_state::text,"
      " r.family, p.id::text, coalesce(p.netbox_prefix_id, 0), r.created_by = 'import'"
      " FROM ip_reservations r JOIN ip_pools p ON p.id = r.pool_id"
      " JOIN routing_domains d ON d.id = p.routing_domain_id WHERE r.id = $1",
      row_id);
  if (found.empty()) return std::nullopt;
  const auto& row = found[0];
  return NetboxFacts{.mode = row[0].c_str(),
                     .key = row[1].c_str(),
                     .space = row[2].c_str(),
                     .family = row[7].c_str(),
                     .state = row[6].c_str(),
                     .prefix_length = row[3].as<int>(),
                     .vrf_id = row[4].as<std::int64_t>(),
                     .netbox_id = row[5].as<std::int64_t>(),
                     .pool_id = row[8].c_str(),
                     .pool_netbox_id = row[9].as<std::int64_t>(),
                     .taken_over = row[10].as<bool>() && row[5].as<std::int64_t>() > 0};
}

bool leaves_netbox_alone(Tx& tx, std::int64_t service_id, std::int64_t operation) {
  const auto asked = tx.exec_params(
      "SELECT coalesce(request->>'update_netbox' = 'false', false) FROM operations"
      " WHERE service_id = $1 AND id <= $2"
      " AND operation NOT IN ('retry', 'adopt', 'force_release') ORDER BY id DESC LIMIT 1",
      service_id, operation);
  return !asked.empty() && asked[0][0].as<bool>();
}

// Of space that becomes free: by what sent it away, not by what was asked of the line since. What
// nobody has sent away is undone by the operation that took it.
static bool leaves_release_alone(Tx& tx, std::int64_t operation, std::int64_t row_id) {
  const auto asked = tx.exec_params(
      "SELECT coalesce(o.request->>'update_netbox' = 'false', false) FROM ip_reservations r"
      " JOIN holdings h ON h.id = r.holding_id JOIN operations o ON o.service_id = h.service_id"
      " WHERE r.id = $2 AND o.id <= $1 AND (o.id = h.opened_by OR (o.id > h.opened_by"
      "  AND o.operation IN ('revoke', 'readdress') AND h.family = ANY(o.families)"
      "  AND coalesce((o.outcome->>'success')::boolean, true)))"
      " ORDER BY o.id = h.opened_by, o.id LIMIT 1",
      operation, row_id);
  return !asked.empty() && asked[0][0].as<bool>();
}

v1::EffectRef plan_netbox(Tx& tx, const ServiceRef& service, std::int64_t service_id,
                          std::int64_t operation, std::int64_t number, std::int64_t row_id,
                          const std::string& action) {
  const auto facts = read_netbox_facts(tx, row_id);
  if (!facts || facts->mode == "off") return {};
  const nlohmann::json wish = netbox_wish(service, *facts, action);
  const bool frees = action == "release";
  const bool alone = frees ? leaves_release_alone(tx, operation, row_id)
                           : leaves_netbox_alone(tx, service_id, operation);
  if (!alone) {
    return plan_effect(tx, service, service_id, operation, number, "netbox", action, facts->key,
                       wish);
  }
  // What an earlier request wanted told is still to be told, until the space is free for others:
  // before that this is a wish for no object, which stands for no older one.
  if (frees) supersede_older(tx, service_id, facts->key);
  tx.exec_params(
      "INSERT INTO effects (tenant_id, service_id, operation_id, number, system, action, object,"
      " wish, status, code, detail) VALUES ($1, $2, $3, $4, 'netbox', $5, $6, $7::jsonb,"
      " 'not_applicable', 'left-alone', 'the request leaves NetBox alone')",
      service.tenant_id(), service_id, operation, number, action, frees ? facts->key : "",
      wish.dump());
  return {};
}

// The same space again for the same service is the same NetBox object, adopted by its key.
std::string netbox_key(const ServiceRef& service, std::string_view family, std::string_view space) {
  return fmt::format("{}/{}/{}/{}/{}", service.tenant_id(), service.subscriber_id(),
                     service.service(), family, space);
}

nlohmann::json netbox_wish(const ServiceRef& service, const NetboxFacts& facts,
                           const std::string& action) {
  const bool reserves = action == "reserve" || action == "take";
  const std::string state = reserves                 ? "allocated"
                            : action == "set_active" ? "active"
                            : action == "suspend"    ? "suspended"
                            : action == "deprecate"  ? "revoked"
                                                     : facts.state;
  nlohmann::json wish{
      {"key", facts.key},
      {"family", facts.family},
      {facts.family == domain::kFamilyIpv4 ? "address" : "prefix", facts.space},
      {"prefix_length", facts.prefix_length},
      {"vrf_id", facts.vrf_id},
      {"netbox_id", facts.netbox_id},
      {"pool_id", facts.pool_id},
      {"pool_netbox_id", facts.pool_netbox_id},
      {"tenant", service.tenant_id()},
      {"subscriber", service.subscriber_id()},
      {"service", service.service()},
      {"state", state},
      {"description", fmt::format("{} of {}", service.service(), service.subscriber_id())}};
  if (facts.taken_over) wish["taken_over"] = true;
  return wish;
}

bool owes(Tx& tx, std::int64_t service_id, const std::string& system, Owing owing) {
  return tx
      .exec_params(
          fmt::format(
              "SELECT EXISTS (SELECT 1 FROM effects e WHERE e.service_id = $1 AND e.system = $2"
              " AND (e.status = 'superseded' OR ($3 AND {}))"
              " AND e.code <> 'never-left' AND e.id > coalesce((SELECT max(c.id) FROM effects c"
              "  WHERE c.service_id = $1 AND c.system = $2"
              "  AND c.status IN ('confirmed', 'not_applicable')), 0))",
              kUnconfirmed),
          service_id, system, owing == Owing::kOnceAllIsSuperseded)[0][0]
      .as<bool>();
}

// One that was answered later does not excuse an older one that may leave after it.
std::optional<std::int64_t> late_packet_ms(Tx& tx, std::int64_t service_id, std::int64_t number,
                                           const std::string& statuses) {
  const auto late = tx.exec_params(
      "SELECT max(greatest(0, extract(epoch FROM hard_deadline - clock_timestamp()) * "
      "1000))::bigint"
      " FROM effects WHERE service_id = $1 AND number < $2 AND system = 'radius' AND action = 'coa'"
      " AND attempts > 0 AND hard_deadline IS NOT NULL AND status = ANY($3::text[])"
      " AND (hard_deadline > clock_timestamp() OR id > coalesce((SELECT max(c.id) FROM effects c"
      "  WHERE c.service_id = $1 AND c.system = 'radius' AND c.number < $2"
      "  AND c.status IN ('confirmed', 'not_applicable')), 0))",
      service_id, number, statuses);
  if (late[0][0].is_null()) return std::nullopt;
  return late[0][0].as<std::int64_t>();
}

void write_audit(Tx& tx, const ServiceRef& service, const std::string& event,
                 const std::string& actor, const std::string& address, const std::string& pool_id,
                 const std::string& code, const std::string& detail) {
  tx.exec_params(
      "INSERT INTO audit_log (tenant_id, subscriber_id, service, event, actor, address, pool_id,"
      " code, detail) VALUES ($1, $2, $3, $4, $5, nullif($6, '')::inet, nullif($7, '')::uuid, $8,"
      " $9)",
      service.tenant_id(), service.subscriber_id(), service.service(), event, actor, address,
      pool_id, code, detail);
}

}  // namespace addrflow::ledger
