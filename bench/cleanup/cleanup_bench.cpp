// cleanup_bench URL SUBSCRIBERS: rows of both families that are long finished, and the cleanup of
// them; then the backlog of releases that it leaves for NetBox.
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <chrono>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>

namespace {

double seconds_of(const auto& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void exec(const std::string& url, const std::string& sql) {
  pqxx::connection connection{url};
  pqxx::nontransaction tx{connection};
  tx.exec("SET statement_timeout = 0; SET synchronous_commit = on");
  tx.exec(sql);
}

void make_services(const std::string& url, long subscribers) {
  exec(url, "INSERT INTO tenants VALUES ('bench')");
  exec(url,
       "INSERT INTO ip_pools (tenant_id, pool_name, routing_domain_id, prefix)"
       " SELECT 'bench', 'bench', id, '10.0.0.0/8' FROM routing_domains");
  exec(url, fmt::format("INSERT INTO services (tenant_id, subscriber_id, service)"
                        " SELECT 'bench', 's' || n, 'internet' FROM generate_series(1, {}) n",
                        subscribers));
}

// One finished row of each family a subscriber, its closed holding, and a live row beside it for
// every second one; a thousand are stuck.
void make_rows(const std::string& url) {
  exec(url, "TRUNCATE ip_reservations, subscriber_network_profiles");
  exec(url,
       "ALTER TABLE ip_reservations DISABLE TRIGGER USER");  // they fill the profiles, row by row
  struct Family {
    const char* name;
    const char* space;
  };
  for (const auto& [family, space] :
       {Family{"ipv4", "'10.0.0.0'::inet + s.id"},
        Family{"ipv6_pd", "piece(piece_number('2001:db8::/32', 56) + s.id, 56)"}}) {
    exec(url,
         fmt::format(
             "INSERT INTO ip_reservations (tenant_id, subscriber_id, service, service_id, family,"
             " pool_id, ip_address, created_by_operation, lifecycle_state, lifecycle_revoked_at)"
             " SELECT s.tenant_id, s.subscriber_id, s.service, s.id, '{0}', p.id,"
             " {1}, 1, 'revoked', now() - interval '91 days'"
             " FROM services s, ip_pools p",
             family, space));
    exec(url,
         fmt::format(
             "INSERT INTO ip_reservations (tenant_id, subscriber_id, service, service_id, family,"
             " pool_id, ip_address, created_by_operation, lifecycle_state, lifecycle_allocated_at,"
             " revoking_since, generation)"
             " SELECT s.tenant_id, s.subscriber_id, s.service, s.id, '{0}', p.id,"
             " {1}, 1, (CASE WHEN s.id % 100 = 0 THEN 'revoking' ELSE"
             " 'allocated' END)::lifecyclestate, now() - interval '2 days',"
             " CASE WHEN s.id % 100 = 0 THEN now() - interval '2 hours' END, 2"
             " FROM services s, ip_pools p WHERE s.id % 2 = 0",
             family, space));
  }
  exec(url, "ALTER TABLE ip_reservations ENABLE TRIGGER USER");
  exec(url,
       "INSERT INTO subscriber_network_profiles (tenant_id, subscriber_id, vlan,"
       " ipv6_assignment_mode, ipv6_prefix, ipv6_state, ipv6_revoked_at)"
       " SELECT tenant_id, subscriber_id, 7, 'pd', '2001:db8::/56', 'revoked',"
       " now() - interval '91 days' FROM services");
  exec(url, "VACUUM ANALYZE");
}

// What the cleanup left for NetBox, claimed in batches as the catch-up does.
double ms_a_batch(addrflow::ledger::Ledger& ledger, const std::string& url, long backlog) {
  constexpr int kBatches = 20;
  exec(url, fmt::format("TRUNCATE effects; INSERT INTO effects (tenant_id, service_id,"
                        " operation_id, number, system, action, object, wish)"
                        " SELECT tenant_id, id, 1, 1, 'netbox', 'release', subscriber_id, '{{}}'"
                        " FROM services ORDER BY id LIMIT {}; ANALYZE effects",
                        backlog));
  const double took = seconds_of([&] {
    for (int i = 0; i < kBatches; ++i) {
      if (ledger.claim_netbox(50, std::chrono::minutes{1}, {}).size() != 50)
        throw std::runtime_error{"a batch of the backlog is not full"};
    }
  });
  return took * 1000 / kBatches;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: cleanup_bench URL SUBSCRIBERS\n");
    return 2;
  }
  const std::string url = argv[1];
  addrflow::ledger::Migrator{url}.up();
  make_services(url, std::stol(argv[2]));
  make_rows(url);
  addrflow::ledger::Settings settings;
  settings.url = url;
  addrflow::ledger::Ledger ledger{settings};
  double ours = 0;
  for (const char* family : {"ipv4", "ipv6_pd"}) {
    addrflow::v1::CleanupRequest request;
    request.set_family(family);
    int beats = 0;
    addrflow::v1::CleanupResult result;
    const double took = seconds_of(
        [&] { result = ledger.cleanup(request, {}, [&beats](const auto&) { ++beats; }); });
    ours += took;
    fmt::print("{}: {} deleted, {} stale, {} stuck, {} errors, {} beats: {:.2f} s\n", family,
               result.revoked_deleted(), result.allocated_stale(), result.revoking_stuck(),
               result.errors(), beats, took);
  }
  make_rows(url);
  const double bare = seconds_of([&] {
    exec(url,
         "DELETE FROM ip_reservations WHERE lifecycle_state = 'revoked'"
         " AND lifecycle_revoked_at < now() - interval '90 days'");
    exec(url,
         "UPDATE subscriber_network_profiles SET ipv6_prefix = NULL, ipv6_state = 'pending',"
         " ipv6_revoked_at = NULL WHERE ipv6_state = 'revoked'"
         " AND ipv6_revoked_at < now() - interval '90 days'");
  });
  fmt::print("cleanup of both families {:.2f} s; bare SQL {:.2f} s; ratio {:.1f}\n", ours, bare,
             ours / bare);
  const long most = std::stol(argv[2]);
  const double small = ms_a_batch(ledger, url, 1'000);
  const double large = ms_a_batch(ledger, url, most);
  fmt::print(
      "NetBox catch-up claims a batch of 50 in {:.2f} ms from a backlog of {}, in {:.2f} ms"
      " from one of 1000; ratio {:.2f}\n",
      large, most, small, large / small);
  return 0;
}
