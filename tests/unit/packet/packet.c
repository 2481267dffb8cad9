/*
 * Packets on one thread: values, the sticky error, the head, the seal, references, and the memory
 * they are made of.
 */
#include "check.h"

#include <float.h>

#include "core/memory/large.h"
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "os/thread.h"

static tp_packet *make(size_t capacity) {
    tp_packet *packet = tp_packet_new(capacity);
    REQUIRE(packet != NULL);
    CHECK_EQ(tp_packet_size(packet), 0);
    CHECK_EQ(tp_packet_capacity(packet), capacity);
    CHECK_EQ(tp_packet_left(packet), 0);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    CHECK(!tp__packet_is_sealed(packet));
    return packet;
}

/* ---- values ---------------------------------------------------------------------------------- */

static void values_come_back(void) {
    tp_packet *packet = make(100);
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
    tp_packet *packet = make(sizeof expected);
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
    tp_packet *packet = make(100);
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
    tp_packet *packet = make(70000);
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
    tp_packet *packet = make(10);
    tp_packet_put_u16(packet, 3); /* a length of three, with two bytes */
    tp_packet_put_u16(packet, 0x4141);
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
    packet = make(10);
    strcpy(text, "abc");
    CHECK_EQ(tp_packet_get_string(packet, text, sizeof text), 0);
    CHECK_STR(text, "");
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void a_put_that_does_not_fit_sticks(void) {
    tp_packet *packet = make(7);
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
    tp_packet *packet = make(10);
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
    tp_packet *packet = make(10);
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
    tp_packet *packet = make(8);
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
    tp_packet *packet = make(4);
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
    tp_packet *packet = make(600);
    tp_packet_put_bytes(packet, "hello", 5);
    tp__packet_seal(packet, 1);
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\5\0\0\1hello", 9);
    CHECK_EQ(bytes, 9);
    CHECK_EQ(tp__packet_frame_size(packet), 9);
    tp__packet_seal(packet, 2); /* the first type stays */
    CHECK_MEM(tp__packet_frame(packet, &bytes), "\5\0\0\1hello", 9);
    tp_packet_release(packet);

    packet = make(0);
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
    tp_packet *packet = make(64);
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
    tp_packet *warm = make(10); /* keeps the chunk from starting over */
    tp_packet *packet = make(5000);
    tp__chunk *chunk = packet->chunk;
    tp_packet_put_bytes(packet, "abc", 3);
    tp__packet_seal(packet, 0);
    CHECK(chunk->next == (uint8_t *)packet + 128);
    CHECK_EQ(tp_packet_capacity(packet), 3);
    tp_packet *next = make(64);
    CHECK((uint8_t *)next == (uint8_t *)packet + 128);
    memset(tp_packet_put_space(next, 64), 0xEE, 64);
    CHECK_MEM(tp_packet_bytes(packet), "abc", 3);

    tp_packet *older = make(5000);
    tp_packet *newest = make(64);
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

/* ---- references and memory ------------------------------------------------------------------- */

static void the_last_reference_frees(void) {
    tp_packet *packet = tp_packet_copy_of("stay", 4);
    REQUIRE(packet != NULL);
    tp__chunk *chunk = packet->chunk;
    uint32_t outstanding = chunk->outstanding;
    for (int i = 0; i < 100; i++) {
        CHECK(tp_packet_retain(packet) == packet);
    }
    for (int i = 0; i < 100; i++) {
        tp_packet_release(packet);
        CHECK_MEM(tp_packet_bytes(packet), "stay", 4);
    }
    CHECK_EQ(chunk->outstanding, outstanding);
    tp_packet_release(packet);
    CHECK_EQ(chunk->outstanding, outstanding - 1);
    tp_packet_release(NULL);
}

static void debug_builds_overwrite_what_is_released(void) {
#if defined(NDEBUG)
    SKIP("not a debug build");
#elif defined(TP_ADDRESS_SANITIZER)
    SKIP("the address sanitizer would report the read (see unit.stops.read_after_release)");
#else
    tp_packet *keeps_the_chunk = make(8);
    tp_packet *packet = tp_packet_copy_of("secret", 6);
    REQUIRE(packet != NULL);
    const uint8_t *bytes = tp_packet_bytes(packet);
    tp_packet_release(packet);
    CHECK_MEM(bytes, "\335\335\335\335\335\335", 6);
    tp_packet_release(keeps_the_chunk);
#endif
}

static void many_packets_are_released_together(void) {
    tp_packet *packets[100];
    for (size_t i = 0; i < 100; i++) {
        packets[i] = make(64);
        if (i % 3 == 0) {
            tp_packet_retain(packets[i]);
        }
    }
    tp__chunk *chunk = packets[0]->chunk;
    CHECK_EQ(chunk->outstanding, 100);
    tp__packets_release(packets, 100);
    CHECK_EQ(chunk->outstanding, 34);
    for (size_t i = 0; i < 100; i += 3) {
        tp_packet_release(packets[i]);
    }
    CHECK_EQ(chunk->outstanding, 0);
}

static void packets_of_every_size_are_usable(void) {
    static const size_t sizes[] = {0, 1, 63, 64, 65, TP__PACKET_SMALL - 1, TP__PACKET_SMALL,
        TP__PACKET_SMALL + 1, 32767, 32768, 32769, 65536, 1 << 20, (1 << 20) + 1, 8 << 20,
        (8 << 20) + 1, TP_PACKET_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tp_packet *packet = tp__packet_received(sizes[i]);
        REQUIRE(packet != NULL);
        CHECK_EQ(tp_packet_size(packet), sizes[i]);
        CHECK_EQ(tp_packet_capacity(packet), sizes[i]);
        CHECK_EQ(packet->chunk == NULL, sizes[i] > TP__PACKET_SMALL);
        CHECK_EQ((uintptr_t)tp__packet_payload(packet) % 16, 0);
        memset(tp__packet_payload(packet), 0x11, sizes[i]);
        tp_packet_put_u8(packet, 1);
        CHECK_EQ(tp_packet_error(packet), TP_ERR_TOO_LARGE);
        tp_packet_release(packet);
    }
    CHECK(tp_packet_new(TP_PACKET_MAX + 1) == NULL);
    CHECK(tp_packet_new(SIZE_MAX) == NULL);
    CHECK(tp_packet_copy_of(NULL, SIZE_MAX) == NULL);
    tp_packet *empty = tp_packet_copy_of(NULL, 0);
    CHECK(empty != NULL);
    tp_packet_release(empty);
}

static void nothing_is_allocated_after_warming_up(void) {
    static const size_t sizes[] = {100, 20000, 100000, 1 << 20, TP_PACKET_MAX};
    uint64_t asked = 0;
    for (int round = 0; round < 10; round++) {
        if (round == 1) {
            asked = tp__memory_allocations();
        }
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            tp_packet *packet = make(sizes[i]);
            tp_packet_release(packet);
        }
    }
    CHECK_EQ(tp__memory_allocations(), asked);
}

static void spare_large_packets_are_bounded(void) {
    enum { pieces = 40 };
    static tp_packet *packets[pieces];
    (void)tp__packets_trim();
    uint64_t live = tp__memory_live();
    for (int i = 0; i < pieces; i++) {
        packets[i] = make(1 << 20);
    }
    CHECK_EQ(tp__memory_live(), live + pieces);
    for (int i = 0; i < pieces; i++) {
        tp_packet_release(packets[i]);
    }
    CHECK_EQ(tp__memory_live(), live + 8); /* 8 MiB are kept */
    CHECK_EQ(tp__large_trim(), 8 * ((1 << 20) + TP__PACKET_START));
    CHECK_EQ(tp__memory_live(), live);
    CHECK_EQ(tp__large_trim(), 0);
}

static void trimming_gives_everything_back(void) {
    static tp_packet *packets[2000];
    (void)tp__packets_trim();
    CHECK_EQ(tp__chunk_count(), 0);
    uint64_t live = tp__memory_live();
    for (size_t i = 0; i < 2000; i++) {
        packets[i] = make(i * 20);
    }
    CHECK_GT(tp__memory_live(), live + 400);
    for (size_t i = 0; i < 2000; i++) {
        tp_packet_release(packets[i]);
    }
    CHECK_GT(tp__packets_trim(), 8 << 20);
    CHECK_EQ(tp__chunk_count(), 0);
    CHECK_LE(tp__memory_live(), live + 4); /* the pool's magazines and table stay */
    CHECK_EQ(tp__packets_reserve((1 << 20) + 1), TP_OK);
    CHECK_EQ(tp__chunk_count(), 17);
    (void)tp__packets_trim();
}

/* ---- memory running out ---------------------------------------------------------------------- */

static void make_with_failures(void *argument) {
    static const size_t sizes[] = {10, 16000, 16000, 16000, 16000, 16000, 40000, 3000000};
    tp_packet *packets[sizeof sizes / sizeof sizes[0]];
    unsigned *failed = argument;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        packets[i] = tp_packet_new(sizes[i]);
        if (packets[i] != NULL) {
            memset(tp_packet_put_space(packets[i], sizes[i]), 1, sizes[i]);
        } else {
            ++*failed;
        }
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tp_packet_release(packets[i]);
    }
}

static void failed_allocations_lose_nothing(void) {
    void (*const arms[])(long) = {tp__memory_fail_after, tp__memory_fail_from};
    for (size_t a = 0; a < 2; a++) {
        unsigned failures = 0;
        for (long n = 1; n < 100; n++) {
            tp_thread thread;
            unsigned failed = 0;
            (void)tp__packets_trim();
            uint64_t live = tp__memory_live();
            uint64_t asked = tp__memory_allocations();
            arms[a](n);
            REQUIRE(tp_thread_start(&thread, "test", make_with_failures, &failed) == TP_OK);
            tp_thread_join(&thread);
            arms[a](-1);
            (void)tp__packets_trim();
            CHECK_EQ(tp__chunk_count(), 0);
            CHECK_LE(tp__memory_live(), live + 1);
            if (tp__memory_allocations() - asked < (uint64_t)n) {
                CHECK_EQ(failed, 0);
                CHECK_GE(n, 5);
                break;
            }
            failures += failed; /* the pool can do without some of its allocations */
        }
        CHECK_GE(failures, 3); /* at least the thread cache and both large packets */
    }
}

CHECK_MAIN(CASE(values_come_back), CASE(values_are_little_endian),
    CASE(strings_are_cut_to_the_space_left), CASE(strings_have_a_maximum_length),
    CASE(a_missing_string_is_empty), CASE(a_put_that_does_not_fit_sticks),
    CASE(a_get_past_the_end_sticks), CASE(the_largest_numbers_overflow_nothing),
    CASE(space_is_filled_in_place), CASE(the_read_cursor_moves_freely),
    CASE(the_head_grows_and_shrinks), CASE(the_largest_packet_grows_no_head),
    CASE(the_frame_is_header_and_payload), CASE(the_header_moves_with_the_head),
    CASE(a_sealed_packet_can_be_read_and_not_written), CASE(the_seal_gives_unused_space_back),
    CASE(the_last_reference_frees), CASE(debug_builds_overwrite_what_is_released),
    CASE(many_packets_are_released_together), CASE(packets_of_every_size_are_usable),
    CASE(nothing_is_allocated_after_warming_up), CASE(spare_large_packets_are_bounded),
    CASE(trimming_gives_everything_back), CASE(failed_allocations_lose_nothing))
