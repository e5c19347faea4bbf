// The public face of the workflow that catches NetBox up, beside names.hpp.
#pragma once

#include <addrflow/v1/netbox.pb.h>

namespace addrflow::workflows {

// v1::NetboxCatchUpRequest → v1::NetboxCatchUpResult; run by a schedule, every minute.
inline constexpr const char* kCatchUpNetbox = "CatchUpNetbox";

}  // namespace addrflow::workflows
