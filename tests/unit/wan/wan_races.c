/*
 * Many threads at the same time: players connect, send and leave on several threads, the
 * application broadcasts, queries, kicks and bans on others, handshakes run, and the server stops
 * and starts in the middle.
 *
 * Each join must have its leave, no session may show another's identity, and a stop must end.
 */
#include "wan_fixture.h"

#define PLAYER_THREADS 3
#define ROUNDS         3
#define WORKERS        2
#define JOINS          120u /* of all players in a round */

static wan_fixture fixture;
static tp_address address;
static atomic_bool over;
static atomic_uint visits;
static atomic_uint served;
static atomic_uint wrong_identities;
static atomic_ullong some_session;

/* ---- the application ------------------------------------------------------------------------- */

/* The account is in the flags, too, so that a mixture of two identities is visible. */
static void look_at(tp_session_id session) {
    tp_identity who = {.size = sizeof who};
    if (tp_session_identity(fixture.base.server, session, &who)) {
        bool whole = who.flags == (uint32_t)~who.account;
        for (unsigned i = 0; i < sizeof who.user_data; i++) {
            whole = whole && who.user_data[i] == (uint8_t)who.account;
        }
        atomic_fetch_add(&wrong_identities, !whole);
    }
}

static void joined(server_fixture *base, tp_session_id session) {
    tp_identity who = {.size = sizeof who};
    (void)base;
    atomic_fetch_add(&wrong_identities, !tp_session_identity(fixture.base.server, session, &who));
    look_at(session);
    atomic_store(&some_session, session);
}

static void left(server_fixture *base, tp_session_id session, tp_end_reason reason) {
    (void)base, (void)reason;
    look_at(session);
}

static void act_on_sessions(void *argument) {
    (void)argument;
    tp_network elsewhere;
    (void)tp_network_parse("10.0.0.0/8", &elsewhere);
    for (unsigned turn = 0; !atomic_load(&over); turn++) {
        tp_session_id session = atomic_load(&some_session);
        tp_wanserver_stats stats = {.size = sizeof stats};
        tp_packet *packet = tp_packet_copy_of("to all", 6);
        look_at(session);
        if (packet) {
            tp_server_broadcast(fixture.base.server, packet, session);
            tp_packet_release(packet);
        }
        tp_wanserver_get_stats(fixture.base.server, &stats);
        (void)tp_wanserver_set_token_keys(fixture.base.server, fixture.ring, 2);
        (void)tp_wanserver_ban(fixture.base.server, &elsewhere, turn % 2);
        (void)tp_wanserver_lift_ban(fixture.base.server, &elsewhere);
        const tp_ban all = {.network = elsewhere, .seconds = turn % 2};
        (void)tp_wanserver_set_bans(fixture.base.server, &all, turn % 3 > 0);
        if (turn % 16 == 3) {
            tp_server_disconnect(fixture.base.server, session);
        } else if (turn % 16 == 7) {
            tp_server_disconnect_after_send(fixture.base.server, session, TP_CLOSE_KICKED);
        }
        tp_thread_yield();
    }
}

/* ---- players --------------------------------------------------------------------------------- */

/* Receives until the player's own message comes back. */
static bool is_answered(wan_peer *peer) {
    uint8_t in[64];
    unsigned type;
    long size;
    while ((size = wan_receive_frame(peer, &type, in, sizeof in)) >= 0) {
        if (type == TP_FRAME_DATA && size == 4 && memcmp(in, "mine", 4) == 0) {
            return true;
        }
    }
    return false;
}

static void join_and_leave(const wan_login *login, unsigned number) {
    wan_peer *peer = wan_connect(&address, login);
    if (!peer) {
        return; /* the server is stopping */
    }
    switch (number % 6) {
    case 0:
        break;
    case 1:
        (void)raw_send(peer->raw, peer->hello, 50);
        break;
    case 2:
        (void)wan_send_hello(peer);
        break;
    default:
        if (wan_send_hello(peer) && wan_take_reply(peer) && wan_send_ready(peer) &&
            wan_send_frame(peer, TP_FRAME_DATA, "mine", 4) && is_answered(peer)) {
            atomic_fetch_add(&served, 1);
        }
        break;
    }
    wan_close(peer, number % 2);
}

static void play_repeatedly(void *argument) {
    unsigned number = *(unsigned *)argument;
    while (!atomic_load(&over)) {
        tp_suite suite = number % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305;
        const wan_login login = wan_login_as(&fixture, suite, number);
        join_and_leave(&login, number);
        atomic_fetch_add(&visits, 1);
        number += PLAYER_THREADS;
    }
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void play_until(unsigned wanted) {
    static unsigned numbers[PLAYER_THREADS];
    tp_thread threads[PLAYER_THREADS + 1];
    atomic_store(&over, false);
    atomic_store(&visits, 0);
    for (unsigned i = 0; i < PLAYER_THREADS; i++) {
        numbers[i] = i;
        REQUIRE(tp_thread_start(&threads[i], "player", play_repeatedly, &numbers[i]) == TP_OK);
    }
    REQUIRE(tp_thread_start(&threads[PLAYER_THREADS], "content", act_on_sessions, NULL) == TP_OK);
    FIXTURE_WAIT(atomic_load(&visits) >= wanted);
    tp_server_stop(fixture.base.server);
    CHECK_EQ(tp_server_wait(fixture.base.server, -1), TP_OK);
    atomic_store(&over, true);
    for (unsigned i = 0; i < PLAYER_THREADS + 1; i++) {
        tp_thread_join(&threads[i]);
    }
}

static void run_everything(unsigned max_pending) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.workers = WORKERS;
    fixture.options.server.max_sessions = 2; /* some players find it full */
    fixture.options.max_pending = max_pending;
    fixture.options.handshake_threads = 2;
    fixture.options.handshake_queue = 1; /* some players get BUSY */
    fixture.options.server.drain_timeout_ms = 200;
    fixture.base.on_joined = joined;
    fixture.base.on_left = left;
    wan_fixture_open(&fixture);
    for (unsigned round = 0; round < ROUNDS; round++) {
        address = tp_server_address(fixture.base.server);
        play_until(JOINS);
        CHECK_EQ(atomic_load(&fixture.base.joins), atomic_load(&fixture.base.leaves));
        CHECK_EQ(wan_stats(&fixture).pending, 0);
        REQUIRE(tp_server_start(fixture.base.server) == TP_OK);
    }
    wan_fixture_close(&fixture);
    CHECK_EQ(atomic_load(&wrong_identities), 0);
    CHECK_GT(atomic_load(&served), 0);
}

static void everything_runs_at_the_same_time(void) {
    run_everything(1024);
}

static void everything_runs_with_small_limits(void) {
    run_everything(16);
}

CHECK_MAIN(CASE(everything_runs_at_the_same_time), CASE(everything_runs_with_small_limits))
