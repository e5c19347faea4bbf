// Where the real peers of an integration test are (tests/peers). A test that needs one which is not
// there is skipped:
//
//   class LedgerTest : public ::testing::Test {
//    protected:
//     void SetUp() override { ADDRFLOW_NEEDS_PEER("ADDRFLOW_TEST_PG_URL"); }
//   };
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

namespace addrflow::testing {

// One value of the peers' environment (tests/peers/README.md lists the names): from this process's
// own environment, else from the file that ADDRFLOW_PEERS_ENV names.
inline std::optional<std::string> peer(const std::string& name) {
  if (const char* value = std::getenv(name.c_str()); value != nullptr && *value != '\0')
    return value;
  const char* path = std::getenv("ADDRFLOW_PEERS_ENV");
  if (path == nullptr) return std::nullopt;
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);) {
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == '=') {
      return line.substr(name.size() + 1);
    }
  }
  return std::nullopt;
}

// As peer(), but the test cannot go on without it.
inline std::string need_peer(const std::string& name) {
  auto value = peer(name);
  EXPECT_TRUE(value) << name << " is not set: start the peers (tests/peers/README.md)";
  return value.value_or("");
}

// The text of a file that a peer's value names, without the newline at its end (secrets).
inline std::string peer_file(const std::string& name) {
  std::ifstream file{need_peer(name)};
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

// `peers VERB NAME` on the running peers, for instance peers_command("restart postgres"). True when
// it worked.
inline bool peers_command(std::string_view words) {
  const std::string command = "'" + need_peer("ADDRFLOW_PEERS_TOOL") + "' " + std::string{words} +
                              " --dir '" + need_peer("ADDRFLOW_PEERS_DIR") + "'";
  return std::system(command.c_str()) == 0;
}

}  // namespace addrflow::testing

#define ADDRFLOW_NEEDS_PEER(name)                                                         \
  if (!::addrflow::testing::peer(name)) {                                                 \
    GTEST_SKIP() << (name) << " is not set: start the peers (see tests/peers/README.md)"; \
  }                                                                                       \
  static_assert(true, "wants a semicolon")
