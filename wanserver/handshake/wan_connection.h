/*
 * What the WAN keeps for one connection, beside its session: an element of an array that has the
 * sessions' indexes. It is all zero while the slot is free.
 *
 * Which thread may touch which field:
 *
 *     state           written by the worker that serves the session: by the receiver up to
 *                     HANDSHAKE and from READY on, by the completion of the handshake job for
 *                     WELCOMED. The receiver and the thread that bans read it at any time.
 *     identity        any thread (identity.h)
 *     counted, evictable, link
 *                     under the mutex of the list of pending connections (pending.h)
 *     opening, partial, has_length_low, length_low, framed, the buckets
 *                     the receiver, as soon as the state says that they are set
 *     sealing, sent   the flusher, as soon as a packet is queued
 */
#ifndef TWINPORT_WANSERVER_HANDSHAKE_WAN_CONNECTION_H
#define TWINPORT_WANSERVER_HANDSHAKE_WAN_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/index_list.h"
#include "proto/record.h"
#include "twinport/packet.h"
#include "wanserver/guard/token_bucket.h"
#include "wanserver/handshake/identity.h"

typedef enum tp__connection_state {
    TP__CONNECTION_NONE = 0,  /* no connection, or one that has not begun */
    TP__CONNECTION_HELLO,     /* its HELLO is being received */
    TP__CONNECTION_HANDSHAKE, /* its HELLO is valid and its handshake job exists */
    TP__CONNECTION_WELCOMED,  /* REPLY is being queued; what is received from now on is records, and
                                 READY must be the first frame in them */
    TP__CONNECTION_READY /* the client has its keys: the session has joined, or gets CLOSE because
                            max_sessions is reached */
} tp__connection_state;

typedef struct tp__connection {
    _Atomic uint8_t state;
    bool has_length_low; /* the first, low byte of a record's length has been received */
    uint8_t length_low;
    bool counted;   /* counted as a pending connection */
    bool evictable; /* in the list of connections that have not sent HELLO */
    bool framed;    /* a frame that counts for message_rate, or READY, has ended in this record */
    tp__index_link link; /* in that list */

    tp_packet *partial;      /* a HELLO or record that has been received in part; else NULL */
    uint32_t partial_filled; /* bytes of it that have been received */
    uint32_t sent;           /* bytes of the backlog's first frame that are in records already */
    tp_record_direction opening;
    tp_record_direction sealing;
    tp__bucket messages;
    tp__bucket bytes;

    tp__identity_cell identity; /* last: release clears the fields before it by memset */
} tp__connection;

/* One for each slot of a WAN server, beside its session. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__connection) <= 176, "a connection has grown");

#endif
