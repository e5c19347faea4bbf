#include "parts.hpp"
#include "plan.hpp"

#include <fmt/format.h>
#include <addrflow/aaa/effects.hpp>
#include <addrflow/aaa/listing.hpp>
#include <addrflow/aaa/register.hpp>
#include <addrflow/aaa/sessions.hpp>
#include <addrflow/catalog/catalog.hpp>
#include <addrflow/compose/compose.hpp>
#include <addrflow/ledger/register.hpp>
#include <addrflow/netbox/effects.hpp>
#include <addrflow/netbox/register.hpp>
#include <addrflow/radius/effects.hpp>
#include <addrflow/radius/register.hpp>
#include <addrflow/workflows/registry.hpp>
#include <pqxx/pqxx>
#include <tempora/worker.hpp>

#include <charconv>
#include <optional>

namespace addrflow::cli {
namespace {

std::optional<ports::NasRecord> default_nas(const Settings& settings) {
  if (settings.radius.server.empty()) {
    return std::nullopt;
  }
  ports::NasRecord nas;
  nas.name = "default";
  nas.coa_host = settings.radius.server;
  if (const auto colon = nas.coa_host.rfind(':');
      colon != std::string::npos && nas.coa_host.find(':') == colon) {
    const std::string port = nas.coa_host.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), nas.coa_port);
    if (error != std::errc{} || end != port.data() + port.size() || nas.coa_port == 0) {
      throw std::invalid_argument("radius.server: the port is no number of 1 to 65535");
    }
    nas.coa_host.resize(colon);
  }
  nas.nas_ip = nas.coa_host;
  nas.secret_ref = settings.radius.secret;
  return nas;
}

v1::Pace pace_of(const Settings::Pace& settings) {
  v1::Pace pace;
  pace.set_answer_wait_ms(settings.answer_wait.count());
  pace.set_effect_retry_ms(settings.effect_retry.count());
  pace.set_effect_retry_max_ms(settings.effect_retry_max.count());
  pace.set_gate_poll_ms(settings.gate_poll.count());
  pace.set_gate_poll_max_ms(settings.gate_poll_max.count());
  pace.set_ledger_timeout_ms(settings.ledger_timeout.count());
  pace.set_netbox_timeout_ms(settings.netbox_timeout.count());
  pace.set_radius_timeout_ms(settings.radius_timeout.count());
  pace.set_netbox_pursuit_ms(settings.netbox_pursuit.count());
  pace.set_idle_ms(settings.idle.count());
  pace.set_compose_timeout_ms(settings.compose_timeout.count());
  return pace;
}

tempora::WorkerOptions worker_options(const Settings& settings, const char* queue, int activities) {
  tempora::WorkerOptions options;
  options.task_queue = queue;
  options.max_concurrent_activities = static_cast<std::size_t>(activities);
  options.max_concurrent_workflow_tasks = static_cast<std::size_t>(settings.worker.workflow_slots);
  options.max_cached_workflows = static_cast<std::size_t>(settings.worker.cached_workflows);
  constexpr std::size_t kMib = 1'024 * 1'024;
  options.max_cached_workflow_bytes =
      static_cast<std::size_t>(settings.worker.cached_workflows_mib) * kMib;
  options.sticky_schedule_to_start_timeout = settings.worker.sticky_timeout;
  options.graceful_shutdown = settings.worker.shutdown_grace;
  return options;
}

// The search attributes may be upserted only where they are registered: an unknown one fails every
// workflow task.
bool search_attributes_registered(const tempora::Client& client) {
  const auto registered = client.list_search_attributes();
  if (!registered) {
    return false;
  }
  return std::ranges::all_of(
      kSearchAttributes, [&registered](const char* name) { return registered->contains(name); });
}

}  // namespace

ledger::Settings ledger_settings(const Settings& settings) {
  ledger::Settings ledger;
  ledger.url = settings.ledger.url;
  ledger.pool_size = settings.ledger.pool_size;
  ledger.statement_timeout = settings.ledger.statement_timeout;
  ledger.lock_timeout = settings.ledger.lock_timeout;
  ledger.connect_timeout = settings.ledger.connect_timeout;
  using std::chrono::hours;
  ledger.keep_revoked = std::chrono::ceil<hours>(settings.ledger.keep_revoked);
  ledger.stale_allocated = std::chrono::ceil<hours>(settings.ledger.stale_allocated);
  ledger.stuck_revoking = std::chrono::ceil<hours>(settings.ledger.stuck_revoking);
  ledger.longest_lease = std::chrono::ceil<std::chrono::seconds>(settings.longest_lease());
  ledger.netbox = !settings.netbox.url.empty();
  ledger.pace = pace_of(settings.pace);
  ledger.default_nas = default_nas(settings);
  return ledger;
}

radius::ClientSettings radius_settings(const Settings::Radius& settings) {
  radius::ClientSettings client;
  client.initial_wait = settings.initial_retransmission;
  client.max_wait = settings.max_retransmission;
  client.max_duration = settings.max_duration;
  client.max_sendings = settings.max_sendings;
  client.window = static_cast<std::size_t>(settings.window);
  client.rate = settings.rate_per_nas;
  return client;
}

radius::EffectsSettings effects_settings(const Settings& settings) {
  radius::EffectsSettings effects;
  effects.hard_deadline = settings.radius.max_duration;
  effects.restricted = settings.aaa.suspended_group;
  if (!settings.radius.plans.empty()) {
    auto [variables, plans] = radius::read_plans(settings.radius.plans);
    effects.variables = std::move(variables);
    effects.plans = std::move(plans);
  }
  effects.session_timeout =
      std::chrono::duration_cast<std::chrono::seconds>(settings.aaa.session_timeout);
  effects.test_pause = settings.test.pause;
  return effects;
}

aaa::Settings aaa_settings(const Settings& settings) {
  aaa::Settings aaa;
  aaa.url = settings.aaa.url.empty() ? settings.ledger.url : settings.aaa.url;
  aaa.suspended_group = settings.aaa.suspended_group;
  aaa.session_timeout =
      std::chrono::duration_cast<std::chrono::seconds>(settings.aaa.session_timeout);
  aaa.statement_timeout = settings.aaa.statement_timeout;
  aaa.max_connections = settings.aaa.pool_size;
  return aaa;
}

std::shared_ptr<netbox::Client> netbox_client(const Settings& settings) {
  if (settings.netbox.url.empty()) {
    return nullptr;
  }
  netbox::ClientOptions options;
  options.url = settings.netbox.url;
  options.token = settings.netbox.token;
  options.timeout = settings.netbox.timeout;
  options.concurrency = static_cast<std::size_t>(settings.netbox.concurrency);
  return std::make_shared<netbox::Client>(options);
}

Exit guarded(const Shell& shell, const std::function<Exit()>& body) {
  try {
    return body();
  } catch (const ledger::LedgerError& error) {
    const bool unreachable = error.retryable() || error.in_doubt();
    return shell.output.fail(unreachable ? Exit::kUnknown : Exit::kRefused,
                             domain::to_string(error.code()), error.what());
  } catch (const pqxx::broken_connection&) {
    return shell.output.fail(Exit::kUnknown, "unavailable", "the AAA database cannot be reached");
  } catch (const std::invalid_argument& error) {
    return shell.output.fail(Exit::kUsage, "invalid_argument", error.what());
  } catch (const std::exception& error) {
    return shell.output.fail(Exit::kUnknown, "internal", error.what());
  }
}

// In the order of who needs whom; destroyed in reverse, the workers first.
struct WorkerParts::Parts {
  Parts(const Settings& settings, const tempora::Client& client)
      : waker(client),
        aaa_database(aaa_settings(settings)),
        sessions(aaa_database),
        aaa_listing(aaa_database),
        ledger(with_search_attributes(ledger_settings(settings), client), &sessions, &waker),
        dialects(settings.radius.dialect_dir),
        radius_client(radius_settings(settings.radius)),
        aaa(aaa_database, ledger, waker),
        radius(radius_client, secrets, dialects, ledger, waker, sessions, ledger,
               effects_settings(settings)),
        netbox(std::make_shared<netbox::NetboxEffects>(
            netbox_client(settings), ledger, ledger, waker,
            netbox::EffectsSettings{.worker = client.identity()})),
        planner(ledger, aaa_database, radius, !settings.netbox.url.empty()),
        composing(client),
        main(client, worker_options(settings, catalog::kMainQueue, settings.worker.ledger_slots)),
        compose(client,
                worker_options(settings, catalog::kComposeQueue, settings.worker.compose_slots)),
        to_netbox(client,
                  worker_options(settings, catalog::kNetboxQueue, settings.netbox.concurrency)),
        to_radius(client,
                  worker_options(settings, catalog::kRadiusQueue, settings.worker.radius_slots)) {
    ledger.watch(aaa_listing);
    workflows::add_workflows_to(main);
    ledger::add_activities(main, ledger);
    aaa::add_activities(main, aaa);
    add_plan_activity(main, planner);
    compose::register_activities(compose, composing);
    netbox::register_activities(to_netbox, netbox);
    radius::add_activities(to_radius, radius);
  }

  static ledger::Settings with_search_attributes(ledger::Settings settings,
                                                 const tempora::Client& client) {
    settings.pace.set_search_attributes(search_attributes_registered(client));
    return settings;
  }

  std::array<tempora::Worker*, 4> workers() { return {&main, &compose, &to_netbox, &to_radius}; }

  compose::ClientWaker waker;
  aaa::Database aaa_database;
  aaa::AccountingSessions sessions;
  aaa::Listing aaa_listing;
  ledger::Ledger ledger;
  radius::SecretStore secrets;
  radius::Dialects dialects;
  radius::Client radius_client;
  aaa::AaaEffects aaa;
  radius::RadiusEffects radius;
  std::shared_ptr<netbox::NetboxEffects> netbox;
  Planner planner;
  compose::ComposeActivities composing;
  tempora::Worker main;
  tempora::Worker compose;
  tempora::Worker to_netbox;
  tempora::Worker to_radius;
};

WorkerParts::WorkerParts(const Settings& settings, const tempora::Client& client)
    : parts_(std::make_unique<Parts>(settings, client)) {}

WorkerParts::~WorkerParts() = default;

void WorkerParts::start() {
  for (tempora::Worker* worker : parts_->workers()) {
    worker->start();
  }
}

void WorkerParts::shutdown() {
  for (tempora::Worker* worker : parts_->workers()) {
    worker->stop_polling();
  }
  for (tempora::Worker* worker : parts_->workers()) {
    worker->shutdown();
  }
}

std::string WorkerParts::emitted_metrics() { return parts_->ledger.emitted_metrics(); }

std::string WorkerParts::queues() const {
  return fmt::format("{}, {}, {}, {}", catalog::kMainQueue, catalog::kComposeQueue,
                     catalog::kNetboxQueue, catalog::kRadiusQueue);
}

}  // namespace addrflow::cli
