/*
 * Theme `accept`: many connections, and a lack of descriptors.
 *
 * Workers accept; the main thread connects, counts and closes.
 */
#include "fixture.h"

#include "cases.h"
#include "os/clock.h"

/* ---- a burst --------------------------------------------------------------------------------- */

#define BURST 200

static void a_burst_is_accepted_each_once(void) {
    static fixture_link clients[BURST];
    fixture s;
    fixture_listener listener;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    for (unsigned i = 0; i < BURST; i++) {
        fixture_link_init(&clients[i], &s, "client");
        REQUIRE(fixture_connect(&clients[i], &listener.address) == TP_OK);
    }
    bool seen[65536] = {false};
    for (unsigned i = 0; i < BURST; i++) {
        tp_address peer;
        tp_handle_close(fixture_listener_take(&listener, &peer), false);
        if (seen[peer.port]) {
            fixture_fault("the connection from port %u was accepted twice", peer.port);
        }
        seen[peer.port] = true;
    }
    for (unsigned i = 0; i < BURST; i++) {
        FIXTURE_UNTIL(atomic_load(&clients[i].connect_result) == TP_OK);
        fixture_shut(&clients[i], false);
    }
    for (unsigned i = 0; i < BURST; i++) {
        FIXTURE_UNTIL(fixture_link_over(&clients[i]));
    }
    CHECK_EQ(atomic_load(&listener.count), BURST);
    CHECK_EQ(atomic_load(&listener.failures), 0);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

/* Connections that wait in the kernel when the listener closes leave nothing behind. */
static void a_listener_closes_with_connections_waiting(void) {
    fixture s;
    fixture_listener listener;
    tp_address where = fixture_loopback(0);
    fixture_open(&s);
    long before = 0;
    for (int round = 0; round < 20; round++) {
        fixture_link clients[8];
        if (round == 2) {
            before = tp_process_open_descriptors(); /* what is opened only once is open by now */
        }
        REQUIRE(fixture_listener_open_at(&listener, &s, &where, 64, round % 2 == 1) == TP_OK);
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            fixture_link_init(&clients[i], &s, "client");
            REQUIRE(fixture_connect(&clients[i], &listener.address) == TP_OK);
        }
        fixture_listener_close(&listener);
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            fixture_shut(&clients[i], false);
        }
        for (unsigned i = 0; i < TP_COUNT_OF(clients); i++) {
            FIXTURE_UNTIL(fixture_link_over(&clients[i]));
        }
    }
    FIXTURE_UNTIL_DESCRIPTORS(&s, before);
    fixture_close(&s);
}

/* ---- no descriptors left --------------------------------------------------------------------- */

#define HOARD     600 /* more than the limit with which the test runs */
#define WINDOW_MS 1000

static unsigned hoard_all(fixture *s, fixture_listener *listener, fixture_link *clients) {
    for (unsigned i = 0; i < HOARD; i++) {
        fixture_link_init(&clients[i], s, "hoarder");
        tp_err error = fixture_connect(&clients[i], &listener->address);
        if (error != TP_OK) {
            CHECK_EQ(error, TP_ERR_NO_DESCRIPTORS);
            return i;
        }
    }
    return HOARD;
}

static void close_clients(fixture_link *clients, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        fixture_shut(&clients[i], true);
    }
    for (unsigned i = from; i < to; i++) {
        FIXTURE_UNTIL(fixture_link_over(&clients[i]));
    }
}

/* Measures what the workers do, in a second or more, while accepting cannot succeed. */
static void measure_window(fixture *s, fixture_listener *listener) {
    FIXTURE_UNTIL(atomic_load(&listener->failures) > 0);
    CHECK_EQ(atomic_load(&listener->failure), TP_ERR_NO_DESCRIPTORS);
    uint64_t begin = tp_clock_ms(); /* first, so that the time includes everything counted */
    unsigned failures = atomic_load(&listener->failures);
    uint64_t wakes = atomic_load(&s->wakes);
    uint64_t cpu = tp_process_cpu_ns();
    /* The machine may have stopped for the second, so two tries are required as well. */
    FIXTURE_UNTIL(
        tp_clock_ms() >= begin + WINDOW_MS && atomic_load(&listener->failures) - failures >= 2);
    failures = atomic_load(&listener->failures) - failures;
    wakes = atomic_load(&s->wakes) - wakes;
    cpu = (tp_process_cpu_ns() - cpu) / 1000000;
    uint64_t window_ms = tp_clock_ms() - begin;
    printf("    in %" PRIu64 " ms without descriptors: %u failures delivered, %" PRIu64
           " waits ended, %" PRIu64 " ms of processor time\n",
        window_ms, failures, wakes, cpu);
    /* 50 to 200 ms between two tries, each of which may wake a worker twice. */
    CHECK_LE(failures, window_ms / 50 + 2);
    CHECK_LE(wakes, 2 * (window_ms / 50 + 2));
    CHECK_LT(cpu, window_ms / 2);
}

static void no_descriptors_left(void) {
    static fixture_link clients[HOARD];
    fixture s;
    fixture_listener listener;
    tp_address where = fixture_loopback(0);
    fixture_open(&s);
    long before = tp_process_open_descriptors();
    REQUIRE(fixture_listener_open_at(&listener, &s, &where, 512, false) == TP_OK);
    unsigned hoarded = hoard_all(&s, &listener, clients);
    if (hoarded == HOARD) {
        close_clients(clients, 0, hoarded);
        fixture_shut_and_wait(&listener.link, false);
        fixture_close(&s);
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
    REQUIRE(hoarded > 40);
    FIXTURE_UNTIL(atomic_load(&clients[hoarded - 1].connect_result) == TP_OK);
    REQUIRE(fixture_accept(&listener.link) == TP_OK);
    measure_window(&s, &listener);

    /* Thirty descriptors become free: thirty connections are accepted. */
    unsigned accepted = atomic_load(&listener.count);
    close_clients(clients, 0, 30);
    FIXTURE_UNTIL(atomic_load(&listener.count) >= accepted + 30);
    /* All of them, when all clients are closed. */
    close_clients(clients, 30, hoarded);
    for (unsigned i = 0; i < hoarded; i++) {
        tp_handle_close(fixture_listener_take(&listener, NULL), true);
    }
    FIXTURE_UNTIL(tp_process_open_descriptors() == before + 1);
    fixture_link client;
    fixture_link server;
    fixture_link_init(&client, &s, "client");
    fixture_link_init(&server, &s, "server");
    fixture_pair(&listener, &client, &server);
    fixture_unpair(&client, &server);
    fixture_listener_close(&listener);
    FIXTURE_UNTIL(tp_process_open_descriptors() == before);
    fixture_close(&s);
}

/* ---- the reserve ----------------------------------------------------------------------------- */

#define RESERVE 40u

/* Waits for two more failed tries: everything that can be accepted is accepted then. */
static void wait_for_tries(fixture_listener *listener) {
    unsigned failures = atomic_load(&listener->failures);
    FIXTURE_UNTIL(atomic_load(&listener->failures) >= failures + 2);
}

/* Connects until accepting stops. Returns the number of clients. */
static unsigned fill_up(fixture *s, fixture_listener *listener, fixture_link *clients) {
    for (unsigned i = 0; i < HOARD; i++) {
        unsigned accepted = atomic_load(&listener->count);
        if (atomic_load(&listener->failures) > 0) {
            return i;
        }
        fixture_link_init(&clients[i], s, "client");
        REQUIRE(fixture_connect(&clients[i], &listener->address) == TP_OK);
        FIXTURE_UNTIL(
            atomic_load(&listener->count) > accepted || atomic_load(&listener->failures) > 0);
    }
    return HOARD;
}

/* Accepting stops before the reserve. The program can still open other descriptors, and the waiting
 * connections are accepted when others close. */
static void the_reserve_is_kept(void) {
    static fixture_link clients[HOARD];
    fixture s;
    fixture_listener listener;
    uint64_t limit = tp_process_raise_descriptor_limit();
    if (limit > HOARD) {
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
    fixture_open_reserve(&s, RESERVE);
    tp_address where = fixture_loopback(0);
    REQUIRE(fixture_listener_open_at(&listener, &s, &where, 512, false) == TP_OK);
    REQUIRE(fixture_accept(&listener.link) == TP_OK);
    unsigned count = fill_up(&s, &listener, clients);
    CHECK_EQ(atomic_load(&listener.failure), TP_ERR_NO_DESCRIPTORS);
    uint64_t open = (uint64_t)tp_process_open_descriptors();
    /* All descriptors below the reserve. Of the reserve at most those of the last two clients, that
     * of a connection accepted after such a client, and one that is open for a moment. */
    CHECK_GE(open, limit - RESERVE);
    CHECK_LE(open, limit - RESERVE + 4);

    unsigned accepted = atomic_load(&listener.count);
    for (unsigned i = 0; i < RESERVE / 2; i++) {
        fixture_link_init(&clients[count + i], &s, "one more");
        REQUIRE(fixture_connect(&clients[count + i], &listener.address) == TP_OK);
        FIXTURE_UNTIL(atomic_load(&clients[count + i].connect_result) == TP_OK);
    }
    wait_for_tries(&listener);
    CHECK_EQ(atomic_load(&listener.count), accepted);
    count += RESERVE / 2;

    close_clients(clients, 0, RESERVE);
    for (unsigned i = 0; i < RESERVE; i++) {
        tp_handle_close(fixture_listener_take(&listener, NULL), true);
    }
    FIXTURE_UNTIL(atomic_load(&listener.count) == count);
    close_clients(clients, RESERVE, count);
    for (unsigned i = RESERVE; i < count; i++) {
        tp_handle_close(fixture_listener_take(&listener, NULL), true);
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

PORT_THEME(accept, PORT_CASE(a_burst_is_accepted_each_once, EACH_WORKERS),
    PORT_CASE(a_listener_closes_with_connections_waiting, EACH_WORKERS),
    PORT_CASE(no_descriptors_left, EACH_WORKERS), PORT_CASE(the_reserve_is_kept, EACH_WORKERS))
