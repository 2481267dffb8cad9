/*
 * The file with the key ring: the keys that the login service and the gates share, one per line.
 *
 *     # id  key, 64 hexadecimal digits
 *     1     6b...
 *     2     f0...     # from August on
 *
 * A token names its key by id. To change the key, add the new one, let the login service use it,
 * and remove the old one when its last token has expired. One thread at a time.
 */
#ifndef TWINPORT_WANSERVER_FILES_KEY_RING_FILE_H
#define TWINPORT_WANSERVER_FILES_KEY_RING_FILE_H

#include <stddef.h>

#include "proto/token.h"

#define TP__KEY_RING_MAX      256u           /* ids are 0..255 */
#define TP__KEY_RING_MAX_FILE (256u * 1024u) /* bytes */

/* Contains secrets: wipe it. */
typedef struct tp__key_ring {
    size_t count;
    tp_token_key keys[TP__KEY_RING_MAX + 1]; /* in the order of the file; one more, for the key
                                                being read */
} tp__key_ring;

/* Reads the text of a key ring. `name` is its name in messages. TP_ERR_CONFIG: then `report`
 * (`report_size` bytes, 1 or more) has a line `NAME:LINE: what is wrong` for every error, up to
 * TP__REPORT_ERRORS, and the ring is empty and wiped. A ring without a key is an error, and so is
 * an id with two keys. An id that is given again with the same key is no error: with TP_OK the
 * report has a line for each such id, or is empty. No message quotes a key. */
tp_err tp__key_ring_parse(const char *name, const char *text, size_t size, tp__key_ring *ring,
    char *report, size_t report_size);

/* The same for a file. No copy of it is left in memory. Also TP_ERR_NO_FILE, TP_ERR_TOO_LARGE,
 * TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__key_ring_load(const char *path, tp__key_ring *ring, char *report, size_t report_size);

/* The key with this id, or NULL. */
const tp_token_key *tp__key_ring_find(const tp__key_ring *ring, unsigned id);

void tp__key_ring_wipe(tp__key_ring *ring);

#endif
