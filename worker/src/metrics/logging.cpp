#include <spdlog/spdlog.h>

#include <iterator>
#include <tempora/logging.hpp>

namespace tempora {

namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace: return spdlog::level::trace;
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

class SpdlogSink : public LogSink {
 public:
  bool enabled(LogLevel level) const override { return spdlog::should_log(level_of(level)); }

  void write(LogLevel level, std::string_view message, std::span<const LogField> fields) override {
    fmt::memory_buffer line;
    line.append(message);
    for (const LogField& field : fields) {
      fmt::format_to(std::back_inserter(line), " {}={}", field.key, field.value);
    }
    spdlog::log(level_of(level), spdlog::string_view_t{line.data(), line.size()});
  }
};

}  // namespace

std::shared_ptr<LogSink> spdlog_sink() {
  static const std::shared_ptr<LogSink> sink = std::make_shared<SpdlogSink>();
  return sink;
}

}  // namespace tempora
