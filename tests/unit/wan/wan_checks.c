/*
 * tp__pending_check(), tp__jobs_check() and tp__token_keys_check() each find what is broken: every
 * case breaks one field of a structure in use, looks, and repairs it.
 */
#include "wan_fixture.h"
#include "wanserver/handshake/jobs.h"
#include "wanserver/wan.h"

enum { PEERS = 3, JOBS = 4 };

static wan_fixture fixture;
static raw_peer *peers[PEERS];
static char things[JOBS];

static const char *text_of(const char *broken) {
    return broken ? broken : "";
}

/* ---- pending connections --------------------------------------------------------------------- */

static void open_pending(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = raw_connect(&address);
        REQUIRE(peers[i] != NULL);
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == PEERS);
}

static void close_pending(void) {
    for (unsigned i = 0; i < PEERS; i++) {
        raw_close(peers[i], true);
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    wan_fixture_close(&fixture);
}

static void the_pending_check_finds_what_is_broken(void) {
    open_pending();
    tp_server *server = fixture.base.server;
    tp__pending *pending = &tp__wan_of_server(server)->pending;
    tp_mutex_lock(&pending->mutex);
#define FOUND() text_of(tp__pending_check(pending, server))
    CHECK_EQ(strcmp(FOUND(), ""), 0);
    uint32_t oldest = pending->list.first;
    uint32_t newest = pending->list.last;
    tp__connection *first = tp__connection_of(&server->sessions[oldest - 1]);
    tp__connection *second = tp__connection_of(&server->sessions[first->link.next - 1]);

    pending->count = pending->limit + 1;
    CHECK(strstr(FOUND(), "pending->count <= pending->limit") != NULL);
    pending->count = PEERS - 1; /* fewer than are in the list */
    CHECK(strstr(FOUND(), "pending->list.count <= pending->count") != NULL);
    pending->count = PEERS;
    pending->list.last = oldest;
    CHECK(strstr(FOUND(), "list->last == last") != NULL);
    pending->list.last = newest;
    pending->list.first = server->slots.count + 1;
    CHECK(strstr(FOUND(), "at <= links->count") != NULL);
    pending->list.first = oldest;
    second->link.previous = newest;
    CHECK(strstr(FOUND(), "previous == last") != NULL);
    second->link.previous = oldest;
    second->evictable = false;
    CHECK(strstr(FOUND(), "connection->evictable") != NULL);
    second->evictable = true;
    second->counted = false;
    CHECK(strstr(FOUND(), "connection->counted") != NULL);
    second->counted = true;
    atomic_store(&second->state, TP__CONNECTION_HANDSHAKE);
    CHECK(strstr(FOUND(), "TP__CONNECTION_HELLO") != NULL);
    atomic_store(&second->state, TP__CONNECTION_HELLO);
    CHECK_EQ(strcmp(FOUND(), ""), 0);
#undef FOUND
    tp_mutex_unlock(&pending->mutex);
    close_pending();
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void the_check_of_jobs_finds_what_is_broken(void) {
    tp__jobs jobs;
    REQUIRE(tp__jobs_create(&jobs, JOBS) == TP_OK);
#define FOUND() text_of(tp__jobs_check(&jobs))
    CHECK_EQ(strcmp(FOUND(), ""), 0);
    for (unsigned i = 0; i < JOBS - 1; i++) {
        CHECK(tp__jobs_put(&jobs, &things[i], 0));
    }
    CHECK(tp__jobs_take(&jobs) == &things[0]);
    CHECK_EQ(strcmp(FOUND(), ""), 0); /* one slot is free again, two are full, one was never used */

    atomic_fetch_add(&jobs.tail, JOBS);
    CHECK(strstr(FOUND(), "tail <= head + jobs->size") != NULL);
    atomic_fetch_sub(&jobs.tail, JOBS);
    atomic_fetch_add(&jobs.head, JOBS);
    CHECK(strstr(FOUND(), "head <= tail") != NULL);
    atomic_fetch_sub(&jobs.head, JOBS);
    atomic_fetch_add(&jobs.waiting, 1);
    CHECK(strstr(FOUND(), "waiting") != NULL);
    atomic_fetch_sub(&jobs.waiting, 1);
    for (unsigned i = 0; i < JOBS; i++) {
        atomic_fetch_add(&jobs.slots[i].turn, 1);
        CHECK(strstr(FOUND(), "turn") != NULL);
        atomic_fetch_sub(&jobs.slots[i].turn, 1);
    }
    atomic_store(&jobs.slots[1].job, NULL);
    CHECK(strstr(FOUND(), "slot->job") != NULL);
    atomic_store(&jobs.slots[1].job, &things[1]);
    CHECK_EQ(strcmp(FOUND(), ""), 0);
#undef FOUND
    tp__jobs_destroy(&jobs);
}

/* ---- token keys ------------------------------------------------------------------------------ */

static void the_check_of_token_keys_finds_what_is_broken(void) {
    static const tp_token_key keys[] = {{.id = 1}, {.id = 200}};
    tp__token_keys holder;
    tp__token_keys_init(&holder);
    tp_mutex_lock(&holder.mutex);
#define FOUND() text_of(tp__token_keys_check(&holder))
    CHECK_EQ(strcmp(FOUND(), ""), 0); /* there is none yet */
    tp_mutex_unlock(&holder.mutex);
    REQUIRE(tp__token_keys_set(&holder, keys, 2) == TP_OK);
    tp_mutex_lock(&holder.mutex);
    tp__token_key_set *set = holder.current;
    CHECK_EQ(strcmp(FOUND(), ""), 0);
    set->references = 0;
    CHECK(strstr(FOUND(), "set->references >= 1") != NULL);
    set->references = 1;
    set->count = 0;
    CHECK(strstr(FOUND(), "set->count >= 1") != NULL);
    set->count = 2;
    set->keys[1].id = set->keys[0].id;
    CHECK(strstr(FOUND(), "seen") != NULL);
    set->keys[1].id = 200;
    CHECK_EQ(strcmp(FOUND(), ""), 0);
#undef FOUND
    tp_mutex_unlock(&holder.mutex);
    tp__token_keys_destroy(&holder);
}

CHECK_MAIN(CASE(the_pending_check_finds_what_is_broken),
    CASE(the_check_of_jobs_finds_what_is_broken),
    CASE(the_check_of_token_keys_finds_what_is_broken))
