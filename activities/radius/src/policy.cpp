#include "addrflow/radius/policy.hpp"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>

namespace addrflow::radius {
namespace {

using std::chrono::milliseconds;

// 0: the workflow's own back-off will do.
constexpr milliseconds kOwnBackOff{0};
constexpr milliseconds kProxyRetry{30'000};
constexpr milliseconds kSlowRetry{300'000};

// RFC 5176 3.5 and the IANA registry.
std::string_view name_of(std::uint32_t cause) {
  switch (cause) {
    case 201: return "residual session context removed";
    case 401: return "unsupported attribute";
    case 402: return "missing attribute";
    case 403: return "NAS identification mismatch";
    case 404: return "invalid request";
    case 405: return "unsupported service";
    case 406: return "unsupported extension";
    case 407: return "invalid attribute value";
    case 501: return "administratively prohibited";
    case 502: return "request not routable (proxy)";
    case 503: return "session context not found";
    case 504: return "session context not removable";
    case 505: return "other proxy processing error";
    case 506: return "resources unavailable";
    case 507: return "request initiated";
    case 508: return "multiple session selection unsupported";
    default: return "another cause";
  }
}

v1::EffectReply reply_with(std::string_view status, std::string code, std::string detail) {
  v1::EffectReply reply;
  reply.set_status(std::string{status});
  reply.set_code(std::move(code));
  reply.set_detail(std::move(detail));
  return reply;
}

Decision retry(v1::EffectReply reply, milliseconds after = kOwnBackOff) {
  reply.set_retry(true);
  reply.set_retry_after_ms(after.count());
  return {std::move(reply), Next::kDone};
}

Decision few(v1::EffectReply reply, int attempt) {
  reply.set_retry(attempt < kFewAttempts);
  return {std::move(reply), Next::kDone};
}

Decision final_refusal(v1::EffectReply reply, std::string_view advice) {
  reply.set_detail(fmt::format("{}: {}", reply.detail(), advice));
  return {std::move(reply), Next::kDone};
}

// The NAS does not know the session that we named.
Decision session_not_found(Operation operation, v1::EffectReply reply,
                           const AnswerContext& context) {
  reply.set_code("session-not-found");
  if (operation == Operation::kDisconnect) {
    reply.set_status("not_applicable");  // nothing to disconnect: success
    return {std::move(reply), Next::kDone};
  }
  if (!context.looked_again) return {std::move(reply), Next::kLookAgain};
  if (context.another_session_open || context.same_session_open) {
    // Accounting and NAS do not agree. A Stop that is under way, or the row growing stale, ends it.
    reply.set_detail(reply.detail() + ": accounting still shows an open session");
    return retry(std::move(reply));
  }
  reply.set_status("not_applicable");  // offline: the next login takes the AAA rows
  return {std::move(reply), Next::kDone};
}

// CoA is not for this device or session: Disconnect where that is allowed.
Decision cannot_change(Operation operation, v1::EffectReply reply, const AnswerContext& context,
                       std::string_view advice) {
  Decision decision = final_refusal(std::move(reply), advice);
  if (operation != Operation::kDisconnect && context.disconnect_allowed) {
    decision.next = Next::kDisconnect;
  }
  return decision;
}

// What the dialect says of this refusal goes before what RFC 5176 says.
Decision by_dialect(Operation operation, v1::EffectReply reply, const AnswerContext& context) {
  switch (*context.meaning) {
    case NakMeaning::kSessionNotFound:
      return session_not_found(operation, std::move(reply), context);
    case NakMeaning::kLookAgain:
      if (!context.looked_again) return {std::move(reply), Next::kLookAgain};
      return few(std::move(reply), context.attempt);
    case NakMeaning::kDisconnect:
      return cannot_change(operation, std::move(reply), context, "use Disconnect");
    case NakMeaning::kRetry: return retry(std::move(reply));
    case NakMeaning::kFinal: break;
  }
  return cannot_change(operation, std::move(reply), context, "this kind of NAS will not do it");
}

Decision nak(Operation operation, const Outcome& answer, const AnswerContext& context) {
  if (!answer.error_cause) {
    auto reply = reply_with("refused", "nak", "NAK without Error-Cause");
    if (context.meaning) return by_dialect(operation, std::move(reply), context);
    return few(std::move(reply), context.attempt);
  }
  const std::uint32_t cause = *answer.error_cause;
  const bool disconnect = operation == Operation::kDisconnect;
  auto reply = reply_with("refused", fmt::format("nak-{}", cause),
                          fmt::format("NAK {} ({})", cause, name_of(cause)));
  reply.set_error_cause(static_cast<std::int32_t>(cause));
  if (!answer.detail.empty()) reply.set_detail(reply.detail() + ", says " + answer.detail);

  if (context.meaning) return by_dialect(operation, std::move(reply), context);
  switch (cause) {
    case 201:
      if (disconnect) {
        reply.set_status("confirmed");
        return {std::move(reply), Next::kDone};
      }
      return few(std::move(reply), context.attempt);
    case 401:
      return cannot_change(operation, std::move(reply), context,
                           disconnect ? "send fewer attributes (dialect of the NAS)"
                                      : "the dialect of the NAS is wrong");
    case 402:
    case 404:
    case 407:
      // Wrong or too few identifiers look the same as a wrong value: see whether the session is
      // still the one.
      if (!context.looked_again) return {std::move(reply), Next::kLookAgain};
      return final_refusal(std::move(reply),
                           cause == 402 ? "the identification is too thin for this NAS"
                                        : "profile, filter or pool unknown on the device, or an "
                                          "identifier that does not match");
    case 403:
      return final_refusal(std::move(reply), "wrong device, or its NAS-Identifier is another");
    case 405: return cannot_change(operation, std::move(reply), context, "use Disconnect");
    case 406:
      if (disconnect) {
        reply.set_detail(reply.detail() + ": from a proxy it may mean an unreachable NAS");
        return retry(std::move(reply), kSlowRetry);
      }
      return cannot_change(operation, std::move(reply), context, "use Disconnect");
    case 501: return final_refusal(std::move(reply), "an operator has to look at the NAS");
    case 502:
    case 505: return retry(std::move(reply), kProxyRetry);
    case 503: return session_not_found(operation, std::move(reply), context);
    case 504: return few(std::move(reply), context.attempt);
    case 506: return retry(std::move(reply));
    case 507:
      if (disconnect) return few(std::move(reply), context.attempt);
      // The NAS asks the AAA server again, which has the new rows.
      reply.set_status("confirmed");
      return {std::move(reply), Next::kDone};
    case 508:
      if (!context.looked_again) return {std::move(reply), Next::kLookAgain};
      return few(std::move(reply), context.attempt);
    default: break;
  }
  if (cause >= 400 && cause < 500) {
    return final_refusal(std::move(reply), "an operator has to look at it");
  }
  return few(std::move(reply), context.attempt);
}

}  // namespace

v1::EffectReply no_session() {
  return reply_with("not_applicable", "no-session", "accounting shows no open session");
}

Decision decide(Operation operation, const Outcome& answer, const AnswerContext& context) {
  switch (answer.kind) {
    case Outcome::Kind::kAck: {
      auto reply = reply_with("confirmed", "ack", "acknowledged");
      if (answer.error_cause) reply.set_error_cause(static_cast<std::int32_t>(*answer.error_cause));
      return {std::move(reply), Next::kDone};
    }
    case Outcome::Kind::kNak: return nak(operation, answer, context);
    case Outcome::Kind::kTimeout: return retry(reply_with("unknown", "timeout", answer.detail));
    case Outcome::Kind::kLocalError: break;
  }
  return retry(reply_with("refused", "not-sent", answer.detail));
}

}  // namespace addrflow::radius
