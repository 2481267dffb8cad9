/*
 * The gate's messages, byte for byte as docs/gate-protocol.md has them. Each reader accepts its own
 * message and refuses every other size and kind.
 */
#include "proto/gate.h"

#include "check.h"

#define SESSION UINT64_C(0x0102030405060708)

/* Tries every other size and every other kind: all are refused. The address sanitizer reports a
 * read beyond the size. */
#define CHECK_ONLY(bytes, reader)                                                                  \
    do {                                                                                           \
        for (size_t size_ = 0; size_ <= sizeof(bytes) + 1; size_++) {                              \
            uint8_t *exact_ = calloc(1, size_ ? size_ : 1);                                        \
            REQUIRE(exact_ != NULL);                                                               \
            memcpy(exact_, bytes, size_ < sizeof(bytes) ? size_ : sizeof(bytes));                  \
            const uint8_t *at = exact_;                                                            \
            size_t size = size_;                                                                   \
            CHECK_EQ(reader, size_ == sizeof(bytes));                                              \
            if (size > 0) {                                                                        \
                exact_[0] ^= 0x40;                                                                 \
                CHECK(!(reader));                                                                  \
            }                                                                                      \
            free(exact_);                                                                          \
        }                                                                                          \
    } while (0)

static void join_is_encoded_as_documented(void) {
    uint8_t expected[TP_GATE_JOIN_SIZE + 3] = {1, 1, 5,
        0,                                              /* kind, version, RETURN and IDENTIFIED */
        0x44, 0x33, 0x22, 0x11,                         /* the identity's flags */
        8, 7, 6, 5, 4, 3, 2, 1,                         /* session */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* account */
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9, /* 10.0.0.9 */
        0x39, 0x30,                                            /* port 12345 */
        3, 0,                                                  /* bytes of the blob */
        7, 0, 0, 0};                                           /* visit */
    memset(expected + 48, 0x66, TP_GATE_USER_DATA);
    memcpy(expected + 96, "abc", 3);
    tp_gate_join out = {.flags = TP_GATE_RETURN | TP_GATE_IDENTIFIED,
        .port = 12345,
        .identity_flags = 0x11223344,
        .session = SESSION,
        .account = UINT64_C(0x1122334455667788),
        .visit = 7,
        .blob_size = 3,
        .ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9},
        .blob = (const uint8_t *)"abc"};
    memset(out.user_data, 0x66, sizeof out.user_data);
    uint8_t bytes[sizeof expected];
    tp_gate_write_join(bytes, &out);
    CHECK_MEM(bytes, expected, sizeof expected);
    tp_gate_join in;
    CHECK_ONLY(expected, tp_gate_read_join(at, size, &in));
    REQUIRE(tp_gate_read_join(bytes, sizeof bytes, &in));
    CHECK_EQ(in.flags, out.flags);
    CHECK_EQ(in.port, out.port);
    CHECK_EQ(in.identity_flags, out.identity_flags);
    CHECK_EQ(in.session, out.session);
    CHECK_EQ(in.account, out.account);
    CHECK_EQ(in.visit, out.visit);
    CHECK_MEM(in.ip, out.ip, sizeof in.ip);
    CHECK_MEM(in.user_data, out.user_data, sizeof in.user_data);
    CHECK_EQ(in.blob_size, 3);
    CHECK_MEM(in.blob, "abc", 3);

    bytes[1] = 2; /* another version */
    CHECK(!tp_gate_read_join(bytes, sizeof bytes, &in));
    bytes[1] = 1;
    memset(bytes + 8, 0, 8); /* no session */
    CHECK(!tp_gate_read_join(bytes, sizeof bytes, &in));
    static uint8_t large[TP_GATE_JOIN_SIZE + TP_GATE_BLOB_MAX + 1] = {1, 1};
    large[8] = 1;
    tp_bus_put_u16(large + 42, TP_GATE_BLOB_MAX + 1);
    CHECK(!tp_gate_read_join(large, sizeof large, &in));
    tp_bus_put_u16(large + 42, TP_GATE_BLOB_MAX);
    CHECK(tp_gate_read_join(large, sizeof large - 1, &in));
}

static void leave_is_encoded_as_documented(void) {
    const uint8_t expected[TP_GATE_LEAVE_SIZE] = {
        2, 0, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1, 7, 0, 0, 0, 5, 0, 0, 0};
    const tp_gate_left out = {.session = SESSION, .visit = 7, .why = TP_GATE_LEAVE_ENDED, .end = 5};
    uint8_t bytes[sizeof expected];
    tp_gate_write_leave(bytes, &out);
    CHECK_MEM(bytes, expected, sizeof expected);
    tp_gate_left in;
    CHECK_ONLY(expected, tp_gate_read_leave(at, size, &in));
    REQUIRE(tp_gate_read_leave(bytes, sizeof bytes, &in));
    CHECK_EQ(in.session, SESSION);
    CHECK_EQ(in.visit, 7);
    CHECK_EQ(in.why, TP_GATE_LEAVE_ENDED);
    CHECK_EQ(in.end, 5);
}

static void data_is_encoded_as_documented(void) {
    const uint8_t expected[] = {3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
    uint8_t bytes[sizeof expected];
    tp_gate_write_data(bytes, SESSION);
    CHECK_MEM(bytes, expected, sizeof expected);
    uint64_t session = 0;
    CHECK(tp_gate_read_data(bytes, sizeof bytes, &session));
    CHECK_EQ(session, SESSION);
    for (size_t size = 0; size < sizeof bytes; size++) {
        CHECK(!tp_gate_read_data(bytes, size, &session));
    }
    bytes[0] = TP_GATE_SEND;
    CHECK(!tp_gate_read_data(bytes, sizeof bytes, &session));
}

static void send_is_encoded_as_documented(void) {
    const uint8_t expected[] = {
        4, 0, 2, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'};
    uint8_t bytes[sizeof expected];
    CHECK_EQ(tp_gate_send_size(2), 20);
    tp_gate_write_send(bytes, 2);
    tp_gate_put_session(bytes, 0, SESSION);
    tp_gate_put_session(bytes, 1, 9);
    memcpy(bytes + tp_gate_send_size(2), "hi", 2);
    CHECK_MEM(bytes, expected, sizeof expected);
    size_t count = 0;
    CHECK(tp_gate_read_send(bytes, sizeof bytes, &count));
    CHECK_EQ(count, 2);
    CHECK_EQ(tp_gate_get_session(bytes, 0), SESSION);
    CHECK_EQ(tp_gate_get_session(bytes, 1), 9);
    CHECK(tp_gate_read_send(bytes, 20, &count)); /* an empty message is one */
    for (size_t size = 0; size < 20; size++) {
        CHECK(!tp_gate_read_send(bytes, size, &count));
    }
    bytes[2] = 0; /* no recipient */
    CHECK(!tp_gate_read_send(bytes, sizeof bytes, &count));
    bytes[2] = bytes[3] = 0xff;
    CHECK(!tp_gate_read_send(bytes, sizeof bytes, &count));
}

static void kick_is_encoded_as_documented(void) {
    const uint8_t expected[TP_GATE_KICK_SIZE] = {5, 0, 0x2c, 1, 8, 7, 6, 5, 4, 3, 2, 1};
    const tp_gate_kick out = {.session = SESSION, .close_code = 300};
    uint8_t bytes[sizeof expected];
    tp_gate_write_kick(bytes, &out);
    CHECK_MEM(bytes, expected, sizeof expected);
    tp_gate_kick in;
    CHECK_ONLY(expected, tp_gate_read_kick(at, size, &in));
    REQUIRE(tp_gate_read_kick(bytes, sizeof bytes, &in));
    CHECK_EQ(in.session, SESSION);
    CHECK_EQ(in.close_code, 300);
}

static void move_is_encoded_as_documented(void) {
    const uint8_t expected[] = {
        6, 5, 3, 0, 8, 7, 6, 5, 4, 3, 2, 1, 4, 3, 2, 1, 'a', 'r', 'e', 'n', 'a', 'x', 'y', 'z'};
    const tp_gate_move out = {.session = SESSION,
        .peer = 0x01020304,
        .blob_size = 3,
        .name_size = 5,
        .name = "arena",
        .blob = (const uint8_t *)"xyz"};
    uint8_t bytes[sizeof expected];
    CHECK_EQ(tp_gate_move_size(&out), sizeof expected);
    tp_gate_write_move(bytes, &out);
    CHECK_MEM(bytes, expected, sizeof expected);
    tp_gate_move in;
    CHECK_ONLY(expected, tp_gate_read_move(at, size, &in));
    REQUIRE(tp_gate_read_move(bytes, sizeof bytes, &in));
    CHECK_EQ(in.session, SESSION);
    CHECK_EQ(in.peer, 0x01020304);
    CHECK_EQ(in.name_size, 5);
    CHECK_MEM(in.name, "arena", 5);
    CHECK_EQ(in.blob_size, 3);
    CHECK_MEM(in.blob, "xyz", 3);
    bytes[17] = 'R'; /* not a name */
    CHECK(!tp_gate_read_move(bytes, sizeof bytes, &in));

    tp_gate_move bare = {.session = SESSION, .peer = 1}; /* neither a name nor a blob */
    tp_gate_write_move(bytes, &bare);
    CHECK(tp_gate_read_move(bytes, TP_GATE_MOVE_FIXED, &in));
    bare.peer = 0; /* nor a peer */
    tp_gate_write_move(bytes, &bare);
    CHECK(!tp_gate_read_move(bytes, TP_GATE_MOVE_FIXED, &in));
    static uint8_t large[TP_GATE_MOVE_FIXED + TP_GATE_BLOB_MAX + 1] = {6};
    large[12] = 1;
    tp_bus_put_u16(large + 2, TP_GATE_BLOB_MAX + 1);
    CHECK(!tp_gate_read_move(large, sizeof large, &in));
    tp_bus_put_u16(large + 2, TP_GATE_BLOB_MAX);
    CHECK(tp_gate_read_move(large, sizeof large - 1, &in));
}

static void done_is_encoded_as_documented(void) {
    const uint8_t expected[TP_GATE_DONE_SIZE] = {7, 3, 1, 0};
    const tp_gate_done out = {.status = TP_GATE_REFUSED, .close_code = 1};
    uint8_t bytes[sizeof expected];
    tp_gate_write_done(bytes, &out);
    CHECK_MEM(bytes, expected, sizeof expected);
    tp_gate_done in;
    CHECK_ONLY(expected, tp_gate_read_done(at, size, &in));
    REQUIRE(tp_gate_read_done(bytes, sizeof bytes, &in));
    CHECK_EQ(in.status, TP_GATE_REFUSED);
    CHECK_EQ(in.close_code, 1);
}

CHECK_MAIN(CASE(join_is_encoded_as_documented), CASE(leave_is_encoded_as_documented),
    CASE(data_is_encoded_as_documented), CASE(send_is_encoded_as_documented),
    CASE(kick_is_encoded_as_documented), CASE(move_is_encoded_as_documented),
    CASE(done_is_encoded_as_documented))
