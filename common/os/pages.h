/*
 * Whole pages from the system. Freed pages leave the process at once. The C library's heap does not
 * promise that: one small block in use above them can keep megabytes of free memory.
 */
#ifndef TWINPORT_OS_PAGES_H
#define TWINPORT_OS_PAGES_H

#include <stddef.h>

/* Returns at least `bytes` (1 or more) of zeroed, page-aligned memory, or NULL. Any thread. */
void *tp_pages_allocate(size_t bytes);

/* Gives pages back; `bytes` as passed to tp_pages_allocate(). Any thread. */
void tp_pages_free(void *pages, size_t bytes);

#endif
