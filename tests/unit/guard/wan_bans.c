/*
 * The table of bans: networks, expiry, capacity, replacement as a whole, against a plain model, and
 * under many threads.
 */
#include "check.h"

#include "core/memory/memory.h"
#include "os/thread.h"
#include "wanserver/guard/bans.h"

static tp__bans *make(void) {
    tp__bans *bans = NULL;
    REQUIRE(tp__bans_create(&bans) == TP_OK);
    return bans;
}

static tp_network network(const char *text) {
    tp_network network;
    REQUIRE(tp_network_parse(text, &network) == TP_OK);
    return network;
}

static tp_err add(tp__bans *bans, const char *text, uint64_t until_ms, uint64_t now_ms) {
    const tp_network whom = network(text);
    return tp__bans_add(bans, &whom, until_ms, now_ms);
}

static bool lift(tp__bans *bans, const char *text, uint64_t now_ms) {
    const tp_network whom = network(text);
    return tp__bans_lift(bans, &whom, now_ms);
}

static bool admits(tp__bans *bans, const char *text, uint64_t now_ms) {
    tp_address from;
    REQUIRE(tp_address_parse(text, &from) == TP_OK);
    return tp__bans_admit(bans, &from, now_ms);
}

static void networks_are_banned(void) {
    tp__bans *bans = make();
    CHECK(admits(bans, "10.1.2.3", 0));
    CHECK_EQ(add(bans, "10.1.2.3", 0, 0), TP_OK);
    CHECK_EQ(add(bans, "192.168.4.0/22", 0, 0), TP_OK);
    CHECK_EQ(add(bans, "2001:db8:5::/48", 0, 0), TP_OK);
    CHECK_EQ(add(bans, "2001:db8::7", 0, 0), TP_OK);
    CHECK(!admits(bans, "10.1.2.3", 0));
    CHECK(!admits(bans, "[::ffff:10.1.2.3]:80", 0));
    CHECK(admits(bans, "10.1.2.2", 0));
    CHECK(!admits(bans, "192.168.4.0", 0));
    CHECK(!admits(bans, "192.168.7.255", 0));
    CHECK(admits(bans, "192.168.8.0", 0));
    CHECK(admits(bans, "192.168.3.255", 0));
    CHECK(!admits(bans, "2001:db8:5:ffff::1", 0));
    CHECK(admits(bans, "2001:db8:6::1", 0));
    CHECK(!admits(bans, "2001:db8::7", 0));
    CHECK(admits(bans, "2001:db8::8", 0));
    CHECK_EQ(tp__bans_count(bans), 4);
    CHECK_EQ(add(bans, "0.0.0.0/0", 0, 0), TP_OK);
    CHECK(!admits(bans, "8.8.8.8", 0));
    CHECK(admits(bans, "2001:db8::8", 0));
    CHECK_EQ(add(bans, "::/0", 0, 0), TP_OK);
    CHECK(!admits(bans, "2001:db8::8", 0));
    tp__bans_destroy(bans);
}

static void bans_are_lifted(void) {
    tp__bans *bans = make();
    CHECK_EQ(add(bans, "10.0.0.0/8", 0, 0), TP_OK);
    CHECK(!lift(bans, "10.0.0.0/9", 0));
    CHECK(!lift(bans, "10.1.2.3", 0));
    CHECK(!admits(bans, "10.1.2.3", 0));
    CHECK(lift(bans, "10.0.0.0/8", 0));
    CHECK(!lift(bans, "10.0.0.0/8", 0));
    CHECK(admits(bans, "10.1.2.3", 0));
    CHECK_EQ(tp__bans_count(bans), 0);
    tp__bans_destroy(bans);
}

static void bans_expire(void) {
    tp__bans *bans = make();
    CHECK_EQ(add(bans, "10.1.2.3", 2000, 1000), TP_OK);
    CHECK_EQ(add(bans, "10.1.0.0/16", 3000, 1000), TP_OK);
    CHECK_EQ(add(bans, "10.0.0.0/8", 1500, 1000), TP_OK);
    CHECK(!admits(bans, "10.2.0.1", 1499));
    CHECK(admits(bans, "10.2.0.1", 1500));
    CHECK(!admits(bans, "10.1.2.3", 2000)); /* the /16 is still banned */
    CHECK(!admits(bans, "10.1.2.3", 2999));
    CHECK(admits(bans, "10.1.2.3", 3000));
    CHECK_EQ(tp__bans_count(bans), 0); /* expired bans were removed when they matched */
    /* Banned again: the last ban's time counts, whether longer or shorter. */
    CHECK_EQ(add(bans, "10.1.2.3", 5000, 4000), TP_OK);
    CHECK_EQ(add(bans, "10.1.2.3", 6000, 4000), TP_OK);
    CHECK(!admits(bans, "10.1.2.3", 5999));
    CHECK_EQ(add(bans, "10.1.2.3", 0, 4000), TP_OK);
    CHECK(!admits(bans, "10.1.2.3", UINT64_MAX));
    CHECK_EQ(add(bans, "10.1.2.3", 7000, 4000), TP_OK);
    CHECK_EQ(tp__bans_count(bans), 1);
    CHECK(!lift(bans, "10.1.2.3", 7000)); /* it has expired already */
    CHECK_EQ(tp__bans_count(bans), 0);
    tp__bans_destroy(bans);
}

static void invalid_networks_are_refused(void) {
    tp__bans *bans = make();
    tp_network wrong = network("10.0.0.0/8");
    wrong.ip[15] = 1;
    CHECK_EQ(tp__bans_add(bans, &wrong, 0, 0), TP_ERR_INVALID);
    CHECK(!tp__bans_lift(bans, &wrong, 0));
    wrong = network("::1");
    wrong.bits = 129;
    CHECK_EQ(tp__bans_add(bans, &wrong, 0, 0), TP_ERR_INVALID);
    CHECK(!tp__bans_lift(bans, &wrong, 0));
    CHECK_EQ(tp__bans_count(bans), 0);
    tp__bans_destroy(bans);
}

static tp_network nth(unsigned n) {
    return (tp_network){.ip = {0xfd, 0, 0, (uint8_t)(n >> 8), (uint8_t)n}, .bits = 40};
}

static void the_number_of_bans_is_bounded(void) {
    tp__bans *bans = make();
    for (unsigned i = 0; i < TP__BANS_MAX; i++) {
        const tp_network whom = nth(i);
        CHECK_EQ(tp__bans_add(bans, &whom, i == 17 ? 500 : 1000, 0), TP_OK);
    }
    const tp_network more = nth(TP__BANS_MAX);
    CHECK_EQ(tp__bans_add(bans, &more, 0, 0), TP_ERR_FULL);
    CHECK_EQ(tp__bans_count(bans), TP__BANS_MAX);
    const tp_network last = nth(TP__BANS_MAX - 1);
    CHECK_EQ(tp__bans_add(bans, &last, 1000, 0), TP_OK); /* it is one of them */
    for (unsigned i = 0; i <= TP__BANS_MAX; i++) {
        tp_address from = {.ip = {0}};
        const tp_network whom = nth(i);
        memcpy(from.ip, whom.ip, sizeof from.ip);
        from.ip[15] = 1;
        CHECK_EQ(tp__bans_admit(bans, &from, 0), i == TP__BANS_MAX);
    }
    CHECK_EQ(tp__bans_add(bans, &more, 1000, 500), TP_OK); /* in place of the 17th */
    CHECK_EQ(tp__bans_count(bans), TP__BANS_MAX);
    const tp_network another = nth(TP__BANS_MAX + 1);
    CHECK_EQ(tp__bans_add(bans, &another, 0, 500), TP_ERR_FULL);
    CHECK_EQ(tp__bans_add(bans, &another, 0, 1000), TP_OK); /* all others have expired */
    CHECK_EQ(tp__bans_count(bans), 1);
    tp__bans_destroy(bans);
}

/* The new ban's chain had an entry that was removed for it. */
static void expired_bans_are_replaced_in_any_chain(void) {
    tp__bans *bans = make();
    for (unsigned round = 1; round <= 30; round++) {
        const uint64_t now_ms = 1000 * round;
        for (unsigned i = 0; tp__bans_count(bans) < TP__BANS_MAX; i++) {
            const tp_network whom = nth(i);
            CHECK_EQ(tp__bans_add(bans, &whom, now_ms + 500, now_ms), TP_OK);
        }
        const tp_network more = nth(TP__BANS_MAX + round);
        CHECK_EQ(tp__bans_add(bans, &more, now_ms + 600, now_ms + 500), TP_OK);
        CHECK_EQ(tp__bans_count(bans), 1);
        tp_address from = {.ip = {0}};
        memcpy(from.ip, more.ip, sizeof from.ip);
        CHECK(!tp__bans_admit(bans, &from, now_ms + 500));
    }
    tp__bans_destroy(bans);
}

static void bans_are_replaced_as_a_whole(void) {
    tp__bans *bans = make();
    CHECK_EQ(add(bans, "10.0.0.0/8", 0, 0), TP_OK);
    CHECK_EQ(add(bans, "11.0.0.0/16", 1000, 0), TP_OK);
    tp_ban list[] = {{.network = network("11.0.0.0/16"), .seconds = 4},
        {.network = network("12.0.0.1"), .seconds = 8},
        {.network = network("12.0.0.1"), .seconds = 6}, {.network = network("::1")}};
    list[3].network.bits = 129;
    CHECK_EQ(tp__bans_replace(bans, list, 4, 1000), TP_ERR_INVALID);
    list[3] = (tp_ban){.network = network("::1"), .seconds = UINT64_MAX / 1000};
    CHECK_EQ(tp__bans_replace(bans, list, 4, 1000), TP_ERR_INVALID);
    CHECK(!admits(bans, "10.0.0.1", 0));
    CHECK(admits(bans, "12.0.0.1", 0));

    CHECK_EQ(tp__bans_replace(bans, list, 3, 1000), TP_OK);
    CHECK_EQ(tp__bans_count(bans), 2);
    CHECK(admits(bans, "10.0.0.1", 0));
    CHECK(!admits(bans, "11.0.0.1", 4999));
    CHECK(!admits(bans, "12.0.0.1", 6999));
    CHECK(admits(bans, "12.0.0.1", 7000)); /* the last entry counts */
    CHECK(admits(bans, "11.0.0.1", 5000));
    CHECK_EQ(tp__bans_count(bans), 0);

    static tp_ban many[TP__BANS_MAX + 1];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i <= TP__BANS_MAX; i++) {
            many[i] = (tp_ban){.network = nth(round * 100 + i)};
        }
        CHECK_EQ(tp__bans_replace(bans, many, TP__BANS_MAX + 1, 0), TP_ERR_FULL);
        CHECK_EQ(tp__bans_replace(bans, many, TP__BANS_MAX, 0), TP_OK);
        CHECK_EQ(tp__bans_count(bans), TP__BANS_MAX);
        const tp_network more = nth(round * 100 + TP__BANS_MAX);
        CHECK_EQ(tp__bans_add(bans, &more, 0, 0), TP_ERR_FULL);
    }
    CHECK_EQ(tp__bans_replace(bans, NULL, 0, 0), TP_OK);
    CHECK_EQ(tp__bans_count(bans), 0);
    CHECK(admits(bans, "10.0.0.1", 0));
    tp__bans_destroy(bans);
}

/* ---- against a model ------------------------------------------------------------------------- */

enum { NETWORKS = 60, STEPS = 40000 };

static void random_histories_match_the_model(void) {
    tp__bans *bans = make();
    /* Prefixes of addresses with few bits, so that they nest. */
    static tp_network networks[NETWORKS];
    static uint64_t until[NETWORKS]; /* 0: not banned */
    unsigned denied = 0;
    uint32_t random = 31337;
    for (unsigned i = 0; i < NETWORKS; i++) {
        random = random * 1664525u + 1013904223u;
        unsigned bits = (random >> 8) % 13;
        networks[i].ip[0] = (uint8_t)(random >> 16 & 0xff00u >> (bits < 8 ? bits : 8));
        networks[i].ip[1] = (uint8_t)(bits > 8 ? random >> 24 & 0xff00u >> (bits - 8) : 0u);
        networks[i].bits = (uint8_t)bits;
        for (unsigned j = 0; j < i; j++) { /* no network twice */
            if (networks[j].bits == bits && memcmp(networks[j].ip, networks[i].ip, 16) == 0) {
                i--;
                break;
            }
        }
    }
    uint64_t now = 1;
    for (unsigned step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        unsigned which = (random >> 8) % NETWORKS;
        unsigned what = random >> 28;
        random = random * 1664525u + 1013904223u;
        if (what == 0) {
            until[which] = now + 1 + (random >> 8) % 100;
            CHECK_EQ(tp__bans_add(bans, &networks[which], until[which], now), TP_OK);
        } else if (what == 1) {
            CHECK_EQ(tp__bans_lift(bans, &networks[which], now), until[which] > now);
            until[which] = 0;
        } else {
            const tp_address from = {.ip = {(uint8_t)(random >> 8), (uint8_t)(random >> 16)}};
            bool banned = false;
            for (unsigned i = 0; i < NETWORKS; i++) {
                banned |= until[i] > now && tp_network_contains(&networks[i], &from);
            }
            CHECK_EQ(tp__bans_admit(bans, &from, now), !banned);
            denied += banned;
        }
        now += random >> 27 == 0 ? 20 : 0;
    }
    CHECK_GT(denied, STEPS / 20);
    CHECK_LT(denied, STEPS - STEPS / 20);
    tp__bans_destroy(bans);
}

/* ---- many threads, and memory ---------------------------------------------------------------- */

enum { ROUNDS = 20000 };

static void ban_and_lift(void *argument) {
    tp__bans *bans = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const tp_network whom = nth(i % 50);
        CHECK_EQ(tp__bans_add(bans, &whom, 0, i), TP_OK);
        CHECK(tp__bans_lift(bans, &whom, i));
    }
}

static void threads_share_the_bans(void) {
    tp__bans *bans = make();
    CHECK_EQ(add(bans, "10.0.0.0/8", 0, 0), TP_OK);
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "ban", ban_and_lift, bans) == TP_OK);
    for (unsigned i = 0; i < ROUNDS; i++) {
        CHECK(!admits(bans, "10.1.2.3", i));
        CHECK(admits(bans, "11.1.2.3", i));
    }
    tp_thread_join(&thread);
    CHECK_EQ(tp__bans_count(bans), 1);
    tp__bans_destroy(bans);
}

static void memory_is_allocated_at_create_only(void) {
    uint64_t live = tp__memory_live();
    tp__bans *bans = NULL;
    tp__memory_fail_after(1);
    CHECK_EQ(tp__bans_create(&bans), TP_ERR_NO_MEMORY);
    CHECK(bans == NULL);
    tp__memory_fail_after(-1);
    bans = make();
    uint64_t allocations = tp__memory_allocations();
    for (unsigned i = 0; i < 2 * TP__BANS_MAX; i++) {
        const tp_network whom = nth(i);
        (void)tp__bans_add(bans, &whom, 0, 0);
    }
    CHECK_EQ(tp__memory_allocations(), allocations);
    tp__bans_destroy(bans);
    tp__bans_destroy(NULL);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(networks_are_banned), CASE(bans_are_lifted), CASE(bans_expire),
    CASE(invalid_networks_are_refused), CASE(the_number_of_bans_is_bounded),
    CASE(expired_bans_are_replaced_in_any_chain), CASE(bans_are_replaced_as_a_whole),
    CASE(random_histories_match_the_model), CASE(threads_share_the_bans),
    CASE(memory_is_allocated_at_create_only))
