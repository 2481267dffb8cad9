/*
 * tp__limiter_check() finds each invariant of the limiter's table that is broken: every case breaks
 * one field of a full table, looks, and repairs it.
 */
#include "check.h"

#include "wanserver/guard/limiter.c" /* its structure is private */

enum { ADDRESSES = 6, IDLE = 3 };

static tp__limiter *limiter;

/* A full table: the entries 1..IDLE have no connections, the others have one. */
static void open_all(void) {
    const tp__limiter_options options = {
        .rate = 20, .burst = 3, .connections = 2, .addresses = ADDRESSES};
    REQUIRE(tp__limiter_create(&options, &limiter) == TP_OK);
    for (uint8_t i = 1; i <= ADDRESSES; i++) {
        tp_address from;
        REQUIRE(tp_address_parse("10.0.0.0", &from) == TP_OK);
        from.ip[15] = i;
        CHECK_EQ(tp__limiter_admit(limiter, &from, 1000, 0), TP__ADMITTED);
        if (i <= IDLE) {
            tp__limiter_leave(limiter, &from);
        }
    }
}

/* What the check finds in the table as it is, or "". */
static const char *found(void) {
    const char *broken = tp__limiter_check(limiter);
    return broken ? broken : "";
}

static void the_check_finds_a_wrong_count(void) {
    open_all();
    entry *entries = limiter->entries;
    CHECK_EQ(strcmp(found(), ""), 0);

    limiter->used++;
    CHECK(strstr(found(), "limiter->used <= limiter->options.addresses") != NULL);
    limiter->used--;
    limiter->options.addresses++;
    limiter->used++;
    CHECK(strstr(found(), "limiter->used == chained") != NULL);
    limiter->used--;
    limiter->options.addresses--;

    entries[ADDRESSES].connections = 3; /* above the limit */
    CHECK(strstr(found(), "one->connections <= most") != NULL);
    entries[ADDRESSES].connections = 0; /* and not in the list of idle entries */
    CHECK(strstr(found(), "idle.count == idle") != NULL);
    entries[ADDRESSES].connections = 1;

    entries[2].connections = 1; /* and in the list */
    CHECK(strstr(found(), "idle") != NULL || strstr(found(), "connections == 0") != NULL);
    entries[2].connections = 0;

    entries[1].bucket.thousandths = 1000;
    CHECK(strstr(found(), "thousandths") != NULL);
    entries[1].bucket.thousandths = 0;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__limiter_destroy(limiter);
}

static void the_check_finds_a_wrong_link(void) {
    open_all();
    entry *entries = limiter->entries;

    entries[2].link.previous = 3; /* one direction only */
    CHECK(strstr(found(), "->previous == last") != NULL);
    entries[2].link.previous = 1;
    limiter->idle.last = 1;
    CHECK(strstr(found(), "list->last == last") != NULL);
    limiter->idle.last = IDLE;

    const origin right = entries[4].origin;
    uint32_t *chain = limiter_chain(limiter, &right);
    do {
        entries[4].origin.network[7]++;
    } while (limiter_chain(limiter, &entries[4].origin) == chain);
    CHECK(strstr(found(), "limiter_chain(limiter, &one->origin) == chain") != NULL);
    entries[4].origin = right;

    uint32_t *last = &limiter->chains[0];
    while (*last == 0) {
        last++;
    }
    uint32_t number = *last;
    *last = ADDRESSES + 1;
    CHECK(strstr(found(), "at <= limiter->used") != NULL);
    *last = number;
    uint32_t next = entries[number].next;
    entries[number].next = number; /* a circle */
    CHECK(found()[0] != '\0');
    entries[number].next = next;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__limiter_destroy(limiter);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_count), CASE(the_check_finds_a_wrong_link))
