// Puts the activity on a worker. Header only, so that the library itself knows no worker.
#pragma once

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/radius/effects.hpp>
#include <tempora/worker.hpp>

#include <chrono>

namespace addrflow::radius {

// `effects` must outlive the worker.
inline void add_activities(tempora::Worker& worker, RadiusEffects& effects) {
  worker.add(catalog::kRadiusSend, [&effects](tempora::ActivityContext& context,
                                              const v1::EffectRequest& request) {
    // Give up before the server does, so that the outcome can still be recorded.
    constexpr std::chrono::seconds kReserve{1};
    RadiusEffects::Attempt attempt;
    attempt.stop = context.stop_token();
    attempt.still_alive = [&context] { context.heartbeat(); };
    if (const auto left = context.time_left(); left != tempora::Duration::max()) {
      const auto usable = left > 2 * kReserve ? left - kReserve : left / 2;
      attempt.deadline = std::chrono::steady_clock::now() +
                         std::chrono::duration_cast<std::chrono::steady_clock::duration>(usable);
    }
    return effects.send(request, attempt);
  });
}

}  // namespace addrflow::radius
