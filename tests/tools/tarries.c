/* SPDX-License-Identifier: Apache-2.0 */
/** tarries.c: weir, but where a keeper tries whether it could become it: that lasts as long as the file $WEIR_TARRIES exists. */
#include "cli/cli.h"
#include "daemon/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOKS_MAX = 6000, LOOK_US = 10 * 1000 }; /* a minute: nothing is left behind */

int main(int argc, char **argv)
{
    const char *file = getenv("WEIR_TARRIES");

    for (int i = 0; file && strcmp(argv[0], WEIR_CALLED_PROBE) == 0 && i < LOOKS_MAX; i++) {
        if (access(file, F_OK) != 0)
            break;
        usleep(LOOK_US);
    }
    return weir_cli_main(argc, argv);
}
