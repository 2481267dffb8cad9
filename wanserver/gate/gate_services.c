/*
 * The services that players are at, their peers on the bus, and the players who are kept while no
 * peer of their service is there.
 *
 * lanclient's handlers run on its workers; everything else under the gate's mutex, whoever calls.
 */
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

/* One of which no peer is there and for which nobody is kept, so that nothing leads to it; never
 * the players' first. NULL: there is none. */
static tp__gate_service *unused_service(tp__gate *gate) {
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
    service = room ? &gate->services[gate->service_count++] : unused_service(gate);
    if (service) {
        memset(service, 0, sizeof *service);
        memcpy(service->name, name, size);
    }
    return service;
}

/* ---- peers ----------------------------------------------------------------------------------- */

tp__gate_peer *tp__gate_find_peer(const tp__gate *gate, tp_peer_id id) {
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            if (peer->id == id) {
                return peer;
            }
        }
    }
    return NULL;
}

static void add_peer(tp__gate *gate, tp__gate_service *service, tp_peer_id id) {
    if (tp__gate_find_peer(gate, id)) {
        return;
    }
    tp__gate_peer *peer = tp__allocate_zeroed(1, sizeof *peer);
    if (!peer) {
        TP_LOG(TP_LOG_ERROR, "gate: no memory for a peer of %s: it gets no players", service->name);
        return;
    }
    peer->id = id;
    peer->service = service;
    peer->next = service->peers;
    service->peers = peer;
}

/* All at once: were they learnt one by one, the first one would get all the players. */
void tp__gate_gather_peers(tp__gate *gate, tp__gate_service *service) {
    size_t count = tp_lanclient_peers(gate->client, service->name, NULL, 0);
    tp_peer *peers = count > 0 ? tp__allocate_zeroed(count, sizeof *peers) : NULL;
    if (!peers) {
        return; /* without memory: on_peer_up tells of them, one by one */
    }
    peers[0].size = sizeof *peers;
    size_t there = tp_lanclient_peers(gate->client, service->name, peers, count);
    for (size_t i = 0; i < there && i < count; i++) {
        add_peer(gate, service, peers[i].id);
    }
    tp__free(peers);
}

tp__gate_peer *tp__gate_choose_peer(const tp__gate_service *service, const tp__gate_peer *except) {
    tp__gate_peer *best = NULL;
    for (tp__gate_peer *peer = service->peers; peer; peer = peer->next) {
        bool fit = peer != except && !peer->deaf;
        if (fit && (!best || peer->players < best->players)) {
            best = peer;
        }
    }
    return best;
}

/* ---- the kept ones --------------------------------------------------------------------------- */

static void close_lost(tp__gate *gate, tp__gate_player *player) {
    gate->account.lost_closed++;
    TP__REFUSED(TP_LOG_INFO, "gate", &player->address, "kept too long, or too many are kept");
    tp__gate_close_player(gate, player, gate->options.lost_close);
}

static void keep(tp__gate *gate, tp__gate_player *player) {
    gate->account.kept_total++;
    if (gate->kept >= gate->options.keep_players) {
        close_lost(gate, player);
        return;
    }
    tp__gate_set_state(player, TP__GATE_KEPT);
    player->since_ms = tp__lanclient_now_ms(gate->client);
    tp__gate_list_append(&player->service->kept, player);
    gate->kept++;
    tp__gate_arm(gate);
}

void tp__gate_unkeep(tp__gate *gate, tp__gate_player *player) {
    tp__gate_list_remove(&player->service->kept, player);
    gate->kept--;
}

/* While the bus is away its peers are on their way out. Whoever is being ended needs no other
 * peer. */
void tp__gate_seek(tp__gate *gate, tp__gate_player *player) {
    if (!player->playing) {
        tp__gate_set_state(player, TP__GATE_CLOSING);
        return;
    }
    bool on_bus = tp_lanclient_self(gate->client) != TP_NO_PEER;
    tp__gate_peer *peer = on_bus ? tp__gate_choose_peer(player->service, NULL) : NULL;
    if (!peer || !tp__gate_begin_visit(gate, player, peer)) {
        keep(gate, player);
    }
}

/* Those who have been kept longest come first. */
static void bind_kept(tp__gate *gate, tp__gate_service *service) {
    bool on_bus = tp_lanclient_self(gate->client) != TP_NO_PEER;
    while (on_bus && service->kept.first && gate->free_visit) {
        tp__gate_peer *peer = tp__gate_choose_peer(service, NULL);
        if (!peer) {
            return;
        }
        tp__gate_player *player = service->kept.first;
        tp__gate_unkeep(gate, player);
        (void)tp__gate_begin_visit(gate, player, peer); /* a visit is free */
    }
}

/* Somebody may be kept since after the tick read the clock: it did that before it had the mutex. */
static void close_overdue(tp__gate *gate, tp__gate_service *service, uint64_t link_now_ms) {
    tp__gate_player *player = service->kept.first;
    while (player && link_now_ms >= player->since_ms + gate->options.keep_ms) {
        tp__gate_unkeep(gate, player);
        close_lost(gate, player);
        player = service->kept.first;
    }
}

bool tp__gate_look_after_kept(tp__gate *gate, uint64_t link_now_ms) {
    for (unsigned i = 0; i < gate->service_count && gate->kept > 0; i++) {
        bind_kept(gate, &gate->services[i]);
        close_overdue(gate, &gate->services[i], link_now_ms);
    }
    return gate->kept > 0;
}

void tp__gate_abandon(tp__gate *gate, tp__gate_peer *peer) {
    while (peer->visits) {
        tp__gate_player *player = tp__gate_lose_visit(gate, peer->visits);
        if (player) {
            tp__gate_seek(gate, player);
        }
    }
}

/* ---- lanclient's handlers -------------------------------------------------------------------- */

/* What players may say and the bus has no room for is dropped, one by one: this says why, once. */
static void compare_with_hub(const tp__gate *gate) {
    size_t most = tp_lanclient_max_message(gate->client);
    size_t largest = gate->options.largest_message + TP_GATE_DATA_SIZE;
    if (gate->options.largest_message > 0 && most > 0 && largest > most) {
        TP_LOG(TP_LOG_ERROR,
            "gate: max_frame is %zu and the hub takes messages of %zu: with a header of %u bytes "
            "the largest messages of players are dropped; expected a max_frame of at most %zu "
            "here, or of at least %zu there",
            gate->options.largest_message, most, TP_GATE_DATA_SIZE,
            most > TP_GATE_DATA_SIZE ? most - TP_GATE_DATA_SIZE : 0, largest + TP_BUS_HEADER);
    }
}

void tp__gate_on_up(tp_lanclient *client, tp_peer_id self) {
    tp__gate *gate = tp_lanclient_context(client);
    (void)self;
    TP_LOG(TP_LOG_INFO, "gate: on the bus");
    compare_with_hub(gate);
    tp_mutex_lock(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count; i++) {
        tp__gate_gather_peers(gate, &gate->services[i]);
        bind_kept(gate, &gate->services[i]);
    }
    tp_mutex_unlock(&gate->mutex);
}

void tp__gate_on_down(tp_lanclient *client, tp_err why) {
    (void)client; /* all peers have gone already */
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
        add_peer(gate, service, peer->id);
        bind_kept(gate, service);
    }
    tp_mutex_unlock(&gate->mutex);
}

static void remove_peer(tp__gate_peer *peer) {
    tp__gate_peer **place = &peer->service->peers;
    while (*place != peer) {
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
        remove_peer(peer);
        tp__gate_abandon(gate, peer);
        tp__free(peer);
    }
    unsigned kept = gate->kept;
    tp_mutex_unlock(&gate->mutex);
    if (peer) {
        TP_LOG(players > 0 ? TP_LOG_WARNING : TP_LOG_INFO,
            "gate: %s %s is gone; it had %u players; %u are kept now", gone->service,
            gone->instance, players, kept);
    }
}
