/*
 * The wire: what is between the frames and the socket. On the LAN nothing (wire_lan.c), on the WAN
 * a handshake and records (wire_wan.c). Modes do not depend on it; of a mode it uses only how it
 * spoils bytes.
 *
 * Its functions run on the connection's shard, except make and free.
 */
#ifndef TWINPORT_TESTS_DUMMY_WIRE_H
#define TWINPORT_TESTS_DUMMY_WIRE_H

#include "dummy.h"
#include "proto/token.h"

struct wire {
    const char *name; /* of the command */
    uint32_t limit;   /* of a frame, unless --limit is given */
    size_t batch;     /* bytes of messages in one send; one message more at most */

    /* Makes and frees a connection's memory, before its first life and after its last one. */
    bool (*make)(connection *c);
    void (*free)(connection *c);

    /* A life begins: takes what it needs. False: nothing is left for it. */
    bool (*begin)(connection *c);
    /* The socket is connected: sends the first bytes, and establishes the connection now or
     * later. */
    void (*connected)(connection *c);
    /* Bytes were received: passes frames to connection_take(). False: the connection was closed
     * meanwhile. */
    bool (*take)(connection *c, const uint8_t *bytes, size_t count);
    /* Turns the frames in c->buffers[0..used) into what is sent, in c->buffers again; returns the
     * number of buffers. `raw`: the mode's own bytes are among them and may be spoilt. 0: not
     * possible, and the connection was closed. */
    size_t (*wrap)(connection *c, size_t used, bool raw);
    /* The socket is closed: wipes the keys. */
    void (*end)(connection *c);
};

extern const wire wire_lan, wire_wan;

/* ---- connect tokens from a file, each used once ---------------------------------------------- */

typedef struct token {
    uint8_t bytes[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE]; /* S */
} token;

/* Reads pairs of lines as tp-token prints them. NULL: the error was printed. */
tokens *tokens_read(const char *path);
size_t tokens_left(const tokens *t);
/* The next token if more than `spare` are left; else NULL. Valid until tokens_free(). Any
 * thread. */
const token *tokens_take(tokens *t, size_t spare);
/* Wipes and frees them. NULL is ignored. */
void tokens_free(tokens *t);

#endif
