/*
 * Randomness from the system: unpredictable, for ids, keys and jitter's seed.
 */
#ifndef TWINPORT_OS_RANDOM_H
#define TWINPORT_OS_RANDOM_H

#include <stddef.h>

/* Fills `bytes`. Stops the process if the system has no randomness: nothing can be safe then. */
void tp_random_bytes(void *bytes, size_t count);

#endif
