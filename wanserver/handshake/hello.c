/*
 * HELLO: collecting it, and the checks that cost no Diffie-Hellman, in the protocol's order.
 *
 * Runs on the worker that has the session's receive delivery. What fails ends in the same silent
 * close, but for another version and for want of room, which are told.
 */
#include <stdio.h>
#include <string.h>

#include "core/packet/packet_internal.h"
#include "os/clock.h"
#include "wanserver/wan.h"

static void refuse(tp__session *session, tp__refusal why) {
    tp__wan_refuse(tp__wan_of(session), why, &session->peer);
    tp__session_close(session, TP_END_PROTOCOL, 0);
}

/* A REPLY that is the last there is. From here on the connection is not pending: it holds no place,
 * and is not evicted before its REPLY is read. */
static void dismiss(tp__session *session, tp__worker *worker, const uint8_t *reply, size_t size) {
    tp__pending_remove(&tp__wan_of(session)->pending, session);
    if (tp__reply_queue(session, worker, reply, size)) {
        tp__session_turn_away(session, TP_END_REFUSED, -1);
    }
}

static void tell_version(tp__session *session, tp__worker *worker) {
    uint8_t reply[TP_REPLY_VERSION];
    tp_reply_write_version(reply);
    tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_OTHER_VERSION, &session->peer);
    dismiss(session, worker, reply, sizeof reply);
}

static void tell_busy(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    uint8_t reply[TP_REPLY_BUSY];
    tp_reply_write_busy((uint16_t)wan->options.busy_seconds, reply);
    tp__wan_refuse(wan, TP__REFUSAL_BUSY, &session->peer);
    dismiss(session, worker, reply, sizeof reply);
}

/* ---- the checks ------------------------------------------------------------------------------ */

static tp_err check(tp__wan *wan, const uint8_t *bytes, uint64_t now, tp_hello *hello) {
    tp__ring_keys *ring = tp__ring_take(&wan->ring);
    tp_err error = tp_hello_check(
        bytes, wan->mode, &wan->key, ring ? ring->keys : NULL, ring ? ring->count : 0, now, hello);
    tp__ring_give(&wan->ring, ring);
    return error;
}

/* A warning: the token is the login service's own, so a stranger cannot cause this line. */
static void refuse_long_lived(tp__session *session, const tp_hello *hello, uint64_t now) {
    tp__wan *wan = tp__wan_of(session);
    char detail[192];
    (void)snprintf(detail, sizeof detail,
        "it would be good for %llu s more, and max_token_life is %u s; a token's expiry is in "
        "seconds since 1970, and the clocks must agree",
        (unsigned long long)(hello->token.expiry - now), wan->options.max_token_life_s);
    tp__wan_refuse_with(wan, TP__REFUSAL_LONG_LIVED, TP_LOG_WARNING, &session->peer, detail);
    tp__session_close(session, TP_END_PROTOCOL, 0);
}

static void refuse_for(tp__session *session, tp__worker *worker, tp_err error) {
    switch (error) {
    case TP_ERR_PROTOCOL:
        refuse(session, TP__REFUSAL_FOREIGN);
        break;
    case TP_ERR_EXPIRED:
        refuse(session, TP__REFUSAL_EXPIRED);
        break;
    case TP_ERR_NO_KEY:
        refuse(session, TP__REFUSAL_UNKNOWN_KEY);
        break;
    case TP_ERR_AUTH:
        refuse(session, TP__REFUSAL_FORGED);
        break;
    default:
        tp__server_report(session->server, worker, error, 0, "hello");
        tp__session_close(session, TP_END_OS, 0);
        break;
    }
}

/* Uses the token up. False: it was, and the session ends. */
static bool take_token(tp__session *session, const tp_hello *hello, uint64_t now) {
    tp__wan *wan = tp__wan_of(session);
    if (wan->mode != TP_MODE_TOKEN) {
        return true;
    }
    uint64_t steady = tp_clock_ms() / 1000;
    switch (tp__replay_take(wan->replay, hello->token.id, hello->token.expiry, now, steady)) {
    case TP__FRESH:
        return true;
    case TP__SEEN:
        refuse(session, TP__REFUSAL_REPLAYED);
        return false;
    case TP__LONG_LIVED:
        refuse_long_lived(session, hello, now);
        return false;
    case TP__REPLAY_FULL:
        break;
    }
    refuse(session, TP__REFUSAL_REPLAY_FULL);
    return false;
}

/* It is good. Room is kept for it and it can no longer be evicted before its token is used up:
 * who is told `busy` or has to make room may come again with the same one. */
static void accept(tp__session *session, tp__worker *worker, const tp_hello *hello, uint64_t now) {
    tp__wan *wan = tp__wan_of(session);
    if (!tp__welcome_reserve(wan)) {
        tell_busy(session, worker);
        return;
    }
    if (!tp__pending_heard(&wan->pending, session) || !take_token(session, hello, now)) {
        tp__welcome_unreserve(wan);
        return;
    }
    atomic_store_explicit(
        &tp__player_of(session)->stage, TP__PLAYER_HANDSHAKE, memory_order_release);
    if (!tp__welcome_begin(session, hello)) {
        tp__welcome_unreserve(wan);
        tp__session_out_of_memory(session, worker);
    }
}

static void judge(tp__session *session, tp__worker *worker, const uint8_t *bytes) {
    tp__wan *wan = tp__wan_of(session);
    uint64_t now = tp_clock_wall_ms() / 1000;
    tp_hello hello;
    tp_err error = check(wan, bytes, now, &hello);
    if (error) {
        refuse_for(session, worker, error);
        return;
    }
    accept(session, worker, &hello, now);
    tp_secure_wipe(&hello, sizeof hello);
}

/* ---- collecting ------------------------------------------------------------------------------ */

/* Adds what has come to what is there; returns how much there is now, which may be more than is
 * kept. 0: memory is out, and the session ends. */
static size_t collect(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count, size_t whole) {
    tp__player *player = tp__player_of(session);
    if (!player->partial) {
        player->partial = tp__packet_kept(TP_HELLO_MAX);
        if (!player->partial) {
            tp__session_out_of_memory(session, worker);
            return 0;
        }
    }
    size_t have = player->partial_filled;
    size_t kept = count < whole - have ? count : whole - have;
    memcpy(tp__packet_payload(player->partial) + have, bytes, kept);
    player->partial_filled += (uint32_t)kept;
    return have + count;
}

static void forget(tp__player *player) {
    tp_packet_release(player->partial);
    player->partial = NULL;
    player->partial_filled = 0;
}

/* `have` bytes of it are there, of which no more than a whole HELLO need be at `bytes`. */
static void look(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t have) {
    tp__wan *wan = tp__wan_of(session);
    size_t whole = tp_hello_size(wan->mode);
    switch (tp_hello_look(bytes, have < TP_HELLO_FIXED ? have : TP_HELLO_FIXED, wan->mode)) {
    case TP_HELLO_OTHER_VERSION:
        tell_version(session, worker);
        return;
    case TP_HELLO_FOREIGN:
        refuse(session, TP__REFUSAL_FOREIGN);
        return;
    case TP_HELLO_GOOD:
        break;
    }
    if (have > whole) {
        refuse(session, TP__REFUSAL_FOREIGN);
    } else if (have == whole) {
        judge(session, worker, bytes);
        forget(tp__player_of(session));
    }
}

void tp__hello_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__player *player = tp__player_of(session);
    if (!tp__session_listens(session)) {
        return;
    }
    if (atomic_load_explicit(&player->stage, memory_order_acquire) != TP__PLAYER_HELLO) {
        /* it has not been answered: what could it have to say? */
        refuse(session, TP__REFUSAL_FOREIGN);
        return;
    }
    size_t whole = tp_hello_size(tp__wan_of(session)->mode);
    if (!player->partial && count >= whole) {
        look(session, worker, bytes, count);
        return;
    }
    size_t have = collect(session, worker, bytes, count, whole);
    if (have > 0) {
        look(session, worker, tp__packet_payload(player->partial), have);
    }
}
