/*
 * Memory that runs out at each allocation from the first connection to the last message: what was
 * begun is undone, an error is reported, and the server goes on.
 */
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "wan_fixture.h"

static wan_fixture fixture;
static uint8_t in[70000];

/* Each case makes the first allocation fail, then only the second, ... until the attempt needs
 * fewer. */
#define MOST_ALLOCATIONS 200

static uint64_t armed_at;

static void let_fail(long n) {
    armed_at = tp__memory_allocations();
    tp__memory_fail_after(n);
}

/* Whether the n-th allocation was asked for, and so failed. */
static bool did_fail(long n) {
    tp__memory_fail_after(-1);
    return tp__memory_allocations() - armed_at >= (uint64_t)n;
}

static void create_and_start_survive_a_failed_allocation(void) {
    unsigned failures = 0;
    REQUIRE(tp__pools_open() == TP_OK); /* these stay */
    for (long n = 1; n < MOST_ALLOCATIONS; n++) {
        wan_fixture_init(&fixture, TP_AUTH_TOKEN);
        uint64_t before = tp__memory_live();
        let_fail(n);
        tp_server *server = NULL;
        tp_err error = tp_wanserver_create(&fixture.options, &fixture.base.handlers, &server);
        CHECK_EQ(error == TP_OK, server != NULL);
        if (error) {
            CHECK_LE(tp__memory_live(), before);
        } else {
            error = tp_server_start(server);
        }
        bool failed_once = did_fail(n);
        CHECK(error == TP_OK || error == TP_ERR_NO_MEMORY);
        failures += error != TP_OK;
        if (error && server) {
            CHECK_EQ(tp_server_start(server), TP_OK);
        }
        tp_server_destroy(server);
        if (!failed_once) {
            CHECK_EQ(error, TP_OK);
            CHECK_GT(failures, 8);
            return;
        }
    }
    FAIL("no end of allocations");
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.base.server, &stats);
    return stats.received_bytes;
}

/* In two pieces one after the other, unless the first one ends the player. */
static bool send_in_pieces(raw_peer *raw, const uint8_t *bytes, size_t count, size_t first) {
    uint64_t before = received_bytes();
    if (!raw_send(raw, bytes, first)) {
        return false;
    }
    FIXTURE_WAIT(
        received_bytes() >= before + first || atomic_load(&fixture.base.server->slots_used) == 0);
    return raw_send(raw, bytes + first, count - first);
}

/* A HELLO in pieces, a record in pieces, a large message there and back. True: everything
 * arrived. */
static bool play_once(uint64_t account) {
    static uint8_t frame[TP_FRAME_HEADER + 30000];
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, account);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) > 0);
    tp_frame_write(frame, TP_FRAME_DATA, 30000);
    unsigned type = 99;
    bool played = send_in_pieces(peer->raw, peer->hello, peer->hello_size, 20) &&
                  wan_take_reply(peer) && wan_send_ready(peer);
    for (size_t at = 0; played && at < sizeof frame; at += 15002) {
        uint8_t record[WAN_SEALED(15002)];
        wan_seal(peer, frame + at, 15002, record);
        played = send_in_pieces(peer->raw, record, sizeof record, 5000);
    }
    played =
        played && wan_receive_frame(peer, &type, in, sizeof in) == 30000 && type == TP_FRAME_DATA;
    wan_close(peer, false);
    return played;
}

/* Gives all spare memory back, so that the next session allocates as a new server's first one
 * does. */
static void trim_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__send_batch_pool());
}

static void a_player_without_memory_ends_and_the_server_goes_on(void) {
    unsigned ended = 0;
    unsigned pending = 0;
    for (long n = 1; n < MOST_ALLOCATIONS; n++) {
        wan_fixture_init(&fixture, TP_AUTH_TOKEN);
        trim_all_memory();
        wan_fixture_open(&fixture);
        let_fail(n);
        bool played = play_once(1);
        bool failed_once = did_fail(n);
        ended += !played;
        CHECK(play_once(2)); /* the next player is served */
        FIXTURE_WAIT(
            atomic_load(&fixture.base.server->slots_used) == 0 && wan_stats(&fixture).pending == 0);
        tp_server_stats stats = {.size = sizeof stats};
        tp_server_get_stats(fixture.base.server, &stats);
        if (!played) {
            CHECK_GE(stats.no_memory, 1);
            CHECK_GE(stats.errors, 1);
            CHECK_LE(stats.ends[TP_END_NO_MEMORY], 1);
            pending += stats.ends[TP_END_NO_MEMORY] == 0;
        }
        wan_fixture_close(&fixture);
        if (!failed_once) {
            CHECK(played);
            CHECK_GE(ended, 2);
            CHECK_GE(pending, 1);
            printf("    %ld allocations failed one by one; %u players ended by that, %u of them "
                   "before they had joined\n",
                n - 1, ended, pending);
            return;
        }
    }
    FAIL("no end of allocations");
}

/* All allocations fail while players connect and send: all of them end, and none of that is
 * fatal. */
static void exhausted_memory_is_not_fatal(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    CHECK(play_once(1));
    tp__memory_fail_from(1);
    for (unsigned i = 0; i < 20; i++) {
        play_once(2 + i);
    }
    tp__memory_fail_from(-1);
    CHECK(play_once(100));
    wan_fixture_close(&fixture);
}

/* A large message in a record that arrives in two pieces. */
static void check_echo_in_pieces(wan_peer *peer) {
    uint8_t frame[TP_FRAME_HEADER + 15000] = {0};
    uint8_t record[WAN_SEALED(sizeof frame)];
    unsigned type;
    tp_frame_write(frame, TP_FRAME_DATA, 15000);
    wan_seal(peer, frame, sizeof frame, record);
    uint64_t before = received_bytes();
    CHECK(raw_send(peer->raw, record, 5000));
    FIXTURE_WAIT(received_bytes() == before + 5000);
    CHECK(raw_send(peer->raw, record + 5000, sizeof record - 5000));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 15000);
}

/* Waves of players: the memory of the first ones serves the later ones. If each wave kept a chunk,
 * there would be LATER more of them. */
static void later_waves_of_players_take_no_more_memory(void) {
    enum { PLAYERS = 20, WAVES = 10, FIRST = 3, LATER = WAVES - FIRST };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    uint64_t live = 0;
    uint64_t chunks = 0;
    for (unsigned wave = 0; wave < WAVES; wave++) {
        wan_peer *peers[PLAYERS];
        for (unsigned i = 0; i < PLAYERS; i++) {
            peers[i] = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, i);
            wan_check_echo(peers[i], "x");
        }
        for (unsigned i = 0; i < PLAYERS; i++) {
            check_echo_in_pieces(peers[i]);
        }
        for (unsigned i = 0; i < PLAYERS; i++) {
            wan_leave(peers[i]);
        }
        FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == (wave + 1) * PLAYERS);
        if (wave + 1 == FIRST) {
            live = wan_live_but_chunks();
            chunks = tp__chunk_count();
        }
    }
    CHECK_LE(wan_live_but_chunks(), live);
    CHECK_LT(tp__chunk_count(), chunks + LATER);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(create_and_start_survive_a_failed_allocation),
    CASE(a_player_without_memory_ends_and_the_server_goes_on), CASE(exhausted_memory_is_not_fatal),
    CASE(later_waves_of_players_take_no_more_memory))
