/*
 * Key files for the examples on the WAN, in the format that wanserver reads and writes.
 */
#ifndef TWINPORT_EXAMPLES_KEYS_H
#define TWINPORT_EXAMPLES_KEYS_H

#include <stddef.h>

#include "proto/keys.h"
#include "proto/token.h"

/* Reads a private key as `wanserver --genkey FILE` writes it: a line of 64 hexadecimal digits.
 * False: the file has none. */
bool read_key(const char *path, uint8_t key[TP_KEY_SIZE]);

/* Reads a key ring, the keys of connect tokens: lines with an id, 0..255, and 64 hexadecimal
 * digits; `#` begins a comment. Returns the number of keys, or 0 if the file is not such a ring or
 * has more than `capacity`. */
size_t read_key_ring(const char *path, tp_token_key *ring, size_t capacity);

#endif
