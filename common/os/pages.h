/*
 * Whole pages from the system. What is freed here leaves the process at once, which the C library's
 * heap does not promise: one small block in use above them keeps megabytes of free ones.
 */
#ifndef TWINPORT_OS_PAGES_H
#define TWINPORT_OS_PAGES_H

#include <stddef.h>

/* At least `bytes` (1 or more) of zeroed memory that begins with a page, or NULL. Any thread. */
void *tp_pages_allocate(size_t bytes);

/* Gives it back; `bytes` as it was asked for. Any thread. */
void tp_pages_free(void *pages, size_t bytes);

#endif
