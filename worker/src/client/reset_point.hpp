// What a reset and a batch of resets have in common.
#pragma once

#include <temporal/api/enums/v1/reset.pb.h>

namespace tempora::detail {

template <class Proto>
void write_excluded(bool keep_signals, bool keep_updates, Proto* proto) {
  namespace enums = temporal::api::enums::v1;
  if (!keep_signals)
    proto->add_reset_reapply_exclude_types(enums::RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL);
  if (!keep_updates)
    proto->add_reset_reapply_exclude_types(enums::RESET_REAPPLY_EXCLUDE_TYPE_UPDATE);
}

}  // namespace tempora::detail
