/*
 * Pages by VirtualAlloc(). Any thread; owns nothing. Address space is allocated in units of 64 KiB,
 * memory in pages: of a unit that is not full, only the requested pages are committed.
 */
#include "os/pages.h"

#include <stdlib.h>

#include "os/stream.h"
#include "os/win32/system.h"

void *tp_pages_allocate(size_t bytes) {
    return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void tp_pages_free(void *pages, size_t bytes) {
    (void)bytes; /* MEM_RELEASE frees the whole reservation, without a size */
    if (!VirtualFree(pages, 0, MEM_RELEASE)) {
        tp_stream_last_words("pages cannot be freed (error %lu)", (unsigned long)GetLastError());
        abort();
    }
}
