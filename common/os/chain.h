/*
 * Reversal of a singly linked chain. A stack that several threads push to and one thread takes as a
 * whole yields the newest node first; reversed, the nodes are in the order of arrival.
 */
#ifndef TWINPORT_OS_CHAIN_H
#define TWINPORT_OS_CHAIN_H

#include <stddef.h>
#include <string.h>

/* Reverses the chain that begins at `first`, in place, and returns its new first node. `link`: the
 * offset of the nodes' pointer to the next node, offsetof(node, next). The chain ends with NULL,
 * and its nodes belong to the calling thread. */
static inline void *tp__chain_reverse(void *first, size_t link) {
    void *reversed = NULL;
    while (first) {
        void *next;
        memcpy(&next, (char *)first + link, sizeof next);
        memcpy((char *)first + link, &reversed, sizeof reversed);
        reversed = first;
        first = next;
    }
    return reversed;
}

#endif
