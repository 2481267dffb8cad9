/*
 * Theme `flow`: pause, resume, and fairness.
 *
 * Sender and receiver are links of one fixture; the main thread controls both by posting to them.
 *
 * That something does not happen cannot be waited for. A case that has to show it makes the worker
 * do a number of other things, each of which would be an opportunity for it: occasions().
 */
#include "fixture.h"

#include "cases.h"
#include "os/clock.h"

#define CHUNK (256u << 10)

/* Sends the pattern as long as `sending` is true. */
typedef struct pump {
    atomic_bool sending;
    uint64_t offset;
    uint8_t bytes[CHUNK];
    tp_buffer buffer;
} pump;

/* Receives the pattern. `pause_after`: the receive is paused inside the delivery with which the
 * number of bytes reaches this value; 0: never. */
typedef struct drain {
    uint64_t checked;
    atomic_uint_fast64_t pause_after;
    atomic_bool paused;
    bool toggle; /* pauses inside each delivery; the case resumes */
    uint64_t chance;
    bool broken;
} drain;

static void pump_more(tp_worker *worker, fixture_link *link, void *argument) {
    pump *p = link->context;
    (void)argument;
    fixture_pattern_fill(p->bytes, CHUNK, p->offset, 3);
    p->offset += CHUNK;
    tp_err error = fixture_send_bytes(worker, link, &p->buffer, p->bytes, CHUNK);
    /* The case may be closing the link from its own thread at this moment. */
    CHECK(error == TP_OK || (error == TP_ERR_CANCELLED && atomic_load(&link->closing)));
}

static void pump_sent(fixture_link *link, const tp_completion *completion) {
    pump *p = link->context;
    if (completion->error == TP_OK && atomic_load(&p->sending)) {
        pump_more(completion->worker, link, NULL);
    }
}

static void drain_bytes(fixture_link *link, const tp_completion *completion) {
    drain *d = link->context;
    if (atomic_load(&d->paused) && !d->toggle) {
        fixture_fault("%" PRIu64 " bytes delivered to %s while it was paused",
            (uint64_t)completion->count, link->name);
    }
    if (!d->broken) {
        d->broken =
            !fixture_pattern_check(link->name, completion->bytes, completion->count, d->checked, 3);
    }
    d->checked += completion->count;
    uint64_t after = atomic_load(&d->pause_after);
    if ((after != 0 && d->checked >= after) || d->toggle) {
        tp_socket_pause(completion->worker, &link->socket);
        atomic_store(&d->paused, true);
        fixture_changed();
    }
    if (d->toggle && fixture_chance(&d->chance) % 2 == 0) {
        /* Resumed at once, in the same delivery. */
        atomic_store(&d->paused, false);
        tp_socket_resume(completion->worker, &link->socket);
    }
}

static void act_continue(tp_worker *worker, fixture_link *link, void *argument) {
    drain *d = link->context;
    (void)argument;
    atomic_store(&d->pause_after, 0);
    atomic_store(&d->paused, false);
    tp_socket_resume(worker, &link->socket);
}

static void act_nothing(tp_worker *worker, fixture_link *link, void *argument) {
    (void)worker;
    (void)link;
    (void)argument;
}

/* Gives the worker of the link many opportunities to do what it must not do. */
static void occasions(fixture_link *link) {
    for (int i = 0; i < 100; i++) {
        fixture_run(link, act_nothing, NULL);
    }
}

typedef struct flow {
    fixture fixture;
    fixture_listener listener;
    fixture_link source;
    fixture_link sink;
    pump pump;
    drain drain;
} flow;

static void flow_open(flow *f) {
    fixture_open(&f->fixture);
    fixture_listener_open(&f->listener, &f->fixture);
    fixture_link_init(&f->source, &f->fixture, "source");
    fixture_link_init(&f->sink, &f->fixture, "sink");
    memset(&f->pump, 0, sizeof f->pump);
    memset(&f->drain, 0, sizeof f->drain);
    f->source.context = &f->pump;
    f->source.on_sent = pump_sent;
    f->sink.context = &f->drain;
    f->sink.on_bytes = drain_bytes;
    fixture_pair(&f->listener, &f->source, &f->sink);
    atomic_store(&f->pump.sending, true);
}

/* True if everything sent has been received, once the pump has stopped. */
static bool all_received(const flow *f) {
    return !fixture_op_in_progress(&f->source.send) &&
           atomic_load(&f->sink.received) == atomic_load(&f->source.sent);
}

static void flow_drain(flow *f) {
    atomic_store(&f->pump.sending, false);
    FIXTURE_UNTIL(all_received(f));
}

static void flow_close(flow *f) {
    fixture_unpair(&f->source, &f->sink);
    fixture_listener_close(&f->listener);
    fixture_close(&f->fixture);
}

static void a_pause_inside_a_delivery_suspends_the_next(void) {
    static flow f;
    flow_open(&f);
    fixture_run(&f.sink, fixture_act_receive, NULL);
    fixture_run(&f.source, pump_more, NULL);
    for (unsigned round = 1; round <= 10; round++) {
        FIXTURE_UNTIL(atomic_load(&f.sink.received) > round * 64u * 1024);
        atomic_store(&f.drain.pause_after, 1);
        FIXTURE_UNTIL(atomic_load(&f.drain.paused));
        occasions(&f.sink);
        fixture_run(&f.sink, act_continue, NULL);
    }
    flow_drain(&f);
    flow_close(&f);
}

static void after_a_pause_between_deliveries_at_most_one_comes(void) {
    static flow f;
    flow_open(&f);
    fixture_run(&f.sink, fixture_act_receive, NULL);
    fixture_run(&f.source, pump_more, NULL);
    for (unsigned round = 0; round < 10; round++) {
        uint64_t before = atomic_load(&f.sink.received);
        FIXTURE_UNTIL(atomic_load(&f.sink.received) > before);
        fixture_run(&f.sink, fixture_act_pause, NULL);
        uint64_t paused_at = atomic_load(&f.sink.received);
        occasions(&f.sink);
        /* A delivery carries at most the default buffer. */
        CHECK_LE(atomic_load(&f.sink.received) - paused_at, 65536);
        fixture_run(&f.sink, fixture_act_resume, NULL);
    }
    flow_drain(&f);
    flow_close(&f);
}

static void pauses_and_resumes_lose_nothing(void) {
    static flow f;
    flow_open(&f);
    f.drain.toggle = true;
    fixture_run(&f.sink, fixture_act_receive, NULL);
    fixture_run(&f.source, pump_more, NULL);
    while (atomic_load(&f.sink.received) < 16u << 20) {
        uint64_t before = atomic_load(&f.sink.received);
        for (int i = 0; i < 10; i++) { /* at any moment of the following deliveries */
            fixture_run(&f.sink, act_continue, NULL);
            /* Resuming what is not paused does nothing. */
            fixture_run(&f.sink, fixture_act_resume, NULL);
        }
        FIXTURE_UNTIL(atomic_load(&f.sink.received) > before);
    }
    atomic_store(&f.pump.sending, false);
    while (!all_received(&f)) {
        uint64_t before = atomic_load(&f.sink.received);
        fixture_run(&f.sink, act_continue, NULL);
        FIXTURE_UNTIL(atomic_load(&f.sink.received) > before || all_received(&f));
    }
    CHECK(!f.drain.broken);
    flow_close(&f);
}

static void a_close_while_paused_completes(void) {
    for (int peer_first = 0; peer_first < 3; peer_first++) {
        static flow f;
        flow_open(&f);
        atomic_store(&f.drain.pause_after, 1);
        fixture_run(&f.sink, fixture_act_receive, NULL);
        fixture_run(&f.source, pump_more, NULL);
        FIXTURE_UNTIL(atomic_load(&f.drain.paused));
        if (peer_first > 0) {
            atomic_store(&f.pump.sending, false);
            fixture_shut_and_wait(&f.source, peer_first == 2);
        }
        fixture_shut_and_wait(&f.sink, false);
        int result = atomic_load(&f.sink.receive_result);
        /* Whether the end was detected during the pause depends on the system. */
        if (result != TP_ERR_CANCELLED && (peer_first == 0 || result != TP_ERR_RESET)) {
            fixture_fault("the paused receive ended with %s", fixture_error_name(result));
        }
        flow_close(&f);
    }
}

/* ---- fairness -------------------------------------------------------------------------------- */

#define PINGS 300

typedef struct pinger {
    atomic_uint pongs;
    uint64_t sent_ns;
    uint64_t slowest_ns;
    uint64_t flood_before; /* deliveries of the flood when the ping was sent */
    uint64_t flood_most;   /* most of them between a ping and its pong */
    atomic_uint_fast64_t *flood;
    uint8_t byte;
    tp_buffer buffer;
} pinger;

static void ping(tp_worker *worker, fixture_link *link, void *argument) {
    pinger *p = link->context;
    (void)argument;
    p->sent_ns = tp_clock_ns();
    p->flood_before = atomic_load(p->flood);
    CHECK_EQ(fixture_send_bytes(worker, link, &p->buffer, &p->byte, 1), TP_OK);
}

static void ponged(fixture_link *link, const tp_completion *completion) {
    pinger *p = link->context;
    uint64_t took = tp_clock_ns() - p->sent_ns;
    uint64_t flood = atomic_load(p->flood) - p->flood_before;
    p->slowest_ns = took > p->slowest_ns ? took : p->slowest_ns;
    p->flood_most = flood > p->flood_most ? flood : p->flood_most;
    if (atomic_fetch_add(&p->pongs, 1) + 1 < PINGS) {
        ping(completion->worker, link, NULL);
    } else {
        fixture_changed();
    }
}

static void pong(fixture_link *link, const tp_completion *completion) {
    pinger *p = link->context;
    CHECK_EQ(completion->count, 1);
    CHECK_EQ(fixture_send_bytes(completion->worker, link, &p->buffer, &p->byte, 1), TP_OK);
}

static void count_flood(fixture_link *link, const tp_completion *completion) {
    atomic_uint_fast64_t *deliveries = link->context;
    (void)completion;
    atomic_fetch_add(deliveries, 1);
}

#define FLOODS 4

/* One worker serves four connections that flood it and one that pings. The flood comes from another
 * port, so that it continues whatever the tested worker does. */
static void floods_do_not_starve_a_quiet_connection(void) {
    static pump pumps[FLOODS];
    fixture tested;
    fixture outside;
    fixture_listener listener;
    fixture_link sources[FLOODS];
    fixture_link sinks[FLOODS];
    fixture_link quiet;
    fixture_link answerer;
    atomic_uint_fast64_t deliveries;
    atomic_init(&deliveries, 0);
    pinger asks = {.flood = &deliveries};
    pinger answers = {.flood = &deliveries};
    fixture_open_workers(&tested, 1);
    fixture_open_workers(&outside, 1);
    fixture_listener_open(&listener, &tested);
    for (unsigned i = 0; i < FLOODS; i++) {
        fixture_link_init(&sources[i], &outside, "flood source");
        fixture_link_init(&sinks[i], &tested, "flood sink");
        memset(&pumps[i], 0, sizeof pumps[i]);
        atomic_store(&pumps[i].sending, true);
        sources[i].context = &pumps[i];
        sources[i].on_sent = pump_sent;
        sinks[i].context = &deliveries;
        sinks[i].on_bytes = count_flood;
        fixture_pair(&listener, &sources[i], &sinks[i]);
        fixture_run(&sinks[i], fixture_act_receive, NULL);
        fixture_run(&sources[i], pump_more, NULL);
    }
    fixture_link_init(&quiet, &tested, "quiet");
    fixture_link_init(&answerer, &tested, "answerer");
    quiet.context = &asks;
    quiet.on_bytes = ponged;
    answerer.context = &answers;
    answerer.on_bytes = pong;
    fixture_pair(&listener, &quiet, &answerer);
    fixture_run(&quiet, fixture_act_receive, NULL);
    fixture_run(&answerer, fixture_act_receive, NULL);
    FIXTURE_UNTIL(atomic_load(&deliveries) > 100);
    fixture_run(&quiet, ping, NULL);
    FIXTURE_UNTIL(atomic_load(&asks.pongs) == PINGS);
    printf("    %u pings, slowest %" PRIu64 " us; at most %" PRIu64
           " flood deliveries in between, %" PRIu64 " completions in one dispatch\n",
        PINGS, asks.slowest_ns / 1000, asks.flood_most, (uint64_t)atomic_load(&tested.longest_run));
    /* Ping and pong take four dispatches of the worker, and each dispatch has a budget. */
    CHECK_LE(asks.flood_most, 4 * 1024);
    CHECK_LE(atomic_load(&tested.longest_run), 1024);
    for (unsigned i = 0; i < FLOODS; i++) {
        atomic_store(&pumps[i].sending, false);
        fixture_unpair(&sources[i], &sinks[i]);
    }
    fixture_unpair(&quiet, &answerer);
    fixture_listener_close(&listener);
    fixture_close(&outside);
    fixture_close(&tested);
}

PORT_THEME(flow, PORT_CASE(a_pause_inside_a_delivery_suspends_the_next, EACH_WORKERS),
    PORT_CASE(after_a_pause_between_deliveries_at_most_one_comes, EACH_WORKERS),
    PORT_CASE(pauses_and_resumes_lose_nothing, EACH_WORKERS),
    PORT_CASE(a_close_while_paused_completes, EACH_WORKERS),
    PORT_CASE(floods_do_not_starve_a_quiet_connection, ONCE))
