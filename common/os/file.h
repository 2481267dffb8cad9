/*
 * What the C library does not say about files: who may read them, who inherits them, and whether
 * they could be written.
 */
#ifndef TWINPORT_OS_FILE_H
#define TWINPORT_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "twinport/error.h"

/*
 * Makes a file with these bytes that its owner alone may read and write, whatever the umask says;
 * on Windows with the rights that its folder gives, so the folder must be its owner's. Written
 * through to the disk. TP_ERR_STATE: there is one of that name, which stays as it is.
 * TP_ERR_NO_FILE, TP_ERR_ACCESS, TP_ERR_OS; then nothing is left.
 */
tp_err tp_file_create_private(const char *path, const void *bytes, size_t size);

/* fopen() to read bytes as they are; a program started by this process does not inherit the file.
 * NULL: what the system said is in tp_os_fail_last(). What is written goes by os/stream.h. */
FILE *tp_file_open(const char *path);

/* Whether others than its owner may read or write it. False if the system does not tell, which
 * Windows does not in these terms. */
bool tp_file_is_shared(const char *path);

/*
 * Whether bytes can be appended to this file, which need not be there: it is opened, or made and
 * removed again, and nothing is written. TP_ERR_NO_FILE (there is no such folder), TP_ERR_ACCESS,
 * TP_ERR_OS (a pipe without a reader, for one).
 */
tp_err tp_file_try_append(const char *path);

#endif
