/* SPDX-License-Identifier: Apache-2.0 */
#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

void weir_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "weir: bug: %s:%d: assertion failed: %s\n", file, line, what);
    abort();
}
