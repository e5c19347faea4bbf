#include <tempora/profile.hpp>

#include <fmt/format.h>
#include <toml++/toml.h>

#include <unistd.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace tempora {

namespace {

constexpr std::uintmax_t kMaxFileBytes = 1 << 20;
constexpr std::string_view kMetaPrefix = "TEMPORAL_GRPC_META_";

std::unexpected<ClientError> refused(std::string message) {
  ClientError error;
  error.code = ErrorCode::kConfiguration;
  error.message = std::move(message);
  return std::unexpected(std::move(error));
}

std::optional<std::string> process_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>{value} : std::nullopt;
}

std::vector<std::string> process_variable_names() {
  std::vector<std::string> names;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view text = *entry;
    names.emplace_back(text.substr(0, text.find('=')));
  }
  return names;
}

// One setting, and where it was found: only that is ever shown.
struct Setting {
  std::string value;
  std::string where;
};

// What a profile may say, still as text; the environment is laid over it.
struct Profile {
  std::map<std::string, Setting> settings;  // by TOML name, "tls.server_name"
  std::map<std::string, Setting> grpc_meta;

  const Setting* find(const std::string& name) const {
    const auto found = settings.find(name);
    return found == settings.end() ? nullptr : &found->second;
  }
};

struct Variable {
  const char* name;
  const char* key;
};

constexpr std::array<Variable, 14> kVariables{{
    {"TEMPORAL_ADDRESS", "address"},
    {"TEMPORAL_NAMESPACE", "namespace"},
    {"TEMPORAL_API_KEY", "api_key"},
    {"TEMPORAL_TLS", "tls.disabled"},  // the inverse
    {"TEMPORAL_TLS_CLIENT_CERT_PATH", "tls.client_cert_path"},
    {"TEMPORAL_TLS_CLIENT_CERT_DATA", "tls.client_cert_data"},
    {"TEMPORAL_TLS_CLIENT_KEY_PATH", "tls.client_key_path"},
    {"TEMPORAL_TLS_CLIENT_KEY_DATA", "tls.client_key_data"},
    {"TEMPORAL_TLS_SERVER_CA_CERT_PATH", "tls.server_ca_cert_path"},
    {"TEMPORAL_TLS_SERVER_CA_CERT_DATA", "tls.server_ca_cert_data"},
    {"TEMPORAL_TLS_SERVER_NAME", "tls.server_name"},
    {"TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "tls.disable_host_verification"},
    {"TEMPORAL_CODEC_ENDPOINT", "codec.endpoint"},
    {"TEMPORAL_CODEC_AUTH", "codec.auth"},
}};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::expected<bool, ClientError> to_bool(const Setting& setting) {
  const std::string text = lower(setting.value);
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return refused(setting.where + ": must be true or false");
}

std::expected<std::string, ClientError> read_text(const std::string& path,
                                                  const std::string& where) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return refused(fmt::format("{}: cannot read {}: {}", where, path, error.message()));
  if (size > kMaxFileBytes) return refused(fmt::format("{}: {} is larger than 1 MiB", where, path));
  std::ifstream file{path, std::ios::binary};
  if (!file) return refused(fmt::format("{}: cannot open {}", where, path));
  return std::string{std::istreambuf_iterator<char>{file}, {}};
}

bool is_known(const std::string& key) {
  return std::ranges::any_of(kVariables,
                             [&](const Variable& variable) { return key == variable.key; });
}

// Reads one table of a profile. `prefix` is "" or "tls." …
std::expected<void, ClientError> read_table(const toml::table& table, const std::string& prefix,
                                            const std::string& where, bool strict,
                                            Profile& profile) {
  for (const auto& [raw_key, node] : table) {
    const std::string key = prefix + std::string{raw_key.str()};
    const std::string here = fmt::format("{}: {}", where, key);
    if (prefix.empty() && (key == "tls" || key == "codec" || key == "grpc_meta")) {
      if (key == "tls" &&
          node.is_boolean()) {  // short for an empty table, or for one that says disabled
        profile.settings["tls.disabled"] = {node.as_boolean()->get() ? "false" : "true", here};
        continue;
      }
      if (!node.is_table()) return refused(here + ": must be a table");
      if (auto read = read_table(*node.as_table(), key + ".", where, strict, profile); !read)
        return read;
      if (key == "tls" && !profile.find("tls.disabled"))
        profile.settings["tls.disabled"] = {"false", here};
      continue;
    }
    const bool is_meta = prefix == "grpc_meta.";
    if (!is_meta && !is_known(key)) {
      if (strict) return refused(here + ": unknown key");
      continue;
    }
    Setting setting{.value = {}, .where = here};
    if (node.is_string()) {
      setting.value = node.as_string()->get();
    } else if (node.is_boolean()) {
      setting.value = node.as_boolean()->get() ? "true" : "false";
    } else {
      return refused(here + ": must be a string or true or false");
    }
    if (is_meta) {
      profile.grpc_meta[lower(std::string{raw_key.str()})] = std::move(setting);
    } else {
      profile.settings[key] = std::move(setting);
    }
  }
  return {};
}

std::expected<toml::table, ClientError> parse(const std::string& path) {
  auto text = read_text(path, "configuration file");
  if (!text) return std::unexpected(std::move(text.error()));
  try {
    return toml::parse(*text, path);
  } catch (const toml::parse_error& error) {
    // Only the place: the parser's text may quote the line, and the line may hold a key.
    return refused(fmt::format("{}: is not TOML (line {})", path, error.source().begin.line));
  }
}

// Finds the profile in the file.
std::expected<Profile, ClientError> read_file(const std::string& path, const std::string& name,
                                              bool must_exist, bool strict) {
  const auto root = parse(path);
  if (!root) return std::unexpected(root.error());
  Profile profile;
  if (strict) {
    for (const auto& [key, node] : *root) {
      if (key.str() != "profile")
        return refused(fmt::format("{}: {}: unknown key", path, key.str()));
    }
  }
  const toml::table* wanted = (*root)["profile"][name].as_table();
  if (!wanted) {
    if (must_exist)
      return refused(fmt::format("{}: profile.{}: there is no such profile", path, name));
    return profile;
  }
  if (auto read =
          read_table(*wanted, "", fmt::format("{}: profile.{}", path, name), strict, profile);
      !read) {
    return std::unexpected(std::move(read.error()));
  }
  return profile;
}

std::expected<void, ClientError> overlay(const ProfileSource& source, Profile& profile) {
  for (const Variable& variable : kVariables) {
    auto value = source.environment(variable.name);
    if (!value || value->empty()) continue;
    Setting setting{std::move(*value), variable.name};
    if (std::string_view{variable.key} == "tls.disabled") {
      const auto on = to_bool(setting);
      if (!on) return std::unexpected(on.error());
      setting.value = *on ? "false" : "true";
    }
    // The environment's path replaces the file's data, and the other way round.
    const std::string key = variable.key;
    if (key.ends_with("_path")) profile.settings.erase(key.substr(0, key.size() - 5) + "_data");
    if (key.ends_with("_data") && !source.environment(std::string{variable.name}.replace(
                                      std::string_view{variable.name}.size() - 4, 4, "PATH"))) {
      profile.settings.erase(key.substr(0, key.size() - 5) + "_path");
    }
    profile.settings[key] = std::move(setting);
  }
  for (const std::string& name : source.environment_names()) {
    if (!name.starts_with(kMetaPrefix)) continue;
    std::string key = lower(name.substr(kMetaPrefix.size()));
    std::ranges::replace(key, '_', '-');
    auto value = source.environment(name);
    if (!value || value->empty()) {
      profile.grpc_meta.erase(key);  // set to nothing: taken away
    } else {
      profile.grpc_meta[key] = {std::move(*value), name};
    }
  }
  return {};
}

// The text of `<name>_data`, or of the file that `<name>_path` names.
std::expected<std::string, ClientError> pem(const Profile& profile, const std::string& name) {
  const Setting* data = profile.find(name + "_data");
  const Setting* path = profile.find(name + "_path");
  if (data && path)
    return refused(fmt::format("{} and {}: only one of the two", path->where, data->where));
  if (path) return read_text(path->value, path->where);
  return data ? data->value : std::string{};
}

std::expected<void, ClientError> fill_tls(const Profile& profile, ConnectionOptions& options) {
  bool any = false;
  for (const auto& [key, setting] : profile.settings) any |= key.starts_with("tls.");
  if (!any) return {};
  if (const Setting* disabled = profile.find("tls.disabled")) {
    const auto off = to_bool(*disabled);
    if (!off) return std::unexpected(off.error());
    options.tls_enabled = !*off;
    if (*off) return {};  // nothing is read that is not used
  }
  TlsOptions tls;
  const std::array<std::pair<const char*, std::string*>, 3> texts{
      {{"tls.client_cert", &tls.client_cert_pem},
       {"tls.client_key", &tls.client_key_pem},
       {"tls.server_ca_cert", &tls.server_ca_pem}}};
  for (const auto& [name, text] : texts) {
    auto read = pem(profile, name);
    if (!read) return std::unexpected(std::move(read.error()));
    *text = std::move(*read);
  }
  if (const Setting* name = profile.find("tls.server_name")) tls.server_name = name->value;
  if (const Setting* skip = profile.find("tls.disable_host_verification")) {
    const auto value = to_bool(*skip);
    if (!value) return std::unexpected(value.error());
    tls.disable_host_verification = *value;
  }
  options.tls = std::move(tls);
  return {};
}

// The codec of a profile is for tools without the keys: it is known, and nothing comes of it.
std::expected<ConnectionOptions, ClientError> to_options(const Profile& profile) {
  ConnectionOptions options;
  if (const Setting* address = profile.find("address")) options.address = address->value;
  if (const Setting* space = profile.find("namespace")) options.namespace_ = space->value;
  if (const Setting* key = profile.find("api_key")) options.api_key = key->value;
  for (const auto& [key, setting] : profile.grpc_meta) options.headers[key] = setting.value;
  if (auto filled = fill_tls(profile, options); !filled)
    return std::unexpected(std::move(filled.error()));
  return options;
}

std::string default_file(const ProfileSource& source) {
  if (auto base = source.environment("XDG_CONFIG_HOME"); base && !base->empty()) {
    return *base + "/temporalio/temporal.toml";
  }
  if (auto home = source.environment("HOME"); home && !home->empty()) {
    return *home + "/.config/temporalio/temporal.toml";
  }
  return {};
}

}  // namespace

std::expected<ConnectionOptions, ClientError> load_connection_options(const ProfileSource& given) {
  ProfileSource source = given;
  if (!source.environment) source.environment = process_variable;
  if (!source.environment_names) source.environment_names = process_variable_names;

  const std::string named =
      source.profile.empty() ? source.environment("TEMPORAL_PROFILE").value_or("") : source.profile;
  Profile profile;
  if (source.read_file) {
    std::string file =
        source.file.empty() ? source.environment("TEMPORAL_CONFIG_FILE").value_or("") : source.file;
    bool exists = true;  // a file that was named must be there
    if (file.empty()) {
      file = default_file(source);
      exists = !file.empty() && std::filesystem::exists(file);
    }
    if (exists) {
      auto read = read_file(file, named.empty() ? "default" : named, !named.empty(), source.strict);
      if (!read) return std::unexpected(std::move(read.error()));
      profile = std::move(*read);
    } else if (!named.empty()) {
      return refused(fmt::format("profile {}: there is no configuration file", named));
    }
  }
  if (auto laid = overlay(source, profile); !laid) return std::unexpected(std::move(laid.error()));
  return to_options(profile);
}

}  // namespace tempora
