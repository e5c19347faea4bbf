// Replays one exported history again and again, and prints events a second of CPU.
#include <sys/resource.h>
#include <temporal/api/history/v1/message.pb.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <tempora/replayer.hpp>

#include "contract.hpp"

namespace {

using namespace tempora;

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  int repeats = 20;
  int warmup = 3;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--history") path = argv[i + 1];
    if (name == "--repeats") repeats = std::atoi(argv[i + 1]);
    if (name == "--warmup") warmup = std::atoi(argv[i + 1]);
  }
  std::ifstream file{path};
  std::stringstream text;
  text << file.rdbuf();
  const auto history = parse_history(text.str());
  if (!history) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), history.error().c_str());
    return 1;
  }
  WorkflowRegistry registry;
  registry.add(bench::kProvision);
  registry.add(bench::kAddressEntity);
  registry.add(bench::kReplayLoop);
  const Replayer replayer{registry};
  const auto replay = [&](int times) {
    for (int i = 0; i < times; ++i) {
      if (const auto done = replayer.replay(*history); !done) {
        std::fprintf(stderr, "%s\n", done.error().message.c_str());
        std::exit(1);
      }
    }
  };
  replay(warmup);
  const double before = cpu_seconds();
  const auto began = std::chrono::steady_clock::now();
  replay(repeats);
  const double cpu = cpu_seconds() - before;
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;
  std::printf(
      "{\"sdk\":\"tempora\",\"workload\":\"replay\",\"events\":%d,\"repeats\":%d,\"cpu_s\":%.6f,"
      "\"wall_s\":%.6f,\"events_per_cpu_s\":%.0f}\n",
      history->events_size(), repeats, cpu, wall.count(),
      static_cast<double>(history->events_size()) * repeats / cpu);
  return 0;
}
