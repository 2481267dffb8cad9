/*
 * Randomness from the kernel's generator. Any thread; holds nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/random.h"

/* getentropy() gives at most this many at once, and all of them or none. */
enum { MOST_AT_ONCE = 256 };

void tp_random_bytes(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        size_t piece = count < MOST_AT_ONCE ? count : MOST_AT_ONCE;
        if (getentropy(at, piece) != 0) {
            perror("twinport: the system has no randomness");
            abort();
        }
        at += piece;
        count -= piece;
    }
}
