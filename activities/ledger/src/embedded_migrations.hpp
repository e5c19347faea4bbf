// The files of migrations/, as they were when this was built.
#pragma once

#include <string_view>
#include <vector>

namespace addrflow::ledger {

struct MigrationFile {
  std::string_view name;  // 0001_name.up.sql, 0001_name.down.sql
  std::string_view sql;
};

std::vector<MigrationFile> embedded_migrations();

}  // namespace addrflow::ledger
