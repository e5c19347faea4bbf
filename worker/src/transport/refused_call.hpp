#pragma once

#include "transport.hpp"

namespace tempora {

// A call that was refused before it left.
struct RefusedCall final : PendingCall {
  void cancel() override {}
};

}  // namespace tempora
