/*
 * Everything at once: players who come, talk and go on several threads, content that broadcasts,
 * looks, kicks and bans from others, handshakes under way, and stops and starts in the middle of
 * it. What must hold: each join has its leave, nobody sees another's identity, and a stop ends.
 */
#include "wan_stage.h"

#define PLAYER_THREADS 3
#define ROUNDS         3
#define WORKERS        2
#define VISITS         120u /* of all players in a round */

static wan_stage stage;
static tp_address address;
static atomic_bool over;
static atomic_uint visits;
static atomic_uint served;
static atomic_uint wrong_identities;
static atomic_ullong some_session;

/* ---- content --------------------------------------------------------------------------------- */

/* The account is in the flags as well: a mixture of two players would show. */
static void look_at(tp_session_id session) {
    tp_identity who = {.size = sizeof who};
    if (tp_session_identity(stage.base.server, session, &who)) {
        bool whole = who.flags == (uint32_t)~who.account;
        for (unsigned i = 0; i < sizeof who.user_data; i++) {
            whole = whole && who.user_data[i] == (uint8_t)who.account;
        }
        atomic_fetch_add(&wrong_identities, !whole);
    }
}

static void joined(server_stage *base, tp_session_id session) {
    tp_identity who = {.size = sizeof who};
    (void)base;
    atomic_fetch_add(&wrong_identities, !tp_session_identity(stage.base.server, session, &who));
    look_at(session);
    atomic_store(&some_session, session);
}

static void left(server_stage *base, tp_session_id session, tp_end_reason reason) {
    (void)base, (void)reason;
    look_at(session);
}

static void meddle(void *argument) {
    (void)argument;
    tp_network elsewhere;
    (void)tp_network_parse("10.0.0.0/8", &elsewhere);
    for (unsigned turn = 0; !atomic_load(&over); turn++) {
        tp_session_id session = atomic_load(&some_session);
        tp_wanserver_stats stats = {.size = sizeof stats};
        tp_packet *packet = tp_packet_copy_of("to all", 6);
        look_at(session);
        if (packet) {
            tp_server_broadcast(stage.base.server, packet, session);
            tp_packet_release(packet);
        }
        tp_wanserver_get_stats(stage.base.server, &stats);
        (void)tp_wanserver_set_token_keys(stage.base.server, stage.ring, 2);
        (void)tp_wanserver_ban(stage.base.server, &elsewhere, turn % 2);
        (void)tp_wanserver_lift_ban(stage.base.server, &elsewhere);
        const tp_ban all = {.network = elsewhere, .seconds = turn % 2};
        (void)tp_wanserver_set_bans(stage.base.server, &all, turn % 3 > 0);
        if (turn % 16 == 3) {
            tp_server_disconnect(stage.base.server, session);
        } else if (turn % 16 == 7) {
            tp_server_disconnect_after_send(stage.base.server, session, TP_CLOSE_KICKED);
        }
        tp_thread_yield();
    }
}

/* ---- players --------------------------------------------------------------------------------- */

/* Until its own message is back, whatever comes before it. */
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

static void visit(const wan_login *login, unsigned number) {
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

static void play(void *argument) {
    unsigned number = *(unsigned *)argument;
    while (!atomic_load(&over)) {
        tp_suite suite = number % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305;
        const wan_login login = wan_login_as(&stage, suite, number);
        visit(&login, number);
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
        REQUIRE(tp_thread_start(&threads[i], "player", play, &numbers[i]) == TP_OK);
    }
    REQUIRE(tp_thread_start(&threads[PLAYER_THREADS], "content", meddle, NULL) == TP_OK);
    STAGE_WAIT(atomic_load(&visits) >= wanted);
    tp_server_stop(stage.base.server);
    CHECK_EQ(tp_server_wait(stage.base.server, -1), TP_OK);
    atomic_store(&over, true);
    for (unsigned i = 0; i < PLAYER_THREADS + 1; i++) {
        tp_thread_join(&threads[i]);
    }
}

static void all_of_it_at_once(unsigned max_pending) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.workers = WORKERS;
    stage.options.server.max_sessions = 2; /* some find it full */
    stage.options.max_pending = max_pending;
    stage.options.handshake_threads = 2;
    stage.options.handshake_queue = 1; /* some are told to come again */
    stage.options.server.drain_timeout_ms = 200;
    stage.base.on_joined = joined;
    stage.base.on_left = left;
    wan_stage_open(&stage);
    for (unsigned round = 0; round < ROUNDS; round++) {
        address = tp_server_address(stage.base.server);
        play_until(VISITS);
        CHECK_EQ(atomic_load(&stage.base.joins), atomic_load(&stage.base.leaves));
        CHECK_EQ(wan_stats(&stage).pending, 0);
        REQUIRE(tp_server_start(stage.base.server) == TP_OK);
    }
    wan_stage_close(&stage);
    CHECK_EQ(atomic_load(&wrong_identities), 0);
    CHECK_GT(atomic_load(&served), 0);
}

static void everything_at_once(void) {
    all_of_it_at_once(1024);
}

static void everything_at_once_with_little_room(void) {
    all_of_it_at_once(16);
}

CHECK_MAIN(CASE(everything_at_once), CASE(everything_at_once_with_little_room))
