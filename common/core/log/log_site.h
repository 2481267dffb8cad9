/*
 * The rate limit of the log: TP_LOG_BURST lines per second for each call site.
 */
#ifndef TWINPORT_CORE_LOG_LOG_SITE_H
#define TWINPORT_CORE_LOG_LOG_SITE_H

#include <stdint.h>

#include "twinport/log.h"

typedef enum tp__log_verdict {
    TP__LOG_PASS,           /* within the limit */
    TP__LOG_SUPPRESS_FIRST, /* over the limit: the first such line of this second */
    TP__LOG_SUPPRESS        /* over the limit */
} tp__log_verdict;

/*
 * Counts one line of a site in `*second` (monotonic) and decides about it. If another thread has
 * already counted a later second there, the line counts in that one, and *second is set to it.
 * `suppressed` receives how many lines of an earlier second were suppressed and not yet reported:
 * the caller must report them, no other thread will. It is above 0 only with TP__LOG_PASS. Any
 * thread, lock-free.
 */
tp__log_verdict tp__log_site_check(tp_log_site *site, uint32_t *second, uint32_t *suppressed);

/* Returns how many lines were suppressed in `second`, for the caller to report; 0 if none, or if a
 * later line has taken that number already. Any thread, lock-free. */
uint32_t tp__log_site_take_suppressed(tp_log_site *site, uint32_t second);

#endif
