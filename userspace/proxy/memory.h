/* SPDX-License-Identifier: Apache-2.0 */
/** memory.h: the process's memory against `limits.memory`, looked at on worker 0. */
#ifndef PROXY_MEMORY_H
#define PROXY_MEMORY_H

struct weir_service;

void weir_memory_start(struct weir_service *service);
void weir_memory_stop(struct weir_service *service);

#endif
