#include "addrflow/aaa/effects.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <addrflow/domain/ids.hpp>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "groups.hpp"

namespace addrflow::aaa {
namespace {

constexpr std::size_t kMaxNameSize = 253;  // User-Name's octets

v1::EffectReply reply_with(std::string_view status, std::string_view code, std::string detail,
                           bool retry = false) {
  v1::EffectReply reply;
  reply.set_status(std::string{status});
  reply.set_code(std::string{code});
  reply.set_detail(std::move(detail));
  reply.set_retry(retry);
  return reply;
}

std::string text_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

// FreeRADIUS refuses every login of a user with one value that it cannot parse: so nothing is
// written that was not looked at.
bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameSize && domain::is_printable(name);
}

void check_name(std::string_view field, std::string_view name) {
  if (!is_name(name)) {
    throw std::invalid_argument(
        fmt::format("{}: must have 1 to {} printable octets", field, kMaxNameSize));
  }
}

bool is_prefix(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string network{text.substr(0, slash)};
  const std::string_view digits = text.substr(slash + 1);
  int length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  in6_addr address{};
  return inet_pton(AF_INET6, network.c_str(), &address) == 1 && error == std::errc{} &&
         end == digits.data() + digits.size() && length >= 1 && length <= 128;
}

}  // namespace

struct AaaEffects::Wish {
  enum class Condition { kFull, kRestricted, kRefused };
  Condition condition = Condition::kRefused;
  std::string username;
  std::vector<std::string> former;
  std::string framed_ip;
  std::string delegated_prefix;
  std::string plan;

  // Throws std::invalid_argument naming the field.
  static Wish from(const nlohmann::json& json) {
    Wish wish;
    const std::string condition = text_of(json, "condition");
    if (condition == "full") {
      wish.condition = Condition::kFull;
    } else if (condition == "restricted") {
      wish.condition = Condition::kRestricted;
    } else if (condition != "refused") {
      throw std::invalid_argument("condition: must be full, restricted or refused");
    }
    wish.username = text_of(json, "username");
    check_name("username", wish.username);
    if (const auto names = json.find("former_usernames"); names != json.end()) {
      for (const auto& name : *names) {
        auto former = name.get<std::string>();
        // What is no name was never written: the line must not be stuck with it.
        if (former != wish.username && is_name(former)) wish.former.push_back(std::move(former));
      }
    }
    wish.plan = text_of(json, "plan");
    if (!wish.plan.empty()) check_name("plan", wish.plan);
    wish.framed_ip = text_of(json, "framed_ip");
    in_addr address{};
    if (!wish.framed_ip.empty() && inet_pton(AF_INET, wish.framed_ip.c_str(), &address) != 1) {
      throw std::invalid_argument("framed_ip: is no IPv4 address");
    }
    wish.delegated_prefix = text_of(json, "delegated_prefix");
    if (!wish.delegated_prefix.empty() && !is_prefix(wish.delegated_prefix)) {
      throw std::invalid_argument("delegated_prefix: is no IPv6 prefix");
    }
    return wish;
  }

  std::string text() const {
    if (condition == Condition::kRefused) return "refused";
    std::string said;
    if (!framed_ip.empty()) said = "Framed-IP-Address " + framed_ip;
    if (!delegated_prefix.empty()) {
      said += (said.empty() ? "" : ", ") + ("Delegated-IPv6-Prefix " + delegated_prefix);
    }
    return condition == Condition::kRestricted ? said + ", restricted" : said;
  }
};

namespace {

// The rows of one username that are ours, within one transaction.
class Line {
 public:
  Line(pqxx::work& work, const Settings& settings, const v1::ServiceRef& service, std::string name)
      : work_(work), settings_(settings), service_(service), name_(std::move(name)) {}

  // Takes the username for this service. False: another service owns it and still uses it.
  bool own() {
    const auto rows = work_.exec_params(
        "insert into addrflow_line as line (username, tenant, subscriber, service)"
        " values ($1, $2, $3, $4)"
        " on conflict (username) do update set tenant = excluded.tenant,"
        "   subscriber = excluded.subscriber, service = excluded.service"
        " where (line.tenant, line.subscriber, line.service) ="
        "       (excluded.tenant, excluded.subscriber, excluded.service)"
        "    or line.reject_id is not null"
        " returning plan, reject_id",
        name_, service_.tenant_id(), service_.subscriber_id(), service_.service());
    if (rows.empty()) return false;
    remember(rows[0]);
    return true;
  }

  // True when this service owns the username (a former one may have gone to somebody else).
  bool owned() {
    const auto rows = work_.exec_params(
        "select plan, reject_id from addrflow_line"
        " where username = $1 and tenant = $2 and subscriber = $3 and service = $4 for update",
        name_, service_.tenant_id(), service_.subscriber_id(), service_.service());
    if (rows.empty()) return false;
    remember(rows[0]);
    return true;
  }

  // Returns the groups of somebody else that the username has, in words.
  std::vector<std::string> admit(const std::string& framed_ip, const std::string& delegated_prefix,
                                 const std::string& plan, bool restricted) {
    if (reject_id_) {
      work_.exec_params(
          "delete from radcheck where id = $1 and username = $2 and attribute = 'Auth-Type'",
          *reject_id_, name_);
    }
    clear();
    reply_with_attribute("Framed-IP-Address", framed_ip);
    reply_with_attribute("Delegated-IPv6-Prefix", delegated_prefix);
    if (settings_.session_timeout.count() > 0)
      reply_with_attribute("Session-Timeout", std::to_string(settings_.session_timeout.count()));
    remember_spaces();
    GroupPlaces places = group_places(work_, settings_, name_, plan_, plan, restricted);
    if (restricted) join(settings_.suspended_group, places.suspended);
    if (!plan.empty()) {
      work_.exec_params("delete from radusergroup where username = $1 and groupname = $2", name_,
                        plan);
      join(plan, places.plan);
    }
    work_.exec_params(
        "update addrflow_line set plan = $2, reject_id = null, changed = clock_timestamp()"
        " where username = $1",
        name_, plan);
    return std::move(places.foreign);
  }

  void refuse() {
    clear();
    if (reject_id_) {
      const auto rows = work_.exec_params("select 1 from radcheck where id = $1 and username = $2",
                                          *reject_id_, name_);
      if (rows.empty()) reject_id_.reset();
    }
    if (!reject_id_) {
      reject_id_ = work_
                       .exec_params1(
                           "insert into radcheck (username, attribute, op, value)"
                           " values ($1, 'Auth-Type', ':=', 'Reject') returning id",
                           name_)[0]
                       .as<std::int64_t>();
    }
    work_.exec_params(
        "update addrflow_line set plan = '', reject_id = $2, changed = clock_timestamp()"
        " where username = $1",
        name_, *reject_id_);
  }

 private:
  void remember(const pqxx::row& row) {
    plan_ = row[0].as<std::string>();
    if (!row[1].is_null()) reject_id_ = row[1].as<std::int64_t>();
  }
  void reply_with_attribute(const std::string& attribute, const std::string& value) {
    if (value.empty()) return;
    work_.exec_params(
        "insert into radreply (username, attribute, op, value) values ($1, $2, ':=', $3)", name_,
        attribute, value);
  }
  // For a ledger that may one day be restored to an earlier state.
  void remember_spaces() {
    work_.exec_params(
        "insert into addrflow_handed (space, username) select value::inet, username from radreply"
        " where username = $1 and attribute in ('Framed-IP-Address', 'Delegated-IPv6-Prefix')"
        " and value ~ '^[0-9a-fA-F.:]+(/[0-9]+)?$'"
        " on conflict (space, username) do update set changed = clock_timestamp()",
        name_);
  }
  // Two rows of one attribute would both be sent: delete before insert, always.
  void clear() {
    work_.exec_params(
        "delete from radreply where username = $1"
        " and (attribute in ('Framed-IP-Address', 'Delegated-IPv6-Prefix')"
        "   or (attribute = 'Session-Timeout' and $2))",
        name_, settings_.session_timeout.count() > 0);
    work_.exec_params("delete from radusergroup where username = $1 and groupname in ($2, $3)",
                      name_, settings_.suspended_group, plan_);
  }
  void join(const std::string& group, std::int64_t priority) {
    work_.exec_params(
        "insert into radusergroup (username, groupname, priority) values ($1, $2, $3)", name_,
        group, priority);
  }

  pqxx::work& work_;
  const Settings& settings_;
  const v1::ServiceRef& service_;
  std::string name_;
  std::string plan_;
  std::optional<std::int64_t> reject_id_;
};

}  // namespace

AaaEffects::AaaEffects(Database& database, ports::EffectJournal& journal,
                       ports::ServiceWaker& waker)
    : database_(database), journal_(journal), waker_(waker) {}

v1::EffectReply AaaEffects::apply(const v1::EffectRequest& request,
                                  std::chrono::milliseconds hard_deadline) {
  const ports::Leave leave = journal_.begin(request, hard_deadline);
  if (leave.kind == ports::Leave::Kind::kRecorded) return leave.recorded;
  if (leave.kind == ports::Leave::Kind::kSuperseded) {
    return reply_with("superseded", "fence", "a newer transition owns the service");
  }
  const v1::EffectReply reply = carry_out(request, leave);
  if (!journal_.finish(request, leave.attempt, reply)) waker_.wake(request.service());
  return reply;
}

v1::EffectReply AaaEffects::carry_out(const v1::EffectRequest& request, const ports::Leave& leave) {
  const std::int64_t effect = request.effect().effect_id();
  try {
    const Wish wish = Wish::from(leave.wish);
    try {
      return write(request, effect, wish);
    } catch (const pqxx::in_doubt_error&) {
      // Perhaps it was committed. The fence makes saying it again safe.
      return write(request, effect, wish);
    }
  } catch (const std::invalid_argument& error) {
    return reply_with("refused", "invalid_argument", error.what());
  } catch (const pqxx::in_doubt_error& error) {
    return reply_with("unknown", "in_doubt", error.what(), true);
  } catch (const pqxx::broken_connection&) {
    // What the library says here may hold the connection string.
    return reply_with("unknown", "aaa_unreachable", "the AAA database cannot be reached", true);
  } catch (const pqxx::undefined_table& error) {
    return reply_with("refused", "aaa_not_set_up",
                      fmt::format("run the AAA set-up first: {}", error.what()), true);
  } catch (const pqxx::failure& error) {
    return reply_with("refused", "aaa_failed", error.what(), true);
  } catch (const nlohmann::json::exception& error) {
    return reply_with("refused", "invalid_argument", error.what());
  }
}

v1::EffectReply AaaEffects::write(const v1::EffectRequest& request, std::int64_t effect_id,
                                  const Wish& wish) {
  const v1::ServiceRef& service = request.service();
  const bool refused = wish.condition == Wish::Condition::kRefused;
  return database_.with([&](pqxx::connection& connection) {
    pqxx::work work{connection};
    // The row stays locked to the end: writers of one service go one after the other. An attempt
    // that was given up long ago, and a step of the same transition that was overtaken, stop here.
    const auto fence = work.exec_params(
        "insert into addrflow_fence as fence (tenant, subscriber, service, number, effect_id)"
        " values ($1, $2, $3, $4, $5)"
        " on conflict (tenant, subscriber, service) do update"
        "   set number = excluded.number, effect_id = excluded.effect_id,"
        "       changed = clock_timestamp()"
        " where (fence.number, fence.effect_id) <= (excluded.number, excluded.effect_id)"
        " returning 1",
        service.tenant_id(), service.subscriber_id(), service.service(), request.number(),
        effect_id);
    if (fence.empty()) {
      return reply_with("superseded", "fence", "the AAA rows are of a newer transition");
    }

    Line line{work, database_.settings(), service, wish.username};
    if (!line.own()) {
      if (refused) return reply_with("confirmed", "applied", "the username is another line's now");
      return reply_with("refused", "username_taken",
                        fmt::format("username {} belongs to another service", wish.username));
    }
    std::vector<std::string> groups;
    if (refused) {
      line.refuse();
    } else {
      groups = line.admit(wish.framed_ip, wish.delegated_prefix, wish.plan,
                          wish.condition == Wish::Condition::kRestricted);
    }
    for (const std::string& name : wish.former) {
      Line former{work, database_.settings(), service, name};
      if (former.owned()) former.refuse();
    }

    std::string detail = wish.text();
    if (!refused) {
      const auto foreign = work.exec_params1(
          "select count(*) from radcheck"
          " where username = $1 and attribute = 'Auth-Type' and value = 'Reject'",
          wish.username);
      if (foreign[0].as<int>() > 0) detail += "; somebody else's Auth-Type := Reject is there too";
      if (!groups.empty())
        detail += fmt::format("; groups of somebody else: {}", fmt::join(groups, ", "));
    }
    work.commit();
    return reply_with("confirmed", "applied", detail);
  });
}

}  // namespace addrflow::aaa
