/* SPDX-License-Identifier: Apache-2.0 */
/** weir.h: all of libweir. */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include "weir/balance.h"
#include "weir/builtin.h"
#include "weir/conf.h"
#include "weir/error.h"
#include "weir/filter.h"
#include "weir/limits.h"
#include "weir/log.h"
#include "weir/message.h"
#include "weir/plugin.h"
#include "weir/request.h"
#include "weir/server.h"
#include "weir/types.h"

WEIR_BEGIN

#define WEIR_VERSION "0.1.0"

/** The version of the library that runs. Static. */
WEIR_API const char *weir_version(void);

WEIR_END
#endif
