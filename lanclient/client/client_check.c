/*
 * The invariants of lanclient, as the heads of client.h, peer_table.h and requests.h state them.
 *
 * Each function is called under the mutex of the structure that it checks. It reads everything and
 * changes nothing. The calls are only in builds with assertions.
 */
#include "core/base/invariant.h"
#include "lanclient/client/client.h"

/* ---- the client ------------------------------------------------------------------------------ */

const char *tp__lanclient_check(const tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    bool up = client->state == TP__LINK_UP;
    bool joined = client->state >= TP__LINK_REGISTERING;
    uint64_t tail = tp__unconfirmed_tail(&client->unconfirmed);
    TP__INVARIANT(up == (tp_lanclient_self(client) != TP_NO_PEER));
    TP__INVARIANT(joined == (client->session != TP_NO_SESSION));
    TP__INVARIANT(client->unconfirmed.limit == client->options.max_unconfirmed);
    TP__INVARIANT(client->sent == client->confirmed_before + client->lost + tail);
    const char *broken = tp__lifecycle_check(&client->lifecycle);
    return broken ? broken : tp__unconfirmed_check(&client->unconfirmed);
}

/* ---- the table of peers ---------------------------------------------------------------------- */

const char *tp__peer_table_check(const tp__peer_table *table) {
    TP_ASSERT_LOCKED(&table->mutex);
    tp_peer_id last = TP_NO_PEER;
    TP__INVARIANT(table->count <= table->capacity);
    TP__INVARIANT((table->peers == NULL) == (table->capacity == 0));
    for (size_t i = 0; i < table->count; i++) {
        TP__INVARIANT(table->peers[i].id > last); /* also not TP_NO_PEER */
        TP__INVARIANT(table->peers[i].size == sizeof table->peers[i]);
        last = table->peers[i].id;
    }
    return NULL;
}

/* ---- the table of requests ------------------------------------------------------------------- */

/* The request of a link, or NULL if the link leads out of the table. */
static const tp__request *request_at(const tp__requests *requests, uint32_t entry) {
    return entry <= requests->capacity ? &requests->entries[entry - 1] : NULL;
}

/* Every open request is in the bucket of its ticket. */
static const char *buckets_check(const tp__requests *requests, uint32_t open) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < requests->capacity; i++) {
        for (uint32_t entry = requests->buckets[i]; entry;) {
            const tp__request *request = request_at(requests, entry);
            TP__INVARIANT(request && request->ticket != 0);
            TP__INVARIANT((request->ticket & (requests->capacity - 1)) == i);
            TP__INVARIANT(found < open); /* also ends a list that leads back into itself */
            entry = request->bucket_next;
            found++;
        }
    }
    TP__INVARIANT(found == open);
    return NULL;
}

/* Every open request is in the slot of its tick; both directions agree. */
static const char *wheel_check(const tp__requests *requests, uint32_t open) {
    uint32_t timed = 0;
    for (uint32_t i = 0; i < TP__REQUEST_WHEEL; i++) {
        uint32_t previous = 0;
        for (uint32_t entry = requests->wheel[i]; entry;) {
            const tp__request *request = request_at(requests, entry);
            TP__INVARIANT(request && request->ticket != 0);
            TP__INVARIANT(request->due_tick % TP__REQUEST_WHEEL == i);
            TP__INVARIANT(request->wheel_previous == previous);
            TP__INVARIANT(timed < open);
            previous = entry;
            entry = request->wheel_next;
            timed++;
        }
    }
    TP__INVARIANT(timed == open);
    return NULL;
}

/* Every other entry is in the list of free entries. */
static const char *free_check(const tp__requests *requests, uint32_t open) {
    uint32_t unused = requests->capacity - open;
    uint32_t count = 0;
    for (uint32_t entry = requests->free; entry;) {
        const tp__request *request = request_at(requests, entry);
        TP__INVARIANT(request && request->ticket == 0);
        TP__INVARIANT(count < unused);
        entry = request->bucket_next;
        count++;
    }
    TP__INVARIANT(count == unused);
    return NULL;
}

const char *tp__requests_check(const tp__requests *requests) {
    TP_ASSERT_LOCKED(&requests->mutex);
    uint32_t open = tp__requests_open(requests);
    TP__INVARIANT(open <= requests->limit);
    TP__INVARIANT(open <= requests->capacity);
    TP__INVARIANT((requests->capacity & (requests->capacity - 1)) == 0);
    TP__INVARIANT((requests->entries == NULL) == (requests->capacity == 0));
    TP__INVARIANT((requests->buckets == NULL) == (requests->capacity == 0));
    const char *broken = buckets_check(requests, open);
    if (!broken) {
        broken = wheel_check(requests, open);
    }
    return broken ? broken : free_check(requests, open);
}
