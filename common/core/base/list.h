/*
 * Doubly linked list through links in its elements. A link is in one list at a time; an element may
 * have several links. TP_CONTAINER_OF leads from a link to its element. Lists and links that are
 * all zero are empty and unlinked. The list's owner guards it.
 *
 *     count = the links from `first` on by `next` = those from `last` on by `previous`
 */
#ifndef TWINPORT_CORE_BASE_LIST_H
#define TWINPORT_CORE_BASE_LIST_H

#include <assert.h>

#include "core/base/invariant.h"

typedef struct tp__link {
    struct tp__link *previous;
    struct tp__link *next;
} tp__link;

typedef struct tp__list {
    tp__link *first;
    tp__link *last;
    unsigned count;
} tp__list;

static inline void tp__list_append(tp__list *list, tp__link *link) {
    assert(!link->previous && !link->next && list->first != link);
    assert((list->first == NULL) == (list->count == 0));
    link->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = link;
    list->last = link;
    list->count++;
}

static inline void tp__list_prepend(tp__list *list, tp__link *link) {
    assert(!link->previous && !link->next && list->first != link);
    assert((list->first == NULL) == (list->count == 0));
    link->next = list->first;
    *(list->first ? &list->first->previous : &list->last) = link;
    list->first = link;
    list->count++;
}

static inline void tp__list_remove(tp__list *list, tp__link *link) {
    assert(list->count > 0);
    assert((link->previous ? link->previous->next : list->first) == link);
    assert((link->next ? link->next->previous : list->last) == link);
    *(link->previous ? &link->previous->next : &list->first) = link->next;
    *(link->next ? &link->next->previous : &list->last) = link->previous;
    link->previous = NULL;
    link->next = NULL;
    list->count--;
}

/* Both directions, the ends and the count agree. Returns the first condition that is false, or
 * NULL. */
static inline const char *tp__list_check(const tp__list *list) {
    unsigned count = 0;
    const tp__link *last = NULL;
    for (const tp__link *it = list->first; it; it = it->next) {
        TP__INVARIANT(it->previous == last);
        TP__INVARIANT(count < list->count);
        last = it;
        count++;
    }
    TP__INVARIANT(list->last == last);
    TP__INVARIANT(list->count == count);
    return NULL;
}

#endif
