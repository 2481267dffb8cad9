/*
 * Statistics as text: whole lines, and never more than fits.
 */
#include "core/base/stats_text.h"
#include "check.h"

static char text[64];

static void lines_follow_each_other(void) {
    tp__stats_text out = tp__stats_text_in(text, sizeof text);
    CHECK_STR(text, "");
    tp__stats_text_add(&out, "peers", NULL, 0);
    tp__stats_text_add(&out, "dropped", "bus-full", UINT64_MAX);
    CHECK_STR(text, "peers=0\ndropped.bus-full=18446744073709551615\n");
    CHECK_EQ(out.size, strlen(text));
}

/* "a=1" and a line's end need 5 bytes with the zero byte. */
static void a_line_that_does_not_fit_is_left_out(void) {
    for (size_t capacity = 1; capacity <= 10; capacity++) {
        memset(text, '#', sizeof text);
        tp__stats_text out = tp__stats_text_in(text, capacity);
        tp__stats_text_add(&out, "a", NULL, 1);
        tp__stats_text_add(&out, "long", NULL, 1);
        tp__stats_text_add(&out, "b", NULL, 2);
        CHECK_STR(text, capacity < 5 ? "" : capacity < 9 ? "a=1\n" : "a=1\nb=2\n");
        CHECK_EQ(out.size, strlen(text));
        CHECK_EQ(text[capacity], '#');
    }
}

static void without_capacity_nothing_is_written(void) {
    text[0] = '#';
    tp__stats_text out = tp__stats_text_in(text, 0);
    tp__stats_text_add(&out, "a", NULL, 1);
    CHECK_EQ(text[0], '#');
    CHECK_EQ(out.size, 0);
}

CHECK_MAIN(CASE(lines_follow_each_other), CASE(a_line_that_does_not_fit_is_left_out),
    CASE(without_capacity_nothing_is_written))
