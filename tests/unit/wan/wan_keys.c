/*
 * Keys of running sessions: they are changed in time, never used twice with one counter, and wiped
 * when they are no longer needed.
 *
 * Each use is observed by a hook in the record layer; memory is searched (secret_search.h). The
 * server's port fails on request (faulty_port.h).
 */
#include "core/session/pools.h"
#include "faulty_port.h"
#include "secret_search.h"
#include "tests/record_rules.h"
#include "wan_fixture.h"
#include "wanserver/wan.h"

static wan_fixture fixture;
static uint8_t out[200000];
static uint8_t in[200000];

static tp__connection *connection_of(tp_session_id session) {
    return tp__connection_of(&fixture.base.server->sessions[tp_session_slot(session)]);
}

/* ---- no counter twice with a key ------------------------------------------------------------- */

#define SEEN (1u << 16)

typedef struct use {
    uint64_t key_id;
    uint64_t counter; /* with 1 for sealing above all bits that a test reaches */
} use;

static struct {
    tp_mutex mutex;
    use uses[SEEN]; /* open addressing; key_id 0: free */
    unsigned count;
    unsigned sealed;
    unsigned repeated;
    uint64_t largest;
} seen;

static void observe(uint64_t key_id, uint64_t counter, bool sealing, void *context) {
    (void)context;
    use now = {key_id ? key_id : 1, counter ^ (sealing ? UINT64_C(1) << 62 : 0)};
    tp_mutex_lock(&seen.mutex);
    unsigned at = (unsigned)((now.key_id ^ now.counter * 0x9E3779B97F4A7C15u) % SEEN);
    while (seen.uses[at].key_id != 0 && memcmp(&seen.uses[at], &now, sizeof now) != 0) {
        at = (at + 1) % SEEN;
    }
    if (seen.uses[at].key_id != 0) {
        seen.repeated++;
    } else if (seen.count < SEEN / 2) {
        seen.uses[at] = now;
        seen.count++;
    }
    seen.sealed += sealing;
    if (counter != UINT64_MAX && counter > seen.largest) {
        seen.largest = counter;
    }
    tp_mutex_unlock(&seen.mutex);
}

static void observe_from_now(void) {
    memset(&seen, 0, sizeof seen);
    tp_mutex_init(&seen.mutex);
    test_record_observe(observe, NULL);
}

static void stop_observing(void) {
    test_record_observe(NULL, NULL);
    tp_mutex_destroy(&seen.mutex);
    CHECK_EQ(seen.repeated, 0);
    CHECK_LT(seen.count, SEEN / 2);
}

static void play(wan_peer *peer, unsigned messages) {
    for (unsigned i = 0; i < messages; i++) {
        wan_check_echo(peer, "again");
    }
}

/* Keys change every four records, in both directions, while messages are under way. */
static void keys_change_at_their_interval(void) {
    static const tp_suite suites[] = WAN_SUITES;
    test_record_rekey_interval(4);
    observe_from_now();
    for (unsigned i = 0; i < 2; i++) {
        wan_fixture_init(&fixture, TP_AUTH_OPEN);
        wan_fixture_open(&fixture);
        wan_peer *peer = wan_fixture_join(&fixture, suites[i], 1);
        play(peer, 30);
        unsigned type;
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, 60000));
        CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 60000);
        play(peer, 3);
        wan_leave(peer);
        wan_fixture_close(&fixture);
    }
    stop_observing();
    CHECK_GT(seen.count, 2 * 4 * 33);
    test_record_rekey_interval(0);
}

/* Sends that fail, at the start and in the middle; sessions that end with records in flight. */
static void no_counter_is_used_twice_whatever_fails(void) {
    static const tp_suite suites[] = WAN_SUITES;
    test_record_rekey_interval(4);
    observe_from_now();
    for (unsigned i = 0; i < 12; i++) {
        wan_fixture_init(&fixture, TP_AUTH_OPEN);
        faulty_port_reset();
        wan_fixture_open(&fixture);
        wan_peer *peer = wan_fixture_join(&fixture, suites[i % 2], 1);
        play(peer, i);
        atomic_store(&faulty.sends, 1);
        CHECK(wan_send_frame(peer, TP_FRAME_DATA, out, i * 5000));
        FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
        CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_OS);
        CHECK_EQ(atomic_load(&faulty.sends), 0);
        wan_close(peer, false);
        wan_peer *next = wan_fixture_join(&fixture, suites[i % 2], 1);
        play(next, 3);
        wan_close(next, true);
        wan_fixture_close(&fixture);
    }
    stop_observing();
    CHECK_GT(seen.sealed, 12 * 10);
    test_record_rekey_interval(0);
}

/* Many sessions at the same time, with messages for all of them from many threads: no counter is
 * shared. */
static void no_counter_is_used_twice_under_load(void) {
    enum { PLAYERS = 8, ROUNDS = 40 };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.workers = 3;
    observe_from_now();
    wan_fixture_open(&fixture);
    wan_peer *peers[PLAYERS];
    for (unsigned i = 0; i < PLAYERS; i++) {
        peers[i] = wan_fixture_join(
            &fixture, i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305, i);
        wan_check_echo(peers[i], "here");
    }
    atomic_store(&fixture.base.echo, false);
    for (unsigned round = 0; round < ROUNDS; round++) {
        tp_packet *packet = tp_packet_copy_of(out, round * 97);
        REQUIRE(packet != NULL);
        CHECK_EQ(tp_server_broadcast(fixture.base.server, packet, TP_NO_SESSION), PLAYERS);
        tp_packet_release(packet);
        CHECK(wan_send_frame(peers[round % PLAYERS], TP_FRAME_DATA, out, 10));
    }
    for (unsigned i = 0; i < PLAYERS; i++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            unsigned type;
            REQUIRE(wan_receive_frame(peers[i], &type, in, sizeof in) == (long)round * 97);
        }
        wan_leave(peers[i]);
    }
    wan_fixture_close(&fixture);
    stop_observing();
}

/* ---- the end of a counter -------------------------------------------------------------------- */

static uint64_t opening_from, sealing_from;

/* On the worker, at the message "jump": sets the server's counters of both directions, where
 * given. */
static void jump_counters(server_fixture *base, tp_session_id session, tp_packet *packet) {
    if (tp_packet_size(packet) == 4) {
        tp__connection *connection = connection_of(session);
        connection->opening.counter = opening_from ? opening_from : connection->opening.counter;
        connection->sealing.counter = sealing_from ? sealing_from : connection->sealing.counter;
    }
    tp_server_send(base->server, session, packet);
}

static wan_peer *join_and_jump(uint64_t opening, uint64_t sealing) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.base.on_message = jump_counters;
    opening_from = opening;
    sealing_from = sealing;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    unsigned type;
    peer->opening.counter = sealing ? sealing : peer->opening.counter;
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "jump", 4));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 4);
    peer->sealing.counter = opening ? opening : peer->sealing.counter;
    return peer;
}

static void check_key_limit(wan_peer *peer) {
    CHECK_EQ(wan_receive_close(peer), TP_CLOSE_KEY_LIMIT);
    wan_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_KEY_LIMIT);
    CHECK_EQ(wan_stats(&fixture).key_limit, 1);
    wan_fixture_close(&fixture);
}

#define NEAR_END (TP_RECORD_COUNTER_END - TP_RECORD_COUNTER_RESERVE)

static void a_counter_near_its_end_closes_the_session(void) {
    /* Opening: two more records are accepted, and the second of them is the last. */
    wan_peer *peer = join_and_jump(NEAR_END - 2, 0);
    wan_check_echo(peer, "before");
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "last", 5));
    check_key_limit(peer);
    CHECK_EQ(atomic_load(&fixture.base.messages), 3);

    /* Sealing: the answer to "jump" was one record. */
    peer = join_and_jump(0, NEAR_END - 2);
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, "last", 5));
    check_key_limit(peer);
}

/* More is queued than there are counters left: the session ends there without a CLOSE, and no
 * counter wraps. */
static void a_counter_never_wraps(void) {
    observe_from_now();
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.base.on_message = jump_counters;
    opening_from = 0;
    sealing_from = TP_RECORD_COUNTER_END - 3;
    wan_fixture_open(&fixture);
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_CHACHA20_POLY1305, 1);
    uint8_t frames[TP_FRAME_HEADER + 4 + TP_FRAME_HEADER];
    tp_frame_write(frames, TP_FRAME_DATA, 4);
    memcpy(frames + TP_FRAME_HEADER, "jump", 4);
    tp_frame_write(frames + TP_FRAME_HEADER + 4, TP_FRAME_DATA, 65000);
    CHECK(wan_send_record(peer, frames, sizeof frames));
    for (unsigned i = 0; i < 5; i++) {
        (void)wan_send_record(peer, out, 13000); /* the echo needs four records */
    }
    CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
    wan_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_KEY_LIMIT);
    wan_fixture_close(&fixture);
    stop_observing();
    CHECK_LT(seen.largest, TP_RECORD_COUNTER_END);
    CHECK_GE(seen.largest, TP_RECORD_COUNTER_END - 3);
}

/* ---- no secret stays ------------------------------------------------------------------------- */

static void remember_derived(const wan_login *login) {
    uint8_t derived[TP_KEY_SIZE];
    REQUIRE(tp_token_psk(login->secret, derived) == TP_OK);
    remember("psk", derived);
    REQUIRE(tp_token_mac_key(login->secret, derived) == TP_OK);
    remember("mac1's key", derived);
    tp_secure_wipe(derived, sizeof derived);
}

/* Joins and remembers the session's secrets. Of the client's copies only those in its ciphers
 * stay. */
static wan_peer *join_with(tp_suite suite) {
    wan_login login = wan_login_as(&fixture, suite, 1);
    remember("S", login.secret);
    remember_derived(&login);
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    tp_secure_wipe(&login, sizeof login);
    uint8_t bytes[TP_REPLY_WELCOME];
    tp_reply reply;
    CHECK(wan_send_hello(peer));
    REQUIRE(raw_receive(peer->raw, bytes, sizeof bytes));
    REQUIRE(tp_reply_read(&peer->noise, bytes, sizeof bytes, &reply) == TP_OK);
    remember("the key to the server", reply.keys.send);
    remember("the key to the player", reply.keys.receive);
    REQUIRE(tp_record_create_sealing(&peer->sealing, suite, reply.keys.send) == TP_OK);
    REQUIRE(tp_record_create_opening(&peer->opening, suite, reply.keys.receive) == TP_OK);
    tp_secure_wipe(&reply, sizeof reply);
    CHECK(wan_send_ready(peer));
    return peer;
}

/* In a stack frame of its own, which is gone when it returns, whatever the compiler inlines. */
static wan_peer *(*volatile const join_and_remember)(tp_suite suite) = join_with;

static unsigned found(const char *name) {
    unsigned times = 0;
    for (unsigned i = 0; i < needle_count; i++) {
        times += strcmp(needles[i].name, name) == 0 ? needles[i].found : 0;
    }
    return times;
}

/* Overwrites what this thread's own calls have left in its stack: these bytes are not the
 * server's. */
static void clean_own_stack(void) {
    uint8_t dead[65536];
    tp_secure_wipe(dead, sizeof dead);
}

static bool search_all(void) {
    clean_own_stack();
    return search();
}

static void expect_nothing(void) {
    for (unsigned i = 0; i < needle_count; i++) {
        if (needles[i].found > 0) {
            printf("%s: %u times\n", needles[i].name, needles[i].found);
            FAIL("a secret is still in memory");
        }
    }
}

/* Only the server keeps the long-lived keys: the test wipes its copies. */
static wan_peer *open_and_join(tp_suite suite) {
    forget();
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    remember("the gateway's private key", fixture.key.private_key);
    remember("a key of the ring", fixture.ring[0].key);
    wan_peer *peer = join_and_remember(suite);
    wan_check_echo(peer, "x");
    tp_secure_wipe(&fixture.key, sizeof fixture.key);
    tp_secure_wipe(fixture.ring, sizeof fixture.ring);
    return peer;
}

static void leave_and_close(wan_peer *peer) {
    wan_leave(peer);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    wan_fixture_close(&fixture);
}

/* Secrets in use are found, so the search works. Those that are no longer needed are gone while the
 * session exists, and all others after it. */
static void no_secret_stays(tp_suite suite) {
    /* The first call of each function goes through the dynamic linker, which leaves registers on
     * the stack: so everything is called once before the searches. */
    wan_peer *peer = open_and_join(suite);
    bool can = search_all();
    leave_and_close(peer);
    if (!can) {
        SKIP("no /proc/self/mem, or an address sanitizer");
    }
    peer = open_and_join(suite);
    REQUIRE(search_all());
    CHECK_GT(found("the gateway's private key"), 0);
    CHECK_GT(found("a key of the ring"), 0);
    CHECK_GT(found("the key to the server"), 0);
    CHECK_GT(found("the key to the player"), 0);
    CHECK_EQ(found("S") + found("psk") + found("mac1's key"), 0);
    leave_and_close(peer);
    REQUIRE(search_all());
    expect_nothing();
}

static void no_secret_stays_with_aes(void) {
    no_secret_stays(TP_SUITE_AES_256_GCM);
}

static void no_secret_stays_with_chacha(void) {
    no_secret_stays(TP_SUITE_CHACHA20_POLY1305);
}

/* Refused after its token was opened, for its mac1 or because the token was used before: S was in
 * memory, and must be wiped. */
static void refuse_one(bool used_before) {
    wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    remember("S", login.secret);
    remember_derived(&login);
    if (used_before) {
        tp_address address = tp_server_address(fixture.base.server);
        wan_peer *first = wan_join(&address, &login);
        REQUIRE(first != NULL);
        wan_leave(first);
    }
    wan_peer *peer = wan_fixture_connect(&fixture, &login);
    tp_secure_wipe(&login, sizeof login);
    peer->hello[TP_HELLO_TOKEN - 1] ^= !used_before; /* changes mac1 */
    CHECK(wan_send_hello(peer));
    CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
    CHECK_EQ(wan_stats(&fixture).forged + wan_stats(&fixture).replayed, 1);
    wan_close(peer, false);
}

static void (*volatile const refuse)(bool used_before) = refuse_one;

static bool refuse_and_search(bool used_before) {
    forget();
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    refuse(used_before);
    FIXTURE_WAIT(
        wan_stats(&fixture).pending == 0 && atomic_load(&fixture.base.server->slots_used) == 0);
    bool searched = search_all();
    wan_fixture_close(&fixture);
    return searched;
}

static void no_secret_of_a_refused_hello_stays(void) {
    for (unsigned used_before = 0; used_before < 2; used_before++) {
        (void)refuse_and_search(used_before); /* the first time as a warm-up, as above */
        if (!refuse_and_search(used_before)) {
            SKIP("no /proc/self/mem, or an address sanitizer");
        }
        expect_nothing();
    }
}

/* ---- a lost answer --------------------------------------------------------------------------- */

/* The system does not deliver the answer to a worker: the connection ends, and the error is
 * reported. */
static void a_lost_answer_is_reported(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    faulty_port_reset();
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *unlucky = wan_fixture_connect(&fixture, &login);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    tp_log_set_level(TP_LOG_OFF);
    atomic_store(&faulty.posts, 1);
    CHECK(wan_send_hello(unlucky));
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(atomic_load(&faulty.posts), 0);
    CHECK_EQ(wan_stats(&fixture).diffie_hellman, 1);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.base.server, &stats);
    CHECK_EQ(stats.errors, 1);
    wan_close(unlucky, true);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(player, "in");
    wan_leave(player);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(keys_change_at_their_interval), CASE(no_counter_is_used_twice_whatever_fails),
    CASE(no_counter_is_used_twice_under_load), CASE(a_counter_near_its_end_closes_the_session),
    CASE(a_counter_never_wraps), CASE(no_secret_stays_with_aes), CASE(no_secret_stays_with_chacha),
    CASE(no_secret_of_a_refused_hello_stays), CASE(a_lost_answer_is_reported))
