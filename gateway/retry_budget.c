/* A budget for asking twice, counted in hundredths. Thread: one; see the header. */
#include "retry_budget.h"

enum { ONE = 100 };

void gw_retry_budget_init(struct gw_retry_budget *budget, unsigned reserve)
{
    *budget = (struct gw_retry_budget){
        .credit = (uint64_t)reserve * ONE,
        /* room to save up for one, and for the fraction of the next */
        .credit_max = (uint64_t)(reserve == 0 ? 1 : reserve) * ONE + ONE - 1,
    };
}

void gw_retry_budget_turn(struct gw_retry_budget *budget, unsigned percent)
{
    budget->allowed = percent > 0;
    budget->credit += percent < ONE ? percent : ONE;
    if (budget->credit > budget->credit_max) {
        budget->credit = budget->credit_max;
    }
}

bool gw_retry_budget_take(struct gw_retry_budget *budget)
{
    if (!budget->allowed || budget->credit < ONE) {
        return false;
    }
    budget->credit -= ONE;
    return true;
}
