/*
 * The invariants of the log's parts: of the list of noisy call sites, under the log's lock; of a
 * ring, while no thread writes it. Both read everything and change nothing.
 */
#include <string.h>

#include "core/base/invariant.h"
#include "core/log/log_noisy.h"
#include "core/log/recent.h"

const char *tp__log_noisy_check(const tp__log_noisy_list *list) {
    TP__INVARIANT(list->count <= TP__LOG_MAX_NOISY);
    for (size_t i = 0; i < list->count; i++) {
        const tp__log_noisy *entry = &list->entries[i];
        TP__INVARIANT(entry->site != NULL);
        TP__INVARIANT(entry->level < TP_LOG_OFF);
        TP__INVARIANT(memchr(entry->sample, '\0', sizeof entry->sample) != NULL);
        for (size_t k = 0; k < i; k++) {
            TP__INVARIANT(list->entries[k].site != entry->site); /* one entry for each site */
        }
    }
    return NULL;
}

const char *tp__recent_check(const tp__recent *recent) {
    TP__INVARIANT(recent->entries > 0 && (recent->entries & (recent->entries - 1)) == 0);
    TP__INVARIANT(recent->words >= 1 && recent->words <= TP__RECENT_MAX_WORDS);
    uint64_t next = atomic_load_explicit(&recent->next, memory_order_relaxed);
    TP__INVARIANT(atomic_load_explicit(&recent->lost, memory_order_relaxed) <= next);
    for (size_t i = 0; i < recent->entries; i++) {
        uint64_t mark =
            atomic_load_explicit(&recent->cells[i * (recent->words + 1)], memory_order_acquire);
        if (mark != 0) {
            TP__INVARIANT(mark % 2 == 0);                         /* complete */
            TP__INVARIANT((mark / 2 - 1) % recent->entries == i); /* in its cell */
            TP__INVARIANT(mark / 2 <= next);                      /* was put */
        }
    }
    return NULL;
}
