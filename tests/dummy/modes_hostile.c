/*
 * The hostile modes: garbage, half-open and reset.
 *
 * Hooks run on the connection's shard.
 */
#include <string.h>

#include "dummy.h"

/* ---- garbage: no valid frame; must be cut and must not be answered --------------------------- */

enum { UNKNOWN_TYPE, OVER_LIMIT, LONG_PING, SHORT_CLOSE, LONG_CLOSE, GARBAGE_KINDS };

/* A header that every receiver has to refuse, with noise behind it. */
static void garbage_write(connection *c) {
    shard *s = c->shard;
    uint32_t limit = s->load->options->limit;
    uint32_t dice = shard_chance(s);
    uint32_t length = 0;
    uint8_t type = 0;
    switch (dice % GARBAGE_KINDS) {
    case OVER_LIMIT:
        length = limit + 1 + shard_chance(s) % (TP_FRAME_MAX_PAYLOAD - limit);
        break;
    case LONG_PING:
        length = TP_FRAME_PING_MAX + 1 + shard_chance(s) % 1000;
        type = TP_FRAME_PING;
        break;
    case SHORT_CLOSE:
        length = shard_chance(s) % TP_FRAME_CLOSE_MIN;
        type = TP_FRAME_CLOSE;
        break;
    case LONG_CLOSE:
        length = TP_FRAME_CLOSE_MAX + 1 + shard_chance(s) % 1000;
        type = TP_FRAME_CLOSE;
        break;
    default: /* UNKNOWN_TYPE: READY is unknown on the LAN, too, but is not tried */
        length = shard_chance(s) & TP_FRAME_MAX_PAYLOAD;
        type = (uint8_t)(TP_FRAME_PAD + 1 + shard_chance(s) % (256 - TP_FRAME_PAD - 1));
        break;
    }
    tp_frame_write(c->raw, TP_FRAME_DATA, length);
    c->raw[3] = type;
    c->raw_size = TP_FRAME_HEADER + shard_chance(s) % (RAW_SIZE - TP_FRAME_HEADER);
    for (uint32_t i = TP_FRAME_HEADER; i < c->raw_size; i++) {
        c->raw[i] = (uint8_t)shard_chance(s);
    }
}

static void garbage_await_cut(connection *c) {
    c->forbidden = true;
    c->deadline_ns = c->shard->now_ns + (uint64_t)(c->shard->load->options->patience * 1e9);
}

static void garbage_send(connection *c) {
    garbage_write(c);
    garbage_await_cut(c);
}

/* At random as the first bytes, or in the middle of a session that has been served. */
static void garbage_begin(connection *c) {
    if (shard_chance(c->shard) % 2 == 0) {
        garbage_send(c);
    } else {
        c->owed = 1;
    }
}

static void garbage_answers(connection *c, uint64_t count) {
    (void)count;
    garbage_send(c);
}

static void garbage_ended(connection *c, tp_err error) {
    if (!c->forbidden) {
        mode_lost(c, error);
    } else if (c->close_seen && (c->no_close || c->close_reason != TP_CLOSE_PROTOCOL)) {
        connection_fault(c, FAULT_REASON, "connection %u: garbage was cut with reason %s",
            c->number, tp_close_reason_name(c->close_reason));
    } else {
        c->shard->counts.cut++;
    }
}

/* After CLOSE most clients close as they should; one in eight waits until the server cuts it. */
static void garbage_delivered(connection *c) {
    if (c->close_seen && c->number % 8 != 0) {
        garbage_ended(c, TP_OK);
        connection_close(c, false);
    }
}

static void garbage_tick(connection *c) {
    if (c->deadline_ns != 0 && c->shard->now_ns >= c->deadline_ns) {
        connection_fault(c, FAULT_NOT_CUT, "connection %u: garbage is not cut", c->number);
    }
}

static void garbage_stop(connection *c) {
    (void)c; /* each one lives until it is cut */
}

const mode mode_garbage = {
    .name = "garbage",
    .help =
        "unknown types, lengths over the limit, noise; must be cut with reason protocol,\n"
        "                        on the WAN also changed HELLOs and records; must be cut silently",
    .hostile = true,
    .spoil = SPOIL_CHANGE,
    .spoilt = garbage_await_cut,
    .begin = garbage_begin,
    .answers = garbage_answers,
    .delivered = garbage_delivered,
    .ended = garbage_ended,
    .closed = mode_reopen,
    .tick = garbage_tick,
    .stop = garbage_stop,
};

/* ---- half-open: half a header, and then nothing ---------------------------------------------- */

static void half_open_begin(connection *c) {
    tp_frame_write(c->raw, TP_FRAME_DATA, 5);
    c->raw_size = TP_FRAME_HEADER / 2;
    c->forbidden = true;
}

static void half_open_answers(connection *c, uint64_t count) {
    (void)c;
    (void)count; /* forbidden: reported as a fault before this is called */
}

static void half_open_ended(connection *c, tp_err error) {
    (void)error;
    c->shard->counts.cut++;
}

static void half_open_stop(connection *c) {
    c->shard->counts.stayed++;
    connection_close(c, false);
}

const mode mode_half_open = {
    .name = "half-open",
    .help = "sends half a header, or half a HELLO or record, and stays; may be cut",
    .hostile = true,
    .spoil = SPOIL_CUT,
    .begin = half_open_begin,
    .answers = half_open_answers,
    .ended = half_open_ended,
    .stop = half_open_stop,
};

/* ---- reset: closed in the middle of a frame -------------------------------------------------- */

#define RESET_SOONEST_NS 1000000u
#define RESET_SPREAD_NS  50000000u

static void reset_soon(connection *c) {
    c->deadline_ns = c->shard->now_ns + RESET_SOONEST_NS + shard_chance(c->shard) % RESET_SPREAD_NS;
}

static void reset_begin(connection *c) {
    shard *s = c->shard;
    uint32_t size = s->load->options->size;
    uint32_t part = size / 2 < RAW_SIZE - TP_FRAME_HEADER ? size / 2 : RAW_SIZE - TP_FRAME_HEADER;
    c->owed = shard_chance(s) % (s->load->options->window + 1);
    tp_frame_write(c->raw, TP_FRAME_DATA, size);
    memset(c->raw + TP_FRAME_HEADER, 0x5a, part);
    c->raw_size = size == 0 ? TP_FRAME_HEADER / 2 : TP_FRAME_HEADER + part;
    c->choice = shard_chance(s) % 3;
    reset_soon(c);
}

/* As soon as the half frame is in the kernel, at the first answer, or a little later. */
static void reset_sent(connection *c) {
    if (c->choice == 0 && c->owed == 0 && c->raw_size == 0) {
        connection_close(c, true);
    }
}

static void reset_answers(connection *c, uint64_t count) {
    (void)count;
    if (c->choice == 1) {
        connection_close(c, true);
    }
}

static void reset_tick(connection *c) {
    if (c->deadline_ns != 0 && c->shard->now_ns >= c->deadline_ns) {
        connection_close(c, true);
    }
}

static void reset_stop(connection *c) {
    connection_close(c, true);
}

const mode mode_reset = {
    .name = "reset",
    .help = "resets in the middle of a frame, a HELLO or a record, and again",
    .hostile = true,
    .spoil = SPOIL_CUT,
    .spoilt = reset_soon,
    .begin = reset_begin,
    .answers = reset_answers,
    .sent = reset_sent,
    .ended = mode_lost,
    .closed = mode_reopen,
    .tick = reset_tick,
    .stop = reset_stop,
};
