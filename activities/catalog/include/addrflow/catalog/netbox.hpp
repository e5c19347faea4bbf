// The catch-up of NetBox by name (catalog.hpp has the effects one by one).
#pragma once

#include <addrflow/v1/netbox.pb.h>
#include <addrflow/catalog/catalog.hpp>

namespace addrflow::catalog {

inline const ActivityType<v1::NetboxCatchUpRequest, v1::NetboxCatchUpResult> kNetboxCatchUp{
    "netbox_catch_up"};

}  // namespace addrflow::catalog
