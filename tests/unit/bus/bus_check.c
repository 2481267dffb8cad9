/*
 * The hub's invariants hold, and tp__hub_check() and tp__hub_connections_check() find each one that
 * is broken: every case breaks one field of a hub with peers, looks, and repairs it.
 */
#include "bus_fixture.h"
#include "check_finds.h"
#include "raw_peer.h"

enum { CHATS = 2, PARTIES = CHATS + 1, RAW = 3 };

static tp__hub *hub;
static party parties[PARTIES];

/* Two peers of one service, one of another, and a spare one. */
static void open_all(void) {
    party passing;
    hub = hub_open_default();
    for (unsigned i = 0; i < PARTIES; i++) {
        party_join(&parties[i], hub, i < CHATS ? "chat" : "db", NULL);
    }
    party_join(&passing, hub, "chat", NULL);
    party_leave(&passing);
    AWAIT(hub_stats(hub).peers == PARTIES);
}

static void close_all(void) {
    for (unsigned i = 0; i < PARTIES; i++) {
        party_leave(&parties[i]);
    }
    hub_close(hub);
}

/* What the check finds, or "". Under the directory lock. */
static const char *found(void) {
    return text_of(tp__hub_check(hub));
}

#define CHECK_FOUND(text) CHECK(strstr(found(), (text)) != NULL)

/* Gives a field another value, looks, and repairs it. */
#define CHECK_BROKEN(type, field, value, text) CHECK_FINDS_VALUE(found(), text, type, field, value)

static void the_check_finds_a_wrong_peer(void) {
    open_all();
    tp_mutex_lock(&hub->directory);
    CHECK_STR(found(), "");
    REQUIRE(hub->up_count == PARTIES && hub->spare != NULL);
    tp__peer *peer = hub->up[0];
    tp__peer *spare = hub->spare;

    CHECK_BROKEN(uint32_t, peer->up_index, 1, "up_index == i");
    CHECK_BROKEN(uint32_t, hub->up_count, PARTIES - 1, "occupied == *published");
    CHECK_BROKEN(uint32_t, hub->up_count, hub->mask + 2, "up_count <= hub->mask + 1");
    CHECK_BROKEN(uint32_t, peer->public_id, 0, "peer->public_id != 0");
    CHECK_BROKEN(uint32_t, peer->public_id, peer->public_id + 1, "peer->id == peer->public_id");
    CHECK_BROKEN(uint32_t, peer->unconfirmed.capacity, 64, "ring->ring == NULL");
    CHECK_BROKEN(tp__service *, peer->service, NULL, "peer->service != NULL");

    atomic_store(&hub->slots[peer->public_id & hub->mask], hub->up[1]);
    CHECK_FOUND("peer_in_slot(hub, peer->public_id) == peer");
    atomic_store(&hub->slots[peer->public_id & hub->mask], peer);

    CHECK_BROKEN(uint32_t, spare->id, 7, "peer->id == 0");
    CHECK_BROKEN(tp__peer *, spare->next, spare, "count <= hub->mask");
    CHECK_BROKEN(tp__peer *, hub->spare, peer, "!is_up");
    tp_mutex_unlock(&hub->directory);
    close_all();
}

static void the_check_finds_a_wrong_service(void) {
    open_all();
    tp_mutex_lock(&hub->directory);
    REQUIRE(hub->up_count == PARTIES);
    tp__service *chat = tp__services_find(&hub->services, tp_bus_service_hash("chat", 4));
    tp__service *db = tp__services_find(&hub->services, tp_bus_service_hash("db", 2));
    REQUIRE(chat != NULL && db != NULL);
    tp__members *members = atomic_load(&chat->members);

    CHECK_BROKEN(tp__service *, hub->up[0]->service, hub->up[0]->service == chat ? db : chat,
        "peer->service == service");
    CHECK_BROKEN(uint32_t, members->capacity, CHATS - 1, "count <= members->capacity");
    CHECK_BROKEN(uint32_t, db->hash, db->hash + 1, "service->hash == tp_bus_service_hash");
    CHECK_BROKEN(uint32_t, hub->services.limit, hub->services.mask + 1, "services->limit * 2");

    atomic_fetch_sub(&chat->count, 1);
    CHECK_FOUND("members == published");
    atomic_fetch_add(&chat->count, 1);
    atomic_fetch_add(&hub->services.count, 1);
    CHECK_FOUND("services_count == count");
    atomic_fetch_sub(&hub->services.count, 1);

    tp__member member = atomic_load(&members->at[0]);
    atomic_store(&members->at[0], member + 1000); /* the next ids are those of other peers */
    CHECK_FOUND("tp__member_id(member)");
    atomic_store(&members->at[0], member + (UINT64_C(1) << 32));
    CHECK_FOUND("tp__member_make");
    atomic_store(&members->at[0], member);
    CHECK_STR(found(), "");
    tp_mutex_unlock(&hub->directory);
    close_all();
}

/* ---- pending connections --------------------------------------------------------------------- */

static const char *found_pending(void) {
    const char *broken = tp__hub_connections_check(&hub->connections);
    return broken ? broken : "";
}

#define CHECK_PENDING(type, field, value, text)                                                    \
    do {                                                                                           \
        type good_ = (field);                                                                      \
        (field) = (value);                                                                         \
        CHECK(strstr(found_pending(), (text)) != NULL);                                            \
        (field) = good_;                                                                           \
        CHECK_STR(found_pending(), "");                                                            \
    } while (0)

static unsigned count_pending(void) {
    unsigned count = 0;
    tp_mutex_lock(&hub->connections.mutex);
    for (const tp__link *it = hub->connections.list.first; it; it = it->next) {
        count++;
    }
    tp_mutex_unlock(&hub->connections.mutex);
    return count;
}

static void the_check_finds_a_wrong_pending_connection(void) {
    raw_peer *peers[RAW];
    hub = hub_open_default();
    tp_address address = tp_server_address(hub->server);
    for (unsigned i = 0; i < RAW; i++) {
        peers[i] = raw_connect(&address);
        REQUIRE(peers[i] != NULL);
    }
    AWAIT(count_pending() == RAW);

    tp__hub_connections *connections = &hub->connections;
    tp_mutex_lock(&connections->mutex);
    CHECK_STR(found_pending(), "");
    tp__list *list = &connections->list;
    tp__hub_connection *first = tp__hub_connection_of(list->first);
    tp__hub_connection *last = tp__hub_connection_of(list->last);
    CHECK_PENDING(tp__link *, last->link.previous, &first->link, "it->previous == last");
    CHECK_PENDING(tp__link *, list->last, &first->link, "list->last == last");
    CHECK_PENDING(bool, first->pending, false, "it->pending");
    CHECK_PENDING(uint64_t, last->due_ms, 0, "it->due_ms >= due_ms");

    tp__list_remove(list, &last->link); /* marked pending, and not in the list */
    CHECK(strstr(found_pending(), "count == pending") != NULL);
    tp__list_append(list, &last->link);
    CHECK_STR(found_pending(), "");
    tp_mutex_unlock(&connections->mutex);

    for (unsigned i = 0; i < RAW; i++) {
        raw_close(peers[i], false);
    }
    hub_close(hub);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_peer), CASE(the_check_finds_a_wrong_service),
    CASE(the_check_finds_a_wrong_pending_connection))
