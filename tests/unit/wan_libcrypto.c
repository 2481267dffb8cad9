/*
 * The heap that libcrypto takes for the server's players: how much of it an idle player has, that
 * all of it comes back, and what happens when there is none.
 *
 * The players' clients are in this process as well, on the test's thread: what that thread takes is
 * not counted and does not fail.
 */
#include "libcrypto_heap.h"
#include "wan_stage.h"
#include "wanserver/wan.h"

/* An idle player's user memory, ciphers included. */
#define PLAYER_LIMIT 3584u

static wan_stage stage;

static bool play_once(tp_suite suite) {
    const wan_login login = wan_login_as(&stage, suite, 1);
    tp_address address = tp_server_address(stage.base.server);
    wan_peer *peer = wan_join(&address, &login);
    if (!peer) {
        return false;
    }
    uint8_t back[8];
    unsigned type;
    bool played = wan_send_frame(peer, TP_FRAME_DATA, "abc", 3) &&
                  wan_receive_frame(peer, &type, back, sizeof back) == 3;
    wan_leave(peer);
    return played;
}

/* ---- how much -------------------------------------------------------------------------------- */

static void check_idle_players(tp_suite suite, const char *name) {
    enum { PLAYERS = 50 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    CHECK(play_once(suite)); /* what is made once for all */
    STAGE_WAIT(atomic_load(&stage.base.leaves) == 1 && wan_stats(&stage).pending == 0);
    wan_peer *peers[PLAYERS];
    size_t before = libcrypto_held();
    for (unsigned i = 0; i < PLAYERS; i++) {
        peers[i] = wan_stage_join(&stage, suite, i);
        wan_check_echo(peers[i], "x");
    }
    size_t ciphers = (libcrypto_held() - before) / PLAYERS;
    size_t all = ciphers + sizeof(tp__session) + sizeof(tp__player) + sizeof(uint32_t);
    printf("    an idle player with %s: %zu bytes, of which ciphers %zu, session %zu, player %zu\n",
        name, all, ciphers, sizeof(tp__session), sizeof(tp__player));
    CHECK_LE(all, PLAYER_LIMIT);
    CHECK_GT(ciphers, 1000);
    for (unsigned i = 0; i < PLAYERS; i++) {
        const tp__player *player =
            tp__player_of(&stage.base.server->sessions[tp_session_slot(peers[i]->terms.session)]);
        CHECK(player->partial == NULL); /* nothing but these */
        wan_leave(peers[i]);
    }
    STAGE_WAIT(atomic_load(&stage.base.leaves) == PLAYERS + 1);
    wan_stage_close(&stage);
    CHECK_LE(libcrypto_held(), before);
}

static void an_idle_player_is_small(void) {
    libcrypto_watch();
    check_idle_players(TP_SUITE_AES_256_GCM, "AES-256-GCM");
    check_idle_players(TP_SUITE_CHACHA20_POLY1305, "ChaCha20-Poly1305");
}

/* ---- whose ----------------------------------------------------------------------------------- */

/* What a handshake thread takes it gives back itself. It may lose the processor inside the
 * allocator for long, and who gives back a block of another thread's waits for the allocator's
 * lock for that thread. */
static void the_handshake_threads_memory_is_theirs_alone(void) {
    libcrypto_watch();
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.workers = 1;
    wan_stage_open(&stage);
    CHECK(play_once(TP_SUITE_AES_256_GCM));
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    unsigned before = atomic_load(&libcrypto.strayed);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(play_once(i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305));
        STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    }
    CHECK_EQ(atomic_load(&libcrypto.strayed), before);
    wan_stage_close(&stage);
}

/* ---- none left ------------------------------------------------------------------------------- */

/* Each allocation of a whole session fails, one after the other: that player is not served or is,
 * nobody else notices, and nothing is lost. */
static void without_memory_in_libcrypto(tp_suite suite) {
    enum { MOST = 500 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    CHECK(play_once(suite));
    unsigned refused = 0;
    long n = 1;
    for (bool failed = true; failed && n < MOST; n++) {
        unsigned before = atomic_load(&libcrypto.failures);
        atomic_store(&libcrypto.until_failure, n);
        refused += !play_once(suite);
        atomic_store(&libcrypto.until_failure, 0);
        failed = atomic_load(&libcrypto.failures) > before;
        STAGE_WAIT(
            atomic_load(&stage.base.server->slots_used) == 0 && wan_stats(&stage).pending == 0);
    }
    CHECK_LT(n, MOST);
    CHECK_GT(refused, 2);
    printf("    %ld allocations failed one by one, %u players were not served\n", n - 2, refused);
    size_t before = libcrypto_held();
    CHECK(play_once(suite));
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    CHECK_LE(libcrypto_held(), before);
    wan_stage_close(&stage);
}

static void a_player_for_whom_there_is_none_is_not_served(void) {
    libcrypto_watch();
    tp_log_set_level(TP_LOG_OFF); /* each of them is said */
    without_memory_in_libcrypto(TP_SUITE_AES_256_GCM);
    without_memory_in_libcrypto(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(an_idle_player_is_small), CASE(the_handshake_threads_memory_is_theirs_alone),
    CASE(a_player_for_whom_there_is_none_is_not_served))
