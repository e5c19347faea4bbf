#include "addrflow/netbox/effects.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

namespace addrflow::netbox {
namespace {

using std::chrono::milliseconds;

// What an operator must repair first is not asked again and again.
constexpr milliseconds kOperatorRetry{60'000};

v1::EffectReply reply_with(std::string_view status, std::string_view code, std::string detail) {
  v1::EffectReply reply;
  reply.set_status(std::string{status});
  reply.set_code(std::string{code});
  reply.set_detail(std::move(detail));
  return reply;
}

v1::EffectReply confirmed(std::int64_t netbox_id, std::string detail = {}) {
  auto reply = reply_with("confirmed", "", std::move(detail));
  reply.set_netbox_id(netbox_id);
  return reply;
}

// In doubt is `unknown`; everything else that failed did certainly nothing.
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

v1::EffectReply retry_later(std::string_view code, std::string detail) {
  auto reply = reply_with("unknown", code, std::move(detail));
  reply.set_retry(true);
  return reply;
}

std::string text_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::int64_t number_of(const nlohmann::json& wish, const char* name) {
  const auto found = wish.find(name);
  return found != wish.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::string status_for(const std::string& action) {
  if (action == "set_active") return "active";
  if (action == "deprecate") return "deprecated";
  return "reserved";
}

AddressWish wish_of(const ports::Leave& leave) {
  AddressWish wish;
  wish.address = text_of(leave.wish, "address");
  wish.address = wish.address.substr(0, wish.address.find('/'));
  wish.prefix_length = static_cast<int>(number_of(leave.wish, "prefix_length"));
  if (const auto vrf = number_of(leave.wish, "vrf_id"); vrf > 0) wish.vrf_id = vrf;
  wish.status = status_for(leave.action);
  wish.key = text_of(leave.wish, "key");
  wish.lifecycle_state = text_of(leave.wish, "state");
  // The reference is dropped with the revoke (A37).
  wish.subscriber = leave.action == "deprecate" ? "" : text_of(leave.wish, "subscriber");
  wish.description = text_of(leave.wish, "description");
  return wish;
}

// One attempt of one effect.
class Attempt {
 public:
  Attempt(Client& client, const ports::Leave& leave, Clock::time_point deadline)
      : client_(client), leave_(leave), wish_(wish_of(leave)), deadline_(deadline) {}

  v1::EffectReply run() {
    if (wish_.key.empty() || wish_.address.empty()) {
      return reply_with("refused", "netbox-invalid", "the effect names no key or no address");
    }
    if (leave_.action == "reserve" && !leave_.earlier_unknown) return make();
    auto own = find_own();
    if (!own) return failed(own.error());
    if (own->size() > 1) {
      return reply_with("refused", "netbox-ambiguous",
                        fmt::format("{} NetBox objects carry this key", own->size()));
    }
    if (own->empty()) {
      // Nothing of ours to take away: either it never came to be, or somebody deleted it.
      if (leave_.action == "release" || leave_.action == "deprecate") {
        return confirmed(0, "NetBox has no object of ours");
      }
      return make();
    }
    return settle(own->front());
  }

 private:
  // By the id that we know, else by our key. Only an object with our key is ours.
  Result<std::vector<Address>> find_own() {
    if (const auto id = number_of(leave_.wish, "netbox_id"); id > 0) {
      auto known = client_.get(id, deadline_);
      if (known && known->key == wish_.key) return std::vector{std::move(*known)};
      if (!known && known.error().kind != ErrorKind::kNotFound) {
        return std::unexpected(known.error());
      }
    }
    return client_.find_by_key(wish_.key, deadline_);
  }

  v1::EffectReply settle(const Address& own) {
    if (leave_.action == "release") {
      const auto removed = client_.remove(own, deadline_);
      return removed ? confirmed(own.id) : failed(removed.error());
    }
    if (own.address != wish_.address || own.vrf_id != wish_.vrf_id) {
      return reply_with(
          "refused", "netbox-key-elsewhere",
          fmt::format("NetBox object {} has our key, but is {}", own.id, own.address));
    }
    const auto changed = client_.change(own, wish_, deadline_);
    if (changed) return confirmed(changed->id);
    if (changed.error().kind == ErrorKind::kNotFound) {
      return retry_later("netbox-not-found", "the object was deleted meanwhile");
    }
    return failed(changed.error());
  }

  v1::EffectReply make() {
    const auto made = client_.create(wish_, deadline_);
    if (made) return confirmed(made->id);
    const Error& error = made.error();
    if (error.kind == ErrorKind::kAddressTaken) return taken_by();
    if (error.kind == ErrorKind::kKeyTaken)
      return adopt_or(retry_later("netbox-key-taken", error.message));
    // It may have been done all the same. Not finding it proves nothing while NetBox still works
    // on it; finding it does.
    if (error.in_doubt) return adopt_or(failed(error));
    return failed(error);
  }

  v1::EffectReply adopt_or(v1::EffectReply otherwise) {
    const auto own = client_.find_by_key(wish_.key, deadline_);
    if (!own || own->size() != 1) return otherwise;
    return adopt(own->front());
  }

  v1::EffectReply adopt(const Address& own) {
    // What an earlier attempt wrote may be less than what is wished now.
    if (own.address == wish_.address && own.vrf_id == wish_.vrf_id && own.status == wish_.status &&
        own.lifecycle_state == wish_.lifecycle_state) {
      return confirmed(own.id, "made by an earlier attempt");
    }
    return settle(own);
  }

  v1::EffectReply taken_by() {
    const auto holders = client_.find_by_address(wish_.address, wish_.vrf_id, deadline_);
    if (!holders) {
      auto reply = failed(holders.error());
      reply.set_status("unknown");  // of whom the address is
      reply.set_retry(true);
      return reply;
    }
    const auto own = std::ranges::find(*holders, wish_.key, &Address::key);
    if (own != holders->end()) return adopt(*own);
    if (holders->empty()) return retry_later("netbox-address-taken", "taken and gone again");
    auto reply = reply_with("refused", "netbox-address-taken",
                            fmt::format("{} is taken by NetBox object {}, which is not ours",
                                        wish_.address, holders->front().id));
    reply.set_conflict(true);
    return reply;
  }

  Client& client_;
  const ports::Leave& leave_;
  const AddressWish wish_;
  const Clock::time_point deadline_;
};

bool is_known(const std::string& action) {
  return action == "reserve" || action == "set_active" || action == "set_reserved" ||
         action == "deprecate" || action == "release";
}

}  // namespace

NetboxEffects::NetboxEffects(std::shared_ptr<Client> client, ports::EffectJournal& journal,
                             ports::ServiceWaker& waker)
    : client_(std::move(client)), journal_(journal), waker_(waker) {}

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
  if (reply.status() != "confirmed" && reply.status() != "not_applicable") {
    spdlog::warn("netbox {} of effect {} attempt {}: {} {} {}", leave.action, leave.effect_id,
                 leave.attempt, reply.status(), reply.code(), reply.detail());
  }
  if (!journal_.finish(request, leave.attempt, reply)) waker_.wake(request.service());
  return reply;
}

v1::EffectReply NetboxEffects::carry_out(const ports::Leave& leave, Clock::time_point deadline) {
  if (!client_) return reply_with("not_applicable", "netbox-off", "NetBox is not configured");
  if (!is_known(leave.action)) {
    return reply_with("refused", "netbox-invalid", "unknown action " + leave.action);
  }
  return Attempt{*client_, leave, deadline}.run();
}

}  // namespace addrflow::netbox
