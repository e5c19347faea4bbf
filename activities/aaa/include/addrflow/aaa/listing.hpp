// What the AAA database holds of ours, for the audit and for a restored ledger.
#pragma once

#include <addrflow/aaa/database.hpp>
#include <addrflow/ports/listing.hpp>

namespace addrflow::aaa {

// Thread-safe. Throws what libpqxx throws.
class Listing : public ports::AaaListing {
 public:
  explicit Listing(Database& database) : database_(database) {}

  std::int64_t newest_effect() override;
  std::vector<ports::AaaLine> lines_of(const std::vector<ports::ServiceName>& services) override;
  std::vector<ports::AaaLine> lines_after(const std::string& username, int most) override;
  std::vector<ports::AaaFence> fences_after(const ports::ServiceName& service, int most) override;
  std::vector<ports::HandedOut> handed_out_after(const std::string& space,
                                                 const std::string& username, int most) override;

 private:
  Database& database_;
};

}  // namespace addrflow::aaa
