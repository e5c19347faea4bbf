// who_held_bench URL ROWS QUERIES: fills an empty database with holdings and asks who held what.
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/ledger/migrator.hpp>
#include <algorithm>
#include <chrono>
#include <pqxx/pqxx>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int kPeriods = 10;  // holders of one space, one after the other
constexpr int kDaysEach = 30;

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

// Half addresses of 10.0.0.0/8, half /56 prefixes of 2001:db8::/32, each with ten holders.
void fill(const std::string& url, long rows) {
  pqxx::connection connection{url};
  pqxx::nontransaction tx{connection};
  tx.exec(
      "SET statement_timeout = 0; SET synchronous_commit = off;"
      " SET maintenance_work_mem = '1GB'");
  tx.exec("INSERT INTO tenants VALUES ('bench')");
  tx.exec(
      "INSERT INTO services (tenant_id, subscriber_id, service, username)"
      " SELECT 'bench', 's' || n, 'internet', 'u' || n FROM generate_series(1, 10000) n");
  tx.exec(
      "INSERT INTO operations (tenant_id, subscriber_id, service, service_id, key, request_hash,"
      " operation, number, phase, outcome, actor) SELECT tenant_id, subscriber_id, service, id,"
      " 'key-' || id, '', 'allocate', 1, 'finished', '{}', 'crm' FROM services");
  tx.exec("ALTER TABLE holdings DROP CONSTRAINT holdings_no_overlap");
  const long spaces = rows / 2 / kPeriods;
  for (const bool v6 : {false, true}) {
    tx.exec(fmt::format(
        "INSERT INTO holdings (tenant_id, subscriber_id, service, service_id, family, generation,"
        " routing_domain_id, pool_id, space, period, exposed, opened_by, closed_by, evidence)"
        " SELECT 'bench', 's' || (1 + a % 10000), 'internet', 1 + a % 10000, '{}', p + 1, 1,"
        " '00000000-0000-0000-0000-000000000001', {},"
        " tstzrange('2024-01-01'::timestamptz + (p * {} + a % 5) * interval '1 day',"
        "  CASE WHEN p < {} THEN '2024-01-01'::timestamptz"
        "   + (p * {} + a % 5 + 15 + a % 9) * interval '1 day' END),"
        " true, 1 + a % 10000, CASE WHEN p < {} THEN 1 + a % 10000 END, 'strong'"
        " FROM generate_series(0::bigint, {}) a, generate_series(0, {}) p",
        v6 ? "ipv6_pd" : "ipv4",
        v6 ? "format('2001:db8:%s:%s::/56', to_hex(a >> 8), to_hex((a & 255) << 8))::inet"
           : "'10.0.0.0'::inet + a",
        kDaysEach, kPeriods - 1, kDaysEach, kPeriods - 1, spaces - 1, kPeriods - 1));
  }
  fmt::print("filled: {} holdings\n", tx.exec("SELECT count(*) FROM holdings")[0][0].as<long>());
  const auto begin = std::chrono::steady_clock::now();
  tx.exec(
      "CREATE INDEX holdings_no_overlap ON holdings USING gist"
      " (routing_domain_id, space inet_ops, ports, period)");
  tx.exec("ANALYZE");
  fmt::print(
      "indexed in {:.0f} s: {}\n", ms_since(begin) / 1000,
      tx.exec("SELECT pg_size_pretty(pg_relation_size('holdings_no_overlap'))")[0][0].c_str());
}

std::vector<addrflow::ledger::WhoHeldQuery> questions(const std::string& url, int count) {
  pqxx::connection connection{url};
  pqxx::nontransaction tx{connection};
  const long rows = tx.exec("SELECT max(id) FROM holdings")[0][0].as<long>();
  std::mt19937_64 random{7};  // the same questions in each run
  std::uniform_int_distribution<long> any{1, rows};
  std::vector<addrflow::ledger::WhoHeldQuery> asked;
  for (int i = 0; i < count; ++i) {
    const auto row = tx.exec_params1(
        "SELECT host(space), to_char((lower(period) + interval '1 day') AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM holdings WHERE id = $1",
        any(random));
    asked.push_back({.space = row[0].c_str(), .at = row[1].c_str()});
  }
  return asked;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: who_held_bench URL ROWS QUERIES\n");
    return 2;
  }
  const std::string url = argv[1];
  addrflow::ledger::Migrator{url}.up();
  fill(url, std::stol(argv[2]));
  addrflow::ledger::Settings settings;
  settings.url = url;
  addrflow::ledger::Ledger ledger{settings};
  const auto asked = questions(url, std::stoi(argv[3]));
  std::vector<double> took;
  for (const auto& question : asked) {
    const auto begin = std::chrono::steady_clock::now();
    const auto answer = ledger.who_held(question);
    took.push_back(ms_since(begin));
    if (answer.holders.size() != 1) {
      fmt::print(stderr, "{} at {}: {} holders\n", question.space, question.at,
                 answer.holders.size());
      return 1;
    }
  }
  std::ranges::sort(took);
  fmt::print("who-held, {} questions\n", took.size());
  fmt::print("p50 {:.3f} ms\n", took[took.size() / 2]);
  fmt::print("p99 {:.3f} ms\n", took[took.size() * 99 / 100]);
  return 0;
}
