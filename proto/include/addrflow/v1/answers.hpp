// What an answer says of a service's bindings, the same wherever it is put together.
#pragma once

#include <addrflow/v1/lifecycle.pb.h>
#include <span>
#include <string>

namespace addrflow::v1 {

// Fills in the binding fields of `result` (A8): of the IPv4 when the operation meant it, else of
// the IPv6; `prefix` whenever it meant IPv6 (R20). No families: all that the service has.
void show_bindings(LifecycleResult& result, const ServiceView& view,
                   std::span<const std::string> families);

}  // namespace addrflow::v1
