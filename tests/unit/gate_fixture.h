/*
 * The fixture of the gate's tests: hub, gate, services and players in one process.
 *
 * The players' server is a LAN server. The players are sessions of `crowd`, a server that only
 * connects. AWAIT and fixture_mutex are those of bus_fixture.h; the mutex guards everything here.
 */
#ifndef TWINPORT_TESTS_GATE_FIXTURE_H
#define TWINPORT_TESTS_GATE_FIXTURE_H

#include "bus_fixture.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "twinport/backend.h"
#include "twinport/lanserver.h"
#include "wanserver/gate/gate_api.h"

#define FIXTURE_PLAYERS 2048u
#define FIXTURE_SLOTS   (FIXTURE_PLAYERS + 128u)
#define FIXTURE_TEXT    64u

/* ---- players --------------------------------------------------------------------------------- */

typedef struct player {
    tp_session_id session; /* of the player's own connection */
    bool joined, left;
    bool in;          /* position 0 was received, or there is no waiting room */
    unsigned notices; /* position messages received */
    uint32_t position, waiting;
    unsigned messages; /* received from a service */
    tp_end_reason end;
    unsigned close_code;
    char text[FIXTURE_TEXT]; /* of the last message */
} player;

typedef struct gate_fixture {
    tp__hub *hub;
    tp__gate *gate;
    tp_server *server;
    tp_server *crowd;
    tp__gate_options options; /* change before fixture_start_gate() */
    tp_server_options server_options;
    player *by_slot[FIXTURE_SLOTS];
} gate_fixture;

static inline player *player_of(tp_server *crowd, tp_session_id session) {
    gate_fixture *fixture = tp_server_context(crowd);
    return fixture->by_slot[tp_session_slot(session)];
}

static inline void player_on_join(tp_server *crowd, tp_session_id session) {
    gate_fixture *fixture = tp_server_context(crowd);
    tp_mutex_lock(&fixture_mutex);
    player *of = player_of(crowd, session);
    of->joined = true;
    of->in = fixture->options.max_waiting == 0;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

static inline unsigned player_close_code(tp_server *crowd, tp_session_id session) {
    tp_session_end ends[64] = {{.size = sizeof ends[0]}};
    size_t count = tp_server_read_ledger(crowd, ends, 64);
    for (size_t i = 0; i < count; i++) {
        if (ends[i].session == session) {
            return ends[i].close_code;
        }
    }
    return 0;
}

static inline void player_on_leave(tp_server *crowd, tp_session_id session, tp_end_reason reason) {
    unsigned code = player_close_code(crowd, session);
    tp_mutex_lock(&fixture_mutex);
    player *of = player_of(crowd, session);
    of->left = true;
    of->end = reason;
    of->close_code = code;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

static inline void player_on_recv(tp_server *crowd, tp_session_id session, tp_packet *packet) {
    tp_mutex_lock(&fixture_mutex);
    player *of = player_of(crowd, session);
    if (!of->in) {
        CHECK_EQ(tp_packet_size(packet), TP_GATE_PLACE_SIZE);
        of->position = tp_packet_get_u32(packet);
        of->waiting = tp_packet_get_u32(packet);
        of->notices++;
        of->in = of->position == 0;
    } else {
        party_read(of->text, packet);
        of->messages++;
    }
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

/* Starts to connect and returns. */
static inline void player_connect(gate_fixture *fixture, player *of) {
    tp_address address = tp_server_address(fixture->server);
    memset(of, 0, sizeof *of);
    tp_mutex_lock(&fixture_mutex); /* the handlers wait until by_slot is set */
    REQUIRE(tp_server_connect(fixture->crowd, &address, &of->session) == TP_OK);
    fixture->by_slot[tp_session_slot(of->session)] = of;
    tp_mutex_unlock(&fixture_mutex);
}

static inline void player_join(gate_fixture *fixture, player *of) {
    player_connect(fixture, of);
    AWAIT(of->joined);
}

/* Closes the connection in order, behind what the player has sent. The gate notices it some time
 * later. */
static inline void player_quit(gate_fixture *fixture, player *of) {
    tp_server_disconnect_after_send(fixture->crowd, of->session, TP_CLOSE_NORMAL);
    AWAIT(of->left);
}

static inline bool player_send(gate_fixture *fixture, player *of, const char *text) {
    tp_packet *packet = text_packet(text);
    bool taken = tp_server_send(fixture->crowd, of->session, packet);
    tp_packet_release(packet);
    return taken;
}

/* ---- gate ------------------------------------------------------------------------------------ */

/* Every player is identified: the account is derived from the session. */
static inline bool fixture_identity_of(tp_server *server, tp_session_id session, tp_identity *who) {
    CHECK(server != NULL && who->size == sizeof *who);
    who->account = session ^ 0xabcdef;
    who->flags = 7;
    memset(who->user_data, (int)(session & 0x7f), sizeof who->user_data);
    return true;
}

/* Options for a gate of this hub. Nothing is created. */
static inline void fixture_init(gate_fixture *fixture, tp__hub *hub) {
    fixture_open();
    memset(fixture, 0, sizeof *fixture);
    fixture->hub = hub;
    tp__gate_defaults(&fixture->options);
    fixture->options.bus.address = tp_server_address(tp__hub_server(hub));
    fixture_long_timeouts(&fixture->options.bus);
    fixture->options.bus.backoff_max_ms = 100;
    fixture->options.service = "arena";
    fixture->options.identity = fixture_identity_of;
    fixture->options.max_players = FIXTURE_PLAYERS;
    fixture->options.keep_ms = 600000;
    fixture->options.place_interval_ms = 10;
    fixture->options.drain_ms = 20000;
    tp_lanserver_defaults(&fixture->server_options);
    fixture->server_options.workers = 2;
    fixture->server_options.max_sessions = FIXTURE_PLAYERS;
    fixture->server_options.queue_policy = TP_QUEUE_REFUSE;
    fixture->server_options.drain_timeout_ms = 20000;
}

static inline void fixture_crowd_start(gate_fixture *fixture) {
    static const tp_handlers handlers = {.size = sizeof handlers,
        .on_join = player_on_join,
        .on_leave = player_on_leave,
        .on_recv = player_on_recv};
    tp_server_options options;
    tp_server_defaults(&options);
    options.name = "crowd";
    options.context = fixture;
    options.listen = false;
    options.workers = 1; /* one worker: during on_leave the newest ledger entry is that session's */
    options.max_sessions = FIXTURE_PLAYERS;
    options.connect_timeout_ms = 600000;
    options.drain_timeout_ms = 20000;
    REQUIRE(tp_server_create(&options, &handlers, &fixture->crowd) == TP_OK);
    REQUIRE(tp_server_start(fixture->crowd) == TP_OK);
}

static inline void fixture_start_gate(gate_fixture *fixture) {
    tp_handlers handlers;
    REQUIRE(tp__gate_create(&fixture->options, &fixture->gate) == TP_OK);
    tp__gate_handlers(&handlers);
    fixture->server_options.context = fixture->gate;
    REQUIRE(tp_lanserver_create(&fixture->server_options, &handlers, &fixture->server) == TP_OK);
    REQUIRE(tp__gate_start(fixture->gate, fixture->server) == TP_OK);
}

static inline void fixture_start(gate_fixture *fixture) {
    fixture_start_gate(fixture);
    fixture_crowd_start(fixture);
    AWAIT(tp_lanclient_self(tp__gate_client(fixture->gate)) != TP_NO_PEER);
}

static inline tp__gate_stats fixture_stats(gate_fixture *fixture) {
    tp__gate_stats stats;
    tp__gate_get_stats(fixture->gate, &stats);
    return stats;
}

static inline uint64_t sum_of(const uint64_t *numbers, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += numbers[i];
    }
    return sum;
}

/* Checks the gate's statistics when nothing is in flight: they add up. */
static inline void check_stats(const tp__gate_stats *stats) {
    CHECK_EQ(stats->from_players, stats->forwarded + sum_of(stats->dropped, TP__GATE_DROP_COUNT));
    CHECK_EQ(stats->to_players, stats->sent + sum_of(stats->refused, TP__GATE_REFUSAL_COUNT));
    CHECK_EQ(stats->joined, stats->confirmed_leaves + stats->lost_visits + stats->visits);
    CHECK_EQ(stats->waited, stats->admitted + stats->gave_up + stats->waiting);
}

static inline void fixture_gate_stop(gate_fixture *fixture) {
    tp__gate_stop(fixture->gate);
    CHECK_EQ(tp__gate_wait(fixture->gate, -1), TP_OK);
    tp__gate_stats stats = fixture_stats(fixture);
    check_stats(&stats);
    CHECK_EQ(stats.players + stats.waiting + stats.visits, 0);
    CHECK_EQ(stats.arrived, stats.left);
    tp_server_stats server_stats = {.size = sizeof server_stats};
    tp_server_get_stats(fixture->server, &server_stats);
    CHECK_EQ(stats.from_players, server_stats.received_messages);
}

static inline void fixture_close(gate_fixture *fixture) {
    fixture_gate_stop(fixture);
    tp_server_destroy(fixture->crowd);
    tp_server_destroy(fixture->server);
    tp__gate_destroy(fixture->gate);
}

/* ---- services -------------------------------------------------------------------------------- */

typedef struct service {
    tp_backend *backend;
    tp_backend_options options; /* change before service_start() */
    tp_backend_handlers handlers;
    bool send_welcome;  /* send "welcome" in on_player_join */
    unsigned kick_code; /* if not 0: kick with this code in on_player_join */

    unsigned ups, downs, joins, leaves, messages, stays, other_messages, returns;
    tp_player_info info; /* of the last join; its blob is copied */
    uint8_t blob[TP_PLAYER_BLOB_MAX];
    tp_player last; /* the last player that joined, left, sent or stayed */
    tp_leave why;   /* of the last leave */
    tp_end_reason end;
    tp_err stays_because;
    char text[FIXTURE_TEXT];
    tp_player present[FIXTURE_PLAYERS]; /* by index; zero: no player */
} service;

static inline service *service_of(const tp_backend *backend) {
    return tp_backend_context(backend);
}

static inline tp_err service_send(service *of, const tp_player *to, const char *text) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send(of->backend, to, packet);
    tp_packet_release(packet);
    return error;
}

static inline void service_on_player_join(tp_backend *backend, const tp_player_info *info) {
    service *of = service_of(backend);
    tp_mutex_lock(&fixture_mutex);
    CHECK(of->present[info->player.index].session == TP_NO_SESSION);
    of->present[info->player.index] = info->player;
    of->last = info->player;
    of->info = *info;
    if (info->blob) {
        memcpy(of->blob, info->blob, info->blob_size);
    }
    bool send_welcome = of->send_welcome;
    unsigned code = of->kick_code;
    party_note(&of->joins);
    if (send_welcome) {
        CHECK_EQ(service_send(of, &info->player, "welcome"), TP_OK);
    }
    if (code) {
        CHECK_EQ(tp_backend_kick(backend, &info->player, code), TP_OK);
    }
}

static inline void service_on_player_leave(
    tp_backend *backend, const tp_player *name, tp_leave why, tp_end_reason end) {
    service *of = service_of(backend);
    CHECK_EQ(service_send(of, name, "gone"), TP_ERR_NO_SESSION);
    tp_mutex_lock(&fixture_mutex);
    CHECK(tp_player_same(&of->present[name->index], name));
    memset(&of->present[name->index], 0, sizeof *name);
    of->last = *name;
    of->why = why;
    of->end = end;
    party_note(&of->leaves);
}

static inline void service_on_player_message(
    tp_backend *backend, const tp_player *name, tp_packet *packet) {
    service *of = service_of(backend);
    tp_mutex_lock(&fixture_mutex);
    CHECK(tp_player_same(&of->present[name->index], name));
    of->last = *name;
    party_read(of->text, packet);
    party_note(&of->messages);
}

static inline void service_on_player_stays(tp_backend *backend, const tp_player *name, tp_err why) {
    service *of = service_of(backend);
    tp_mutex_lock(&fixture_mutex);
    of->last = *name;
    of->stays_because = why;
    party_note(&of->stays);
}

static inline void service_on_up(tp_backend *backend, tp_peer_id self) {
    CHECK_EQ(self, tp_lanclient_self(tp_backend_client(backend)));
    tp_mutex_lock(&fixture_mutex);
    party_note(&service_of(backend)->ups);
}

static inline void service_on_down(tp_backend *backend, tp_err why) {
    (void)why;
    CHECK_EQ(tp_backend_player_count(backend), 0);
    tp_mutex_lock(&fixture_mutex);
    party_note(&service_of(backend)->downs);
}

static inline void service_on_message(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    service *of = service_of(tp_backend_of(client));
    (void)from;
    tp_mutex_lock(&fixture_mutex);
    party_read(of->text, packet);
    party_note(&of->other_messages);
}

static inline void service_on_returned(tp_lanclient *client, const tp_returned *returned) {
    (void)returned;
    tp_mutex_lock(&fixture_mutex);
    party_note(&service_of(tp_backend_of(client))->returns);
}

static inline void service_init(service *of, tp__hub *hub, const char *name) {
    fixture_open();
    memset(of, 0, sizeof *of);
    tp_backend_defaults(&of->options);
    of->options.bus.address = tp_server_address(tp__hub_server(hub));
    of->options.bus.service = name;
    fixture_long_timeouts(&of->options.bus);
    of->options.bus.backoff_max_ms = 100;
    of->options.context = of;
    of->options.max_players = FIXTURE_PLAYERS;
    of->handlers = (tp_backend_handlers){.size = sizeof of->handlers,
        .on_player_join = service_on_player_join,
        .on_player_leave = service_on_player_leave,
        .on_player_message = service_on_player_message,
        .on_player_stays = service_on_player_stays,
        .on_up = service_on_up,
        .on_down = service_on_down,
        .bus = {.size = sizeof of->handlers.bus,
            .on_message = service_on_message,
            .on_returned = service_on_returned}};
}

static inline void service_start(service *of) {
    unsigned ups = of->ups;
    REQUIRE(tp_backend_create(&of->options, &of->handlers, &of->backend) == TP_OK);
    REQUIRE(tp_backend_start(of->backend) == TP_OK);
    AWAIT(of->ups == ups + 1);
}

static inline void service_join(service *of, tp__hub *hub, const char *name) {
    service_init(of, hub, name);
    service_start(of);
}

static inline tp_backend_stats service_stats(const service *of) {
    tp_backend_stats stats = {.size = sizeof stats};
    tp_backend_get_stats(of->backend, &stats);
    return stats;
}

/* Stops without taking leave of the gate, as a killed process does. */
static inline void service_kill(service *of) {
    tp_backend_destroy(of->backend);
    of->backend = NULL;
    CHECK_EQ(of->joins, of->leaves);
}

static inline void service_leave(service *of) {
    tp_backend_stop(of->backend);
    CHECK_EQ(tp_backend_wait(of->backend, -1), TP_OK);
    tp_backend_stats stats = service_stats(of);
    CHECK_EQ(stats.joined, stats.left);
    service_kill(of);
}

static inline tp_peer_id service_peer(const service *of) {
    return tp_lanclient_self(tp_backend_client(of->backend));
}

#endif
