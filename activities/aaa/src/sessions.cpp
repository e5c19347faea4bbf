#include "addrflow/aaa/sessions.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>

namespace addrflow::aaa {
namespace {

using std::chrono::microseconds;
using std::chrono::system_clock;

// A moment as microseconds since 1970, what both sides can say exactly.
constexpr std::string_view kColumns =
    "acctsessionid, acctuniqueid, username, host(nasipaddress), coalesce(host(framedipaddress), "
    "''),"
    " coalesce(nasportid, ''), coalesce(callingstationid, ''),"
    " (extract(epoch from coalesce(acctstarttime, 'epoch')) * 1000000)::bigint,"
    " (extract(epoch from coalesce(acctupdatetime, acctstarttime, 'epoch')) * 1000000)::bigint,"
    " coalesce(abbrev(delegatedipv6prefix), ''), coalesce(abbrev(framedipv6prefix), ''),"
    // now(): both halves of a union must say the same.
    " greatest(0, extract(epoch from now() - coalesce(acctupdatetime, acctstarttime,"
    "   'epoch')))::bigint, greatest(0, coalesce(acctinterval, 0))::bigint";

system_clock::time_point moment(const pqxx::field& field) {
  return system_clock::time_point{
      std::chrono::duration_cast<system_clock::duration>(microseconds{field.as<std::int64_t>()})};
}

std::int64_t microseconds_of(system_clock::time_point time) {
  return std::chrono::duration_cast<microseconds>(time.time_since_epoch()).count();
}

ports::Session session_of(const pqxx::row& row) {
  ports::Session session;
  session.acct_session_id = row[0].c_str();
  session.acct_unique_id = row[1].c_str();
  session.username = row[2].c_str();
  session.nas_ip = row[3].c_str();
  session.framed_ip = row[4].c_str();
  session.nas_port_id = row[5].c_str();
  session.calling_station_id = row[6].c_str();
  session.started = moment(row[7]);
  session.updated = moment(row[8]);
  session.delegated_prefix = row[9].c_str();
  session.framed_prefix = row[10].c_str();
  session.silent = std::chrono::seconds{row[11].as<std::int64_t>()};
  session.interim = std::chrono::seconds{row[12].as<std::int64_t>()};
  return session;
}

// A PostgreSQL array of texts.
std::string array_of(const std::vector<std::string>& texts) {
  std::string array = "{";
  for (const std::string& text : texts) {
    if (array.size() > 1) array += ',';
    array += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
  }
  return array + '}';
}

// Newest first, at most 64 of those of which `heard` holds: rows that a lost Stop has left open are
// not to crowd out the session that lives.
template <class... Parameters>
std::vector<ports::Session> open_where(Database& database, std::string_view heard,
                                       const std::vector<std::string>& usernames,
                                       const Parameters&... more) {
  return database.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<ports::Session> sessions;
    for (const auto& row : work.exec_params(
             fmt::format("select {} from radacct"
                         " where username = any($1::text[]) and acctstoptime is null and {}"
                         " order by acctstarttime desc nulls last, radacctid desc limit 64",
                         kColumns, heard),
             array_of(usernames), more...)) {
      sessions.push_back(session_of(row));
    }
    return sessions;
  });
}

}  // namespace

std::vector<ports::Session> AccountingSessions::open_sessions(
    const std::vector<std::string>& usernames) {
  return open_where(database_,
                    "coalesce(acctupdatetime, acctstarttime) > clock_timestamp()"
                    " - 3 * greatest(coalesce(acctinterval, 0), $2) * interval '1 second'",
                    usernames, database_.settings().interim_interval.count());
}

std::vector<ports::Session> AccountingSessions::open_rows(
    const std::vector<std::string>& usernames) {
  return open_where(database_, "true", usernames);
}

ports::SessionEvidence AccountingSessions::evidence(const std::vector<std::string>& usernames,
                                                    const std::string& address,
                                                    const std::string& nas_ip,
                                                    system_clock::time_point since) {
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    ports::SessionEvidence evidence;
    const std::string names = array_of(usernames);
    const std::string_view column =
        address.find(':') == std::string::npos ? "framedipaddress" : "delegatedipv6prefix";
    // Two halves, so that each can use its index.
    const auto open =
        work.exec_params(fmt::format("select {0} from radacct"
                                     " where username = any($1::text[]) and acctstoptime is null"
                                     " union select {0} from radacct"
                                     " where {1} = nullif($2, '')::inet and acctstoptime is null"
                                     " order by 8 desc limit 64",
                                     kColumns, column),
                         names, address);
    for (const auto& row : open) evidence.open.push_back(session_of(row));

    const auto since_us = microseconds_of(since);
    // A NAS that says Accounting-On closes all of its rows at once: that is no word of the session
    // itself, which may live on (a redundant BNG) and be heard of again.
    // Accounting knows whole seconds only: a Stop in the same second counts. Whoever logged in
    // again within it has an open row.
    const auto stopped = work.exec_params(
        fmt::format("select concat_ws(' ', 'session', acctsessionid, 'of', username, 'at',"
                    "   host(nasipaddress), to_char(acctstoptime at time zone 'UTC',"
                    "   'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), nullif(acctterminatecause, ''))"
                    " from radacct where username = any($1::text[])"
                    "   and acctstoptime >= date_trunc('second',"
                    "     'epoch'::timestamptz + $2 * interval '1 microsecond')"
                    "   and coalesce(acctterminatecause, '') <> 'NAS-Reboot'"
                    "   and ($3 = '' or {0} is null or {0} = nullif($3, '')::inet)"
                    " order by acctstoptime desc, radacctid desc limit 1",
                    column),
        names, since_us, address);
    evidence.stopped_since = !stopped.empty();
    if (!stopped.empty()) evidence.stop = stopped[0][0].c_str();

    if (!nas_ip.empty()) {
      const auto heard = work.exec_params1(
          "select (extract(epoch from greatest("
          "   (select max(acctupdatetime) from radacct where nasipaddress = $1::inet),"
          "   (select max(acctstoptime) from radacct where nasipaddress = $1::inet),"
          "   (select max(acctstarttime) from radacct where nasipaddress = $1::inet)))"
          " * 1000000)::bigint",
          nas_ip);
      if (!heard[0].is_null()) evidence.nas_last_heard = moment(heard[0]);
    }
    return evidence;
  });
}

std::vector<std::size_t> AccountingSessions::ended(const std::vector<ports::Waiting>& waiting) {
  std::vector<std::string> names;
  std::vector<std::string> since;
  for (const ports::Waiting& one : waiting) {
    names.push_back(one.username);
    since.push_back(std::to_string(microseconds_of(one.since)));
  }
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    const auto rows = work.exec_params(
        "select n - 1 from unnest($1::text[], $2::bigint[]) with ordinality w (name, since_us, n)"
        " where exists (select 1 from radacct where username = name and acctstoptime >="
        "     date_trunc('second', 'epoch'::timestamptz + since_us * interval '1 microsecond')"
        "   and coalesce(acctterminatecause, '') <> 'NAS-Reboot') order by n",
        array_of(names), array_of(since));
    std::vector<std::size_t> places;
    for (const auto& row : rows) places.push_back(row[0].as<std::size_t>());
    return places;
  });
}

std::vector<ports::SessionRecord> AccountingSessions::history(const std::string& space,
                                                              const std::string& from,
                                                              const std::string& to, int most) {
  const auto time = [](const char* column) {
    return fmt::format(
        "coalesce(to_char({} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '')", column);
  };
  const std::string column =
      space.contains(':') ? "delegatedipv6prefix" : "framedipaddress";  // each has its index
  return database_.with([&](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    const auto rows = work.exec_params(
        fmt::format("select acctsessionid, coalesce(username, ''), host(nasipaddress),"
                    " coalesce(callingstationid, ''), {}, {}, {}, coalesce(acctterminatecause, '')"
                    " from radacct where {} = $1::inet"
                    " and acctstarttime <= coalesce(nullif($3, '')::timestamptz, 'infinity')"
                    " and coalesce(acctstoptime, acctupdatetime, acctstarttime)"
                    "   >= coalesce(nullif($2, '')::timestamptz, '-infinity')"
                    " order by acctstarttime, radacctid limit $4",
                    time("acctstarttime"), time("acctupdatetime"), time("acctstoptime"), column),
        space, from, to, most);
    std::vector<ports::SessionRecord> sessions;
    for (const auto& row : rows) {
      sessions.push_back({.acct_session_id = row[0].c_str(),
                          .username = row[1].c_str(),
                          .nas_ip = row[2].c_str(),
                          .calling_station_id = row[3].c_str(),
                          .started = row[4].c_str(),
                          .updated = row[5].c_str(),
                          .stopped = row[6].c_str(),
                          .terminate_cause = row[7].c_str()});
    }
    return sessions;
  });
}

}  // namespace addrflow::aaa
