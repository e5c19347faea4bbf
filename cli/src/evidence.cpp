// The commands that answer for the past and look after the present: who-held, retention, audit.

#include "commands.hpp"
#include "parts.hpp"
#include "temporal.hpp"

#include <fmt/format.h>
#include <addrflow/aaa/listing.hpp>
#include <addrflow/aaa/sessions.hpp>
#include <addrflow/compose/compose.hpp>
#include <addrflow/netbox/listing.hpp>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

namespace addrflow::cli {
namespace {

constexpr std::size_t kMostAskedOfAccounting = 100;  // holders whose sessions are read
constexpr std::size_t kMostSessions = 50;            // of one holder

struct Sessions {
  bool read = false;       // there were too many holders, or accounting could not be read
  bool truncated = false;  // there are more than kMostSessions
  std::vector<ports::SessionRecord> records;
};

struct Evidence {
  std::vector<Sessions> sessions;  // one a holder
  std::string trouble;
};

Sessions read_sessions(aaa::AccountingSessions& accounting, const std::string& space,
                       const std::string& from, const std::string& to) {
  Sessions sessions{
      .read = true,
      .truncated = false,
      .records = accounting.history(space, from, to, static_cast<int>(kMostSessions) + 1)};
  sessions.truncated = sessions.records.size() > kMostSessions;
  if (sessions.truncated) sessions.records.resize(kMostSessions);
  return sessions;
}

// Asked about a moment: the sessions of that moment; else those of the whole holding.
Evidence read_evidence(const Settings& settings, const WhoHeldArguments& asked,
                       const ledger::WhoHeld& answer) {
  Evidence evidence;
  try {
    aaa::Database database(aaa_settings(settings));
    aaa::AccountingSessions accounting(database);
    for (const ledger::Holder& holder : answer.holders) {
      if (evidence.sessions.size() == kMostAskedOfAccounting) break;
      const bool ranged = !asked.from.empty() || !asked.to.empty();
      evidence.sessions.push_back(
          ranged || asked.at.empty()
              ? read_sessions(accounting, holder.space, holder.from, holder.to)
              : read_sessions(accounting, holder.space, asked.at, asked.at));
    }
  } catch (const std::exception&) {
    // What a database library says may hold the connection string.
    evidence.trouble = "accounting could not be read";
  }
  evidence.sessions.resize(answer.holders.size());
  return evidence;
}

std::string verdict_on(const ledger::Holder& holder, const ports::SessionRecord& session) {
  const bool own = std::ranges::find(holder.usernames, session.username) != holder.usernames.end();
  return own ? "" : "not a username of this line";
}

nlohmann::json json_of(const ledger::Holder::Operation& operation) {
  if (operation.id == 0) return nullptr;
  return {{"operation", operation.operation},
          {"key", operation.key},
          {"actor", operation.actor},
          {"reason", operation.reason}};
}

// Null: they were not read, which is not none.
nlohmann::json json_of(const ledger::Holder& holder, const Sessions& sessions) {
  if (!sessions.read) return nullptr;
  nlohmann::json list = nlohmann::json::array();
  for (const auto& session : sessions.records) {
    list.push_back({{"username", session.username},
                    {"nas_ip", session.nas_ip},
                    {"session_id", session.acct_session_id},
                    {"calling_station_id", session.calling_station_id},
                    {"started", session.started},
                    {"updated", session.updated},
                    {"stopped", session.stopped},
                    {"terminate_cause", session.terminate_cause},
                    {"remark", verdict_on(holder, session)}});
  }
  return list;
}

nlohmann::json json_of_whole(const ledger::Holder& holder, const Sessions& sessions) {
  return {{"tenant", holder.tenant},
          {"subscriber", holder.subscriber},
          {"service", holder.service},
          {"family", holder.family},
          {"domain", holder.domain},
          {"pool", holder.pool},
          {"space", holder.space},
          {"first_port", holder.first_port},
          {"last_port", holder.last_port},
          {"generation", holder.generation},
          {"from", holder.from},
          {"to", holder.to},
          {"releasing", holder.releasing},
          {"evidence", holder.evidence},
          {"opened_by", json_of(holder.opened_by)},
          {"closed_by", json_of(holder.closed_by)},
          {"sessions", json_of(holder, sessions)},
          {"sessions_truncated", sessions.truncated}};
}

void print_operation(const char* verb, const ledger::Holder::Operation& operation) {
  if (operation.id == 0) return;
  if (operation.key.empty()) {
    fmt::print("  {} by operation {}\n", verb, operation.id);
    return;
  }
  fmt::print("  {} by {} (key {}{}{})\n", verb, operation.operation, operation.key,
             operation.actor.empty() ? "" : ", actor " + operation.actor,
             operation.reason.empty() ? "" : ", reason " + operation.reason);
}

void print_holder(const ledger::Holder& holder, const Sessions& sessions) {
  const bool shared = holder.first_port != 0 || holder.last_port != 65'535;
  fmt::print("{}{}  {}/{}/{}\n", holder.space,
             shared ? fmt::format(" ports {}-{}", holder.first_port, holder.last_port) : "",
             holder.tenant, holder.subscriber, holder.service);
  fmt::print("  from {} to {}{}\n", holder.from,
             holder.to.empty() ? (holder.releasing ? "now, being released" : "now") : holder.to,
             holder.evidence.empty() ? "" : " (" + holder.evidence + ")");
  fmt::print("  {}, domain {}, pool {}, generation {}\n", holder.family, holder.domain,
             holder.pool.empty() ? "-" : holder.pool, holder.generation);
  print_operation("opened", holder.opened_by);
  print_operation("closed", holder.closed_by);
  if (!sessions.read) fmt::print("  sessions not read\n");
  for (const auto& session : sessions.records) {
    const std::string remark = verdict_on(holder, session);
    fmt::print(
        "  session {} of {} at {}: {} to {}{}\n", session.acct_session_id, session.username,
        session.nas_ip, session.started,
        session.stopped.empty() ? fmt::format("{} (no Stop)", session.updated) : session.stopped,
        remark.empty() ? "" : "; " + remark);
  }
  if (sessions.truncated) fmt::print("  and more sessions\n");
}

std::string summary(const WhoHeldArguments& asked, const ledger::WhoHeld& answer) {
  if (answer.ambiguous == "domain")
    return "ambiguous: several routing domains have it; name one with --domain";
  if (answer.ambiguous == "port") return "ambiguous: the space is shared; name the --port";
  if (!answer.pruned_before.empty())
    return "no longer on record: what ended before " + answer.pruned_before + " was pruned";
  if (answer.holders.empty()) return "nobody held " + asked.space;
  if (answer.truncated)
    return fmt::format("there are more than {}: narrow the question", ledger::WhoHeld::kMost);
  return {};
}

}  // namespace

Exit run_who_held(const Shell& shell, const WhoHeldArguments& asked) {
  return guarded(shell, [&] {
    ledger::WhoHeldQuery query{.space = asked.space,
                               .at = asked.at,
                               .from = asked.from,
                               .to = asked.to,
                               .domain = asked.domain,
                               .tenant = asked.tenant,
                               .port = asked.port};
    const auto answer = ledger::Ledger(ledger_settings(shell.settings)).who_held(query);
    const Evidence evidence = read_evidence(shell.settings, asked, answer);
    const std::string said = summary(asked, answer);
    if (shell.output.json) {
      nlohmann::json holders = nlohmann::json::array();
      for (std::size_t i = 0; i < answer.holders.size(); ++i)
        holders.push_back(json_of_whole(answer.holders[i], evidence.sessions[i]));
      fmt::print("{}\n", nlohmann::json{{"holders", holders},
                                        {"ambiguous", answer.ambiguous},
                                        {"truncated", answer.truncated},
                                        {"pruned_before", answer.pruned_before},
                                        {"accounting", evidence.trouble}}
                             .dump(2));
    } else {
      for (std::size_t i = 0; i < answer.holders.size(); ++i)
        print_holder(answer.holders[i], evidence.sessions[i]);
    }
    if (!evidence.trouble.empty()) fmt::print(stderr, "addrflow: {}\n", evidence.trouble);
    if (!said.empty()) fmt::print(stderr, "addrflow: {}\n", said);
    if (!answer.ambiguous.empty()) return Exit::kRefused;
    const bool known = evidence.trouble.empty() && answer.pruned_before.empty();
    return known ? Exit::kDone : Exit::kUnknown;
  });
}

Exit run_holdings_prune(const Shell& shell, const std::string& older_than, bool dry_run) {
  milliseconds keep = shell.settings.ledger.keep_holdings;
  if (!older_than.empty()) {
    const auto parsed = parse_duration(older_than);
    if (!parsed)
      return shell.output.fail(Exit::kUsage, "invalid_argument", "older-than: " + parsed.error());
    keep = *parsed;
  }
  const auto hours = std::chrono::ceil<std::chrono::hours>(keep);
  return guarded(shell, [&] {
    const auto pruned =
        ledger::Ledger(ledger_settings(shell.settings)).prune_holdings(hours, dry_run);
    if (pruned.before.empty())
      return shell.output.facts({{"holdings", "kept for ever (ledger.keep_holdings)"}});
    return shell.output.facts(
        {{dry_run ? "would be pruned" : "pruned", std::to_string(pruned.holdings)},
         {"ended before", pruned.before}});
  });
}

namespace {

Exit exit_of(ledger::AuditReport::Result result) {
  switch (result) {
    case ledger::AuditReport::Result::kClean: return Exit::kDone;
    case ledger::AuditReport::Result::kViolated: return Exit::kRefused;
    case ledger::AuditReport::Result::kCouldNotCheck: break;
  }
  return Exit::kUnknown;
}

const char* verdict_of(ledger::AuditReport::Result result) {
  switch (result) {
    case ledger::AuditReport::Result::kClean: return "clean";
    case ledger::AuditReport::Result::kViolated: return "violated";
    case ledger::AuditReport::Result::kCouldNotCheck: break;
  }
  return "could not check";
}

void print_json(const ledger::AuditReport& report) {
  nlohmann::json violations = nlohmann::json::array();
  for (const auto& violation : report.violations) {
    violations.push_back({{"invariant", violation.invariant},
                          {"tenant", violation.tenant},
                          {"subscriber", violation.subscriber},
                          {"system", violation.system},
                          {"what", violation.what},
                          {"expected", violation.expected},
                          {"found", violation.found}});
  }
  fmt::print("{}\n", nlohmann::json{{"result", verdict_of(report.result)},
                                    {"services", report.services},
                                    {"skipped", report.skipped},
                                    {"systems", report.systems},
                                    {"out_of_reach", report.out_of_reach},
                                    {"truncated", report.truncated},
                                    {"why", report.why},
                                    {"violations", violations}}
                         .dump(2));
}

void print_text(const ledger::AuditReport& report) {
  fmt::print("{}: {} services looked at in {}, {} skipped with an operation under way{}{}\n",
             verdict_of(report.result), report.services, fmt::join(report.systems, ", "),
             report.skipped, report.why.empty() ? "" : "; " + report.why,
             report.truncated ? "; there are more violations than shown" : "");
  for (const auto& violation : report.violations) {
    fmt::print("{} {} {}{}: {}", violation.invariant, violation.system, violation.tenant,
               violation.subscriber.empty() ? "" : "/" + violation.subscriber, violation.what);
    if (!violation.expected.empty() || !violation.found.empty())
      fmt::print("; expected {}, found {}", violation.expected, violation.found);
    fmt::print("\n");
  }
}

}  // namespace

Exit run_audit(const Shell& shell) {
  return guarded(shell, [&] {
    aaa::Database database(aaa_settings(shell.settings));
    aaa::Listing lines(database);
    const auto client = netbox_client(shell.settings);
    std::optional<netbox::Listing> objects;
    if (client) objects.emplace(*client);
    const ledger::AuditPeers peers{.aaa = &lines, .netbox = objects ? &*objects : nullptr};
    const auto report = ledger::Ledger(ledger_settings(shell.settings)).audit(peers);
    if (shell.output.json) {
      print_json(report);
    } else {
      print_text(report);
    }
    return exit_of(report.result);
  });
}

namespace {

// A ledger that wakes services where a Temporal server can be reached; where it cannot, the rest is
// done and the exit code says that something is left.
template <class F>
Exit with_waker(const Shell& shell, bool dry_run, F body) {
  std::optional<compose::ClientWaker> waker;
  if (!dry_run) {
    auto client = connect_temporal();
    if (client) {
      waker.emplace(*client);
    } else {
      fmt::print(stderr, "addrflow: nobody is woken, Temporal cannot be reached: {}\n",
                 client.error().text());
    }
  }
  const Exit exit = guarded(shell, [&] {
    aaa::Database database(aaa_settings(shell.settings));
    aaa::AccountingSessions accounting(database);
    ledger::Ledger ledger(ledger_settings(shell.settings), &accounting, waker ? &*waker : nullptr);
    return body(ledger);
  });
  return exit == Exit::kDone && !dry_run && !waker ? Exit::kUnknown : exit;
}

// What met an error is due again.
template <class Result>
Exit all_done(const Shell& shell, const Result& result) {
  const Exit exit = shell.output.done(result);
  return result.errors() == 0 ? exit : Exit::kUnknown;
}

}  // namespace

Exit run_cleanup(const Shell& shell, const std::string& family, bool dry_run) {
  return with_waker(shell, dry_run, [&](ledger::Ledger& ledger) {
    v1::CleanupRequest request;
    request.set_family(family);
    request.set_dry_run(dry_run);
    return all_done(shell, ledger.cleanup(request));
  });
}

Exit run_metrics(const Shell& shell, const std::string& family) {
  return guarded(shell, [&] {
    ledger::Ledger ledger(ledger_settings(shell.settings));
    v1::EmitMetricsRequest request;
    request.set_family(family);
    const auto emitted = ledger.emit_metrics(request);
    if (shell.output.json) return shell.output.done(emitted);
    fmt::print("{}", ledger.emitted_metrics());
    return Exit::kDone;
  });
}

Exit run_catch_up(const Shell& shell, bool dry_run) {
  return with_waker(shell, dry_run, [&](ledger::Ledger& ledger) {
    v1::CatchUpRequest request;
    request.set_dry_run(dry_run);
    return all_done(shell, ledger.catch_up(request));
  });
}

Exit run_reconcile_after_restore(const Shell& shell, const std::string& actor, bool dry_run) {
  return guarded(shell, [&] {
    aaa::Database database(aaa_settings(shell.settings));
    aaa::Listing lines(database);
    const auto done = ledger::Ledger(ledger_settings(shell.settings))
                          .reconcile_after_restore(lines, actor, dry_run);
    std::vector<std::pair<std::string, std::string>> facts{
        {"services moved", std::to_string(done.services_moved)},
        {"services made", std::to_string(done.services_made)},
        {"spaces blocked", std::to_string(done.spaces_blocked)},
        {"holdings closed", std::to_string(done.holdings_closed)}};
    for (const std::string& note : done.notes) facts.emplace_back("note", note);
    return shell.output.facts(facts, {"note"});
  });
}

}  // namespace addrflow::cli
