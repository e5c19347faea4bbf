// Who held it: asked of the holdings, which outlive the working rows.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <addrflow/ledger/ledger.hpp>
#include <algorithm>
#include <regex>
#include <set>

#include "rows.hpp"
#include "store.hpp"

namespace addrflow::ledger {
namespace {

constexpr int kPruneBatch = 10'000;

[[noreturn]] void refuse(const std::string& message) {
  throw LedgerError{ErrorCode::kInvalidArgument, message};
}

void check_space_text(const std::string& space) {
  const auto slash = space.find('/');
  const std::string address = space.substr(0, slash);
  in6_addr bytes{};
  const bool v4 = inet_pton(AF_INET, address.c_str(), &bytes) == 1;
  if (!v4 && inet_pton(AF_INET6, address.c_str(), &bytes) != 1)
    refuse("space is no address or prefix: " + space);
  if (slash == std::string::npos) return;
  const std::string length = space.substr(slash + 1);
  const bool digits = !length.empty() && length.size() <= 3 &&
                      length.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(length) > (v4 ? 32 : 128))
    refuse("space is no address or prefix: " + space);
}

void check_time(const std::string& field, const std::string& time) {
  static const std::regex kRfc3339{
      R"(\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2}))"};
  if (!time.empty() && !std::regex_match(time, kRfc3339))
    refuse(field + " is no RFC 3339 time with offset: " + time);
}

void check_query(const WhoHeldQuery& query) {
  check_space_text(query.space);
  check_time("at", query.at);
  check_time("from", query.from);
  check_time("to", query.to);
  if (!query.at.empty() && !(query.from.empty() && query.to.empty()))
    refuse("at cannot be asked together with from and to");
  if (query.port && (*query.port < 0 || *query.port > 65'535)) refuse("port must be 0 to 65535");
}

// Named by routing domain, so that the index of the exclusion constraint is entered by its first
// column.
constexpr const char* kSql = R"(
WITH asked AS MATERIALIZED (
  SELECT CASE WHEN $3 = '' AND $4 = ''
      THEN (SELECT tstzrange(t, t, '[]')
              FROM (SELECT coalesce(nullif($2, '')::timestamptz, clock_timestamp()) AS t) m)
      ELSE tstzrange(nullif($3, '')::timestamptz, nullif($4, '')::timestamptz, '[]') END AS period
)
SELECT h.tenant_id, h.subscriber_id, h.service, h.family, d.name,
  coalesce((SELECT pool_name FROM ip_pools WHERE id = h.pool_id), ''), abbrev(h.space),
  h.generation, lower(h.ports), upper(h.ports) - 1,
  to_char(lower(h.period) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  coalesce(to_char(upper(h.period) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ''),
  h.releasing AND upper_inf(h.period), h.evidence,
  h.opened_by, coalesce(o.operation, ''), coalesce(o.key, ''), coalesce(o.actor, ''),
  coalesce(o.reason, ''), coalesce(h.closed_by, 0), coalesce(c.operation, ''),
  coalesce(c.key, ''), coalesce(c.actor, ''), coalesce(c.reason, ''),
  ARRAY(SELECT n FROM services s, unnest(array_append(s.former_usernames,
    coalesce(nullif(s.username, ''), s.subscriber_id))) n WHERE s.id = h.service_id)::text
FROM asked, routing_domains d CROSS JOIN LATERAL (
  SELECT * FROM holdings l WHERE l.routing_domain_id = d.id AND l.space && $1::inet
    AND l.period && asked.period AND ($7::int IS NULL OR l.ports && int4range($7::int, $7::int, '[]'))
    AND ($6 = '' OR l.tenant_id = $6) LIMIT $8) h
LEFT JOIN operations o ON o.id = h.opened_by
LEFT JOIN operations c ON c.id = h.closed_by
WHERE ($5 = '' OR d.name = $5) ORDER BY lower(h.period), h.id LIMIT $8)";

Holder::Operation operation_of(const pqxx::row& row, int first) {
  return {.id = row[first].as<std::int64_t>(),
          .operation = row[first + 1].c_str(),
          .key = row[first + 2].c_str(),
          .actor = row[first + 3].c_str(),
          .reason = row[first + 4].c_str()};
}

std::vector<std::string> texts_of(const char* array) {
  std::vector<std::string> texts;
  pqxx::array_parser parser{array};
  for (auto next = parser.get_next(); next.first != pqxx::array_parser::juncture::done;
       next = parser.get_next()) {
    if (next.first == pqxx::array_parser::juncture::string_value) texts.push_back(next.second);
  }
  return texts;
}

Holder holder_of(const pqxx::row& row) {
  return {.tenant = row[0].c_str(),
          .subscriber = row[1].c_str(),
          .service = row[2].c_str(),
          .family = row[3].c_str(),
          .domain = row[4].c_str(),
          .pool = row[5].c_str(),
          .space = row[6].c_str(),
          .generation = row[7].as<std::int64_t>(),
          .first_port = row[8].as<int>(),
          .last_port = row[9].as<int>(),
          .from = row[10].c_str(),
          .to = row[11].c_str(),
          .releasing = row[12].as<bool>(),
          .evidence = row[13].c_str(),
          .opened_by = operation_of(row, 14),
          .closed_by = operation_of(row, 19),
          .usernames = texts_of(row[24].c_str())};
}

std::string what_is_ambiguous(const WhoHeldQuery& query, const std::vector<Holder>& holders) {
  std::set<std::string> domains;
  for (const Holder& holder : holders) domains.insert(holder.domain);
  if (domains.size() > 1) return "domain";
  const bool shared = std::ranges::any_of(
      holders, [](const Holder& h) { return h.first_port != 0 || h.last_port != 65'535; });
  return shared && !query.port ? "port" : "";
}

// Whoever is found at a moment held it then; of a range, and where nobody is found, somebody may be
// missing.
std::string pruned_before(Tx& tx, const WhoHeldQuery& query, const std::vector<Holder>& holders) {
  const bool ranged = !query.from.empty() || !query.to.empty();
  if (!ranged && (query.at.empty() || !holders.empty())) return {};
  const auto mark = tx.exec_params(
      "SELECT to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
      " FROM holdings_pruned"
      " WHERE before > coalesce(nullif($1, '')::timestamptz, '-infinity')",
      ranged ? query.from : query.at);
  return mark.empty() ? "" : mark[0][0].c_str();
}

}  // namespace

WhoHeld Ledger::who_held(const WhoHeldQuery& query) {
  check_query(query);
  return store_->in_snapshot([&](Tx& tx) {
    const bool known =
        query.domain.empty() ||
        !tx.exec_params("SELECT 1 FROM routing_domains WHERE name = $1", query.domain).empty();
    if (!known) refuse("domain: there is no such routing domain: " + query.domain);
    WhoHeld answer;
    try {
      for (const auto& row :
           tx.exec_params(kSql, query.space, query.at, query.from, query.to, query.domain,
                          query.tenant, query.port, static_cast<int>(WhoHeld::kMost) + 1)) {
        if (answer.holders.size() == WhoHeld::kMost) {
          answer.truncated = true;
          break;
        }
        answer.holders.push_back(holder_of(row));
      }
    } catch (const pqxx::data_exception& error) {
      refuse(fmt::format("the database cannot read the question: {}", error.what()));
    }
    answer.ambiguous = what_is_ambiguous(query, answer.holders);
    answer.pruned_before = pruned_before(tx, query, answer.holders);
    return answer;
  });
}

Pruned Ledger::prune_holdings(std::chrono::hours keep, bool dry_run) {
  Pruned pruned;
  if (keep.count() == 0) return pruned;  // the default keeps all
  if (keep.count() < 0) refuse("keep must not be negative");
  pruned.before = store_->as_owner([&](Tx& tx) {
    return std::string{
        tx.exec_params("SELECT (clock_timestamp() - $1::bigint * interval '1 hour')::"
                       "text",
                       static_cast<std::int64_t>(keep.count()))[0][0]
            .c_str()};
  });
  if (dry_run) {
    pruned.holdings = store_->as_owner([&](Tx& tx) {
      return tx
          .exec_params(
              "SELECT count(*) FROM holdings WHERE NOT upper_inf(period)"
              " AND upper(period) < $1::timestamptz",
              pruned.before)[0][0]
          .as<std::int64_t>();
    });
    return pruned;
  }
  while (true) {
    const auto gone = store_->as_owner([&](Tx& tx) {
      tx.exec_params("SELECT set_config('addrflow.prune_before', $1, true)", pruned.before);
      const auto deleted = static_cast<std::int64_t>(
          tx.exec_params("DELETE FROM holdings WHERE id IN (SELECT id FROM holdings"
                         " WHERE NOT upper_inf(period) AND upper(period) < $1::timestamptz"
                         // A working row still points at it: that goes first.
                         " AND NOT EXISTS (SELECT 1 FROM ip_reservations r"
                         "   WHERE r.holding_id = holdings.id)"
                         " ORDER BY upper(period) LIMIT $2)",
                         pruned.before, kPruneBatch)
              .affected_rows());
      if (deleted > 0)
        tx.exec_params(
            "INSERT INTO holdings_pruned (before) VALUES ($1::timestamptz) ON CONFLICT (one)"
            " DO UPDATE SET before = greatest(holdings_pruned.before, excluded.before)",
            pruned.before);
      return deleted;
    });
    pruned.holdings += gone;
    if (gone < kPruneBatch) break;
  }
  if (pruned.holdings > 0) {
    store_->as_owner([&](Tx& tx) {
      ServiceRef nobody;
      write_audit(tx, nobody, "holdings_pruned", "", "", "", "ok",
                  fmt::format("{} that ended before {}", pruned.holdings, pruned.before));
      return true;
    });
  }
  return pruned;
}

}  // namespace addrflow::ledger
