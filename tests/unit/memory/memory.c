/* The core's allocator: alignment, counts, and failures on request. */
#include "check.h"

#include "core/memory/memory.h"
#include "os/compiler.h"

static void memory_is_aligned(void) {
    uint64_t live = tp__memory_live();
    uint64_t asked = tp__memory_allocations();
    void *memory = tp__allocate(100);
    REQUIRE(memory != NULL);
    CHECK_EQ((uintptr_t)memory % 16, 0);
    memset(memory, 0xAB, 100);
    CHECK_EQ(tp__memory_live(), live + 1);
    CHECK_EQ(tp__memory_allocations(), asked + 1);
    tp__free(memory);
    tp__free(NULL);
    CHECK_EQ(tp__memory_live(), live);
}

static void memory_can_be_zeroed(void) {
    static const uint8_t zeroes[700];
    void *dirty = tp__allocate(sizeof zeroes);
    REQUIRE(dirty != NULL);
    memset(dirty, 0xFF, sizeof zeroes);
    tp__free(dirty);
    void *memory = tp__allocate_zeroed(7, 100);
    REQUIRE(memory != NULL);
    CHECK_MEM(memory, zeroes, sizeof zeroes);
    tp__free(memory);
}

static void an_overflowing_product_is_refused(void) {
    /* volatile, because the compiler would reject the constant call */
    volatile size_t half = SIZE_MAX / 2 + 1;
    CHECK(tp__allocate_zeroed(half, 2) == NULL);
    CHECK(tp__allocate_zeroed(half, half) == NULL);
}

static bool can_allocate(void) {
    void *memory = tp__allocate(8);
    tp__free(memory);
    return memory != NULL;
}

static void one_allocation_can_be_made_to_fail(void) {
    tp__memory_fail_after(3);
    CHECK(can_allocate());
    CHECK(can_allocate());
    CHECK(!can_allocate());
    CHECK(can_allocate());
    tp__memory_fail_after(1);
    CHECK(tp__allocate_zeroed(1, 8) == NULL);
    CHECK(can_allocate());
    tp__memory_fail_after(1);
    tp__memory_fail_after(-1);
    CHECK(can_allocate());
}

static void all_allocations_can_be_made_to_fail(void) {
    uint64_t live = tp__memory_live();
    tp__memory_fail_from(2);
    CHECK(can_allocate());
    CHECK(!can_allocate());
    CHECK(!can_allocate());
    CHECK(!can_allocate());
    tp__memory_fail_from(-1);
    CHECK(can_allocate());
    CHECK_EQ(tp__memory_live(), live);
}

/* Resident bytes of this process; 0 where the system shows them in no file. */
static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%*d %ld", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return pages * 4096;
}

static void slabs_are_counted_and_can_be_made_to_fail(void) {
    static const size_t sizes[] = {1, TP__PAGES_FROM - 1, TP__PAGES_FROM, 65537, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t live = tp__memory_live();
        tp__memory_fail_after(2);
        uint8_t *piece = tp__allocate_piece(sizes[i]);
        REQUIRE(piece != NULL);
        CHECK(tp__allocate_piece(sizes[i]) == NULL);
        CHECK_EQ((uintptr_t)piece % 16, 0);
        memset(piece, 0x66, sizes[i]);
        CHECK_EQ(tp__memory_live(), live + 1);
        tp__free_piece(piece, sizes[i]);
        CHECK_EQ(tp__memory_live(), live);
    }
}

/* Above each piece a small block of the heap is kept, which would keep the heap from shrinking. */
static void freed_slabs_leave_the_process(void) {
#ifdef TP_ADDRESS_SANITIZER
    SKIP("the address sanitizer's heap keeps what is freed");
#endif
    enum { pieces = 256, bytes = 65536 };
    static void *piece[pieces];
    static void *small[pieces];
    long before = resident();
    for (size_t i = 0; i < pieces; i++) {
        piece[i] = tp__allocate_piece(bytes);
        small[i] = tp__allocate(100);
        REQUIRE(piece[i] != NULL && small[i] != NULL);
        memset(piece[i], 1, bytes);
    }
    for (size_t i = 0; i < pieces; i++) {
        tp__free_piece(piece[i], bytes);
    }
    long after = resident();
    for (size_t i = 0; i < pieces; i++) {
        tp__free(small[i]);
    }
    if (before == 0) {
        SKIP("resident memory is not shown here");
    }
    CHECK_LT(after, before + pieces * bytes / 8);
}

CHECK_MAIN(CASE(memory_is_aligned), CASE(memory_can_be_zeroed),
    CASE(an_overflowing_product_is_refused), CASE(one_allocation_can_be_made_to_fail),
    CASE(all_allocations_can_be_made_to_fail), CASE(slabs_are_counted_and_can_be_made_to_fail),
    CASE(freed_slabs_leave_the_process))
