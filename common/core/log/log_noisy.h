/*
 * The list of noisy call sites: those with suppressed lines whose number has not been logged yet.
 * Under the log's lock.
 */
#ifndef TWINPORT_CORE_LOG_LOG_NOISY_H
#define TWINPORT_CORE_LOG_LOG_NOISY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/log/log_line.h"

#define TP__LOG_MAX_NOISY 64
#define TP__LOG_SAMPLE    200

typedef struct tp__log_noisy {
    tp_log_site *site;
    uint32_t second; /* in which its lines were suppressed */
    tp_log_level level;
    char sample[TP__LOG_SAMPLE]; /* the text of the first of them */
} tp__log_noisy;

/* All zero is an empty list. It has at most one entry for each site. */
typedef struct tp__log_noisy_list {
    size_t count;
    tp__log_noisy entries[TP__LOG_MAX_NOISY];
} tp__log_noisy_list;

/* Adds a site, or replaces its entry. If the list is full nothing happens: then the number is
 * logged before the site's own next line. */
void tp__log_noisy_add(tp__log_noisy_list *list, tp_log_site *site, uint32_t second,
    tp_log_level level, const tp__log_line *first);

/* Removes the entry of `site` and copies it to `entry`; false if there is none. */
bool tp__log_noisy_take(tp__log_noisy_list *list, const tp_log_site *site, tp__log_noisy *entry);

/* Removes an entry of a second before `second` and copies it to `entry`; false if there is none. */
bool tp__log_noisy_take_before(tp__log_noisy_list *list, uint32_t second, tp__log_noisy *entry);

/* True if there is an entry of a second before `second`. */
bool tp__log_noisy_has_before(const tp__log_noisy_list *list, uint32_t second);

/* The first broken invariant of the list, or NULL (log_check.c). */
const char *tp__log_noisy_check(const tp__log_noisy_list *list);

#endif
