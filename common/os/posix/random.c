/*
 * Randomness from the kernel's generator. Any thread; holds nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/random.h"
#include "os/stream.h"

/* getentropy() gives at most this many at once, and all of them or none. */
enum { MOST_AT_ONCE = 256 };

void tp_random_bytes(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        size_t piece = count < MOST_AT_ONCE ? count : MOST_AT_ONCE;
        if (getentropy(at, piece) != 0) {
            tp_stream_last_words("the system has no randomness: %s", strerror(errno));
            abort();
        }
        at += piece;
        count -= piece;
    }
}
