/*
 * The stage of the server's tests: a server whose handlers count and remember, and ways to wait for
 * what they saw. One server at a time is on it, or several with one stage each.
 */
#ifndef TWINPORT_TESTS_SERVER_STAGE_H
#define TWINPORT_TESTS_SERVER_STAGE_H

#include <stdatomic.h>

#include "check.h"
#include "os/clock.h"
#include "os/thread.h"
#include "proto/frame.h"
#include "raw_peer.h"
#include "twinport/server.h"

typedef struct server_stage {
    tp_server *server;
    tp_server_options options; /* change before server_stage_open() */
    tp_handlers handlers;      /* likewise; the stage's own are set by server_stage_init() */

    atomic_uint requests, joins, leaves, messages, sends, begins, ends, errors;
    atomic_ullong last_joined;
    atomic_int last_reason;
    atomic_int last_error;
    atomic_bool deny; /* what on_connection_request answers */
    atomic_bool echo; /* does on_recv send back? true at first */
    void (*on_message)(struct server_stage *stage, tp_session_id session, tp_packet *packet);
    void (*on_joined)(struct server_stage *stage, tp_session_id session);
    void (*on_left)(struct server_stage *stage, tp_session_id session, tp_end_reason reason);
    void *context;
    atomic_bool blocked, let_go; /* a handler or a task is in stage_block(); it may go on */
} server_stage;

static inline server_stage *stage_of(tp_server *server) {
    return tp_server_context(server);
}

static bool stage_on_request(tp_server *server, const tp_address *peer) {
    server_stage *stage = stage_of(server);
    (void)peer;
    atomic_fetch_add(&stage->requests, 1);
    return !atomic_load(&stage->deny);
}

static void stage_on_join(tp_server *server, tp_session_id session) {
    server_stage *stage = stage_of(server);
    atomic_store(&stage->last_joined, session);
    if (stage->on_joined) {
        stage->on_joined(stage, session);
    }
    atomic_fetch_add(&stage->joins, 1);
}

static void stage_on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    server_stage *stage = stage_of(server);
    atomic_store(&stage->last_reason, reason);
    if (stage->on_left) {
        stage->on_left(stage, session, reason);
    }
    atomic_fetch_add(&stage->leaves, 1);
}

static void stage_on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    server_stage *stage = stage_of(server);
    if (stage->on_message) {
        stage->on_message(stage, session, packet);
    } else if (atomic_load(&stage->echo)) {
        tp_server_send(server, session, packet);
    }
    atomic_fetch_add(&stage->messages, 1);
}

static void stage_on_send(tp_server *server, tp_session_id session, size_t packets, size_t bytes) {
    (void)session, (void)bytes;
    atomic_fetch_add(&stage_of(server)->sends, (unsigned)packets);
}

static void stage_on_begin(tp_server *server, unsigned worker) {
    (void)worker;
    atomic_fetch_add(&stage_of(server)->begins, 1);
}

static void stage_on_end(tp_server *server, unsigned worker) {
    (void)worker;
    atomic_fetch_add(&stage_of(server)->ends, 1);
}

static void stage_on_error(tp_server *server, tp_err error, int os_error, const char *where) {
    (void)os_error, (void)where;
    server_stage *stage = stage_of(server);
    atomic_store(&stage->last_error, error);
    atomic_fetch_add(&stage->errors, 1);
}

/* Holds up the worker until `let_go`. */
static inline void stage_block(server_stage *stage) {
    atomic_store(&stage->blocked, true);
    while (!atomic_load(&stage->let_go)) {
        tp_thread_yield();
    }
}

/* An on_message: echoes, and holds up its worker at a message that begins with b. */
static inline void stage_block_on_b(server_stage *stage, tp_session_id session, tp_packet *packet) {
    if (*tp_packet_bytes(packet) == 'b') {
        stage_block(stage);
    }
    CHECK(tp_server_send(stage->server, session, packet));
}

/* Options and handlers to start from; one worker, so that what the tests see has one order. */
static inline void server_stage_init(server_stage *stage) {
    memset(stage, 0, sizeof *stage);
    tp_server_defaults(&stage->options);
    tp_address_parse("127.0.0.1", &stage->options.address);
    stage->options.workers = 1;
    stage->options.ping_interval_ms =
        0; /* however slow this machine is, nothing comes unasked for */
    stage->options.idle_timeout_ms = 0;
    stage->options.context = stage;
    atomic_init(&stage->echo, true);
    stage->handlers = (tp_handlers){.size = sizeof stage->handlers,
        .on_connection_request = stage_on_request,
        .on_join = stage_on_join,
        .on_leave = stage_on_leave,
        .on_recv = stage_on_recv,
        .on_send = stage_on_send,
        .on_worker_begin = stage_on_begin,
        .on_worker_end = stage_on_end,
        .on_error = stage_on_error};
}

static inline void server_stage_open(server_stage *stage) {
    REQUIRE(tp_server_create(&stage->options, &stage->handlers, &stage->server) == TP_OK);
    REQUIRE(tp_server_start(stage->server) == TP_OK);
}

/* Stops in order; everything that came in must have gone out. */
static inline void server_stage_close(server_stage *stage) {
    tp_server_stop(stage->server);
    CHECK_EQ(tp_server_wait(stage->server, -1), TP_OK);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage->server, &stats);
    CHECK_EQ(tp_server_session_count(stage->server), 0);
    CHECK_LE(stats.joined, stats.left); /* outgoing connections that failed leave without joining */
    CHECK_EQ(atomic_load(&stage->begins), atomic_load(&stage->ends));
    tp_server_destroy(stage->server);
}

static inline raw_peer *stage_connect_peer(server_stage *stage) {
    tp_address address = tp_server_address(stage->server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    return peer;
}

/* Waits until the condition holds, giving the processor away meanwhile; fails the test if it never
 * does. */
#define STAGE_WAIT(condition)                                                                      \
    do {                                                                                           \
        uint64_t stage_deadline_ = raw_deadline();                                                 \
        bool stage_holds_ = (condition); /* looked at once each: looking may do something */       \
        while (!stage_holds_ && tp_clock_ms() < stage_deadline_) {                                 \
            tp_thread_yield();                                                                     \
            stage_holds_ = (condition);                                                            \
        }                                                                                          \
        check_true(stage_holds_, "in time: " #condition, __FILE__, __LINE__);                      \
        REQUIRE(stage_holds_);                                                                     \
    } while (0)

#endif
