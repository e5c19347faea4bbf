// Measures what leaves, as it is encoded, and refuses what the server would punish: it ends a
// workflow for one large payload, and names neither the field nor its size.
#pragma once

#include <memory>

#include "transport.hpp"

namespace tempora {

// `payloads` 0: the default, and later what the server says.
std::shared_ptr<Transport> with_size_checks(std::shared_ptr<Transport> inner, std::size_t payloads);

// What is too large in `request`, with its size; empty if nothing is.
std::string find_oversize(const google::protobuf::Message& request, const SizeLimits& limits);

}  // namespace tempora
