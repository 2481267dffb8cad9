/*
 * Sessions as the application sees them: an id, and what can be asked about it.
 *
 * The application never has a session, only its id: 20 bits of slot and 44 bits of a number that is
 * never used twice. So looking up a session is a single array access, and an old id finds none.
 */
#ifndef TWINPORT_SESSION_H
#define TWINPORT_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t tp_session_id;

#define TP_NO_SESSION   ((tp_session_id)0) /* never a session's id */
#define TP_MAX_SESSIONS 1048576u           /* slots that 20 bits can name */

/* The slot of a session, 0..TP_MAX_SESSIONS-1, for arrays of the application beside the server's. A
 * slot is used again only after the on_leave of the session that had it. Any thread. */
static inline uint32_t tp_session_slot(tp_session_id session) {
    return (uint32_t)(session & (TP_MAX_SESSIONS - 1));
}

/* Why a session ended. X(code name, value, text). Values are stable. */
#define TP_END_REASONS(X)                                                                          \
    X(TP_END_NONE, 0, "alive")                                                                     \
    X(TP_END_PEER_CLOSED, 1, "the peer closed in order")                                           \
    X(TP_END_PEER_RESET, 2, "the peer reset the connection")                                       \
    X(TP_END_TRUNCATED, 3, "the stream ended inside a frame, or on the WAN without CLOSE")         \
    X(TP_END_PROTOCOL, 4, "the peer broke the protocol")                                           \
    X(TP_END_IDLE, 5, "nothing came within the idle time-out")                                     \
    X(TP_END_OVERLOAD, 6, "the peer read too slowly and the send queue reached its limit")         \
    X(TP_END_KICKED, 7, "disconnected by the application")                                         \
    X(TP_END_SHUTDOWN, 8, "the server stopped")                                                    \
    X(TP_END_REFUSED, 9, "the peer closed and gave a reason")                                      \
    X(TP_END_NO_MEMORY, 10, "memory for the session's next message could not be allocated")        \
    X(TP_END_CONNECT_FAILED, 11, "an outgoing connection was not established")                     \
    X(TP_END_OS, 12, "the system reported an error")                                               \
    X(TP_END_TAMPERED, 13, "a record failed authentication")                                       \
    X(TP_END_RATE, 14, "the peer sent more than its rate allows")                                  \
    X(TP_END_KEY_LIMIT, 15, "a key was used as often as it may be")

typedef enum tp_end_reason {
#define TP_END_ENUM(name, value, text) name = value,
    TP_END_REASONS(TP_END_ENUM)
#undef TP_END_ENUM
        TP_END_REASON_COUNT
} tp_end_reason;

/* The name ("TP_END_IDLE") and the text of a reason. Any thread; never NULL. */
const char *tp_end_reason_name(tp_end_reason reason);
const char *tp_end_reason_text(tp_end_reason reason);

/* The state of a session at the moment. */
typedef struct tp_session_info {
    size_t size; /* sizeof(tp_session_info), set by the caller */
    tp_session_id session;
    tp_address peer;
    uint64_t age_ms;    /* since it joined */
    uint64_t silent_ms; /* since bytes last arrived, without the time in which the server could not
                           read */
    uint64_t received_messages;
    uint64_t received_bytes; /* from the network, headers included */
    uint64_t sent_messages;  /* handed to the system completely */
    uint64_t sent_bytes;
    uint64_t queued_bytes; /* in the send queue or with the system */
    uint32_t queued_packets;
    uint32_t ending; /* 1: it is being ended after what is queued, and takes no more packets */
} tp_session_info;

/* One entry of the ledger: how a session ended. */
typedef struct tp_session_end {
    size_t size; /* sizeof(tp_session_end), set by the caller of tp_server_read_ledger */
    tp_session_id session;
    tp_address peer;
    tp_end_reason reason;
    int os_error;             /* the system's code behind the reason, or 0 */
    uint32_t close_code;      /* the CLOSE reason that the peer gave (TP_END_REFUSED), or 0 */
    uint32_t pending_packets; /* queued and never sent */
    uint64_t pending_bytes;
    uint64_t received_messages;
    uint64_t received_bytes;
    uint64_t sent_messages;
    uint64_t sent_bytes;
    uint64_t age_ms;
    uint64_t ended_wall_ms; /* milliseconds since 1970 UTC */
} tp_session_end;

#ifdef __cplusplus
}
#endif
#endif
