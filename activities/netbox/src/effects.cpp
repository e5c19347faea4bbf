#include "addrflow/netbox/effects.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "attempt.hpp"
#include "batch.hpp"

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBudget{45'000};  // of one catch-up, where nobody says otherwise
constexpr milliseconds kGrace{15'000};

void say(const ports::Leave& leave, const v1::EffectReply& reply) {
  if (reply.status() == "confirmed" || reply.status() == "not_applicable") return;
  spdlog::warn("netbox {} of effect {} attempt {}: {} {} {}", leave.action, leave.effect_id,
               leave.attempt, reply.status(), reply.code(), reply.detail());
}

// No other request would fare better now.
bool netbox_is_at_fault(const v1::EffectReply& reply) {
  constexpr ErrorKind kFaults[] = {
      ErrorKind::kDenied,  ErrorKind::kThrottled, ErrorKind::kServer,    ErrorKind::kUnreachable,
      ErrorKind::kResting, ErrorKind::kNoAnswer,  ErrorKind::kNotNetbox, ErrorKind::kConfiguration};
  return std::ranges::any_of(kFaults,
                             [&](ErrorKind kind) { return code_of(kind) == reply.code(); });
}

}  // namespace

NetboxEffects::NetboxEffects(std::shared_ptr<Client> client, ports::EffectJournal& journal,
                             ports::NetboxLedger& ledger, ports::ServiceWaker& waker,
                             EffectsSettings settings)
    : client_(std::move(client)),
      journal_(journal),
      ledger_(ledger),
      waker_(waker),
      settings_(std::move(settings)) {
  settings_.batch = std::clamp<std::size_t>(settings_.batch, 1, Client::kMostInList);
}

v1::EffectReply NetboxEffects::apply(const v1::EffectRequest& request) {
  // A request for a write and one for a look-up before or after it.
  const milliseconds limit = client_ ? 2 * client_->timeout() : milliseconds{1'000};
  const auto deadline = Clock::now() + limit;
  const ports::Leave leave = journal_.begin(request, limit);
  if (leave.kind == ports::Leave::Kind::kRecorded) return leave.recorded;
  if (leave.kind == ports::Leave::Kind::kSuperseded) {
    return reply_with("superseded", "superseded", "a newer transition owns the service");
  }
  v1::EffectReply reply = carry_out(leave, deadline);
  say(leave, reply);
  if (!journal_.finish(request, leave.attempt, reply)) waker_.wake(request.service());
  return reply;
}

v1::EffectReply NetboxEffects::carry_out(const ports::Leave& leave, Clock::time_point deadline) {
  if (!client_) return reply_with("not_applicable", "netbox-off", "NetBox is not configured");
  return Attempt{*client_, ledger_, leave, settings_.worker, deadline}.run();
}

v1::NetboxCatchUpResult NetboxEffects::catch_up(const v1::NetboxCatchUpRequest& request,
                                                const std::function<bool()>& cancelled) {
  v1::NetboxCatchUpResult result;
  if (!client_) {
    result.set_breaker("off");
    return result;
  }
  const milliseconds budget = request.budget_ms() > 0 ? milliseconds{request.budget_ms()} : kBudget;
  const milliseconds grace = request.grace_ms() > 0 ? milliseconds{request.grace_ms()} : kGrace;
  const auto end = Clock::now() + budget;
  while (Clock::now() < end && !cancelled()) {
    const Breaker::State state = client_->breaker().state;
    if (state == Breaker::State::kOpen) break;
    // One is enough to learn whether NetBox is back.
    const std::size_t most = state == Breaker::State::kClosed ? settings_.batch : 1;
    const milliseconds lease = 2 * client_->timeout();
    const auto deadline = Clock::now() + lease;
    const auto claimed = ledger_.claim_netbox(static_cast<int>(most), lease, grace);
    if (claimed.empty()) break;
    const auto replies = Batch{*client_, ledger_, claimed, settings_.worker, deadline}.run();
    for (std::size_t i = 0; i < claimed.size(); ++i) record(claimed[i], replies[i], result);
    result.set_claimed(result.claimed() + static_cast<std::int64_t>(claimed.size()));
    // The next run tries again. What waits for another object (a release, mostly) must not keep
    // that one back: it is not due again before its grace is over, so that the loop comes to the
    // others.
    if (std::ranges::all_of(replies, netbox_is_at_fault)) break;
  }
  const Breaker::Look look = client_->breaker();
  result.set_breaker(std::string{to_string(look.state)});
  result.set_backlog(ledger_.netbox_backlog());
  ledger_.note_netbox_health({.worker = settings_.worker,
                              .breaker = result.breaker(),
                              .failures = look.failures,
                              .detail = look.why});
  return result;
}

void NetboxEffects::record(const ports::ClaimedEffect& claimed, const v1::EffectReply& reply,
                           v1::NetboxCatchUpResult& result) {
  say(claimed.leave, reply);
  // A newer wish for the same object has a row of its own that is sent next: nobody is woken.
  static_cast<void>(journal_.finish(claimed.request, claimed.leave.attempt, reply));
  if (reply.status() == "confirmed" || reply.status() == "not_applicable") {
    result.set_confirmed(result.confirmed() + 1);
  } else if (reply.retry()) {
    result.set_unconfirmed(result.unconfirmed() + 1);
  } else {
    result.set_refused(result.refused() + 1);
  }
}

}  // namespace addrflow::netbox
