// Puts the activity on a worker. Header only, so that the library itself knows no worker.
#pragma once

#include <addrflow/aaa/effects.hpp>
#include <addrflow/catalog/catalog.hpp>
#include <tempora/worker.hpp>

#include <algorithm>
#include <chrono>

namespace addrflow::aaa {

// `effects` must outlive the worker.
inline void add_activities(tempora::Worker& worker, AaaEffects& effects) {
  worker.add(catalog::kAaaApply, [&effects](tempora::ActivityContext& context,
                                            const v1::EffectRequest& request) {
    const auto left = std::min<tempora::Duration>(context.time_left(), std::chrono::seconds{30});
    return effects.apply(request, std::chrono::duration_cast<std::chrono::milliseconds>(left));
  });
}

}  // namespace addrflow::aaa
