// Claimed effects, sent as lists as far as that goes: NetBox does about ten writes a second one by
// one, whatever the parallelism.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "attempt.hpp"

namespace addrflow::netbox {

class Batch {
 public:
  Batch(Client& client, ports::NetboxLedger& ledger,
        const std::vector<ports::ClaimedEffect>& claimed, std::string holder,
        Clock::time_point deadline);

  // One reply for each claimed effect, in their order.
  std::vector<v1::EffectReply> run();

 private:
  struct Item {
    std::size_t index = 0;  // in `claimed_`
    Wish wish;
    Object own;
  };
  using Items = std::vector<Item>;

  // Sorts what is of one kind into what is to be removed, changed and created.
  void sort_out(Kind kind, const Items& items);
  void place(Item item, const std::vector<Object>& own);
  void remove();
  void change();
  void create();
  // The whole list failed: when one of them is to blame, each is tried alone.
  void list_failed(const Items& items, const Error& error);
  void alone(std::size_t index);
  const ports::Leave& leave(std::size_t index) const { return claimed_[index].leave; }

  Client& client_;
  ports::NetboxLedger& ledger_;
  const std::vector<ports::ClaimedEffect>& claimed_;
  const std::string holder_;
  const Clock::time_point deadline_;
  std::vector<v1::EffectReply> replies_;
  std::map<Kind, Items> removals_;
  std::map<Kind, Items> changes_;
  Items creations_;  // addresses only: a prefix pool has one writer
};

}  // namespace addrflow::netbox
