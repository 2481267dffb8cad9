/*
 * The file of a gateway's private key: one line, 64 hexadecimal digits. Comments as in the other
 * files. One thread.
 */
#ifndef TWINPORT_WANSERVER_FILES_KEY_FILE_H
#define TWINPORT_WANSERVER_FILES_KEY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/keys.h"

/* Draws a new key and writes it to a file that does not exist yet, for its owner alone (os/file.h).
 * The public key is returned, the private one is in the file and nowhere else. TP_ERR_STATE: there
 * is a file of that name, which stays as it is; TP_ERR_NO_FILE, TP_ERR_ACCESS, TP_ERR_OS,
 * TP_ERR_CRYPTO. */
tp_err tp__key_file_create(const char *path, uint8_t public_key[TP_KEY_SIZE]);

/* Reads a private key: wipe it. TP_ERR_CONFIG, TP_ERR_NO_FILE, TP_ERR_TOO_LARGE, TP_ERR_NO_MEMORY,
 * each with a line in `report` (`room` bytes, 1 or more), which never quotes it. */
tp_err tp__key_file_load(
    const char *path, uint8_t private_key[TP_KEY_SIZE], char *report, size_t room);

#endif
