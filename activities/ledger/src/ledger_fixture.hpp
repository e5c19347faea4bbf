// The ledger on a real PostgreSQL: a database for each test program, a tenant for each test, and
// the steps of a service's workflow as plain calls.
#pragma once

#include <fmt/format.h>
#include <unistd.h>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <pqxx/pqxx>

#include "peers.hpp"

namespace addrflow::ledger {

using domain::ErrorCode;

struct FakeSessions : ports::SessionDirectory {
  std::vector<ports::Session> open_sessions(const std::vector<std::string>&) override {
    if (away) throw std::runtime_error{"away"};
    return seen.open;
  }
  ports::SessionEvidence evidence(const std::vector<std::string>&, const std::string&,
                                  const std::string&,
                                  std::chrono::system_clock::time_point) override {
    if (away) throw std::runtime_error{"away"};
    return seen;
  }
  std::vector<std::size_t> ended(const std::vector<ports::Waiting>& waiting) override {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      const auto stop = stops.find(waiting[i].username);
      if (stop != stops.end() && stop->second >= waiting[i].since) places.push_back(i);
    }
    return places;
  }
  bool away = false;  // accounting cannot be read
  ports::SessionEvidence seen;
  std::map<std::string, std::chrono::system_clock::time_point> stops;  // by username
};

inline std::string database_url() {
  static const std::string url = [] {
    const std::string base = testing::need_peer("ADDRFLOW_TEST_PG_URL");
    const std::string name = fmt::format("ledger_test_{}", ::getpid());
    pqxx::connection connection{base};
    pqxx::nontransaction tx{connection};
    tx.exec("CREATE DATABASE " + name);
    return base.substr(0, base.rfind('/') + 1) + name;
  }();
  return url;
}

class LedgerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ADDRFLOW_NEEDS_PEER("ADDRFLOW_TEST_PG_URL");
    Migrator{database_url()}.up();
    settings.url = database_url();
    ledger = std::make_unique<Ledger>(settings, &sessions);
    static int count = 0;
    tenant = fmt::format("t{}", ++count);
    ledger->add_tenant(tenant);
  }

  // Whatever a test does, it leaves no invariant broken, unless it says that it breaks one itself.
  void TearDown() override {
    if (tenant.empty()) return;  // skipped
    settings = {};               // a test may have led its ledger astray
    settings.url = database_url();
    ledger = std::make_unique<Ledger>(settings);
    if (!plants_violation) expect_clean();
    if (plants_violation || HasFailure()) take_away();
  }

  // Rows that break an invariant are no later test's.
  void take_away() const {
    std::string away =
        "SET session_replication_role = replica; UPDATE ledger_guard SET restored = false;";
    const std::string own = fmt::format("tenant_id IN ('{0}', '{0}-guest')", tenant);
    for (const char* table : {"holdings", "ip_reservations", "effects", "operations", "services",
                              "subscriber_network_profiles"})
      away += fmt::format("DELETE FROM {} WHERE {};", table, own);
    away += fmt::format(
        "DELETE FROM pool_addresses WHERE pool_id IN (SELECT id FROM ip_pools WHERE {})", own);
    sql(away);
  }

  PoolSpec pool_spec(const std::string& prefix = "198.51.100.0/24") const {
    PoolSpec spec;
    spec.tenant = tenant;
    spec.name = "main";
    spec.prefix = prefix;
    spec.routing_domain = tenant;
    spec.netbox_mode = "off";
    return spec;
  }
  PoolInfo pool(const std::string& prefix = "198.51.100.0/24") {
    return ledger->add_pool(pool_spec(prefix));
  }

  // One that no packet is sent to.
  ports::NasRecord nas_record(const std::string& nas_ip) const {
    ports::NasRecord record;
    record.tenant = tenant;
    record.name = tenant + "-" + nas_ip;
    record.nas_ip = nas_ip;
    record.secret_ref = "file:/dev/null";
    return record;
  }

  v1::ServiceRef service(const std::string& subscriber) const {
    v1::ServiceRef ref;
    ref.set_tenant_id(tenant);
    ref.set_subscriber_id(subscriber);
    ref.set_service("internet");
    return ref;
  }

  v1::ClaimRequest ask(const std::string& operation, const std::string& subscriber,
                       const std::string& key) const {
    v1::ClaimRequest request;
    *request.mutable_service() = service(subscriber);
    request.mutable_caller()->set_key(key);
    request.mutable_caller()->set_actor("test");
    request.set_operation(operation);
    request.set_request_hash(operation + key);
    request.set_request_json("{}");
    request.set_run_id("run");
    request.set_username(tenant + "-" + subscriber);  // unique over all tenants
    return request;
  }

  v1::ReserveReply reserve(const v1::Claim& claim, const std::string& address = {}) {
    v1::ReserveRequest request;
    *request.mutable_claim() = claim;
    request.set_family("ipv4");
    request.set_requested_address(address);
    return ledger->reserve(request);
  }

  v1::ReserveReply reserve_prefix(const v1::Claim& claim, const std::string& prefix = {},
                                  int size = 0) {
    v1::ReserveRequest request;
    *request.mutable_claim() = claim;
    request.set_family("ipv6_pd");
    request.set_requested_address(prefix);
    request.set_prefix_length(size);
    return ledger->reserve(request);
  }

  v1::TransitionRequest to(const v1::Claim& claim, const std::string& state) {
    v1::TransitionRequest move;
    *move.mutable_claim() = claim;
    move.add_families("ipv4");
    move.set_state(state);
    move.set_plan_aaa(true);
    return move;
  }

  void finish(const v1::Claim& claim, bool success = true) {
    v1::FinishRequest request;
    *request.mutable_claim() = claim;
    request.mutable_result()->set_success(success);
    request.mutable_result()->set_code(success ? "ok" : "internal");
    ledger->finish(request);
  }

  void send(const v1::Claim& claim, const v1::EffectRef& effect, const std::string& code = "ok",
            const std::string& status = "confirmed") {
    v1::EffectRequest request;
    *request.mutable_service() = claim.service();
    request.set_number(claim.number());
    *request.mutable_effect() = effect;
    const auto leave = ledger->begin(request, std::chrono::seconds{1});
    ASSERT_EQ(leave.kind, ports::Leave::Kind::kSend);
    v1::EffectReply reply;
    reply.set_status(status);
    reply.set_code(code);
    ASSERT_TRUE(ledger->finish(request, leave.attempt, reply));
  }

  std::string allocate(const std::string& subscriber, const std::string& key,
                       bool exposed = false) {
    const auto claimed = ledger->claim(ask("allocate", subscriber, key));
    EXPECT_EQ(claimed.outcome(), "claimed");
    const auto reserved = reserve(claimed.claim());
    const auto moved = ledger->transition(to(claimed.claim(), "allocated"));
    if (exposed) send(claimed.claim(), moved.aaa());
    finish(claimed.claim());
    return reserved.address();
  }

  // Up to the gate.
  v1::Claim revoke(const std::string& subscriber, const std::string& key,
                   const std::string& disconnect = "ack") {
    const auto claimed = ledger->claim(ask("revoke", subscriber, key));
    auto move = to(claimed.claim(), "revoking");
    move.set_plan_radius("disconnect");
    const auto moved = ledger->transition(move);
    send(claimed.claim(), moved.aaa());
    send(claimed.claim(), moved.radius(), disconnect,
         disconnect == "timeout" ? "unknown" : "confirmed");
    finish(claimed.claim());
    return claimed.claim();
  }

  v1::GateReply gate(const v1::Claim& claim) {
    v1::GateRequest request;
    *request.mutable_service() = claim.service();
    request.set_number(claim.number());
    return ledger->gate(request);
  }

  template <class F>
  static ErrorCode code_of(F work) {
    try {
      work();
    } catch (const LedgerError& error) {
      return error.code();
    }
    return ErrorCode::kOk;
  }

  void expect_clean() {
    const auto report = ledger->audit();
    for (const auto& violation : report.violations)
      ADD_FAILURE() << violation.invariant << " " << violation.tenant << " " << violation.what;
    EXPECT_EQ(report.result, AuditReport::Result::kClean) << report.why;
  }

  // As the owner, who may do what the app role may not.
  static pqxx::result sql(const std::string& statement) {
    pqxx::connection connection{database_url()};
    pqxx::work tx{connection};
    auto result = tx.exec(statement);
    tx.commit();
    return result;
  }

  bool plants_violation = false;  // the test breaks an invariant on purpose
  FakeSessions sessions;
  Settings settings;
  std::unique_ptr<Ledger> ledger;
  std::string tenant;
};

// What must hold of either family.
class EitherFamilyTest : public LedgerTest, public ::testing::WithParamInterface<std::string> {
 protected:
  const std::string& family() const { return GetParam(); }
  bool ipv4() const { return family() == "ipv4"; }

  void add_space(const std::string& name, const std::string& v4, const std::string& v6,
                 const std::vector<std::string>& nas = {}) {
    PoolSpec spec = pool_spec(ipv4() ? v4 : v6);
    spec.name = name;
    spec.family = family();
    spec.nas_ips = nas;
    ledger->add_pool(spec);
  }

  v1::TransitionRequest move(const v1::Claim& claim, const std::string& state) {
    v1::TransitionRequest request = to(claim, state);
    request.set_families(0, family());
    return request;
  }
};

}  // namespace addrflow::ledger
