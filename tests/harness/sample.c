/*
 * Cases that fail on purpose, for the test of the harness itself: check.py runs each one and
 * compares its output and exit code.
 */
#include "check.h"

static void passes(void) {
    const uint64_t most = UINT64_MAX;
    const char *text = "bus";
    CHECK(true);
    REQUIRE(true);
    CHECK_EQ(3, 3U);
    CHECK_NE(-1, most);
    CHECK_LT(-1, 0U);
    CHECK_LE(2.0, 2);
    CHECK_GT((size_t)2, (short)1);
    CHECK_GE('b', 'a');
    CHECK_EQ(text, &text[0]);
    CHECK_STR(text, "bus");
    CHECK_MEM(text, "but", 2);
}

static void fails_check(void) {
    CHECK(1 > 2);
    printf("continued\n");
}

static void fails_require(void) {
    REQUIRE(1 > 2);
    printf("continued\n");
}

static void fails_always(void) {
    FAIL("100% reached");
    printf("continued\n");
}

static void fails_signed(void) {
    int minus = -1;
    CHECK_EQ(minus, UINT64_MAX);
}

static void fails_pointer(void) {
    const char *text = "bus";
    CHECK_EQ(text, NULL);
}

static void fails_real(void) {
    CHECK_LT(1.5, 1.5);
}

static void fails_string(void) {
    const char *nothing = NULL;
    CHECK_STR("bus", nothing);
}

static void fails_memory(void) {
    CHECK_MEM("bus", "but", 3);
}

static void skips(void) {
    SKIP("there is no moon");
}

CHECK_MAIN(CASE(passes), CASE(fails_check), CASE(fails_require), CASE(fails_always),
    CASE(fails_signed), CASE(fails_pointer), CASE(fails_real), CASE(fails_string),
    CASE(fails_memory), CASE(skips))
