#include "addrflow/aaa/listing.hpp"

#include <fmt/format.h>

#include <string>

#include "groups.hpp"

namespace addrflow::aaa {
namespace {

// What is no address (somebody's handwork) is shown as it is.
constexpr const char* kSpaces =
    "array(select case when r.value ~ '^[0-9a-fA-F.:]+(/[0-9]+)?$' then abbrev(r.value::inet)"
    "  else r.value end from radreply r where r.username = l.username"
    "  and r.attribute in ('Framed-IP-Address', 'Delegated-IPv6-Prefix') order by 1)::text";

// Where a group of somebody else stands beside one of ours it may be read first, so it counts as
// being first.
std::string restricted_sql(const std::string& suspended) {
  return fmt::format(
      "exists (select 1 from radusergroup g where g.username = l.username and g.groupname = {}"
      " and not exists (select 1 from radusergroup o where o.username = g.username"
      "  and o.groupname <> g.groupname and o.priority <= g.priority and not {}))",
      suspended, falls_through("o.groupname"));
}

std::string plan_sql(const std::string& suspended) {
  return fmt::format(
      "coalesce((select g.groupname from radusergroup g where g.username = l.username"
      " and g.groupname <> {} and (g.groupname = l.plan or not {})"
      " order by g.priority, (g.groupname = l.plan) limit 1), '')",
      suspended, falls_through("g.groupname"));
}

std::string lines_sql(const Settings& settings, const pqxx::nontransaction& work,
                      const std::string& where) {
  const std::string suspended = work.quote(settings.suspended_group);
  return fmt::format(
      "select l.tenant, l.subscriber, l.service, l.username, coalesce(f.number, 0),"
      " exists (select 1 from radcheck c where c.id = l.reject_id and c.username = l.username"
      "   and c.attribute = 'Auth-Type'),"
      " {}, {}, {} from addrflow_line l left join addrflow_fence f"
      " on (f.tenant, f.subscriber, f.service) = (l.tenant, l.subscriber, l.service) {}",
      restricted_sql(suspended), plan_sql(suspended), kSpaces, where);
}

ports::AaaLine line_of(const pqxx::row& row) {
  ports::AaaLine line{.tenant = row[0].c_str(),
                      .subscriber = row[1].c_str(),
                      .service = row[2].c_str(),
                      .username = row[3].c_str(),
                      .number = row[4].as<std::int64_t>(),
                      .refused = row[5].as<bool>(),
                      .restricted = row[6].as<bool>(),
                      .plan = row[7].c_str()};
  pqxx::array_parser parser{row[8].c_str()};
  for (auto next = parser.get_next(); next.first != pqxx::array_parser::juncture::done;
       next = parser.get_next()) {
    if (next.first == pqxx::array_parser::juncture::string_value)
      line.spaces.push_back(next.second);
  }
  return line;
}

// A PostgreSQL array of texts.
class TextArray {
 public:
  void add(const std::string& text) {
    if (array_.size() > 1) array_ += ',';
    array_ += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') array_ += '\\';
      array_ += c;
    }
    array_ += '"';
  }
  std::string text() const { return array_ + '}'; }

 private:
  std::string array_ = "{";
};

}  // namespace

std::int64_t Listing::newest_effect() {
  return database_.with([](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    const bool there = work.exec1("select to_regclass('addrflow_fence') is not null")[0].as<bool>();
    if (!there) return std::int64_t{0};  // not set up: nothing was ever written
    return work.exec1("select coalesce(max(effect_id), 0) from addrflow_fence")[0]
        .as<std::int64_t>();
  });
}

std::vector<ports::AaaLine> Listing::lines_of(const std::vector<ports::ServiceName>& services) {
  TextArray tenants;
  TextArray subscribers;
  TextArray names;
  for (const auto& service : services) {
    tenants.add(service.tenant);
    subscribers.add(service.subscriber);
    names.add(service.service);
  }
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<ports::AaaLine> lines;
    const std::string sql = lines_sql(
        database_.settings(), work,
        "join unnest($1::text[], $2::text[], $3::text[]) as asked (tenant, subscriber, service)"
        " on (asked.tenant, asked.subscriber, asked.service)"
        "  = (l.tenant, l.subscriber, l.service)");
    for (const auto& row : work.exec_params(sql, tenants.text(), subscribers.text(), names.text()))
      lines.push_back(line_of(row));
    return lines;
  });
}

std::vector<ports::AaaLine> Listing::lines_after(const std::string& username, int most) {
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<ports::AaaLine> lines;
    const std::string sql =
        lines_sql(database_.settings(), work, "where l.username > $1 order by l.username limit $2");
    for (const auto& row : work.exec_params(sql, username, most)) lines.push_back(line_of(row));
    return lines;
  });
}

std::vector<ports::AaaFence> Listing::fences_after(const ports::ServiceName& service, int most) {
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<ports::AaaFence> fences;
    for (const auto& row :
         work.exec_params("select tenant, subscriber, service, number from addrflow_fence"
                          " where (tenant, subscriber, service) > ($1, $2, $3)"
                          " order by tenant, subscriber, service limit $4",
                          service.tenant, service.subscriber, service.service, most)) {
      fences.push_back({.service = {row[0].c_str(), row[1].c_str(), row[2].c_str()},
                        .number = row[3].as<std::int64_t>()});
    }
    return fences;
  });
}

std::vector<ports::HandedOut> Listing::handed_out_after(const std::string& space,
                                                        const std::string& username, int most) {
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<ports::HandedOut> handed;
    for (const auto& row : work.exec_params(
             "select abbrev(h.space), h.username, coalesce(l.tenant, ''),"
             " coalesce(l.subscriber, ''), coalesce(l.service, ''), coalesce(f.number, 0),"
             " exists (select 1 from radreply r where r.username = h.username and r.attribute in"
             "  ('Framed-IP-Address', 'Delegated-IPv6-Prefix')"
             "  and r.value = abbrev(h.space)),"
             " case family(h.space) when 4 then exists (select 1 from radacct a"
             "   where a.framedipaddress = h.space and a.acctstoptime is null)"
             "  else exists (select 1 from radacct a where a.delegatedipv6prefix = h.space"
             "   and a.acctstoptime is null) end"
             " from addrflow_handed h left join addrflow_line l on l.username = h.username"
             " left join addrflow_fence f"
             " on (f.tenant, f.subscriber, f.service) = (l.tenant, l.subscriber, l.service)"
             " where $1 = '' or (h.space, h.username) > (nullif($1, '')::inet, $2)"
             " order by h.space, h.username limit $3",
             space, username, most)) {
      handed.push_back({.space = row[0].c_str(),
                        .username = row[1].c_str(),
                        .tenant = row[2].c_str(),
                        .subscriber = row[3].c_str(),
                        .service = row[4].c_str(),
                        .number = row[5].as<std::int64_t>(),
                        .now = row[6].as<bool>(),
                        .online = row[7].as<bool>()});
    }
    return handed;
  });
}

}  // namespace addrflow::aaa
