/*
 * The wire: what lies between the frames and the socket. On the LAN nothing does (wire_lan.c); on
 * the WAN a handshake and records (wire_wan.c). Modes know nothing of it, and it knows of a mode
 * only how to be spoilt.
 *
 * Its functions run on the connection's shard, but for make and free.
 */
#ifndef TWINPORT_TESTS_DUMMY_WIRE_H
#define TWINPORT_TESTS_DUMMY_WIRE_H

#include "dummy.h"
#include "proto/token.h"

struct wire {
    const char *name; /* of the command */
    uint32_t limit;   /* of a frame, unless --limit says otherwise */
    size_t flight;    /* bytes of messages in one send, one message more at most */

    /* A connection's memory, before its first life and behind its last one. */
    bool (*make)(connection *c);
    void (*free)(connection *c);

    /* A life is about to begin: takes what it needs. False: there is nothing left for it. */
    bool (*begin)(connection *c);
    /* The socket is connected: greets, and establishes the connection now or later. */
    void (*connected)(connection *c);
    /* Bytes have come: hands frames to connection_take(). False: the connection has been closed
     * over them. */
    bool (*take)(connection *c, const uint8_t *bytes, size_t count);
    /* Makes of the frames in c->buffers[0..used) what goes over the socket, in c->buffers again;
     * returns how many. `raw`: the mode's own bytes are among them, and may be spoilt. 0: it
     * cannot, and the connection has been closed. */
    size_t (*wrap)(connection *c, size_t used, bool raw);
    /* The socket is closed: forgets keys. */
    void (*end)(connection *c);
};

extern const wire wire_lan, wire_wan;

/* ---- connect tokens, out of a file: each is used once, whoever takes it ---------------------- */

typedef struct token {
    uint8_t bytes[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE]; /* S */
} token;

/* Reads pairs of lines as tp-token prints them. NULL: it has been said what is wrong. */
tokens *tokens_read(const char *path);
size_t tokens_left(const tokens *t);
/* The next one, if more than `spare` are left; else NULL. It is valid until tokens_free(). Any
 * thread. */
const token *tokens_take(tokens *t, size_t spare);
/* Wipes them. NULL is ignored. */
void tokens_free(tokens *t);

#endif
