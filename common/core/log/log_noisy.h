/*
 * The places of the log that had lines held back and whose count is still to be reported.
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
    tp_log_place *place;
    uint32_t second; /* in which its lines were held back */
    tp_log_level level;
    char sample[TP__LOG_SAMPLE]; /* the text of the first of them */
} tp__log_noisy;

/* All zero is empty. Not safe for threads: the log's lock guards it. A place is in it once. */
typedef struct tp__log_noisy_list {
    size_t count;
    tp__log_noisy entries[TP__LOG_MAX_NOISY];
} tp__log_noisy_list;

/* Adds a place, or renews its entry. Without room nothing happens: the place's own next line
 * reports the count then. */
void tp__log_noisy_add(tp__log_noisy_list *list, tp_log_place *place, uint32_t second,
    tp_log_level level, const tp__log_line *first);

/* Removes the entry of `place` and hands it over; false if there is none. */
bool tp__log_noisy_take(tp__log_noisy_list *list, const tp_log_place *place, tp__log_noisy *entry);

/* Removes an entry of a second before `second` and hands it over; false if there is none. */
bool tp__log_noisy_take_before(tp__log_noisy_list *list, uint32_t second, tp__log_noisy *entry);

/* Is there one? */
bool tp__log_noisy_has_before(const tp__log_noisy_list *list, uint32_t second);

#endif
