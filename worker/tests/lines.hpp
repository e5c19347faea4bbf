// A log sink that keeps its lines, for tests of what is told and what is not.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <tempora/logging.hpp>

namespace tempora::behaviour {

class Lines final : public LogSink {
 public:
  explicit Lines(LogLevel least = LogLevel::kWarn) : least_(least) {}

  bool enabled(LogLevel level) const override { return level >= least_; }
  void write(LogLevel level, std::string_view message, std::span<const LogField> fields) override {
    const std::lock_guard lock{mutex_};
    if (level >= LogLevel::kWarn) text_ += "warning: ";
    text_ += message;
    for (const LogField& field : fields) text_ += " " + field.key + "=" + field.value;
    text_ += "\n";
  }
  std::string text() const {
    const std::lock_guard lock{mutex_};
    return text_;
  }
  bool tell(std::string_view what) const { return times(what) > 0; }
  int times(std::string_view what) const {
    const std::string all = text();
    int found = 0;
    for (auto at = all.find(what); at != std::string::npos; at = all.find(what, at + 1)) ++found;
    return found;
  }

 private:
  const LogLevel least_;
  mutable std::mutex mutex_;
  std::string text_;
};

}  // namespace tempora::behaviour
