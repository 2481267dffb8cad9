/*
 * Ghosts: players come and go by the thousands while services and the bus are killed, players are
 * kicked and moved, and the bus is so narrow that JOINs, LEAVEs and answers are refused all the
 * time. In the end every service must have exactly those players that the gate believes it has.
 */
#include "gate_stage.h"
#include "os/clock.h"

enum { PLAYERS = 150, STEPS = 10000, SERVICES = 3 };

static gate_stage stage;
static service services[SERVICES]; /* two of the arena, one of the other one */
static player players[PLAYERS];
static uint32_t random_state;

static uint32_t chance(uint32_t of) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % of;
}

/* What players say makes services act: "k" kicks, "m" moves, anything else comes back. */
static void act(tp_backend *backend, const tp_player *name, tp_packet *packet) {
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
    service_init(of, stage.hub, name);
    of->handlers.on_player_message = act;
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

static void do_something(player *of) {
    static const char *const words[] = {"k", "m", "a", "x", "x", "x", "x", "x"};
    switch (chance(4)) {
    case 0:
        (void)tp_server_disconnect(stage.crowd, of->session); /* false: he is kicked already */
        break;
    case 1:
        (void)tp_server_disconnect_after_send(stage.crowd, of->session, TP_CLOSE_NORMAL);
        break;
    default:
        (void)player_say(&stage, of, words[chance(8)]);
        break;
    }
}

/* Comes if he is not there, or says something, or goes: without waiting for what comes of it. */
static void step_player(player *of) {
    if (of->session == TP_NO_SESSION) {
        player_connect(&stage, of);
        return;
    }
    AWAIT(of->joined || of->left);
    tp_mutex_lock(&stage_mutex);
    bool left = of->left;
    tp_mutex_unlock(&stage_mutex);
    if (left) {
        player_connect(&stage, of);
    } else {
        do_something(of);
    }
}

static void restart(service *of) {
    service_kill(of);
    memset(of->present, 0, sizeof of->present);
    service_start(of);
}

static void restart_hub(void) {
    tp_address address = tp_server_address(tp__hub_server(stage.hub));
    tp__hub_destroy(stage.hub);
    stage.hub = narrow_hub(&address);
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct view {
    unsigned visits;
    unsigned unknown; /* the gate says that a peer has him, and the peer does not */
} view;

static bool has(const service *of, tp_session_id session) {
    for (unsigned i = 0; i < STAGE_PLAYERS; i++) {
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
    seen->visits++;
    seen->unknown += !found;
}

/* Both have the same players, and nobody is between the two. */
static bool views_agree(void) {
    view seen = {0};
    unsigned present = 0;
    tp__gate_each_visit(stage.gate, look_up, &seen);
    tp__gate_account account = stage_account(&stage);
    for (unsigned i = 0; i < SERVICES; i++) {
        present += services[i].joins - services[i].leaves;
        if (tp_backend_player_count(services[i].backend) !=
            services[i].joins - services[i].leaves) {
            return false;
        }
    }
    return seen.unknown == 0 && seen.visits == present && account.visits == present &&
           account.players == present && account.kept == 0 &&
           tp_server_session_count(stage.server) == present;
}

static void say_who_has_whom(void) {
    char report[TP__GATE_REPORT_ROOM];
    tp__gate_report(stage.gate, report, sizeof report);
    printf("%s", report);
    for (unsigned i = 0; i < SERVICES; i++) {
        printf("service %u, peer %u: %u joins, %u leaves, has %zu\n", i,
            (unsigned)service_peer(&services[i]), services[i].joins, services[i].leaves,
            (size_t)tp_backend_player_count(services[i].backend));
    }
    printf("sessions: %u at the gate, %u in the crowd\n",
        (unsigned)tp_server_session_count(stage.server),
        (unsigned)tp_server_session_count(stage.crowd));
}

static void await_agreement(bool of_nobody) {
    unsigned looks = 0;
    bool agree;
    tp_mutex_lock(&stage_mutex);
    do {
        agree = views_agree() && (!of_nobody || stage_account(&stage).players == 0);
    } while (!agree && stage_look_again(&looks));
    if (!agree) {
        say_who_has_whom();
    }
    tp_mutex_unlock(&stage_mutex);
    REQUIRE(agree);
}

/* Who has not arrived yet cannot be disconnected either. */
static bool somebody_is_coming(void) {
    bool coming = false;
    for (unsigned i = 0; i < PLAYERS; i++) {
        coming |= players[i].session != TP_NO_SESSION && !players[i].joined && !players[i].left;
    }
    return coming;
}

static unsigned here(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < PLAYERS; i++) {
        count += players[i].joined && !players[i].left;
    }
    return count;
}

static void leaves_no_ghosts(void) {
    random_state = (uint32_t)tp_clock_ms();
    printf("seed %u\n", (unsigned)random_state);
    stage_open();
    stage_init(&stage, narrow_hub(NULL));
    stage.options.bus.max_unconfirmed = 48;
    stage.options.bus.request_timeout_ms =
        300; /* an answer that could not be sent is asked for again */
    stage_start(&stage);
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
    AWAIT(!somebody_is_coming());
    await_agreement(false);
    AWAIT(here() == tp_server_session_count(stage.server)); /* the last kicks have arrived */
    tp__gate_account account = stage_account(&stage);
    printf("%u players left of %u; %u retries, %u moved, %u kicked, %u lost visits\n",
        account.players, (unsigned)account.arrived, (unsigned)account.retries,
        (unsigned)account.moved, (unsigned)account.kicked, (unsigned)account.lost_visits);

    for (unsigned i = 0; i < PLAYERS; i++) {
        tp_server_disconnect(stage.crowd, players[i].session);
    }
    await_agreement(true);
    for (unsigned i = 0; i < SERVICES; i++) {
        CHECK_EQ(services[i].joins, services[i].leaves);
    }
    stage_close(&stage);
    for (unsigned i = 0; i < SERVICES; i++) {
        service_leave(&services[i]);
    }
    hub_close(stage.hub);
}

CHECK_MAIN(CASE(leaves_no_ghosts))
