/*
 * wanserver: a server for players. The same handlers and calls as the LAN's, over encrypted and
 * authenticated connections: Noise handshakes, records, connect tokens, limits against abuse.
 *
 *     #include <twinport/wanserver.h>
 *
 *     static void on_join(tp_server *server, tp_session_id session) {
 *         tp_identity who = {.size = sizeof who};
 *         if (tp_session_identity(server, session, &who)) greet(session, who.account);
 *     }
 *     static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
 *         tp_server_broadcast(server, packet, TP_NO_SESSION);
 *     }
 *     ...
 *     tp_wanserver_options options;
 *     tp_wanserver_defaults(&options);
 *     tp_address_parse("0.0.0.0:7777", &options.server.address);
 *     options.private_key = key;              // wanserver --genkey makes one
 *     options.token_keys = ring;              // shared with the login service
 *     options.token_key_count = keys;
 *
 *     tp_handlers handlers = {.size = sizeof handlers, .on_join = on_join, .on_recv = on_recv};
 *     tp_server *server = NULL;
 *     tp_err error = tp_wanserver_create(&options, &handlers, &server);
 *     if (!error) error = tp_server_start(server);
 *
 * Everything else is in twinport/server.h. What differs from the LAN:
 *
 *   - A connection becomes a session, and takes one of the max_sessions places, when its first
 *     record has been opened: only that proves that the client has its keys. Until then it is a
 *     pending connection, of which there are at most max_pending, and no handler hears of it.
 *   - on_connection_request is asked after the access list, the bans and the limits per address.
 *   - tp_server_connect() returns TP_ERR_UNSUPPORTED: players come, gateways do not call.
 *   - An end of the stream without CLOSE is TP_END_TRUNCATED.
 *   - Bytes are counted as they are on the network. on_send's packets are those whose last byte was
 *     in the send: 0 while a large one is on its way.
 *
 * The program `wanserver`, the gate, is written on this header and lanclient's.
 */
#ifndef TWINPORT_WANSERVER_H
#define TWINPORT_WANSERVER_H

#include "proto/token.h"
#include "twinport/server.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tp_auth {
    TP_AUTH_TOKEN = 0, /* only who carries a token of the login service's */
    TP_AUTH_OPEN = 1   /* anybody who knows the public key: nobody is who he says */
} tp_auth;

#define TP_TOKEN_KEYS_MAX 256u

/* What the handshake threads are to the system. */
typedef enum tp_handshake_priority {
    /* What nobody else wants of the processors: SCHED_IDLE; THREAD_PRIORITY_LOWEST on Windows. One
     * thread more, of TP_HANDSHAKE_LOW, takes what has waited for 0.2 s, so that players get in
     * while other programs use all processors. */
    TP_HANDSHAKE_IDLE = 0,
    /* Below the process's others: nice 5 more; THREAD_PRIORITY_BELOW_NORMAL. */
    TP_HANDSHAKE_LOW = 1,
    /* As the process. */
    TP_HANDSHAKE_NORMAL = 2
} tp_handshake_priority;

typedef struct tp_wanserver_options {
    size_t size; /* sizeof(tp_wanserver_options) */
    tp_server_options server;

    tp_auth auth;
    const uint8_t *private_key;     /* X25519, 32 bytes; copied */
    const tp_token_key *token_keys; /* TP_AUTH_TOKEN: the ring, 1..TP_TOKEN_KEYS_MAX; copied */
    size_t token_key_count;
    unsigned replay_tokens;    /* tokens remembered as used until they expire, 1,024..16,777,216;
                                  when so many are alive no further one is taken */
    unsigned max_token_life_s; /* the longest from now to a token's expiry, in seconds,
                                  1..TP_TOKEN_LIFE_MAX; one that would live longer is refused, so
                                  that none is remembered for ever; what the login service's clock
                                  is ahead counts as well */

    unsigned handshake_timeout_ms; /* from accept to READY, absolute but for the time in which its
                                      worker could not serve it (twinport/server.h), 100..600,000 */
    unsigned max_pending; /* connections before READY, 16..65,536; at the limit the oldest that has
                             not said HELLO makes room. 5/4 of them and max_sessions are at most
                             TP_MAX_SESSIONS together */
    unsigned handshake_threads; /* threads for Diffie-Hellman work, 1..64 */
    tp_handshake_priority handshake_priority;
    unsigned handshake_queue; /* HELLOs waiting for them, 1..65,536; more get REPLY `busy`. With
                                 less max_pending that comes first, and is silent */
    unsigned busy_seconds;    /* what `busy` tells them to wait, 0..65,535 */

    /* Per address (IPv6: per /64). 0: no limit. After a stall, what was earned in it comes to the
     * burst for a while, here and below: who waited meanwhile comes at once. */
    unsigned accept_rate;             /* connections per second, 0..1,000,000 */
    unsigned accept_burst;            /* ... and at once, 1..1,000,000 */
    unsigned connections_per_address; /* at once, 0..1,048,576 */
    unsigned max_addresses;           /* addresses with a count of their own, 1,024..16,777,216;
                                         beyond it the one seen longest ago without a connection is
                                         forgotten; if all have one, new ones are turned away */

    /* Per session. 0: no limit. At the limit it ends with CLOSE `rate`, before READY in silence */
    unsigned message_rate; /* messages per second, 0..10,000,000; PING and the like count as well */
    unsigned message_burst; /* ... and at once, 1..10,000,000 */
    size_t byte_rate;       /* bytes per second, 0..2^32-1, as they come from the network */
    size_t byte_burst;      /* ... and at once, 65,536..2^32-1; at least what one message of
                               max_frame is on the network, with its header and records */
} tp_wanserver_options;

/* A record in which no frame ends takes at least so many bytes from byte_rate, however small it is:
 * opening it costs as much, and message_rate counts only frames. */
#define TP_WANSERVER_RECORD_COST 256u

/* Fills in the WAN's profile: the core's defaults, and 127.0.0.1 with a free port, everybody
 * admitted, 4,096 players, frames of 64 KiB, 1 MiB and 4,096 packets of queue, idle 60 s, PING at
 * half of it, tokens, 262,144 of them remembered, an hour the longest life of one, 10 s for a
 * handshake, 1,024 pending, one handshake thread at idle priority, 512 in its queue, busy 5 s, 20
 * connections per second and 50 at once and 64 in all per address, 65,536 addresses, 200 messages
 * per second and 400 at once, 256 KiB per second and 512 KiB at once. `private_key` and the ring
 * are yours to set. Any thread. */
void tp_wanserver_defaults(tp_wanserver_options *options);

/*
 * Makes a server under the WAN's rules; then as tp_server_create(), with its errors. TP_ERR_INVALID
 * (the log says which option), TP_ERR_CRYPTO (libcrypto lacks an algorithm), TP_ERR_NO_MEMORY. On
 * error *server is NULL. A public address needs no permission here. Any thread.
 */
tp_err tp_wanserver_create(
    const tp_wanserver_options *options, const tp_handlers *handlers, tp_server **server);

/* Whose session it is: account, flags and user data out of its token. From on_join until on_leave
 * has returned. False: no such session, auth is open, or identity->size is not set. Any thread. */
bool tp_session_identity(tp_server *server, tp_session_id session, tp_identity *identity);

/* Replaces the ring, for connections that say HELLO from now on. TP_ERR_INVALID, TP_ERR_NO_MEMORY.
 * Any thread. */
tp_err tp_wanserver_set_token_keys(tp_server *server, const tp_token_key *keys, size_t count);

/* Turns this network away at accept for `seconds` (0: until it is lifted), and ends its sessions
 * with CLOSE `kicked`. TP_ERR_INVALID (bits set behind the network's length, or more seconds than
 * there are), TP_ERR_FULL (TP_WANSERVER_MAX_BANS). Lift: false if it was not banned. Any thread. */
#define TP_WANSERVER_MAX_BANS 4096u
tp_err tp_wanserver_ban(tp_server *server, const tp_network *network, uint64_t seconds);
bool tp_wanserver_lift_ban(tp_server *server, const tp_network *network);

typedef struct tp_ban {
    tp_network network;
    uint64_t seconds; /* from now; 0: until it is lifted */
} tp_ban;

/* Makes these `count` bans (0..TP_WANSERVER_MAX_BANS) all there are, in one go: what is not among
 * them is lifted, of a network given twice the last counts, and sessions that are banned now end
 * with CLOSE `kicked`. The sessions are walked once, however many bans there are. Copied.
 * TP_ERR_INVALID as above, TP_ERR_FULL: then nothing has changed. Any thread. */
tp_err tp_wanserver_set_bans(tp_server *server, const tp_ban *bans, size_t count);

typedef struct tp_wanserver_stats {
    size_t size;             /* sizeof(tp_wanserver_stats), set by the caller */
    uint64_t pending;        /* connections before READY, now */
    uint64_t established;    /* handshakes that ended in READY */
    uint64_t banned;         /* turned away by a ban */
    uint64_t limited;        /* ... by the limits per address */
    uint64_t evicted;        /* pending ones that made room */
    uint64_t crowded;        /* connections for which none could make room */
    uint64_t late;           /* ... that were not ready in time */
    uint64_t gone;           /* ... that went by themselves, or failed in the system */
    uint64_t foreign;        /* HELLOs with another magic, suite, mode, or zeros that are not */
    uint64_t other_version;  /* ... of another version, told so */
    uint64_t expired;        /* tokens: too old */
    uint64_t long_lived;     /* ... that would live longer than max_token_life_s */
    uint64_t unknown_key;    /* ... with a key id that is not in the ring */
    uint64_t forged;         /* ... whose box does not open, HELLOs whose mac1 is wrong */
    uint64_t replayed;       /* ... that have been used */
    uint64_t replay_full;    /* ... when no more could be remembered */
    uint64_t busy;           /* HELLOs told to come again */
    uint64_t not_authentic;  /* ... whose Noise message did not open */
    uint64_t diffie_hellman; /* handshakes computed */
    uint64_t overdue;        /* ... of which the idle threads did not come to in time */
    uint64_t not_ready;      /* pending ones whose first record was not READY or did not open, or
                              * that came to the limit of byte_rate before it */
    uint64_t tampered;       /* sessions ended by a record that did not open */
    uint64_t rate_limited;   /* ... by message_rate or byte_rate */
    uint64_t key_limit;      /* ... because a counter came to its end */
    uint64_t records_sealed;
    uint64_t records_opened;
} tp_wanserver_stats;

/* Any thread. */
void tp_wanserver_get_stats(const tp_server *server, tp_wanserver_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
