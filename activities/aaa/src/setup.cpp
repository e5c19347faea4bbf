#include "addrflow/aaa/setup.hpp"

#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <string_view>

namespace addrflow::aaa {

std::string_view setup_sql();  // written by the build from sql/setup.sql

namespace {

struct Table {
  std::string_view name;
  std::string_view columns;
};

constexpr std::array kNeeded{
    Table{"radacct",
          "radacctid acctsessionid acctuniqueid username nasipaddress nasportid acctstarttime "
          "acctupdatetime acctstoptime acctinterval callingstationid framedipaddress "
          "delegatedipv6prefix acctterminatecause"},
    Table{"radcheck", "id username attribute op value"},
    Table{"radreply", "id username attribute op value"},
    Table{"radusergroup", "username groupname priority"},
    Table{"radgroupcheck", "groupname attribute op value"},
    Table{"radgroupreply", "groupname attribute op value"},
};

std::vector<std::string> words(std::string_view text, char separator) {
  std::vector<std::string> result;
  while (!text.empty()) {
    const auto end = text.find(separator);
    result.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return result;
}

}  // namespace

std::vector<std::string> missing_columns(Database& database) {
  return database.with([](pqxx::connection& connection) {
    pqxx::nontransaction work{connection};
    std::vector<std::string> missing;
    for (const Table& table : kNeeded) {
      for (const std::string& column : words(table.columns, ' ')) {
        const auto found = work.exec_params1(
            "select exists (select 1 from pg_attribute where attrelid = to_regclass($1)"
            " and attname = $2 and not attisdropped)",
            std::string{table.name}, column);
        if (!found[0].as<bool>()) missing.push_back(fmt::format("{}.{}", table.name, column));
      }
    }
    return missing;
  });
}

void set_up(Database& database) {
  if (const auto missing = missing_columns(database); !missing.empty()) {
    std::string list;
    for (const std::string& one : missing) list += (list.empty() ? "" : ", ") + one;
    throw std::runtime_error(
        fmt::format("the AAA database lacks {}: install FreeRADIUS' schema first", list));
  }
  database.with([&](pqxx::connection& connection) {
    // An index of a large radacct takes its time.
    pqxx::nontransaction work{connection};
    work.exec0("set statement_timeout = 0");
    // One by one: an index that is built concurrently wants to be alone.
    for (const std::string& statement : words(setup_sql(), ';')) {
      if (statement.find_first_not_of(" \n\t") != std::string::npos) work.exec0(statement);
    }
    work.exec_params(
        "insert into radgroupreply (groupname, attribute, op, value)"
        " select $1, 'Filter-Id', ':=', $1"
        " where not exists (select 1 from radgroupreply where groupname = $1)",
        database.settings().suspended_group);
    work.exec0(
        fmt::format("set statement_timeout = {}", database.settings().statement_timeout.count()));
    return 0;
  });
}

}  // namespace addrflow::aaa
