# `cmake --install BUILD --component tempora --prefix DIR`: the runtime as a package of its own, for
# find_package(tempora) and the target tempora::tempora. The Temporal API's messages go with it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_compile_features(worker INTERFACE cxx_std_23)
set_target_properties(worker PROPERTIES EXPORT_NAME tempora OUTPUT_NAME tempora)
target_include_directories(worker INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(worker_testing PROPERTIES EXPORT_NAME testing OUTPUT_NAME tempora_testing)
target_include_directories(worker_testing INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS worker worker_testing EXPORT tempora ARCHIVE COMPONENT tempora)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/worker/include/tempora" TYPE INCLUDE COMPONENT tempora)
install(EXPORT tempora NAMESPACE tempora:: FILE tempora-targets.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tempora COMPONENT tempora)

get_target_property(api_library temporal_api IMPORTED_LOCATION)
get_target_property(api_headers temporal_api INTERFACE_INCLUDE_DIRECTORIES)
install(FILES "${api_library}" TYPE LIB COMPONENT tempora)
install(DIRECTORY "${api_headers}/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tempora-api COMPONENT tempora
  FILES_MATCHING PATTERN "*.pb.h")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/tempora-config.cmake.in"
  "${PROJECT_BINARY_DIR}/tempora-config.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tempora
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tempora-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tempora-config.cmake" "${PROJECT_BINARY_DIR}/tempora-config-version.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tempora COMPONENT tempora)
