/** The `anthropic` dialect: requests and events of the Messages API (clients.md section 2). */
#pragma once

#include "provider.h"

extern const struct gw_provider gw_provider_anthropic;
