/*
 * tp__replay_check() finds each invariant of the table of used tokens that is broken: every case
 * breaks one field of a table with tokens, looks, and repairs it.
 */
#include "check.h"

#include "wanserver/guard/replay.c" /* its structure is private */

enum { CAPACITY = 8, TOKENS = 5 };

static tp__replay *replay;

static void open_all(void) {
    REQUIRE(tp__replay_create(CAPACITY, 3600, &replay) == TP_OK);
    for (uint8_t i = 0; i < TOKENS; i++) {
        const uint8_t id[TP_TOKEN_ID_SIZE] = {i};
        CHECK_EQ(tp__replay_take(replay, id, 1000 + 100u * i, 900, 50), TP__FRESH);
    }
}

/* What the check finds in the table as it is, or "". */
static const char *found(void) {
    const char *broken = tp__replay_check(replay);
    return broken ? broken : "";
}

static void the_check_finds_a_wrong_count(void) {
    open_all();
    CHECK_EQ(strcmp(found(), ""), 0);
    replay->count++;
    CHECK(strstr(found(), "replay->count == chained") != NULL);
    replay->count--;
    replay->capacity = TOKENS - 1;
    CHECK(strstr(found(), "replay->count <= replay->capacity") != NULL);
    replay->capacity = CAPACITY;
    uint32_t unused = replay->free;
    replay->free = replay->entries[unused].next;
    CHECK(strstr(found(), "chained + unused") != NULL);
    replay->free = unused;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__replay_destroy(replay);
}

static void the_check_finds_a_wrong_order_of_the_heap(void) {
    open_all();
    uint64_t keep_until = replay->entries[replay->heap[0]].keep_until;
    replay->entries[replay->heap[0]].keep_until = UINT64_MAX;
    CHECK(strstr(found(), "order->before(item, parent") != NULL);
    replay->entries[replay->heap[0]].keep_until = keep_until;
    uint32_t last = replay->heap[TOKENS - 1];
    replay->heap[TOKENS - 1] = CAPACITY + 1;
    CHECK(strstr(found(), "replay->heap[i] <= replay->capacity") != NULL);
    replay->heap[TOKENS - 1] = replay->heap[TOKENS - 2]; /* one twice, another one not at all */
    CHECK(found()[0] != '\0');
    replay->heap[TOKENS - 1] = last;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__replay_destroy(replay);
}

static void the_check_finds_a_wrong_link(void) {
    open_all();
    uint32_t *chain = &replay->chains[0];
    while (*chain == 0) {
        chain++;
    }
    uint32_t number = *chain;
    entry *one = &replay->entries[number];

    *chain = CAPACITY + 1;
    CHECK(strstr(found(), "at <= replay->capacity") != NULL);
    *chain = number;

    uint8_t right[TP_TOKEN_ID_SIZE];
    memcpy(right, one->id, sizeof right);
    do {
        one->id[15]++;
    } while (replay_chain(replay, one->id) == chain);
    CHECK(strstr(found(), "replay_chain(replay, id) == chain") != NULL);
    memcpy(one->id, right, sizeof right);

    uint32_t next = one->next;
    uint32_t unused = replay->free;
    entry *twin = &replay->entries[unused];
    const entry before = *twin;
    memcpy(twin->id, one->id, sizeof twin->id); /* the same token twice */
    twin->next = next;
    one->next = unused;
    CHECK(strstr(found(), "memcmp") != NULL);
    one->next = next;
    *twin = before;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__replay_destroy(replay);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_count), CASE(the_check_finds_a_wrong_order_of_the_heap),
    CASE(the_check_finds_a_wrong_link))
