// What starts of workflows have in common, whoever starts them.
#pragma once

namespace tempora {

// What happens to a start while a run with the same id is open …
enum class IdConflictPolicy { kFail, kUseExisting, kTerminateExisting };
// … and when the last one has ended.
enum class IdReusePolicy { kAllowDuplicate, kAllowDuplicateFailedOnly, kRejectDuplicate };

}  // namespace tempora
