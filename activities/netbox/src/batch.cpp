#include "batch.hpp"

#include <algorithm>
#include <utility>

namespace addrflow::netbox {

Batch::Batch(Client& client, ports::NetboxLedger& ledger,
             const std::vector<ports::ClaimedEffect>& claimed, std::string holder,
             Clock::time_point deadline)
    : client_(client),
      ledger_(ledger),
      claimed_(claimed),
      holder_(std::move(holder)),
      deadline_(deadline),
      replies_(claimed.size()) {}

std::vector<v1::EffectReply> Batch::run() {
  std::map<Kind, Items> to_find;
  for (std::size_t i = 0; i < claimed_.size(); ++i) {
    Item item{.index = i, .wish = wish_of(leave(i)), .own = {}};
    const std::string& action = leave(i).action;
    const bool fresh = action == "reserve" && !leave(i).earlier_unknown && !is_taken_over(leave(i));
    if (!problem_of(leave(i), item.wish).empty() || (fresh && item.wish.kind == Kind::kPrefix)) {
      alone(i);
    } else if (fresh) {
      creations_.push_back(std::move(item));
    } else {
      to_find[item.wish.kind].push_back(std::move(item));
    }
  }
  for (const auto& [kind, items] : to_find) sort_out(kind, items);
  // An address that one line gives back may be what another one gets.
  remove();
  change();
  create();
  return std::move(replies_);
}

void Batch::sort_out(Kind kind, const Items& items) {
  std::vector<std::string> keys;
  for (const Item& item : items) keys.push_back(item.wish.key);
  const auto found = client_.find_by_keys(kind, keys, deadline_);
  if (!found) {
    for (const Item& item : items) replies_[item.index] = failed(found.error());
    return;
  }
  for (const Item& item : items) {
    std::vector<Object> own;
    std::ranges::copy_if(*found, std::back_inserter(own),
                         [&item](const Object& one) { return one.key == item.wish.key; });
    place(item, own);
  }
}

void Batch::place(Item item, const std::vector<Object>& own) {
  const ports::Leave& effect = leave(item.index);
  const bool address = item.wish.kind == Kind::kAddress;
  if (own.empty() && is_taken_over(effect)) {
    alone(item.index);
  } else if (own.empty() && takes_away(effect) && number_of(effect.wish, "unsettled_ms") == 0) {
    replies_[item.index] = confirmed(0, "NetBox has no object of ours");
  } else if (own.empty() && !takes_away(effect) && address) {
    creations_.push_back(std::move(item));
  } else if (own.size() == 1 && effect.action == "release") {
    item.own = own.front();
    removals_[item.wish.kind].push_back(std::move(item));
  } else if (own.size() == 1 && (item.wish.address.empty() || in_place(own.front(), item.wish))) {
    item.own = own.front();
    changes_[item.wish.kind].push_back(std::move(item));
  } else {
    alone(item.index);
  }
}

void Batch::remove() {
  for (const auto& [kind, items] : removals_) {
    std::vector<Object> objects;
    for (const Item& item : items) objects.push_back(item.own);
    const auto removed = client_.remove_all(objects, deadline_);
    if (!removed) {
      list_failed(items, removed.error());
      continue;
    }
    for (const Item& item : items) replies_[item.index] = confirmed(item.own.id);
  }
}

void Batch::change() {
  for (const auto& [kind, items] : changes_) {
    std::vector<Change> changes;
    for (const Item& item : items) changes.push_back({.known = item.own, .wish = item.wish});
    const auto changed = client_.change_all(changes, deadline_);
    if (!changed) {
      list_failed(items, changed.error());
      continue;
    }
    for (const Item& item : items) {
      // NetBox passes over what is gone without a word.
      if (std::ranges::find(*changed, item.own.id, &Object::id) == changed->end()) {
        alone(item.index);
      } else {
        replies_[item.index] = confirmed(item.own.id);
      }
    }
  }
}

void Batch::create() {
  if (creations_.empty()) return;
  std::vector<Wish> wishes;
  for (const Item& item : creations_) wishes.push_back(item.wish);
  const auto made = client_.create_all(wishes, deadline_);
  if (!made) {
    list_failed(creations_, made.error());
    return;
  }
  for (const Item& item : creations_) {
    const auto own = std::ranges::find(*made, item.wish.key, &Object::key);
    if (own == made->end()) {
      alone(item.index);
    } else {
      replies_[item.index] = confirmed(own->id);
    }
  }
}

void Batch::list_failed(const Items& items, const Error& error) {
  const bool one_is_to_blame = !error.retryable && !error.in_doubt &&
                               error.kind != ErrorKind::kDenied &&
                               error.kind != ErrorKind::kConfiguration;
  for (const Item& item : items) {
    if (one_is_to_blame) {
      alone(item.index);
    } else {
      replies_[item.index] = failed(error);
    }
  }
}

void Batch::alone(std::size_t index) {
  replies_[index] = Attempt{client_, ledger_, leave(index), holder_, deadline_}.run();
}

}  // namespace addrflow::netbox
