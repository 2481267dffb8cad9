/*
 * lanclient's invariants hold, and its checks find each one that is broken: every case breaks one
 * field of a client, of its table of peers or of its table of requests, looks, and repairs it.
 */
#include "bus_fixture.h"

/* Gives a field another value, looks, and repairs it. `check`: a call of a check function. */
#define CHECK_BROKEN(check, type, field, value, text)                                              \
    do {                                                                                           \
        type good_ = (field);                                                                      \
        (field) = (value);                                                                         \
        CHECK(strstr(found(check), (text)) != NULL);                                               \
        (field) = good_;                                                                           \
        CHECK_STR(found(check), "");                                                               \
    } while (0)

static const char *found(const char *broken) {
    return broken ? broken : "";
}

/* ---- the client ------------------------------------------------------------------------------ */

static void the_check_finds_a_wrong_field_of_the_client(void) {
    party a;
    tp__hub *hub = hub_open_default();
    party_join(&a, hub, "chat", "a");
    CHECK_EQ(party_send(&a, party_id(&a), "to myself", NULL), TP_OK);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.unconfirmed == 0));

    tp_lanclient *client = a.client;
    tp_mutex_lock(&client->mutex);
    CHECK_STR(found(tp__lanclient_check(client)), "");
    CHECK_BROKEN(tp__lanclient_check(client), uint64_t, client->sent, good_ + 1,
        "client->confirmed_before + client->lost + tail");
    CHECK_BROKEN(tp__lanclient_check(client), tp__link_state, client->state, TP__LINK_ARRIVING,
        "tp_lanclient_self(client) != TP_NO_PEER");
    CHECK_BROKEN(tp__lanclient_check(client), tp_session_id, client->session, TP_NO_SESSION,
        "client->session != TP_NO_SESSION");
    CHECK_BROKEN(
        tp__lanclient_check(client), bool, client->lifecycle.ending, true, "!lifecycle->ending");
    CHECK_BROKEN(tp__lanclient_check(client), uint32_t, client->unconfirmed.limit, good_ - 1,
        "client->options.max_unconfirmed");
    CHECK_BROKEN(tp__lanclient_check(client), uint32_t, client->unconfirmed.capacity,
        good_ ? 0 : 64, "ring->ring == NULL");
    tp_mutex_unlock(&client->mutex);

    party_leave(&a);
    hub_close(hub);
}

/* ---- the table of peers ---------------------------------------------------------------------- */

static void the_check_finds_a_wrong_peer(void) {
    tp__peer_table table;
    tp__peer_table_init(&table);
    for (tp_peer_id id = 1; id <= 3; id++) {
        tp_peer peer = {.size = sizeof peer, .id = id * 10};
        REQUIRE(tp__peer_table_add(&table, &peer) == TP_OK);
    }
    tp_mutex_lock(&table.mutex);
    CHECK_STR(found(tp__peer_table_check(&table)), "");
    tp_peer *peers = table.peers;
    CHECK_BROKEN(tp__peer_table_check(&table), size_t, table.count, table.capacity + 1,
        "table->count <= table->capacity");
    CHECK_BROKEN(
        tp__peer_table_check(&table), tp_peer *, table.peers, NULL, "table->peers == NULL");
    CHECK_BROKEN(tp__peer_table_check(&table), tp_peer_id, peers[0].id, TP_NO_PEER, "id > last");
    CHECK_BROKEN(tp__peer_table_check(&table), tp_peer_id, peers[2].id, 20, "id > last");
    CHECK_BROKEN(tp__peer_table_check(&table), size_t, peers[1].size, 1, "size == sizeof");
    tp_mutex_unlock(&table.mutex);
    tp__peer_table_destroy(&table);
}

/* ---- the table of requests ------------------------------------------------------------------- */

enum { OPEN = 3, TIMEOUT_MS = 1000 };

static void add_requests(tp__requests *requests) {
    tp__requests_init(requests, 10);
    for (tp_ticket ticket = 1; ticket <= OPEN; ticket++) {
        const tp__request request = {.ticket = ticket};
        REQUIRE(tp__requests_add(requests, request, 0, TIMEOUT_MS) == TP_OK);
    }
}

static void the_check_finds_a_wrong_number_of_the_requests(void) {
    tp__requests requests;
    add_requests(&requests);
    tp_mutex_lock(&requests.mutex);
    CHECK_STR(found(tp__requests_check(&requests)), "");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, requests.limit, OPEN - 1,
        "open <= requests->limit");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, requests.capacity, OPEN - 1,
        "open <= requests->capacity");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, requests.capacity, good_ - 1,
        "requests->capacity - 1");
    CHECK_BROKEN(tp__requests_check(&requests), tp__request *, requests.entries, NULL,
        "requests->entries == NULL");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t *, requests.buckets, NULL,
        "requests->buckets == NULL");
    atomic_fetch_add(&requests.open, 1);
    CHECK(strstr(found(tp__requests_check(&requests)), "found == open") != NULL);
    atomic_fetch_sub(&requests.open, 2);
    CHECK(strstr(found(tp__requests_check(&requests)), "found < open") != NULL);
    atomic_fetch_add(&requests.open, 1);
    CHECK_STR(found(tp__requests_check(&requests)), "");
    tp_mutex_unlock(&requests.mutex);
    tp__requests_destroy(&requests);
}

/* The requests are due in one tick, the last one first in its slot. */
static void the_check_finds_a_wrong_link_of_the_requests(void) {
    tp__requests requests;
    add_requests(&requests);
    tp_mutex_lock(&requests.mutex);
    tp__request *first = &requests.entries[0];
    tp__request *last = &requests.entries[OPEN - 1];
    uint32_t *bucket = &requests.buckets[first->ticket & (requests.capacity - 1)];
    uint32_t *slot = &requests.wheel[last->due_tick % TP__REQUEST_WHEEL];
    REQUIRE(first->ticket == 1 && last->ticket == OPEN && *bucket == 1 && *slot == OPEN);

    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, *bucket, requests.capacity + 1,
        "request && request->ticket != 0");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, *bucket, 2, "requests->capacity - 1");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, first->bucket_next, 1, "found < open");
    CHECK_BROKEN(tp__requests_check(&requests), uint64_t, first->due_tick, good_ + 1, "due_tick %");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, first->wheel_previous, OPEN,
        "wheel_previous == previous");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, *slot, 0, "timed == open");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, requests.free, 0, "count == unused");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t, requests.free, 1,
        "request && request->ticket == 0");
    CHECK_BROKEN(tp__requests_check(&requests), uint32_t,
        requests.entries[requests.free - 1].bucket_next, requests.free, "count < unused");
    tp_mutex_unlock(&requests.mutex);
    tp__requests_destroy(&requests);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_field_of_the_client), CASE(the_check_finds_a_wrong_peer),
    CASE(the_check_finds_a_wrong_number_of_the_requests),
    CASE(the_check_finds_a_wrong_link_of_the_requests))
