/*
 * Gives memory that is no longer needed back to the system.
 *
 * Twice a second each worker of any server of the process gives the magazines that it has not used
 * since the last time to the pools, and one of the workers gives back what has not been used in the
 * pools, and in the store of large packets, since the last time. So the memory that half a second's
 * work needs stays, without any call of the allocator, and the memory of a burst is given back
 * about a second after it.
 */
#ifndef TWINPORT_CORE_SERVER_TRIM_H
#define TWINPORT_CORE_SERVER_TRIM_H

#include <stddef.h>
#include <stdint.h>

struct tp__worker;

/* Called in each round of a worker's loop, at least three times a second. */
void tp__trim(struct tp__worker *worker);

/* Gives back everything that is free, whether it was used recently or not; returns the bytes. What
 * is in other threads' magazines stays. Any thread. */
size_t tp__trim_all(void);

#endif
