/*
 * Connections that are closed in every state of a login, thousands of times: afterwards memory and
 * handles are as before, and the server still serves.
 */
#include "libcrypto_heap.h"
#include "os/process.h"
#include "wan_fixture.h"

static wan_fixture fixture;

/* The states in which a connection is closed. */
enum {
    AT_CONNECT,
    IN_HELLO,
    AFTER_HELLO, /* its handshake may be in progress */
    AT_REPLY,
    IN_FIRST_RECORD,
    AFTER_READY,
    IN_A_RECORD,
    IN_A_FRAME,
    WITH_ANSWERS_UNREAD,
    AFTER_TAMPERING,
    STATES
};

/* Rounds through all states: as many as fit into TIME_MS, and never fewer than LEAST_ROUNDS. How
 * many there were is printed. TWINPORT_ABORTS asks for a number of connections in each mode
 * instead, whatever time that takes. */
#define LEAST_ROUNDS 20u
#define BUSIER       4u /* chunks that a busier moment than all before may have added */
#define TIME_MS      1000u

static uint8_t filler[1000];

static size_t random_below(size_t limit) {
    uint32_t number;
    tp_random_bytes(&number, sizeof number);
    return number % limit;
}

static bool log_in(wan_peer *peer) {
    return wan_send_hello(peer) && wan_take_reply(peer);
}

static bool join(wan_peer *peer) {
    return log_in(peer) && wan_send_ready(peer);
}

static void send_begun_record(wan_peer *peer) {
    uint8_t record[WAN_SEALED(500)];
    wan_seal(peer, filler, 500, record);
    (void)raw_send(peer->raw, record, 300);
}

static void close_in_state(const wan_login *login, unsigned state, bool reset) {
    wan_peer *peer = wan_fixture_connect(&fixture, login);
    switch (state) {
    case IN_HELLO:
        (void)raw_send(peer->raw, peer->hello, 1 + random_below(peer->hello_size - 1));
        break;
    case AFTER_HELLO:
        (void)wan_send_hello(peer);
        break;
    case AT_REPLY:
        CHECK(log_in(peer));
        break;
    case IN_FIRST_RECORD:
        CHECK(log_in(peer));
        send_begun_record(peer);
        break;
    case AFTER_READY:
        CHECK(join(peer));
        break;
    case IN_A_RECORD:
        CHECK(join(peer));
        send_begun_record(peer);
        break;
    case IN_A_FRAME:
        CHECK(join(peer));
        tp_frame_write(filler, TP_FRAME_DATA, 60000);
        (void)wan_send_record(peer, filler, sizeof filler);
        break;
    case WITH_ANSWERS_UNREAD:
        CHECK(join(peer));
        (void)wan_send_frame(peer, TP_FRAME_DATA, filler, sizeof filler);
        break;
    case AFTER_TAMPERING:
        CHECK(join(peer));
        (void)raw_send(peer->raw, filler, 100);
        break;
    default:
        break;
    }
    wan_close(peer, reset);
}

static void wait_until_all_are_released(void) {
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0 &&
                 atomic_load(&fixture.base.server->slots_used) == 0 &&
                 atomic_load(&fixture.base.joins) == atomic_load(&fixture.base.leaves));
}

static void close_in_all_states(unsigned round) {
    tp_suite suite = round % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305;
    for (unsigned state = 0; state < STATES; state++) {
        const wan_login login = wan_login_as(&fixture, suite, round);
        close_in_state(&login, state, round % 3 != 0);
    }
}

static unsigned rounds_requested(void) {
    const char *connections = getenv("TWINPORT_ABORTS");
    unsigned rounds = connections ? (unsigned)strtoul(connections, NULL, 10) / STATES : 0;
    return rounds > LEAST_ROUNDS ? rounds : LEAST_ROUNDS;
}

static unsigned close_rounds(unsigned rounds, uint64_t until_ms) {
    unsigned round = 0;
    while (round < rounds || tp_clock_ms() < until_ms) {
        close_in_all_states(round++);
        if (round % 64 == 0) {
            wait_until_all_are_released();
        }
    }
    wait_until_all_are_released();
    return round;
}

/* A thread that computes its first handshake takes random number generators of its own from
 * libcrypto, 3,600 bytes. One of the two threads, the idle one and its reserve, may do so after the
 * first rounds. */
#define THREADS_OWN ((size_t)4096)

static void check_closed_connections_leave_nothing(tp_auth auth) {
    libcrypto_watch();
    wan_fixture_init(&fixture, auth);
    wan_fixture_open(&fixture);
    close_rounds(LEAST_ROUNDS, 0); /* what the server needs at its busiest */
    uint64_t live = wan_live_but_chunks();
    uint64_t chunks = tp__chunk_count();
    size_t ciphers = libcrypto_held();
    long handles = tp_process_open_descriptors();
    unsigned rounds = close_rounds(rounds_requested(), tp_clock_ms() + TIME_MS);
    printf("    %u connections closed in %u states\n", rounds * STATES, STATES);
    CHECK_LE(wan_live_but_chunks(), live + live / 100);
    CHECK_LE(tp__chunk_count(), chunks + BUSIER);
    CHECK_LE(libcrypto_held(), ciphers + THREADS_OWN);
    CHECK_LE(tp_process_open_descriptors(), handles + handles / 100);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

static void closed_connections_leave_nothing_in_open_mode(void) {
    check_closed_connections_leave_nothing(TP_AUTH_OPEN);
}

static void closed_connections_leave_nothing_with_tokens(void) {
    check_closed_connections_leave_nothing(TP_AUTH_TOKEN);
}

CHECK_MAIN(CASE(closed_connections_leave_nothing_in_open_mode),
    CASE(closed_connections_leave_nothing_with_tokens))
