#include "addrflow/aaa/look.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "groups.hpp"

namespace addrflow::aaa {
namespace {

using ReadOnly =
    pqxx::transaction<pqxx::isolation_level::repeatable_read, pqxx::readwrite_policy::read_only>;

std::string text_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

struct Owner {
  bool known = false;
  bool ours = false;
  bool idle = false;  // its line is refused: the name may go to another service
  std::string plan;   // whose group we wrote
};

Owner owner_of(ReadOnly& tx, const v1::ServiceRef& service, const std::string& username) {
  const auto found = tx.exec_params(
      "select (tenant, subscriber, service) = ($2::text, $3::text, $4::text),"
      " reject_id is not null, plan from addrflow_line where username = $1",
      username, service.tenant_id(), service.subscriber_id(), service.service());
  if (found.empty()) return {};
  return {.known = true,
          .ours = found[0][0].as<bool>(),
          .idle = found[0][1].as<bool>(),
          .plan = found[0][2].c_str()};
}

// Those that an effect may write: the two addresses, our groups, our Auth-Type := Reject. A group
// of the plan's name becomes ours, whoever wrote it.
std::vector<std::string> rows_of(ReadOnly& tx, const Settings& settings,
                                 const std::string& username, const std::string& plan) {
  std::vector<std::string> rows;
  for (const auto& row : tx.exec_params(
           "select 'radcheck ' || c.username || ' ' || c.attribute || ' ' || c.op || ' ' || c.value"
           " from radcheck c join addrflow_line l on l.reject_id = c.id and l.username = c.username"
           " where c.username = $1"
           " union all select 'radreply ' || username || ' ' || attribute || ' ' || op || ' ' ||"
           " value from radreply where username = $1"
           " and attribute in ('Framed-IP-Address', 'Delegated-IPv6-Prefix')"
           " union all select 'radusergroup ' || g.username || ' ' || g.groupname || ' priority ' "
           "||"
           " g.priority from radusergroup g left join addrflow_line l on l.username = g.username"
           " where g.username = $1 and g.groupname in ($2, l.plan, $3)",
           username, settings.suspended_group, plan)) {
    rows.emplace_back(row[0].c_str());
  }
  return rows;
}

std::vector<std::string> refused_rows(const std::string& username) {
  return {fmt::format("radcheck {} Auth-Type := Reject", username)};
}

std::vector<std::string> wanted_rows(const Settings& settings, const nlohmann::json& wish,
                                     const GroupPlaces& places) {
  const std::string username = text_of(wish, "username");
  const std::string condition = text_of(wish, "condition");
  if (condition == "refused") return refused_rows(username);
  std::vector<std::string> rows;
  const auto reply = [&](const char* attribute, const std::string& value) {
    if (!value.empty())
      rows.push_back(fmt::format("radreply {} {} := {}", username, attribute, value));
  };
  const auto group = [&](const std::string& name, std::int64_t priority) {
    rows.push_back(fmt::format("radusergroup {} {} priority {}", username, name, priority));
  };
  reply("Framed-IP-Address", text_of(wish, "framed_ip"));
  reply("Delegated-IPv6-Prefix", text_of(wish, "delegated_prefix"));
  if (condition == "restricted") group(settings.suspended_group, places.suspended);
  if (const std::string plan = text_of(wish, "plan"); !plan.empty()) group(plan, places.plan);
  return rows;
}

void compare(std::vector<std::string>& was, const std::vector<std::string>& becomes,
             std::vector<std::string>& changes) {
  for (const std::string& row : was) {
    if (std::ranges::find(becomes, row) == becomes.end()) changes.push_back("- " + row);
  }
  for (const std::string& row : becomes) {
    if (std::ranges::find(was, row) == was.end()) changes.push_back("+ " + row);
  }
  was = becomes;
}

class Looking {
 public:
  Looking(ReadOnly& tx, const Settings& settings, const v1::ServiceRef& service, SupposedRows& seen)
      : tx_(tx), settings_(settings), service_(service), seen_(seen) {}

  std::vector<std::string> run(const nlohmann::json& wish) {
    const std::string username = text_of(wish, "username");
    std::vector<std::string> changes;
    const Owner owner = owner_of(tx_, service_, username);
    if (!owner.known || owner.ours || owner.idle) {
      compare_own(username, owner, wish, changes);
    } else if (text_of(wish, "condition") != "refused") {
      throw std::invalid_argument(fmt::format("username {} belongs to another service", username));
    }
    for (const auto& name : wish.at("former_usernames")) {
      const auto former = name.get<std::string>();
      if (former != username && (seen_.contains(former) || owner_of(tx_, service_, former).ours))
        compare(rows(former, ""), refused_rows(former), changes);
    }
    return changes;
  }

 private:
  void compare_own(const std::string& username, const Owner& owner, const nlohmann::json& wish,
                   std::vector<std::string>& changes) {
    const std::string plan = text_of(wish, "plan");
    const std::string condition = text_of(wish, "condition");
    const GroupPlaces places =
        group_places(tx_, settings_, username, owner.plan, plan, condition == "restricted");
    compare(rows(username, plan), wanted_rows(settings_, wish, places), changes);
    if (changes.empty() || condition == "refused") return;
    for (const std::string& group : places.foreign)
      changes.push_back(fmt::format("= radusergroup {} {}", username, group));
  }
  std::vector<std::string>& rows(const std::string& username, const std::string& plan) {
    auto [found, is_new] = seen_.try_emplace(username);
    if (is_new) found->second = rows_of(tx_, settings_, username, plan);
    return found->second;
  }

  ReadOnly& tx_;
  const Settings& settings_;
  const v1::ServiceRef& service_;
  SupposedRows& seen_;
};

}  // namespace

std::vector<std::string> look(Database& database, const v1::ServiceRef& service,
                              const nlohmann::json& wish, SupposedRows& seen) {
  return database.with([&](pqxx::connection& connection) {
    ReadOnly tx{connection};
    return Looking{tx, database.settings(), service, seen}.run(wish);
  });
}

}  // namespace addrflow::aaa
