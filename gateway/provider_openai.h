/** The `openai` dialect: chat/completions requests and chunks (clients.md section 1.1). */
#pragma once

#include "provider.h"

extern const struct gw_provider gw_provider_openai;
