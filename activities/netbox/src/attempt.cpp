#include "attempt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;

// What an operator must repair first is not asked again and again.
constexpr milliseconds kOperatorRetry{60'000};
constexpr milliseconds kWriterRetry{250};

v1::EffectReply retry_later(std::string_view status, std::string_view code, std::string detail,
                            milliseconds after = milliseconds{0}) {
  auto reply = reply_with(status, code, std::move(detail));
  reply.set_retry(true);
  reply.set_retry_after_ms(after.count());
  return reply;
}

std::string text_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::string status_for(const std::string& action) {
  if (action == "set_active" || action == "suspend") return "active";
  if (action == "deprecate") return "deprecated";
  return "reserved";
}

// The pool's only writer, while it lives.
class Writer {
 public:
  Writer(ports::NetboxLedger& ledger, std::string pool, std::string holder, milliseconds lease)
      : ledger_(ledger), pool_(std::move(pool)), holder_(std::move(holder)) {
    held_ = ledger_.acquire_writer(pool_, holder_, lease);
  }
  ~Writer() {
    if (!held_) return;
    try {
      ledger_.release_writer(pool_, holder_);
    } catch (const std::exception&) {
      return;  // its lease ends by itself
    }
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  bool held() const { return held_; }

 private:
  ports::NetboxLedger& ledger_;
  const std::string pool_;
  const std::string holder_;
  bool held_ = false;
};

}  // namespace

v1::EffectReply reply_with(std::string_view status, std::string_view code, std::string detail) {
  v1::EffectReply reply;
  reply.set_status(std::string{status});
  reply.set_code(std::string{code});
  reply.set_detail(std::move(detail));
  return reply;
}

v1::EffectReply confirmed(std::int64_t netbox_id, std::string detail) {
  auto reply = reply_with("confirmed", "", std::move(detail));
  reply.set_netbox_id(netbox_id);
  return reply;
}

v1::EffectReply failed(const Error& error) {
  auto reply =
      reply_with(error.in_doubt ? "unknown" : "refused", code_of(error.kind), error.message);
  const bool operators = error.kind == ErrorKind::kDenied ||
                         error.kind == ErrorKind::kConfiguration ||
                         error.kind == ErrorKind::kNotNetbox;
  reply.set_retry(error.retryable || error.in_doubt || operators);
  reply.set_retry_after_ms((operators ? kOperatorRetry : error.retry_after).count());
  return reply;
}

std::int64_t number_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

Wish wish_of(const ports::Leave& leave) {
  Wish wish;
  const std::string prefix = text_of(leave.wish, "prefix");
  const bool delegated = !prefix.empty() || text_of(leave.wish, "family") == "ipv6_pd";
  wish.kind = delegated ? Kind::kPrefix : Kind::kAddress;
  const std::string place = prefix.empty() ? text_of(leave.wish, "address") : prefix;
  wish.address = place.substr(0, place.find('/'));
  wish.prefix_length = static_cast<int>(number_of(leave.wish, "prefix_length"));
  if (const auto slash = place.find('/'); delegated && slash != std::string::npos) {
    std::from_chars(place.data() + slash + 1, place.data() + place.size(), wish.prefix_length);
  }
  if (const auto vrf = number_of(leave.wish, "vrf_id"); vrf > 0) wish.vrf_id = vrf;
  wish.status = status_for(leave.action);
  wish.key = text_of(leave.wish, "key");
  wish.lifecycle_state = text_of(leave.wish, "state");
  // The reference is dropped with the revoke (A37).
  wish.subscriber = leave.action == "deprecate" ? "" : text_of(leave.wish, "subscriber");
  wish.description = text_of(leave.wish, "description");
  return wish;
}

std::string problem_of(const ports::Leave& leave, const Wish& wish) {
  static constexpr std::string_view kKnown[] = {
      "reserve", "take", "set_active", "set_reserved", "suspend", "deprecate", "release"};
  if (std::ranges::find(kKnown, leave.action) == std::end(kKnown)) {
    return "unknown action " + leave.action;
  }
  if (wish.key.empty()) return "the effect names no key";
  const bool needs_place = leave.action == "reserve" || leave.action == "set_active";
  if (needs_place && wish.address.empty()) return "the effect names no address and no prefix";
  if (wish.kind == Kind::kPrefix && wish.prefix_length <= 0 && !takes_away(leave)) {
    return "the effect names no prefix_length";
  }
  if (leave.action == "take" && number_of(leave.wish, "pool_netbox_id") <= 0) {
    return "the effect names no pool_netbox_id";
  }
  return {};
}

bool takes_away(const ports::Leave& leave) {
  return leave.action == "release" || leave.action == "deprecate";
}

bool is_taken_over(const ports::Leave& leave) {
  return leave.wish.value("taken_over", false) && number_of(leave.wish, "netbox_id") > 0;
}

bool in_place(const Object& own, const Wish& wish) {
  return own.address == wish.address && own.vrf_id == wish.vrf_id &&
         (own.kind == Kind::kAddress || own.prefix_length == wish.prefix_length);
}

Attempt::Attempt(Client& client, ports::NetboxLedger& ledger, const ports::Leave& leave,
                 const std::string& holder, Clock::time_point deadline)
    : client_(client),
      ledger_(ledger),
      leave_(leave),
      wish_(wish_of(leave)),
      holder_(fmt::format("{}/{}/{}", holder, leave.effect_id, leave.attempt)),
      deadline_(deadline) {}

v1::EffectReply Attempt::run() {
  if (const auto problem = problem_of(leave_, wish_); !problem.empty()) {
    return reply_with("refused", "netbox-invalid", problem);
  }
  if (leave_.action == "take") return take();
  if (leave_.action == "reserve" && !leave_.earlier_unknown && !is_taken_over(leave_))
    return make();
  auto own = find_own();
  if (!own) return failed(own.error());
  if (own->size() > 1) {
    return reply_with("refused", "netbox-ambiguous",
                      fmt::format("{} NetBox objects carry this key", own->size()));
  }
  if (!own->empty()) return settle(own->front());
  if (!takes_away(leave_)) return make();
  // Nothing of ours to take away: either it never came to be, or somebody deleted it. Unless an
  // older request may yet make it.
  if (const auto unsettled = number_of(leave_.wish, "unsettled_ms"); unsettled > 0) {
    return retry_later("unknown", "netbox-unsettled", "an older request may still arrive",
                       milliseconds{unsettled});
  }
  return confirmed(0, "NetBox has no object of ours");
}

// By the id that we know, else by our key. Only an object with our key is ours. What the platform
// before us made has none: the id that it wrote down, and the space, say that it is the line's.
Result<std::vector<Object>> Attempt::find_own() {
  if (const auto id = number_of(leave_.wish, "netbox_id"); id > 0) {
    auto known = client_.get(wish_.kind, id, deadline_);
    if (known && known->key == wish_.key) return std::vector{std::move(*known)};
    if (known && known->key.empty() && is_taken_over(leave_) && in_place(*known, wish_)) {
      auto ours = client_.stamp(*known, wish_.key, deadline_);
      if (!ours) return std::unexpected(ours.error());
      return std::vector{std::move(*ours)};
    }
    if (!known && known.error().kind != ErrorKind::kNotFound) {
      return std::unexpected(known.error());
    }
  }
  return client_.find_by_key(wish_.kind, wish_.key, deadline_);
}

v1::EffectReply Attempt::settle(const Object& own) {
  if (leave_.action == "release") {
    const auto removed = client_.remove(own, deadline_);
    return removed ? confirmed(own.id) : failed(removed.error());
  }
  if (!wish_.address.empty() && !in_place(own, wish_)) {
    return reply_with("refused", "netbox-key-elsewhere",
                      fmt::format("NetBox object {} has our key, but is {}/{}", own.id, own.address,
                                  own.prefix_length));
  }
  const auto changed = client_.change(own, wish_, deadline_);
  if (changed) return confirmed(changed->id);
  if (changed.error().kind == ErrorKind::kNotFound) {
    return retry_later("unknown", "netbox-not-found", "the object was deleted meanwhile");
  }
  return failed(changed.error());
}

v1::EffectReply Attempt::make() {
  if (wish_.kind == Kind::kPrefix) return make_prefix();
  const auto made = client_.create(wish_, deadline_);
  return made ? confirmed(made->id) : not_made(made.error());
}

v1::EffectReply Attempt::make_prefix() {
  return as_only_writer([this] {
    const auto made = client_.create(wish_, deadline_);
    return made ? without_doubles(*made) : not_made(made.error());
  });
}

v1::EffectReply Attempt::as_only_writer(const std::function<v1::EffectReply()>& work) {
  const std::string pool = text_of(leave_.wish, "pool_id");
  const Writer writer{ledger_, pool.empty() ? "prefixes" : pool, holder_,
                      std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now())};
  if (!writer.held()) {
    return retry_later("refused", "netbox-writer-busy", "another writer is at this prefix pool",
                       kWriterRetry);
  }
  return work();
}

// A plain create takes no lock in NetBox, and people create prefixes too: the oldest stands.
v1::EffectReply Attempt::without_doubles(const Object& made) {
  auto all = client_.find_by_address(wish_, deadline_);
  if (!all) {
    auto reply = failed(all.error());
    reply.set_status("unknown");
    reply.set_retry(true);
    return reply;
  }
  std::ranges::sort(*all, {}, &Object::id);
  const auto oldest = all->begin();
  if (oldest == all->end() || (oldest->id == made.id && all->size() == 1)) {
    return confirmed(made.id);
  }
  for (const Object& one : *all) {
    if (one.key != wish_.key || one.id == oldest->id) continue;
    if (const auto removed = client_.remove(one, deadline_); !removed) {
      return retry_later("unknown", "netbox-doubles", "a double could not be removed yet");
    }
  }
  return oldest->key == wish_.key ? confirmed(oldest->id, "doubles were removed") : taken_by();
}

// The key is unique, so of several requests under it NetBox carries out one.
v1::EffectReply Attempt::take() {
  if (leave_.earlier_unknown) {
    const auto own = client_.find_by_key(wish_.kind, wish_.key, deadline_);
    if (!own) return failed(own.error());
    if (own->size() == 1) return taken(own->front());
    if (own->size() > 1) {
      return reply_with("refused", "netbox-ambiguous",
                        fmt::format("{} NetBox objects carry this key", own->size()));
    }
  }
  if (wish_.kind == Kind::kAddress) return take_one();
  return as_only_writer([this] { return take_one(); });
}

v1::EffectReply Attempt::take_one() {
  const auto made = client_.take(number_of(leave_.wish, "pool_netbox_id"), wish_, deadline_);
  if (made) return taken(*made);
  const Error& error = made.error();
  if (error.kind != ErrorKind::kKeyTaken && !error.in_doubt) return failed(error);
  const auto own = client_.find_by_key(wish_.kind, wish_.key, deadline_);
  if (own && own->size() == 1) return taken(own->front());
  return error.in_doubt ? failed(error) : retry_later("unknown", "netbox-key-taken", error.message);
}

// A prefix that NetBox picked while somebody created the same is another's.
v1::EffectReply Attempt::taken(const Object& own) {
  const bool prefix = own.kind == Kind::kPrefix;
  auto reply = confirmed(own.id);
  reply.set_space(prefix ? fmt::format("{}/{}", own.address, own.prefix_length) : own.address);
  if (!prefix) return reply;
  wish_.address = own.address;
  wish_.vrf_id = own.vrf_id;
  const auto settled = without_doubles(own);
  if (settled.conflict()) {
    return retry_later("unknown", "netbox-doubles", "somebody else made the same prefix");
  }
  if (settled.status() != "confirmed") return settled;
  reply.set_netbox_id(settled.netbox_id());
  return reply;
}

v1::EffectReply Attempt::not_made(const Error& error) {
  if (error.kind == ErrorKind::kAddressTaken) return taken_by();
  if (error.kind == ErrorKind::kKeyTaken)
    return adopt_or(retry_later("unknown", "netbox-key-taken", error.message));
  // It may have been done all the same. Not finding it proves nothing while NetBox still works on
  // it; finding it does.
  if (error.in_doubt) return adopt_or(failed(error));
  return failed(error);
}

v1::EffectReply Attempt::adopt_or(v1::EffectReply otherwise) {
  const auto own = client_.find_by_key(wish_.kind, wish_.key, deadline_);
  if (!own || own->size() != 1) return otherwise;
  return adopt(own->front());
}

v1::EffectReply Attempt::adopt(const Object& own) {
  // What an earlier attempt wrote may be less than what is wished now.
  const bool placed = in_place(own, wish_);
  if (placed && own.status == wish_.status && own.lifecycle_state == wish_.lifecycle_state) {
    return confirmed(own.id, "made by an earlier attempt");
  }
  return settle(own);
}

v1::EffectReply Attempt::taken_by() {
  const auto holders = client_.find_by_address(wish_, deadline_);
  if (!holders) {
    auto reply = failed(holders.error());
    reply.set_status("unknown");  // of whom the address is
    reply.set_retry(true);
    return reply;
  }
  const auto own = std::ranges::find(*holders, wish_.key, &Object::key);
  if (own != holders->end()) return adopt(*own);
  if (holders->empty()) {
    return retry_later("unknown", "netbox-address-taken", "taken and gone again");
  }
  if (!holders->front().key.empty()) {
    // Another line's object of ours, whose release has not been sent yet: it will go.
    return retry_later("refused", "netbox-not-yet-free",
                       fmt::format("{} still has NetBox object {} of another line", wish_.address,
                                   holders->front().id));
  }
  auto reply = reply_with("refused", "netbox-address-taken",
                          fmt::format("{} is taken by NetBox object {}, which is not ours",
                                      wish_.address, holders->front().id));
  reply.set_conflict(true);
  return reply;
}

}  // namespace addrflow::netbox
