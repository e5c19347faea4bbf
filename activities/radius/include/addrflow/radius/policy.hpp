// What an answer of a NAS means for the effect: RFC 5176 3.5 calls every 4xx and 5xx fatal; which
// of them are worth another attempt, and which are no failure at all, is policy. A pure function.
#pragma once

#include <addrflow/v1/activities.pb.h>
#include <addrflow/radius/client.hpp>
#include <addrflow/radius/dialect.hpp>

#include <optional>

namespace addrflow::radius {

enum class Operation {
  kRestore,     // CoA: full access
  kRestrict,    // CoA: suspended
  kDisconnect,  // Disconnect-Request
};

// What the caller knows beside the answer.
struct AnswerContext {
  int attempt = 1;                      // of the effect, counted by the journal
  bool looked_again = false;            // accounting was asked a second time, and says:
  bool another_session_open = false;    //   a session that this request was not sent to
  bool same_session_open = false;       //   the very session that it was sent to
  bool disconnect_allowed = false;      // a session that cannot be changed may be cut off instead
  std::optional<NakMeaning> meaning{};  // of this refusal by this kind of NAS (dialect)
};

enum class Next {
  kDone,
  kLookAgain,   // ask accounting again, then once more with what it says
  kDisconnect,  // cut the session off: its next login takes the AAA rows, which were written before
};

struct Decision {
  v1::EffectReply reply;
  Next next = Next::kDone;
};

// How many attempts an answer is worth that may be a matter of time but need not be.
inline constexpr int kFewAttempts = 5;

Decision decide(Operation operation, const Outcome& answer, const AnswerContext& context);

// The reply for "accounting knows no open session": success, there is nobody to tell.
v1::EffectReply no_session();

}  // namespace addrflow::radius
