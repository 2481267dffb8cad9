/*
 * Theme `flow`: pause, resume, and fairness.
 *
 * Threads: sender and receiver are links of one stage; the main thread tells both what to do by
 * posting to them.
 *
 * That something does not happen cannot be waited for. Where a case has to show it, it lets the
 * worker do a number of other things that would give it every occasion: `occasions()`.
 */
#include "stage.h"

#include "cases.h"
#include "os/clock.h"

#define CHUNK (256u << 10)

/* Sends the pattern for as long as `sending` holds. */
typedef struct pump {
    atomic_bool sending;
    uint64_t offset;
    uint8_t bytes[CHUNK];
    tp_buffer buffer;
} pump;

/* Takes the pattern. `pause_after`: pauses inside the delivery that makes this many more bytes;
 * 0: never. */
typedef struct drain {
    uint64_t checked;
    atomic_uint_fast64_t pause_after;
    atomic_bool paused;
    bool toggle; /* pause inside every delivery; the case resumes */
    uint64_t chance;
    bool broken;
} drain;

static void pump_more(tp_worker *worker, stage_link *link, void *argument) {
    pump *p = link->context;
    (void)argument;
    stage_pattern_fill(p->bytes, CHUNK, p->offset, 3);
    p->offset += CHUNK;
    tp_err error = stage_send_bytes(worker, link, &p->buffer, p->bytes, CHUNK);
    /* The case may be closing the link from its own thread at this moment. */
    CHECK(error == TP_OK || (error == TP_ERR_CANCELLED && atomic_load(&link->closing)));
}

static void pump_sent(stage_link *link, const tp_completion *completion) {
    pump *p = link->context;
    if (completion->error == TP_OK && atomic_load(&p->sending)) {
        pump_more(completion->worker, link, NULL);
    }
}

static void drain_bytes(stage_link *link, const tp_completion *completion) {
    drain *d = link->context;
    if (atomic_load(&d->paused) && !d->toggle) {
        stage_fault("%" PRIu64 " bytes delivered to %s while it was paused",
            (uint64_t)completion->count, link->name);
    }
    if (!d->broken) {
        d->broken =
            !stage_pattern_check(link->name, completion->bytes, completion->count, d->checked, 3);
    }
    d->checked += completion->count;
    uint64_t after = atomic_load(&d->pause_after);
    if ((after != 0 && d->checked >= after) || d->toggle) {
        tp_socket_pause(completion->worker, &link->socket);
        atomic_store(&d->paused, true);
        stage_changed();
    }
    if (d->toggle && stage_chance(&d->chance) % 2 == 0) {
        /* Back at once, in the same delivery. */
        atomic_store(&d->paused, false);
        tp_socket_resume(completion->worker, &link->socket);
    }
}

static void act_go_on(tp_worker *worker, stage_link *link, void *argument) {
    drain *d = link->context;
    (void)argument;
    atomic_store(&d->pause_after, 0);
    atomic_store(&d->paused, false);
    tp_socket_resume(worker, &link->socket);
}

static void act_nothing(tp_worker *worker, stage_link *link, void *argument) {
    (void)worker;
    (void)link;
    (void)argument;
}

/* Gives the worker of the link many occasions to do what it should not. */
static void occasions(stage_link *link) {
    for (int i = 0; i < 100; i++) {
        stage_run(link, act_nothing, NULL);
    }
}

typedef struct flow {
    stage stage;
    stage_listener listener;
    stage_link source;
    stage_link sink;
    pump pump;
    drain drain;
} flow;

static void flow_open(flow *f) {
    stage_open(&f->stage);
    stage_listener_open(&f->listener, &f->stage);
    stage_link_init(&f->source, &f->stage, "source");
    stage_link_init(&f->sink, &f->stage, "sink");
    memset(&f->pump, 0, sizeof f->pump);
    memset(&f->drain, 0, sizeof f->drain);
    f->source.context = &f->pump;
    f->source.on_sent = pump_sent;
    f->sink.context = &f->drain;
    f->sink.on_bytes = drain_bytes;
    stage_pair(&f->listener, &f->source, &f->sink);
    atomic_store(&f->pump.sending, true);
}

/* Everything sent, once the pump has been told to stop. */
static bool all_received(const flow *f) {
    return !stage_op_in_progress(&f->source.send) &&
           atomic_load(&f->sink.received) == atomic_load(&f->source.sent);
}

static void flow_drain(flow *f) {
    atomic_store(&f->pump.sending, false);
    STAGE_UNTIL(all_received(f));
}

static void flow_close(flow *f) {
    stage_unpair(&f->source, &f->sink);
    stage_listener_close(&f->listener);
    stage_close(&f->stage);
}

static void a_pause_inside_a_delivery_holds_the_next(void) {
    static flow f;
    flow_open(&f);
    stage_run(&f.sink, stage_act_receive, NULL);
    stage_run(&f.source, pump_more, NULL);
    for (unsigned round = 1; round <= 10; round++) {
        STAGE_UNTIL(atomic_load(&f.sink.received) > round * 64u * 1024);
        atomic_store(&f.drain.pause_after, 1);
        STAGE_UNTIL(atomic_load(&f.drain.paused));
        occasions(&f.sink);
        stage_run(&f.sink, act_go_on, NULL);
    }
    flow_drain(&f);
    flow_close(&f);
}

static void a_pause_between_deliveries_lets_one_through_at_most(void) {
    static flow f;
    flow_open(&f);
    stage_run(&f.sink, stage_act_receive, NULL);
    stage_run(&f.source, pump_more, NULL);
    for (unsigned round = 0; round < 10; round++) {
        uint64_t before = atomic_load(&f.sink.received);
        STAGE_UNTIL(atomic_load(&f.sink.received) > before);
        stage_run(&f.sink, stage_act_pause, NULL);
        uint64_t paused_at = atomic_load(&f.sink.received);
        occasions(&f.sink);
        /* A delivery carries at most the default buffer. */
        CHECK_LE(atomic_load(&f.sink.received) - paused_at, 65536);
        stage_run(&f.sink, stage_act_resume, NULL);
    }
    flow_drain(&f);
    flow_close(&f);
}

static void pauses_and_resumes_lose_nothing(void) {
    static flow f;
    flow_open(&f);
    f.drain.toggle = true;
    stage_run(&f.sink, stage_act_receive, NULL);
    stage_run(&f.source, pump_more, NULL);
    while (atomic_load(&f.sink.received) < 16u << 20) {
        uint64_t before = atomic_load(&f.sink.received);
        for (int i = 0; i < 10; i++) { /* at any moment of the deliveries that follow */
            stage_run(&f.sink, act_go_on, NULL);
            stage_run(&f.sink, stage_act_resume, NULL); /* of what is not paused: nothing happens */
        }
        STAGE_UNTIL(atomic_load(&f.sink.received) > before);
    }
    atomic_store(&f.pump.sending, false);
    while (!all_received(&f)) {
        uint64_t before = atomic_load(&f.sink.received);
        stage_run(&f.sink, act_go_on, NULL);
        STAGE_UNTIL(atomic_load(&f.sink.received) > before || all_received(&f));
    }
    CHECK(!f.drain.broken);
    flow_close(&f);
}

static void a_close_while_paused_completes(void) {
    for (int peer_first = 0; peer_first < 3; peer_first++) {
        static flow f;
        flow_open(&f);
        atomic_store(&f.drain.pause_after, 1);
        stage_run(&f.sink, stage_act_receive, NULL);
        stage_run(&f.source, pump_more, NULL);
        STAGE_UNTIL(atomic_load(&f.drain.paused));
        if (peer_first > 0) {
            atomic_store(&f.pump.sending, false);
            stage_shut_and_wait(&f.source, peer_first == 2);
        }
        stage_shut_and_wait(&f.sink, false);
        int result = atomic_load(&f.sink.receive_result);
        /* Whether the end was seen while paused is the system's affair. */
        if (result != TP_ERR_CANCELLED && (peer_first == 0 || result != TP_ERR_RESET)) {
            stage_fault("the paused receive ended with %s", stage_error_name(result));
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

static void ping(tp_worker *worker, stage_link *link, void *argument) {
    pinger *p = link->context;
    (void)argument;
    p->sent_ns = tp_clock_ns();
    p->flood_before = atomic_load(p->flood);
    CHECK_EQ(stage_send_bytes(worker, link, &p->buffer, &p->byte, 1), TP_OK);
}

static void ponged(stage_link *link, const tp_completion *completion) {
    pinger *p = link->context;
    uint64_t took = tp_clock_ns() - p->sent_ns;
    uint64_t flood = atomic_load(p->flood) - p->flood_before;
    p->slowest_ns = took > p->slowest_ns ? took : p->slowest_ns;
    p->flood_most = flood > p->flood_most ? flood : p->flood_most;
    if (atomic_fetch_add(&p->pongs, 1) + 1 < PINGS) {
        ping(completion->worker, link, NULL);
    } else {
        stage_changed();
    }
}

static void pong(stage_link *link, const tp_completion *completion) {
    pinger *p = link->context;
    CHECK_EQ(completion->count, 1);
    CHECK_EQ(stage_send_bytes(completion->worker, link, &p->buffer, &p->byte, 1), TP_OK);
}

static void count_flood(stage_link *link, const tp_completion *completion) {
    atomic_uint_fast64_t *deliveries = link->context;
    (void)completion;
    atomic_fetch_add(deliveries, 1);
}

#define FLOODS 4

/* One worker serves four connections that flood it and one that pings. The flood comes from another
 * port, so that it goes on whatever the worker on trial does. */
static void floods_do_not_starve_a_quiet_connection(void) {
    static pump pumps[FLOODS];
    stage judged;
    stage outside;
    stage_listener listener;
    stage_link sources[FLOODS];
    stage_link sinks[FLOODS];
    stage_link quiet;
    stage_link answerer;
    atomic_uint_fast64_t deliveries;
    atomic_init(&deliveries, 0);
    pinger asks = {.flood = &deliveries};
    pinger answers = {.flood = &deliveries};
    stage_open_workers(&judged, 1);
    stage_open_workers(&outside, 1);
    stage_listener_open(&listener, &judged);
    for (unsigned i = 0; i < FLOODS; i++) {
        stage_link_init(&sources[i], &outside, "flood source");
        stage_link_init(&sinks[i], &judged, "flood sink");
        memset(&pumps[i], 0, sizeof pumps[i]);
        atomic_store(&pumps[i].sending, true);
        sources[i].context = &pumps[i];
        sources[i].on_sent = pump_sent;
        sinks[i].context = &deliveries;
        sinks[i].on_bytes = count_flood;
        stage_pair(&listener, &sources[i], &sinks[i]);
        stage_run(&sinks[i], stage_act_receive, NULL);
        stage_run(&sources[i], pump_more, NULL);
    }
    stage_link_init(&quiet, &judged, "quiet");
    stage_link_init(&answerer, &judged, "answerer");
    quiet.context = &asks;
    quiet.on_bytes = ponged;
    answerer.context = &answers;
    answerer.on_bytes = pong;
    stage_pair(&listener, &quiet, &answerer);
    stage_run(&quiet, stage_act_receive, NULL);
    stage_run(&answerer, stage_act_receive, NULL);
    STAGE_UNTIL(atomic_load(&deliveries) > 100);
    stage_run(&quiet, ping, NULL);
    STAGE_UNTIL(atomic_load(&asks.pongs) == PINGS);
    printf("    %u pings, slowest %" PRIu64 " us; at most %" PRIu64
           " flood deliveries in between, %" PRIu64 " completions in one dispatch\n",
        PINGS, asks.slowest_ns / 1000, asks.flood_most, (uint64_t)atomic_load(&judged.longest_run));
    /* Ping and pong are four turns of the worker; a turn has a budget. */
    CHECK_LE(asks.flood_most, 4 * 1024);
    CHECK_LE(atomic_load(&judged.longest_run), 1024);
    for (unsigned i = 0; i < FLOODS; i++) {
        atomic_store(&pumps[i].sending, false);
        stage_unpair(&sources[i], &sinks[i]);
    }
    stage_unpair(&quiet, &answerer);
    stage_listener_close(&listener);
    stage_close(&outside);
    stage_close(&judged);
}

PORT_THEME(flow, PORT_CASE(a_pause_inside_a_delivery_holds_the_next, EACH_WORKERS),
    PORT_CASE(a_pause_between_deliveries_lets_one_through_at_most, EACH_WORKERS),
    PORT_CASE(pauses_and_resumes_lose_nothing, EACH_WORKERS),
    PORT_CASE(a_close_while_paused_completes, EACH_WORKERS),
    PORT_CASE(floods_do_not_starve_a_quiet_connection, ONCE))
