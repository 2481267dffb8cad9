/*
 * Randomness from the kernel's generator. Any thread; owns nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/random.h"
#include "os/stream.h"

/* getentropy() returns at most this many bytes per call, and all of them or none. */
enum { MAX_PER_CALL = 256 };

void tp_random_bytes(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        size_t piece = count < MAX_PER_CALL ? count : MAX_PER_CALL;
        if (getentropy(at, piece) != 0) {
            tp_stream_last_words("the system has no randomness: %s", strerror(errno));
            abort();
        }
        at += piece;
        count -= piece;
    }
}
