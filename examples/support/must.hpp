// What the examples do with an error: say it and end.
#pragma once

#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <tempora/client.hpp>
#include <tempora/profile.hpp>
#include <utility>

namespace examples {

template <class T>
T must(tempora::Outcome<T> outcome) {
  if (!outcome) {
    std::fprintf(stderr, "error: %s\n", outcome.error().message.c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return *std::move(outcome);
}

// The server that TEMPORAL_ADDRESS or a profile of temporal.toml names, else localhost:7233.
inline tempora::Client connect() {
  return must(tempora::Client::connect(must(tempora::load_connection_options())));
}

// A workflow id that no earlier run of the example has used.
inline std::string new_id(const std::string& prefix) {
  return prefix + "-" + std::to_string(getpid()) + "-" +
         std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
}

}  // namespace examples
