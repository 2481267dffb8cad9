/*
 * HELLO: collecting it, and the checks that need no Diffie-Hellman work, in the order of the
 * protocol.
 *
 * Runs on the worker that has the session's receive delivery. A HELLO that fails is closed without
 * an answer, except for another version and a full queue, which are answered by REPLY.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "os/clock.h"
#include "wanserver/wan.h"

static void hello_refuse(tp__session *session, tp__refusal why) {
    tp__wan_refuse(tp__wan_of(session), why, tp__layer_peer(session));
    tp__session_close(session, TP_END_PROTOCOL, 0);
}

/* Queues a REPLY behind which nothing is sent. The connection is not pending from here on: it does
 * not count for max_pending, and it is not evicted before its REPLY is read. */
static void hello_reply_last(
    tp__session *session, tp__worker *worker, const uint8_t *reply, size_t size) {
    tp__pending_remove(&tp__wan_of(session)->pending, session);
    if (tp__reply_queue(session, worker, reply, size)) {
        tp__session_turn_away(session, TP_END_REFUSED, -1);
    }
}

static void hello_reply_version(tp__session *session, tp__worker *worker) {
    uint8_t reply[TP_REPLY_VERSION];
    tp_reply_write_version(reply);
    tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_OTHER_VERSION, tp__layer_peer(session));
    hello_reply_last(session, worker, reply, sizeof reply);
}

static void hello_reply_busy(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    uint8_t reply[TP_REPLY_BUSY];
    tp_reply_write_busy((uint16_t)wan->options.busy_seconds, reply);
    tp__wan_refuse(wan, TP__REFUSAL_BUSY, tp__layer_peer(session));
    hello_reply_last(session, worker, reply, sizeof reply);
}

/* ---- the checks ------------------------------------------------------------------------------ */

static tp_err hello_check(tp__wan *wan, const uint8_t *bytes, uint64_t now, tp_hello *hello) {
    tp__token_key_set *set = tp__token_keys_acquire(&wan->token_keys);
    tp_err error = tp_hello_check(
        bytes, wan->mode, &wan->key, set ? set->keys : NULL, set ? set->count : 0, now, hello);
    tp__token_keys_release(&wan->token_keys, set);
    return error;
}

/* A warning, because only the login service can have made this token: no stranger can cause this
 * line. */
static void hello_refuse_long_lived(tp__session *session, const tp_hello *hello, uint64_t now) {
    assert(hello->token.expiry > now);
    tp__wan *wan = tp__wan_of(session);
    char detail[192];
    (void)snprintf(detail, sizeof detail,
        "it expires in %llu s, max_token_life is %u s; expiry is in seconds since 1970, and the "
        "clocks of login service and gate must agree",
        (unsigned long long)(hello->token.expiry - now), wan->options.max_token_life_s);
    tp__wan_refuse_with(
        wan, TP__REFUSAL_LONG_LIVED, TP_LOG_WARNING, tp__layer_peer(session), detail);
    tp__session_close(session, TP_END_PROTOCOL, 0);
}

static void hello_refuse_error(tp__session *session, tp__worker *worker, tp_err error) {
    switch (error) {
    case TP_ERR_PROTOCOL:
        hello_refuse(session, TP__REFUSAL_FOREIGN);
        break;
    case TP_ERR_EXPIRED:
        hello_refuse(session, TP__REFUSAL_EXPIRED);
        break;
    case TP_ERR_NO_KEY:
        hello_refuse(session, TP__REFUSAL_UNKNOWN_KEY);
        break;
    case TP_ERR_AUTH:
        hello_refuse(session, TP__REFUSAL_FORGED);
        break;
    default:
        tp__server_error(tp__layer_server(session), worker, error, 0, "hello");
        tp__session_close(session, TP_END_OS, 0);
        break;
    }
}

/* Marks the token as used. False: it is not accepted, and the session ends. */
static bool hello_use_token(tp__session *session, const tp_hello *hello, uint64_t now) {
    tp__wan *wan = tp__wan_of(session);
    if (wan->mode != TP_MODE_TOKEN) {
        return true;
    }
    uint64_t steady = tp_clock_ms() / 1000;
    switch (tp__replay_take(wan->replay, hello->token.id, hello->token.expiry, now, steady)) {
    case TP__FRESH:
        return true;
    case TP__SEEN:
        hello_refuse(session, TP__REFUSAL_REPLAYED);
        return false;
    case TP__LONG_LIVED:
        hello_refuse_long_lived(session, hello, now);
        return false;
    case TP__REPLAY_FULL:
        break;
    }
    hello_refuse(session, TP__REFUSAL_REPLAY_FULL);
    return false;
}

/* The HELLO is valid. A job is reserved, and the connection is taken off the list of those that may
 * be evicted, before the token is marked as used: a client that gets REPLY `busy` or is evicted can
 * retry with the same token. */
static void hello_accept(
    tp__session *session, tp__worker *worker, const tp_hello *hello, uint64_t now) {
    assert(atomic_load_explicit(&tp__connection_of(session)->state, memory_order_relaxed) ==
           TP__CONNECTION_HELLO);
    tp__wan *wan = tp__wan_of(session);
    if (!tp__handshake_job_reserve(wan)) {
        hello_reply_busy(session, worker);
        return;
    }
    if (!tp__pending_keep(&wan->pending, session) || !hello_use_token(session, hello, now)) {
        tp__handshake_job_unreserve(wan);
        return;
    }
    atomic_store_explicit(
        &tp__connection_of(session)->state, TP__CONNECTION_HANDSHAKE, memory_order_release);
    if (!tp__handshake_job_start(session, hello)) {
        tp__handshake_job_unreserve(wan);
        tp__session_out_of_memory(session, worker);
    }
}

static void hello_judge(tp__session *session, tp__worker *worker, const uint8_t *bytes) {
    tp__wan *wan = tp__wan_of(session);
    uint64_t now = tp_clock_wall_ms() / 1000;
    tp_hello hello;
    tp_err error = hello_check(wan, bytes, now, &hello);
    if (error) {
        hello_refuse_error(session, worker, error);
        return;
    }
    hello_accept(session, worker, &hello, now);
    tp_secure_wipe(&hello, sizeof hello);
}

/* ---- collecting ------------------------------------------------------------------------------ */

/* Adds `count` bytes to the collected ones. Returns how many bytes have been received in all, which
 * may be more than are stored. 0: out of memory, and the session ends. */
static size_t hello_collect(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count, size_t whole) {
    tp__connection *connection = tp__connection_of(session);
    if (!connection->partial) {
        connection->partial = tp__layer_packet_kept(TP_HELLO_MAX);
        if (!connection->partial) {
            tp__session_out_of_memory(session, worker);
            return 0;
        }
    }
    size_t have = connection->partial_filled;
    assert(have <= whole && whole <= TP_HELLO_MAX);
    size_t kept = count < whole - have ? count : whole - have;
    memcpy(tp_packet_edit(connection->partial) + have, bytes, kept);
    connection->partial_filled += (uint32_t)kept;
    return have + count;
}

static void hello_free(tp__connection *connection) {
    tp_packet_release(connection->partial);
    connection->partial = NULL;
    connection->partial_filled = 0;
}

/* Checks what has been received: `have` bytes, of which no more than the size of a HELLO need be at
 * `bytes`. */
static void hello_inspect(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t have) {
    tp__wan *wan = tp__wan_of(session);
    size_t whole = tp_hello_size(wan->mode);
    switch (tp_hello_look(bytes, have < TP_HELLO_FIXED ? have : TP_HELLO_FIXED, wan->mode)) {
    case TP_HELLO_OTHER_VERSION:
        hello_reply_version(session, worker);
        return;
    case TP_HELLO_FOREIGN:
        hello_refuse(session, TP__REFUSAL_FOREIGN);
        return;
    case TP_HELLO_GOOD:
        break;
    }
    if (have > whole) {
        hello_refuse(session, TP__REFUSAL_FOREIGN);
    } else if (have == whole) {
        hello_judge(session, worker, bytes);
        hello_free(tp__connection_of(session));
    }
}

void tp__hello_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__connection *connection = tp__connection_of(session);
    if (!tp__layer_takes_input(session)) {
        return;
    }
    if (atomic_load_explicit(&connection->state, memory_order_acquire) != TP__CONNECTION_HELLO) {
        /* it has not been answered, so the client may not send anything yet */
        hello_refuse(session, TP__REFUSAL_FOREIGN);
        return;
    }
    size_t whole = tp_hello_size(tp__wan_of(session)->mode);
    if (!connection->partial && count >= whole) {
        hello_inspect(session, worker, bytes, count);
        return;
    }
    size_t have = hello_collect(session, worker, bytes, count, whole);
    if (have > 0) {
        hello_inspect(session, worker, tp_packet_edit(connection->partial), have);
    }
}
