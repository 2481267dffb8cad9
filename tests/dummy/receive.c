/*
 * Checks what the server sends, byte by byte: frames split anywhere, every payload compared.
 *
 * Runs on the connection's shard. Only the header, the few bytes of control frames and the position
 * in the message are kept: an answer is compared where it was received.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dummy.h"

/* Where the pattern of a message begins; differs between connections, their lives and messages. */
static const uint8_t *pattern_of(const connection *c, uint64_t sequence) {
    uint64_t at = (uint64_t)c->number * 7919 + (uint64_t)c->life * 104729 + sequence * 31;
    return c->shard->load->pattern + at % PATTERN_PERIOD;
}

uint32_t message_write(const connection *c, uint64_t sequence, uint8_t *head, tp_buffer *rest) {
    uint32_t size = c->shard->load->options->size;
    uint32_t numbered = size < 8 ? size : 8;
    tp_frame_write(head, TP_FRAME_DATA, size);
    for (uint32_t i = 0; i < numbered; i++) {
        head[TP_FRAME_HEADER + i] = (uint8_t)(sequence >> (8 * i));
    }
    rest->bytes = pattern_of(c, sequence);
    rest->size = size - numbered;
    return TP_FRAME_HEADER + numbered;
}

/* Compares `count` bytes of the answer from its byte `at` on. */
static bool check_answer(connection *c, const uint8_t *bytes, uint32_t at, size_t count) {
    uint64_t sequence = c->answered;
    const uint8_t *pattern = pattern_of(c, sequence);
    for (; count > 0 && at < 8; at++, bytes++, count--) {
        uint8_t wanted = (uint8_t)(sequence >> (8 * at));
        if (*bytes != wanted) {
            connection_fault(c, FAULT_BYTES,
                "connection %u, answer %" PRIu64 ": byte %u of its number is %02x, not %02x",
                c->number, sequence, at, (unsigned)*bytes, (unsigned)wanted);
            return false;
        }
    }
    if (count == 0 || memcmp(bytes, pattern + (at - 8), count) == 0) {
        return true;
    }
    while (*bytes == pattern[at - 8]) {
        at++;
        bytes++;
    }
    connection_fault(c, FAULT_BYTES, "connection %u, answer %" PRIu64 ": byte %u is %02x, not %02x",
        c->number, sequence, at, (unsigned)*bytes, (unsigned)pattern[at - 8]);
    return false;
}

static bool begin_answer(connection *c) {
    if (c->forbidden) {
        connection_fault(c, FAULT_UNASKED, "connection %u: an answer to garbage", c->number);
        return false;
    }
    if (c->answered == c->sequence) {
        connection_fault(c, FAULT_UNASKED,
            "connection %u: an answer more than the %" PRIu64 " messages sent", c->number,
            c->sequence);
        return false;
    }
    if (c->frame.length != c->shard->load->options->size) {
        connection_fault(c, FAULT_LENGTH,
            "connection %u, answer %" PRIu64 ": %" PRIu32 " bytes, not %" PRIu32, c->number,
            c->answered, c->frame.length, c->shard->load->options->size);
        return false;
    }
    return true;
}

static bool takes_messages(const connection *c) {
    return c->shard->load->options->mode->message != NULL;
}

/* Allocates memory for a message, for the connection's life. */
static bool begin_message(connection *c) {
    uint32_t length = c->frame.length;
    if (length > c->message_capacity) {
        uint8_t *larger =
            length <= c->shard->load->options->limit ? realloc(c->message, length) : NULL;
        if (larger == NULL) {
            connection_fault(c, FAULT_LENGTH, "connection %u: a message of %" PRIu32 " bytes",
                c->number, length);
            return false;
        }
        c->message = larger;
        c->message_capacity = length;
    }
    return true;
}

static bool begin_frame(connection *c) {
    c->frame = tp_frame_read(c->header);
    c->frame_have = 0;
    if (c->close_seen) {
        connection_fault(c, FAULT_FRAME, "connection %u: a frame behind CLOSE", c->number);
        return false;
    }
    if (!tp_frame_allowed(c->frame, TP_FRAME_MAX_PAYLOAD)) {
        connection_fault(c, FAULT_FRAME, "connection %u: a frame of type %u and %" PRIu32 " bytes",
            c->number, (unsigned)c->frame.type, c->frame.length);
        return false;
    }
    if (c->frame.type != TP_FRAME_DATA) {
        return true;
    }
    return takes_messages(c) ? begin_message(c) : begin_answer(c);
}

static bool take_ping(connection *c) {
    uint32_t size = TP_FRAME_HEADER + c->frame.length;
    if (c->urgent_size + size > URGENT_SIZE) {
        connection_fault(c, FAULT_FRAME, "connection %u: more PINGs than anybody needs", c->number);
        return false;
    }
    tp_frame_write(c->urgent + c->urgent_size, TP_FRAME_PONG, c->frame.length);
    memcpy(c->urgent + c->urgent_size + TP_FRAME_HEADER, c->control, c->frame.length);
    c->urgent_size += size;
    c->shard->counts.pings++;
    return true;
}

static void take_close(connection *c) {
    uint16_t reason = tp_frame_close_reason(c->control);
    uint16_t slot = reason < TP_CLOSE_REASON_COUNT ? reason : TP_CLOSE_REASON_COUNT;
    c->close_seen = true;
    c->close_reason = reason;
    c->shard->counts.closes[slot]++;
}

static void take_answer(connection *c) {
    shard *s = c->shard;
    if (connection_phase(c) == MEASURING) {
        s->counts.messages++;
        if (s->load->options->mode->timed) {
            uint64_t sent = c->sent_ns[c->answered % s->load->options->window];
            histogram_add(&s->counts.latency, s->now_ns > sent ? s->now_ns - sent : 0);
        }
    }
    s->counts.answers++;
    c->answered++;
    connection_answered(c);
}

static bool end_frame(connection *c) {
    c->header_have = 0;
    switch (c->frame.type) {
    case TP_FRAME_DATA:
        if (takes_messages(c)) {
            return c->shard->load->options->mode->message(c, c->message, c->frame.length);
        }
        take_answer(c);
        return true;
    case TP_FRAME_PING:
        return take_ping(c);
    case TP_FRAME_CLOSE:
        take_close(c);
        return true;
    default: /* PONG, PAD: nothing to do */
        return true;
    }
}

static bool take_payload(connection *c, const uint8_t *bytes, size_t count) {
    if (c->frame.type == TP_FRAME_DATA && takes_messages(c)) {
        memcpy(c->message + c->frame_have, bytes, count);
        return true;
    }
    if (c->frame.type == TP_FRAME_DATA) {
        return check_answer(c, bytes, c->frame_have, count);
    }
    if (c->frame.type == TP_FRAME_PING || c->frame.type == TP_FRAME_CLOSE) {
        memcpy(c->control + c->frame_have, bytes, count); /* tp_frame_allowed() has limited it */
    }
    return true;
}

bool connection_take(connection *c, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        if (c->header_have < TP_FRAME_HEADER) {
            c->header[c->header_have++] = *bytes++;
            count--;
            if (c->header_have < TP_FRAME_HEADER) {
                continue;
            }
            if (!begin_frame(c)) {
                return false;
            }
        }
        uint32_t left = c->frame.length - c->frame_have;
        size_t part = count < left ? count : left;
        if (part > 0 && !take_payload(c, bytes, part)) {
            return false;
        }
        bytes += part;
        count -= part;
        c->frame_have += (uint32_t)part;
        if (c->frame_have == c->frame.length && !end_frame(c)) {
            return false;
        }
    }
    return true;
}
