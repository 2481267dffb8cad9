/*
 * Doubly linked list of the elements of an array, by number instead of by pointer: a link takes 8
 * bytes. Elements are numbered from 1; 0 is none. Lists and links that are all zero are empty and
 * unlinked. The list's owner guards it.
 *
 * The functions find the link of an element through tp__links, which says where the links are in
 * the array:
 *
 *     const tp__links links = {&entries[0].link, sizeof entries[0], entry_count};
 */
#ifndef TWINPORT_CORE_BASE_INDEX_LIST_H
#define TWINPORT_CORE_BASE_INDEX_LIST_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/invariant.h"

typedef struct tp__index_link {
    uint32_t previous;
    uint32_t next;
} tp__index_link;

typedef struct tp__index_list {
    uint32_t first;
    uint32_t last;
    uint32_t count;
} tp__index_list;

typedef struct tp__links {
    tp__index_link *first; /* the link of element 1 */
    size_t stride;         /* bytes from one element's link to the next one's */
    uint32_t count;        /* of elements */
} tp__links;

static inline tp__index_link *tp__link_at(const tp__links *links, uint32_t number) {
    assert(number >= 1 && number <= links->count);
    unsigned char *bytes = (unsigned char *)(void *)links->first;
    return (tp__index_link *)(void *)(bytes + (size_t)(number - 1) * links->stride);
}

static inline void tp__index_list_append(
    tp__index_list *list, const tp__links *links, uint32_t number) {
    tp__index_link *link = tp__link_at(links, number);
    assert((list->first == 0) == (list->count == 0) && list->last != number);
    *link = (tp__index_link){.previous = list->last};
    *(list->last ? &tp__link_at(links, list->last)->next : &list->first) = number;
    list->last = number;
    list->count++;
}

static inline void tp__index_list_remove(
    tp__index_list *list, const tp__links *links, uint32_t number) {
    tp__index_link *link = tp__link_at(links, number);
    uint32_t *before = link->previous ? &tp__link_at(links, link->previous)->next : &list->first;
    uint32_t *after = link->next ? &tp__link_at(links, link->next)->previous : &list->last;
    assert(list->count > 0 && *before == number && *after == number);
    *before = link->next;
    *after = link->previous;
    *link = (tp__index_link){0};
    list->count--;
}

/* Both directions, the ends and the count agree. Returns the first condition that is false, or
 * NULL. */
static inline const char *tp__index_list_check(const tp__index_list *list, const tp__links *links) {
    uint32_t count = 0;
    uint32_t last = 0;
    for (uint32_t at = list->first; at != 0; at = tp__link_at(links, at)->next) {
        TP__INVARIANT(at <= links->count);
        TP__INVARIANT(tp__link_at(links, at)->previous == last);
        TP__INVARIANT(count < list->count);
        last = at;
        count++;
    }
    TP__INVARIANT(list->last == last);
    TP__INVARIANT(list->count == count);
    return NULL;
}

#endif
