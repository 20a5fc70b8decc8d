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
    int index = err - (SL_E_FIRST_ + 1);

    if (index < 0 || (size_t)index >= sizeof(rows) / sizeof(rows[0])) {
        index = SL_E_INTERNAL - (SL_E_FIRST_ + 1);
    }
    return &rows[index];
}
