/* SPDX-License-Identifier: Apache-2.0 */
/** fuzz.h: what a fuzz target gives: libFuzzer calls it, or replay.c with the files of a corpus. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
