/*
 * Theme `accept`: many connections, and none left to have.
 *
 * Threads: workers accept; the main thread connects, counts and closes.
 */
#include "stage.h"

#include "cases.h"
#include "os/clock.h"

/* ---- a burst --------------------------------------------------------------------------------- */

#define BURST 200

static void a_burst_is_accepted_each_once(void) {
    static stage_link clients[BURST];
    stage s;
    stage_listener listener;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    for (unsigned i = 0; i < BURST; i++) {
        stage_link_init(&clients[i], &s, "client");
        REQUIRE(stage_connect(&clients[i], &listener.address) == TP_OK);
    }
    bool seen[65536] = {false};
    for (unsigned i = 0; i < BURST; i++) {
        tp_address peer;
        tp_handle_close(stage_listener_take(&listener, &peer), false);
        if (seen[peer.port]) {
            stage_fault("the connection from port %u was accepted twice", peer.port);
        }
        seen[peer.port] = true;
    }
    for (unsigned i = 0; i < BURST; i++) {
        STAGE_UNTIL(atomic_load(&clients[i].connect_result) == TP_OK);
        stage_shut(&clients[i], false);
    }
    for (unsigned i = 0; i < BURST; i++) {
        STAGE_UNTIL(stage_link_over(&clients[i]));
    }
    CHECK_EQ(atomic_load(&listener.count), BURST);
    CHECK_EQ(atomic_load(&listener.failures), 0);
    stage_listener_close(&listener);
    stage_close(&s);
}

/* Connections that wait in the kernel when the listener goes leave nothing behind. */
static void a_listener_closes_with_connections_waiting(void) {
    stage s;
    stage_listener listener;
    tp_address where = stage_loopback(0);
    stage_open(&s);
    long before = 0;
    for (int round = 0; round < 20; round++) {
        stage_link clients[8];
        if (round == 2) {
            before = tp_process_open_descriptors(); /* what is opened once for all, is open now */
        }
        REQUIRE(stage_listener_open_at(&listener, &s, &where, 64, round % 2 == 1) == TP_OK);
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            stage_link_init(&clients[i], &s, "client");
            REQUIRE(stage_connect(&clients[i], &listener.address) == TP_OK);
        }
        stage_listener_close(&listener);
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            stage_shut(&clients[i], false);
        }
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            STAGE_UNTIL(stage_link_over(&clients[i]));
        }
    }
    STAGE_UNTIL_DESCRIPTORS(&s, before);
    stage_close(&s);
}

/* ---- no descriptors left --------------------------------------------------------------------- */

#define HOARD     600 /* more than the limit that the test is run with */
#define WINDOW_MS 1000

static unsigned hoard_all(stage *s, stage_listener *listener, stage_link *clients) {
    for (unsigned i = 0; i < HOARD; i++) {
        stage_link_init(&clients[i], s, "hoarder");
        tp_err error = stage_connect(&clients[i], &listener->address);
        if (error != TP_OK) {
            CHECK_EQ(error, TP_ERR_NO_DESCRIPTORS);
            return i;
        }
    }
    return HOARD;
}

static void release(stage_link *clients, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        stage_shut(&clients[i], true);
    }
    for (unsigned i = from; i < to; i++) {
        STAGE_UNTIL(stage_link_over(&clients[i]));
    }
}

/* What the worker does in a second or more with an accept that cannot succeed. */
static void measure_window(stage *s, stage_listener *listener) {
    STAGE_UNTIL(atomic_load(&listener->failures) > 0);
    CHECK_EQ(atomic_load(&listener->failure), TP_ERR_NO_DESCRIPTORS);
    uint64_t begin = tp_clock_ms(); /* all that is counted lies inside the time */
    unsigned failures = atomic_load(&listener->failures);
    uint64_t wakes = atomic_load(&s->wakes);
    uint64_t cpu = tp_process_cpu_ns();
    /* The second may have passed while the machine stood still: it takes tries as well. */
    STAGE_UNTIL(
        tp_clock_ms() >= begin + WINDOW_MS && atomic_load(&listener->failures) - failures >= 2);
    failures = atomic_load(&listener->failures) - failures;
    wakes = atomic_load(&s->wakes) - wakes;
    cpu = (tp_process_cpu_ns() - cpu) / 1000000;
    uint64_t window_ms = tp_clock_ms() - begin;
    printf("    in %" PRIu64 " ms without descriptors: %u failures delivered, %" PRIu64
           " waits ended, %" PRIu64 " ms of processor\n",
        window_ms, failures, wakes, cpu);
    /* A pause of 50 to 200 ms between tries; each may wake a worker twice. */
    CHECK_LE(failures, window_ms / 50 + 2);
    CHECK_LE(wakes, 2 * (window_ms / 50 + 2));
    CHECK_LT(cpu, window_ms / 2);
}

static void no_descriptors_left(void) {
    static stage_link clients[HOARD];
    stage s;
    stage_listener listener;
    tp_address where = stage_loopback(0);
    stage_open(&s);
    long before = tp_process_open_descriptors();
    REQUIRE(stage_listener_open_at(&listener, &s, &where, 512, false) == TP_OK);
    unsigned hoarded = hoard_all(&s, &listener, clients);
    if (hoarded == HOARD) {
        release(clients, 0, hoarded);
        stage_shut_and_wait(&listener.link, false);
        stage_close(&s);
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
    REQUIRE(hoarded > 40);
    STAGE_UNTIL(atomic_load(&clients[hoarded - 1].connect_result) == TP_OK);
    REQUIRE(stage_accept(&listener.link) == TP_OK);
    measure_window(&s, &listener);

    /* Thirty descriptors come free: thirty connections come in. */
    unsigned accepted = atomic_load(&listener.count);
    release(clients, 0, 30);
    STAGE_UNTIL(atomic_load(&listener.count) >= accepted + 30);
    /* And all of them, when those who hoard have gone. */
    release(clients, 30, hoarded);
    for (unsigned i = 0; i < hoarded; i++) {
        tp_handle_close(stage_listener_take(&listener, NULL), true);
    }
    STAGE_UNTIL(tp_process_open_descriptors() == before + 1);
    stage_link client;
    stage_link server;
    stage_link_init(&client, &s, "client");
    stage_link_init(&server, &s, "server");
    stage_pair(&listener, &client, &server);
    stage_unpair(&client, &server);
    stage_listener_close(&listener);
    STAGE_UNTIL(tp_process_open_descriptors() == before);
    stage_close(&s);
}

/* ---- the reserve ----------------------------------------------------------------------------- */

#define RESERVE 40u

/* Two more failed tries: whatever could be accepted has been. */
static void wait_for_tries(stage_listener *listener) {
    unsigned failures = atomic_load(&listener->failures);
    STAGE_UNTIL(atomic_load(&listener->failures) >= failures + 2);
}

/* Connects until accepting stops; how many that took. */
static unsigned fill_up(stage *s, stage_listener *listener, stage_link *clients) {
    for (unsigned i = 0; i < HOARD; i++) {
        unsigned accepted = atomic_load(&listener->count);
        if (atomic_load(&listener->failures) > 0) {
            return i;
        }
        stage_link_init(&clients[i], s, "client");
        REQUIRE(stage_connect(&clients[i], &listener->address) == TP_OK);
        STAGE_UNTIL(
            atomic_load(&listener->count) > accepted || atomic_load(&listener->failures) > 0);
    }
    return HOARD;
}

/* Accepting stops before the reserve. What else the program opens is still to be had, and those who
 * wait meanwhile come in as others go. */
static void the_reserve_is_kept(void) {
    static stage_link clients[HOARD];
    stage s;
    stage_listener listener;
    uint64_t limit = tp_process_raise_descriptor_limit();
    if (limit > HOARD) {
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
    stage_open_reserve(&s, RESERVE);
    tp_address where = stage_loopback(0);
    REQUIRE(stage_listener_open_at(&listener, &s, &where, 512, false) == TP_OK);
    REQUIRE(stage_accept(&listener.link) == TP_OK);
    unsigned count = fill_up(&s, &listener, clients);
    CHECK_EQ(atomic_load(&listener.failure), TP_ERR_NO_DESCRIPTORS);
    uint64_t open = (uint64_t)tp_process_open_descriptors();
    /* All before the reserve, and of it at most the last two clients', an accept that came behind
     * such a client, and a moment's. */
    CHECK_GE(open, limit - RESERVE);
    CHECK_LE(open, limit - RESERVE + 4);

    unsigned accepted = atomic_load(&listener.count);
    for (unsigned i = 0; i < RESERVE / 2; i++) {
        stage_link_init(&clients[count + i], &s, "one more");
        REQUIRE(stage_connect(&clients[count + i], &listener.address) == TP_OK);
        STAGE_UNTIL(atomic_load(&clients[count + i].connect_result) == TP_OK);
    }
    wait_for_tries(&listener);
    CHECK_EQ(atomic_load(&listener.count), accepted);
    count += RESERVE / 2;

    release(clients, 0, RESERVE);
    for (unsigned i = 0; i < RESERVE; i++) {
        tp_handle_close(stage_listener_take(&listener, NULL), true);
    }
    STAGE_UNTIL(atomic_load(&listener.count) == count);
    release(clients, RESERVE, count);
    for (unsigned i = RESERVE; i < count; i++) {
        tp_handle_close(stage_listener_take(&listener, NULL), true);
    }
    stage_listener_close(&listener);
    stage_close(&s);
}

PORT_THEME(accept, PORT_CASE(a_burst_is_accepted_each_once, EACH_WORKERS),
    PORT_CASE(a_listener_closes_with_connections_waiting, EACH_WORKERS),
    PORT_CASE(no_descriptors_left, EACH_WORKERS), PORT_CASE(the_reserve_is_kept, EACH_WORKERS))
