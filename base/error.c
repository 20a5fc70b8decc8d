/* The error table of include/sluice/error.h as an array. Thread: any. Ownership: constant data. */
#include "sluice/error.h"

#include <stddef.h>

static const struct sl_error_info rows[] = {
#define SL_ERROR_ROW(name, http, code, retryable, term, text)                                      \
    {#name, http, code, retryable, term, text},
    SL_ERRORS(SL_ERROR_ROW)
#undef SL_ERROR_ROW
};

const struct sl_error_info *sl_error_info(int err)
{
    const int first = SL_E_FIRST_ + 1, count = (int)(sizeof(rows) / sizeof(rows[0]));

    if (err < first || err >= first + count) {
        err = SL_E_INTERNAL;
    }
    return &rows[err - first];
}
