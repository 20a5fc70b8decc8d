/**
 * Gives h2o's own error replies (413 for a body that is too large, 400 for broken chunks, …) the one
 * error shape of this API.
 *
 * Thread: the worker's. Register it on every path configuration, the fallback one included.
 */
#pragma once

#include <h2o.h>

void gw_error_filter_register(h2o_pathconf_t *pathconf);
