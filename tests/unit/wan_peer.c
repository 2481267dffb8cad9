/* The player's client of wan_peer.h. Its functions run on the test's thread. */
#include "wan_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

wan_peer *wan_connect(const tp_address *address, const wan_login *login) {
    wan_peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        abort();
    }
    const tp_client_hello options = {
        .size = sizeof options,
        .suite = login->suite,
        .server_public = login->server_public,
        .token = login->with_token ? login->token : NULL,
        .secret = login->with_token ? login->secret : NULL,
    };
    if (tp_hello_write(&options, &peer->noise, peer->hello, &peer->hello_size) != TP_OK) {
        abort();
    }
    peer->raw = raw_connect(address);
    if (!peer->raw) {
        wan_close(peer, false);
        return NULL;
    }
    return peer;
}

bool wan_send_hello(wan_peer *peer) {
    return raw_send(peer->raw, peer->hello, peer->hello_size);
}

static bool take_keys(wan_peer *peer, tp_reply *reply) {
    peer->terms = reply->terms;
    bool made =
        tp_record_create_sealing(&peer->sealing, reply->keys.suite, reply->keys.send) == TP_OK &&
        tp_record_create_opening(&peer->opening, reply->keys.suite, reply->keys.receive) == TP_OK;
    tp_secure_wipe(&reply->keys, sizeof reply->keys);
    return made;
}

bool wan_take_reply(wan_peer *peer) {
    uint8_t bytes[TP_REPLY_WELCOME];
    if (!raw_receive(peer->raw, bytes, 1)) {
        return false;
    }
    size_t size = tp_reply_size(bytes[0]);
    tp_reply reply;
    if (size < 1 || !raw_receive(peer->raw, bytes + 1, size - 1) ||
        tp_reply_read(&peer->noise, bytes, size, &reply) != TP_OK) {
        return false;
    }
    peer->status = reply.status;
    peer->busy_seconds = reply.busy_seconds;
    return reply.status == TP_REPLY_IS_WELCOME && take_keys(peer, &reply);
}

bool wan_send_ready(wan_peer *peer) {
    return wan_send_frame(peer, TP_FRAME_READY, NULL, 0);
}

wan_peer *wan_join(const tp_address *address, const wan_login *login) {
    wan_peer *peer = wan_connect(address, login);
    if (peer && wan_send_hello(peer) && wan_take_reply(peer) && wan_send_ready(peer)) {
        return peer;
    }
    if (peer) {
        wan_close(peer, false);
    }
    return NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

void wan_seal(wan_peer *peer, const void *plain, size_t size, uint8_t *record) {
    memcpy(record + TP_RECORD_HEADER, plain, size);
    if (tp_record_seal(&peer->sealing, record, size) != TP_OK) {
        printf("cannot seal a record of the peer\n");
        abort();
    }
}

bool wan_send_record(wan_peer *peer, const void *plain, size_t size) {
    uint8_t record[TP_RECORD_HEADER + TP_RECORD_MAX];
    wan_seal(peer, plain, size, record);
    return raw_send(peer->raw, record, WAN_SEALED(size));
}

bool wan_send_frame(wan_peer *peer, unsigned type, const void *payload, size_t size) {
    size_t left = TP_FRAME_HEADER + size;
    uint8_t *frame = malloc(left);
    if (!frame) {
        abort();
    }
    tp_frame_write(frame, (tp_frame_type)type, (uint32_t)size);
    if (size > 0) {
        memcpy(frame + TP_FRAME_HEADER, payload, size);
    }
    const uint8_t *bytes = frame;
    bool sent = true;
    while (left > 0 && sent) {
        size_t part = left < TP_RECORD_PLAIN_MAX ? left : TP_RECORD_PLAIN_MAX;
        sent = wan_send_record(peer, bytes, part);
        bytes += part;
        left -= part;
    }
    free(frame);
    return sent;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void reserve_plain(wan_peer *peer, size_t count) {
    if (peer->from == peer->to) {
        peer->from = peer->to = 0;
    }
    if (peer->to + count > peer->capacity) {
        peer->capacity = (peer->to + count) * 2;
        peer->plain = realloc(peer->plain, peer->capacity);
        if (!peer->plain) {
            abort();
        }
    }
}

bool wan_take_record(wan_peer *peer) {
    uint8_t header[TP_RECORD_HEADER];
    uint8_t sealed[TP_RECORD_MAX];
    if (!raw_receive(peer->raw, header, sizeof header)) {
        return false;
    }
    size_t length = tp_record_length(header);
    if (length == 0 || !raw_receive(peer->raw, sealed, length)) {
        return false;
    }
    reserve_plain(peer, length);
    if (tp_record_open(&peer->opening, sealed, length, peer->plain + peer->to) != TP_OK) {
        printf("cannot open a record of the server\n");
        return false;
    }
    peer->to += length - TP_SECRET_TAG;
    return true;
}

static bool take(wan_peer *peer, void *bytes, size_t count) {
    while (peer->to - peer->from < count) {
        if (!wan_take_record(peer)) {
            return false;
        }
    }
    if (count > 0) {
        memcpy(bytes, peer->plain + peer->from, count);
    }
    peer->from += count;
    return true;
}

long wan_receive_frame(wan_peer *peer, unsigned *type, void *payload, size_t capacity) {
    uint8_t bytes[TP_FRAME_HEADER];
    if (!take(peer, bytes, sizeof bytes)) {
        return -1;
    }
    tp_frame_header header = tp_frame_read(bytes);
    *type = header.type;
    if (header.length > capacity || !take(peer, payload, header.length)) {
        printf("received a frame of %u bytes, for a buffer of %zu\n", (unsigned)header.length,
            capacity);
        return -1;
    }
    return (long)header.length;
}

int wan_receive_close(wan_peer *peer) {
    static uint8_t payload[1u << 20];
    unsigned type;
    long size;
    while ((size = wan_receive_frame(peer, &type, payload, sizeof payload)) >= 0) {
        if (type == TP_FRAME_CLOSE && size >= (long)TP_FRAME_CLOSE_MIN) {
            return tp_frame_close_reason(payload);
        }
    }
    return -1;
}

/* ---- the end --------------------------------------------------------------------------------- */

void wan_leave(wan_peer *peer) {
    const uint8_t normal[TP_FRAME_CLOSE_MIN] = {TP_CLOSE_NORMAL, 0};
    if (wan_send_frame(peer, TP_FRAME_CLOSE, normal, sizeof normal)) {
        (void)raw_end(peer->raw);
    }
    wan_close(peer, false);
}

void wan_close(wan_peer *peer, bool reset) {
    if (peer->raw) {
        raw_close(peer->raw, reset);
    }
    tp_noise_wipe(&peer->noise);
    tp_record_destroy(&peer->sealing);
    tp_record_destroy(&peer->opening);
    free(peer->plain);
    free(peer);
}
