/* Tests of common/os/random.h. */
#include "check.h"

#include "os/random.h"

static void every_size_is_filled_and_nothing_more(void) {
    static const size_t sizes[] = {0, 1, 7, 255, 256, 257, 512, 100000};
    static unsigned char bytes[100000 + 1];
    static unsigned char changed[100000];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(changed, 0, sizeof changed);
        bytes[sizes[i]] = 0xa5;
        /* A byte that stays 0 in 40 fills was not written. */
        for (unsigned fill = 0; fill < 40; fill++) {
            memset(bytes, 0, sizes[i]);
            tp_random_bytes(bytes, sizes[i]);
            CHECK_EQ(bytes[sizes[i]], 0xa5);
            for (size_t k = 0; k < sizes[i]; k++) {
                changed[k] |= bytes[k];
            }
        }
        size_t missed = 0;
        for (size_t k = 0; k < sizes[i]; k++) {
            missed += changed[k] == 0;
        }
        CHECK_EQ(missed, 0);
    }
}

static void two_fills_differ(void) {
    unsigned char one[32];
    unsigned char other[32];
    tp_random_bytes(one, sizeof one);
    tp_random_bytes(other, sizeof other);
    CHECK(memcmp(one, other, sizeof one) != 0);
}

static void ones_and_zeros_balance(void) {
    static unsigned char bytes[65536];
    tp_random_bytes(bytes, sizeof bytes);
    unsigned ones = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            ones += ((unsigned)bytes[i] >> bit) & 1u;
        }
    }
    /* 524,288 bits: at most ten standard deviations (of 362) from one half. */
    CHECK_GT(ones, 262144 - 3620);
    CHECK_LT(ones, 262144 + 3620);
}

CHECK_MAIN(CASE(every_size_is_filled_and_nothing_more), CASE(two_fills_differ),
    CASE(ones_and_zeros_balance))
