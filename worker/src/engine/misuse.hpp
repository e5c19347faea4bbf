// What workflow code must not do and did. It is noted for the thread on which the code runs, so
// that a `catch` of the workflow's own does not undo it.
#pragma once

#include <string>

namespace tempora::engine {

class Misuse {
 public:
  // Throws a `WorkflowMisuse`.
  [[noreturn]] static void raise(const std::string& why);
  // Throws what was noted, once; returns if nothing was.
  static void rethrow();
  static void forget();
};

}  // namespace tempora::engine
