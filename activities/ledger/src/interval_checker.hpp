// Who held which space from when to when, as clients saw it, and whether two held it at once.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace addrflow::ledger {

struct HeldInterval {
  std::string space;
  std::int64_t from = 0;
  std::int64_t until = 0;  // not included
  std::string holder;
};

// Thread-safe. One clock for all clients.
class IntervalLog {
 public:
  std::chrono::nanoseconds now() const { return std::chrono::steady_clock::now() - begin_; }
  void add(HeldInterval row) {
    const std::lock_guard lock{mutex_};
    rows_.push_back(std::move(row));
  }
  std::vector<HeldInterval> rows() const {
    const std::lock_guard lock{mutex_};
    return rows_;
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<HeldInterval> rows_;
};

// How many intervals begin before an earlier one of the same space has ended.
inline int overlaps(const std::vector<HeldInterval>& rows) {
  std::map<std::string, std::vector<HeldInterval>> by_space;
  for (const HeldInterval& row : rows) by_space[row.space].push_back(row);
  int found = 0;
  for (auto& [space, list] : by_space) {
    std::ranges::sort(list, {}, &HeldInterval::from);
    std::int64_t end = list.front().until;
    for (std::size_t i = 1; i < list.size(); ++i) {
      found += list[i].from < end ? 1 : 0;
      end = std::max(end, list[i].until);
    }
  }
  return found;
}

}  // namespace addrflow::ledger
