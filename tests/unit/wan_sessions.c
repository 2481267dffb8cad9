/*
 * Players of the WAN server as content sees them: join, identity, messages, leave; both suites, both
 * modes.
 */
#include "wan_stage.h"

static wan_stage stage;

static void player_joins_talks_and_leaves(tp_auth auth, tp_suite suite) {
    wan_stage_init(&stage, auth);
    wan_stage_open(&stage);
    wan_peer *peer = wan_stage_join(&stage, suite, 7);
    wan_check_echo(peer, "hello");
    CHECK_EQ(atomic_load(&stage.base.joins), 1);
    CHECK_EQ(tp_server_session_count(stage.base.server), 1);
    CHECK_EQ(peer->terms.session, atomic_load(&stage.base.last_joined));
    CHECK_EQ(peer->terms.max_payload, stage.options.server.max_frame);
    CHECK_EQ(peer->terms.heartbeat_seconds, 30);
    wan_leave(peer);
    STAGE_WAIT(atomic_load(&stage.base.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.base.last_reason), TP_END_PEER_CLOSED);
    wan_stage_close(&stage);
}

static void players_join_talk_and_leave(void) {
    static const tp_suite suites[] = WAN_SUITES;
    for (unsigned i = 0; i < 2; i++) {
        player_joins_talks_and_leaves(TP_AUTH_OPEN, suites[i]);
        player_joins_talks_and_leaves(TP_AUTH_TOKEN, suites[i]);
    }
}

CHECK_MAIN(CASE(players_join_talk_and_leave))
