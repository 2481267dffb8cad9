/*
 * Pages by anonymous mappings. Any thread; owns nothing. The kernel rounds sizes up to whole pages,
 * for mapping and for unmapping.
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

/* Unmapping fails only if the kernel has no memory for the second half of a split mapping (ENOMEM).
 * The range stays mapped then, and madvise() gives at least its memory back. Any other failure is a
 * bug. */
void tp_pages_free(void *pages, size_t bytes) {
    if (munmap(pages, bytes) != 0 && madvise(pages, bytes, MADV_DONTNEED) != 0) {
        tp_stream_last_words("pages cannot be freed: %s", strerror(errno));
        abort();
    }
}
