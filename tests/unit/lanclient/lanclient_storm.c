/*
 * No message is lost without notice: clients send as fast as they can while their connections are
 * cut at random. Afterwards each message has been delivered, has come back, or is in the hub's
 * count of those that could not come back because their sender was gone, too.
 */
#include "bus_fixture.h"

enum { PARTIES = 5, MESSAGES = 60000, HANDLED = 1, RETURNED = 2 };

/* The cuts end when the clients have been connected this often. Each client keeps its last messages
 * for the time after that, so that it neither finishes before nor takes everything down with it,
 * however fast the machine is. */
enum { CONNECTIONS = 8 * PARTIES, LAST = 1000, UNCONFIRMED = 4096 };

/* outcome[sender][ticket]. Tickets count from 1 in the life of a client, across its connections. */
static atomic_uchar outcome[PARTIES][MESSAGES + 1];
static tp_lanclient *clients[PARTIES];
static atomic_bool calm;

/* The payload is the sender's index. The ticket comes with the delivery. */
static void on_storm_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    (void)client;
    uint32_t sender = tp_packet_get_u32(packet);
    REQUIRE(sender < PARTIES && from->ticket <= MESSAGES);
    atomic_fetch_or(&outcome[sender][from->ticket], HANDLED);
}

static void on_storm_returned(tp_lanclient *client, const tp_returned *returned) {
    uint32_t *sender = tp_lanclient_context(client);
    REQUIRE(returned->ticket <= MESSAGES);
    atomic_fetch_or(&outcome[*sender][returned->ticket], RETURNED);
}

/* To a peer, or to any peer of the service, with and without a key. */
static tp_err send_one(tp_lanclient *client, unsigned n, tp_packet *packet) {
    switch (n % 3) {
    case 0: {
        tp_peer peers[PARTIES] = {{.size = sizeof peers[0]}};
        size_t count = tp_lanclient_peers(client, NULL, peers, PARTIES);
        tp_peer_id to = count ? peers[n / 3 % count].id : TP_NO_PEER;
        return to ? tp_lanclient_send(client, to, packet, NULL) : TP_ERR_NOT_CONNECTED;
    }
    case 1:
        return tp_lanclient_send_any(client, "storm", TP_NO_KEY, packet, NULL);
    default:
        return tp_lanclient_send_any(client, "storm", (int32_t)(n % 65536), packet, NULL);
    }
}

static void send_all(void *context) {
    uint32_t sender = *(uint32_t *)context;
    unsigned taken = 0;
    while (taken < MESSAGES) {
        if (taken == MESSAGES - LAST && !atomic_load(&calm)) {
            tp_thread_yield();
            continue;
        }
        tp_packet *packet = tp_packet_new(4);
        REQUIRE(packet != NULL);
        tp_packet_put_u32(packet, sender);
        tp_err error = send_one(clients[sender], taken, packet);
        tp_packet_release(packet);
        if (error == TP_OK) {
            taken++;
            if (taken % 64 == 0) {
                tp_thread_yield(); /* so that cuts meet every state, not only full queues */
            }
        } else {
            REQUIRE(error == TP_ERR_NOT_CONNECTED || error == TP_ERR_FULL);
            tp_thread_yield();
        }
    }
}

static uint64_t connections_so_far(void) {
    uint64_t connections = 0;
    for (uint32_t i = 0; i < PARTIES; i++) {
        tp_lanclient_stats stats = {.size = sizeof stats};
        tp_lanclient_get_stats(clients[i], &stats);
        connections += stats.connections;
    }
    return connections;
}

/* Cuts a random connection every few milliseconds, as a task of the hub, until there were
 * enough. */
static void cut_a_connection(void *context) {
    static atomic_uint round;
    tp__hub *hub = context;
    tp_session_id session = TP_NO_SESSION;
    tp_mutex_lock(&hub->directory);
    if (hub->up_count > 0) {
        session = hub->up[atomic_fetch_add(&round, 1) * 7 % hub->up_count]->session;
    }
    tp_mutex_unlock(&hub->directory);
    if (session != TP_NO_SESSION) {
        tp_server_disconnect(hub->server, session);
    }
    if (connections_so_far() < CONNECTIONS) {
        REQUIRE(tp_server_post(hub->server, 10, cut_a_connection, hub) == TP_OK);
    } else {
        atomic_store(&calm, true);
    }
}

static void every_message_is_delivered_or_accounted_for(void) {
    static uint32_t numbers[PARTIES];
    tp_thread threads[PARTIES];
    tp__hub *hub = hub_open_default();
    for (uint32_t i = 0; i < PARTIES; i++) {
        party of;
        party_init(&of, hub, "storm", NULL);
        numbers[i] = i;
        of.options.context = &numbers[i];
        of.options.workers = 1 + i % 2;
        of.options.max_unconfirmed = UNCONFIRMED;
        of.options.backoff_min_ms = 1;
        of.options.backoff_max_ms = 5;
        of.handlers = (tp_lanclient_handlers){.size = sizeof of.handlers,
            .on_message = on_storm_message,
            .on_returned = on_storm_returned};
        REQUIRE(tp_lanclient_create(&of.options, &of.handlers, &clients[i]) == TP_OK);
        REQUIRE(tp_lanclient_start(clients[i]) == TP_OK);
    }
    for (uint32_t i = 0; i < PARTIES; i++) {
        REQUIRE(tp_thread_start(&threads[i], "sender", send_all, &numbers[i]) == TP_OK);
    }
    REQUIRE(tp_server_post(hub->server, 10, cut_a_connection, hub) == TP_OK);
    for (uint32_t i = 0; i < PARTIES; i++) {
        tp_thread_join(&threads[i]);
    }
    uint64_t lost = 0;
    for (uint32_t i = 0; i < PARTIES; i++) {
        tp_lanclient_stop(clients[i]);
        CHECK_EQ(tp_lanclient_wait(clients[i], -1), TP_OK);
        tp_lanclient_stats stats = {.size = sizeof stats};
        tp_lanclient_get_stats(clients[i], &stats);
        CHECK_EQ(stats.sent, MESSAGES);
        CHECK_EQ(stats.unconfirmed, 0);
        lost += stats.lost;
    }
    uint64_t connections = connections_so_far();
    /* Until the messages that each peer had not acknowledged are counted. */
    AWAIT(hub_stats(hub).peers == 0);
    uint64_t handled = 0;
    uint64_t returned = 0;
    uint64_t silent = 0;
    for (uint32_t i = 0; i < PARTIES; i++) {
        tp_lanclient_destroy(clients[i]);
        for (uint32_t ticket = 1; ticket <= MESSAGES; ticket++) {
            unsigned char what = atomic_load(&outcome[i][ticket]);
            handled += what & HANDLED;
            returned += what & RETURNED ? 1 : 0;
            silent += what == 0;
        }
    }
    tp__hub_stats stats = hub_stats(hub);
    printf("    %u sent: %u handled, %u came back, %u connections were cut;\n"
           "    %u found their sender gone, %u are missing\n",
        PARTIES * MESSAGES, (unsigned)handled, (unsigned)returned,
        (unsigned)(connections - PARTIES), (unsigned)stats.orphaned, (unsigned)silent);
    CHECK_GE(connections, CONNECTIONS);
    CHECK_GT(handled, 0);
    CHECK_GT(lost, 0);
    CHECK_LE(silent, stats.orphaned);
    hub_close(hub);
}

CHECK_MAIN(CASE(every_message_is_delivered_or_accounted_for))
