// Registers the NetBox activities with a worker of the queue `addrflow-netbox`.
#pragma once

#include <addrflow/catalog/netbox.hpp>
#include <addrflow/netbox/effects.hpp>
#include <memory>
#include <tempora/worker.hpp>
#include <utility>

namespace addrflow::netbox {

inline void register_activities(tempora::Worker& worker, std::shared_ptr<NetboxEffects> effects) {
  worker.add(catalog::kNetboxApply,
             [effects](tempora::ActivityContext&, const v1::EffectRequest& request) {
               return effects->apply(request);
             });
  worker.add(catalog::kNetboxCatchUp,
             [effects = std::move(effects)](tempora::ActivityContext& context,
                                            const v1::NetboxCatchUpRequest& request) {
               return effects->catch_up(request, [&context] { return context.cancelled(); });
             });
}

}  // namespace addrflow::netbox
