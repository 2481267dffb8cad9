/*
 * What the C library does not offer for files: who may read them, whether child processes inherit
 * them, and whether they could be written. Any thread.
 */
#ifndef TWINPORT_OS_FILE_H
#define TWINPORT_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "twinport/error.h"

/*
 * Creates a file with these bytes that only its owner may read and write, whatever the umask is. On
 * Windows the file gets the rights of its folder, so the folder must be private. The bytes are
 * written through to the disk. TP_ERR_STATE: a file of that name exists; it is not changed.
 * TP_ERR_NO_FILE, TP_ERR_ACCESS, TP_ERR_OS. After an error no new file is left.
 */
tp_err tp_file_create_private(const char *path, const void *bytes, size_t size);

/* Opens a file for reading bytes, as fopen() does; a program started by this process does not
 * inherit it. NULL: tp_os_fail_last() returns the error. Output is written by os/stream.h. */
FILE *tp_file_open(const char *path);

/* True if users other than the file's owner may read or write it. False if the system does not show
 * that; Windows does not, in these terms. */
bool tp_file_is_shared(const char *path);

/*
 * Tests whether bytes can be appended to this file, which need not exist: it is opened, or created
 * and removed again, and nothing is written. TP_ERR_NO_FILE (the folder does not exist),
 * TP_ERR_ACCESS, TP_ERR_OS (a pipe without a reader, for example).
 */
tp_err tp_file_try_append(const char *path);

#endif
