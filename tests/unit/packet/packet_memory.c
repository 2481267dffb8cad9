/*
 * The memory of packets, on one thread: references, what their release gives back, what is kept for
 * the next ones, and allocations that fail.
 */
#include "core/memory/large.h"
#include "core/memory/memory.h"
#include "os/thread.h"
#include "packet_fixture.h"

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
    tp_packet *keeps_the_chunk = packet_make(8);
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
        packets[i] = packet_make(64);
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
            tp_packet *packet = packet_make(sizes[i]);
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
        packets[i] = packet_make(1 << 20);
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
        packets[i] = packet_make(i * 20);
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

CHECK_MAIN(CASE(the_last_reference_frees), CASE(debug_builds_overwrite_what_is_released),
    CASE(many_packets_are_released_together), CASE(packets_of_every_size_are_usable),
    CASE(nothing_is_allocated_after_warming_up), CASE(spare_large_packets_are_bounded),
    CASE(trimming_gives_everything_back), CASE(failed_allocations_lose_nothing))
