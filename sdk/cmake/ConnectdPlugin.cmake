# connectd_plugin(<name> SOURCES <file>... [LINK <library>...])
#
# Builds plugins/lib<name>.so in the build directory, as target <name>_plugin. The plugin exports
# connectd_plugin_v1 and nothing else; an undefined symbol is an error here, not at load.
# Works inside this project and in any other one: include(.../sdk/cmake/ConnectdPlugin.cmake).

function(connectd_plugin name)
  set(sdk ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/..)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_SOURCES)
    message(FATAL_ERROR "connectd_plugin(${name}): SOURCES is missing")
  endif()
  add_library(${name}_plugin MODULE ${ARG_SOURCES})
  target_include_directories(${name}_plugin PRIVATE ${sdk}/include)
  target_compile_features(${name}_plugin PRIVATE cxx_std_20 c_std_99)
  set_target_properties(${name}_plugin PROPERTIES
    PREFIX lib
    OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins
    POSITION_INDEPENDENT_CODE ON
    C_VISIBILITY_PRESET hidden
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    LINK_DEPENDS ${sdk}/connectd-plugin.map)
  target_link_options(${name}_plugin PRIVATE
    -Wl,--version-script=${sdk}/connectd-plugin.map -Wl,-z,defs)
  target_link_libraries(${name}_plugin PRIVATE ${ARG_LINK})
  if(TARGET connectd_flags)  # our own warnings and sanitizers
    target_link_libraries(${name}_plugin PRIVATE connectd_flags)
  endif()
endfunction()
