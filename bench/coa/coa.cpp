// CoA requests signed, sent, answered and matched: our client beside `radclient -p 128`, in one
// run, before the same responder on loopback. Then a thousand NAS with a window of 64 each, and
// nothing may be lost. Prints ratios; nothing is asserted but the count of answers. Ends by itself
// within a minute or so.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <addrflow/radius/client.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <string>

#include "storm_nas.hpp"

namespace {

using namespace addrflow::radius;
using Seconds = std::chrono::duration<double>;

constexpr const char* kSecret = "a-secret-of-the-bench";
constexpr int kRequests = 5'000;  // radclient's best case: it walks its whole list
constexpr int kRounds = 5;
constexpr int kNas = 1'000;
constexpr int kStorm = 100'000;

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}
struct Cpu {
  double all_s = 0;
  double kernel_s = 0;
};
Cpu cpu_of(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return {.all_s = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime),
          .kernel_s = seconds_of(usage.ru_stime)};
}
Cpu cpu_since(int who, const Cpu& before) {
  const Cpu now = cpu_of(who);
  return {.all_s = now.all_s - before.all_s, .kernel_s = now.kernel_s - before.kernel_s};
}

struct Figures {
  int answered = 0;
  int asked = 0;
  double wall_s = 0;
  Cpu cpu;

  double cpu_us() const { return cpu.all_s * 1e6 / asked; }
  double kernel_us() const { return cpu.kernel_s * 1e6 / asked; }
  double rate() const { return asked / wall_s; }
};

void print(const char* who, const Figures& f) {
  fmt::print(
      "{:34} {:7} of {:7} answered  {:8.0f}/s  {:6.2f} us CPU a request, {:5.2f} of it in the "
      "kernel\n",
      who, f.answered, f.asked, f.rate(), f.cpu_us(), f.kernel_us());
}

// A process of its own, so that its CPU is nobody else's.
pid_t start_responder(StormNas& nas) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "nas");  // a profile tells them apart
  while (true) {
    for (const auto& datagram : nas.receive(1'000)) nas.acknowledge(datagram);
  }
}

std::vector<Attribute> attributes(int i) {
  return {{0, attribute::kAcctSessionId, fmt::format("8100{:06}", i)},
          {0, attribute::kUserName, fmt::format("subscriber-{:06}@example.net", i)},
          {0, 4, std::string{"\x7f\x00\x00\x01", 4}},
          {0, 8, std::string{"\xcb\x00\x71\x07", 4}},
          {14988, 8, "20M/100M"}};
}

Figures ours(std::uint16_t port, int nas_count, int requests, std::size_t window) {
  ClientSettings settings;
  settings.window = window;
  settings.rate = 1e9;
  settings.burst = 1e9;
  settings.max_queued = 1'000'000;
  settings.max_queued_per_nas = 1'000'000;
  Client client{settings};
  std::atomic<int> acks = 0;
  std::atomic<int> left = requests;
  std::promise<void> all;
  const Cpu cpu = cpu_of(RUSAGE_SELF);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < requests; ++i) {
    Request request;
    request.host = StormNas::host(i % nas_count);
    request.port = port;
    request.secret = kSecret;
    request.attributes = attributes(i);
    request.session = request.attributes[0].value;
    client.submit(std::move(request), [&](const Outcome& outcome) {
      acks += outcome.kind == Outcome::Kind::kAck;
      if (--left == 0) all.set_value();
    });
  }
  all.get_future().wait();
  const Seconds wall = std::chrono::steady_clock::now() - begin;
  return {acks, requests, wall.count(), cpu_since(RUSAGE_SELF, cpu)};
}

Figures radclient(std::uint16_t port, const std::string& file) {
  const std::string target = fmt::format("{}:{}", StormNas::host(0), port);
  const Cpu cpu = cpu_of(RUSAGE_CHILDREN);
  const auto begin = std::chrono::steady_clock::now();
  int pipe[2];
  if (::pipe(pipe) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe[1], STDOUT_FILENO);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    ::close(pipe[0]);
    ::execlp("radclient", "radclient", "-s", "-q", "-p", "128", "-f", file.c_str(), target.c_str(),
             "coa", kSecret, nullptr);
    ::_exit(127);
  }
  ::close(pipe[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::read(pipe[0], buffer, sizeof buffer)) > 0;) {
    said.append(buffer, static_cast<std::size_t>(size));
  }
  ::close(pipe[0]);
  ::waitpid(child, nullptr, 0);
  const Seconds wall = std::chrono::steady_clock::now() - begin;
  const auto accepted = said.find("Accepted");
  const auto digits =
      accepted == std::string::npos ? accepted : said.find_first_of("0123456789", accepted);
  const int answered = digits == std::string::npos ? 0 : std::atoi(said.c_str() + digits);
  return {answered, kRequests, wall.count(), cpu_since(RUSAGE_CHILDREN, cpu)};
}

// The round with the least CPU: what else runs on the machine only adds.
void keep_best(Figures& best, const Figures& now) {
  if (best.asked == 0 || now.cpu.all_s < best.cpu.all_s) best = now;
}

}  // namespace

int main() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8'192);
  ::setrlimit(RLIMIT_NOFILE, &files);

  StormNas nas{kSecret};
  const pid_t responder = start_responder(nas);
  const std::string file = fmt::format("/tmp/bench-coa-{}.txt", ::getpid());
  {
    std::ofstream list{file};
    for (int i = 0; i < kRequests; ++i) {
      list << fmt::format(
          "Acct-Session-Id = \"8100{0:06}\"\nUser-Name = \"subscriber-{0:06}@example.net\"\n"
          "NAS-IP-Address = 127.0.0.1\nFramed-IP-Address = 203.0.113.7\n"
          "Mikrotik-Rate-Limit = \"20M/100M\"\nEvent-Timestamp = \"{1}\"\n"
          "Message-Authenticator = 0x00\n\n",
          i, std::time(nullptr));
    }
  }
  Figures best_ours;
  Figures best_many;
  Figures best_theirs;
  for (int round = 0; round < kRounds; ++round) {
    keep_best(best_ours, ours(nas.port(), 1, kRequests, 64));
    keep_best(best_many, ours(nas.port(), 8, kRequests * 8, 16));
    keep_best(best_theirs, radclient(nas.port(), file));
  }
  const Figures storm = ours(nas.port(), kNas, kStorm, 64);
  ::unlink(file.c_str());
  ::kill(responder, SIGKILL);
  ::waitpid(responder, nullptr, 0);

  print("radclient -p 128", best_theirs);
  print("addrflow, one NAS, window 64", best_ours);
  print("addrflow, 8 NAS, 128 outstanding", best_many);
  print("addrflow, 1,000 NAS, window 64", storm);
  const double least = std::min(best_ours.cpu_us(), best_many.cpu_us());
  fmt::print(
      "CPU a request, radclient / addrflow: {:.1f}   requests/s, addrflow / radclient: {:.1f}\n",
      best_theirs.cpu_us() / least,
      std::max(best_ours.rate(), best_many.rate()) / best_theirs.rate());
  fmt::print("bar of 5 us a request: {}   nothing lost before 1,000 NAS: {}\n",
             least <= 5 ? "met" : "missed", storm.answered == storm.asked ? "met" : "missed");
  return storm.answered == storm.asked ? 0 : 1;
}
