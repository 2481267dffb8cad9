/*
 * tp__backend_check() finds each invariant of the backend that is broken: every case breaks one
 * field of a backend with a gate and players, looks, and repairs it.
 */
/* Before the fixture, whose type `player` its parameters would shadow. */
#include "lanclient/backend/backend_internal.h"

#include "check_finds.h"
#include "gate_fixture.h"

enum { PLAYERS = 3, MOST = 8 };

static gate_fixture fixture;
static service arena;
static player players[PLAYERS];

static void open_all(void) {
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
    fixture_start(&fixture);
    service_init(&arena, fixture.hub, "arena");
    arena.options.max_players = MOST;
    arena.options.max_gates = 2;
    service_start(&arena);
    AWAIT(fixture_stats(&fixture).peers == 1);
    for (unsigned i = 0; i < PLAYERS; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(arena.joins == PLAYERS);
}

static void close_all(void) {
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    service_leave(&arena);
    hub_close(hub);
}

/* What the check finds in the backend as it is, or "". Under the backend's mutex. */
static const char *found(void) {
    return text_of(tp__backend_check(arena.backend));
}

/* Breaks a number by 1, and repairs it. */
#define CHECK_FOUND(number, text) CHECK_FINDS(found(), text, ++(number), --(number))

static void the_check_finds_what_is_broken(void) {
    open_all();
    tp_backend *backend = arena.backend;
    tp_mutex_lock(&backend->mutex);
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__backend_gate *gate = backend->gates[0].count > 0 ? &backend->gates[0] : &backend->gates[1];
    REQUIRE(gate->count == PLAYERS);
    tp__backend_player *one = &backend->players[gate->indexes[1]];

    /* Counts. */
    CHECK_FOUND(backend->player_count, "player_count(backend) == players");
    uint32_t capacity = gate->capacity;
    gate->capacity = PLAYERS - 1;
    CHECK(strstr(found(), "gate->count <= gate->capacity") != NULL);
    gate->capacity = capacity;
    uint32_t last_gate = backend->last_gate;
    backend->last_gate = backend->options.max_gates;
    CHECK(strstr(found(), "last_gate") != NULL);
    backend->last_gate = last_gate;
    gate->count--; /* its slot still has the player */
    CHECK(strstr(found(), "gate_slots_count") != NULL);
    gate->count++;

    /* The list and the players' entries. */
    CHECK_FOUND(gate->indexes[1], "gate->sessions[position]");
    CHECK_FOUND(gate->sessions[1], "gate->sessions[position]");
    CHECK_FOUND(one->position, "player->position == position");
    CHECK_FOUND(one->gate, "gate->peer");
    CHECK_FOUND(one->info.player.session, "info.player.session");
    CHECK_FOUND(one->info.player.index, "info.player.index");
    CHECK_FOUND(one->info.player.gate, "info.player.gate");
    gate->indexes[1] += MOST;
    CHECK(strstr(found(), "index < backend->options.max_players") != NULL);
    gate->indexes[1] -= MOST;
    uint32_t slot = tp_session_slot(gate->sessions[1]);
    CHECK_FOUND(gate->slots[slot / TP__BACKEND_PAGE][slot % TP__BACKEND_PAGE], "index + 1");
    tp_peer_id peer = gate->peer;
    gate->peer = TP_NO_PEER;
    CHECK(strstr(found(), "gate->peer != TP_NO_PEER") != NULL);
    gate->peer = peer;

    /* The free entries. */
    uint32_t first = backend->free_player;
    backend->free_player = backend->players[first - 1].next;
    CHECK(strstr(found(), "players + count") != NULL);
    backend->free_player = (uint32_t)(one - backend->players) + 1; /* it is in use */
    CHECK(strstr(found(), "TP_NO_SESSION") != NULL);
    backend->free_player = MOST + 1;
    CHECK(strstr(found(), "entry <= backend->options.max_players") != NULL);
    backend->free_player = first;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp_mutex_unlock(&backend->mutex);
    close_all();
}

CHECK_MAIN(CASE(the_check_finds_what_is_broken))
