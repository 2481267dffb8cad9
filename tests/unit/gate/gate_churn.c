/*
 * The players that the gate and the services believe they have, compared after thousands of random
 * steps.
 *
 * Players connect and leave while services and the hub are killed and restarted, players are kicked
 * and moved, and the bus's limits are so low that JOINs, LEAVEs and answers are refused all the
 * time. In the end each service must have exactly the players that the gate has assigned to it.
 */
#include "gate_fixture.h"
#include "os/clock.h"

enum { PLAYERS = 150, STEPS = 10000, SERVICES = 3 };

static gate_fixture fixture;
static service services[SERVICES]; /* two instances of "arena", one of "other" */
static player players[PLAYERS];
static uint32_t random_state;

static uint32_t chance(uint32_t of) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % of;
}

/* The services obey the players' messages: "k" kicks, "m" and "a" move, any other message is sent
 * back. */
static void obey(tp_backend *backend, const tp_player *name, tp_packet *packet) {
    char what = tp_packet_size(packet) ? (char)tp_packet_bytes(packet)[0] : ' ';
    service_on_player_message(backend, name, packet);
    if (what == 'k') {
        (void)tp_backend_kick(backend, name, 300);
    } else if (what == 'm') {
        (void)tp_backend_move(backend, name, "other", TP_NO_PEER, "blob", 4);
    } else if (what == 'a') {
        (void)tp_backend_move(backend, name, "arena", TP_NO_PEER, NULL, 0);
    } else {
        (void)tp_backend_send(backend, name, packet);
    }
}

static void service_open(service *of, const char *name) {
    service_init(of, fixture.hub, name);
    of->handlers.on_player_message = obey;
    of->options.bus.max_unconfirmed = 24;
    of->options.bus.request_timeout_ms = 300;
    service_start(of);
}

static tp__hub *narrow_hub(const tp_address *address) {
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = 40;
    if (address) {
        options.server.address = *address;
    }
    return hub_open(&options);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void step_connected_player(player *of) {
    static const char *const words[] = {"k", "m", "a", "x", "x", "x", "x", "x"};
    switch (chance(4)) {
    case 0:
        /* False: the player has been kicked already. */
        (void)tp_server_disconnect(fixture.crowd, of->session);
        break;
    case 1:
        (void)tp_server_disconnect_after_send(fixture.crowd, of->session, TP_CLOSE_NORMAL);
        break;
    default:
        (void)player_send(&fixture, of, words[chance(8)]);
        break;
    }
}

/* One random step of a player: connects if there is no connection, otherwise sends or leaves. Does
 * not wait for the effect. */
static void step_player(player *of) {
    if (of->session == TP_NO_SESSION) {
        player_connect(&fixture, of);
        return;
    }
    AWAIT(of->joined || of->left);
    tp_mutex_lock(&fixture_mutex);
    bool left = of->left;
    tp_mutex_unlock(&fixture_mutex);
    if (left) {
        player_connect(&fixture, of);
    } else {
        step_connected_player(of);
    }
}

static void restart(service *of) {
    service_kill(of);
    memset(of->present, 0, sizeof of->present);
    service_start(of);
}

static void restart_hub(void) {
    tp_address address = tp_server_address(tp__hub_server(fixture.hub));
    tp__hub_destroy(fixture.hub);
    fixture.hub = narrow_hub(&address);
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct view {
    unsigned assignments;
    unsigned unknown; /* players that the gate has assigned to a peer which does not have them */
} view;

static bool has(const service *of, tp_session_id session) {
    for (unsigned i = 0; i < FIXTURE_PLAYERS; i++) {
        if (of->present[i].session == session) {
            return true;
        }
    }
    return false;
}

static void look_up(void *context, tp_peer_id peer, tp_session_id session) {
    view *seen = context;
    bool found = false;
    for (unsigned i = 0; i < SERVICES; i++) {
        found |= service_peer(&services[i]) == peer && has(&services[i], session);
    }
    seen->assignments++;
    seen->unknown += !found;
}

/* Gate and services have the same players, and no player is in transition. */
static bool views_agree(void) {
    view seen = {0};
    unsigned present = 0;
    tp__gate_each_assignment(fixture.gate, look_up, &seen);
    tp__gate_stats stats = fixture_stats(&fixture);
    for (unsigned i = 0; i < SERVICES; i++) {
        present += services[i].joins - services[i].leaves;
        if (tp_backend_player_count(services[i].backend) !=
            services[i].joins - services[i].leaves) {
            return false;
        }
    }
    return seen.unknown == 0 && seen.assignments == present && stats.visits == present &&
           stats.players == present && stats.kept == 0 &&
           tp_server_session_count(fixture.server) == present;
}

static void print_views(void) {
    char text[TP__GATE_STATS_TEXT_SIZE];
    tp__gate_stats_text(fixture.gate, text, sizeof text);
    printf("%s", text);
    for (unsigned i = 0; i < SERVICES; i++) {
        printf("service %u, peer %u: %u joins, %u leaves, has %zu\n", i,
            (unsigned)service_peer(&services[i]), services[i].joins, services[i].leaves,
            (size_t)tp_backend_player_count(services[i].backend));
    }
    printf("sessions: %u at the gate, %u in the crowd\n",
        (unsigned)tp_server_session_count(fixture.server),
        (unsigned)tp_server_session_count(fixture.crowd));
}

static void await_agreement(bool of_none) {
    unsigned looks = 0;
    bool agree;
    tp_mutex_lock(&fixture_mutex);
    do {
        agree = views_agree() && (!of_none || fixture_stats(&fixture).players == 0);
    } while (!agree && fixture_wait_more(&looks));
    if (!agree) {
        print_views();
    }
    tp_mutex_unlock(&fixture_mutex);
    REQUIRE(agree);
}

/* A player that is still connecting cannot be disconnected yet. */
static bool some_player_is_connecting(void) {
    bool coming = false;
    for (unsigned i = 0; i < PLAYERS; i++) {
        coming |= players[i].session != TP_NO_SESSION && !players[i].joined && !players[i].left;
    }
    return coming;
}

static unsigned connected_count(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < PLAYERS; i++) {
        count += players[i].joined && !players[i].left;
    }
    return count;
}

static void gate_and_services_agree_after_random_steps(void) {
    random_state = (uint32_t)tp_clock_ms();
    printf("seed %u\n", (unsigned)random_state);
    fixture_open();
    fixture_init(&fixture, narrow_hub(NULL));
    fixture.options.bus.max_unconfirmed = 48;
    fixture.options.bus.request_timeout_ms =
        300; /* so that an answer that could not be sent is requested again soon */
    fixture_start(&fixture);
    service_open(&services[0], "arena");
    service_open(&services[1], "arena");
    service_open(&services[2], "other");
    for (unsigned i = 1; i <= STEPS; i++) {
        step_player(&players[chance(PLAYERS)]);
        if (i % 1500 == 0) {
            restart(&services[chance(SERVICES)]);
        }
        if (i == STEPS / 2) {
            restart_hub();
        }
        if (i % 64 == 0) {
            tp_thread_yield();
        }
    }
    AWAIT(!some_player_is_connecting());
    await_agreement(false);
    /* Until the last kicks have arrived. */
    AWAIT(connected_count() == tp_server_session_count(fixture.server));
    tp__gate_stats stats = fixture_stats(&fixture);
    printf("%u players left of %u; %u retries, %u moved, %u kicked, %u lost assignments\n",
        stats.players, (unsigned)stats.arrived, (unsigned)stats.retries, (unsigned)stats.moved,
        (unsigned)stats.kicked, (unsigned)stats.lost_visits);

    for (unsigned i = 0; i < PLAYERS; i++) {
        tp_server_disconnect(fixture.crowd, players[i].session);
    }
    await_agreement(true);
    for (unsigned i = 0; i < SERVICES; i++) {
        CHECK_EQ(services[i].joins, services[i].leaves);
    }
    fixture_close(&fixture);
    for (unsigned i = 0; i < SERVICES; i++) {
        service_leave(&services[i]);
    }
    hub_close(fixture.hub);
}

CHECK_MAIN(CASE(gate_and_services_agree_after_random_steps))
