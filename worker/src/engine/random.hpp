// Deterministic random numbers: one named stream a consumer, so that a new consumer shifts nobody
// else's numbers. Frozen: FNV-1a (64 bit) over "<seed text>/<stream name>", then SplitMix64. See
// docs/runtime-determinism.md.
#pragma once

#include <cstdint>
#include <string_view>

namespace tempora::engine {

class RandomStream {
 public:
  RandomStream() = default;
  RandomStream(std::string_view seed, std::string_view name) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    const auto mix = [&hash](std::string_view text) {
      for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    };
    mix(seed);
    mix("/");
    mix(name);
    state_ = hash;
  }

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace tempora::engine
