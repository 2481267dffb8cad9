/*
 * The key ring's file: the keys that the login service and the gateways share, a line each.
 *
 *     # id  key, 64 hexadecimal digits
 *     1     6b...
 *     2     f0...     # from August on
 *
 * Tokens name their key by id, so a key is changed by adding the new one, having the login service
 * use it, and taking the old one away when its last token has expired. One thread at a time.
 */
#ifndef TWINPORT_WANSERVER_FILES_KEY_RING_FILE_H
#define TWINPORT_WANSERVER_FILES_KEY_RING_FILE_H

#include <stddef.h>

#include "proto/token.h"

#define TP__KEY_RING_MAX      256u           /* ids are 0..255 */
#define TP__KEY_RING_MAX_FILE (256u * 1024u) /* bytes */

/* Holds secrets: wipe it. */
typedef struct tp__key_ring {
    size_t count;
    tp_token_key keys[TP__KEY_RING_MAX + 1]; /* in the file's order, and room to read a key */
} tp__key_ring;

/* Reads the text of a ring. `name` is its name in messages. TP_ERR_CONFIG, with every error (up to
 * TP__REPORT_ERRORS) as a line `NAME:LINE: what is wrong` in `report` (`room` bytes, 1 or more); a
 * ring without a key is one, and so is an id with two keys. An id that is given again with the same
 * key is none: with TP_OK the report has a line for each, and is empty if there is none. No message
 * quotes a key. On an error the ring is empty and wiped. */
tp_err tp__key_ring_parse(
    const char *name, const char *text, size_t size, tp__key_ring *ring, char *report, size_t room);

/* The same for a file, of which no copy is left in memory. Also TP_ERR_NO_FILE, TP_ERR_TOO_LARGE,
 * TP_ERR_NO_MEMORY, each with a report. */
tp_err tp__key_ring_load(const char *path, tp__key_ring *ring, char *report, size_t room);

/* The key with this id, or NULL. */
const tp_token_key *tp__key_ring_find(const tp__key_ring *ring, unsigned id);

void tp__key_ring_wipe(tp__key_ring *ring);

#endif
