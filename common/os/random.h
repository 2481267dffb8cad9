/*
 * Randomness from the system, unpredictable: for ids, keys, and the seed of jitter.
 */
#ifndef TWINPORT_OS_RANDOM_H
#define TWINPORT_OS_RANDOM_H

#include <stddef.h>

/* Fills `bytes`. Any thread. Aborts the process if the system has no randomness, because nothing
 * would be safe then. */
void tp_random_bytes(void *bytes, size_t count);

#endif
