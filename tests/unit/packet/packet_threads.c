/*
 * Packets under many threads: one packet read and released by several, packets of one chunk on
 * several threads, and the last release on any of them.
 */
#include "check.h"

#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "os/thread.h"

enum { makers = 2, readers = 2, lives = 4, packets_each = 15000, slots = 256 };

/*
 * A mailbox for each reader. With `to_all` each packet goes to all readers, as in a broadcast.
 *
 * What the readers write into a mailbox orders nothing (no release): the packets' own counts must
 * order a reader's last access before the next use of the memory. The thread sanitizer would report
 * it if they did not.
 */
static _Atomic(tp_packet *) mail[readers][slots];
static bool to_all; /* otherwise each packet goes to one reader: they share chunks, but no packet */
static atomic_uint makers_left;
static atomic_uint received;

static size_t size_of_number(uint32_t number) {
    if (number % 1000 == 7) {
        return 20000 + number % 50000; /* memory of its own */
    }
    return number % 400;
}

static void post(unsigned reader, uint32_t at, tp_packet *packet) {
    for (;;) {
        tp_packet *nothing = NULL;
        if (atomic_compare_exchange_strong_explicit(&mail[reader][at % slots], &nothing, packet,
                memory_order_release, memory_order_relaxed)) {
            return;
        }
        tp_thread_yield();
    }
}

static void make_packets(void *argument) {
    uint32_t first = *(unsigned *)argument * packets_each;
    for (uint32_t i = 0; i < packets_each; i++) {
        uint32_t number = first + i;
        size_t size = size_of_number(number);
        tp_packet *packet =
            tp_packet_new(size + 300); /* more than needed: the seal gives the rest back */
        if (packet == NULL) {
            CHECK(packet != NULL);
            continue;
        }
        tp_packet_put_u32(packet, number);
        memset(tp_packet_put_space(packet, size), (int)(number % 251), size);
        tp__packet_seal(packet, 0);
        for (unsigned reader = 0; reader < readers; reader++) {
            if (to_all || number % readers == reader) {
                post(reader, i, tp_packet_retain(packet));
            }
        }
        tp_packet_release(packet);
    }
    atomic_fetch_sub_explicit(&makers_left, 1, memory_order_release);
}

static void read_one(const tp_packet *packet) {
    size_t bytes;
    const uint8_t *frame = tp__packet_frame(packet, &bytes);
    uint32_t number =
        frame[4] | (uint32_t)frame[5] << 8 | (uint32_t)frame[6] << 16 | (uint32_t)frame[7] << 24;
    size_t size = size_of_number(number);
    if (bytes != 8 + size) {
        CHECK_EQ(bytes, 8 + size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (frame[8 + i] != number % 251) {
            CHECK_EQ(frame[8 + i], number % 251);
            return;
        }
    }
}

static void read_packets(void *argument) {
    unsigned reader = *(unsigned *)argument;
    tp_packet *kept[32] = {NULL}; /* held for a while, so that chunks end in every order */
    uint32_t turn = 0;
    bool over = false;
    while (!over) {
        over = atomic_load_explicit(&makers_left, memory_order_acquire) == 0;
        for (uint32_t i = 0; i < slots; i++) {
            tp_packet *packet =
                atomic_exchange_explicit(&mail[reader][i], NULL, memory_order_acquire);
            if (packet == NULL) {
                continue;
            }
            over = false;
            read_one(packet);
            atomic_fetch_add_explicit(&received, 1, memory_order_relaxed);
            turn++;
            tp_packet_release(kept[(turn * 7) % 32]);
            kept[(turn * 7) % 32] = packet;
        }
        tp_thread_yield();
    }
    for (unsigned i = 0; i < 32; i++) {
        tp_packet_release(kept[i]);
    }
}

static void run(void) {
    tp_thread making[makers];
    tp_thread reading[readers];
    unsigned maker_number[makers];
    unsigned reader_number[readers];
    for (unsigned life = 0; life < lives; life++) {
        atomic_store(&makers_left, makers);
        atomic_store(&received, 0);
        for (unsigned i = 0; i < readers; i++) {
            reader_number[i] = i;
            REQUIRE(tp_thread_start(&reading[i], "read", read_packets, &reader_number[i]) == TP_OK);
        }
        for (unsigned i = 0; i < makers; i++) {
            maker_number[i] = i;
            REQUIRE(tp_thread_start(&making[i], "make", make_packets, &maker_number[i]) == TP_OK);
        }
        for (unsigned i = 0; i < makers; i++) {
            tp_thread_join(&making[i]);
        }
        for (unsigned i = 0; i < readers; i++) {
            tp_thread_join(&reading[i]);
        }
        CHECK_EQ(atomic_load(&received), makers * packets_each * (to_all ? readers : 1));
    }
    (void)tp__packets_trim();
    CHECK_EQ(tp__chunk_count(), 0); /* every packet was freed once */
}

static void one_packet_is_shared_by_many_threads(void) {
    to_all = true;
    run();
}

static void one_chunk_is_shared_by_many_threads(void) {
    to_all = false;
    run();
}

/* Packets that are sent on by their receiver: the first send, and so the seal, is on another thread
 * than the one that made the packet. */
static void seal_all(void *argument) {
    tp_packet **packets = argument;
    for (unsigned i = 0; i < slots; i++) {
        uint8_t *head = tp_packet_push_head(packets[i], 8);
        CHECK(head != NULL);
        memset(head, 9, 8);
        tp__packet_seal(packets[i], 0);
        CHECK_EQ(tp__packet_frame_size(packets[i]), 4 + 8 + 100);
        tp_packet_release(packets[i]);
    }
}

static void a_packet_may_be_sealed_on_another_thread(void) {
    static tp_packet *packets[slots];
    for (int round = 0; round < 20; round++) {
        tp_thread thread;
        for (unsigned i = 0; i < slots; i++) {
            packets[i] = tp_packet_new(500);
            REQUIRE(packets[i] != NULL);
            memset(tp_packet_put_space(packets[i], 100), 5, 100);
        }
        REQUIRE(tp_thread_start(&thread, "seal", seal_all, packets) == TP_OK);
        tp_thread_join(&thread);
    }
    (void)tp__packets_trim();
    CHECK_EQ(tp__chunk_count(), 0);
}

/* One kept packet whose only reference two threads use at the same time, as two threads that send
 * it do. No reference that they take may be lost, or the packet would be freed under its owner. */
enum { sharers = 2, turns = 1000000 };

static atomic_uint sharing;

static void take_and_release(void *argument) {
    tp_packet *packet = argument;
    atomic_fetch_add(&sharing, 1);
    while (atomic_load(&sharing) < sharers) {
        tp_thread_yield(); /* neither ends before the other has begun */
    }
    for (unsigned i = 0; i < turns; i++) {
        tp_packet_release(tp_packet_retain(packet));
    }
}

static void two_threads_may_use_one_reference(void) {
    tp_thread threads[sharers];
    tp_packet *kept = tp_packet_copy_of("kept", 4);
    REQUIRE(kept != NULL);
    tp__packet_seal(kept, 0);
    for (unsigned i = 0; i < sharers; i++) {
        REQUIRE(tp_thread_start(&threads[i], "share", take_and_release, kept) == TP_OK);
    }
    for (unsigned i = 0; i < sharers; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(atomic_load(&kept->references), 1);
    CHECK_MEM(tp_packet_bytes(kept), "kept", 4);
    tp_packet_release(kept);
    (void)tp__packets_trim();
    CHECK_EQ(tp__chunk_count(), 0);
}

/* A reader's error is visible to a thread that sends the packet on at the same moment. */
static void read_too_much(void *argument) {
    CHECK_EQ(tp_packet_get_u64(argument), 0);
}

static void a_packet_may_be_read_while_it_is_sent(void) {
    tp_thread thread;
    tp_packet *packet = tp_packet_copy_of("kept", 4);
    REQUIRE(packet != NULL);
    tp__packet_seal(packet, 0);
    REQUIRE(tp_thread_start(&thread, "read", read_too_much, packet) == TP_OK);
    while (tp_packet_error(packet) == TP_OK) {
        tp_packet_release(tp_packet_retain(packet));
    }
    tp_thread_join(&thread);
    CHECK_EQ(tp_packet_error(packet), TP_ERR_SHORT);
    tp_packet_release(packet);
}

CHECK_MAIN(CASE(one_packet_is_shared_by_many_threads), CASE(one_chunk_is_shared_by_many_threads),
    CASE(a_packet_may_be_sealed_on_another_thread), CASE(two_threads_may_use_one_reference),
    CASE(a_packet_may_be_read_while_it_is_sent))
