/*
 * The connections that the WAN refuses before they have joined. Each reason has a counter in
 * tp_wanserver_stats and a log line of its own. One call does both, so whatever is counted is
 * logged too.
 */
#ifndef TWINPORT_WANSERVER_WAN_REFUSAL_H
#define TWINPORT_WANSERVER_WAN_REFUSAL_H

#include "twinport/address.h"
#include "twinport/log.h"

struct tp__wan;

/* X(name, counter in tp_wanserver_stats, the reason's text in the log) */
#define TP__REFUSALS(X)                                                                            \
    X(BANNED, banned, "address is banned")                                                         \
    X(TOO_FAST, limited, "address exceeds accept_rate")                                            \
    X(TOO_MANY, limited, "address exceeds connections_per_address")                                \
    X(TOO_MANY_ADDRESSES, limited, "max_addresses addresses have connections")                     \
    X(EVICTED, evicted, "max_pending reached, evicted before HELLO")                               \
    X(CROWDED, crowded, "max_pending reached, all have sent HELLO")                                \
    X(LATE, late, "not ready within handshake_timeout")                                            \
    X(FOREIGN, foreign, "not a HELLO of this protocol, suite and mode")                            \
    X(OTHER_VERSION, other_version, "other protocol version, answered version")                    \
    X(EXPIRED, expired, "token has expired")                                                       \
    X(LONG_LIVED, long_lived, "token lives too long")                                              \
    X(UNKNOWN_KEY, unknown_key, "token key is not in token_keys")                                  \
    X(FORGED, forged, "token or HELLO is forged or for another gate")                              \
    X(REPLAYED, replayed, "token has been used already")                                           \
    X(REPLAY_FULL, replay_full, "used_tokens reached, token not accepted")                         \
    X(BUSY, busy, "handshake_queue is full, answered busy")                                        \
    X(NOT_AUTHENTIC, not_authentic, "Noise message is not authentic")                              \
    X(NOT_READY, not_ready, "first record is not READY, not authentic or above byte_rate")

typedef enum tp__refusal {
#define TP__REFUSAL_ENUM(name, counter, text) TP__REFUSAL_##name,
    TP__REFUSALS(TP__REFUSAL_ENUM)
#undef TP__REFUSAL_ENUM
        TP__REFUSAL_COUNT
} tp__refusal;

/* Counts one refusal and logs it at level info. Any thread. */
void tp__wan_refuse(struct tp__wan *wan, tp__refusal why, const tp_address *peer);

/* The same at `level`, with `detail` appended to the reason. */
void tp__wan_refuse_with(struct tp__wan *wan, tp__refusal why, tp_log_level level,
    const tp_address *peer, const char *detail);

#endif
