/*
 * The fixture of the bus's tests: a hub and its clients in one process.
 *
 * A `party` is a client of the test. Its handlers count what they receive and store the last of
 * each kind. AWAIT waits for a condition on these fields.
 */
#ifndef TWINPORT_TESTS_BUS_FIXTURE_H
#define TWINPORT_TESTS_BUS_FIXTURE_H

#include <stdlib.h>

#include "check.h"
#include "core/engine/server_state.h"
#include "core/engine/session_state.h"
#include "lanclient/client/client.h"
#include "lanserver/bus/hub_internal.h"
#include "os/thread.h"
#include "twinport/lanclient.h"

/* fixture_mutex guards all that the handlers write. Each change wakes the waiting threads. */
static tp_mutex fixture_mutex;
static tp_condition fixture_changed;

static inline void fixture_open(void) {
    static bool open;
    if (!open) {
        open = true;
        tp_mutex_init(&fixture_mutex);
        tp_condition_init(&fixture_changed);
    }
}

/*
 * AWAIT gives up after this many looks, 10 ms or more apart, between which no handler changed
 * anything. TWINPORT_TIME_FACTOR multiplies the number. Looks are counted, not time: neither a slow
 * machine nor one that stalls for minutes is mistaken for a bus that has lost a message. A test
 * that never ends although something changes all the time, or a stop that hangs, is ended by
 * ctest's time-out.
 */
#define FIXTURE_LOOKS 6000u

static inline unsigned fixture_most_looks(void) {
    const char *factor = getenv("TWINPORT_TIME_FACTOR");
    return FIXTURE_LOOKS * (factor ? (unsigned)strtoul(factor, NULL, 10) : 1u);
}

/* For every time-out of clients and hubs: the product's defaults are seconds, for which a machine
 * may stall. Cases about a time-out set their own. */
#define FIXTURE_PATIENCE_MS 600000u

/* Between two looks, with fixture_mutex held: returns at the next change, or after 10 ms. False:
 * the wait has failed. */
static inline bool fixture_wait_more(unsigned *looks) {
    if (*looks == fixture_most_looks()) {
        return false;
    }
    *looks = tp_condition_wait(&fixture_changed, &fixture_mutex, 10) ? 0 : *looks + 1;
    return true;
}

/* Waits until `condition` holds; it is evaluated under fixture_mutex. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        unsigned looks_ = 0;                                                                       \
        bool holds_;                                                                               \
        tp_mutex_lock(&fixture_mutex);                                                             \
        do {                                                                                       \
            holds_ = (condition);                                                                  \
        } while (!holds_ && fixture_wait_more(&looks_));                                           \
        tp_mutex_unlock(&fixture_mutex);                                                           \
        check_true(holds_, "in time: " #condition, __FILE__, __LINE__);                            \
        REQUIRE(holds_);                                                                           \
    } while (0)

/* ---- the hub --------------------------------------------------------------------------------- */

static inline void hub_options(tp__hub_options *options) {
    tp__hub_defaults(options);
    options->server.address.port = 0;
    options->server.workers = 2;
    options->server.drain_timeout_ms = 20000;
    options->server.ping_interval_ms = 0; /* however slow the machine is, the hub sends no PING */
    options->server.idle_timeout_ms = 0;
    options->hello_timeout_ms = FIXTURE_PATIENCE_MS;
}

/* The port of an earlier hub may be in use by another process for a moment. */
static inline bool hub_starts(tp__hub *hub, bool port_given) {
    unsigned looks = 0;
    tp_mutex_lock(&fixture_mutex);
    tp_err error = tp__hub_start(hub);
    while (port_given && error == TP_ERR_ADDRESS_IN_USE && fixture_wait_more(&looks)) {
        error = tp__hub_start(hub);
    }
    tp_mutex_unlock(&fixture_mutex);
    return error == TP_OK;
}

static inline tp__hub *hub_open(const tp__hub_options *options) {
    tp__hub *hub = NULL;
    fixture_open();
    REQUIRE(tp__hub_create(options, &hub) == TP_OK);
    REQUIRE(hub_starts(hub, options->server.address.port != 0));
    return hub;
}

static inline tp__hub *hub_open_default(void) {
    tp__hub_options options;
    hub_options(&options);
    return hub_open(&options);
}

/* The hub's session of a peer; TP_NO_SESSION if the peer is not on the bus. */
static inline tp_session_id hub_session_of(tp__hub *hub, tp_peer_id id) {
    tp_session_id session = TP_NO_SESSION;
    tp_mutex_lock(&hub->directory);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        session = hub->up[i]->public_id == id ? hub->up[i]->session : session;
    }
    tp_mutex_unlock(&hub->directory);
    return session;
}

/* Disconnects a peer immediately, from the hub's side. */
static inline void hub_cut(tp__hub *hub, tp_peer_id id) {
    tp_session_id session = hub_session_of(hub, id);
    REQUIRE(session != TP_NO_SESSION);
    CHECK(tp_server_disconnect(hub->server, session));
}

/* Stops the hub's delayed acknowledgements; acknowledgements that ride on other messages go on. */
static inline void hub_pause_acks(tp__hub *hub) {
    AWAIT(!atomic_exchange(&hub->sweep_armed, true));
}
static inline void hub_resume_acks(tp__hub *hub) {
    atomic_store(&hub->sweep_armed, false);
}

/* The same for a client. Its clock tick is paused, and with it everything else that depends on
 * it. */
static inline void client_pause_acks(tp_lanclient *client) {
    AWAIT(!atomic_exchange(&client->tick_armed, true));
}
static inline void client_resume_acks(tp_lanclient *client) {
    atomic_store(&client->tick_armed, false);
}

static inline tp__hub_stats hub_stats(tp__hub *hub) {
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    return stats;
}

/* Stops the hub and checks that every accepted message was delivered or returned. */
static inline void hub_close(tp__hub *hub) {
    tp__hub_stop(hub);
    CHECK_EQ(tp__hub_wait(hub, -1), TP_OK);
    tp__hub_stats stats = hub_stats(hub);
    CHECK_EQ(stats.outstanding, 0);
    CHECK_EQ(stats.accepted, stats.delivered + stats.returned);
    CHECK_EQ(stats.peers, 0);
    tp__hub_destroy(hub);
}

/* ---- the clients ----------------------------------------------------------------------------- */

#define PARTY_TEXT 64

typedef struct party {
    tp_lanclient *client;
    tp_lanclient_options options; /* change before party_start() */
    tp_lanclient_handlers handlers;
    bool answer;   /* answer requests with their own text; otherwise keep them in `asked` */
    tp_err refuse; /* if not TP_OK: refuse requests with this error */

    unsigned ups, downs, peer_ups, peer_downs, messages, requests, returns, replies;
    tp_err down_reason;
    tp_delivery from;       /* of the last message or request */
    tp_delivery asked;      /* of the last unanswered request */
    char text[PARTY_TEXT];  /* of the last message or request */
    tp_returned returned;   /* the last returned message */
    tp_err reply_error;     /* of the last reply */
    char reply[PARTY_TEXT]; /* of the last reply */
    tp_peer last_peer;      /* the last peer that came or left */
} party;

static inline party *party_of(const tp_lanclient *client) {
    return tp_lanclient_context(client);
}

static inline void party_note(unsigned *count) {
    ++*count;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

static inline void party_read(char *text, tp_packet *packet) {
    size_t size = tp_packet_size(packet) < PARTY_TEXT ? tp_packet_size(packet) : PARTY_TEXT - 1;
    memcpy(text, tp_packet_bytes(packet), size);
    text[size] = '\0';
}

static inline void party_on_up(tp_lanclient *client, tp_peer_id self) {
    CHECK_EQ(self, tp_lanclient_self(client));
    tp_mutex_lock(&fixture_mutex);
    party_note(&party_of(client)->ups);
}

static inline void party_on_down(tp_lanclient *client, tp_err why) {
    CHECK_EQ(tp_lanclient_self(client), TP_NO_PEER);
    tp_mutex_lock(&fixture_mutex);
    party_of(client)->down_reason = why;
    party_note(&party_of(client)->downs);
}

static inline void party_on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&fixture_mutex);
    party_of(client)->last_peer = *peer;
    party_note(&party_of(client)->peer_ups);
}

static inline void party_on_peer_down(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&fixture_mutex);
    party_of(client)->last_peer = *peer;
    party_note(&party_of(client)->peer_downs);
}

static inline void party_on_message(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = party_of(client);
    tp_mutex_lock(&fixture_mutex);
    of->from = *from;
    party_read(of->text, packet);
    party_note(&of->messages);
}

static inline void party_on_request(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = party_of(client);
    tp_mutex_lock(&fixture_mutex);
    of->from = *from;
    party_read(of->text, packet);
    bool answer = of->answer;
    tp_err refuse = of->refuse;
    if (!answer && !refuse) {
        of->asked = *from;
    }
    party_note(&of->requests);
    if (refuse) {
        CHECK_EQ(tp_lanclient_refuse(client, from, refuse), TP_OK);
    } else if (answer) {
        CHECK_EQ(tp_lanclient_reply(client, from, packet, NULL), TP_OK);
    }
}

static inline void party_on_returned(tp_lanclient *client, const tp_returned *returned) {
    tp_mutex_lock(&fixture_mutex);
    party_of(client)->returned = *returned;
    party_note(&party_of(client)->returns);
}

static inline void party_on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    party *of = context;
    CHECK(client == of->client);
    CHECK((error == TP_OK) == (from != NULL) && (error == TP_OK) == (packet != NULL));
    tp_mutex_lock(&fixture_mutex);
    of->reply_error = error;
    of->reply[0] = '\0';
    if (packet) {
        party_read(of->reply, packet);
    }
    party_note(&of->replies);
}

static inline void fixture_long_timeouts(tp_lanclient_options *options) {
    options->request_timeout_ms = FIXTURE_PATIENCE_MS;
    options->connect_timeout_ms = FIXTURE_PATIENCE_MS;
    options->drain_timeout_ms = FIXTURE_PATIENCE_MS;
    options->idle_timeout_ms = 0;
}

/* Prepares a client of `hub` without starting it. */
static inline void party_init(
    party *of, const tp__hub *hub, const char *service, const char *instance) {
    fixture_open();
    memset(of, 0, sizeof *of);
    tp_lanclient_defaults(&of->options);
    fixture_long_timeouts(&of->options);
    of->options.address = tp_server_address(tp__hub_server((tp__hub *)(uintptr_t)hub));
    of->options.service = service;
    of->options.instance = instance;
    of->options.context = of;
    of->options.backoff_max_ms = 200;
    of->answer = true;
    of->handlers = (tp_lanclient_handlers){.size = sizeof of->handlers,
        .on_up = party_on_up,
        .on_down = party_on_down,
        .on_peer_up = party_on_peer_up,
        .on_peer_down = party_on_peer_down,
        .on_message = party_on_message,
        .on_request = party_on_request,
        .on_returned = party_on_returned};
}

static inline void party_start(party *of) {
    REQUIRE(tp_lanclient_create(&of->options, &of->handlers, &of->client) == TP_OK);
    REQUIRE(tp_lanclient_start(of->client) == TP_OK);
}

/* Starts a client and waits until it is on the bus. */
static inline void party_join(
    party *of, const tp__hub *hub, const char *service, const char *instance) {
    party_init(of, hub, service, instance);
    party_start(of);
    AWAIT(of->ups == 1);
}

/* Stops a client in order and checks that everything it sent is accounted for. */
static inline void party_leave(party *of) {
    tp_lanclient_stop(of->client);
    CHECK_EQ(tp_lanclient_wait(of->client, -1), TP_OK);
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(of->client, &stats);
    CHECK_EQ(stats.unconfirmed, 0);
    CHECK_EQ(stats.sent, stats.confirmed + stats.lost);
    CHECK_EQ(stats.requests_open, 0);
    tp_lanclient_destroy(of->client);
    of->client = NULL;
}

static inline tp_packet *text_packet(const char *text) {
    tp_packet *packet = tp_packet_copy_of(text, strlen(text));
    REQUIRE(packet != NULL);
    return packet;
}

static inline tp_err party_send(party *from, tp_peer_id to, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send(from->client, to, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err party_send_any(
    party *from, const char *service, int32_t key, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send_any(from->client, service, key, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err party_send_all(
    party *from, const char *service, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send_all(from->client, service, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err party_request(
    party *from, tp_peer_id to, const char *text, unsigned timeout_ms) {
    tp_packet *packet = text_packet(text);
    tp_err error =
        tp_lanclient_request(from->client, to, packet, timeout_ms, party_on_reply, from, NULL);
    tp_packet_release(packet);
    return error;
}

static inline tp_err party_request_any(
    party *from, const char *service, int32_t key, const char *text) {
    tp_packet *packet = text_packet(text);
    tp_err error =
        tp_lanclient_request_any(from->client, service, key, packet, 0, party_on_reply, from, NULL);
    tp_packet_release(packet);
    return error;
}

/* The size counter of a connected party's send queue to the hub. */
static inline tp__queue_size *party_queued(const party *of) {
    return &of->client->network->sessions[tp_session_slot(of->client->session)].queued;
}

static inline tp_peer_id party_id(const party *of) {
    return tp_lanclient_self(of->client);
}

#endif
