/*
 * The gate's invariants hold while it works, and tp__gate_check() finds each one that is broken:
 * every case breaks one field of a gate with players in every state, looks, and repairs it.
 */
/* Before the fixture, whose type `player` its parameters would shadow. */
#include "wanserver/gate/gate_internal.h"

#include "check_finds.h"
#include "gate_fixture.h"

enum { PLAYERS = 2, WAITING = 3, ALL = PLAYERS + WAITING };

static gate_fixture fixture;
static service arena;
static player players[ALL];

/* Every JOIN is answered: no assignment changes its state by itself any more. */
static bool all_joined(void) {
    tp__gate *gate = fixture.gate;
    bool joined = true;
    tp_mutex_lock(&gate->mutex);
    for (const tp__link *at = gate->services[0].peers->assignments.first; at; at = at->next) {
        joined = joined && tp__assignment_of(at)->state == TP__ASSIGNMENT_JOINED;
    }
    tp_mutex_unlock(&gate->mutex);
    return joined;
}

static void open_all(void) {
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = PLAYERS;
    fixture.options.max_waiting = WAITING;
    fixture.options.keep_players = PLAYERS;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 1);
    for (unsigned i = 0; i < ALL; i++) {
        player_join(&fixture, &players[i]);
        AWAIT(players[i].notices > 0);
    }
    AWAIT(arena.joins == PLAYERS && all_joined());
}

static void close_all(void) {
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    service_leave(&arena);
    hub_close(hub);
}

/* What the check finds in the gate as it is, or "". Under the gate's mutex. */
static const char *found(void) {
    return text_of(tp__gate_check(fixture.gate));
}

/* Breaks a number by 1, and repairs it. */
#define CHECK_FOUND(number, text) CHECK_FINDS(found(), text, ++(number), --(number))

static void the_check_finds_a_wrong_count(void) {
    open_all();
    tp__gate *gate = fixture.gate;
    tp_mutex_lock(&gate->mutex);
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__gate_peer *peer = gate->services[0].peers;
    CHECK_FOUND(gate->players, "count_quota");
    CHECK_FOUND(gate->kept, "gate->kept == kept");
    CHECK_FOUND(gate->assignments_used, "assignments_used + gate->free_assignments.count");
    CHECK_FOUND(peer->players, "peer->players == players");
    CHECK_FOUND(peer->in_flight, "peer->in_flight == in_flight");
    CHECK_FOUND(gate->waiting_room.list.count, "count");
    CHECK_FOUND(gate->stats.joined, "stats->joined");
    CHECK_FOUND(gate->stats.waited, "stats->waited");
    tp_mutex_unlock(&gate->mutex);
    close_all();
}

static void the_check_finds_a_wrong_link(void) {
    open_all();
    tp__gate *gate = fixture.gate;
    tp_mutex_lock(&gate->mutex);
    tp__list *waiting = &gate->waiting_room.list;

    tp__gate_player *newest = tp__gate_player_of(waiting->last);
    uint64_t number = newest->queue_number;
    newest->queue_number = tp__gate_player_of(waiting->first)->queue_number;
    CHECK(strstr(found(), "queue_number > number") != NULL);
    newest->queue_number = number;

    tp__link *last = waiting->last;
    waiting->last = waiting->first;
    CHECK(strstr(found(), "list->last == last") != NULL);
    waiting->last = last;

    tp__gate_assignment *assignment = tp__assignment_of(gate->services[0].peers->assignments.first);
    tp__gate_player *at_peer = assignment->player;
    at_peer->assignment = NULL;
    CHECK(strstr(found(), "player->assignment == assignment") != NULL);
    at_peer->assignment = assignment;

    tp__gate_set_state(at_peer, TP__GATE_KEPT);
    CHECK(strstr(found(), "TP__GATE_AT_PEER") != NULL);
    tp__gate_set_state(at_peer, TP__GATE_AT_PEER);

    tp__assignment_state state = assignment->state;
    assignment->state = TP__ASSIGNMENT_DUE_JOIN; /* due, and not in the queue */
    CHECK(strstr(found(), "due == 0") != NULL);
    assignment->state = state;

    gate->waiting_room.cursor = at_peer; /* not in the queue */
    CHECK(strstr(found(), "found") != NULL);
    gate->waiting_room.cursor = NULL;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp_mutex_unlock(&gate->mutex);
    close_all();
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_count), CASE(the_check_finds_a_wrong_link))
