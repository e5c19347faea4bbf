// An effect that is tried until it is confirmed. Shared by the operation that waits for it and the
// coroutine that tries.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <cstdint>
#include <memory>
#include <optional>
#include <tempora/time.hpp>
#include <vector>

namespace addrflow::workflows {

struct Pursuit {
  v1::EffectRef effect;
  std::int64_t number = 0;  // of the transition that wants it
  std::shared_ptr<Pursuit>
      after;  // nothing leaves before this one is confirmed: AAA rows come before the packet
  v1::EffectReply last;  // the newest outcome; status empty: none yet
  int attempts = 0;
  std::optional<tempora::TimePoint> first_attempt;
  std::optional<tempora::TimePoint> last_answer;
  bool in_flight = false;
  bool told = false;     // the newest attempt's worker lived to say what came of it
  bool settled = false;  // no further attempt would help
  bool stopped = false;  // not wanted any more
  bool ended = false;    // its coroutine is gone

  bool confirmed() const {
    return last.status() == "confirmed" || last.status() == "not_applicable";
  }
};
using Pursuits = std::vector<std::shared_ptr<Pursuit>>;

}  // namespace addrflow::workflows
