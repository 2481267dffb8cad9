/*
 * Records that are not as they were sealed: changed, cut, swapped, repeated, reflected, of other
 * sessions, of impossible lengths. Each ends its session silently, and none of its plaintext
 * reaches a handler. Valid records are accepted in whatever pieces they arrive.
 */
#include "core/memory/memory.h"
#include "wan_fixture.h"

static wan_fixture fixture;
static uint8_t in[40000];

/* The server's counters include the session before on_left is called. */
static void on_left(server_fixture *of, tp_session_id session, tp_end_reason reason) {
    (void)session;
    if (reason == TP_END_TAMPERED) {
        CHECK_EQ(wan_stats(&fixture).tampered, atomic_load(&of->leaves) + 1);
    }
}

static void open_fixture(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.base.on_left = on_left;
    wan_fixture_open(&fixture);
}

/* Checks that the session was ended as tampered with, without another byte, after `messages`
 * delivered in all. */
static void check_tampered(wan_peer *peer, unsigned leaves, unsigned messages) {
    uint8_t byte;
    CHECK(!raw_receive(peer->raw, &byte, 1));
    CHECK_NE(raw_end(peer->raw), TP_ERR_TIMED_OUT);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == leaves);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_TAMPERED);
    CHECK_EQ(atomic_load(&fixture.base.messages), messages);
    wan_close(peer, true);
}

/* ---- every bit ------------------------------------------------------------------------------- */

/* As many bytes as any length in a changed header needs. */
static const uint8_t filler[TP_RECORD_HEADER + TP_RECORD_MAX];

/* The stream may break while it is sent, because the server closes it. */
static void send_changed(wan_peer *peer, const uint8_t *record, size_t size, size_t bit) {
    uint8_t changed[64];
    memcpy(changed, record, size);
    changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (raw_send(peer->raw, changed, size) && bit < 16) {
        (void)raw_send(peer->raw, filler, sizeof filler);
    }
}

static void check_every_bit_of_a_record(tp_suite suite) {
    enum { SIZE = WAN_SEALED(TP_FRAME_HEADER + 5) };
    open_fixture();
    for (size_t bit = 0; bit < SIZE * 8; bit++) {
        wan_peer *peer = wan_fixture_join(&fixture, suite, 1);
        uint8_t frame[TP_FRAME_HEADER + 5] = {5, 0, 0, TP_FRAME_DATA, 'h', 'e', 'l', 'l', 'o'};
        uint8_t record[SIZE];
        wan_seal(peer, frame, sizeof frame, record);
        send_changed(peer, record, SIZE, bit);
        check_tampered(peer, (unsigned)bit + 1, 0);
    }
    wan_fixture_close(&fixture);
}

static void a_changed_bit_of_a_record_ends_the_session(void) {
    check_every_bit_of_a_record(TP_SUITE_AES_256_GCM);
    check_every_bit_of_a_record(TP_SUITE_CHACHA20_POLY1305);
}

/* A changed first record, which would complete the login: there is no session and no slot is
 * taken. */
static void a_changed_bit_of_the_first_record_is_refused(void) {
    enum { SIZE = WAN_SEALED(TP_FRAME_HEADER) };
    open_fixture();
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    for (size_t bit = 0; bit < SIZE * 8; bit++) {
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        const uint8_t frame[TP_FRAME_HEADER] = {0, 0, 0, TP_FRAME_READY};
        uint8_t record[SIZE];
        uint8_t byte;
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        wan_seal(peer, frame, sizeof frame, record);
        send_changed(peer, record, SIZE, bit);
        CHECK(!raw_receive(peer->raw, &byte, 1));
        wan_close(peer, true);
    }
    FIXTURE_WAIT(wan_stats(&fixture).not_ready == SIZE * 8);
    CHECK_EQ(wan_stats(&fixture).established, 0);
    CHECK_EQ(wan_stats(&fixture).tampered, 0);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    wan_fixture_close(&fixture);
}

/* ---- the right records at the wrong place ---------------------------------------------------- */

enum { MESSAGE = TP_FRAME_HEADER + 1, SEALED = WAN_SEALED(MESSAGE) };

static void seal_message(wan_peer *peer, char text, uint8_t *record) {
    const uint8_t frame[MESSAGE] = {1, 0, 0, TP_FRAME_DATA, (uint8_t)text};
    wan_seal(peer, frame, sizeof frame, record);
}

static void missing_repeated_or_swapped_records_end_the_session(void) {
    static const struct {
        unsigned order[3]; /* of the records 0, 1, 2 */
        unsigned good;     /* how many of them are valid */
    } cases[] = {{{1, 2, 2}, 0}, {{0, 2, 1}, 1}, {{1, 0, 2}, 0}, {{0, 0, 1}, 1}, {{0, 1, 1}, 2},
        {{0, 1, 0}, 2}};
    open_fixture();
    unsigned messages = 0;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wan_peer *peer = wan_fixture_join(
            &fixture, i % 2 ? TP_SUITE_AES_256_GCM : TP_SUITE_CHACHA20_POLY1305, 1);
        uint8_t records[3][SEALED];
        uint8_t stream[3 * SEALED];
        unsigned type;
        for (unsigned r = 0; r < 3; r++) {
            seal_message(peer, (char)('a' + r), records[r]);
        }
        for (unsigned r = 0; r < 3; r++) {
            memcpy(stream + r * SEALED, records[cases[i].order[r]], SEALED);
        }
        /* Valid records first, until they are answered: a reset could overtake the answer. */
        CHECK(raw_send(peer->raw, stream, cases[i].good * SEALED));
        for (unsigned good = 0; good < cases[i].good; good++) {
            CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 1);
            CHECK_EQ(in[0], 'a' + good);
        }
        messages += cases[i].good;
        (void)raw_send(peer->raw, stream + cases[i].good * SEALED, (3 - cases[i].good) * SEALED);
        check_tampered(peer, i + 1, messages);
    }
    wan_fixture_close(&fixture);
}

/* The server's own record, and another player's record with the same number. */
static void records_of_others_do_not_open(void) {
    open_fixture();
    wan_peer *mirror = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    uint8_t record[SEALED];
    CHECK(wan_send_frame(mirror, TP_FRAME_DATA, "a", 1));
    CHECK(raw_receive(mirror->raw, record, SEALED));
    CHECK(raw_send(mirror->raw, record, SEALED));
    check_tampered(mirror, 1, 1);

    wan_peer *one = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *other = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    seal_message(other, 'b', record);
    CHECK(raw_send(one->raw, record, SEALED));
    check_tampered(one, 2, 1);
    CHECK(raw_send(other->raw, record, SEALED)); /* in its own session it is valid */
    unsigned type;
    CHECK_EQ(wan_receive_frame(other, &type, in, sizeof in), 1);
    wan_leave(other);
    wan_fixture_close(&fixture);
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* Refused for the two bytes alone: nothing else is sent, and no memory is taken for the announced
 * length. */
static void impossible_lengths_end_the_session(void) {
    static const size_t lengths[] = {0, 1, 16, 16401, 32768, 65535};
    open_fixture();
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
        wan_check_echo(peer, "x");
        const uint8_t header[] = {(uint8_t)(lengths[i] & 0xff), (uint8_t)(lengths[i] >> 8)};
        uint64_t before = tp__memory_live();
        CHECK(raw_send(peer->raw, header, sizeof header));
        uint8_t byte;
        CHECK(!raw_receive(peer->raw, &byte, 1));
        CHECK_EQ(tp__memory_live(), before);
        check_tampered(peer, i + 1, i + 1);
    }
    wan_fixture_close(&fixture);
}

static void the_longest_and_the_shortest_record_are_accepted(void) {
    open_fixture();
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    static uint8_t plain[TP_RECORD_PLAIN_MAX];
    tp_frame_write(plain, TP_FRAME_DATA, sizeof plain - TP_FRAME_HEADER);
    unsigned type;
    CHECK(wan_send_record(peer, plain, sizeof plain));
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), sizeof plain - TP_FRAME_HEADER);
    tp_frame_write(plain, TP_FRAME_DATA, 2);
    for (unsigned i = 0; i < TP_FRAME_HEADER + 2; i++) {
        CHECK(wan_send_record(peer, plain + i, 1));
    }
    CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), 2);
    wan_leave(peer);
    wan_fixture_close(&fixture);
}

/* ---- in pieces ------------------------------------------------------------------------------- */

/* READY and three messages in three records; the second record holds the end of one message and the
 * beginning of another. */
enum {
    TEXT = 20,
    FRAMES = TP_FRAME_HEADER + 3 * (TP_FRAME_HEADER + TEXT),
    RECORDS = FRAMES + 3 * TP_RECORD_OVERHEAD
};

static void seal_three(wan_peer *peer, uint8_t *stream) {
    uint8_t frames[FRAMES];
    tp_frame_write(frames, TP_FRAME_READY, 0);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t *frame = frames + TP_FRAME_HEADER + i * (TP_FRAME_HEADER + TEXT);
        tp_frame_write(frame, TP_FRAME_DATA, TEXT);
        memset(frame + TP_FRAME_HEADER, 'a' + (int)i, TEXT);
    }
    static const size_t ends[] = {0, 17, 46, FRAMES};
    for (unsigned i = 0; i < 3; i++) {
        wan_seal(peer, frames + ends[i], ends[i + 1] - ends[i], stream);
        stream += WAN_SEALED(ends[i + 1] - ends[i]);
    }
}

static void check_three_come_back(wan_peer *peer) {
    for (unsigned i = 0; i < 3; i++) {
        unsigned type;
        uint8_t text[TEXT];
        memset(text, 'a' + (int)i, sizeof text);
        CHECK_EQ(wan_receive_frame(peer, &type, in, sizeof in), TEXT);
        CHECK_MEM(in, text, TEXT);
    }
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.base.server, &stats);
    return stats.received_bytes;
}

/* Sends the bytes so that the server receives the first `cut` of them in a delivery of their
 * own. */
static void send_cut(wan_peer *peer, const uint8_t *bytes, size_t size, size_t cut) {
    uint64_t before = received_bytes();
    CHECK(raw_send(peer->raw, bytes, cut));
    FIXTURE_WAIT(received_bytes() == before + cut);
    CHECK(raw_send(peer->raw, bytes + cut, size - cut));
}

static void check_every_cut_of_the_records(tp_suite suite) {
    open_fixture();
    const wan_login login = wan_login_as(&fixture, suite, 1);
    for (size_t cut = 1; cut < RECORDS; cut++) {
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        uint8_t stream[RECORDS];
        CHECK(wan_send_hello(peer));
        CHECK(wan_take_reply(peer));
        seal_three(peer, stream);
        send_cut(peer, stream, sizeof stream, cut);
        check_three_come_back(peer);
        wan_leave(peer);
    }
    wan_fixture_close(&fixture);
}

static void records_may_arrive_in_any_two_pieces(void) {
    check_every_cut_of_the_records(TP_SUITE_AES_256_GCM);
    check_every_cut_of_the_records(TP_SUITE_CHACHA20_POLY1305);
}

static void a_hello_may_arrive_in_any_two_pieces(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_fixture_init(&fixture, (tp_auth)auth);
        wan_fixture_open(&fixture);
        for (size_t cut = 1;
             cut < tp_hello_size(auth == TP_AUTH_OPEN ? TP_MODE_OPEN : TP_MODE_TOKEN); cut++) {
            const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, cut);
            wan_peer *peer = wan_fixture_connect(&fixture, &login);
            uint8_t stream[RECORDS];
            send_cut(peer, peer->hello, peer->hello_size, cut);
            CHECK(wan_take_reply(peer));
            seal_three(peer, stream);
            CHECK(raw_send(peer->raw, stream, sizeof stream));
            check_three_come_back(peer);
            wan_leave(peer);
        }
        wan_fixture_close(&fixture);
    }
}

static void send_bytewise(wan_peer *peer, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        uint64_t before = received_bytes();
        CHECK(raw_send(peer->raw, bytes + i, 1));
        FIXTURE_WAIT(received_bytes() == before + 1);
    }
}

static void everything_may_arrive_byte_by_byte(void) {
    for (unsigned auth = TP_AUTH_TOKEN; auth <= TP_AUTH_OPEN; auth++) {
        wan_fixture_init(&fixture, (tp_auth)auth);
        wan_fixture_open(&fixture);
        const wan_login login = wan_login_as(&fixture, TP_SUITE_CHACHA20_POLY1305, 1);
        wan_peer *peer = wan_fixture_connect(&fixture, &login);
        uint8_t stream[RECORDS];
        send_bytewise(peer, peer->hello, peer->hello_size);
        CHECK(wan_take_reply(peer));
        seal_three(peer, stream);
        send_bytewise(peer, stream, sizeof stream);
        check_three_come_back(peer);
        wan_leave(peer);
        wan_fixture_close(&fixture);
    }
}

/* A record that is begun and never ends: its memory is freed with the session. */
static void a_record_that_never_ends_is_freed(void) {
    open_fixture();
    wan_peer *peer = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(peer, "x");
    const uint8_t begun[] = {0xff, 0x3f, 1, 2, 3};
    uint64_t before = received_bytes();
    CHECK(raw_send(peer->raw, begun, sizeof begun));
    FIXTURE_WAIT(received_bytes() == before + sizeof begun);
    raw_finish(peer->raw);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_TRUNCATED);
    wan_close(peer, false);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_changed_bit_of_a_record_ends_the_session),
    CASE(a_changed_bit_of_the_first_record_is_refused),
    CASE(missing_repeated_or_swapped_records_end_the_session), CASE(records_of_others_do_not_open),
    CASE(impossible_lengths_end_the_session),
    CASE(the_longest_and_the_shortest_record_are_accepted),
    CASE(records_may_arrive_in_any_two_pieces), CASE(a_hello_may_arrive_in_any_two_pieces),
    CASE(everything_may_arrive_byte_by_byte), CASE(a_record_that_never_ends_is_freed))
