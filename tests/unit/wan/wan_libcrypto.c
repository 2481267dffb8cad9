/*
 * libcrypto's heap on a running server (libcrypto_heap.h): what an idle player takes of it, that
 * all of it is freed, and what happens when it fails.
 *
 * The players' clients run in this process, too, on the test's thread: what that thread allocates
 * is not counted and does not fail.
 */
#include "libcrypto_heap.h"
#include "wan_fixture.h"
#include "wanserver/wan.h"

/* All user memory of an idle player, ciphers included. */
#define PLAYER_LIMIT 3584u

static wan_fixture fixture;

static bool join_and_leave(tp_suite suite) {
    const wan_login login = wan_login_as(&fixture, suite, 1);
    tp_address address = tp_server_address(fixture.base.server);
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

/* ---- how much is taken ----------------------------------------------------------------------- */

static void check_idle_players(tp_suite suite, const char *name) {
    enum { PLAYERS = 50 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    CHECK(join_and_leave(suite)); /* allocates what is made once for the process */
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1 && wan_stats(&fixture).pending == 0);
    wan_peer *peers[PLAYERS];
    size_t before = libcrypto_held();
    for (unsigned i = 0; i < PLAYERS; i++) {
        peers[i] = wan_fixture_join(&fixture, suite, i);
        wan_check_echo(peers[i], "x");
    }
    size_t ciphers = (libcrypto_held() - before) / PLAYERS;
    size_t all = ciphers + sizeof(tp__session) + sizeof(tp__connection) + sizeof(uint32_t);
    printf("    an idle player with %s: %zu bytes, of which ciphers %zu, session %zu, player %zu\n",
        name, all, ciphers, sizeof(tp__session), sizeof(tp__connection));
    CHECK_LE(all, PLAYER_LIMIT);
    CHECK_GT(ciphers, 1000);
    for (unsigned i = 0; i < PLAYERS; i++) {
        const tp__connection *connection = tp__connection_of(
            &fixture.base.server->sessions[tp_session_slot(peers[i]->terms.session)]);
        CHECK(connection->partial == NULL); /* no other memory */
        wan_leave(peers[i]);
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == PLAYERS + 1);
    wan_fixture_close(&fixture);
    CHECK_LE(libcrypto_held(), before);
}

static void an_idle_player_takes_little_memory(void) {
    libcrypto_watch();
    check_idle_players(TP_SUITE_AES_256_GCM, "AES-256-GCM");
    check_idle_players(TP_SUITE_CHACHA20_POLY1305, "ChaCha20-Poly1305");
}

/* ---- which thread takes it ------------------------------------------------------------------- */

/* A handshake thread frees its own memory. It may be preempted inside the allocator for long, and a
 * thread that frees another thread's block would wait for its lock in the allocator. */
static void handshake_threads_free_their_own_memory(void) {
    libcrypto_watch();
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.workers = 1;
    wan_fixture_open(&fixture);
    CHECK(join_and_leave(TP_SUITE_AES_256_GCM));
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    unsigned before = atomic_load(&libcrypto.strayed);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(join_and_leave(i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305));
        FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    }
    CHECK_EQ(atomic_load(&libcrypto.strayed), before);
    wan_fixture_close(&fixture);
}

/* ---- failing allocations --------------------------------------------------------------------- */

/* Each allocation of a whole session fails in turn: the player is served or not, no other player is
 * affected, and nothing is lost. */
static void check_failing_allocations(tp_suite suite) {
    enum { MOST = 500 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    CHECK(join_and_leave(suite));
    unsigned refused = 0;
    long n = 1;
    for (bool failed = true; failed && n < MOST; n++) {
        unsigned before = atomic_load(&libcrypto.failures);
        atomic_store(&libcrypto.until_failure, n);
        refused += !join_and_leave(suite);
        atomic_store(&libcrypto.until_failure, 0);
        failed = atomic_load(&libcrypto.failures) > before;
        FIXTURE_WAIT(
            atomic_load(&fixture.base.server->slots_used) == 0 && wan_stats(&fixture).pending == 0);
    }
    CHECK_LT(n, MOST);
    CHECK_GT(refused, 2);
    printf("    %ld allocations failed one by one, %u players were not served\n", n - 2, refused);
    size_t before = libcrypto_held();
    CHECK(join_and_leave(suite));
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    CHECK_LE(libcrypto_held(), before);
    wan_fixture_close(&fixture);
}

static void a_player_without_memory_is_not_served(void) {
    libcrypto_watch();
    tp_log_set_level(TP_LOG_OFF); /* each failure is logged */
    check_failing_allocations(TP_SUITE_AES_256_GCM);
    check_failing_allocations(TP_SUITE_CHACHA20_POLY1305);
}

CHECK_MAIN(CASE(an_idle_player_takes_little_memory), CASE(handshake_threads_free_their_own_memory),
    CASE(a_player_without_memory_is_not_served))
