/*
 * The contents of packets, on one thread: values, the sticky error, the head and the seal.
 */
#include <float.h>

#include "packet_fixture.h"

/* ---- values ---------------------------------------------------------------------------------- */

static void values_come_back(void) {
    tp_packet *packet = packet_make(100);
    tp_packet_put_u8(packet, 0xFE);
    tp_packet_put_u16(packet, 0xFEDC);
    tp_packet_put_u32(packet, 0xFEDCBA98);
    tp_packet_put_u64(packet, UINT64_C(0xFEDCBA9876543210));
    tp_packet_put_i8(packet, INT8_MIN);
    tp_packet_put_i16(packet, INT16_MIN);
    tp_packet_put_i32(packet, INT32_MIN);
    tp_packet_put_i64(packet, INT64_MIN);
    tp_packet_put_f32(packet, -1.5f);
    tp_packet_put_f64(packet, DBL_MAX);
    tp_packet_put_f64(packet, -0.0);
    CHECK_EQ(tp_packet_size(packet), 50);
    CHECK_EQ(tp_packet_get_u8(packet), 0xFE);
    CHECK_EQ(tp_packet_get_u16(packet), 0xFEDC);
    CHECK_EQ(tp_packet_get_u32(packet), 0xFEDCBA98);
    CHECK_EQ(tp_packet_get_u64(packet), UINT64_C(0xFEDCBA9876543210));
    CHECK_EQ(tp_packet_get_i8(packet), INT8_MIN);
    CHECK_EQ(tp_packet_get_i16(packet), INT16_MIN);
    CHECK_EQ(tp_packet_get_i32(packet), INT32_MIN);
    CHECK_EQ(tp_packet_get_i64(packet), INT64_MIN);
    CHECK_EQ(tp_packet_get_f32(packet), -1.5f);
    CHECK_EQ(tp_packet_get_f64(packet), DBL_MAX);
    CHECK(1.0 / tp_packet_get_f64(packet) < 0); /* the zero is negative */
    CHECK_EQ(tp_packet_left(packet), 0);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_release(packet);
}

static void values_are_little_endian(void) {
    static const uint8_t expected[] = {1, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12, 0xF0, 0xDE, 0xBC,
        0x9A, 0x78, 0x56, 0x34, 0x12, 0, 0, 0x80, 0x3F, 2, 0, 'h', 'i', 9, 8, 7};
    tp_packet *packet = packet_make(sizeof expected);
    tp_packet_put_u8(packet, 1);
    tp_packet_put_u16(packet, 0x1234);
    tp_packet_put_u32(packet, 0x12345678);
    tp_packet_put_u64(packet, UINT64_C(0x123456789ABCDEF0));
    tp_packet_put_f32(packet, 1.0f);
    tp_packet_put_string(packet, "hi");
    tp_packet_put_bytes(packet, (const uint8_t[]){9, 8, 7}, 3);
    REQUIRE(tp_packet_size(packet) == sizeof expected);
    CHECK_MEM(tp_packet_bytes(packet), expected, sizeof expected);
    tp_packet_release(packet);
}

static void strings_are_cut_to_the_space_left(void) {
    char text[6] = "?????";
    tp_packet *packet = packet_make(100);
    tp_packet_put_string(packet, "hello");
    tp_packet_put_string(packet, "hello!");
    tp_packet_put_string(packet, "");
    tp_packet_put_string(packet, "xyz");
    tp_packet_put_u8(packet, 77);
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 5);
    CHECK_STR(text, "hello");
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 6);
    CHECK_STR(text, "hello");
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_get_string(packet, text, 1), 3);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_get_u8(packet), 77);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_release(packet);
}

static void strings_have_a_maximum_length(void) {
    static char text[65537];
    static char back[65537];
    memset(text, 'a', 65536);
    tp_packet *packet = packet_make(70000);
    tp_packet_put_string(packet, text);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
    CHECK_EQ(tp_packet_size(packet), 0);
    tp_packet_clear(packet);
    text[65535] = '\0';
    tp_packet_put_string(packet, text);
    CHECK_EQ(tp_packet_size(packet), 65537);
    CHECK_EQ(tp_packet_get_string(packet, back, sizeof back), 65535);
    CHECK_STR(back, text);
    tp_packet_release(packet);
}

static void a_missing_string_is_empty(void) {
    char text[4] = "abc";
    tp_packet *packet = packet_make(10);
    tp_packet_put_u16(packet, 3); /* a length of three, with two bytes */
    tp_packet_put_u16(packet, 0x4141);
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
    packet = packet_make(10);
    strcpy(text, "abc");
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void a_put_that_does_not_fit_sticks(void) {
    tp_packet *packet = packet_make(7);
    tp_packet_put_u32(packet, 1);
    tp_packet_put_u32(packet, 2);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
    CHECK_EQ(tp_packet_size(packet), 4);
    tp_packet_put_u8(packet, 3); /* would fit, but the error sticks */
    tp_packet_put_string(packet, "");
    CHECK(tp_packet_put_space(packet, 1) == NULL);
    CHECK(tp_packet_push_head(packet, 1) == NULL);
    tp_packet_pull_head(packet, 1);
    CHECK_EQ(tp_packet_size(packet), 4);
    CHECK_EQ(tp_packet_get_u32(packet), 0);
    CHECK(tp_packet_get_bytes(packet, 0) == NULL);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
    tp_packet_clear(packet);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_put_u32(packet, 5);
    tp_packet_put_u16(packet, 6);
    tp_packet_put_u8(packet, 7);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    CHECK_EQ(tp_packet_size(packet), 7);
    tp_packet_release(packet);
}

static void a_get_past_the_end_sticks(void) {
    tp_packet *packet = packet_make(10);
    tp_packet_put_u16(packet, 0x0101);
    tp_packet_put_u8(packet, 1);
    CHECK_EQ(tp_packet_get_u16(packet), 0x0101);
    CHECK_EQ(tp_packet_get_u16(packet), 0);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    CHECK_EQ(tp_packet_get_u8(packet), 0); /* the byte is present, but the error sticks */
    CHECK_EQ(tp_packet_get_f64(packet), 0.0);
    tp_packet_seek(packet, 0);
    CHECK_EQ(tp_packet_left(packet), 1);
    tp_packet_release(packet);
}

static void the_largest_numbers_overflow_nothing(void) {
    tp_packet *packet = packet_make(10);
    tp_packet_put_u32(packet, 1);
    CHECK(tp_packet_put_space(packet, SIZE_MAX) == NULL);
    tp_packet_clear(packet);
    tp_packet_put_u32(packet, 1);
    CHECK(tp_packet_get_bytes(packet, SIZE_MAX) == NULL);
    tp_packet_clear(packet);
    tp_packet_put_u32(packet, 1);
    CHECK(tp_packet_push_head(packet, SIZE_MAX) == NULL);
    tp_packet_clear(packet);
    tp_packet_pull_head(packet, SIZE_MAX);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_clear(packet);
    tp_packet_seek(packet, SIZE_MAX);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
}

/* ---- space, cursor and head ------------------------------------------------------------------ */

static void space_is_filled_in_place(void) {
    tp_packet *packet = packet_make(8);
    tp_packet_put_u8(packet, 1);
    uint8_t *space = tp_packet_put_space(packet, 6);
    REQUIRE(space != NULL);
    memset(space, 2, 6);
    tp_packet_put_u8(packet, 3);
    CHECK_MEM(tp_packet_bytes(packet), "\1\2\2\2\2\2\2\3", 8);
    CHECK(tp_packet_put_space(packet, 0) != NULL);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_release(packet);
}

static void the_read_cursor_moves_freely(void) {
    tp_packet *packet = tp_packet_copy_of("abcdef", 6);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_packet_left(packet), 6);
    tp_packet_seek(packet, 4);
    CHECK_EQ(tp_packet_get_u8(packet), 'e');
    CHECK_EQ(tp_packet_left(packet), 1);
    tp_packet_seek(packet, 1);
    const uint8_t *bytes = tp_packet_get_bytes(packet, 3);
    REQUIRE(bytes != NULL);
    CHECK_MEM(bytes, "bcd", 3);
    tp_packet_seek(packet, 6);
    CHECK_EQ(tp_packet_left(packet), 0);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    uint8_t *edit = tp_packet_edit(packet);
    REQUIRE(edit != NULL);
    edit[0] = 'X';
    tp_packet_seek(packet, 0);
    CHECK_EQ(tp_packet_get_u8(packet), 'X');
    tp_packet_release(packet);
}

static void the_head_grows_and_shrinks(void) {
    tp_packet *packet = packet_make(4);
    tp_packet_put_u32(packet, 0x44434241);
    CHECK_EQ(tp_packet_get_u8(packet), 'A');
    uint8_t *head = tp_packet_push_head(packet, TP_PACKET_HEAD);
    REQUIRE(head != NULL);
    memset(head, '.', TP_PACKET_HEAD);
    CHECK_EQ(tp_packet_size(packet), 20);
    CHECK_EQ(tp_packet_capacity(packet), 20);
    CHECK_EQ(tp_packet_get_u8(packet), 'B'); /* the cursor stayed at its byte */
    CHECK_MEM(tp_packet_bytes(packet), "................ABCD", 20);
    CHECK(tp_packet_push_head(packet, 1) == NULL);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
    tp_packet_clear(packet);
    tp_packet_release(packet);

    packet = tp_packet_copy_of("0123456789abcdefghijXYZ", 23);
    REQUIRE(packet != NULL);
    tp_packet_seek(packet, 22);
    tp_packet_pull_head(packet, 20);
    CHECK_EQ(tp_packet_size(packet), 3);
    CHECK_EQ(tp_packet_get_u8(packet), 'X');
    head = tp_packet_push_head(packet, 36); /* 16, and the 20 pulled before */
    REQUIRE(head != NULL);
    CHECK_MEM(head + 16, "0123456789abcdefghijXYZ", 23);
    tp_packet_pull_head(packet, 39);
    CHECK_EQ(tp_packet_size(packet), 0);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_pull_head(packet, 1);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
}

static void the_largest_packet_grows_no_head(void) {
    tp_packet *packet = tp__packet_received(TP_PACKET_MAX);
    REQUIRE(packet != NULL);
    CHECK(tp_packet_push_head(packet, 1) == NULL);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
    tp_packet_clear(packet);
    CHECK(tp_packet_put_space(packet, TP_PACKET_MAX) != NULL);
    tp_packet_pull_head(packet, 5);
    CHECK(tp_packet_push_head(packet, 5) != NULL);
    CHECK_EQ(tp_packet_size(packet), TP_PACKET_MAX);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_release(packet);
}

/* ---- the seal -------------------------------------------------------------------------------- */

static void the_frame_is_header_and_payload(void) {
    size_t bytes = 0;
    tp_packet *packet = packet_make(600);
    tp_packet_put_bytes(packet, "hello", 5);
    tp__packet_seal(packet, 1);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\5\0\0\1hello", 9);
    CHECK_EQ(bytes, 9);
    CHECK_EQ(tp__packet_frame_size(packet), 9);
    tp__packet_seal(packet, 2); /* the first type stays */
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\5\0\0\1hello", 9);
    tp_packet_release(packet);

    packet = packet_make(0);
    CHECK_EQ(tp_packet_capacity(packet), 0);
    tp__packet_seal(packet, 255);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\0\0\0\377", 4);
    CHECK_EQ(bytes, 4);
    tp_packet_release(packet);

    packet = tp__packet_received(0x123456);
    REQUIRE(packet != NULL);
    tp__packet_seal(packet, 0);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\x56\x34\x12\0", 4);
    CHECK_EQ(bytes, 0x123456 + 4);
    tp_packet_release(packet);
}

static void the_header_moves_with_the_head(void) {
    size_t bytes = 0;
    tp_packet *packet = tp_packet_copy_of("payload", 7);
    REQUIRE(packet != NULL);
    memset(tp_packet_push_head(packet, 16), '#', 16);
    tp__packet_seal(packet, 0);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\27\0\0\0################payload", 27);
    CHECK_EQ(bytes, 27);
    tp_packet_release(packet);

    packet = tp_packet_copy_of("head:payload", 12);
    REQUIRE(packet != NULL);
    tp_packet_pull_head(packet, 5);
    tp__packet_seal(packet, 3);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\7\0\0\3payload", 11);
    tp_packet_release(packet);
}

/* After a write to a sealed packet: the error is set and the frame unchanged. */
static void check_sealed(tp_packet *packet) {
    size_t bytes;
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SEALED);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\3\0\0\0abc", 7);
    CHECK_EQ(bytes, 7);
    tp_packet_release(packet);
}

static tp_packet *sealed(void) {
    tp_packet *packet = packet_make(64);
    tp_packet_put_bytes(packet, "abc", 3);
    tp__packet_seal(packet, 0);
    return packet;
}

static void a_sealed_packet_can_be_read_and_not_written(void) {
    tp_packet *packet = sealed();
    CHECK_EQ(tp_packet_get_u8(packet), 'a');
    tp_packet_seek(packet, 2);
    CHECK_EQ(tp_packet_get_u8(packet), 'c');
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_put_u8(packet, 0);
    check_sealed(packet);

    packet = sealed();
    tp_packet_put_string(packet, "x");
    check_sealed(packet);
    packet = sealed();
    CHECK(tp_packet_put_space(packet, 0) == NULL);
    check_sealed(packet);
    packet = sealed();
    CHECK(tp_packet_push_head(packet, 1) == NULL);
    check_sealed(packet);
    packet = sealed();
    tp_packet_pull_head(packet, 1);
    check_sealed(packet);
    packet = sealed();
    CHECK(tp_packet_edit(packet) == NULL);
    check_sealed(packet);
    packet = sealed();
    tp_packet_clear(packet);
    check_sealed(packet);
}

static void the_seal_gives_unused_space_back(void) {
    tp_packet *warm = packet_make(10); /* keeps the chunk from starting over */
    tp_packet *packet = packet_make(5000);
    tp__chunk *chunk = packet->chunk;
    tp_packet_put_bytes(packet, "abc", 3);
    tp__packet_seal(packet, 0);
    CHECK(chunk->next == (uint8_t *)packet + 128);
    CHECK_EQ(tp_packet_capacity(packet), 3);
    tp_packet *next = packet_make(64);
    CHECK((uint8_t *)next == (uint8_t *)packet + 128);
    memset(tp_packet_put_space(next, 64), 0xEE, 64);
    CHECK_MEM(tp_packet_bytes(packet), "abc", 3);

    tp_packet *older = packet_make(5000);
    tp_packet *newest = packet_make(64);
    tp__packet_seal(older, 0); /* not the newest packet: nothing can be given back */
    CHECK_EQ(tp_packet_capacity(older), 5000);
    CHECK(chunk->next == (uint8_t *)newest + 128);
    tp_packet_release(warm);
    tp_packet_release(packet);
    tp_packet_release(next);
    tp_packet_release(older);
    tp_packet_release(newest);
    CHECK(chunk->next == chunk->first);
}

CHECK_MAIN(CASE(values_come_back), CASE(values_are_little_endian),
    CASE(strings_are_cut_to_the_space_left), CASE(strings_have_a_maximum_length),
    CASE(a_missing_string_is_empty), CASE(a_put_that_does_not_fit_sticks),
    CASE(a_get_past_the_end_sticks), CASE(the_largest_numbers_overflow_nothing),
    CASE(space_is_filled_in_place), CASE(the_read_cursor_moves_freely),
    CASE(the_head_grows_and_shrinks), CASE(the_largest_packet_grows_no_head),
    CASE(the_frame_is_header_and_payload), CASE(the_header_moves_with_the_head),
    CASE(a_sealed_packet_can_be_read_and_not_written), CASE(the_seal_gives_unused_space_back))
