/*
 * A ring of fixed size with the most recent entries, for the trace and the ledger. Writers never
 * wait, neither for each other nor for readers; readers leave out entries that are being
 * overwritten.
 */
#ifndef TWINPORT_CORE_LOG_RECENT_H
#define TWINPORT_CORE_LOG_RECENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/compiler.h"

/* The fields are accessed only by recent.c, its check and their tests. */
typedef struct tp__recent {
    size_t entries;
    size_t words;
    /* Written by every put, so on cache lines of their own. */
    char apart_before[TP_CACHE_LINE];
    _Atomic uint64_t next;
    _Atomic uint64_t lost;
    char apart_after[TP_CACHE_LINE];
    _Atomic uint64_t cells[]; /* entries x (mark, words) */
} tp__recent;

#define TP__RECENT_MAX_WORDS 32

/* A ring of `entries` (a power of two) of `words` 64-bit numbers each (1..TP__RECENT_MAX_WORDS).
 * NULL if memory is out. The caller owns it until tp__recent_destroy(), which ignores NULL. No
 * thread may use the ring when it is destroyed. */
tp__recent *tp__recent_create(size_t entries, size_t words);
void tp__recent_destroy(tp__recent *recent);

/* Writes one entry over the oldest one. Any thread, lock-free. */
void tp__recent_put(tp__recent *recent, const uint64_t *words);

/* The number of entries put so far. They are numbered from 0; the ring still has the last ones,
 * except those that are being written. Any thread. */
uint64_t tp__recent_count(const tp__recent *recent);

/* Copies entry `number`. False if the ring does not have it, or not completely. Any thread,
 * lock-free. */
bool tp__recent_read(const tp__recent *recent, uint64_t number, uint64_t *words);

/* Entries lost because two writers met in one cell, a whole round of the ring apart. Any thread. */
uint64_t tp__recent_lost(const tp__recent *recent);

/* The first broken invariant of a ring, or NULL (log_check.c): every entry is complete, in its cell
 * and among those put. While no thread puts. */
const char *tp__recent_check(const tp__recent *recent);

#endif
