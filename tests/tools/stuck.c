/* SPDX-License-Identifier: Apache-2.0 */
/** stuck.c: a binary that starts and does nothing: an upgrade to it has to end. */
#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
