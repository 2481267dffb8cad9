/*
 * Key files, for the examples on the WAN: as wanserver reads and writes them.
 */
#ifndef TWINPORT_EXAMPLES_KEYS_H
#define TWINPORT_EXAMPLES_KEYS_H

#include <stddef.h>

#include "proto/keys.h"
#include "proto/token.h"

/* A private key as `wanserver --genkey FILE` writes it: a line of 64 hexadecimal digits. */
bool read_key(const char *path, uint8_t key[TP_KEY_SIZE]);

/* A ring of the keys of connect tokens: lines of an id, 0..255, and 64 hexadecimal digits; `#`
 * begins a comment. Returns how many there are, at most `room`; 0 if the file is no such ring. */
size_t read_key_ring(const char *path, tp_token_key *ring, size_t room);

#endif
