/*
 * Randomness from the system's preferred generator. Any thread; owns nothing.
 */
#include "os/random.h"

#include <limits.h>
#include <stdlib.h>

#include "os/stream.h"
#include "os/win32/system.h"

#include <bcrypt.h>

void tp_random_bytes(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        ULONG part = count > ULONG_MAX ? ULONG_MAX : (ULONG)count;
        NTSTATUS status = BCryptGenRandom(NULL, at, part, BCRYPT_USE_SYSTEM_PREFERRED_RNG);
        if (status < 0) {
            tp_stream_last_words(
                "the system has no randomness (status %08lx)", (unsigned long)status);
            abort();
        }
        at += part;
        count -= part;
    }
}
