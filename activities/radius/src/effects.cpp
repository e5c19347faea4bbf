#include "addrflow/radius/effects.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

namespace addrflow::radius {
namespace {

using SteadyClock = std::chrono::steady_clock;

v1::EffectReply reply_with(std::string_view status, std::string_view code, std::string detail,
                           std::chrono::milliseconds retry_after = std::chrono::milliseconds{-1}) {
  v1::EffectReply reply;
  reply.set_status(std::string{status});
  reply.set_code(std::string{code});
  reply.set_detail(std::move(detail));
  reply.set_retry(retry_after.count() >= 0);
  reply.set_retry_after_ms(std::max<std::int64_t>(0, retry_after.count()));
  return reply;
}

// Somebody has to change a configuration first.
constexpr std::chrono::milliseconds kOperatorRetry{60'000};

std::string text_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

// What one reply for several sessions says: the one that leaves most to do.
int weight(const v1::EffectReply& reply) {
  if (reply.status() == "unknown") return 3;
  if (reply.status() == "refused") return 2;
  return reply.status() == "confirmed" ? 1 : 0;
}

v1::EffectReply merge(const std::vector<v1::EffectReply>& replies) {
  v1::EffectReply merged = *std::ranges::max_element(replies, {}, weight);
  if (replies.size() < 2) return merged;
  std::string detail;
  for (const auto& reply : replies) {
    if (!detail.empty()) detail += "; ";
    detail += reply.detail();
    if (reply.retry()) merged.set_retry(true);
  }
  merged.set_detail(std::move(detail));
  return merged;
}

}  // namespace

std::expected<Request, std::string> request_to(const ports::NasRecord& nas, SecretStore& secrets) {
  Request request;
  request.host = nas.coa_host.empty() ? nas.nas_ip : nas.coa_host;
  request.port = nas.coa_port;
  request.rate = nas.rate;
  request.window = nas.window;
  request.jitter = nas.jitter;
  if (nas.transport == "radsec") {
    request.transport = Transport::kRadsec;
    request.tls = {.ca = nas.tls_ca,
                   .certificate = nas.tls_certificate,
                   .key = nas.tls_key,
                   .server_name = nas.tls_server_name};
    request.secret = "radsec";  // RFC 6614 2.3: TLS protects, the secret is the same for all
    return request;
  }
  auto secret = secrets.read(nas.secret_ref);
  if (!secret) return std::unexpected(secret.error());
  request.secret = std::move(*secret);
  if (!nas.next_secret_ref.empty()) {
    auto next = secrets.read(nas.next_secret_ref);
    if (!next) return std::unexpected(next.error());
    request.next_secret = std::move(*next);
  }
  return request;
}

std::string test_pause_of_environment() {
  const char* value = std::getenv("ADDRFLOW_TEST_PAUSE");
  return value == nullptr ? std::string{} : std::string{value};
}

// One attempt of one effect.
struct RadiusEffects::Work {
  const v1::EffectRequest& request;
  const Attempt& attempt;
  ports::Leave leave;
  Operation operation = Operation::kDisconnect;
  std::string username;
  std::vector<std::string> usernames;
  std::string framed_ip;
  std::string delegated_prefix;
  std::string hinted_username;  // of a session that accounting does not know of
  std::string nas_hint;
  std::string spared_nas;  // a session there is where it belongs
  std::string plan;
  std::vector<std::string> former_plans;  // of the session, whose answer nobody has seen since
  bool renumber = false;  // the address itself changes, what the dialect's address_change is for
  SteadyClock::time_point deadline;
  bool hinted = false;      // no session is known; the NAS is only what a caller said
  bool superseded = false;  // the fence moved while we worked
};

// What accounting shows as open, newest first: what it has lately heard of, and the rest.
struct RadiusEffects::OpenRows {
  std::vector<ports::Session> live;
  std::vector<ports::Session> stale;
};

// A request ready to leave, or the reply that says why not.
struct RadiusEffects::Prepared {
  ports::Session session;
  ports::NasRecord nas;
  const Dialect* dialect = nullptr;
  Request request;
  bool disconnect = false;
  std::optional<v1::EffectReply> refused;
};

RadiusEffects::RadiusEffects(Client& client, SecretStore& secrets, const Dialects& dialects,
                             ports::EffectJournal& journal, ports::ServiceWaker& waker,
                             ports::SessionDirectory& sessions, ports::NasDirectory& network,
                             EffectsSettings settings)
    : client_(client),
      secrets_(secrets),
      dialects_(dialects),
      journal_(journal),
      waker_(waker),
      sessions_(sessions),
      network_(network),
      settings_(std::move(settings)) {}

v1::EffectReply RadiusEffects::send(const v1::EffectRequest& request, const Attempt& attempt) {
  const auto now = SteadyClock::now();
  const auto deadline = std::min(attempt.deadline, now + settings_.hard_deadline);
  Work work{.request = request, .attempt = attempt, .deadline = deadline};
  work.leave = journal_.begin(
      request, std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now));
  if (work.leave.kind == ports::Leave::Kind::kRecorded) return work.leave.recorded;
  if (work.leave.kind == ports::Leave::Kind::kSuperseded) {
    return reply_with("superseded", "fence", "a newer transition owns the service");
  }

  read_wish(work);
  v1::EffectReply reply;
  try {
    reply = carry_out(work);
  } catch (const std::exception& error) {
    // Whatever it was, it was before or beside the packet: exchange() does not throw after sending.
    reply = reply_with("refused", "not-sent", error.what(), std::chrono::milliseconds{0});
  }
  if (!journal_.finish(request, work.leave.attempt, reply)) waker_.wake(request.service());
  return reply;
}

void RadiusEffects::read_wish(Work& work) {
  const nlohmann::json& wish = work.leave.wish;
  const bool coa = work.leave.action == "coa";
  work.operation = !coa                                         ? Operation::kDisconnect
                   : text_of(wish, "condition") == "restricted" ? Operation::kRestrict
                                                                : Operation::kRestore;
  work.username = text_of(wish, "username");
  work.framed_ip = text_of(wish, "framed_ip");
  work.delegated_prefix = text_of(wish, "delegated_prefix");
  // A line that was moved or renamed has its session where, and as whom, it was before.
  const std::string former_nas = text_of(wish, "session_nas");
  work.nas_hint = former_nas.empty() ? text_of(wish, "nas_ip") : former_nas;
  const std::string former_name = text_of(wish, "session_username");
  work.hinted_username = former_name.empty() ? work.username : former_name;
  work.plan = text_of(wish, "plan");
  work.former_plans = wish.value("former_plans", std::vector<std::string>{});
  work.renumber = wish.value("renumber", false);
  work.spared_nas = text_of(wish, "spared_nas");
  if (!work.username.empty()) work.usernames.push_back(work.username);
  if (const auto former = wish.find("former_usernames"); former != wish.end()) {
    for (const auto& name : *former) work.usernames.push_back(name.get<std::string>());
  }
}

v1::EffectReply RadiusEffects::carry_out(Work& work) {
  std::vector<ports::Session> sessions;
  try {
    sessions = sessions_of(work, settings_.second_look);
  } catch (const std::exception& error) {
    return reply_with("refused", "sessions_unreachable", error.what(),
                      std::chrono::milliseconds{0});
  }
  if (sessions.empty()) {
    sessions = hinted_session(work);
    work.hinted = !sessions.empty();
  }
  if (sessions.empty()) return no_session();
  return carry_out_on(work, std::move(sessions));
}

std::vector<RadiusEffects::PlannedPacket> RadiusEffects::look(const v1::ServiceRef& service,
                                                              const std::string& action,
                                                              const nlohmann::json& wish) {
  v1::EffectRequest request;
  *request.mutable_service() = service;
  const Attempt attempt;
  Work work{.request = request, .attempt = attempt, .deadline = SteadyClock::now()};
  work.leave.action = action;
  work.leave.wish = wish;
  read_wish(work);
  auto sessions = sessions_of(work, std::chrono::milliseconds{0});
  if (sessions.empty()) {
    sessions = hinted_session(work);
    work.hinted = !sessions.empty();
  }
  std::vector<PlannedPacket> packets;
  for (const auto& session : sessions) {
    const Prepared prepared = prepare(work, session, work.operation == Operation::kDisconnect);
    PlannedPacket& packet = packets.emplace_back();
    const ports::NasRecord& nas = prepared.nas;
    packet.nas = nas.name.empty() ? session.nas_ip
                                  : fmt::format("{} ({}:{}, {})", nas.name, nas.coa_host,
                                                nas.coa_port, nas.dialect);
    packet.code = prepared.disconnect ? "Disconnect-Request" : "CoA-Request";
    if (prepared.refused) {
      packet.refused = prepared.refused->detail();
      continue;
    }
    for (const Attribute& one : prepared.request.attributes)
      packet.attributes.push_back(describe(*prepared.dialect, one));
  }
  return packets;
}

// Without those on the device that a moved line belongs to, under whichever of its addresses.
std::vector<ports::Session> RadiusEffects::spare(const Work& work,
                                                 std::vector<ports::Session> sessions) {
  if (work.spared_nas.empty()) return sessions;
  const std::string& tenant = work.request.service().tenant_id();
  const auto spared = network_.find(tenant, work.spared_nas);
  std::erase_if(sessions, [&](const ports::Session& session) {
    if (session.nas_ip == work.spared_nas) return true;
    const auto nas = network_.find(tenant, session.nas_ip);
    return spared && nas && spared->id != 0 && spared->id == nas->id;
  });
  return sessions;
}

// Heard of within three intervals: of the usual length, longer where the NAS or accounting says so.
bool RadiusEffects::is_live(const Work& work, const ports::Session& session) const {
  constexpr int kIntervals = 3;
  const auto usual = std::max(ports::NasRecord{}.interim_interval, session.interim);
  if (session.silent < kIntervals * usual) return true;
  const auto nas = network_.find(work.request.service().tenant_id(), session.nas_ip);
  return nas && session.silent < kIntervals * nas->interim_interval;
}

RadiusEffects::OpenRows RadiusEffects::open_rows(const Work& work) {
  OpenRows rows;
  for (ports::Session& session : spare(work, sessions_.open_rows(work.usernames))) {
    auto& kind = is_live(work, session) ? rows.live : rows.stale;
    kind.push_back(std::move(session));
  }
  return rows;
}

// The sessions to address, newest first. Where accounting has lately heard of none, those count
// that it has not heard of for long: a NAS without Interim-Updates says nothing between Start and
// Stop. If it was the Stop that got lost, the NAS answers that it knows no such session.
std::vector<ports::Session> RadiusEffects::sessions_of(const Work& work,
                                                       std::chrono::milliseconds second_look) {
  if (work.usernames.empty()) return {};
  OpenRows rows = open_rows(work);
  if (rows.live.empty() && work.operation == Operation::kRestrict && second_look.count() > 0) {
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock{mutex};
    stopped.wait_for(lock, work.attempt.stop, second_look, [] { return false; });
    rows = open_rows(work);
  }
  return rows.live.empty() ? std::move(rows.stale) : std::move(rows.live);
}

// For a Disconnect that accounting has no session for: the NAS that a caller named may know one.
// Its answer proves little, so it never counts for more than "no session".
std::vector<ports::Session> RadiusEffects::hinted_session(const Work& work) const {
  const bool hints = !work.nas_hint.empty() && work.nas_hint != work.spared_nas;
  if (work.operation != Operation::kDisconnect || !hints || work.username.empty()) {
    return {};
  }
  if (!network_.find(work.request.service().tenant_id(), work.nas_hint)) return {};
  ports::Session session;
  session.username = work.hinted_username;
  session.nas_ip = work.nas_hint;
  session.framed_ip = work.framed_ip;
  return {session};
}

v1::EffectReply RadiusEffects::carry_out_on(Work& work, std::vector<ports::Session> sessions) {
  const bool cut = work.operation == Operation::kDisconnect;
  std::vector<v1::EffectReply> replies;
  std::set<std::string> addressed;
  bool looked_again = false;
  bool by_disconnect = false;

  // At most: first round, second look, and either of them by Disconnect.
  for (int round = 0; round < 4 && !sessions.empty(); ++round) {
    std::vector<Prepared> prepared;
    for (const auto& session : sessions) {
      prepared.push_back(prepare(work, session, cut || by_disconnect));
      addressed.insert(session.acct_unique_id + '|' + session.acct_session_id);
    }
    std::vector<Outcome> outcomes = exchange(work, prepared);
    ask_others(work, prepared, outcomes);

    std::vector<ports::Session> to_disconnect;
    std::vector<std::size_t> to_look;
    const auto decide_on = [&](std::size_t i, AnswerContext context) {
      const Prepared& one = prepared[i];
      context.attempt = work.leave.attempt;
      context.disconnect_allowed =
          one.dialect->disconnect_allowed && !one.disconnect && !work.hinted;
      const auto meaning = one.dialect->naks.find(outcomes[i].error_cause.value_or(0));
      if (outcomes[i].kind == Outcome::Kind::kNak && meaning != one.dialect->naks.end()) {
        context.meaning = meaning->second;
      }
      return decide(one.disconnect ? Operation::kDisconnect : work.operation, outcomes[i], context);
    };
    const auto take = [&](std::size_t i, Decision decision) {
      if (decision.next == Next::kDisconnect) return to_disconnect.push_back(sessions[i]);
      v1::EffectReply& reply = decision.reply;
      const bool unanswered = outcomes[i].kind == Outcome::Kind::kTimeout;
      if (work.hinted && !unanswered && reply.status() != "confirmed" && !reply.retry()) {
        reply = no_session();
      }
      // Nobody knew of a session there: no evidence for the release gate.
      if (work.hinted && reply.code() == "ack") reply.set_code("ack-hinted");
      if (work.superseded) {
        // What left may have been taken: unknown. What did not leave is superseded.
        const bool left = outcomes[i].sendings > 0;
        if (reply.status() == "unknown" || !left) {
          reply = reply_with(left ? "unknown" : "superseded", "fence",
                             "a newer transition owns the service");
        }
      }
      reply.set_detail(fmt::format("{} on {}: {}",
                                   sessions[i].acct_session_id.empty()
                                       ? "no session"
                                       : "session " + sessions[i].acct_session_id,
                                   sessions[i].nas_ip, reply.detail()));
      replies.push_back(std::move(reply));
    };

    for (std::size_t i = 0; i < prepared.size(); ++i) {
      if (prepared[i].refused) {
        replies.push_back(*prepared[i].refused);
        continue;
      }
      Decision decision = decide_on(i, {.looked_again = looked_again || work.hinted});
      if (decision.next == Next::kLookAgain) {
        to_look.push_back(i);
      } else {
        take(i, std::move(decision));
      }
    }

    std::vector<ports::Session> newer;
    if (!to_look.empty()) {
      looked_again = true;
      std::vector<ports::Session> open;
      try {
        open = open_rows(work).live;
      } catch (const std::exception& error) {
        // Every one of them was answered by a NAK, so nothing is in doubt.
        replies.push_back(reply_with("refused", "sessions_unreachable", error.what(),
                                     std::chrono::milliseconds{0}));
        to_look.clear();
      }
      for (const auto& session : open) {
        if (!addressed.contains(session.acct_unique_id + '|' + session.acct_session_id)) {
          newer.push_back(session);
        }
      }
      for (const std::size_t i : to_look) {
        const bool same = std::ranges::any_of(open, [&](const ports::Session& session) {
          return session.acct_session_id == sessions[i].acct_session_id &&
                 session.nas_ip == sessions[i].nas_ip;
        });
        Decision decision = decide_on(i, {.looked_again = true, .same_session_open = same});
        // The session that it was is over; what counts is the newer one's answer.
        if (!newer.empty() && !same) continue;
        take(i, std::move(decision));
      }
    }
    by_disconnect = !to_disconnect.empty();
    sessions = std::move(to_disconnect);
    if (newer.empty()) continue;
    if (sessions.empty()) {
      sessions = std::move(newer);
    } else {
      // Both at once is rare enough to leave the newer one to the next attempt.
      replies.push_back(reply_with("refused", "not-sent", "a newer session appeared",
                                   std::chrono::milliseconds{0}));
    }
  }
  if (replies.empty()) return no_session();
  return merge(replies);
}

// Where a device is silent, the others of its redundancy group may have its sessions by now. Only
// what one of them acknowledges counts: that it knows no such session says nothing of the silent
// one.
void RadiusEffects::ask_others(Work& work, const std::vector<Prepared>& prepared,
                               std::vector<Outcome>& outcomes) {
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const Prepared& first = prepared[i];
    if (outcomes[i].kind != Outcome::Kind::kTimeout || first.nas.redundancy_group.empty()) continue;
    for (const auto& other : network_.others_in_group(first.nas)) {
      if (work.superseded || work.attempt.stop.stop_requested()) return;
      std::vector<Prepared> instead;
      instead.push_back(prepare_for(work, first.session, first.disconnect, other));
      const Outcome outcome = exchange(work, instead).at(0);
      if (instead[0].refused || outcome.kind != Outcome::Kind::kAck) continue;
      const int sendings = outcomes[i].sendings + outcome.sendings;
      outcomes[i] = outcome;
      outcomes[i].sendings = sendings;
      break;
    }
  }
}

RadiusEffects::Prepared RadiusEffects::prepare(const Work& work, const ports::Session& session,
                                               bool disconnect) {
  const auto nas = network_.find(work.request.service().tenant_id(), session.nas_ip);
  if (nas) return prepare_for(work, session, disconnect, *nas);
  Prepared prepared{.session = session};
  prepared.refused = reply_with("refused", "unknown_nas",
                                fmt::format("no NAS {} is known", session.nas_ip), kOperatorRetry);
  return prepared;
}

RadiusEffects::Prepared RadiusEffects::prepare_for(const Work& work, const ports::Session& session,
                                                   bool disconnect, const ports::NasRecord& nas) {
  Prepared prepared{.session = session, .nas = nas};
  const auto refuse = [&](std::string_view code, std::string detail) {
    prepared.refused = reply_with("refused", code, std::move(detail), kOperatorRetry);
    return prepared;
  };
  prepared.dialect = dialects_.find(nas.dialect);
  if (prepared.dialect == nullptr) {
    return refuse("unknown_dialect", fmt::format("NAS {}: no dialect {}", nas.name, nas.dialect));
  }
  const Dialect& dialect = *prepared.dialect;
  const bool renumber = work.renumber && !disconnect;
  prepared.disconnect =
      disconnect || dialect.coa_disconnects || (renumber && dialect.address_change == "disconnect");

  Variables variables = settings_.variables;
  const std::string& plan = work.plan.empty() ? settings_.default_plan : work.plan;
  if (const auto of_plan = settings_.plans.find(plan); of_plan != settings_.plans.end()) {
    for (const auto& [name, value] : of_plan->second) variables[name] = value;
  }
  variables["plan"] = plan;
  variables["restricted"] = settings_.restricted;
  for (auto& [name, value] : variables_of(session, nas)) variables[name] = std::move(value);
  if (settings_.session_timeout.count() > 0)
    variables["session_timeout"] = std::to_string(settings_.session_timeout.count());
  variables["wanted_ip"] = work.framed_ip;
  variables["wanted_prefix"] = work.delegated_prefix;

  const auto& identify = prepared.disconnect ? dialect.identify_disconnect : dialect.identify_coa;
  auto attributes = fill(identify, variables, true);
  if (!attributes) return refuse("bad_dialect", attributes.error());
  if (!work.hinted) {
    for (const std::string& name : dialect.required) {
      const auto item = std::ranges::find(identify, name, &Dialect::Item::name);
      const bool there = item != identify.end() && std::ranges::any_of(*attributes, [&](auto& a) {
                           return a.vendor == item->type.vendor && a.type == item->type.type;
                         });
      if (!there) return refuse("bad_dialect", fmt::format("{} of the session is missing", name));
    }
  }
  if (!prepared.disconnect) {
    const bool again = renumber && dialect.address_change == "reauthenticate";
    const auto& items = again                                    ? dialect.reauthenticate
                        : work.operation == Operation::kRestrict ? dialect.restricted
                                                                 : dialect.full;
    auto condition = fill_condition(items, variables, work.former_plans);
    if (!condition) {
      return refuse("bad_dialect",
                    fmt::format("dialect {}, plan {}: {}", dialect.name, plan, condition.error()));
    }
    std::ranges::move(*condition, std::back_inserter(*attributes));
    if (renumber && dialect.address_change == "coa") {
      auto space = fill(dialect.renumber, variables, true);
      if (!space) return refuse("bad_dialect", space.error());
      std::ranges::move(*space, std::back_inserter(*attributes));
    }
  }
  auto request = request_to(nas, secrets_);
  if (!request) return refuse("bad_secret", fmt::format("NAS {}: {}", nas.name, request.error()));
  prepared.request = std::move(*request);
  return complete(std::move(prepared), work, session, std::move(*attributes));
}

RadiusEffects::Prepared RadiusEffects::complete(Prepared prepared, const Work& work,
                                                const ports::Session& session,
                                                std::vector<Attribute> attributes) {
  Request& request = prepared.request;
  request.code = prepared.disconnect ? Code::kDisconnectRequest : Code::kCoaRequest;
  request.attributes = std::move(attributes);
  request.session = session.acct_session_id.empty() ? session.username : session.acct_session_id;
  // Time is left for the others where there are others.
  const auto now = SteadyClock::now();
  request.deadline = prepared.nas.redundancy_group.empty() || work.deadline < now
                         ? work.deadline
                         : now + (work.deadline - now) / 2;
  request.demand_message_authenticator = prepared.dialect->demand_message_authenticator;
  return prepared;
}

// Sends all that is prepared and waits for the answers. While it waits it reads the fence again:
// once a newer transition owns the service, nothing is repeated any more.
std::vector<Outcome> RadiusEffects::exchange(Work& work, std::vector<Prepared>& prepared) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::vector<Outcome> outcomes;
    std::size_t open = 0;
  };
  const auto shared = std::make_shared<Shared>();
  shared->outcomes.resize(prepared.size());

  work.superseded = work.superseded || !journal_.still_current(work.request);
  if (work.superseded || work.attempt.stop.stop_requested()) return shared->outcomes;
  pause_for_test();

  std::vector<Client::Ticket> tickets;
  shared->open = prepared.size();
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const auto done = [shared, i](const Outcome& outcome) {
      const std::lock_guard lock{shared->mutex};
      shared->outcomes[i] = outcome;
      --shared->open;
      shared->changed.notify_all();
    };
    if (prepared[i].refused) {
      done({});
    } else {
      tickets.push_back(client_.submit(std::move(prepared[i].request), done));
    }
  }

  bool cancelled = false;
  std::unique_lock lock{shared->mutex};
  while (shared->open > 0) {
    const auto finished = [&] { return shared->open == 0; };
    if (cancelled) {
      shared->changed.wait(lock, finished);
      break;
    }
    if (shared->changed.wait_for(lock, work.attempt.stop, settings_.fence_interval, finished)) {
      break;
    }
    lock.unlock();
    if (work.attempt.still_alive) work.attempt.still_alive();
    bool current = true;
    try {
      current = journal_.still_current(work.request);
    } catch (const std::exception& error) {
      // Unknown is not "moved": the packet that left said what was true then.
      spdlog::warn("radius: the fence cannot be read while an answer is awaited: {}", error.what());
    }
    if (!current || work.attempt.stop.stop_requested()) {
      work.superseded = !current;
      cancelled = true;
      for (const auto ticket : tickets) client_.cancel(ticket);
    }
    lock.lock();
  }
  return shared->outcomes;
}

void RadiusEffects::pause_for_test() {
  constexpr std::string_view kPoint = "radius.before_send:";
  if (!settings_.test_pause.starts_with(kPoint) || paused_.exchange(true)) return;
  const std::string file = settings_.test_pause.substr(kPoint.size());
  // A file that is there already: some process has paused, this one does not.
  const int fd = ::open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return;
  ::close(fd);
  ::kill(::getpid(), SIGSTOP);
}

}  // namespace addrflow::radius
