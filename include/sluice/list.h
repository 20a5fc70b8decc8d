/**
 * Doubly linked lists whose links are embedded in what is listed.
 *
 * A list is a ring: the head is a link too, so nothing is special at either end. A zeroed link is in no
 * list; a head must be initialised. Thread: one at a time. Ownership: none, the links are their owners'.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sl_link {
    struct sl_link *next, *prev; /* NULL: in no list */
};

/** Makes an empty list. */
static inline void sl_list_init(struct sl_link *head)
{
    head->next = head->prev = head;
}

static inline bool sl_list_is_empty(const struct sl_link *head)
{
    return head->next == head;
}

static inline bool sl_link_is_listed(const struct sl_link *link)
{
    return link->next != NULL;
}

/** Adds a link that is in no list at the end of one. */
static inline void sl_list_append(struct sl_link *head, struct sl_link *link)
{
    link->next = head;
    link->prev = head->prev;
    head->prev->next = link;
    head->prev = link;
}

/** Takes a link out of its list. Idempotent. */
static inline void sl_link_remove(struct sl_link *link)
{
    if (!sl_link_is_listed(link)) {
        return;
    }
    link->next->prev = link->prev;
    link->prev->next = link->next;
    link->next = link->prev = NULL;
}

/** The first link of a list, or NULL. */
static inline struct sl_link *sl_list_first(const struct sl_link *head)
{
    return sl_list_is_empty(head) ? NULL : head->next;
}

/** Walks a list; the link at hand may be taken out on the way. */
#define SL_LIST_EACH(head, link, after)                                                            \
    for (struct sl_link *link = (head)->next, *after = link->next; link != (head);                 \
         link = after, after = link->next)
