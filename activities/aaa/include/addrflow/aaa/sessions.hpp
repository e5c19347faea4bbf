// Where a line is now, by FreeRADIUS' accounting table (radacct).
#pragma once

#include <addrflow/aaa/database.hpp>
#include <addrflow/ports/network.hpp>

namespace addrflow::aaa {

// Thread-safe.
class AccountingSessions : public ports::SessionDirectory, public ports::AccountingHistory {
 public:
  explicit AccountingSessions(Database& database) : database_(database) {}

  // Open rows, newest first, at most 64. A row that was not updated for three interim intervals is
  // left out: a lost Stop leaves it open for ever.
  std::vector<ports::Session> open_sessions(const std::vector<std::string>& usernames) override;

  std::vector<ports::Session> open_rows(const std::vector<std::string>& usernames) override;

  // Here stale rows count: they are no proof that the session is gone. An empty address or NAS is
  // not asked for.
  ports::SessionEvidence evidence(const std::vector<std::string>& usernames,
                                  const std::string& address, const std::string& nas_ip,
                                  std::chrono::system_clock::time_point since) override;

  std::vector<std::size_t> ended(const std::vector<ports::Waiting>& waiting) override;

  std::vector<ports::SessionRecord> history(const std::string& space, const std::string& from,
                                            const std::string& to, int most) override;

 private:
  Database& database_;
};

}  // namespace addrflow::aaa
