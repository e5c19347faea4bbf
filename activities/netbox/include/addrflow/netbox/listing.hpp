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
    std::size_t offset = 0;
    if (!next.empty()) std::from_chars(next.data() + 1, next.data() + next.size(), offset);
    const auto found = client_.owned(prefixes ? Kind::kPrefix : Kind::kAddress, offset,
                                     static_cast<std::size_t>(most), in_time());
    if (!found) throw std::runtime_error{found.error().message};
    if (found->more) {
      next = (prefixes ? "p" : "a") + std::to_string(offset + found->seen);
    } else {
      next = prefixes ? "" : "p0";
    }
    std::vector<ports::NetboxObject> objects;
    add(found->objects, objects);
    return objects;
  }

  std::vector<ports::NetboxObject> find(const std::string& key) override {
    std::vector<ports::NetboxObject> objects;
    for (const Kind kind : {Kind::kAddress, Kind::kPrefix}) {
      const auto found = client_.find_by_key(kind, key, in_time());
      if (!found) throw std::runtime_error{found.error().message};
      add(*found, objects);
    }
    return objects;
  }

 private:
  Clock::time_point in_time() const { return Clock::now() + client_.timeout(); }

  static void add(const std::vector<Object>& found, std::vector<ports::NetboxObject>& objects) {
    for (const Object& one : found) {
      std::string space = one.address;
      if (one.kind == Kind::kPrefix) space += "/" + std::to_string(one.prefix_length);
      objects.push_back({one.id, one.key, std::move(space), one.status, one.lifecycle_state,
                         one.vrf_id.value_or(0)});
    }
  }

  Client& client_;
};

}  // namespace addrflow::netbox
