/**
 * The end of a loop that still waits for the connector.
 *
 * Thread: the loop's. Ownership: none changes hands.
 */
#pragma once

struct sl_loop;
struct store_connector;

/**
 * Forgets every job of this loop: its operations are not touched and their callbacks do not run any
 * more, so their memory may be freed at once, even while the connector thread still works on a copy
 * of their inputs. To be called before the owners of the operations are destroyed. The loop must not
 * be dispatched any more after store_connector_destroy.
 */
void store_connector_forget(struct store_connector *connector, struct sl_loop *loop);
