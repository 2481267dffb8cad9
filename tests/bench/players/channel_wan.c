/* A channel over twinport's protocol for players, mode open, by proto/. */
#define _GNU_SOURCE
#include "channel_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/handshake.h"
#include "proto/record.h"

enum { room = 64 * 1024, record_room = TP_RECORD_HEADER + TP_RECORD_MAX };

typedef struct wan {
    tp_noise *noise;      /* until the REPLY has come */
    unsigned char *hello; /* until it is sent */
    size_t hello_size;
    tp_record_direction out, in;
    unsigned char *rest; /* the beginning of a record, or of the REPLY */
    size_t rest_size;
} wan;

static uint8_t server_key[TP_KEY_SIZE];
static tp_suite suite;

static void wan_prepare(void) {
    suite =
        strcmp(channels.suite, "chacha") == 0 ? TP_SUITE_CHACHA20_POLY1305 : TP_SUITE_AES_256_GCM;
    if (suite == TP_SUITE_AES_256_GCM && strcmp(channels.suite, "aes") != 0) {
        usage("--suite takes aes or chacha");
    }
    if (channels.server_key == NULL || !tp_key_parse(channels.server_key, server_key)) {
        usage("--over wan needs --server-key with 64 hexadecimal digits");
    }
    if (tp_secure_init() != TP_OK) {
        fail("no libcrypto");
    }
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fail("no memory");
    }
    return memory;
}

/* A HELLO needs nothing of the server, so it is made before the connection. */
static void wan_make(channel *c) {
    wan *w = allocate(sizeof *w);
    const tp_client_hello options = {
        .size = sizeof options, .suite = suite, .server_public = server_key};
    w->noise = allocate(sizeof *w->noise);
    w->hello = allocate(TP_HELLO_MAX);
    if (tp_hello_write(&options, w->noise, w->hello, &w->hello_size) != TP_OK) {
        fail("no HELLO");
    }
    c->secure = w;
}

static void wan_begin(channel *c) {
    wan *w = c->secure;
    socket_send(c->fd, w->hello, w->hello_size);
    free(w->hello);
    w->hello = NULL;
}

static void wan_write(channel *c, const unsigned char *bytes, size_t size) {
    static unsigned char record[record_room];
    wan *w = c->secure;
    while (size > 0) {
        size_t part = size < TP_RECORD_PLAIN_MAX ? size : TP_RECORD_PLAIN_MAX;
        memcpy(record + TP_RECORD_HEADER, bytes, part);
        if (tp_record_seal(&w->out, record, part) != TP_OK) {
            fail("cannot seal");
        }
        socket_send(c->fd, record, part + TP_RECORD_OVERHEAD);
        bytes += part;
        size -= part;
    }
}

static void join(channel *c, const unsigned char *bytes) {
    wan *w = c->secure;
    tp_reply reply;
    uint8_t ready[TP_FRAME_HEADER];
    if (tp_reply_read(w->noise, bytes, TP_REPLY_WELCOME, &reply) != TP_OK ||
        reply.status != TP_REPLY_IS_WELCOME ||
        tp_record_create_sealing(&w->out, reply.keys.suite, reply.keys.send) != TP_OK ||
        tp_record_create_opening(&w->in, reply.keys.suite, reply.keys.receive) != TP_OK) {
        errno = EPROTO;
        fail("not welcome");
    }
    tp_secure_wipe(&reply, sizeof reply);
    free(w->noise);
    w->noise = NULL;
    tp_frame_write(ready, TP_FRAME_READY, 0);
    wan_write(c, ready, sizeof ready);
    c->ready = true;
}

/* Takes the REPLY or one record from the bytes; returns its size, 0 if it is incomplete. */
static size_t take(channel *c, unsigned char *bytes, size_t size, const channel_events *events) {
    wan *w = c->secure;
    if (!c->ready) {
        size_t whole = tp_reply_size(bytes[0]);
        if (whole != TP_REPLY_WELCOME) {
            errno = EPROTO;
            fail("the server is busy or speaks another version");
        }
        if (size < whole) {
            return 0;
        }
        join(c, bytes);
        events->ready(c);
        return whole;
    }
    size_t length = size < TP_RECORD_HEADER ? 0 : tp_record_length(bytes);
    if (length == 0 || size - TP_RECORD_HEADER < length) {
        return 0;
    }
    unsigned char *sealed = bytes + TP_RECORD_HEADER;
    if (tp_record_open(&w->in, sealed, length, sealed) != TP_OK) {
        errno = EPROTO;
        fail("a record does not open");
    }
    events->bytes(c, sealed, length - TP_SECRET_TAG);
    return TP_RECORD_HEADER + length;
}

static void keep_rest(wan *w, const unsigned char *bytes, size_t size) {
    free(w->rest);
    w->rest = NULL;
    w->rest_size = size;
    if (size > 0) {
        w->rest = allocate(size);
        memcpy(w->rest, bytes, size);
    }
}

static bool wan_readable(channel *c, const channel_events *events) {
    static unsigned char bytes[record_room + room];
    wan *w = c->secure;
    size_t have = w->rest_size;
    if (have > 0) {
        memcpy(bytes, w->rest, have);
    }
    ssize_t received = socket_receive(c->fd, bytes + have, room);
    if (received <= 0) {
        return received == 0;
    }
    have += (size_t)received;
    size_t at = 0;
    while (at < have) {
        size_t used = take(c, bytes + at, have - at, events);
        if (used == 0) {
            break;
        }
        at += used;
    }
    if (have - at > 0 || w->rest_size > 0) {
        keep_rest(w, bytes + at, have - at);
    }
    if (w->rest_size >= record_room) {
        errno = EPROTO;
        fail("a record that is none");
    }
    return true;
}

static void wan_end(channel *c) {
    wan *w = c->secure;
    tp_record_destroy(&w->out);
    tp_record_destroy(&w->in);
    free(w->rest);
    free(w->noise);
    free(w->hello);
    free(w);
    c->secure = NULL;
}

const channel_kind channel_wan = {
    .name = "wan",
    .prepare = wan_prepare,
    .make = wan_make,
    .begin = wan_begin,
    .readable = wan_readable,
    .write = wan_write,
    .end = wan_end,
};
