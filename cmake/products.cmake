# SPDX-License-Identifier: Apache-2.0
# What is shipped: the binary. (libweir, weir.pc and the install rules stand here too.)
if(TARGET weir_cli)
    add_executable(weir userspace/cli/main/main.c)
    target_link_libraries(weir PRIVATE weir_cli weir_warnings weir_codegen)
    install(TARGETS weir RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
