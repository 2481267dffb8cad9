/*
 * tp__bans_check() finds each invariant of the table of bans that is broken: every case breaks one
 * field of a table with bans, looks, and repairs it.
 */
#include "check.h"

#include "wanserver/guard/bans.c" /* its structure is private */

static tp__bans *bans;

static void open_all(void) {
    static const char *const networks[] = {
        "10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32"};
    REQUIRE(tp__bans_create(&bans) == TP_OK);
    for (unsigned i = 0; i < sizeof networks / sizeof networks[0]; i++) {
        tp_network whom;
        REQUIRE(tp_network_parse(networks[i], &whom) == TP_OK);
        REQUIRE(tp__bans_add(bans, &whom, 0, 0) == TP_OK);
    }
}

/* What the check finds in the table as it is, or "". */
static const char *found(void) {
    const char *broken = tp__bans_check(bans);
    return broken ? broken : "";
}

/* The chain that has bans, from this number on. */
static unsigned chain_from(unsigned chain) {
    while (bans->chains[chain] == 0) {
        chain++;
    }
    return chain;
}

static void the_check_finds_a_wrong_count(void) {
    open_all();
    CHECK_EQ(strcmp(found(), ""), 0);
    bans->count++;
    CHECK(strstr(found(), "bans->count == count") != NULL);
    bans->count--;
    bans->of_length[8]++;
    CHECK(strstr(found(), "of_length[bits]") != NULL);
    bans->of_length[8]--;
    uint16_t unused = bans->free;
    bans->free = bans->bans[unused].next;
    CHECK(strstr(found(), "count + unused") != NULL);
    bans->free = unused;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__bans_destroy(bans);
}

static void the_check_finds_a_wrong_link(void) {
    open_all();
    unsigned first = chain_from(0);
    unsigned second = chain_from(first + 1);
    uint16_t number = bans->chains[first];
    ban *one = &bans->bans[number];

    uint16_t other = bans->chains[second];
    bans->chains[first] = other;
    bans->chains[second] = number;
    CHECK(strstr(found(), "bans_chain(bans, network) == chain") != NULL);
    bans->chains[first] = number;
    bans->chains[second] = other;

    bans->chains[first] = TP__BANS_MAX + 1;
    CHECK(strstr(found(), "TP__BANS_MAX") != NULL);
    bans->chains[first] = number;

    uint16_t next = one->next;
    one->next = bans->free;
    bans->bans[bans->free].network = one->network; /* the same network twice */
    uint16_t rest = bans->bans[bans->free].next;
    bans->bans[bans->free].next = 0;
    CHECK(strstr(found(), "same_network") != NULL);
    bans->bans[bans->free].next = rest;
    one->next = next;

    const tp_network right = one->network;
    one->network.ip[15] |= 1;
    one->network.bits = 64; /* bits behind the length */
    CHECK(strstr(found(), "network_valid") != NULL);
    one->network = right;
    CHECK_EQ(strcmp(found(), ""), 0);
    tp__bans_destroy(bans);
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_count), CASE(the_check_finds_a_wrong_link))
