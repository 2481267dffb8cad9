/*
 * How those who are turned away are ended: by a reset, and what they are to be told reaches them
 * before. On Linux the system is asked what is left of them on the server's port.
 */
#include "wan_stage.h"
#include "wanserver/wan.h"

static wan_stage stage;

enum { TIMES = 25, TRIES = 100 };

/* ---- what is left with the system ------------------------------------------------------------ */

/* Connections in TIME_WAIT whose own end is the server's; -1: nobody can say. */
static long time_waits(void) {
    enum { IN_TIME_WAIT = 6 };
    unsigned port = tp_server_address(stage.base.server).port;
    FILE *file = fopen("/proc/net/tcp", "r");
    if (!file) {
        return -1;
    }
    long count = 0;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        unsigned own_port, state;
        count += sscanf(line, " %*u: %*[0-9A-F]:%X %*[0-9A-F]:%*X %X", &own_port, &state) == 2 &&
                 own_port == port && state == IN_TIME_WAIT;
    }
    fclose(file);
    return count;
}

/* All connections so far are over, and none of them has left anything. Somebody else's, of an
 * earlier use of the port, may be there, and go. */
static void check_nothing_is_left(long before) {
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    if (before < 0) {
        SKIP("/proc/net/tcp is not there");
    }
    CHECK_LE(time_waits(), before);
}

static raw_peer *connect_raw(void) {
    tp_address address = tp_server_address(stage.base.server);
    return raw_connect(&address);
}

/* ---- in silence ------------------------------------------------------------------------------ */

/* Says this and waits for the end. A connection that is reset before it was seen to stand has been
 * as well. */
static tp_err be_ended(const void *bytes, size_t size) {
    raw_peer *peer = connect_raw();
    if (!peer) {
        return TP_ERR_RESET;
    }
    uint8_t byte;
    if (size > 0) {
        (void)raw_send(peer, bytes, size);
    }
    CHECK(!raw_receive(peer, &byte, 1));
    tp_err end = raw_end(peer);
    raw_close(peer, false); /* in order, as anybody may */
    return end;
}

/* Wine takes a reset that comes between two receives for an orderly end: there it gets more
 * tries. */
static void check_is_reset(const void *bytes, size_t size) {
    tp_err end = be_ended(bytes, size);
    bool may_miss_it = strcmp(tp_server_io(stage.base.server), "iocp") == 0;
    for (unsigned i = 0; may_miss_it && end == TP_ERR_CLOSED && i < TRIES; i++) {
        end = be_ended(bytes, size);
    }
    CHECK_EQ(end, TP_ERR_RESET);
}

static void check_all_are_reset(const void *bytes, size_t size) {
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        check_is_reset(bytes, size);
    }
    check_nothing_is_left(before);
}

static void who_is_denied_is_reset(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    atomic_store(&stage.base.deny, true);
    wan_stage_open(&stage);
    check_all_are_reset("", 0);
    wan_stage_close(&stage);
}

static void who_is_banned_is_reset(void) {
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    CHECK_EQ(tp_wanserver_ban(stage.base.server, &here, 0), TP_OK);
    check_all_are_reset("", 0);
    wan_stage_close(&stage);
}

static void who_says_no_hello_is_reset(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    check_all_are_reset("GET / HTTP/1.1\r\n\r\n", 18);
    wan_stage_close(&stage);
}

static void whose_token_is_not_good_is_reset(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    login.secret[0] ^= 1;
    wan_peer *forger = wan_stage_connect(&stage, &login); /* of whom only the HELLO is of use */
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        check_is_reset(forger->hello, forger->hello_size);
    }
    wan_close(forger, true);
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

/* Says nothing, and is ended by the clock. */
static void who_is_late_is_reset(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.handshake_timeout_ms = 100;
    wan_stage_open(&stage);
    long before = time_waits();
    check_is_reset("", 0);
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

/* ---- with an answer -------------------------------------------------------------------------- */

/* Is told our version. */
static raw_peer *be_told(void) {
    uint8_t reply[TP_REPLY_VERSION];
    raw_peer *peer = connect_raw();
    REQUIRE(peer != NULL);
    CHECK(raw_send(peer, "TPW2", 4));
    CHECK(raw_receive(peer, reply, sizeof reply));
    CHECK_EQ(reply[0], TP_REPLY_IS_VERSION);
    return peer;
}

/* The end is that of the one who was told, so it is in order for both. */
static void who_is_told_hangs_up(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        raw_peer *peer = be_told();
        raw_finish(peer);
        CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
        raw_close(peer, false);
    }
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

static void who_does_not_hang_up_is_reset(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.drain_timeout_ms = 100;
    wan_stage_open(&stage);
    long before = time_waits();
    tp_err end = TP_ERR_CLOSED;
    bool may_miss_it = strcmp(tp_server_io(stage.base.server), "iocp") == 0;
    for (unsigned i = 0; end == TP_ERR_CLOSED && i < (may_miss_it ? TRIES : 1u); i++) {
        raw_peer *peer = be_told();
        end = raw_end(peer);
        raw_close(peer, false);
    }
    CHECK_EQ(end, TP_ERR_RESET);
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

/* CLOSE `full` in a record, to somebody whose handshake was good. */
static void who_finds_it_full_hangs_up(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.max_sessions = 1;
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    long before = time_waits();
    wan_peer *first = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    for (unsigned i = 0; i < TIMES; i++) {
        wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
        CHECK_EQ(wan_receive_close(player), TP_CLOSE_FULL);
        raw_finish(player->raw);
        CHECK_EQ(raw_end(player->raw), TP_ERR_CLOSED);
        wan_close(player, false);
    }
    raw_finish(first->raw);
    (void)raw_end(first->raw);
    wan_close(first, false);
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

/* Who has broken the protocol, or was kicked, is told; then the same holds. */
static void a_joined_one_that_is_not_wanted_hangs_up(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    long before = time_waits();
    for (unsigned i = 0; i < TIMES; i++) {
        wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
        wan_check_echo(player, "in");
        if (i % 2) {
            CHECK(wan_send_frame(player, TP_FRAME_PING, "0123456789abcdef0123456789abcdef!", 33));
            CHECK_EQ(wan_receive_close(player), TP_CLOSE_PROTOCOL);
        } else {
            tp_session_id id = atomic_load(&stage.base.last_joined);
            CHECK(tp_server_turn_away(stage.base.server, id, TP_CLOSE_KICKED));
            CHECK(!tp_server_turn_away(stage.base.server, id, TP_CLOSE_KICKED));
            CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
        }
        raw_finish(player->raw);
        CHECK_EQ(raw_end(player->raw), TP_ERR_CLOSED);
        wan_close(player, false);
    }
    check_nothing_is_left(before);
    wan_stage_close(&stage);
}

CHECK_MAIN(CASE(who_is_denied_is_reset), CASE(who_is_banned_is_reset),
    CASE(who_says_no_hello_is_reset), CASE(whose_token_is_not_good_is_reset),
    CASE(who_is_late_is_reset), CASE(who_is_told_hangs_up), CASE(who_does_not_hang_up_is_reset),
    CASE(who_finds_it_full_hangs_up), CASE(a_joined_one_that_is_not_wanted_hangs_up))
