// Registers the NetBox activities with a worker of the queue `addrflow-netbox`.
#pragma once

#include <addrflow/catalog/catalog.hpp>
#include <addrflow/netbox/effects.hpp>
#include <memory>
#include <tempora/worker.hpp>
#include <utility>

namespace addrflow::netbox {

inline void register_activities(tempora::Worker& worker, std::shared_ptr<NetboxEffects> effects) {
  worker.add(
      catalog::kNetboxApply,
      [effects = std::move(effects)](tempora::ActivityContext&, const v1::EffectRequest& request) {
        return effects->apply(request);
      });
}

}  // namespace addrflow::netbox
