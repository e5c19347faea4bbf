// NetBox' objects of ours, page by page, for the audit.
#pragma once

#include <addrflow/netbox/client.hpp>
#include <addrflow/ports/listing.hpp>
#include <charconv>
#include <stdexcept>

namespace addrflow::netbox {

// Throws std::runtime_error where NetBox cannot be asked.
class Listing : public ports::NetboxListing {
 public:
  explicit Listing(Client& client) : client_(client) {}

  // Addresses first, then prefixes: `next` is "a500" or "p0".
  std::vector<ports::NetboxObject> page(std::string& next, int most) override {
    const bool prefixes = next.starts_with('p');
    int offset = 0;
    if (!next.empty()) std::from_chars(next.data() + 1, next.data() + next.size(), offset);
    const auto kind = prefixes ? Client::Kind::kPrefixes : Client::Kind::kAddresses;
    auto found = client_.owned(kind, offset, most, Clock::now() + client_.timeout());
    if (!found) throw std::runtime_error{found.error().message};
    if (found->more) {
      next = (prefixes ? "p" : "a") + std::to_string(offset + most);
    } else {
      next = prefixes ? "" : "p0";
    }
    return objects_of(found->objects);
  }

  std::vector<ports::NetboxObject> find(const std::string& key) override {
    auto found = client_.find_by_key(key, Clock::now() + client_.timeout());
    if (!found) throw std::runtime_error{found.error().message};
    std::vector<ports::NetboxObject> objects;
    for (const Address& one : *found) objects.push_back({one.id, one.key, one.address, one.status});
    return objects;
  }

 private:
  static std::vector<ports::NetboxObject> objects_of(const std::vector<Owned>& owned) {
    std::vector<ports::NetboxObject> objects;
    for (const Owned& one : owned) objects.push_back({one.id, one.key, one.space, one.status});
    return objects;
  }

  Client& client_;
};

}  // namespace addrflow::netbox
