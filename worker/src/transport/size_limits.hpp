// What a namespace says of its limits.
#pragma once

#include <temporal/api/namespace/v1/message.pb.h>

#include "transport.hpp"

namespace tempora::detail {

// An older server says nothing: then the defaults hold.
inline SizeLimits limits_of(const temporal::api::namespace_::v1::NamespaceInfo& info) {
  SizeLimits limits;
  if (const auto said = info.limits().blob_size_limit_error(); said > 0)
    limits.payloads = static_cast<std::size_t>(said);
  if (const auto said = info.limits().memo_size_limit_error(); said > 0)
    limits.memo = static_cast<std::size_t>(said);
  return limits;
}

}  // namespace tempora::detail
