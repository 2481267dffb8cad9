/*
 * Pages by anonymous mappings. Any thread; holds nothing. The kernel rounds sizes up to pages, in
 * mapping and unmapping alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "os/pages.h"
#include "os/stream.h"

void *tp_pages_allocate(size_t bytes) {
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages != MAP_FAILED ? pages : NULL;
}

/* Unmapping can fail only for want of room for a split mapping's second half (ENOMEM): then the
 * range stays mapped, and giving back at least its contents is worth the try. Anything else is a
 * bug. */
void tp_pages_free(void *pages, size_t bytes) {
    if (munmap(pages, bytes) != 0 && madvise(pages, bytes, MADV_DONTNEED) != 0) {
        tp_stream_last_words("pages cannot be given back: %s", strerror(errno));
        abort();
    }
}
