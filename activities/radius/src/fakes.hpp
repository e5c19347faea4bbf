// The ledger and the accounting of a test, as the effects see them.
#pragma once

#include <addrflow/ports/effect_journal.hpp>
#include <addrflow/ports/network.hpp>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace addrflow::radius {

class FakeJournal : public ports::EffectJournal {
 public:
  ports::Leave begin(const v1::EffectRequest&, std::chrono::milliseconds) override { return leave; }
  bool still_current(const v1::EffectRequest&) override { return current; }
  bool finish(const v1::EffectRequest&, int, const v1::EffectReply& outcome) override {
    const std::lock_guard lock{mutex};
    finished.push_back(outcome);
    return current;
  }

  ports::Leave leave;
  std::atomic<bool> current = true;
  std::mutex mutex;
  std::vector<v1::EffectReply> finished;
};

class FakeWaker : public ports::ServiceWaker {
 public:
  bool wake(const v1::ServiceRef&) noexcept override {
    ++woken;
    return true;
  }
  std::atomic<int> woken = 0;
};

// What accounting says, look by look; the last answer stays.
class FakeSessions : public ports::SessionDirectory {
 public:
  std::vector<ports::Session> open_sessions(const std::vector<std::string>&) override {
    if (broken) throw std::runtime_error("accounting is away");
    auto now = looks.front();
    if (looks.size() > 1) looks.pop_front();
    return now;
  }
  std::vector<ports::Session> open_rows(const std::vector<std::string>& usernames) override {
    auto rows = open_sessions(usernames);
    for (const auto& session : stale) {
      rows.push_back(session);
      rows.back().silent = silent;
    }
    return rows;
  }
  ports::SessionEvidence evidence(const std::vector<std::string>&, const std::string&,
                                  const std::string&,
                                  std::chrono::system_clock::time_point) override {
    return {.open = stale};
  }

  std::deque<std::vector<ports::Session>> looks{{}};
  std::vector<ports::Session> stale;     // open, but not heard of
  std::chrono::seconds silent{20 * 60};  // for so long
  bool broken = false;
};

class FakeNetwork : public ports::NasDirectory {
 public:
  std::optional<ports::NasRecord> find(const std::string&, const std::string& nas_ip) override {
    if (nas_ip != record.nas_ip) return std::nullopt;
    return record;
  }
  std::vector<ports::NasRecord> others_in_group(const ports::NasRecord&) override { return others; }

  ports::NasRecord record;
  std::vector<ports::NasRecord> others;
};

}  // namespace addrflow::radius
