/*
 * Memory that was needed and is not any more goes back to the system by itself.
 *
 * Twice a second the workers of any server of the process look: each gives the magazines it has not
 * used since its last look to the pools, and one of them gives back what has lain in the pools and
 * on the shelves all the time since the last look. So what half a second's work needs stays where
 * it is, and no call of the allocator's comes of it; what a burst needed is gone about a second
 * after it.
 */
#ifndef TWINPORT_CORE_SERVER_TRIM_H
#define TWINPORT_CORE_SERVER_TRIM_H

#include <stddef.h>
#include <stdint.h>

struct tp__worker;

/* Time has passed on this worker: its loop calls it in each round, and at least three times a
 * second. */
void tp__trim(struct tp__worker *worker);

/* Gives back all that can be spared, whether it was used or not; returns the bytes. What is in
 * other threads' magazines stays. Any thread. */
size_t tp__trim_all(void);

#endif
