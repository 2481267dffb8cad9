/*
 * The connections that the WAN's rules turn away before they have joined: each reason has a number
 * in tp_wanserver_stats and a line of its own in the log. Nothing is counted that is not said: one
 * call does both.
 */
#ifndef TWINPORT_WANSERVER_WAN_REFUSAL_H
#define TWINPORT_WANSERVER_WAN_REFUSAL_H

#include "twinport/address.h"
#include "twinport/log.h"

struct tp__wan;

/* X(name, counter in tp_wanserver_stats, what the log says) */
#define TP__REFUSALS(X)                                                                            \
    X(BANNED, banned, "it is banned")                                                              \
    X(TOO_FAST, limited, "its address has used up accept_rate")                                    \
    X(TOO_MANY, limited, "its address has connections_per_address connections")                    \
    X(TOO_MANY_ADDRESSES, limited, "max_addresses addresses have connections")                     \
    X(EVICTED, evicted, "max_pending: it made room for another before it had said HELLO")          \
    X(CROWDED, crowded, "max_pending handshakes are under way")                                    \
    X(LATE, late, "it was not ready within handshake_timeout")                                     \
    X(FOREIGN, foreign, "what it said is no HELLO of this protocol, suite or mode")                \
    X(OTHER_VERSION, other_version, "it speaks another version, and was told ours")                \
    X(EXPIRED, expired, "its token has expired")                                                   \
    X(LONG_LIVED, long_lived, "its token lives too long")                                          \
    X(UNKNOWN_KEY, unknown_key, "its token is of a key that token_keys does not have")             \
    X(FORGED, forged, "its token or its HELLO is forged, or for another gateway")                  \
    X(REPLAYED, replayed, "its token has been used already")                                       \
    X(REPLAY_FULL, replay_full, "used_tokens: no further token can be remembered")                 \
    X(BUSY, busy, "handshake_queue is full, and it was told busy")                                 \
    X(NOT_AUTHENTIC, not_authentic, "its Noise message does not open")                             \
    X(NOT_READY, not_ready, "its first record is not READY, does not open, or is above byte_rate")

typedef enum tp__refusal {
#define TP__REFUSAL_ENUM(name, counter, text) TP__REFUSAL_##name,
    TP__REFUSALS(TP__REFUSAL_ENUM)
#undef TP__REFUSAL_ENUM
        TP__REFUSAL_COUNT
} tp__refusal;

/* Counts, and says at level info. Any thread. */
void tp__wan_refuse(struct tp__wan *wan, tp__refusal why, const tp_address *peer);

/* The same at `level`, with `detail` behind the reason. */
void tp__wan_refuse_with(struct tp__wan *wan, tp__refusal why, tp_log_level level,
    const tp_address *peer, const char *detail);

#endif
