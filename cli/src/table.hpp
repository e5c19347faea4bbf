// Rows for people: aligned columns, the header in bold on a terminal that wants it.
#pragma once

#include <string>
#include <vector>

namespace addrflow::cli {

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;

  // `bold`: the header between the terminal's sequences for it. A column without any value is left
  // out.
  std::string text(bool bold) const;
};

// Standard output is a terminal, and NO_COLOR does not say otherwise.
bool wants_bold();

// "3 d", "2 h", "5 min", "40 s".
std::string age_text(long long seconds);

}  // namespace addrflow::cli
