/*
 * The services of the gate, their peers on the bus, and kept players, whose service has no peer at
 * the moment.
 *
 * lanclient's handlers run on its workers and take the gate's mutex; everything else runs under it,
 * on any thread. The gate owns service slots and peers.
 *
 *     gate->kept = the sum of the services' kept.count, at most keep_players
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/log/refusal.h"
#include "core/memory/memory.h"
#include "lanclient/client/link_clock.h"
#include "proto/bus.h"
#include "twinport/log.h"
#include "wanserver/gate/gate_internal.h"

/* ---- services -------------------------------------------------------------------------------- */

tp__gate_service *tp__gate_find_service(tp__gate *gate, const char *name, size_t size) {
    for (unsigned i = 0; i < gate->service_count; i++) {
        tp__gate_service *service = &gate->services[i];
        if (strlen(service->name) == size && memcmp(service->name, name, size) == 0) {
            return service;
        }
    }
    return NULL;
}

/* A service slot that can be reused: no peers and no kept players, so nothing points to it. Slot 0,
 * the players' first service, is never reused. NULL: none. */
static tp__gate_service *service_find_unused(tp__gate *gate) {
    for (unsigned i = 1; i < gate->service_count; i++) {
        if (!gate->services[i].peers && gate->services[i].kept.count == 0) {
            return &gate->services[i];
        }
    }
    return NULL;
}

tp__gate_service *tp__gate_open_service(tp__gate *gate, const char *name, size_t size) {
    tp__gate_service *service = tp__gate_find_service(gate, name, size);
    if (service) {
        return service;
    }
    bool room = gate->service_count < gate->options.max_services;
    service = room ? &gate->services[gate->service_count++] : service_find_unused(gate);
    if (service) {
        assert(size <= TP_NAME_MAX && !service->peers && service->kept.count == 0);
        memset(service, 0, sizeof *service);
        memcpy(service->name, name, size);
    }
    return service;
}

/* ---- peers ----------------------------------------------------------------------------------- */

tp__gate_peer *tp__gate_find_peer(const tp__gate *gate, tp_peer_id id) {
    TP_ASSERT_LOCKED(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            if (peer->id == id) {
                return peer;
            }
        }
    }
    return NULL;
}

static void peer_add(tp__gate *gate, tp__gate_service *service, tp_peer_id id) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (tp__gate_find_peer(gate, id)) {
        return;
    }
    tp__gate_peer *peer = tp__allocate_zeroed(1, sizeof *peer);
    if (!peer) {
        TP_LOG(
            TP_LOG_ERROR, "gate: no memory for a peer of %s, which gets no players", service->name);
        return;
    }
    peer->id = id;
    peer->service = service;
    peer->next = service->peers;
    service->peers = peer;
}

/* All peers are added before any player is assigned; if they were added one by one, the first would
 * get all kept players. */
void tp__gate_add_peers(tp__gate *gate, tp__gate_service *service) {
    TP_ASSERT_LOCKED(&gate->mutex);
    size_t count = tp_lanclient_peers(gate->client, service->name, NULL, 0);
    tp_peer *peers = count > 0 ? tp__allocate_zeroed(count, sizeof *peers) : NULL;
    if (!peers) {
        return; /* no memory: on_peer_up adds them one by one */
    }
    peers[0].size = sizeof *peers;
    size_t there = tp_lanclient_peers(gate->client, service->name, peers, count);
    for (size_t i = 0; i < there && i < count; i++) {
        peer_add(gate, service, peers[i].id);
    }
    tp__free(peers);
}

tp__gate_peer *tp__gate_choose_peer(const tp__gate_service *service, const tp__gate_peer *except) {
    tp__gate_peer *best = NULL;
    for (tp__gate_peer *peer = service->peers; peer; peer = peer->next) {
        bool fit = peer != except && !peer->incompatible;
        if (fit && (!best || peer->players < best->players)) {
            best = peer;
        }
    }
    return best;
}

/* ---- kept players ---------------------------------------------------------------------------- */

static void close_lost(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    gate->stats.lost_closed++;
    TP__REFUSED(TP_LOG_INFO, "gate", &player->address,
        "no peer of its service within keep_time, or keep_players reached");
    tp__gate_close_player(gate, player, gate->options.lost_close);
}

static void player_keep(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(player->has_quota && !player->assignment);
    gate->stats.kept_total++;
    if (gate->kept >= gate->options.keep_players) {
        close_lost(gate, player);
        return;
    }
    /* The link's clock may step back by a stall that its worker notices late: the list stays in
     * order. */
    uint64_t now_ms = tp__lanclient_now_ms(gate->client);
    const tp__gate_player *last = tp__gate_player_of(player->service->kept.last);
    player->kept_since_ms = last && last->kept_since_ms > now_ms ? last->kept_since_ms : now_ms;
    tp__gate_set_state(player, TP__GATE_KEPT);
    tp__list_append(&player->service->kept, &player->link);
    gate->kept++;
    tp__gate_schedule_tick(gate);
}

void tp__gate_remove_kept(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    assert(gate->kept > 0 && tp__gate_state_of(player) == TP__GATE_KEPT);
    tp__list_remove(&player->service->kept, &player->link);
    gate->kept--;
}

/* While the gate is off the bus its peers are being removed, and none is chosen. A session that is
 * being ended gets no other peer. */
void tp__gate_assign(tp__gate *gate, tp__gate_player *player) {
    TP_ASSERT_LOCKED(&gate->mutex);
    if (!player->has_quota) {
        tp__gate_set_state(player, TP__GATE_CLOSING);
        return;
    }
    bool on_bus = tp_lanclient_self(gate->client) != TP_NO_PEER;
    tp__gate_peer *peer = on_bus ? tp__gate_choose_peer(player->service, NULL) : NULL;
    if (!peer || !tp__gate_begin_assignment(gate, player, peer)) {
        player_keep(gate, player);
    }
}

/* Players kept longest come first. */
static void assign_kept(tp__gate *gate, tp__gate_service *service) {
    TP_ASSERT_LOCKED(&gate->mutex);
    bool on_bus = tp_lanclient_self(gate->client) != TP_NO_PEER;
    while (on_bus && service->kept.count > 0 && gate->free_assignments.count > 0) {
        tp__gate_peer *peer = tp__gate_choose_peer(service, NULL);
        if (!peer) {
            return;
        }
        tp__gate_player *player = tp__gate_player_of(service->kept.first);
        tp__gate_remove_kept(gate, player);
        bool begun = tp__gate_begin_assignment(gate, player, peer);
        assert(begun); /* one is free */
        (void)begun;
    }
}

/* kept_since_ms may be later than link_now_ms, which the tick has read before it took the mutex. */
static void close_overdue_kept(tp__gate *gate, tp__gate_service *service, uint64_t link_now_ms) {
    TP_ASSERT_LOCKED(&gate->mutex);
    tp__gate_player *player = tp__gate_player_of(service->kept.first);
    while (player && link_now_ms >= player->kept_since_ms + gate->options.keep_ms) {
        tp__gate_remove_kept(gate, player);
        close_lost(gate, player);
        player = tp__gate_player_of(service->kept.first);
    }
}

bool tp__gate_check_kept(tp__gate *gate, uint64_t link_now_ms) {
    TP_ASSERT_LOCKED(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count && gate->kept > 0; i++) {
        assign_kept(gate, &gate->services[i]);
        close_overdue_kept(gate, &gate->services[i], link_now_ms);
    }
    return gate->kept > 0;
}

void tp__gate_reassign_players(tp__gate *gate, tp__gate_peer *peer) {
    TP_ASSERT_LOCKED(&gate->mutex);
    while (peer->assignments.count > 0) {
        tp__gate_assignment *lost = tp__assignment_of(peer->assignments.first);
        tp__gate_player *player = tp__gate_lose_assignment(gate, lost);
        if (player) {
            tp__gate_assign(gate, player);
        }
    }
    assert(peer->players == 0 && peer->in_flight == 0 && peer->queue.count == 0);
}

/* ---- lanclient's handlers -------------------------------------------------------------------- */

/* Logs once, when the gate comes on the bus, that the hub does not accept the largest messages that
 * players may send. Otherwise they are only dropped and counted, one by one. */
static void warn_if_hub_takes_less(const tp__gate *gate) {
    size_t most = tp_lanclient_max_message(gate->client);
    size_t largest = gate->options.largest_message + TP_GATE_DATA_SIZE;
    if (gate->options.largest_message > 0 && most > 0 && largest > most) {
        TP_LOG(TP_LOG_ERROR,
            "gate: max_frame is %zu and the hub accepts messages of %zu bytes: with a header of %u "
            "bytes the largest messages of players are dropped; expected a max_frame of at most "
            "%zu here, or of at least %zu at the hub",
            gate->options.largest_message, most, TP_GATE_DATA_SIZE,
            most > TP_GATE_DATA_SIZE ? most - TP_GATE_DATA_SIZE : 0, largest + TP_BUS_HEADER);
    }
}

void tp__gate_on_up(tp_lanclient *client, tp_peer_id self) {
    tp__gate *gate = tp_lanclient_context(client);
    (void)self;
    TP_LOG(TP_LOG_INFO, "gate: on the bus");
    warn_if_hub_takes_less(gate);
    tp_mutex_lock(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count; i++) {
        tp__gate_add_peers(gate, &gate->services[i]);
        assign_kept(gate, &gate->services[i]);
    }
    tp_mutex_unlock(&gate->mutex);
}

void tp__gate_on_down(tp_lanclient *client, tp_err why) {
    (void)client; /* on_peer_down has been called for all peers */
    if (why) {
        TP_LOG(TP_LOG_WARNING, "gate: off the bus: %s", tp_err_text(why));
    } else {
        TP_LOG(TP_LOG_INFO, "gate: off the bus");
    }
}

void tp__gate_on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    tp__gate *gate = tp_lanclient_context(client);
    tp_mutex_lock(&gate->mutex);
    tp__gate_service *service = tp__gate_find_service(gate, peer->service, strlen(peer->service));
    if (service) {
        peer_add(gate, service, peer->id);
        assign_kept(gate, service);
    }
    tp_mutex_unlock(&gate->mutex);
}

static void peer_remove(tp__gate_peer *peer) {
    tp__gate_peer **place = &peer->service->peers;
    while (*place != peer) {
        assert(*place);
        place = &(*place)->next;
    }
    *place = peer->next;
}

void tp__gate_on_peer_down(tp_lanclient *client, const tp_peer *gone) {
    tp__gate *gate = tp_lanclient_context(client);
    tp_mutex_lock(&gate->mutex);
    tp__gate_peer *peer = tp__gate_find_peer(gate, gone->id);
    unsigned players = 0;
    if (peer) {
        players = peer->players;
        peer_remove(peer);
        tp__gate_reassign_players(gate, peer);
        tp__free(peer);
    }
    unsigned kept = gate->kept;
    tp_mutex_unlock(&gate->mutex);
    if (peer) {
        TP_LOG(players > 0 ? TP_LOG_WARNING : TP_LOG_INFO,
            "gate: %s/%s left; it had %u players, %u are kept now", gone->service, gone->instance,
            players, kept);
    }
}
