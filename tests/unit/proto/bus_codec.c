/*
 * The bus's messages as bytes: header, WELCOME and ERROR compared byte for byte, name hashes with
 * the FNV vectors, names and reasons with tables.
 */
#include "check.h"
#include "proto/bus.h"

static void a_header_is_read_as_it_was_written(void) {
    static const uint8_t wanted[TP_BUS_HEADER] = {
        9, 6, 0x02, 0x01, 0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55, 0xff, 0xee, 0xdd, 0xcc};
    tp_bus_header header = {TP_BUS_REQUEST, TP_BUS_TO_SERVICE | TP_BUS_KEYED, 0x0102, 0x11223344,
        0x55667788, 0xccddeeff};
    uint8_t bytes[TP_BUS_HEADER];
    tp_bus_write(bytes, &header);
    CHECK_MEM(bytes, wanted, sizeof wanted);
    tp_bus_header again = tp_bus_read(bytes);
    CHECK_EQ(again.kind, header.kind);
    CHECK_EQ(again.flags, header.flags);
    CHECK_EQ(again.key, header.key);
    CHECK_EQ(again.source, header.source);
    CHECK_EQ(again.destination, header.destination);
    CHECK_EQ(again.correlation, header.correlation);
}

static void welcome_and_error_are_read_as_they_were_written(void) {
    tp_bus_welcome welcome = {.version = 1,
        .peer = 2,
        .hub = UINT64_C(0x0102030405060708),
        .max_payload = 4,
        .unconfirmed = 5,
        .ack_messages = 6,
        .ack_ms = 7,
        .heartbeat_ms = 8,
        .idle_ms = 9,
        .peers = 0xfffffff0};
    uint8_t bytes[TP_BUS_WELCOME_SIZE];
    memset(bytes, 0xaa, sizeof bytes);
    tp_bus_write_welcome(bytes, &welcome);
    CHECK_EQ(bytes[2] | bytes[3], 0);
    CHECK_EQ(bytes[8], 8); /* the hub's instance begins here, little-endian */
    tp_bus_welcome again = tp_bus_read_welcome(bytes);
    CHECK_EQ(again.version, 1);
    CHECK_EQ(again.peer, 2);
    CHECK_EQ(again.hub, welcome.hub);
    CHECK_EQ(again.max_payload, 4);
    CHECK_EQ(again.unconfirmed, 5);
    CHECK_EQ(again.ack_messages, 6);
    CHECK_EQ(again.ack_ms, 7);
    CHECK_EQ(again.heartbeat_ms, 8);
    CHECK_EQ(again.idle_ms, 9);
    CHECK_EQ(again.peers, 0xfffffff0);

    static const uint8_t wanted[TP_BUS_ERROR_FIXED] = {1, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0};
    tp_bus_error error = {.peer = 1, .destination = 2, .kind = TP_BUS_ANY};
    tp_bus_write_error(bytes, &error);
    CHECK_MEM(bytes, wanted, sizeof wanted);
    tp_bus_error same = tp_bus_read_error(bytes);
    CHECK_EQ(same.peer, 1);
    CHECK_EQ(same.destination, 2);
    CHECK_EQ(same.kind, TP_BUS_ANY);
}

static uint32_t hash(const char *name) {
    return tp_bus_service_hash(name, strlen(name));
}

/* Vectors of the FNV specification (draft-eastlake-fnv, 32-bit FNV-1a). */
static void service_hashes_are_fnv_1a(void) {
    CHECK_EQ(hash(""), 0x811c9dc5);
    CHECK_EQ(hash("a"), 0xe40c292c);
    CHECK_EQ(hash("foobar"), 0xbf9cf968);
}

static bool valid(const char *name) {
    return tp_bus_name_valid(name, strlen(name));
}

static void names_are_short_and_plain(void) {
    CHECK(valid("a"));
    CHECK(valid("chat-2.zone_7"));
    CHECK(valid("a23456789012345678901234567890123456789012345678901234567890123"));
    CHECK(!valid("a234567890123456789012345678901234567890123456789012345678901234"));
    CHECK(!valid(""));
    CHECK(!valid("Chat"));
    CHECK(!valid("a b"));
    CHECK(!valid("a/b"));
    CHECK(!valid("\xc3\xa4"));
    CHECK(!tp_bus_name_valid("a\0b", 3));
}

static void every_reason_has_a_text(void) {
    CHECK_STR(tp_bus_reason_name(TP_BUS_NO_PEER), "no-peer");
    CHECK_STR(tp_bus_reason_name(TP_BUS_HUB_FULL), "hub-full");
    CHECK_STR(tp_bus_reason_name(0), "unknown");
    CHECK_STR(tp_bus_reason_name(65535), "unknown");
}

static void six_kinds_are_messages(void) {
    unsigned messages = 0;
    for (unsigned kind = 0; kind < 256; kind++) {
        messages += tp_bus_is_message((uint8_t)kind);
    }
    CHECK_EQ(messages, 6);
    CHECK(!tp_bus_is_message(TP_BUS_ACK));
    CHECK(tp_bus_is_message(TP_BUS_SEND));
    CHECK(tp_bus_is_message(TP_BUS_ERROR));
}

CHECK_MAIN(CASE(a_header_is_read_as_it_was_written),
    CASE(welcome_and_error_are_read_as_they_were_written), CASE(service_hashes_are_fnv_1a),
    CASE(names_are_short_and_plain), CASE(every_reason_has_a_text), CASE(six_kinds_are_messages))
