/* Something done on another loop, and its way back. See errand.h. */
#include "errand.h"

#include "sluice/op.h"
#include "turns.h"

static void arrive(struct sl_message *message);
static void come_back(struct sl_message *message);

void gw_errand_send(struct gw_errand *errand, struct gw_turns *from, struct gw_turns *to)
{
    errand->from = from;
    errand->to = to;
    gw_turns_go_away(from);
    errand->message.receive = arrive;
    if (from == to) {
        arrive(&errand->message);
    } else {
        sl_loop_post(to->loop, &errand->message);
    }
}

static void arrive(struct sl_message *message)
{
    struct gw_errand *errand = SL_CONTAINER_OF(message, struct gw_errand, message);

    errand->run(errand);
    errand->message.receive = come_back;
    sl_loop_post(errand->from->loop, &errand->message);
}

static void come_back(struct sl_message *message)
{
    struct gw_errand *errand = SL_CONTAINER_OF(message, struct gw_errand, message);
    struct gw_turns *from = errand->from;

    errand->back(errand);
    gw_turns_come_back(from);
}
