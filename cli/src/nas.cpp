// The commands on NAS and on the dialects that they speak. They need no Temporal server.

#include "commands.hpp"
#include "parts.hpp"

#include <fmt/format.h>
#include <addrflow/radius/client.hpp>
#include <addrflow/radius/dialect.hpp>
#include <addrflow/radius/effects.hpp>
#include <addrflow/radius/secret.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

namespace addrflow::cli {
namespace {

constexpr std::uint16_t kRadsecPort = 2083;

milliseconds duration_of(const std::string& field, const std::string& text) {
  auto duration = parse_duration(text);
  if (!duration) throw std::invalid_argument(field + ": " + duration.error());
  return *duration;
}

std::string joined(const std::vector<std::string>& texts) {
  return fmt::format("{}", fmt::join(texts, ","));
}

std::vector<std::pair<std::string, std::string>> facts_of(const ports::NasRecord& nas) {
  std::vector<std::pair<std::string, std::string>> facts{
      {"nas", nas.name},
      {"ip", nas.nas_ip},
      {"coa", fmt::format("{} port {}", nas.coa_host, nas.coa_port)},
      {"transport", nas.transport},
      {"dialect", nas.dialect},
      {"secret", nas.transport == "radsec" ? "radsec" : nas.secret_ref},
      {"interim", format_duration(nas.interim_interval)}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) facts.emplace_back(name, value);
  };
  add("next secret", nas.next_secret_ref);
  add("identifier", nas.nas_identifier);
  add("source addresses", joined(nas.source_addresses));
  if (nas.rate > 0) add("rate", fmt::format("{}/s", nas.rate));
  if (nas.window > 0) add("window", std::to_string(nas.window));
  if (nas.jitter.count() > 0) add("jitter", format_duration(nas.jitter));
  add("group", nas.redundancy_group);
  add("tls ca", nas.tls_ca);
  add("tls certificate", nas.tls_certificate);
  add("tls key", nas.tls_key);
  add("tls server name", nas.tls_server_name);
  return facts;
}

const radius::Dialect& known_dialect(const radius::Dialects& dialects, const std::string& name) {
  const radius::Dialect* dialect = dialects.find(name);
  if (dialect == nullptr) {
    throw std::invalid_argument(
        fmt::format("dialect: there is no {}, only {}", name, fmt::join(dialects.names(), ", ")));
  }
  return *dialect;
}

const char* evidence_of(const radius::Dialect& dialect) {
  if (dialect.tested) return "device";
  return dialect.judged ? "documents" : "untested";
}

ports::NasRecord named(const Shell& shell, const std::string& tenant, const std::string& name) {
  const auto found = ledger::Ledger(ledger_settings(shell.settings)).list_nas(tenant, name);
  if (found.empty()) throw std::invalid_argument(fmt::format("{} has no NAS {}", tenant, name));
  return found.front();
}

std::uint16_t default_port(const ports::NasRecord& nas, const radius::Dialects& dialects) {
  return nas.transport == "radsec" ? kRadsecPort : known_dialect(dialects, nas.dialect).port;
}

// The NAS as the arguments want it: a known one stays as it is in what they do not name.
ports::NasRecord changed(const std::optional<ports::NasRecord>& known,
                         const NasArguments& arguments, const radius::Dialects& dialects) {
  ports::NasRecord nas = known.value_or(ports::NasRecord{});
  const auto take = [](auto& field, const auto& given) {
    if (given) field = *given;
  };
  const auto take_or_clear = [](std::string& field, const std::optional<std::string>& given) {
    if (given) field = *given == "none" ? "" : *given;
  };
  // A dialect that is gone from the directory had some port: it stays.
  const bool own_port = known && (dialects.find(known->dialect) == nullptr ||
                                  known->coa_port != default_port(*known, dialects));
  nas.tenant = arguments.tenant;
  nas.name = arguments.name;
  take(nas.nas_ip, arguments.ip);
  if (nas.nas_ip.empty()) throw std::invalid_argument("ip: a new NAS needs its --ip");
  if (!known) nas.coa_host = nas.nas_ip;
  take(nas.coa_host, arguments.coa_host);
  take(nas.dialect, arguments.dialect);
  take(nas.transport, arguments.transport);
  static_cast<void>(known_dialect(dialects, nas.dialect));
  if (!own_port) nas.coa_port = default_port(nas, dialects);
  if (arguments.coa_port) nas.coa_port = static_cast<std::uint16_t>(*arguments.coa_port);
  take(nas.secret_ref, arguments.secret);
  take_or_clear(nas.next_secret_ref, arguments.next_secret);
  take_or_clear(nas.nas_identifier, arguments.identifier);
  if (arguments.interim)
    nas.interim_interval = std::chrono::duration_cast<std::chrono::seconds>(
        duration_of("interim", *arguments.interim));
  take(nas.source_addresses, arguments.source_addresses);
  std::erase(nas.source_addresses, "none");
  take(nas.rate, arguments.rate);
  if (arguments.window) nas.window = static_cast<std::size_t>(*arguments.window);
  if (arguments.jitter) nas.jitter = duration_of("jitter", *arguments.jitter);
  take_or_clear(nas.redundancy_group, arguments.group);
  take(nas.tls_ca, arguments.tls_ca);
  take(nas.tls_certificate, arguments.tls_certificate);
  take(nas.tls_key, arguments.tls_key);
  take_or_clear(nas.tls_server_name, arguments.tls_server_name);
  return nas;
}

Exit report_check(const Shell& shell, const ports::NasRecord& nas, const radius::Outcome& outcome) {
  using Kind = radius::Outcome::Kind;
  const auto fail = [&](Exit exit, const char* code, const std::string& why) {
    return shell.output.fail(exit, code, fmt::format("{}: {}", nas.name, why));
  };
  if (outcome.kind == Kind::kLocalError) return fail(Exit::kRefused, "not_sent", outcome.detail);
  if (outcome.kind == Kind::kTimeout) {
    return fail(Exit::kUnknown, "no_answer",
                outcome.detail +
                    ". A wrong secret, a source address that the NAS does not know, a clock that is"
                    " off and a filter all look like this");
  }
  const std::string cause =
      outcome.error_cause ? fmt::format(" with Error-Cause {}", *outcome.error_cause) : "";
  const char* const verdict = outcome.kind == Kind::kAck ? "ACK" : "NAK";
  // 403: the answer is signed, so the secret is right, but it feels not meant.
  const bool stranger = outcome.error_cause == 403U;
  if (stranger) return fail(Exit::kRefused, "nak-403", "it says that it is another NAS");
  return shell.output.facts({{"nas", nas.name},
                             {"answers", verdict + cause},
                             {"sendings", std::to_string(outcome.sendings)}});
}

}  // namespace

Exit run_nas_add(const Shell& shell, const NasArguments& arguments) {
  return guarded(shell, [&] {
    const radius::Dialects dialects(shell.settings.radius.dialect_dir);
    ledger::Ledger ledger(ledger_settings(shell.settings));
    auto known = ledger.list_nas(arguments.tenant, arguments.name);
    if (arguments.ip)
      std::erase_if(known, [&](const auto& nas) { return nas.nas_ip != *arguments.ip; });
    if (known.size() > 1)
      throw std::invalid_argument(
          fmt::format("ip: {} NAS are called {}: name one", known.size(), arguments.name));
    const ports::NasRecord nas =
        changed(known.empty() ? std::nullopt : std::optional{known.front()}, arguments, dialects);
    ledger.add_nas(nas);
    return shell.output.facts({{"nas", nas.name},
                               {"ip", nas.nas_ip},
                               {"coa", fmt::format("{} port {}", nas.coa_host, nas.coa_port)},
                               {"dialect", nas.dialect},
                               {"tested", evidence_of(known_dialect(dialects, nas.dialect))}});
  });
}

Exit run_nas_remove(const Shell& shell, const NasArguments& arguments) {
  return guarded(shell, [&] {
    ledger::Ledger(ledger_settings(shell.settings))
        .remove_nas(arguments.tenant, arguments.name, arguments.ip.value_or(""),
                    {.actor = arguments.actor, .reason = arguments.reason});
    return shell.output.facts({{"nas", arguments.name}, {"removed", "yes"}});
  });
}

Exit run_nas_list(const Shell& shell, const std::string& tenant) {
  return guarded(shell, [&] {
    const auto all = ledger::Ledger(ledger_settings(shell.settings)).list_nas(tenant);
    if (shell.output.json) {
      nlohmann::json list = nlohmann::json::array();
      for (const auto& nas : all) {
        nlohmann::json one;
        for (const auto& [name, value] : facts_of(nas)) one[name] = value;
        list.push_back(one);
      }
      fmt::print("{}\n", list.dump(2));
      return Exit::kDone;
    }
    for (const auto& nas : all) {
      fmt::print("{:20} {:15} {:10} {}\n", nas.name, nas.nas_ip, nas.dialect,
                 fmt::format("{} {}:{}", nas.transport, nas.coa_host, nas.coa_port));
    }
    return Exit::kDone;
  });
}

Exit run_nas_show(const Shell& shell, const std::string& tenant, const std::string& name) {
  return guarded(shell, [&] { return shell.output.facts(facts_of(named(shell, tenant, name))); });
}

Exit run_nas_check(const Shell& shell, const std::string& tenant, const std::string& name) {
  return guarded(shell, [&] {
    const ports::NasRecord nas = named(shell, tenant, name);
    const radius::Dialects dialects(shell.settings.radius.dialect_dir);
    const radius::Dialect& dialect = known_dialect(dialects, nas.dialect);
    radius::SecretStore secrets;
    auto request = radius::request_to(nas, secrets);
    if (!request) throw std::invalid_argument(request.error());
    ports::Session nobody;
    nobody.acct_session_id = fmt::format("addrflow-check-{:08x}", std::random_device{}());
    nobody.username = nobody.acct_session_id;
    auto attributes =
        radius::fill(dialect.identify_disconnect, radius::variables_of(nobody, nas), true);
    if (!attributes) throw std::invalid_argument(attributes.error());
    request->code = radius::Code::kDisconnectRequest;
    request->attributes = std::move(*attributes);
    radius::ClientSettings settings;
    settings.initial_wait = std::chrono::seconds{1};
    settings.max_wait = std::chrono::seconds{2};
    settings.max_sendings = 4;
    settings.max_duration = std::chrono::seconds{6};
    return report_check(shell, nas, radius::Client{settings}.send(std::move(*request)));
  });
}

Exit run_dialects_list(const Shell& shell) {
  return guarded(shell, [&] {
    const radius::Dialects dialects(shell.settings.radius.dialect_dir);
    nlohmann::json list = nlohmann::json::array();
    for (const auto& name : dialects.names()) {
      const radius::Dialect& dialect = *dialects.find(name);
      list.push_back({{"name", name},
                      {"title", dialect.title},
                      {"tested", evidence_of(dialect)},
                      {"port", dialect.port},
                      {"address_change", dialect.address_change},
                      {"origin", dialects.origin(name)}});
      if (shell.output.json) continue;
      fmt::print("{:12} {:22} port {:<5} tested: {:10} new address: {:15} {}\n", name,
                 dialect.title, dialect.port, evidence_of(dialect), dialect.address_change,
                 dialects.origin(name));
    }
    if (shell.output.json) fmt::print("{}\n", list.dump(2));
    return Exit::kDone;
  });
}

Exit run_dialects_show(const Shell& shell, const std::string& name) {
  return guarded(shell, [&] {
    const radius::Dialects dialects(shell.settings.radius.dialect_dir);
    static_cast<void>(known_dialect(dialects, name));
    fmt::print("{}", dialects.text(name));
    return Exit::kDone;
  });
}

Exit run_dialects_check(const Shell& shell, const std::string& file) {
  return guarded(shell, [&] {
    std::ifstream input{file};
    if (!input) throw std::invalid_argument(fmt::format("{} cannot be read", file));
    const std::string text{std::istreambuf_iterator<char>{input}, {}};
    const radius::Dialect dialect = radius::parse_dialect(text, file);
    return shell.output.facts({{"dialect", dialect.name},
                               {"title", dialect.title},
                               {"tested", evidence_of(dialect)},
                               {"result", "usable"}});
  });
}

}  // namespace addrflow::cli
