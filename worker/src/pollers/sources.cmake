# Pollers, activities and measurements.
list(APPEND WORKER_SOURCES
  src/activity/activity_context.cpp
  src/activity/activity_registry.cpp
  src/activity/activity_worker.cpp
  src/activity/heartbeat.cpp
  src/activity/local_runner.cpp
  src/metrics/logging.cpp
  src/metrics/metrics.cpp
  src/metrics/metrics_server.cpp
  src/metrics/metrics_transport.cpp
  src/metrics/prometheus.cpp
  src/nexus/links.cpp
  src/nexus/nexus_context.cpp
  src/nexus/nexus_worker.cpp
  src/nexus/token.cpp
  src/nexus/wire.cpp
  src/pollers/history_fetch.cpp
  src/pollers/poll_group.cpp
  src/pollers/resources.cpp
  src/pollers/run_cache.cpp
  src/pollers/slots.cpp
  src/pollers/thread_pool.cpp
  src/pollers/thread_use.cpp
  src/pollers/watchdog.cpp
  src/pollers/worker.cpp
  src/pollers/worker_heartbeat.cpp
  src/pollers/workflow_worker.cpp)
list(APPEND WORKER_PUBLIC fmt::fmt nlohmann_json::nlohmann_json)
list(APPEND WORKER_PRIVATE spdlog::spdlog Threads::Threads)
list(APPEND WORKER_TESTS
  src/activity/activity_worker_test.cpp
  src/activity/heartbeat_test.cpp
  src/activity/local_runner_test.cpp
  src/activity/type_limits_test.cpp
  src/metrics/metrics_server_test.cpp
  src/metrics/prometheus_test.cpp
  src/nexus/wire_test.cpp
  src/pollers/history_fetch_test.cpp
  src/pollers/poll_group_test.cpp
  src/pollers/resources_test.cpp
  src/pollers/run_cache_test.cpp
  src/pollers/slots_test.cpp
  src/pollers/thread_pool_test.cpp
  src/pollers/thread_use_test.cpp
  src/pollers/worker_heartbeat_test.cpp
  src/pollers/workflow_worker_test.cpp)
