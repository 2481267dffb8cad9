/*
 * The stage of the gate's tests: hub, gate, services and players in one process. The players'
 * server is a LAN one; the players are sessions of a server that only connects (`crowd`). Waiting
 * as in bus_stage.h, under whose mutex everything here is.
 */
#ifndef TWINPORT_TESTS_GATE_STAGE_H
#define TWINPORT_TESTS_GATE_STAGE_H

#include "bus_stage.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "twinport/backend.h"
#include "twinport/lanserver.h"
#include "wanserver/gate/gate_api.h"

#define STAGE_PLAYERS 2048u
#define STAGE_SLOTS   (STAGE_PLAYERS + 128u)
#define STAGE_TEXT    64u

/* ---- players --------------------------------------------------------------------------------- */

typedef struct player {
    tp_session_id session; /* at his own end */
    bool joined, left;
    bool in;         /* place 0 was told, or there is no waiting room */
    unsigned places; /* how often a place was told */
    uint32_t place, waiting;
    unsigned messages; /* from a service */
    tp_end_reason end;
    unsigned close_code;
    char text[STAGE_TEXT]; /* the last message */
} player;

typedef struct gate_stage {
    tp__hub *hub;
    tp__gate *gate;
    tp_server *server;
    tp_server *crowd;
    tp__gate_options options; /* change before stage_gate_start() */
    tp_server_options server_options;
    player *by_slot[STAGE_SLOTS];
} gate_stage;

static inline player *player_of(tp_server *crowd, tp_session_id session) {
    gate_stage *stage = tp_server_context(crowd);
    return stage->by_slot[tp_session_slot(session)];
}

static inline void player_on_join(tp_server *crowd, tp_session_id session) {
    gate_stage *stage = tp_server_context(crowd);
    tp_mutex_lock(&stage_mutex);
    player *of = player_of(crowd, session);
    of->joined = true;
    of->in = stage->options.max_waiting == 0;
    tp_condition_wake_all(&stage_changed);
    tp_mutex_unlock(&stage_mutex);
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
    tp_mutex_lock(&stage_mutex);
    player *of = player_of(crowd, session);
    of->left = true;
    of->end = reason;
    of->close_code = code;
    tp_condition_wake_all(&stage_changed);
    tp_mutex_unlock(&stage_mutex);
}

static inline void player_on_recv(tp_server *crowd, tp_session_id session, tp_packet *packet) {
    tp_mutex_lock(&stage_mutex);
    player *of = player_of(crowd, session);
    if (!of->in) {
        CHECK_EQ(tp_packet_size(packet), TP_GATE_PLACE_SIZE);
        of->place = tp_packet_get_u32(packet);
        of->waiting = tp_packet_get_u32(packet);
        of->places++;
        of->in = of->place == 0;
    } else {
        party_read(of->text, packet);
        of->messages++;
    }
    tp_condition_wake_all(&stage_changed);
    tp_mutex_unlock(&stage_mutex);
}

/* Connects, and does not wait for it. */
static inline void player_connect(gate_stage *stage, player *of) {
    tp_address address = tp_server_address(stage->server);
    memset(of, 0, sizeof *of);
    tp_mutex_lock(&stage_mutex); /* his handlers wait until he is known */
    REQUIRE(tp_server_connect(stage->crowd, &address, &of->session) == TP_OK);
    stage->by_slot[tp_session_slot(of->session)] = of;
    tp_mutex_unlock(&stage_mutex);
}

static inline void player_join(gate_stage *stage, player *of) {
    player_connect(stage, of);
    AWAIT(of->joined);
}

/* Ends his connection in order, after what he has said; the other side hears of it some time
 * later. */
static inline void player_quit(gate_stage *stage, player *of) {
    tp_server_disconnect_after_send(stage->crowd, of->session, TP_CLOSE_NORMAL);
    AWAIT(of->left);
}

static inline bool player_say(gate_stage *stage, player *of, const char *text) {
    tp_packet *packet = text_packet(text);
    bool taken = tp_server_send(stage->crowd, of->session, packet);
    tp_packet_release(packet);
    return taken;
}

/* ---- gate ------------------------------------------------------------------------------------ */

/* Everybody is somebody: his account follows from his session. */
static inline bool stage_identity(tp_server *server, tp_session_id session, tp_identity *who) {
    CHECK(server != NULL && who->size == sizeof *who);
    who->account = session ^ 0xabcdef;
    who->flags = 7;
    memset(who->user_data, (int)(session & 0x7f), sizeof who->user_data);
    return true;
}

/* Options for a gate of this hub; nothing is made. */
static inline void stage_init(gate_stage *stage, tp__hub *hub) {
    stage_open();
    memset(stage, 0, sizeof *stage);
    stage->hub = hub;
    tp__gate_defaults(&stage->options);
    stage->options.bus.address = tp_server_address(tp__hub_server(hub));
    stage_be_patient(&stage->options.bus);
    stage->options.bus.backoff_max_ms = 100;
    stage->options.service = "arena";
    stage->options.identity = stage_identity;
    stage->options.max_players = STAGE_PLAYERS;
    stage->options.keep_ms = 600000;
    stage->options.tell_ms = 10;
    stage->options.drain_ms = 20000;
    tp_lanserver_defaults(&stage->server_options);
    stage->server_options.workers = 2;
    stage->server_options.max_sessions = STAGE_PLAYERS;
    stage->server_options.queue_policy = TP_QUEUE_REFUSE;
    stage->server_options.drain_timeout_ms = 20000;
}

static inline void stage_crowd_start(gate_stage *stage) {
    static const tp_handlers handlers = {.size = sizeof handlers,
        .on_join = player_on_join,
        .on_leave = player_on_leave,
        .on_recv = player_on_recv};
    tp_server_options options;
    tp_server_defaults(&options);
    options.name = "crowd";
    options.context = stage;
    options.listen = false;
    options.workers = 1; /* the newest line of the ledger is that of the on_leave in hand */
    options.max_sessions = STAGE_PLAYERS;
    options.connect_timeout_ms = 600000;
    options.drain_timeout_ms = 20000;
    REQUIRE(tp_server_create(&options, &handlers, &stage->crowd) == TP_OK);
    REQUIRE(tp_server_start(stage->crowd) == TP_OK);
}

static inline void stage_start_gate(gate_stage *stage) {
    tp_handlers handlers;
    REQUIRE(tp__gate_create(&stage->options, &stage->gate) == TP_OK);
    tp__gate_handlers(&handlers);
    stage->server_options.context = stage->gate;
    REQUIRE(tp_lanserver_create(&stage->server_options, &handlers, &stage->server) == TP_OK);
    REQUIRE(tp__gate_start(stage->gate, stage->server) == TP_OK);
}

static inline void stage_start(gate_stage *stage) {
    stage_start_gate(stage);
    stage_crowd_start(stage);
    AWAIT(tp_lanclient_self(tp__gate_client(stage->gate)) != TP_NO_PEER);
}

static inline tp__gate_account stage_account(gate_stage *stage) {
    tp__gate_account account;
    tp__gate_get_account(stage->gate, &account);
    return account;
}

static inline uint64_t sum_of(const uint64_t *numbers, size_t count) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += numbers[i];
    }
    return sum;
}

/* Nothing moves any more: it adds up. */
static inline void check_account(const tp__gate_account *account) {
    CHECK_EQ(
        account->from_players, account->forwarded + sum_of(account->dropped, TP__GATE_DROP_COUNT));
    CHECK_EQ(account->to_players, account->sent + sum_of(account->refused, TP__GATE_REFUSAL_COUNT));
    CHECK_EQ(account->joined, account->confirmed_leaves + account->lost_visits + account->visits);
    CHECK_EQ(account->waited, account->admitted + account->gave_up + account->waiting);
}

static inline void stage_gate_stop(gate_stage *stage) {
    tp__gate_stop(stage->gate);
    CHECK_EQ(tp__gate_wait(stage->gate, -1), TP_OK);
    tp__gate_account account = stage_account(stage);
    check_account(&account);
    CHECK_EQ(account.players + account.waiting + account.visits, 0);
    CHECK_EQ(account.arrived, account.left);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage->server, &stats);
    CHECK_EQ(account.from_players, stats.received_messages);
}

static inline void stage_close(gate_stage *stage) {
    stage_gate_stop(stage);
    tp_server_destroy(stage->crowd);
    tp_server_destroy(stage->server);
    tp__gate_destroy(stage->gate);
}

/* ---- services -------------------------------------------------------------------------------- */

typedef struct service {
    tp_backend *backend;
    tp_backend_options options; /* change before service_start() */
    tp_backend_handlers handlers;
    bool greet;         /* says "welcome" in on_player_join */
    unsigned turn_away; /* kicks in on_player_join, with this code */

    unsigned ups, downs, joins, leaves, messages, stays, other_messages, returns;
    tp_player_info info; /* of the last join; its blob is copied */
    uint8_t blob[TP_PLAYER_BLOB_MAX];
    tp_player last; /* who joined, left, spoke or stayed last */
    tp_leave why;   /* he left */
    tp_end_reason end;
    tp_err stays_because;
    char text[STAGE_TEXT];
    tp_player present[STAGE_PLAYERS]; /* by index; all zero: nobody */
} service;

static inline service *service_of(const tp_backend *backend) {
    return tp_backend_context(backend);
}

static inline tp_err tell(service *of, const tp_player *to, const char *text) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send(of->backend, to, packet);
    tp_packet_release(packet);
    return error;
}

static inline void service_on_player_join(tp_backend *backend, const tp_player_info *info) {
    service *of = service_of(backend);
    tp_mutex_lock(&stage_mutex);
    CHECK(of->present[info->player.index].session == TP_NO_SESSION);
    of->present[info->player.index] = info->player;
    of->last = info->player;
    of->info = *info;
    if (info->blob) {
        memcpy(of->blob, info->blob, info->blob_size);
    }
    bool greet = of->greet;
    unsigned code = of->turn_away;
    party_note(&of->joins);
    if (greet) {
        CHECK_EQ(tell(of, &info->player, "welcome"), TP_OK);
    }
    if (code) {
        CHECK_EQ(tp_backend_kick(backend, &info->player, code), TP_OK);
    }
}

static inline void service_on_player_leave(
    tp_backend *backend, const tp_player *name, tp_leave why, tp_end_reason end) {
    service *of = service_of(backend);
    CHECK_EQ(tell(of, name, "gone"), TP_ERR_NO_SESSION);
    tp_mutex_lock(&stage_mutex);
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
    tp_mutex_lock(&stage_mutex);
    CHECK(tp_player_same(&of->present[name->index], name));
    of->last = *name;
    party_read(of->text, packet);
    party_note(&of->messages);
}

static inline void service_on_player_stays(tp_backend *backend, const tp_player *name, tp_err why) {
    service *of = service_of(backend);
    tp_mutex_lock(&stage_mutex);
    of->last = *name;
    of->stays_because = why;
    party_note(&of->stays);
}

static inline void service_on_up(tp_backend *backend, tp_peer_id self) {
    CHECK_EQ(self, tp_lanclient_self(tp_backend_client(backend)));
    tp_mutex_lock(&stage_mutex);
    party_note(&service_of(backend)->ups);
}

static inline void service_on_down(tp_backend *backend, tp_err why) {
    (void)why;
    CHECK_EQ(tp_backend_player_count(backend), 0);
    tp_mutex_lock(&stage_mutex);
    party_note(&service_of(backend)->downs);
}

static inline void service_on_message(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    service *of = service_of(tp_backend_of(client));
    (void)from;
    tp_mutex_lock(&stage_mutex);
    party_read(of->text, packet);
    party_note(&of->other_messages);
}

static inline void service_on_returned(tp_lanclient *client, const tp_returned *returned) {
    (void)returned;
    tp_mutex_lock(&stage_mutex);
    party_note(&service_of(tp_backend_of(client))->returns);
}

static inline void service_init(service *of, tp__hub *hub, const char *name) {
    stage_open();
    memset(of, 0, sizeof *of);
    tp_backend_defaults(&of->options);
    of->options.bus.address = tp_server_address(tp__hub_server(hub));
    of->options.bus.service = name;
    stage_be_patient(&of->options.bus);
    of->options.bus.backoff_max_ms = 100;
    of->options.context = of;
    of->options.max_players = STAGE_PLAYERS;
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

/* Without a word, as a process that is killed. */
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
