// Structured logging of the runtime: a value `Logger` that carries fields, and
// the sink where the lines go. The fields have the names that every Temporal
// SDK uses (`WorkflowID`, `RunID`, `ActivityType`, …), so that one search finds
// them all.
#pragma once

#include <fmt/core.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tempora {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError };

struct LogField {
  std::string key;
  std::string value;
};

// Where log lines go. Implementations are called from many threads at once.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual bool enabled(LogLevel level) const = 0;
  virtual void write(LogLevel level, std::string_view message,
                     std::span<const LogField> fields) = 0;
};

// The sink that is used unless another one is given: spdlog's default logger,
// fields appended as `key=value`.
std::shared_ptr<LogSink> spdlog_sink();

// A cheap value. A default-constructed logger writes nothing (a replaying
// workflow logs to one).
class Logger {
 public:
  Logger() = default;
  explicit Logger(std::shared_ptr<LogSink> sink, std::vector<LogField> fields = {})
      : sink_(std::move(sink)), fields_(std::move(fields)) {}

  // The logger of `spdlog_sink()` without fields.
  static Logger standard() { return Logger{spdlog_sink()}; }

  bool enabled(LogLevel level) const { return sink_ != nullptr && sink_->enabled(level); }
  const std::shared_ptr<LogSink>& sink() const { return sink_; }
  std::span<const LogField> fields() const { return fields_; }

  // The same logger with more fields; what is already there stays.
  Logger with(std::string key, std::string value) const& {
    Logger copy = *this;
    copy.fields_.push_back({std::move(key), std::move(value)});
    return copy;
  }
  Logger with(std::string key, std::string value) && {
    fields_.push_back({std::move(key), std::move(value)});
    return std::move(*this);
  }

  template <class... A>
  void trace(fmt::format_string<A...> text, A&&... arguments) const {
    log(LogLevel::kTrace, text, std::forward<A>(arguments)...);
  }
  template <class... A>
  void debug(fmt::format_string<A...> text, A&&... arguments) const {
    log(LogLevel::kDebug, text, std::forward<A>(arguments)...);
  }
  template <class... A>
  void info(fmt::format_string<A...> text, A&&... arguments) const {
    log(LogLevel::kInfo, text, std::forward<A>(arguments)...);
  }
  template <class... A>
  void warn(fmt::format_string<A...> text, A&&... arguments) const {
    log(LogLevel::kWarn, text, std::forward<A>(arguments)...);
  }
  template <class... A>
  void error(fmt::format_string<A...> text, A&&... arguments) const {
    log(LogLevel::kError, text, std::forward<A>(arguments)...);
  }

  // A line whose text is ready; `text` is not a format string.
  void write(LogLevel level, std::string_view text) const {
    if (enabled(level)) sink_->write(level, text, fields_);
  }

 private:
  template <class... A>
  void log(LogLevel level, fmt::format_string<A...> text, A&&... arguments) const {
    if (enabled(level))
      sink_->write(level, fmt::vformat(text, fmt::make_format_args(arguments...)), fields_);
  }

  std::shared_ptr<LogSink> sink_;
  std::vector<LogField> fields_;
};

}  // namespace tempora
