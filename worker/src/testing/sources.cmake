# The testing service, for users' tests and ours: a library of its own, so that a worker in production has none of it.
addrflow_library(NAME worker_testing
  SOURCES
    src/testing/command_events.cpp
    src/testing/service/environment.cpp
    src/testing/service/loop.cpp
    src/testing/service/server.cpp
    src/testing/service/server_activities.cpp
    src/testing/service/server_calls.cpp
    src/testing/service/server_nexus.cpp
    src/testing/service/server_runs.cpp
    src/testing/service/server_tasks.cpp
    src/testing/time_skipping_server.cpp
  PUBLIC worker PRIVATE fmt::fmt Threads::Threads)
# Random schedules, for the testing service here and for the real server in tests/.
if(ADDRFLOW_TESTS)
  add_library(worker_schedules STATIC src/testing/random_schedule.cpp)
  target_include_directories(worker_schedules PUBLIC src)
  target_link_libraries(worker_schedules PUBLIC worker PRIVATE addrflow_flags fmt::fmt)
endif()
addrflow_test(NAME worker_testing_unit
  SOURCES src/testing/service/environment_test.cpp src/testing/service/nexus_environment_test.cpp src/testing/random_schedule_test.cpp
  LIBS worker_testing worker_schedules LABELS fast)
if(TARGET worker_testing_unit)
  add_test(NAME worker_random_schedules COMMAND worker_testing_unit --gtest_filter=RandomSchedules.End*)
  set_tests_properties(worker_random_schedules PROPERTIES LABELS matrix TIMEOUT 1800
    ENVIRONMENT "TEMPORA_SCHEDULES=10000;TEMPORA_FIRST_SEED=1001")
endif()

# What is fuzzed is compiled once more, with the fuzzer's eyes in it; what that needs besides is the worker's.
if(ADDRFLOW_FUZZERS)
  set(fuzzed ${WORKER_SOURCES})
  list(FILTER fuzzed INCLUDE REGEX "src/(converter|engine|history|machines)/|src/testing/replayer|metrics/logging")
  add_library(worker_fuzzed STATIC ${fuzzed})
  target_include_directories(worker_fuzzed PUBLIC include src)
  target_compile_options(worker_fuzzed PRIVATE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  target_link_libraries(worker_fuzzed PUBLIC worker ${WORKER_PUBLIC} PRIVATE addrflow_flags ${WORKER_PRIVATE})
endif()
addrflow_fuzzer(NAME history SOURCES src/testing/history_fuzz.cpp LIBS worker_fuzzed MAX_BYTES 4200)
addrflow_fuzzer(NAME payload SOURCES src/testing/payload_fuzz.cpp LIBS worker_fuzzed MAX_BYTES 4200)
addrflow_fuzzer(NAME json SOURCES src/testing/json_fuzz.cpp LIBS worker_fuzzed
  SEEDS "${PROJECT_SOURCE_DIR}/worker/tests/histories" MAX_BYTES 32768)
