/*
 * The client's table of open requests: each is taken once, by its ticket, its peer or its time-out,
 * and a time-out is neither early nor much late.
 */
#include "check.h"
#include "core/memory/memory.h"
#include "lanclient/client/requests.h"

static tp__request request(tp_ticket ticket, tp_peer_id peer) {
    return (tp__request){.ticket = ticket, .peer = peer};
}

static void add(tp__requests *requests, tp_ticket ticket, uint64_t now, unsigned timeout) {
    REQUIRE(tp__requests_add(requests, request(ticket, 0), now, timeout) == TP_OK);
}

static void each_request_is_taken_once(void) {
    tp__requests requests;
    tp__request taken;
    tp__requests_init(&requests, 100000);
    CHECK(!tp__requests_take(&requests, 1, &taken));
    /* So many that the table grows several times. */
    for (tp_ticket ticket = 1; ticket <= 10000; ticket++) {
        add(&requests, ticket * 3, 1000, 5000);
    }
    CHECK_EQ(tp__requests_open(&requests), 10000);
    CHECK(!tp__requests_take(&requests, 4, &taken));
    for (tp_ticket ticket = 10000; ticket >= 1; ticket--) {
        REQUIRE(tp__requests_take(&requests, ticket * 3, &taken));
        CHECK_EQ(taken.ticket, ticket * 3);
        REQUIRE(!tp__requests_take(&requests, ticket * 3, &taken));
    }
    CHECK_EQ(tp__requests_open(&requests), 0);
    CHECK(!tp__requests_take_due(&requests, UINT64_MAX / 2, &taken));
    tp__requests_destroy(&requests);
}

static void the_limit_holds(void) {
    tp__requests requests;
    tp__request taken;
    tp__requests_init(&requests, 3);
    for (tp_ticket ticket = 1; ticket <= 3; ticket++) {
        add(&requests, ticket, 0, 1000);
    }
    CHECK_EQ(tp__requests_add(&requests, request(4, 0), 0, 1000), TP_ERR_FULL);
    CHECK(tp__requests_take(&requests, 2, &taken));
    CHECK_EQ(tp__requests_add(&requests, request(4, 0), 0, 1000), TP_OK);
    tp__requests_destroy(&requests);
}

/* A request is never due before its time, and at the latest at the first look that is a tick after
 * it. */
static void check_due(tp__requests *requests, uint64_t added, unsigned timeout, unsigned step) {
    tp__request taken;
    uint64_t now = added;
    while (!tp__requests_take_due(requests, now, &taken)) {
        now += step;
        REQUIRE(now < added + timeout + 2 * TP__REQUEST_TICK_MS + step);
    }
    CHECK_GE(now, added + timeout);
}

static void a_time_out_is_never_early_and_soon_found(void) {
    tp__requests requests;
    tp__requests_init(&requests, 10);
    uint64_t now = 123456789;
    static const unsigned timeouts[] = {1, 15, 16, 17, 500, 8191, 8192, 8193, 60000, 86400000};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        add(&requests, 1, now, timeouts[i]);
        check_due(&requests, now, timeouts[i], timeouts[i] > 100000 ? 5000 : 7);
        now += 100000 + timeouts[i];
    }
    tp__requests_destroy(&requests);
}

/* A thread may add a request with a time that it read before another thread's look, whose slot has
 * passed meanwhile. The next look must find it, not the look one round of the wheel later. */
static void a_request_added_late_is_found_at_the_next_look(void) {
    tp__requests requests;
    tp__request taken;
    tp__requests_init(&requests, 10);
    add(&requests, 1, 1000, 60000); /* so that the wheel is not empty */
    uint64_t now = 1000 + 200 * TP__REQUEST_TICK_MS;
    CHECK(!tp__requests_take_due(&requests, now, &taken));
    add(&requests, 2, 1000, 10);
    CHECK(!tp__requests_take_due(&requests, now, &taken)); /* this tick's slot has been passed */
    REQUIRE(tp__requests_take_due(&requests, now + TP__REQUEST_TICK_MS, &taken));
    CHECK_EQ(taken.ticket, 2);
    CHECK_EQ(tp__requests_open(&requests), 1);
    tp__requests_destroy(&requests);
}

/* One look takes everything that is due, whatever its slot, and nothing else. */
static void a_late_look_finds_everything_that_is_due(void) {
    tp__requests requests;
    tp__request taken;
    tp__requests_init(&requests, 100000);
    for (tp_ticket ticket = 1; ticket <= 20000; ticket++) {
        add(&requests, ticket, 1000, ticket);
    }
    unsigned found = 0;
    while (tp__requests_take_due(&requests, 1000 + 15000, &taken)) {
        CHECK_LE(taken.ticket, 15000);
        found++;
    }
    CHECK_GT(found, 15000 - 2 * TP__REQUEST_TICK_MS);
    CHECK_EQ(tp__requests_open(&requests), 20000 - found);
    while (tp__requests_take_due(&requests, 1000 + 20000 + 20, &taken)) {
        found++;
    }
    CHECK_EQ(found, 20000);
    tp__requests_destroy(&requests);
}

static void requests_to_a_lost_peer_are_taken(void) {
    tp__requests requests;
    tp__request taken;
    tp__requests_init(&requests, 1000);
    for (tp_ticket ticket = 1; ticket <= 300; ticket++) {
        REQUIRE(tp__requests_add(&requests, request(ticket, ticket % 3), 0, 1000) == TP_OK);
    }
    uint32_t from = 0;
    unsigned found = 0;
    while (tp__requests_take_next(&requests, 2, &from, &taken)) {
        CHECK_EQ(taken.peer, 2);
        found++;
    }
    CHECK_EQ(found, 100);
    from = 0;
    while (tp__requests_take_next(&requests, TP_NO_PEER, &from, &taken)) {
        found++;
    }
    CHECK_EQ(found, 300);
    tp__requests_destroy(&requests);
}

static void memory_is_given_back_and_its_failure_is_harmless(void) {
    tp__requests requests;
    tp__request taken;
    uint64_t live = tp__memory_live();
    tp__requests_init(&requests, 1000);
    for (long n = 1; n <= 2; n++) {
        tp__memory_fail_after(n);
        CHECK_EQ(tp__requests_add(&requests, request(1, 0), 0, 10), TP_ERR_NO_MEMORY);
    }
    for (tp_ticket ticket = 1; ticket <= 64; ticket++) {
        add(&requests, ticket, 0, 1000);
    }
    tp__memory_fail_after(2);
    CHECK_EQ(tp__requests_add(&requests, request(65, 0), 0, 10), TP_ERR_NO_MEMORY);
    CHECK_EQ(tp__requests_open(&requests), 64);
    add(&requests, 65, 0, 1000);
    tp__requests_trim(&requests); /* in use: nothing happens */
    for (tp_ticket ticket = 1; ticket <= 65; ticket++) {
        CHECK(tp__requests_take(&requests, ticket, &taken));
    }
    tp__requests_trim(&requests);
    CHECK_EQ(tp__memory_live(), live);
    add(&requests, 66, 0, 1000);
    CHECK(tp__requests_take(&requests, 66, &taken));
    tp__requests_destroy(&requests);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(each_request_is_taken_once), CASE(the_limit_holds),
    CASE(a_time_out_is_never_early_and_soon_found),
    CASE(a_request_added_late_is_found_at_the_next_look),
    CASE(a_late_look_finds_everything_that_is_due), CASE(requests_to_a_lost_peer_are_taken),
    CASE(memory_is_given_back_and_its_failure_is_harmless))
