// Connection options from the environment and from a profile of `temporal.toml`, by the convention
// that all Temporal tools share. Order: what the program sets itself > environment (TEMPORAL_…) >
// profile > defaults. A codec (`codec.endpoint`, TEMPORAL_CODEC_ENDPOINT) is left to tools such as
// the CLI: a client applies `ConnectionOptions::codecs`.
#pragma once

#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <tempora/connection.hpp>
#include <tempora/errors.hpp>
#include <vector>

namespace tempora {

struct ProfileSource {
  // Empty: TEMPORAL_CONFIG_FILE, else temporalio/temporal.toml in the user's configuration
  // directory, if it exists.
  std::string file;
  std::string profile;  // empty: TEMPORAL_PROFILE, else "default" (which may be missing; a named
                        // one may not)
  bool read_file = true;
  bool strict = false;  // an unknown key in the file is an error
  // Replaced by tests. Nothing: the variable is not set.
  std::function<std::optional<std::string>(const std::string& name)> environment;
  // TEMPORAL_GRPC_META_… needs the names of all variables.
  std::function<std::vector<std::string>()> environment_names;
};

// What the environment and the profile say. Set fields of the result to override them. Errors have
// code `kConfiguration`, name the variable or the key and file, and never show a value.
std::expected<ConnectionOptions, ClientError> load_connection_options(
    const ProfileSource& source = {});

}  // namespace tempora
