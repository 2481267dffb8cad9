/*
 * Entries for the slots of a server's sessions, in pages that are allocated when a slot in them is
 * first used and freed with the table. A page never moves, so a pointer to an entry stays valid.
 *
 * Any thread finds and makes entries, without a lock. If two threads make one page, both use the
 * one that is stored first. A page is stored with release and read with acquire: its entries are
 * seen as zero, or as what was written since. What is in an entry is its user's business.
 *
 * `size` is that of an entry, the same in all calls for a table. A table that is all zero is empty.
 */
#ifndef TWINPORT_CORE_MEMORY_SLOT_PAGES_H
#define TWINPORT_CORE_MEMORY_SLOT_PAGES_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory/memory.h"
#include "twinport/session.h"

#define TP__SLOT_PAGE  1024u /* entries */
#define TP__SLOT_PAGES (TP_MAX_SESSIONS / TP__SLOT_PAGE)

typedef struct tp__slot_pages {
    _Atomic(void *) pages[TP__SLOT_PAGES];
} tp__slot_pages;

static inline void tp__slot_pages_init(tp__slot_pages *table) {
    for (uint32_t page = 0; page < TP__SLOT_PAGES; page++) {
        atomic_init(&table->pages[page], NULL);
    }
}

/* The entry of a slot; NULL: its page has not been made. */
static inline void *tp__slot_find(const tp__slot_pages *table, uint32_t slot, size_t size) {
    assert(slot < TP_MAX_SESSIONS);
    unsigned char *page =
        atomic_load_explicit(&table->pages[slot / TP__SLOT_PAGE], memory_order_acquire);
    return page ? page + slot % TP__SLOT_PAGE * size : NULL;
}

/* The same; makes the page if there is none. NULL: no memory. */
static inline void *tp__slot_make(tp__slot_pages *table, uint32_t slot, size_t size) {
    void *entry = tp__slot_find(table, slot, size);
    void *made = entry ? NULL : tp__allocate_zeroed(TP__SLOT_PAGE, size);
    if (made) {
        void *none = NULL;
        if (!atomic_compare_exchange_strong_explicit(&table->pages[slot / TP__SLOT_PAGE], &none,
                made, memory_order_acq_rel, memory_order_acquire)) {
            tp__free(made);
        }
        entry = tp__slot_find(table, slot, size);
    }
    return entry;
}

/*
 * The first slot from `slot` on whose page has been made; TP_MAX_SESSIONS: none. For a walk:
 *
 *     for (uint32_t slot = 0; (slot = tp__slot_next(table, slot)) < TP_MAX_SESSIONS; slot++)
 */
static inline uint32_t tp__slot_next(const tp__slot_pages *table, uint32_t slot) {
    while (slot < TP_MAX_SESSIONS && !tp__slot_find(table, slot, 0)) {
        slot += TP__SLOT_PAGE - slot % TP__SLOT_PAGE;
    }
    return slot;
}

/* No thread uses the table any more. */
static inline void tp__slot_pages_free(tp__slot_pages *table) {
    for (uint32_t i = 0; i < TP__SLOT_PAGES; i++) {
        tp__free(atomic_load_explicit(&table->pages[i], memory_order_relaxed));
        atomic_init(&table->pages[i], NULL);
    }
}

#endif
