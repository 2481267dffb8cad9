/*
 * A bus in one thread, for the gate's harness: lanclient's functions, and lanes between the clients
 * that deliver when the harness asks for it. The real bus's promises hold: messages from one client
 * to another keep their order, a request's callback is called exactly once, and a client that loses
 * a peer is first notified of its requests and then of the peer. Include once.
 */
#ifndef TWINPORT_TESTS_GATE_BUS_H
#define TWINPORT_TESTS_GATE_BUS_H

#include <string.h>

#include "fuzz.h"
#include "lanclient/client/link_clock.h"
#include "os/clock.h"
#include "twinport/lanclient.h"

enum { CLIENTS = 4, LANE = 24, REQUESTS = 256 };

/* ---- the clock ------------------------------------------------------------------------------- */

static uint64_t now_ms = 1;

uint64_t tp_clock_ms(void) {
    return now_ms;
}
uint64_t tp_clock_ns(void) {
    return now_ms * 1000000;
}
uint64_t tp_clock_wall_ms(void) {
    return now_ms;
}
void tp_clock_format(uint64_t wall_ms, char *text) {
    (void)wall_ms;
    memset(text, 0, TP_CLOCK_TEXT);
}

/* ---- the bus --------------------------------------------------------------------------------- */

enum { ERROR = 11 }; /* beside tp_message_kind: a returned message */

typedef struct message {
    unsigned kind;
    tp_ticket ticket; /* the sender's; of a REPLY or an ERROR the requesting client's */
    bool request;     /* of an ERROR: it returns a request */
    tp_err reason;
    tp_packet *packet;
} message;

/* The messages in flight from one client to another, in order. */
typedef struct lane {
    message at[LANE];
    unsigned count;
} lane;

typedef struct request {
    tp_lanclient *client; /* NULL: a free entry */
    tp_ticket ticket;
    tp_peer_id peer;
    tp_on_reply *on_reply;
    void *context;
} request;

struct tp_lanclient {
    tp_lanclient_handlers handlers;
    void *context;
    char service[TP_NAME_MAX + 1];
    tp_peer_id id; /* TP_NO_PEER: not on the bus */
    tp_ticket last_ticket;
    unsigned index;
};

static tp_lanclient clients[CLIENTS];
static unsigned clients_made;
static lane lanes[CLIENTS][CLIENTS];
static request requests[REQUESTS];
static tp_peer_id last_id;
static unsigned full; /* number of calls, from the next one on, for which the bus is full */

static unsigned index_of(tp_peer_id id) {
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (id != TP_NO_PEER && clients[i].id == id) {
            return i;
        }
    }
    return CLIENTS;
}

static tp_err put(unsigned from, unsigned to, message what, const tp_packet *packet) {
    lane *way = &lanes[from][to];
    if (full > 0 || way->count == LANE) {
        full -= full > 0;
        return TP_ERR_FULL;
    }
    if (packet) { /* of exact size, so that a read behind it is reported */
        what.packet = tp_packet_copy_of(tp_packet_bytes(packet), tp_packet_size(packet));
        REQUIRE(what.packet != NULL);
    }
    way->at[way->count++] = what;
    return TP_OK;
}

/* Sends to a peer; if there is none, back to the sender. */
static tp_err post(tp_lanclient *client, tp_peer_id peer, unsigned kind, const tp_packet *packet,
    tp_ticket *ticket) {
    if (client->id == TP_NO_PEER) {
        return TP_ERR_NOT_CONNECTED;
    }
    REQUIRE(peer != TP_NO_PEER && tp_packet_error(packet) == TP_OK);
    unsigned to = index_of(peer);
    *ticket = client->last_ticket + 1;
    message what = {.kind = kind, .ticket = *ticket};
    tp_err error;
    if (to == CLIENTS) {
        what.kind = ERROR;
        what.request = kind == TP_MESSAGE_REQUEST;
        what.reason = TP_ERR_NO_ROUTE;
        error = put(client->index, client->index, what, NULL);
    } else {
        error = put(client->index, to, what, packet);
    }
    client->last_ticket += error == TP_OK;
    return error;
}

tp_err tp_lanclient_send(
    tp_lanclient *client, tp_peer_id peer, tp_packet *packet, tp_ticket *ticket) {
    tp_ticket given;
    REQUIRE(ticket == NULL);
    return post(client, peer, TP_MESSAGE_SEND, packet, &given);
}

tp_err tp_lanclient_request(tp_lanclient *client, tp_peer_id peer, tp_packet *packet,
    unsigned timeout_ms, tp_on_reply *on_reply, void *context, tp_ticket *ticket) {
    REQUIRE(ticket == NULL && timeout_ms == 0);
    request *free = requests;
    while (free < requests + REQUESTS && free->client) {
        free++;
    }
    if (free == requests + REQUESTS) {
        return TP_ERR_FULL;
    }
    tp_ticket given;
    tp_err error = post(client, peer, TP_MESSAGE_REQUEST, packet, &given);
    if (!error) {
        *free = (request){client, given, peer, on_reply, context};
    }
    return error;
}

tp_err tp_lanclient_reply(
    tp_lanclient *client, const tp_delivery *asked, tp_packet *packet, tp_ticket *ticket) {
    unsigned to = index_of(asked->peer);
    REQUIRE(ticket == NULL && asked->kind == TP_MESSAGE_REQUEST);
    if (client->id == TP_NO_PEER || to == CLIENTS) {
        return TP_ERR_NOT_CONNECTED;
    }
    return put(
        client->index, to, (message){.kind = TP_MESSAGE_REPLY, .ticket = asked->ticket}, packet);
}

tp_err tp_lanclient_refuse(tp_lanclient *client, const tp_delivery *asked, tp_err reason) {
    unsigned to = index_of(asked->peer);
    if (client->id == TP_NO_PEER || to == CLIENTS) {
        return TP_ERR_NOT_CONNECTED;
    }
    const message what = {.kind = ERROR,
        .ticket = asked->ticket,
        .request = asked->kind == TP_MESSAGE_REQUEST,
        .reason = reason};
    return put(client->index, to, what, NULL);
}

/* The real one cuts the link if it cannot send. Here a malformed message then disappears, and
 * neither side counts it. */
void tp_lanclient_decline(tp_lanclient *client, const tp_delivery *from, tp_err reason) {
    (void)tp_lanclient_refuse(client, from, reason);
}

/* ---- the bus: life of a client --------------------------------------------------------------- */

tp_err tp_lanclient_create(const tp_lanclient_options *options,
    const tp_lanclient_handlers *handlers, tp_lanclient **created) {
    tp_lanclient *client = &clients[clients_made];
    memset(client, 0, sizeof *client);
    client->handlers = *handlers;
    client->context = options->context;
    client->index = clients_made++;
    memcpy(client->service, options->service, strlen(options->service) + 1);
    *created = client;
    return TP_OK;
}

void tp_lanclient_defaults(tp_lanclient_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

tp_err tp_lanclient_start(tp_lanclient *client) {
    (void)client;
    return TP_OK;
}
void tp_lanclient_stop(tp_lanclient *client) {
    (void)client;
}
void tp_lanclient_stop_within(tp_lanclient *client, unsigned stop_ms) {
    (void)client;
    (void)stop_ms;
}
bool tp__lanclient_stopping(tp_lanclient *client) {
    (void)client;
    return false;
}
tp_err tp_lanclient_wait(tp_lanclient *client, int timeout_ms) {
    (void)client, (void)timeout_ms;
    return TP_OK;
}
void tp_lanclient_destroy(tp_lanclient *client) {
    (void)client;
}
void *tp_lanclient_context(const tp_lanclient *client) {
    return client->context;
}
tp_peer_id tp_lanclient_self(const tp_lanclient *client) {
    return client->id;
}
uint64_t tp__lanclient_now_ms(tp_lanclient *client) {
    (void)client;
    return now_ms;
}
size_t tp_lanclient_max_message(const tp_lanclient *client) {
    return client->id != TP_NO_PEER ? TP_PACKET_MAX : 0;
}

static tp_peer peer_of(const tp_lanclient *client) {
    tp_peer peer = {.size = sizeof peer, .id = client->id};
    memcpy(peer.service, client->service, sizeof peer.service);
    return peer;
}

size_t tp_lanclient_peers(
    const tp_lanclient *client, const char *service, tp_peer *peers, size_t capacity) {
    size_t count = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        bool there = clients[i].id != TP_NO_PEER && client->id != TP_NO_PEER;
        if (there && &clients[i] != client && strcmp(clients[i].service, service) == 0) {
            if (count < capacity) {
                peers[count] = peer_of(&clients[i]);
            }
            count++;
        }
    }
    return count;
}

bool tp_lanclient_find_peer(const tp_lanclient *client, tp_peer_id id, tp_peer *peer) {
    unsigned i = index_of(id);
    if (i == CLIENTS || client->id == TP_NO_PEER) {
        return false;
    }
    *peer = peer_of(&clients[i]);
    return true;
}

/* ---- the bus: delivery ----------------------------------------------------------------------- */

static message take(unsigned from, unsigned to) {
    lane *way = &lanes[from][to];
    message first = way->at[0];
    way->count--;
    memmove(&way->at[0], &way->at[1], way->count * sizeof way->at[0]);
    return first;
}

static void empty(lane *way) {
    while (way->count > 0) {
        tp_packet_release(way->at[--way->count].packet);
    }
}

/* Calls the callback, unless the request was answered before. */
static void answer(tp_lanclient *client, tp_ticket ticket, tp_err error, const tp_delivery *from,
    tp_packet *packet) {
    for (unsigned i = 0; i < REQUESTS; i++) {
        request taken = requests[i];
        if (taken.client == client && taken.ticket == ticket) {
            requests[i].client = NULL;
            taken.on_reply(client, error, from, packet, taken.context);
            return;
        }
    }
}

static void deliver(unsigned from, unsigned to) {
    if (lanes[from][to].count == 0) {
        return;
    }
    message what = take(from, to);
    tp_lanclient *client = &clients[to];
    const tp_delivery delivery = {.size = sizeof delivery,
        .peer = clients[from].id,
        .ticket = what.ticket,
        .kind = (tp_message_kind)what.kind,
        .key = TP_NO_KEY};
    const tp_returned returned = {.size = sizeof returned,
        .ticket = what.ticket,
        .kind = TP_MESSAGE_SEND,
        .reason = what.reason};
    switch (what.kind) {
    case TP_MESSAGE_SEND:
        client->handlers.on_message(client, &delivery, what.packet);
        break;
    case TP_MESSAGE_REQUEST:
        client->handlers.on_request(client, &delivery, what.packet);
        break;
    case TP_MESSAGE_REPLY:
        answer(client, what.ticket, TP_OK, &delivery, what.packet);
        break;
    default:
        if (what.request) {
            answer(client, what.ticket, what.reason, NULL, NULL);
        } else {
            client->handlers.on_returned(client, &returned);
        }
        break;
    }
    tp_packet_release(what.packet);
}

/* The hub has no capacity for the next message and returns it. */
static void bounce(unsigned from, unsigned to, tp_err reason) {
    lane *way = &lanes[from][to];
    bool returnable = way->count > 0 &&
                      (way->at[0].kind == TP_MESSAGE_SEND || way->at[0].kind == TP_MESSAGE_REQUEST);
    if (returnable && lanes[from][from].count < LANE) {
        message what = take(from, to);
        tp_packet_release(what.packet);
        const message back = {.kind = ERROR,
            .ticket = what.ticket,
            .request = what.kind == TP_MESSAGE_REQUEST,
            .reason = reason};
        lanes[from][from].at[lanes[from][from].count++] = back;
    }
}

static void fail_requests(tp_lanclient *client, tp_peer_id peer, tp_err error) {
    for (unsigned i = 0; i < REQUESTS; i++) {
        request taken = requests[i];
        if (taken.client == client && (peer == TP_NO_PEER || taken.peer == peer)) {
            requests[i].client = NULL;
            taken.on_reply(client, error, NULL, NULL, taken.context);
        }
    }
}

/* Notifies a client of a lost peer: its requests first. */
static void notify_of_loss(tp_lanclient *client, const tp_peer *gone) {
    fail_requests(client, gone->id, TP_ERR_PEER_LOST);
    client->handlers.on_peer_down(client, gone);
}

/* Disconnects a client. What it sent before is delivered or lost. */
static void go_down(unsigned n, bool deliver_first) {
    tp_lanclient *client = &clients[n];
    if (client->id == TP_NO_PEER) {
        return;
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        while (deliver_first && i != n && lanes[n][i].count > 0) {
            deliver(n, i);
        }
    }
    const tp_peer gone = peer_of(client);
    client->id = TP_NO_PEER;
    for (unsigned i = 0; i < CLIENTS; i++) {
        empty(&lanes[n][i]);
        empty(&lanes[i][n]);
    }
    fail_requests(client, TP_NO_PEER, TP_ERR_PEER_LOST);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].id != TP_NO_PEER) {
            const tp_peer other = peer_of(&clients[i]);
            client->handlers.on_peer_down(client, &other);
            notify_of_loss(&clients[i], &gone);
        }
    }
    client->handlers.on_down(client, TP_ERR_CLOSED);
}

static void go_up(unsigned n) {
    tp_lanclient *client = &clients[n];
    if (client->id != TP_NO_PEER) {
        return;
    }
    client->id = ++last_id;
    const tp_peer self = peer_of(client);
    client->handlers.on_up(client, client->id);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (i != n && clients[i].id != TP_NO_PEER) {
            const tp_peer other = peer_of(&clients[i]);
            client->handlers.on_peer_up(client, &other);
            clients[i].handlers.on_peer_up(&clients[i], &self);
        }
    }
}

#endif
