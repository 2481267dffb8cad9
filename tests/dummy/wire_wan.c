/*
 * The WAN's wire: HELLO and REPLY, then records around the frames. HELLOs and records are spoilt at
 * random for the modes that ask for it.
 *
 * Runs on the connection's shard. A connection's keys live from its welcome to its socket's close;
 * the buffers grow as needed and live as long as the connection's memory.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/handshake.h"
#include "wire.h"

#define SPOIL_ONE_OF 4 /* of the HELLOs; of the records with a mode's own bytes, every second one */

struct secure {
    const token *token; /* of this life; NULL: mode open */
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME];
    size_t reply_have;
    tp_record_direction sealing;
    tp_record_direction opening;
    uint8_t *partial; /* the record being received: header and body */
    size_t partial_have;
    uint8_t *batch; /* records in flight */
    size_t batch_capacity;
};

static const run_options *options_of(const connection *c) {
    return c->shard->load->options;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool make(connection *c) {
    c->secure = calloc(1, sizeof *c->secure);
    return c->secure != NULL;
}

static void free_memory(connection *c) {
    free(c->secure->partial);
    free(c->secure->batch);
    free(c->secure);
}

static bool begin(connection *c) {
    secure *s = c->secure;
    s->reply_have = 0;
    s->partial_have = 0;
    s->token = NULL;
    if (options_of(c)->tokens != NULL) {
        /* One is left for the ordinary client that follows a hostile run. */
        s->token = tokens_take(options_of(c)->tokens, options_of(c)->mode->hostile ? 1 : 0);
        return s->token != NULL;
    }
    return true;
}

static void end(connection *c) {
    tp_noise_wipe(&c->secure->noise);
    tp_record_destroy(&c->secure->sealing);
    tp_record_destroy(&c->secure->opening);
    memset(&c->secure->sealing, 0, sizeof c->secure->sealing);
    memset(&c->secure->opening, 0, sizeof c->secure->opening);
}

/* ---- the handshake --------------------------------------------------------------------------- */

/* Spoils the HELLO or leaves it unchanged. Returns how much of it is sent. */
static size_t spoil_hello(connection *c, size_t size) {
    shard *s = c->shard;
    spoil how = options_of(c)->mode->spoil;
    if (how == SPOIL_NOTHING || shard_chance(s) % SPOIL_ONE_OF != 0) {
        return size;
    }
    connection_spoil(c);
    if (how == SPOIL_CUT) {
        return 1 + shard_chance(s) % (size - 1);
    }
    c->secure->hello[shard_chance(s) % size] ^= (uint8_t)(1u << shard_chance(s) % 8);
    return size;
}

static void connected(connection *c) {
    secure *s = c->secure;
    const run_options *o = options_of(c);
    const tp_client_hello hello = {
        .size = sizeof hello,
        .suite = o->suite,
        .server_public = o->server_key,
        .token = s->token != NULL ? s->token->bytes : NULL,
        .secret = s->token != NULL ? s->token->secret : NULL,
    };
    size_t size = 0;
    tp_err error = tp_hello_write(&hello, &s->noise, s->hello, &size);
    if (error != TP_OK) {
        connection_fault(
            c, FAULT_SYSTEM, "connection %u: no HELLO: %s", c->number, error_name(error));
        return;
    }
    c->deadline_ns = c->shard->now_ns + (uint64_t)(o->patience * 1e9);
    size = spoil_hello(c, size);
    connection_read(c);
    if (c->state == HANDSHAKE) {
        connection_send_raw(c, s->hello, size);
    }
}

static void not_welcome(connection *c, const char *why, unsigned number) {
    connection_fault(
        c, FAULT_HANDSHAKE, "connection %u is not welcome: %s %u", c->number, why, number);
}

static bool make_directions(secure *s, const tp_session_keys *keys) {
    return tp_record_create_sealing(&s->sealing, keys->suite, keys->send) == TP_OK &&
           tp_record_create_opening(&s->opening, keys->suite, keys->receive) == TP_OK;
}

static void establish(connection *c, const tp_reply *reply) {
    if (options_of(c)->size > reply->terms.max_payload) {
        not_welcome(c, "messages may not be larger than", reply->terms.max_payload);
    } else if (!make_directions(c->secure, &reply->keys)) {
        connection_fault(c, FAULT_SYSTEM, "connection %u: no ciphers", c->number);
    } else {
        tp_frame_write(c->urgent, TP_FRAME_READY, 0);
        c->urgent_size = TP_FRAME_HEADER;
        connection_establish(c);
    }
}

static void take_whole_reply(connection *c) {
    secure *s = c->secure;
    tp_reply reply;
    if (c->forbidden) { /* BUSY is a possible answer to every HELLO, VERSION to some changed ones */
        if (s->reply[0] == TP_REPLY_IS_WELCOME) {
            connection_fault(
                c, FAULT_UNASKED, "connection %u: a welcome to a changed HELLO", c->number);
        }
        return;
    }
    tp_err error = tp_reply_read(&s->noise, s->reply, s->reply_have, &reply);
    if (error != TP_OK) {
        connection_fault(
            c, FAULT_HANDSHAKE, "connection %u: REPLY: %s", c->number, error_name(error));
    } else if (reply.status == TP_REPLY_IS_BUSY) {
        not_welcome(c, "the server is busy; seconds to wait:", reply.busy_seconds);
    } else if (reply.status == TP_REPLY_IS_VERSION) {
        not_welcome(c, "the server's version is", reply.highest_version);
    } else {
        establish(c, &reply);
    }
    tp_secure_wipe(&reply, sizeof reply);
}

/* Takes the bytes that belong to REPLY; returns their number. */
static size_t take_reply(connection *c, const uint8_t *bytes, size_t count) {
    secure *s = c->secure;
    size_t taken = 0;
    while (taken < count) {
        s->reply[s->reply_have++] = bytes[taken++];
        size_t size = tp_reply_size(s->reply[0]);
        if (size == 0) {
            not_welcome(c, "REPLY begins with", s->reply[0]);
            break;
        }
        if (s->reply_have == size) {
            take_whole_reply(c);
            break;
        }
    }
    return taken;
}

/* ---- records in ------------------------------------------------------------------------------ */

static bool bad_length(connection *c, const uint8_t *header) {
    connection_fault(c, FAULT_RECORD, "connection %u: a record of %u bytes", c->number,
        (unsigned)header[0] | (unsigned)header[1] << 8);
    return false;
}

static bool open_record(connection *c, const uint8_t *record, size_t length) {
    uint8_t *plain = c->shard->plain;
    uint64_t number = c->secure->opening.counter;
    tp_err error = tp_record_open(&c->secure->opening, record + TP_RECORD_HEADER, length, plain);
    if (error != TP_OK) {
        connection_fault(c, FAULT_RECORD, "connection %u, record %llu does not open: %s", c->number,
            (unsigned long long)number, error_name(error));
        return false;
    }
    return connection_take(c, plain, length - TP_SECRET_TAG);
}

/* Adds to the record being received. Returns how many bytes that took; 0: the connection was
 * closed. */
static size_t take_part(connection *c, const uint8_t *bytes, size_t count) {
    secure *s = c->secure;
    size_t wanted = TP_RECORD_HEADER;
    if (s->partial == NULL) {
        s->partial = malloc(TP_RECORD_HEADER + TP_RECORD_MAX);
        if (s->partial == NULL) {
            connection_fault(c, FAULT_SYSTEM, "connection %u: no memory", c->number);
            return 0;
        }
    }
    if (s->partial_have >= TP_RECORD_HEADER) {
        wanted += tp_record_length(s->partial);
    }
    size_t part = wanted - s->partial_have < count ? wanted - s->partial_have : count;
    memcpy(s->partial + s->partial_have, bytes, part);
    s->partial_have += part;
    if (s->partial_have < wanted) {
        return part;
    }
    size_t length = tp_record_length(s->partial);
    if (length == 0) {
        (void)bad_length(c, s->partial);
        return 0;
    }
    if (wanted > TP_RECORD_HEADER) {
        s->partial_have = 0;
        return open_record(c, s->partial, length) ? part : 0;
    }
    return part;
}

static bool take(connection *c, const uint8_t *bytes, size_t count) {
    secure *s = c->secure;
    while (count > 0) {
        size_t taken = 0;
        if (c->state == HANDSHAKE) {
            taken = c->forbidden && s->reply_have > 0 ? count : take_reply(c, bytes, count);
            if (c->state == CLOSING) {
                return false;
            }
        } else if (s->partial_have == 0 && count >= TP_RECORD_HEADER + TP_RECORD_MIN) {
            size_t length = tp_record_length(bytes);
            if (length == 0) {
                return bad_length(c, bytes);
            }
            if (count < TP_RECORD_HEADER + length) {
                taken = take_part(c, bytes, count);
            } else {
                taken = open_record(c, bytes, length) ? TP_RECORD_HEADER + length : 0;
            }
        } else {
            taken = take_part(c, bytes, count);
        }
        if (taken == 0) {
            return false;
        }
        bytes += taken;
        count -= taken;
    }
    return true;
}

/* ---- records out ----------------------------------------------------------------------------- */

static bool reserve_batch(secure *s, size_t plain) {
    size_t records = plain / TP_RECORD_PLAIN_MAX + 1;
    size_t capacity = plain + records * TP_RECORD_OVERHEAD;
    if (capacity > s->batch_capacity) {
        free(s->batch);
        s->batch = malloc(capacity);
        s->batch_capacity = s->batch != NULL ? capacity : 0;
    }
    return s->batch_capacity > 0;
}

/* Spoils the last record of the send batch, of `size` bytes, or leaves it. Returns how much of it
 * is sent. */
static size_t spoil_record(connection *c, uint8_t *record, size_t size) {
    static const uint16_t lengths[] = {0, 16, TP_RECORD_MAX + 1, 65535};
    shard *s = c->shard;
    spoil how = options_of(c)->mode->spoil;
    if (how == SPOIL_NOTHING || shard_chance(s) % 2 == 0) {
        return size;
    }
    c->no_close = true;
    if (how == SPOIL_CUT) {
        return 1 + shard_chance(s) % (size - 1);
    }
    if (shard_chance(s) % 4 == 0) {
        uint16_t length = lengths[shard_chance(s) % TP_COUNT_OF(lengths)];
        record[0] = (uint8_t)(length & 0xff);
        record[1] = (uint8_t)(length >> 8);
    } else {
        size_t at = TP_RECORD_HEADER + shard_chance(s) % (size - TP_RECORD_HEADER);
        record[at] ^= (uint8_t)(1u << shard_chance(s) % 8);
    }
    return size;
}

/* Seals the contents of the buffers, record after record, into the send batch. Returns its size; 0
 * if a record could not be sealed. *last is where the last one begins. */
static size_t seal_all(secure *s, const tp_buffer *buffers, size_t used, size_t *last) {
    size_t filled = 0; /* plaintext of the record at *last */
    *last = 0;
    for (size_t i = 0; i < used; i++) {
        for (size_t at = 0; at < buffers[i].size;) {
            if (filled == TP_RECORD_PLAIN_MAX) {
                if (tp_record_seal(&s->sealing, s->batch + *last, filled) != TP_OK) {
                    return 0;
                }
                *last += filled + TP_RECORD_OVERHEAD;
                filled = 0;
            }
            size_t left = buffers[i].size - at;
            size_t space = TP_RECORD_PLAIN_MAX - filled;
            size_t part = left < space ? left : space;
            memcpy(s->batch + *last + TP_RECORD_HEADER + filled, buffers[i].bytes + at, part);
            filled += part;
            at += part;
        }
    }
    if (tp_record_seal(&s->sealing, s->batch + *last, filled) != TP_OK) {
        return 0;
    }
    return *last + filled + TP_RECORD_OVERHEAD;
}

static size_t wrap(connection *c, size_t used, bool raw) {
    secure *s = c->secure;
    size_t plain = 0;
    size_t last = 0;
    for (size_t i = 0; i < used; i++) {
        plain += c->buffers[i].size;
    }
    size_t size = reserve_batch(s, plain) ? seal_all(s, c->buffers, used, &last) : 0;
    if (size == 0) {
        connection_fault(c, FAULT_SYSTEM, "connection %u: a record cannot be sealed", c->number);
        return 0;
    }
    if (raw) {
        size = last + spoil_record(c, s->batch + last, size - last);
    }
    c->buffers[0] = (tp_buffer){.bytes = s->batch, .size = size};
    return 1;
}

const wire wire_wan = {
    .name = "wan",
    .limit = 65536,
    .batch = 65536,
    .make = make,
    .free = free_memory,
    .begin = begin,
    .connected = connected,
    .take = take,
    .wrap = wrap,
    .end = end,
};
