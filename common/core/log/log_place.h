/*
 * The rate limit of the log: each place in the code has TP_LOG_BURST lines a second.
 */
#ifndef TWINPORT_CORE_LOG_LOG_PLACE_H
#define TWINPORT_CORE_LOG_LOG_PLACE_H

#include <stdint.h>

#include "twinport/log.h"

typedef enum tp__log_verdict {
    TP__LOG_SAY,        /* within the limit */
    TP__LOG_HOLD_FIRST, /* the first line of this second that is held back */
    TP__LOG_HOLD        /* held back */
} tp__log_verdict;

/*
 * Counts one line of a place in `*second` (monotonic) and decides about it. If another thread has
 * seen a later second there already, the line counts in that one and *second says so. `held`
 * receives how many lines of an earlier second were held back and not yet reported: the caller
 * reports them; nobody else will. They come only with TP__LOG_SAY. Any thread, lock-free.
 */
tp__log_verdict tp__log_place_ask(tp_log_place *place, uint32_t *second, uint32_t *held);

/* Takes over the report of what was held back in `second`: how many lines; 0 if none were, or if a
 * later line has taken it over already. Any thread, lock-free. */
uint32_t tp__log_place_settle(tp_log_place *place, uint32_t second);

#endif
