/* SPDX-License-Identifier: Apache-2.0 */
/** version_next.c: takes the place of base/version.c in weir_next, the binary that upgrades are tested with. */
#include "weir/weir.h"

const char *weir_version(void)
{
    return WEIR_VERSION "+next";
}
