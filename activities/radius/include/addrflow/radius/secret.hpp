// Shared secrets by reference: `env:NAME` or `file:/path`, read when they are used. Never in a log,
// an error or a message.
#pragma once

#include <expected>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>

namespace addrflow::radius {

// Thread-safe. A file is read again when it has changed, so that a secret can be rotated.
class SecretStore {
 public:
  // The secret, or why there is none (naming the reference, never the content). An empty secret is
  // refused: it would sign with nothing. One line end at the end of a file does not count.
  std::expected<std::string, std::string> read(const std::string& reference);

 private:
  struct Cached {
    std::filesystem::file_time_type changed;
    std::uintmax_t size = 0;
    std::string secret;
  };
  std::mutex mutex_;
  std::map<std::string, Cached> files_;
};

}  // namespace addrflow::radius
