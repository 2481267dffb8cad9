/*
 * The stage of the bus's tests: a hub and its clients in one process, handlers that count and
 * remember what came, and a way to wait for it.
 */
#ifndef TWINPORT_TESTS_BUS_STAGE_H
#define TWINPORT_TESTS_BUS_STAGE_H

#include <stdlib.h>

#include "check.h"
#include "core/engine/server_state.h"
#include "core/engine/session_state.h"
#include "lanclient/client/client.h"
#include "lanserver/bus/hub_internal.h"
#include "os/thread.h"
#include "twinport/lanclient.h"

/* Everything the handlers write is under this mutex, and each change wakes who waits. */
static tp_mutex stage_mutex;
static tp_condition stage_changed;

static inline void stage_open(void) {
    static bool open;
    if (!open) {
        open = true;
        tp_mutex_init(&stage_mutex);
        tp_condition_init(&stage_changed);
    }
}

/*
 * Who waits gives up when it has looked this often, 10 ms or more apart, and no handler has changed
 * anything meanwhile; stretched by TWINPORT_TIME_FACTOR. Looks are counted and not time, so that
 * neither a machine that is slow nor one that stands still for minutes is taken for a bus that has
 * lost something. What goes on and on without getting there, and a stop that does not end, are
 * ended by ctest's time-out.
 */
#define STAGE_LOOKS 6000u

static inline unsigned stage_most_looks(void) {
    const char *factor = getenv("TWINPORT_TIME_FACTOR");
    return STAGE_LOOKS * (factor ? (unsigned)strtoul(factor, NULL, 10) : 1u);
}

/* For everything that a client or a hub gives up after: the product's own times are seconds, which
 * a machine may stand still for. Cases about such a time set it. */
#define STAGE_PATIENCE_MS 600000u

/* Between two looks, with the mutex held: returns at the next change, or after a moment. False: it
 * is time to give up. */
static inline bool stage_look_again(unsigned *looks) {
    if (*looks == stage_most_looks()) {
        return false;
    }
    *looks = tp_condition_wait(&stage_changed, &stage_mutex, 10) ? 0 : *looks + 1;
    return true;
}

/* Waits until `condition` holds, which is read under the mutex. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        unsigned looks_ = 0;                                                                       \
        bool holds_;                                                                               \
        tp_mutex_lock(&stage_mutex);                                                               \
        do {                                                                                       \
            holds_ = (condition);                                                                  \
        } while (!holds_ && stage_look_again(&looks_));                                            \
        tp_mutex_unlock(&stage_mutex);                                                             \
        check_true(holds_, "in time: " #condition, __FILE__, __LINE__);                            \
        REQUIRE(holds_);                                                                           \
    } while (0)

/* ---- the hub --------------------------------------------------------------------------------- */

static inline void hub_options(tp__hub_options *options) {
    tp__hub_defaults(options);
    options->server.address.port = 0;
    options->server.workers = 2;
    options->server.drain_timeout_ms = 20000;
    options->server.ping_interval_ms =
        0; /* however slow this machine is, nothing comes unasked for */
    options->server.idle_timeout_ms = 0;
    options->hello_timeout_ms = STAGE_PATIENCE_MS;
}

/* A port that an earlier hub had may be somebody else's for a moment. */
static inline bool hub_starts(tp__hub *hub, bool port_given) {
    unsigned looks = 0;
    tp_mutex_lock(&stage_mutex);
    tp_err error = tp__hub_start(hub);
    while (port_given && error == TP_ERR_ADDRESS_IN_USE && stage_look_again(&looks)) {
        error = tp__hub_start(hub);
    }
    tp_mutex_unlock(&stage_mutex);
    return error == TP_OK;
}

static inline tp__hub *hub_open(const tp__hub_options *options) {
    tp__hub *hub = NULL;
    stage_open();
    REQUIRE(tp__hub_create(options, &hub) == TP_OK);
    REQUIRE(hub_starts(hub, options->server.address.port != 0));
    return hub;
}

static inline tp__hub *hub_open_default(void) {
    tp__hub_options options;
    hub_options(&options);
    return hub_open(&options);
}

/* The hub's end of a peer's connection; TP_NO_SESSION: it is not on the bus. */
static inline tp_session_id hub_session_of(tp__hub *hub, tp_peer_id id) {
    tp_session_id session = TP_NO_SESSION;
    tp_mutex_lock(&hub->directory);
    for (uint32_t i = 0; i < hub->up_count; i++) {
        session = hub->up[i]->public_id == id ? hub->up[i]->session : session;
    }
    tp_mutex_unlock(&hub->directory);
    return session;
}

/* Ends a peer's connection at once, from the hub's side. */
static inline void hub_cut(tp__hub *hub, tp_peer_id id) {
    tp_session_id session = hub_session_of(hub, id);
    REQUIRE(session != TP_NO_SESSION);
    CHECK(tp_server_disconnect(hub->server, session));
}

/* From here on the hub confirms nothing but by the way, until it is let again. */
static inline void hub_confirm_no_more(tp__hub *hub) {
    AWAIT(!atomic_exchange(&hub->sweep_armed, true));
}
static inline void hub_confirm_again(tp__hub *hub) {
    atomic_store(&hub->sweep_armed, false);
}

/* The same of a client, which looks after nothing else by the clock either. */
static inline void client_confirm_no_more(tp_lanclient *client) {
    AWAIT(!atomic_exchange(&client->tick_armed, true));
}
static inline void client_confirm_again(tp_lanclient *client) {
    atomic_store(&client->tick_armed, false);
}

static inline tp__hub_account hub_account(tp__hub *hub) {
    tp__hub_account account;
    tp__hub_get_account(hub, &account);
    return account;
}

/* Stops it, and checks that nothing was lost in silence. */
static inline void hub_close(tp__hub *hub) {
    tp__hub_stop(hub);
    CHECK_EQ(tp__hub_wait(hub, -1), TP_OK);
    tp__hub_account account = hub_account(hub);
    CHECK_EQ(account.outstanding, 0);
    CHECK_EQ(account.accepted, account.delivered + account.returned);
    CHECK_EQ(account.peers, 0);
    tp__hub_destroy(hub);
}

/* ---- the clients ----------------------------------------------------------------------------- */

#define PARTY_TEXT 64

typedef struct party {
    tp_lanclient *client;
    tp_lanclient_options options; /* change before party_start() */
    tp_lanclient_handlers handlers;
    bool answer;   /* requests: with their own text; else kept in `asked` */
    tp_err refuse; /* requests: with this, unless it is TP_OK */

    unsigned ups, downs, peer_ups, peer_downs, messages, requests, returns, replies;
    tp_err down_reason;
    tp_delivery from;       /* of the last message or request */
    tp_delivery asked;      /* of the last request not answered */
    char text[PARTY_TEXT];  /* of the last message or request */
    tp_returned returned;   /* the last */
    tp_err reply_error;     /* of the last reply */
    char reply[PARTY_TEXT]; /* likewise */
    tp_peer last_peer;      /* that came or went */
} party;

static inline party *party_of(const tp_lanclient *client) {
    return tp_lanclient_context(client);
}

static inline void party_note(unsigned *count) {
    ++*count;
    tp_condition_wake_all(&stage_changed);
    tp_mutex_unlock(&stage_mutex);
}

static inline void party_read(char *text, tp_packet *packet) {
    size_t size = tp_packet_size(packet) < PARTY_TEXT ? tp_packet_size(packet) : PARTY_TEXT - 1;
    memcpy(text, tp_packet_bytes(packet), size);
    text[size] = '\0';
}

static inline void party_on_up(tp_lanclient *client, tp_peer_id self) {
    CHECK_EQ(self, tp_lanclient_self(client));
    tp_mutex_lock(&stage_mutex);
    party_note(&party_of(client)->ups);
}

static inline void party_on_down(tp_lanclient *client, tp_err why) {
    CHECK_EQ(tp_lanclient_self(client), TP_NO_PEER);
    tp_mutex_lock(&stage_mutex);
    party_of(client)->down_reason = why;
    party_note(&party_of(client)->downs);
}

static inline void party_on_peer_up(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&stage_mutex);
    party_of(client)->last_peer = *peer;
    party_note(&party_of(client)->peer_ups);
}

static inline void party_on_peer_down(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&stage_mutex);
    party_of(client)->last_peer = *peer;
    party_note(&party_of(client)->peer_downs);
}

static inline void party_on_message(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = party_of(client);
    tp_mutex_lock(&stage_mutex);
    of->from = *from;
    party_read(of->text, packet);
    party_note(&of->messages);
}

static inline void party_on_request(
    tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party *of = party_of(client);
    tp_mutex_lock(&stage_mutex);
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
    tp_mutex_lock(&stage_mutex);
    party_of(client)->returned = *returned;
    party_note(&party_of(client)->returns);
}

static inline void party_on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    party *of = context;
    CHECK(client == of->client);
    CHECK((error == TP_OK) == (from != NULL) && (error == TP_OK) == (packet != NULL));
    tp_mutex_lock(&stage_mutex);
    of->reply_error = error;
    of->reply[0] = '\0';
    if (packet) {
        party_read(of->reply, packet);
    }
    party_note(&of->replies);
}

static inline void stage_be_patient(tp_lanclient_options *options) {
    options->request_timeout_ms = STAGE_PATIENCE_MS;
    options->connect_timeout_ms = STAGE_PATIENCE_MS;
    options->drain_timeout_ms = STAGE_PATIENCE_MS;
    options->idle_timeout_ms = 0;
}

/* A client of `hub`, not started. */
static inline void party_init(
    party *of, const tp__hub *hub, const char *service, const char *instance) {
    stage_open();
    memset(of, 0, sizeof *of);
    tp_lanclient_defaults(&of->options);
    stage_be_patient(&of->options);
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

/* Started, and on the bus. */
static inline void party_join(
    party *of, const tp__hub *hub, const char *service, const char *instance) {
    party_init(of, hub, service, instance);
    party_start(of);
    AWAIT(of->ups == 1);
}

/* Stops in order, and checks that what was sent is accounted for. */
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

static inline tp_err say(party *from, tp_peer_id to, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send(from->client, to, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err say_any(
    party *from, const char *service, int32_t key, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send_any(from->client, service, key, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err say_all(
    party *from, const char *service, const char *text, tp_ticket *ticket) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_lanclient_send_all(from->client, service, packet, ticket);
    tp_packet_release(packet);
    return error;
}

static inline tp_err ask(party *from, tp_peer_id to, const char *text, unsigned timeout_ms) {
    tp_packet *packet = text_packet(text);
    tp_err error =
        tp_lanclient_request(from->client, to, packet, timeout_ms, party_on_reply, from, NULL);
    tp_packet_release(packet);
    return error;
}

static inline tp_err ask_any(party *from, const char *service, int32_t key, const char *text) {
    tp_packet *packet = text_packet(text);
    tp_err error =
        tp_lanclient_request_any(from->client, service, key, packet, 0, party_on_reply, from, NULL);
    tp_packet_release(packet);
    return error;
}

/* What is queued for the hub, of a party that is up. */
static inline tp__queue_size *party_queued(const party *of) {
    return &of->client->network->sessions[tp_session_slot(of->client->session)].queued;
}

static inline tp_peer_id self(const party *of) {
    return tp_lanclient_self(of->client);
}

#endif
