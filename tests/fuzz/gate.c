/*
 * A gate, its players and three backends on a simulated bus that does what the input asks for: it
 * delivers in any permitted order, is full, returns requests, lets them time out, and loses peers
 * and itself. Some peers send malformed messages, so that both parsers get any bytes. After each
 * step the gate's statistics add up; in the end, when the bus is at rest, each backend has exactly
 * the players that the gate has assigned to it.
 *
 * Server and lanclient are stubs of this harness (gate_server.h, gate_bus.h), which links neither
 * the engine nor the real ones. It has its own clock and one thread.
 *
 *     byte 0: the clients that are not on the bus at first (bits 0..3)
 *     steps of   byte 0: the action (bits 0..3), the actor (bits 4..7)
 *                byte 1: a parameter, or for actions with bytes their number; the first of them is
 *                        then the parameter
 */
#include "gate_bus.h"
#include "gate_server.h"
#include "lanclient/backend/backend_internal.h"
#include "twinport/log.h"

enum { GATE = 0 };

/* ---- the services ---------------------------------------------------------------------------- */

static tp_backend *backends[CLIENTS]; /* GATE: none */
static unsigned joins[CLIENTS];
static tp_player known_players[CLIENTS]; /* one player of each */

static unsigned number_of(const tp_backend *backend) {
    return (unsigned)(uintptr_t)tp_backend_context(backend);
}

static void on_player_join(tp_backend *backend, const tp_player_info *info) {
    REQUIRE(info->blob_size <= TP_PLAYER_BLOB_MAX && (info->blob != NULL) == (info->blob_size > 0));
    joins[number_of(backend)]++;
    known_players[number_of(backend)] = info->player;
}

static void on_player_leave(
    tp_backend *backend, const tp_player *name, tp_leave why, tp_end_reason end) {
    (void)name, (void)why;
    REQUIRE(end < TP_END_REASON_COUNT);
    REQUIRE(joins[number_of(backend)]-- > 0);
}

static void on_player_message(tp_backend *backend, const tp_player *name, tp_packet *packet) {
    known_players[number_of(backend)] = *name;
    REQUIRE(tp_backend_send(backend, name, packet) != TP_ERR_NO_SESSION);
}

static void on_player_stays(tp_backend *backend, const tp_player *name, tp_err why) {
    (void)backend, (void)name;
    REQUIRE(why != TP_OK);
}

/* An action of a service that no message caused. */
static void service_acts(unsigned n, uint8_t how, const uint8_t *bytes, size_t size) {
    tp_backend *backend = backends[n];
    tp_packet *packet = packet_of(bytes, size);
    const tp_player many[] = {known_players[n], known_players[n], known_players[GATE + 1]};
    switch (how & 7) {
    case 0:
        (void)tp_backend_kick(backend, &known_players[n], how);
        break;
    case 1:
        (void)tp_backend_move(backend, &known_players[n], "arena", TP_NO_PEER, bytes, size);
        break;
    case 2:
        (void)tp_backend_move(backend, &known_players[n], "other", TP_NO_PEER, bytes, size);
        break;
    case 3:
        (void)tp_backend_move(
            backend, &known_players[n], NULL, clients[1 + how / 8 % 3].id, bytes, size);
        break;
    case 4:
        (void)tp_backend_send_many(backend, many, 3, packet, NULL);
        break;
    default:
        (void)tp_backend_send_all(backend, how & 8 ? &known_players[n] : NULL, packet, NULL);
        break;
    }
    tp_packet_release(packet);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void open_all(void) {
    static const char *const services[CLIENTS] = {"gate", "arena", "arena", "other"};
    clients_made = 0;
    memset(sessions, 0, sizeof sessions);
    memset(known_players, 0, sizeof known_players);
    memset(joins, 0, sizeof joins);
    full = refused_sends = 0;
    task = NULL;
    tp_log_set_level(TP_LOG_OFF);

    tp__gate_options options;
    tp__gate_defaults(&options);
    options.service = "arena";
    options.identity = identify;
    options.max_players = 5;
    options.max_waiting = 8;
    options.keep_players = 4;
    options.keep_ms = 1000;
    options.max_services = 2;
    REQUIRE(tp__gate_create(&options, &gate) == TP_OK);
    /* The pointer is never dereferenced. */
    REQUIRE(tp__gate_start(gate, (tp_server *)(void *)sessions) == TP_OK);
    for (unsigned i = 1; i < CLIENTS; i++) {
        const tp_backend_handlers handlers = {.size = sizeof handlers,
            .on_player_join = on_player_join,
            .on_player_leave = on_player_leave,
            .on_player_message = on_player_message,
            .on_player_stays = on_player_stays};
        tp_backend_options backend;
        tp_backend_defaults(&backend);
        backend.bus.service = services[i];
        backend.context = (void *)(uintptr_t)i;
        backend.max_players = i == 2 ? 2 : 8; /* one of them has little capacity */
        backend.max_gates = 1;
        REQUIRE(tp_backend_create(&backend, &handlers, &backends[i]) == TP_OK);
    }
}

static void check_stats(void) {
    tp__gate_stats now;
    tp__gate_get_stats(gate, &now);
    uint64_t dropped = 0;
    uint64_t refused = 0;
    for (unsigned i = 0; i < TP__GATE_DROP_COUNT; i++) {
        dropped += now.dropped[i];
    }
    for (unsigned i = 0; i < TP__GATE_REFUSAL_COUNT; i++) {
        refused += now.refused[i];
    }
    REQUIRE(now.from_players == now.forwarded + dropped);
    REQUIRE(now.to_players == now.sent + refused);
    REQUIRE(now.joined == now.confirmed_leaves + now.lost_visits + now.visits);
    REQUIRE(now.waited == now.admitted + now.gave_up + now.waiting);
    REQUIRE(now.players <= gate->options.max_players && now.waiting <= gate->options.max_waiting);
    REQUIRE(now.kept <= gate->options.keep_players && now.kept <= now.players);
    REQUIRE(gate->assignments_used <= TP__GATE_ASSIGNMENTS(&gate->options));
    for (unsigned i = 1; i < CLIENTS; i++) {
        REQUIRE(tp_backend_player_count(backends[i]) == joins[i]);
        REQUIRE(clients[i].id != TP_NO_PEER || joins[i] == 0);
    }
}

/* Lets time pass and runs what is due. */
static void pass_time(uint64_t ms) {
    now_ms += ms;
    tick();
}

static bool lanes_empty(void) {
    for (unsigned i = 0; i < CLIENTS * CLIENTS; i++) {
        if (lanes[i / CLIENTS][i % CLIENTS].count > 0) {
            return false;
        }
    }
    return true;
}

static void time_out(void) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        fail_requests(&clients[i], TP_NO_PEER, TP_ERR_TIMED_OUT);
    }
}

/* Whether the gate is idle: its task may only be scheduled for the waiting room, which looks for
 * free slots. */
static bool gate_is_idle(void) {
    const tp__gate_waiting_room *room = &gate->waiting_room;
    if (!task) {
        return true;
    }
    bool rests = room->list.count > 0 && !room->changed && !room->cursor && gate->kept == 0;
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            rests = rests && peer->queue.count == 0 && peer->in_flight == 0;
        }
    }
    return rests;
}

static bool is_idle(void) {
    for (unsigned i = 0; i < REQUESTS; i++) {
        if (requests[i].client) {
            return false;
        }
    }
    for (unsigned slot = 0; slot < SESSIONS; slot++) {
        if (sessions[slot].ending) {
            return false;
        }
    }
    return gate_is_idle() && lanes_empty();
}

static void deliver_all(void) {
    while (!lanes_empty()) {
        for (unsigned i = 0; i < CLIENTS * CLIENTS; i++) {
            deliver(i / CLIENTS, i % CLIENTS);
        }
    }
}

/* Connects all clients and delivers everything, until nothing is in flight. */
static void run_until_idle(void) {
    full = refused_sends = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        go_up(i);
    }
    for (unsigned round = 0; round < 100 && !is_idle(); round++) {
        deliver_all();
        time_out();
        for (unsigned slot = 0; slot < SESSIONS; slot++) {
            if (sessions[slot].ending) {
                player_leaves(slot, TP_END_KICKED);
            }
        }
        pass_time(60);
        check_stats();
    }
    REQUIRE(is_idle());
}

static void look_up(void *context, tp_peer_id peer, tp_session_id session) {
    unsigned *counts = context;
    unsigned n = index_of(peer);
    REQUIRE(n != CLIENTS);
    const tp__backend_gate *here = tp__backend_find_gate(backends[n], clients[GATE].id);
    const tp__backend_player *player =
        here ? tp__backend_in_slot(backends[n], here, session) : NULL;
    REQUIRE(player && player->info.player.session == session);
    counts[n]++;
}

static void check_players(void) {
    unsigned counts[CLIENTS] = {0};
    tp__gate_each_assignment(gate, look_up, counts);
    for (unsigned i = 1; i < CLIENTS; i++) {
        REQUIRE(counts[i] == joins[i]);
    }
}

/* Each waiting player has been told its position. */
static void check_waiting_room(void) {
    uint32_t place = 0;
    for (const tp__link *at = gate->waiting_room.list.first; at; at = at->next) {
        REQUIRE(tp__gate_player_of(at)->position_sent == ++place);
    }
    REQUIRE(place == gate->waiting_room.list.count);
}

static void close_all(void) {
    for (unsigned slot = 0; slot < SESSIONS; slot++) {
        player_leaves(slot, TP_END_PEER_CLOSED);
    }
    run_until_idle();
    REQUIRE(gate->assignments_used == 0 && gate->players == 0 && gate->kept == 0);
    for (unsigned i = 1; i < CLIENTS; i++) {
        REQUIRE(joins[i] == 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        go_down(i, false);
    }
    for (unsigned i = 1; i < CLIENTS; i++) {
        tp_backend_destroy(backends[i]);
    }
    tp__gate_destroy(gate);
}

/* A message or request with any bytes from a peer; kind and session id are made valid now and
 * then. */
static void forge(unsigned from, unsigned to, uint8_t how, const uint8_t *bytes, size_t size) {
    uint8_t forged[256] = {0}; /* the largest number of a step's bytes */
    memcpy(forged, bytes, size);
    if (how & 1 && size > 0) {
        forged[0] = (uint8_t)(1 + forged[0] % 7);
    }
    tp_session_id known = sessions[how / 16 % SESSIONS].id;
    size_t at = forged[0] == TP_GATE_JOIN ? 8 : 4;
    if (how & 2 && size >= at + 8) {
        tp_bus_put_u64(forged + at, known);
    }
    if (clients[from].id == TP_NO_PEER || clients[to].id == TP_NO_PEER) {
        return;
    }
    tp_packet *packet = packet_of(forged, size);
    const tp_delivery delivery = {.size = sizeof delivery,
        .peer = clients[from].id,
        .ticket = UINT32_MAX, /* of no request */
        .kind = how & 4 ? TP_MESSAGE_REQUEST : TP_MESSAGE_SEND};
    tp_lanclient *client = &clients[to];
    if (how & 4) {
        client->handlers.on_request(client, &delivery, packet);
    } else {
        client->handlers.on_message(client, &delivery, packet);
    }
    tp_packet_release(packet);
}

static bool honest; /* no message of a gate has been forged */

static void do_step(unsigned what, unsigned who, uint8_t how, const uint8_t *bytes, size_t size) {
    static const tp_err reasons[] = {
        TP_ERR_FULL, TP_ERR_NO_MEMORY, TP_ERR_CANCELLED, TP_ERR_TOO_LARGE};
    unsigned a = who % CLIENTS;
    unsigned b = who / CLIENTS;
    unsigned service = 1 + who % 3;
    if (what >= 9 && what <= 11) {
        how = size > 0 ? bytes[0] : 0;
        bytes += size > 0;
        size -= size > 0;
    }
    switch (what) {
    case 0:
        player_connects(who % SESSIONS);
        break;
    case 1:
        player_leaves(who % SESSIONS, (tp_end_reason)(how % TP_END_REASON_COUNT));
        break;
    case 2:
        player_sends(who % SESSIONS, bytes, size);
        break;
    case 3:
        bounce(a, b, reasons[how % 4]);
        break;
    case 4:
        fail_requests(&clients[a], TP_NO_PEER, TP_ERR_TIMED_OUT);
        break;
    case 5:
        full = how % 8;
        refused_sends = how / 64;
        break;
    case 6:
        go_down(a, how & 1);
        break;
    case 7:
        go_up(a);
        break;
    case 8:
        pass_time(how * 8u);
        break;
    case 9:
        service_acts(service, how, bytes, size);
        break;
    case 10: /* any bytes from a service to the gate */
        forge(service, GATE, how, bytes, size);
        break;
    case 11: /* any bytes from a gate to a service */
        honest = false;
        forge(GATE, service, how, bytes, size);
        break;
    default:
        for (unsigned i = 0; i <= how % 8u; i++) {
            deliver(a, b);
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    open_all();
    honest = true;
    for (unsigned i = 0; size > 0 && i < CLIENTS; i++) {
        if (!(data[0] >> i & 1)) {
            go_up(i);
        }
    }
    for (size_t at = 1; at + 2 <= size;) {
        unsigned what = data[at] & 15u;
        bool says = what == 2 || (what >= 9 && what <= 11);
        size_t count = says ? data[at + 1] : 0;
        count = count < size - at - 2 ? count : size - at - 2;
        do_step(what, data[at] >> 4, data[at + 1], data + at + 2, count);
        check_stats();
        at += 2 + count;
    }
    run_until_idle();
    if (!honest) {
        go_down(GATE, false); /* removes the state that the forged messages made */
        run_until_idle();
    }
    check_players();
    check_waiting_room();
    close_all();
    return 0;
}
