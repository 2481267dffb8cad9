/*
 * The file of a gate's private key: one line of 64 hexadecimal digits, with comments as in the
 * other files. One thread.
 */
#ifndef TWINPORT_WANSERVER_FILES_KEY_FILE_H
#define TWINPORT_WANSERVER_FILES_KEY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/keys.h"

/* Generates a key pair and writes the private key to a new file that only its owner may read
 * (os/file.h). Returns the public key; the private key is nowhere but in the file. TP_ERR_STATE:
 * the file exists, and is not changed; TP_ERR_NO_FILE, TP_ERR_ACCESS, TP_ERR_OS, TP_ERR_CRYPTO. */
tp_err tp__key_file_create(const char *path, uint8_t public_key[TP_KEY_SIZE]);

/* Reads a private key, which the caller must wipe. TP_ERR_CONFIG, TP_ERR_NO_FILE, TP_ERR_TOO_LARGE,
 * TP_ERR_NO_MEMORY, each with a line in `report` (`report_size` bytes, 1 or more), which never
 * quotes the key. */
tp_err tp__key_file_load(
    const char *path, uint8_t private_key[TP_KEY_SIZE], char *report, size_t report_size);

#endif
