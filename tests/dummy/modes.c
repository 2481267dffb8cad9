/*
 * The friendly modes, in which every message is answered: echo, storm and slow.
 *
 * Hooks run on the connection's shard. What they leave due is sent by connection_flush(), which the
 * connection calls after every hook.
 */
#include <string.h>

#include "dummy.h"

const mode *const modes[] = {&mode_echo, &mode_storm, &mode_slow, &mode_garbage, &mode_half_open,
    &mode_reset, &mode_arena, NULL};

void mode_reopen(connection *c) {
    if (connection_phase(c) != STOPPING) {
        connection_open(c);
    }
}

void mode_lost(connection *c, tp_err error) {
    connection_fault(c, FAULT_LOST, "connection %u: ended by the server: %s, CLOSE reason %s",
        c->number, error_name(error),
        c->close_seen ? tp_close_reason_name(c->close_reason) : "not said");
}

/* ---- echo: a window of messages that is always full ------------------------------------------ */

#define STARTED 1u /* a connection's choice */

static void fill_window(connection *c) {
    c->owed = c->shard->load->options->window;
}

/* At a rate, the first message is owed after a random part of the interval, so that the connections
 * do not run in step. */
static void echo_start(connection *c) {
    double rate = c->shard->load->options->rate;
    c->choice = STARTED;
    if (rate > 0) {
        c->due_ns =
            c->shard->now_ns + (uint64_t)(shard_chance(c->shard) / 4294967296.0 * 1e9 / rate);
    } else {
        fill_window(c);
    }
}

/* No connection sends before all are established: the traffic would take the server's time from
 * those still connecting. */
static void echo_begin(connection *c) {
    if (connection_phase(c) != CONNECTING) {
        echo_start(c);
    }
}

/* What becomes due while the window is full is left out: an answer's latency is that of its
 * message. */
static void echo_tick(connection *c) {
    const run_options *o = c->shard->load->options;
    phase now = connection_phase(c);
    if (now == CONNECTING || now == STOPPING) {
        return;
    }
    if (c->choice != STARTED) {
        echo_start(c);
    }
    if (o->rate <= 0) {
        return;
    }
    for (; c->due_ns <= c->shard->now_ns; c->due_ns += (uint64_t)(1e9 / o->rate)) {
        c->owed += c->sequence + c->owed - c->answered < o->window;
    }
}

static void echo_leave_if_idle(connection *c) {
    c->owed = 0;
    if (c->answered == c->sequence) {
        connection_leave(c);
    }
}

static void echo_answers(connection *c, uint64_t count) {
    if (connection_phase(c) == STOPPING) {
        echo_leave_if_idle(c);
    } else if (c->shard->load->options->rate <= 0) {
        c->owed += count;
    }
}

const mode mode_echo = {
    .name = "echo",
    .help = "a window of messages on each connection, always full, or filled at --rate",
    .timed = true,
    .begin = echo_begin,
    .answers = echo_answers,
    .ended = mode_lost,
    .tick = echo_tick,
    .stop = echo_leave_if_idle,
};

/* ---- storm: connect, one window of messages, disconnect, again ------------------------------- */

static void storm_answers(connection *c, uint64_t count) {
    (void)count;
    if (c->answered < c->shard->load->options->window) {
        return;
    }
    if (shard_chance(c->shard) % 2 == 0) {
        connection_leave(c); /* with CLOSE: the server ends */
    } else {
        connection_close(c, false); /* without one */
    }
}

static void storm_stop(connection *c) {
    if (c->sequence == 0) {
        connection_close(c, false);
    }
}

const mode mode_storm = {
    .name = "storm",
    .help = "connect, one window of messages, disconnect, and again at once",
    .timed = true,
    .begin = fill_window,
    .answers = storm_answers,
    .ended = mode_lost,
    .closed = mode_reopen,
    .stop = storm_stop,
};

/* ---- slow: sends and does not read, then reads slowly ---------------------------------------- */

#define SLOW_STEP_NS 50000000u /* between two deliveries */

static void slow_begin(connection *c) {
    c->owed = UINT64_MAX; /* as much as the server takes */
}

static void slow_tick(connection *c) {
    load *l = c->shard->load;
    uint64_t now = c->shard->now_ns;
    if (connection_phase(c) != MEASURING ||
        (double)(now - l->begin_ns) < l->options->seconds * 0.5e9) {
        return;
    }
    if (now >= c->deadline_ns) {
        c->deadline_ns = now + SLOW_STEP_NS;
        connection_read(c);
    }
}

static void slow_delivered(connection *c) {
    if (connection_phase(c) != STOPPING) {
        c->paused = true;
        tp_socket_pause(c->shard->worker, &c->socket);
    }
}

static void slow_leave_if_idle(connection *c) {
    if (c->state == OPEN && connection_phase(c) == STOPPING && c->answered == c->sequence &&
        !c->sending) {
        c->shard->counts.served++;
        connection_leave(c);
    }
}

static void slow_answers(connection *c, uint64_t count) {
    (void)count;
    slow_leave_if_idle(c);
}

static void slow_stop(connection *c) {
    c->owed = 0;
    c->deadline_ns = 0;
    connection_read(c);
    slow_leave_if_idle(c);
}

static void cut(connection *c, tp_err error) {
    (void)error;
    c->shard->counts.cut++;
}

const mode mode_slow = {
    .name = "slow",
    .help = "sends, does not read for half the time, then reads slowly; may be cut, or served",
    .hostile = true,
    .reads_late = true,
    .begin = slow_begin,
    .answers = slow_answers,
    .delivered = slow_delivered,
    .sent = slow_leave_if_idle,
    .ended = cut,
    .tick = slow_tick,
    .stop = slow_stop,
};
