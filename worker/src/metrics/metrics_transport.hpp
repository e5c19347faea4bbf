// Counts the calls below it and how long they take.
#pragma once

#include <memory>
#include <tempora/metrics.hpp>

#include "../transport/transport.hpp"

namespace tempora {

// `inner` itself if there is nobody to tell.
std::shared_ptr<Transport> with_metrics(std::shared_ptr<Transport> inner,
                                        std::shared_ptr<Metrics> metrics);

}  // namespace tempora
