/*
 * What the WAN keeps for one connection, beside its session: in an array with the sessions'
 * indexes, all zero while the slot is free.
 *
 * Which thread may touch which field:
 *
 *     stage           the worker that serves the session: the receiver from HELLO to HANDSHAKE and
 *                     from WELCOMED on, the handshake's completion in between. The receiver reads
 *                     it at any time.
 *     identity        any thread (identity.h)
 *     waiting...      under the lock of the list of pending connections (pending.h)
 *     opening, partial, half, framed, the buckets
 *                     the receiver, as soon as the stage says that they are there
 *     sealing, sent   the flush owner, as soon as something is queued
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_PLAYER_H
#define TWINPORT_WANSERVER_HANDSHAKE_PLAYER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/record.h"
#include "twinport/packet.h"
#include "wanserver/guard/token_bucket.h"
#include "wanserver/handshake/identity.h"

typedef enum tp__player_stage {
    TP__PLAYER_NONE = 0,  /* nobody, or a connection that has not begun */
    TP__PLAYER_HELLO,     /* its HELLO is arriving */
    TP__PLAYER_HANDSHAKE, /* its HELLO is valid and with the handshake threads */
    TP__PLAYER_WELCOMED,  /* REPLY is being queued; what comes is records, and READY must be the
                          * first frame in them */
    TP__PLAYER_READY      /* it has its keys: it has joined, or was told that there is no place */
} tp__player_stage;

typedef struct tp__player {
    _Atomic uint8_t stage;
    bool has_half; /* the first of a record's two length bytes is there */
    uint8_t half;
    bool counted; /* as pending */
    bool waiting; /* in the list of those that have not said HELLO */
    bool framed;  /* a frame has ended in the record that is being taken */
    uint32_t older;
    uint32_t newer;

    tp_packet *partial;      /* HELLO or a record that is still arriving; NULL when nothing is */
    uint32_t partial_filled; /* bytes of it that are there */
    uint32_t sent;           /* bytes of the oldest pending frame that are in records already */
    tp_record_direction opening;
    tp_record_direction sealing;
    tp__bucket messages;
    tp__bucket bytes;

    tp__identity_cell identity; /* last: the rest is wiped without it */
} tp__player;

#endif
