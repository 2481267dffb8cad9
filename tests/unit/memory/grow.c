/*
 * Growth by doubling: what is in the array stays, what is new is zero, and overflow is like missing
 * memory.
 */
#include "core/memory/grow.h"

#include "check.h"

static void a_capacity_doubles(void) {
    CHECK_EQ(tp__doubled(0, 16), 16);
    CHECK_EQ(tp__doubled(16, 16), 32);
    CHECK_EQ(tp__doubled(3, 16), 6);
    CHECK_EQ(tp__doubled((uint32_t)1 << 30, 16), (uint32_t)1 << 31);
}

static void a_capacity_that_overflows_is_0(void) {
    CHECK_EQ(tp__doubled(UINT32_MAX / 2, 16), UINT32_MAX - 1);
    CHECK_EQ(tp__doubled((uint32_t)1 << 31, 16), 0);
    CHECK_EQ(tp__doubled(UINT32_MAX, 16), 0);
}

static void elements_are_copied_and_the_rest_is_zero(void) {
    const uint32_t old[] = {7, 8, 9};
    uint32_t *larger = tp__larger_copy(old, 3, 6, sizeof *larger);
    const uint32_t expected[] = {7, 8, 9, 0, 0, 0};
    REQUIRE(larger != NULL);
    CHECK_MEM(larger, expected, sizeof expected);
    tp__free(larger);
}

static void an_empty_array_may_be_null(void) {
    uint64_t *made = tp__larger_copy(NULL, 0, 4, sizeof *made);
    const uint64_t zeros[4] = {0};
    REQUIRE(made != NULL);
    CHECK_MEM(made, zeros, sizeof zeros);
    tp__free(made);
}

static void no_capacity_is_no_array(void) {
    const uint32_t old[] = {7, 8, 9};
    CHECK(tp__larger_copy(old, 3, 2, sizeof old[0]) == NULL);
    CHECK(tp__larger_copy(old, 3, tp__doubled((uint32_t)1 << 31, 1), sizeof old[0]) == NULL);
    CHECK(tp__larger_copy(NULL, 0, 0, sizeof old[0]) == NULL);
    CHECK(tp__larger_copy(NULL, 0, 4, SIZE_MAX / 2) == NULL);
}

static void missing_memory_changes_nothing(void) {
    const uint32_t old[] = {7, 8, 9};
    uint64_t live = tp__memory_live();
    tp__memory_fail_after(1);
    CHECK(tp__larger_copy(old, 3, 6, sizeof old[0]) == NULL);
    CHECK_EQ(tp__memory_live(), live);
    CHECK_EQ(old[2], 9);
}

CHECK_MAIN(CASE(a_capacity_doubles), CASE(a_capacity_that_overflows_is_0),
    CASE(elements_are_copied_and_the_rest_is_zero), CASE(an_empty_array_may_be_null),
    CASE(no_capacity_is_no_array), CASE(missing_memory_changes_nothing))
