/*
 * The most recent entries of something, in a ring of fixed memory: what the trace and the ledger
 * stand on. Writers never wait, for each other or for readers; readers leave out what is being
 * overwritten while they look.
 */
#ifndef TWINPORT_CORE_LOG_RECENT_H
#define TWINPORT_CORE_LOG_RECENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/compiler.h"

/* Its inside is for recent.c and its test alone. */
typedef struct tp__recent {
    size_t entries;
    size_t words;
    /* Written by every put: apart from what is only read. */
    char apart_before[TP_CACHE_LINE];
    _Atomic uint64_t next;
    _Atomic uint64_t lost;
    char apart_after[TP_CACHE_LINE];
    _Atomic uint64_t cells[]; /* entries x (mark, words) */
} tp__recent;

#define TP__RECENT_MAX_WORDS 32

/* A ring of `entries` (a power of two) of `words` 64-bit numbers each (1..TP__RECENT_MAX_WORDS).
 * NULL if there is no memory. The caller's, until tp__recent_destroy(); NULL is allowed there. No
 * thread may use the ring when it is destroyed. */
tp__recent *tp__recent_create(size_t entries, size_t words);
void tp__recent_destroy(tp__recent *recent);

/* Puts one entry in place of the oldest. Any thread, lock-free. */
void tp__recent_put(tp__recent *recent, const uint64_t *words);

/* How many entries have been put so far. They are numbered from 0; the ring still holds the last
 * ones, save those that are being written. Any thread. */
uint64_t tp__recent_count(const tp__recent *recent);

/* Copies entry `number`. False if it is not (or no longer) there whole. Any thread, lock-free. */
bool tp__recent_read(const tp__recent *recent, uint64_t number, uint64_t *words);

/* Entries lost because their writer was overtaken by a whole round of the ring. Any thread. */
uint64_t tp__recent_lost(const tp__recent *recent);

#endif
