#include "plan.hpp"

#include "parts.hpp"

#include <fmt/format.h>
#include <addrflow/aaa/listing.hpp>
#include <addrflow/aaa/look.hpp>
#include <addrflow/aaa/sessions.hpp>
#include <addrflow/catalog/catalog.hpp>
#include <addrflow/domain/errors.hpp>
#include <addrflow/ledger/register.hpp>
#include <addrflow/workflows/plan.hpp>

namespace addrflow::cli {
namespace {

struct NobodyToWake : ports::ServiceWaker {
  bool wake(const v1::ServiceRef&) noexcept override { return false; }
};

// Left out of a NetBox object's fields: what only addresses it.
bool is_field(const std::string& name) {
  return name != "key" && name != "netbox_id" && name != "family";
}

void netbox_changes(v1::PlannedEffect& effect, const nlohmann::json& wish) {
  for (const auto& [name, value] : wish.items()) {
    if (!is_field(name) || value == 0) continue;
    effect.add_changes(
        fmt::format("{} = {}", name, value.is_string() ? value.get<std::string>() : value.dump()));
  }
}

v1::LifecycleResult walk(const v1::PlanRequest& request, ledger::LedgerLook& look) {
  return workflows::look_ahead(
      request, {.compose_claim = [&](const auto& wanted) { return look.compose_claim(wanted); },
                .claim = [&](const auto& wanted) { return look.claim(wanted); },
                .reserve = [&](const auto& wanted) { return look.reserve(wanted); },
                .transition = [&](const auto& wanted) { look.transition(wanted); },
                .view = [&] { return look.view(); }});
}

}  // namespace

v1::PlanReply Planner::plan(const v1::PlanRequest& request) {
  v1::PlanReply reply;
  std::exception_ptr refused;  // by the workflow's own rules, which the ledger does not know
  ledger_.look(request.service(), [&](ledger::LedgerLook& look) {
    v1::LifecycleResult& result = *reply.mutable_result();
    try {
      result = walk(request, look);
    } catch (const tempora::ApplicationError&) {
      refused = std::current_exception();
    }
    v1::Plan& plan = *result.mutable_plan();
    for (const v1::PlannedEffect& effect : look.effects()) *plan.add_effects() = effect;
  });
  if (refused) std::rethrow_exception(refused);
  v1::LifecycleResult& result = *reply.mutable_result();
  aaa::SupposedRows rows;
  for (v1::PlannedEffect& effect : *result.mutable_plan()->mutable_effects())
    complete(effect, request.service(), rows);
  if (result.plan().effects().empty()) return reply;
  result.clear_enforcement();
  result.set_message("not committed" + (result.message().empty() ? "" : ": " + result.message()));
  return reply;
}

void Planner::complete(v1::PlannedEffect& effect, const v1::ServiceRef& service,
                       aaa::SupposedRows& rows) {
  if (effect.wish().empty()) return;
  const auto wish = nlohmann::json::parse(effect.wish());
  if (effect.system() == "netbox") {
    netbox_changes(effect, wish);
    if (!netbox_) effect.set_note("NetBox is not configured: nothing is sent");
    return;
  }
  try {
    if (effect.system() == "radius") return packets(effect, service, wish);
    for (std::string& row : aaa::look(aaa_, service, wish, rows))
      effect.add_changes(std::move(row));
  } catch (const std::invalid_argument& error) {
    // An allocate is refused for it; what takes something away goes on.
    effect.set_note(std::string{"would be refused: "} + error.what());
    if (effect.operation() != "allocate") return;
    throw ledger::LedgerError{domain::ErrorCode::kAaaFailed, error.what()};
  } catch (const std::exception&) {
    // What a database library says may hold the connection string.
    effect.set_note("the AAA database cannot be read: what would change there is not known");
  }
}

void Planner::packets(v1::PlannedEffect& effect, const v1::ServiceRef& service,
                      const nlohmann::json& wish) {
  const auto packets = radius_.look(service, effect.action(), wish);
  if (packets.empty()) effect.set_note("accounting knows no open session: nothing is sent");
  for (const auto& packet : packets) {
    effect.add_changes(fmt::format("{} to {}{}", packet.code, packet.nas,
                                   packet.refused.empty() ? "" : ": " + packet.refused));
    for (const std::string& attribute : packet.attributes) effect.add_changes("  " + attribute);
  }
}

void add_plan_activity(tempora::Worker& worker, Planner& planner) {
  worker.add(catalog::kPlan, [&planner](tempora::ActivityContext&, const v1::PlanRequest& request) {
    return ledger::as_activity([&] { return planner.plan(request); });
  });
}

Exit run_plan(const Shell& shell, const v1::PlanRequest& request) {
  return guarded(shell, [&] {
    const Settings& settings = shell.settings;
    NobodyToWake waker;
    aaa::Database aaa{aaa_settings(settings)};
    aaa::AccountingSessions sessions{aaa};
    aaa::Listing listing{aaa};
    ledger::Ledger ledger{ledger_settings(settings), &sessions, &waker};
    ledger.watch(listing);
    radius::SecretStore secrets;
    const radius::Dialects dialects{settings.radius.dialect_dir};
    radius::Client client{radius_settings(settings.radius)};
    radius::RadiusEffects radius{client, secrets,  dialects, ledger,
                                 waker,  sessions, ledger,   effects_settings(settings)};
    Planner planner{ledger, aaa, radius, !settings.netbox.url.empty()};
    try {
      return shell.output.result(planner.plan(request).result());
    } catch (const tempora::ApplicationError& error) {
      return shell.output.fail(Exit::kRefused, error.type(), error.message());
    }
  });
}

}  // namespace addrflow::cli
