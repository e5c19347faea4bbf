// libFuzzer on the import of exported histories (`./dev fuzz json`). Whatever the text, the answer
// is a history that replays or an error that says why not.
#include <cstdint>

#include "testing/fuzz_workflow.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto replayed = tempora::testing::fuzzed_replayer().replay_json(text);
  if (!replayed && replayed.error().message.empty()) std::abort();
  return 0;
}
