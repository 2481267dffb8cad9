/*
 * Theme `bytes`: what is sent arrives completely and in order, and nothing else does.
 *
 * A stream is written by the worker that runs its sender's `done`, and checked by the worker that
 * runs its receiver's. The main thread only waits.
 */
#include "fixture.h"

#include "cases.h"

/* One direction of a connection. */
typedef struct stream {
    unsigned seed;
    uint64_t chance;
    uint64_t total;   /* bytes to send */
    uint64_t offset;  /* sent so far */
    uint64_t checked; /* received and compared so far */
    bool broken;
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    uint8_t pieces[TP_PORT_MAX_BUFFERS][64];
} stream;

/* A link's two directions. */
typedef struct streams {
    stream *out;
    stream *in;
} streams;

static void check_bytes(fixture_link *link, const tp_completion *completion) {
    stream *in = ((streams *)link->context)->in;
    if (!in->broken) {
        in->broken = !fixture_pattern_check(
            link->name, completion->bytes, completion->count, in->checked, in->seed);
    }
    in->checked += completion->count;
    if (in->checked > in->total) {
        fixture_fault(
            "%s received %" PRIu64 " bytes of %" PRIu64, link->name, in->checked, in->total);
    }
}

/* A gathered send of 1 to 64 pieces of 1 to 64 bytes. */
static void send_pieces(tp_worker *worker, fixture_link *link, void *argument) {
    stream *out = ((streams *)link->context)->out;
    size_t count = 1 + fixture_chance(&out->chance) % TP_PORT_MAX_BUFFERS;
    size_t used = 0;
    (void)argument;
    while (used < count && out->offset < out->total) {
        size_t size = 1 + fixture_chance(&out->chance) % sizeof out->pieces[0];
        if (size > out->total - out->offset) {
            size = (size_t)(out->total - out->offset);
        }
        fixture_pattern_fill(out->pieces[used], size, out->offset, out->seed);
        out->buffers[used] = (tp_buffer){.bytes = out->pieces[used], .size = size};
        out->offset += size;
        used++;
    }
    CHECK_EQ(fixture_send(worker, link, out->buffers, used), TP_OK);
}

static void send_more_pieces(fixture_link *link, const tp_completion *completion) {
    stream *out = ((streams *)link->context)->out;
    if (completion->error != TP_OK) {
        fixture_fault(
            "send of %s failed with %s", link->name, fixture_error_name((int)completion->error));
    } else if (out->offset < out->total) {
        send_pieces(completion->worker, link, NULL);
    }
}

/* A pair with a stream in each direction. */
typedef struct exchange {
    fixture fixture;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    stream up;
    stream down;
    streams of_client;
    streams of_server;
} exchange;

static void exchange_open(exchange *e, uint64_t up, uint64_t down) {
    fixture_open(&e->fixture);
    fixture_listener_open(&e->listener, &e->fixture);
    fixture_link_init(&e->client, &e->fixture, "client");
    fixture_link_init(&e->server, &e->fixture, "server");
    memset(&e->up, 0, sizeof e->up);
    memset(&e->down, 0, sizeof e->down);
    e->up.seed = 1;
    e->up.total = up;
    e->down.seed = 2;
    e->down.chance = 99;
    e->down.total = down;
    e->of_client = (streams){.out = &e->up, .in = &e->down};
    e->of_server = (streams){.out = &e->down, .in = &e->up};
    e->client.context = &e->of_client;
    e->server.context = &e->of_server;
    e->client.on_bytes = check_bytes;
    e->server.on_bytes = check_bytes;
    fixture_pair(&e->listener, &e->client, &e->server);
    fixture_run(&e->client, fixture_act_receive, NULL);
    fixture_run(&e->server, fixture_act_receive, NULL);
}

static void exchange_close(exchange *e) {
    CHECK_EQ(atomic_load(&e->client.receive_result), FIXTURE_PENDING);
    CHECK_EQ(atomic_load(&e->server.receive_result), FIXTURE_PENDING);
    fixture_unpair(&e->client, &e->server);
    fixture_listener_close(&e->listener);
    fixture_close(&e->fixture);
}

static void many_small_gathered_sends_keep_order(void) {
    static exchange e;
    exchange_open(&e, 2u << 20, 2u << 20);
    e.client.on_sent = send_more_pieces;
    e.server.on_sent = send_more_pieces;
    fixture_run(&e.client, send_pieces, NULL);
    fixture_run(&e.server, send_pieces, NULL);
    FIXTURE_UNTIL(atomic_load(&e.server.received) == e.up.total);
    FIXTURE_UNTIL(atomic_load(&e.client.received) == e.down.total);
    FIXTURE_UNTIL(atomic_load(&e.client.sent) == e.up.total);
    FIXTURE_UNTIL(atomic_load(&e.server.sent) == e.down.total);
    exchange_close(&e);
}

/* ---- more than the kernel takes at once ------------------------------------------------------ */

#define BIG (64u << 20)

typedef struct parcel {
    const uint8_t *bytes;
    uint8_t *moved; /* the memory to move them to while the send waits, or NULL */
    size_t pieces;
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
} parcel;

/* Where sockets are bound, a waiting send reads its buffers again when it continues, so the memory
 * they pointed to may be overwritten. Elsewhere the system has the buffers, and no send is ever
 * reported as waiting. */
static void move_parcel(tp_worker *worker, fixture_link *link, parcel *p) {
    bool waits = tp_socket_send_waits(worker, &link->socket);
    CHECK_EQ(waits, tp_port_binds(fixture_port_of(worker)));
    if (!waits) {
        return;
    }
    memcpy(p->moved, p->bytes, BIG);
    for (size_t i = 0; i < p->pieces; i++) {
        p->buffers[i].bytes = p->moved + (p->buffers[i].bytes - p->bytes);
    }
    memset((uint8_t *)(uintptr_t)p->bytes, 0, BIG);
}

static void send_parcel(tp_worker *worker, fixture_link *link, void *argument) {
    parcel *p = argument;
    size_t at = 0;
    for (size_t i = 0; i < p->pieces; i++) {
        /* Uneven sizes, so that no partial write ends between two pieces. */
        size_t size = i + 1 == p->pieces ? BIG - at : BIG / p->pieces - 1 - i;
        p->buffers[i] = (tp_buffer){.bytes = p->bytes + at, .size = size};
        at += size;
    }
    CHECK_EQ(fixture_send(worker, link, p->buffers, p->pieces), TP_OK);
    if (p->moved) {
        move_parcel(worker, link, p);
    }
}

/* The slow reader takes one delivery and pauses; the main thread resumes it for the next. */
static void check_and_pause(fixture_link *link, const tp_completion *completion) {
    check_bytes(link, completion);
    tp_socket_pause(completion->worker, &link->socket);
    fixture_changed();
}

static void partial_writes(size_t pieces, bool moved) {
    static exchange e;
    parcel p = {.pieces = pieces, .moved = moved ? malloc(BIG) : NULL};
    REQUIRE(!moved || p.moved != NULL);
    uint8_t *bytes = malloc(BIG);
    REQUIRE(bytes != NULL);
    fixture_pattern_fill(bytes, BIG, 0, 1);
    p.bytes = bytes;
    exchange_open(&e, BIG, 0);
    e.server.on_bytes = check_and_pause;
    fixture_run(&e.client, send_parcel, &p);
    unsigned resumed = 0;
    for (uint64_t seen = 0; seen < BIG; seen = atomic_load(&e.server.received)) {
        if (seen > 0) {
            fixture_run(&e.server, fixture_act_resume, NULL);
        }
        FIXTURE_UNTIL(atomic_load(&e.server.received) > seen);
        resumed++;
        /* For these 200 steps the writer has found the kernel's buffers full again and again. */
        if (resumed == 200) {
            printf("    after %u deliveries: %" PRIu64 " KiB received, send %s\n", resumed,
                (uint64_t)atomic_load(&e.server.received) / 1024,
                fixture_op_in_progress(&e.client.send) ? "in progress" : "done");
        }
    }
    FIXTURE_UNTIL(atomic_load(&e.client.send_result) == TP_OK);
    CHECK_EQ(atomic_load(&e.client.sent), BIG);
    CHECK_EQ(e.up.checked, BIG);
    CHECK(!e.up.broken);
    exchange_close(&e);
    free(bytes);
    free(p.moved);
}

static void one_buffer_of_64_mib_to_a_slow_reader(void) {
    partial_writes(1, false);
}

static void sixty_four_buffers_of_64_mib_to_a_slow_reader(void) {
    partial_writes(TP_PORT_MAX_BUFFERS, false);
}

static void buffers_that_move_while_a_send_waits(void) {
    partial_writes(TP_PORT_MAX_BUFFERS, true);
}

/* ---- counts that port.h forbids -------------------------------------------------------------- */

static void send_wrong_counts(tp_worker *worker, fixture_link *link, void *argument) {
    static tp_buffer buffers[TP_PORT_MAX_BUFFERS + 1];
    (void)argument;
    CHECK_EQ(fixture_send(worker, link, buffers, 0), TP_ERR_INVALID);
    CHECK_EQ(fixture_send(worker, link, buffers, TP_PORT_MAX_BUFFERS + 1), TP_ERR_INVALID);
}

static void a_send_of_too_many_buffers_is_refused(void) {
    static exchange e;
    exchange_open(&e, 0, 0);
    fixture_run(&e.client, send_wrong_counts, NULL);
    exchange_close(&e);
}

PORT_THEME(bytes, PORT_CASE(many_small_gathered_sends_keep_order, EACH_WORKERS),
    PORT_CASE(one_buffer_of_64_mib_to_a_slow_reader, EACH_WORKERS),
    PORT_CASE(sixty_four_buffers_of_64_mib_to_a_slow_reader, EACH_WORKERS),
    PORT_CASE(buffers_that_move_while_a_send_waits, EACH_WORKERS),
    PORT_CASE(a_send_of_too_many_buffers_is_refused, ONCE))
