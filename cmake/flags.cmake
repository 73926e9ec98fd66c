# SPDX-License-Identifier: Apache-2.0
# Two interface targets: what the compiler says (our code only) and how it generates code (also llhttp).
add_library(weir_warnings INTERFACE)
target_compile_options(weir_warnings INTERFACE -Wall -Wextra -Wshadow -Wvla -Wpointer-arith -Wstrict-prototypes
    -Wmissing-prototypes -Wwrite-strings -Wno-unused-parameter -Wno-missing-field-initializers
    $<$<BOOL:${WEIR_WERROR}>:-Werror>)
add_library(weir_codegen INTERFACE)
target_compile_definitions(weir_codegen INTERFACE _GNU_SOURCE)
target_compile_options(weir_codegen INTERFACE -fno-strict-aliasing -fvisibility=hidden)
if(WEIR_SANITIZE)
    target_compile_options(weir_codegen INTERFACE -fsanitize=${WEIR_SANITIZE} -fno-omit-frame-pointer -g)
    target_link_options(weir_codegen INTERFACE -fsanitize=${WEIR_SANITIZE})
    if(WEIR_SANITIZE MATCHES "undefined")
        target_compile_options(weir_codegen INTERFACE -fno-sanitize-recover=undefined)
    endif()
endif()
if(WEIR_FUZZ)
    target_compile_options(weir_codegen INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(WEIR_COV)
    target_compile_options(weir_codegen INTERFACE -fprofile-instr-generate -fcoverage-mapping)
    target_link_options(weir_codegen INTERFACE -fprofile-instr-generate)
endif()
if(WEIR_HARDEN)
    target_compile_options(weir_codegen INTERFACE -flto=auto -ffat-lto-objects -fstack-protector-strong
        -fstack-clash-protection -fcf-protection=full)
    target_compile_definitions(weir_codegen INTERFACE $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
    target_link_options(weir_codegen INTERFACE -flto=auto -Wl,-z,relro,-z,now,-z,noexecstack)
endif()
# PUBLIC rooms hand these on to what links them, so that an executable links the sanitizer as well.
link_libraries($<$<BOOL:${WEIR_SANITIZE}>:-fsanitize=${WEIR_SANITIZE}>)
