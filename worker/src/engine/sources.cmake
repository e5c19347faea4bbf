list(APPEND WORKER_SOURCES
  src/converter/failure.cpp
  src/converter/payload.cpp
  src/converter/search_attributes.cpp
  src/engine/commands.cpp
  src/engine/context.cpp
  src/engine/coroutines.cpp
  src/engine/memory.cpp
  src/engine/run.cpp
  src/engine/run_state.cpp
  src/engine/scheduler.cpp
  src/history/chunks.cpp
  src/machines/activity.cpp
  src/machines/child.cpp
  src/machines/external.cpp
  src/machines/local_activity.cpp
  src/machines/machine.cpp
  src/machines/marker.cpp
  src/machines/nexus.cpp
  src/machines/timer.cpp
  src/machines/update.cpp
  src/testing/replayer.cpp)
list(APPEND WORKER_PUBLIC fmt::fmt nlohmann_json::nlohmann_json)
list(APPEND WORKER_TESTS
  src/converter/converter_test.cpp
  src/engine/child_test.cpp
  src/engine/late_signal_test.cpp
  src/engine/local_activity_test.cpp
  src/engine/memory_test.cpp
  src/engine/misuse_test.cpp
  src/engine/nexus_test.cpp
  src/engine/patch_test.cpp
  src/engine/positions_test.cpp
  src/engine/run_test.cpp
  src/engine/sdk_flags_test.cpp
  src/engine/side_effect_test.cpp
  src/engine/sizes_test.cpp
  src/testing/replayer_test.cpp)
