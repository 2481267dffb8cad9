/*
 * The fixture of the server's tests: a server whose handlers count their calls and store the last
 * values, and FIXTURE_WAIT for conditions on them. One server, or several with a fixture each.
 */
#ifndef TWINPORT_TESTS_SERVER_FIXTURE_H
#define TWINPORT_TESTS_SERVER_FIXTURE_H

#include <stdatomic.h>

#include "check.h"
#include "os/clock.h"
#include "os/thread.h"
#include "proto/frame.h"
#include "raw_peer.h"
#include "twinport/server.h"

typedef struct server_fixture {
    tp_server *server;
    tp_server_options options; /* change before server_fixture_open() */
    tp_handlers handlers;      /* likewise; server_fixture_init() sets the fixture's own */

    atomic_uint requests, joins, leaves, messages, sends, begins, ends, errors;
    atomic_ullong last_joined;
    atomic_int last_reason;
    atomic_int last_error;
    atomic_bool deny; /* what on_connection_request returns, inverted */
    atomic_bool echo; /* whether on_recv sends the message back; initially true */
    void (*on_message)(struct server_fixture *fixture, tp_session_id session, tp_packet *packet);
    void (*on_joined)(struct server_fixture *fixture, tp_session_id session);
    void (*on_left)(struct server_fixture *fixture, tp_session_id session, tp_end_reason reason);
    void *context;
    atomic_bool blocked, unblock; /* a handler or a task is in fixture_block(); it may return */
} server_fixture;

static inline server_fixture *fixture_of(tp_server *server) {
    return tp_server_context(server);
}

static bool fixture_on_request(tp_server *server, const tp_address *peer) {
    server_fixture *fixture = fixture_of(server);
    (void)peer;
    atomic_fetch_add(&fixture->requests, 1);
    return !atomic_load(&fixture->deny);
}

static void fixture_on_join(tp_server *server, tp_session_id session) {
    server_fixture *fixture = fixture_of(server);
    atomic_store(&fixture->last_joined, session);
    if (fixture->on_joined) {
        fixture->on_joined(fixture, session);
    }
    atomic_fetch_add(&fixture->joins, 1);
}

static void fixture_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    server_fixture *fixture = fixture_of(server);
    atomic_store(&fixture->last_reason, reason);
    if (fixture->on_left) {
        fixture->on_left(fixture, session, reason);
    }
    atomic_fetch_add(&fixture->leaves, 1);
}

static void fixture_on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    server_fixture *fixture = fixture_of(server);
    if (fixture->on_message) {
        fixture->on_message(fixture, session, packet);
    } else if (atomic_load(&fixture->echo)) {
        tp_server_send(server, session, packet);
    }
    atomic_fetch_add(&fixture->messages, 1);
}

static void fixture_on_send(
    tp_server *server, tp_session_id session, size_t packets, size_t bytes) {
    (void)session, (void)bytes;
    atomic_fetch_add(&fixture_of(server)->sends, (unsigned)packets);
}

static void fixture_on_begin(tp_server *server, unsigned worker) {
    (void)worker;
    atomic_fetch_add(&fixture_of(server)->begins, 1);
}

static void fixture_on_end(tp_server *server, unsigned worker) {
    (void)worker;
    atomic_fetch_add(&fixture_of(server)->ends, 1);
}

static void fixture_on_error(tp_server *server, tp_err error, int os_error, const char *where) {
    (void)os_error, (void)where;
    server_fixture *fixture = fixture_of(server);
    atomic_store(&fixture->last_error, error);
    atomic_fetch_add(&fixture->errors, 1);
}

/* Blocks the calling worker until `unblock`. */
static inline void fixture_block(server_fixture *fixture) {
    atomic_store(&fixture->blocked, true);
    while (!atomic_load(&fixture->unblock)) {
        tp_thread_yield();
    }
}

/* For on_message: sends each message back, and blocks its worker at one that begins with b. */
static inline void fixture_block_on_b(
    server_fixture *fixture, tp_session_id session, tp_packet *packet) {
    if (*tp_packet_bytes(packet) == 'b') {
        fixture_block(fixture);
    }
    CHECK(tp_server_send(fixture->server, session, packet));
}

/* Default options and handlers. One worker, so that events have one order. */
static inline void server_fixture_init(server_fixture *fixture) {
    memset(fixture, 0, sizeof *fixture);
    tp_server_defaults(&fixture->options);
    tp_address_parse("127.0.0.1", &fixture->options.address);
    fixture->options.workers = 1;
    fixture->options.ping_interval_ms =
        0; /* however slow the machine is, the server sends no PING */
    fixture->options.idle_timeout_ms = 0;
    fixture->options.context = fixture;
    atomic_init(&fixture->echo, true);
    fixture->handlers = (tp_handlers){.size = sizeof fixture->handlers,
        .on_connection_request = fixture_on_request,
        .on_join = fixture_on_join,
        .on_leave = fixture_on_leave,
        .on_recv = fixture_on_recv,
        .on_send = fixture_on_send,
        .on_worker_begin = fixture_on_begin,
        .on_worker_end = fixture_on_end,
        .on_error = fixture_on_error};
}

static inline void server_fixture_open(server_fixture *fixture) {
    REQUIRE(tp_server_create(&fixture->options, &fixture->handlers, &fixture->server) == TP_OK);
    REQUIRE(tp_server_start(fixture->server) == TP_OK);
}

/* Stops in order; every session that joined must have left. */
static inline void server_fixture_close(server_fixture *fixture) {
    tp_server_stop(fixture->server);
    CHECK_EQ(tp_server_wait(fixture->server, -1), TP_OK);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture->server, &stats);
    CHECK_EQ(tp_server_session_count(fixture->server), 0);
    /* An outgoing connection that fails leaves without having joined. */
    CHECK_LE(stats.joined, stats.left);
    CHECK_EQ(atomic_load(&fixture->begins), atomic_load(&fixture->ends));
    tp_server_destroy(fixture->server);
}

static inline raw_peer *fixture_connect_peer(server_fixture *fixture) {
    tp_address address = tp_server_address(fixture->server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    return peer;
}

/* Waits until the condition holds and yields the processor meanwhile. Fails the test after the
 * deadline. */
#define FIXTURE_WAIT(condition)                                                                    \
    do {                                                                                           \
        uint64_t fixture_deadline_ = raw_deadline();                                               \
        bool fixture_holds_ = (condition); /* once per round */                                    \
        while (!fixture_holds_ && tp_clock_ms() < fixture_deadline_) {                             \
            tp_thread_yield();                                                                     \
            fixture_holds_ = (condition);                                                          \
        }                                                                                          \
        check_true(fixture_holds_, "in time: " #condition, __FILE__, __LINE__);                    \
        REQUIRE(fixture_holds_);                                                                   \
    } while (0)

#endif
