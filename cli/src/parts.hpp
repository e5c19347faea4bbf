// The composition root: which part gets which, made from the settings.
#pragma once

#include "commands.hpp"

#include <addrflow/aaa/database.hpp>
#include <addrflow/ledger/ledger.hpp>
#include <addrflow/radius/effects.hpp>
#include <tempora/client.hpp>

#include <array>
#include <functional>
#include <memory>
#include <string>

namespace addrflow::netbox {
class Client;
}

namespace addrflow::cli {

// What the workflows show in Temporal's lists; registered by `addrflow setup`.
inline constexpr std::array<const char*, 4> kSearchAttributes{
    "AddrflowTenant", "AddrflowSubscriber", "AddrflowService", "AddrflowState"};

ledger::Settings ledger_settings(const Settings& settings);
aaa::Settings aaa_settings(const Settings& settings);
radius::ClientSettings radius_settings(const Settings::Radius& settings);
radius::EffectsSettings effects_settings(const Settings& settings);
// Null where no NetBox is configured.
std::shared_ptr<netbox::Client> netbox_client(const Settings& settings);

// Runs `body`; what the ledger or a database throws becomes one line and an exit code.
Exit guarded(const Shell& shell, const std::function<Exit()>& body);

// Everything that one worker process holds: four task queues with limits of their own.
class WorkerParts {
 public:
  WorkerParts(const Settings& settings, const tempora::Client& client);
  ~WorkerParts();
  WorkerParts(const WorkerParts&) = delete;
  WorkerParts& operator=(const WorkerParts&) = delete;

  void start();
  void shutdown();
  std::string queues() const;
  // What the last emission counted (`network.emit_…`), for a scrape.
  std::string emitted_metrics();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace addrflow::cli
