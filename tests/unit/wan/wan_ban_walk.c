/*
 * A list of bans costs one walk over the sessions, however long it is. tp__session_enter() is the
 * test's (wrapped.h), which counts its calls.
 */
#include "wan_fixture.h"
#include "wrapped.h"

static _Thread_local unsigned holds; /* the walk is on the calling thread; workers have their own */
static wan_fixture fixture;

WRAPPED(tp__session *, tp__session_enter, tp_server *server, tp_session_id id, uint64_t barred);

tp__session *__wrap_tp__session_enter(tp_server *server, tp_session_id id, uint64_t barred) {
    holds++;
    return __real_tp__session_enter(server, id, barred);
}

enum { PLAYERS = 6, LISTED = 1000 };

static wan_peer *players[PLAYERS];

static void open_with_players(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    for (unsigned i = 0; i < PLAYERS; i++) {
        players[i] = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, i);
        wan_check_echo(players[i], "in");
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    holds = 0;
}

/* Sets LISTED bans of other networks, and with `here_too` one of this machine's behind them. */
static void set_bans(bool here_too) {
    static tp_ban bans[LISTED + 1];
    for (unsigned i = 0; i < LISTED; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.%u.%u", i / 256, i % 256);
        REQUIRE(tp_network_parse(text, &bans[i].network) == TP_OK);
    }
    REQUIRE(tp_network_parse("127.0.0.0/8", &bans[LISTED].network) == TP_OK);
    CHECK_EQ(tp_wanserver_set_bans(fixture.base.server, bans, LISTED + here_too), TP_OK);
}

static void a_list_of_bans_costs_one_walk(void) {
    open_with_players();
    set_bans(false);
    CHECK_EQ(holds, PLAYERS);
    wan_check_echo(players[0], "not on it");
    for (unsigned i = 0; i < PLAYERS; i++) {
        wan_leave(players[i]);
    }
    wan_fixture_close(&fixture);
}

static void every_session_on_the_list_is_ended(void) {
    open_with_players();
    set_bans(true);
    CHECK_EQ(holds, PLAYERS);
    for (unsigned i = 0; i < PLAYERS; i++) {
        CHECK_EQ(wan_receive_close(players[i]), TP_CLOSE_KICKED);
        wan_close(players[i], false);
    }
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_list_of_bans_costs_one_walk), CASE(every_session_on_the_list_is_ended))
