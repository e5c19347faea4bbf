#include "addrflow/radius/secret.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>

namespace addrflow::radius {
namespace {

constexpr std::uintmax_t kMaxSecretSize = 4096;

std::expected<std::string, std::string> usable(std::string secret, const std::string& reference) {
  if (secret.ends_with('\n')) secret.pop_back();
  if (secret.ends_with('\r')) secret.pop_back();
  if (secret.empty()) return std::unexpected(fmt::format("the secret {} is empty", reference));
  return secret;
}

}  // namespace

std::expected<std::string, std::string> SecretStore::read(const std::string& reference) {
  if (reference.starts_with("env:")) {
    const char* value = std::getenv(reference.c_str() + 4);
    if (value == nullptr) {
      return std::unexpected(fmt::format("the secret {} is not set", reference));
    }
    return usable(value, reference);
  }
  if (!reference.starts_with("file:")) {
    // Perhaps somebody wrote the secret itself here: do not repeat it.
    return std::unexpected("a secret reference is neither env:NAME nor file:/path");
  }
  const std::filesystem::path path{reference.substr(5)};
  std::error_code failed;
  const auto changed = std::filesystem::last_write_time(path, failed);
  const auto size = failed ? 0 : std::filesystem::file_size(path, failed);
  if (failed) return std::unexpected(fmt::format("{}: {}", reference, failed.message()));
  if (size > kMaxSecretSize) return std::unexpected(fmt::format("{} is too large", reference));

  const std::lock_guard lock{mutex_};
  if (const auto known = files_.find(reference); known != files_.end()) {
    if (known->second.changed == changed && known->second.size == size) {
      return known->second.secret;
    }
  }
  std::ifstream file{path, std::ios::binary};
  if (!file) return std::unexpected(fmt::format("{} cannot be read", reference));
  auto secret = usable({std::istreambuf_iterator<char>{file}, {}}, reference);
  if (secret) files_[reference] = {changed, size, *secret};
  return secret;
}

}  // namespace addrflow::radius
