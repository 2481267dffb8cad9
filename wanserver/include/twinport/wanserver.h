/*
 * wanserver: a server for players. It has the same handlers and calls as the LAN server;
 * connections are encrypted and authenticated: Noise handshakes, records, connect tokens, limits
 * against abuse.
 *
 *     #include <twinport/wanserver.h>
 *
 *     static void on_join(tp_server *server, tp_session_id session) {
 *         tp_identity who = {.size = sizeof who};
 *         if (tp_session_identity(server, session, &who)) welcome(session, who.account);
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
 * Everything else is in twinport/server.h. The differences from a LAN server:
 *
 *   - A connection becomes a session, and counts for max_sessions, when its first record has been
 *     opened: only that proves that the client has its keys. Until then it is a pending connection.
 *     There are at most max_pending of them, and no handler is called for them.
 *   - on_connection_request is called after the access list, the bans and the limits per address
 *     have admitted the address.
 *   - tp_server_connect() returns TP_ERR_UNSUPPORTED: a WAN server only accepts connections.
 *   - An end of the stream without CLOSE is TP_END_TRUNCATED.
 *   - Bytes are counted as they are on the network. on_send gets the number of packets whose last
 *     byte was in the send: 0 if the send contained only a part of a large one.
 *
 * The program `wanserver`, the gate, is written with this header and lanclient's.
 */
#ifndef TWINPORT_WANSERVER_H
#define TWINPORT_WANSERVER_H

#include "proto/token.h"
#include "twinport/server.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tp_auth {
    TP_AUTH_TOKEN = 0, /* only clients with a connect token of the login service */
    TP_AUTH_OPEN = 1   /* any client that knows the public key: no identity is proved */
} tp_auth;

#define TP_TOKEN_KEYS_MAX 256u

/* The priority of the handshake threads. */
typedef enum tp_handshake_priority {
    /* Only processor time that nothing else needs: SCHED_IDLE; THREAD_PRIORITY_LOWEST on Windows.
     * One additional thread with TP_HANDSHAKE_LOW takes the jobs that have waited for 0.2 s, so
     * that players can join while other programs use all processors. */
    TP_HANDSHAKE_IDLE = 0,
    /* Below the other threads of the process: nice value 5 higher; THREAD_PRIORITY_BELOW_NORMAL on
     * Windows. */
    TP_HANDSHAKE_LOW = 1,
    /* The same as the other threads of the process. */
    TP_HANDSHAKE_NORMAL = 2
} tp_handshake_priority;

typedef struct tp_wanserver_options {
    size_t size; /* sizeof(tp_wanserver_options) */
    tp_server_options server;

    tp_auth auth;
    /* X25519, 32 bytes; copied. */
    const uint8_t *private_key;
    /* With TP_AUTH_TOKEN: the key ring, 1..TP_TOKEN_KEYS_MAX keys; copied. */
    const tp_token_key *token_keys;
    size_t token_key_count;
    /* How many used tokens are remembered until they expire, 1,024..16,777,216. When that many have
     * not expired, no further token is accepted. */
    unsigned replay_tokens;
    /* The longest time from now to a token's expiry, in seconds, 1..TP_TOKEN_LIFE_MAX. A token that
     * would live longer is refused, so that none has to be remembered for ever. A login service's
     * clock that is ahead adds to that time. */
    unsigned max_token_life_s;

    /* The time from accept to READY, 100..600,000. It is absolute, except that time in which the
     * connection's worker could not serve it does not count (twinport/server.h). */
    unsigned handshake_timeout_ms;
    /* Connections before READY, 16..65,536. At the limit the oldest that has not sent HELLO is
     * evicted. 5/4 of max_pending and max_sessions together are at most TP_MAX_SESSIONS. */
    unsigned max_pending;
    /* Threads for the Diffie-Hellman work, 1..64. */
    unsigned handshake_threads;
    tp_handshake_priority handshake_priority;
    /* HELLOs that may wait for these threads, 1..65,536; further ones get REPLY `busy`. If
     * max_pending is less, that limit is reached first, and connections are closed without an
     * answer. */
    unsigned handshake_queue;
    /* How long REPLY `busy` tells the client to wait, 0..65,535. */
    unsigned busy_seconds;

    /* Limits per address (IPv6: per /64). 0: no limit. After a stall, what was earned during the
     * stall is added to the burst for a while, here and below, because the connections and messages
     * that waited meanwhile arrive at once. */
    unsigned accept_rate;             /* connections per second, 0..1,000,000 */
    unsigned accept_burst;            /* connections at once, 1..1,000,000 */
    unsigned connections_per_address; /* connections at a time, 0..1,048,576 */
    /* Addresses that are counted, 1,024..16,777,216. Beyond that, the address without connections
     * that was seen longest ago is forgotten; if all have connections, new addresses are
     * refused. */
    unsigned max_addresses;

    /* Limits per session. 0: no limit. At a limit the session ends with CLOSE `rate`, before READY
     * without an answer. */
    unsigned message_rate;  /* messages per second, 0..10,000,000; PING and the like included */
    unsigned message_burst; /* messages at once, 1..10,000,000 */
    size_t byte_rate;       /* bytes per second as received from the network, 0..2^32-1 */
    size_t byte_burst;      /* bytes at once, 65,536..2^32-1; at least the size on the network of
                               a message of max_frame, with its header and records */
} tp_wanserver_options;

/* A record in which no frame ends is charged at least this many bytes of byte_rate, however small
 * it is: opening it costs as much, and message_rate counts frames only. */
#define TP_WANSERVER_RECORD_COST 256u

/*
 * Fills in the defaults of a WAN server: those of tp_server_defaults(), and these:
 *
 *     address                  127.0.0.1 with a free port; every address is admitted
 *     max_sessions             4,096
 *     max_frame                64 KiB
 *     queue                    1 MiB and 4,096 packets
 *     idle timeout, PING       60 s, 30 s
 *     auth                     TP_AUTH_TOKEN
 *     replay_tokens            262,144
 *     max_token_life_s         3,600
 *     handshake_timeout_ms     10,000
 *     max_pending              1,024
 *     handshake_threads        1, of idle priority
 *     handshake_queue          512
 *     busy_seconds             5
 *     accept_rate              20, accept_burst 50
 *     connections_per_address  64
 *     max_addresses            65,536
 *     message_rate             200, message_burst 400
 *     byte_rate                256 KiB, byte_burst 512 KiB
 *
 * `private_key` and the token keys must be set by the caller. Any thread.
 */
void tp_wanserver_defaults(tp_wanserver_options *options);

/*
 * Creates a WAN server. It is then used and destroyed as one of tp_server_create(), whose errors it
 * returns too. TP_ERR_INVALID (the log says which option), TP_ERR_CRYPTO (libcrypto lacks an
 * algorithm), TP_ERR_NO_MEMORY. On error *server is NULL. A public address needs no permission
 * here. Any thread.
 */
tp_err tp_wanserver_create(
    const tp_wanserver_options *options, const tp_handlers *handlers, tp_server **server);

/* Fills in the identity of a session's player from its token: account, flags and user data. It is
 * available from on_join until on_leave has returned. False: there is no such session, auth is
 * open, or identity->size is not set. Any thread. */
bool tp_session_identity(tp_server *server, tp_session_id session, tp_identity *identity);

/* Replaces the token keys, for connections whose HELLO is received from now on. The keys are
 * copied. TP_ERR_INVALID, TP_ERR_NO_MEMORY. Any thread. */
tp_err tp_wanserver_set_token_keys(tp_server *server, const tp_token_key *keys, size_t count);

/* Bans a network: refuses it at accept for `seconds` (0: until the ban is lifted), and ends its
 * sessions with CLOSE `kicked`. TP_ERR_INVALID (bits set behind the network's length, or a time
 * that is too long), TP_ERR_FULL (TP_WANSERVER_MAX_BANS). Lifting returns false if exactly this
 * network was not banned. Any thread. */
#define TP_WANSERVER_MAX_BANS 4096u
tp_err tp_wanserver_ban(tp_server *server, const tp_network *network, uint64_t seconds);
bool tp_wanserver_lift_ban(tp_server *server, const tp_network *network);

typedef struct tp_ban {
    tp_network network;
    uint64_t seconds; /* from now; 0: until it is lifted */
} tp_ban;

/* Replaces all bans by these `count` ones (0..TP_WANSERVER_MAX_BANS) in one step: bans that are not
 * among them are lifted, of a network given twice the last counts, and sessions that are banned now
 * end with CLOSE `kicked`. The sessions are walked once, however many bans there are. The bans are
 * copied. TP_ERR_INVALID as above, TP_ERR_FULL: then nothing has changed. Any thread. */
tp_err tp_wanserver_set_bans(tp_server *server, const tp_ban *bans, size_t count);

typedef struct tp_wanserver_stats {
    size_t size;             /* sizeof(tp_wanserver_stats), set by the caller */
    uint64_t pending;        /* connections before READY, now */
    uint64_t established;    /* handshakes that ended in READY */
    uint64_t banned;         /* connections refused by a ban */
    uint64_t limited;        /* connections refused by the limits per address */
    uint64_t evicted;        /* pending connections evicted at max_pending */
    uint64_t crowded;        /* connections refused at max_pending: none could be evicted */
    uint64_t late;           /* pending connections not READY in time */
    uint64_t gone;           /* pending connections that the client closed or the system failed */
    uint64_t foreign;        /* HELLOs with another magic, suite or mode, or zeros that are not 0 */
    uint64_t other_version;  /* HELLOs of another version, answered with REPLY `version` */
    uint64_t expired;        /* tokens that have expired */
    uint64_t long_lived;     /* tokens that would live longer than max_token_life_s */
    uint64_t unknown_key;    /* tokens with a key id that token_keys does not have */
    uint64_t forged;         /* tokens that are not authentic, and HELLOs with a wrong mac1 */
    uint64_t replayed;       /* tokens that have been used already */
    uint64_t replay_full;    /* tokens refused because replay_tokens are remembered */
    uint64_t busy;           /* HELLOs answered with REPLY `busy` */
    uint64_t not_authentic;  /* HELLOs whose Noise message is not authentic */
    uint64_t diffie_hellman; /* handshakes computed */
    uint64_t overdue;        /* handshakes that the idle threads did not compute in time */
    /* Pending connections whose first record was not READY or not authentic, or that reached the
     * limit of byte_rate before it. */
    uint64_t not_ready;
    uint64_t tampered;       /* sessions ended by a record that is not authentic */
    uint64_t rate_limited;   /* sessions ended by message_rate or byte_rate */
    uint64_t key_limit;      /* sessions ended because a record counter neared its end */
    uint64_t records_sealed; /* records encrypted */
    uint64_t records_opened; /* records decrypted */
} tp_wanserver_stats;

/* Fills in the statistics; does nothing if stats->size is not set or `server` is not a WAN server.
 * Any thread; the numbers are read one by one. */
void tp_wanserver_get_stats(const tp_server *server, tp_wanserver_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
