/*
 * The inside of a WAN server: what its files share.
 *
 *     accept, admit  ->  pending: HELLO  ->  handshake  ->  welcomed  ->  joined: records
 *     wanserver.c        hello.c             welcome.c      unseal.c      unseal.c, seal.c
 *
 * One tp__wan per server, made by tp_wanserver_create() and freed with the server; it is the
 * context of the core's layer (core/engine/layer.h). What belongs to one connection is its
 * tp__player, beside its session.
 */
#ifndef TWINPORT_WANSERVER_WAN_H
#define TWINPORT_WANSERVER_WAN_H

#include <stdatomic.h>

#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "proto/handshake.h"
#include "proto/record.h"
#include "twinport/wanserver.h"
#include "wanserver/guard/bans.h"
#include "wanserver/guard/limiter.h"
#include "wanserver/guard/replay.h"
#include "wanserver/handshake/handshakes.h"
#include "wanserver/handshake/pending.h"
#include "wanserver/handshake/player.h"
#include "wanserver/handshake/token_keys.h"
#include "wanserver/wan_refusal.h"

/* What is counted once per connection at most: shared by all workers. X(name), as in
 * tp_wanserver_stats. */
#define TP__WAN_COUNTERS(X)                                                                        \
    X(established)                                                                                 \
    X(banned)                                                                                      \
    X(limited)                                                                                     \
    X(evicted)                                                                                     \
    X(crowded)                                                                                     \
    X(late)                                                                                        \
    X(gone)                                                                                        \
    X(foreign)                                                                                     \
    X(other_version)                                                                               \
    X(expired)                                                                                     \
    X(long_lived)                                                                                  \
    X(unknown_key)                                                                                 \
    X(forged)                                                                                      \
    X(replayed)                                                                                    \
    X(replay_full)                                                                                 \
    X(busy)                                                                                        \
    X(not_authentic)                                                                               \
    X(diffie_hellman)                                                                              \
    X(not_ready)                                                                                   \
    X(tampered)                                                                                    \
    X(rate_limited)                                                                                \
    X(key_limit)

/* A worker's own. */
typedef struct tp__wan_worker {
    _Atomic uint64_t records_sealed;
    _Atomic uint64_t records_opened;
    uint8_t plain[TP_RECORD_PLAIN_MAX]; /* of the record that has just been opened */
} tp__wan_worker;

typedef struct tp__wan {
    tp_server *server;
    tp_wanserver_options options; /* the numbers in it; no pointer in it is to be used */
    tp_mode mode;
    tp_gateway_key key;
    tp__ring ring;
    tp__bans *bans;
    tp__limiter *limiter;
    tp__replay *replay; /* mode token */
    tp__handshakes *handshakes;
    tp__pending pending;
    _Atomic unsigned welcomes; /* handshakes that are out (welcome.c) */
    tp__wan_worker *workers;   /* one for each of the server's */
#define TP__WAN_FIELD(name) _Atomic uint64_t name;
    TP__WAN_COUNTERS(TP__WAN_FIELD)
#undef TP__WAN_FIELD
} tp__wan;

static inline tp__wan *tp__wan_of(const tp__session *session) {
    return session->server->layer.context;
}

static inline tp__player *tp__player_of(const tp__session *session) {
    return tp__layer_state(session);
}

/* The WAN server behind a tp_server; NULL if it is none. Any thread. */
tp__wan *tp__wan_of_server(const tp_server *server);

/* What is no refusal (wan_refusal.h) but is counted. */
#define TP__WAN_COUNT(wan, counter) tp__count_shared(&(wan)->counter, 1)

/* ---- wan_options.c --------------------------------------------------------------------------- */

/* Are the options that are the WAN's in their ranges? TP_ERR_INVALID: logged which. */
tp_err tp__wan_check_options(const tp_wanserver_options *options);

/* ---- hello.c: take, until the HELLO is answered; any byte behind it is one too many ---------- */

void tp__hello_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count);

/* ---- welcome.c ------------------------------------------------------------------------------- */

/* Keeps room for one handshake; false: there is none. Gives it back, if it does not begin. */
bool tp__welcome_reserve(struct tp__wan *wan);
void tp__welcome_unreserve(struct tp__wan *wan);

/* Leaves a HELLO that has passed its checks, and for which room is kept, to the handshake threads.
 * False: memory is out. */
bool tp__welcome_begin(tp__session *session, const tp_hello *hello);

/* The handshake threads' functions. */
void tp__welcome_run(void *welcome);
void tp__welcome_deliver(void *const *welcomes, unsigned count);
void tp__welcome_drop(void *welcome);

/* Queues the whole of a REPLY: bytes that are neither in a frame nor in a record. A worker that
 * serves the session. False: memory is out; the session ends. */
bool tp__reply_queue(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t size);

/* ---- unseal.c: take, from the welcome on ----------------------------------------------------- */

void tp__records_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count);
bool tp__records_permit(tp__session *session, tp__worker *worker);

/* ---- seal.c ---------------------------------------------------------------------------------- */

/* A record of ours fills just what packets are cut to. One fill makes so many. */
#define TP__SEAL_PLAIN_MOST (TP__PACKET_SMALL - TP_RECORD_OVERHEAD)
#define TP__SEAL_RECORDS    4u
tp_end_reason tp__seal_fill(
    tp__session *session, tp__worker *worker, struct tp__flight *flight, bool *end);

#endif
