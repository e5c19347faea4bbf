#include "output.hpp"

#include <addrflow/v1/json.hpp>

#include <fmt/format.h>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace addrflow::cli {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

void print_facts(const Facts& facts) {
  std::size_t width = 0;
  for (const auto& [name, value] : facts) {
    width = std::max(width, name.size());
  }
  for (const auto& [name, value] : facts) {
    if (!value.empty()) {
      fmt::print("{:<{}}  {}\n", name, width, value);
    }
  }
}

std::string describe(const v1::EffectView& effect) {
  std::string text = fmt::format("{} {}: {}", effect.system(), effect.action(), effect.status());
  if (!effect.code().empty()) {
    text += fmt::format(" ({})", effect.code());
  }
  if (effect.attempts() > 1) {
    text += fmt::format(", {} attempts", effect.attempts());
  }
  if (!effect.detail().empty()) {
    text += ": " + effect.detail();
  }
  return text;
}

std::string describe(const v1::NasAnswer& answer) {
  if (answer.code().empty()) {
    return {};
  }
  std::string text = answer.code();
  if (answer.error_cause() != 0) {
    text += fmt::format(" (Error-Cause {})", answer.error_cause());
  }
  return answer.message().empty() ? text : text + ": " + answer.message();
}

std::string space_of(const v1::BindingView& binding) {
  if (!binding.prefix().empty()) return binding.prefix();
  return binding.address().empty() ? "-" : binding.address();
}

std::string netbox_of(const v1::BindingView& binding) {
  if (binding.has_netbox_ip_id()) return fmt::format(", NetBox id {}", binding.netbox_ip_id());
  return binding.has_netbox_prefix_id()
             ? fmt::format(", NetBox prefix id {}", binding.netbox_prefix_id())
             : "";
}

std::string online_of(const v1::ServiceView& view) {
  if (!view.has_online()) return {};
  return view.online() ? fmt::format("at {} since {}", view.online_nas_ip(), view.online_since())
                       : "no";
}

std::string times_of(const v1::BindingView& binding) {
  std::vector<std::string> times;
  const auto add = [&](std::string_view what, bool known, const std::string& at) {
    if (known) times.push_back(fmt::format("{} {}", what, at));
  };
  add("allocated", binding.has_allocated_at(), binding.allocated_at());
  add("activated", binding.has_activated_at(), binding.activated_at());
  add("suspended", binding.has_suspended_at(), binding.suspended_at());
  add("revoked", binding.has_revoked_at(), binding.revoked_at());
  return fmt::format("{}", fmt::join(times, ", "));
}

Facts facts_of(const v1::LifecycleResult& result) {
  Facts facts{{"state", result.state()},
              {"address", result.address()},
              {"prefix", result.prefix()},
              {"NetBox id", result.has_netbox_ip_id() ? std::to_string(result.netbox_ip_id()) : ""},
              {"NetBox prefix id",
               result.has_netbox_prefix_id() ? std::to_string(result.netbox_prefix_id()) : ""},
              {"CoA", describe(result.coa_result())},
              {"Disconnect", describe(result.disconnect_result())},
              {"allocated at", result.allocated_at()},
              {"activated at", result.activated_at()},
              {"suspended at", result.suspended_at()},
              {"revoked at", result.revoked_at()},
              {"enforcement", result.enforcement()}};
  for (const v1::EffectView& effect : result.effects()) {
    facts.emplace_back("effect", describe(effect));
  }
  return facts;
}

void print_plan(const v1::Plan& plan) {
  for (const v1::PlannedEffect& effect : plan.effects()) {
    fmt::print("\n{}: {} {} {}\n", effect.operation(), effect.system(), effect.action(),
               effect.target());
    for (const std::string& change : effect.changes()) fmt::print("    {}\n", change);
    if (!effect.note().empty()) fmt::print("    ({})\n", effect.note());
  }
  for (const std::string& note : plan.notes()) fmt::print("\n{}\n", note);
}

Exit exit_of(bool success, std::string_view enforcement) {
  if (!success) {
    return Exit::kRefused;
  }
  return enforcement == "pending" ? Exit::kPending : Exit::kDone;
}

void print_json(const nlohmann::json& json) { fmt::print("{}\n", json.dump(2)); }

}  // namespace

Exit Output::fail(Exit exit, std::string_view code, std::string_view message) const {
  fmt::print(stderr, "addrflow: {}\n", message);
  if (json) {
    print_json({{"error", {{"code", code}, {"message", message}}}});
  }
  return exit;
}

Exit Output::result(const v1::LifecycleResult& result) const {
  if (json) {
    print_json(v1::to_json(result));
  } else {
    fmt::print("{}: {}\n", result.success() ? "ok" : result.code(), result.message());
    print_facts(facts_of(result));
    print_plan(result.plan());
  }
  return exit_of(result.success(), result.enforcement());
}

Exit Output::result(const v1::CompositionResult& result) const {
  if (json) {
    print_json(v1::to_json(result));
  } else {
    fmt::print("{}: {}\n", result.success() ? "ok" : result.code(), result.message());
    Facts facts = facts_of(result.result());
    for (const v1::Step& step : result.steps()) {
      facts.emplace_back("step", fmt::format("{}: {}{}{}", step.name(), step.status(),
                                             step.message().empty() ? "" : ": ", step.message()));
    }
    facts.emplace_back("done by", result.joined_workflow_id());
    print_facts(facts);
  }
  return exit_of(result.success(), result.result().enforcement());
}

Exit Output::view(const v1::ServiceView& view) const {
  if (json) {
    print_json(v1::to_json(view));
    return Exit::kDone;
  }
  const v1::ServiceRef& service = view.service();
  Facts facts{{"service", fmt::format("{}/{}/{}", service.tenant_id(), service.subscriber_id(),
                                      service.service())},
              {"username", view.username()},
              {"NAS", view.nas_ip()},
              {"plan", view.plan()},
              {"transition", std::to_string(view.number())},
              {"holds", fmt::format("{}", fmt::join(view.holds(), ", "))},
              {"restrict when", view.restrict_when()},
              {"enforcement", view.enforcement()},
              {"online", online_of(view)}};
  for (const v1::BindingView& binding : view.bindings()) {
    facts.emplace_back(
        binding.family(),
        fmt::format("{} {} (generation {}, pool {}{}{})", binding.state(), space_of(binding),
                    binding.generation(), binding.pool().empty() ? "-" : binding.pool(),
                    netbox_of(binding), binding.space_held() ? ", space held" : ""));
    facts.emplace_back(binding.family() + " times", times_of(binding));
    if (view.bindings_size() > 1)
      facts.emplace_back(binding.family() + " holds",
                         fmt::format("{}", fmt::join(binding.holds(), ", ")));
  }
  for (const std::string& family : view.leaving()) {
    facts.emplace_back("leaving", family + " space waits for the release gate");
  }
  for (const v1::EffectView& effect : view.unconfirmed()) {
    facts.emplace_back("unconfirmed", describe(effect));
  }
  print_facts(facts);
  return Exit::kDone;
}

Exit Output::done(const google::protobuf::Message& message) const {
  const nlohmann::json document = v1::to_json(message);
  if (json) {
    print_json(document);
    return Exit::kDone;
  }
  Facts facts;
  for (const auto& [name, value] : document.items()) {
    facts.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  print_facts(facts);
  return Exit::kDone;
}

Exit Output::facts(const Facts& facts, std::initializer_list<std::string_view> lists) const {
  if (json) {
    nlohmann::json document = nlohmann::json::object();
    for (const std::string_view list : lists) document[list] = nlohmann::json::array();
    for (const auto& [name, value] : facts) {
      auto& place = document[name];
      if (place.is_array()) {
        place.push_back(value);
      } else {
        place = value;
      }
    }
    print_json(document);
  } else {
    print_facts(facts);
  }
  return Exit::kDone;
}

}  // namespace addrflow::cli
