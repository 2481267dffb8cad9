/* The core's allocator: counts, and fails when told to. */
#include "check.h"

#include "core/memory/memory.h"
#include "os/compiler.h"

static void gives_aligned_memory(void) {
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

static void gives_zeroes(void) {
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

static void refuses_an_overflowing_product(void) {
    /* volatile: the compiler would otherwise reject the call that is tested */
    volatile size_t half = SIZE_MAX / 2 + 1;
    CHECK(tp__allocate_zeroed(half, 2) == NULL);
    CHECK(tp__allocate_zeroed(half, half) == NULL);
}

static bool works(void) {
    void *memory = tp__allocate(8);
    tp__free(memory);
    return memory != NULL;
}

static void fails_once(void) {
    tp__memory_fail_after(3);
    CHECK(works());
    CHECK(works());
    CHECK(!works());
    CHECK(works());
    tp__memory_fail_after(1);
    CHECK(tp__allocate_zeroed(1, 8) == NULL);
    CHECK(works());
    tp__memory_fail_after(1);
    tp__memory_fail_after(-1);
    CHECK(works());
}

static void fails_from_there_on(void) {
    uint64_t live = tp__memory_live();
    tp__memory_fail_from(2);
    CHECK(works());
    CHECK(!works());
    CHECK(!works());
    CHECK(!works());
    tp__memory_fail_from(-1);
    CHECK(works());
    CHECK_EQ(tp__memory_live(), live);
}

/* Resident bytes of this process, or 0 where the system does not show them in a file. */
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

static void pieces_are_counted_and_fail_when_told(void) {
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

/* With something small of the heap's above each piece, which keeps a heap from shrinking. */
static void freed_pieces_leave_the_process(void) {
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

CHECK_MAIN(CASE(gives_aligned_memory), CASE(gives_zeroes), CASE(refuses_an_overflowing_product),
    CASE(fails_once), CASE(fails_from_there_on), CASE(pieces_are_counted_and_fail_when_told),
    CASE(freed_pieces_leave_the_process))
