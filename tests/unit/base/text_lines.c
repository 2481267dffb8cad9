/* The lines of a text: newlines, the last line, the byte order mark. */
#include "core/base/text_lines.h"
#include "check.h"

static tp__text_lines lines;

/* Checks that the next line is this one. */
static void expect_line(unsigned number, const char *wanted) {
    char text[64];
    REQUIRE(tp__text_lines_next(&lines));
    CHECK_EQ(lines.number, number);
    REQUIRE(lines.length < sizeof text);
    memcpy(text, lines.line, lines.length);
    text[lines.length] = '\0';
    CHECK_STR(text, wanted);
}

static void begin(const char *text) {
    lines = tp__text_lines_begin(text, strlen(text));
}

static void lines_end_at_newlines_or_the_end(void) {
    begin("one\n\n three \r\nfour");
    expect_line(1, "one");
    expect_line(2, "");
    expect_line(3, " three \r");
    expect_line(4, "four");
    CHECK(!tp__text_lines_next(&lines));
    CHECK(!tp__text_lines_next(&lines));
    CHECK_EQ(lines.number, 4);
    begin("one\n");
    expect_line(1, "one");
    CHECK(!tp__text_lines_next(&lines));
}

static void an_empty_text_has_no_line(void) {
    begin("");
    CHECK(!tp__text_lines_next(&lines));
    CHECK_EQ(lines.number, 0);
    lines = tp__text_lines_begin(NULL, 0);
    CHECK(!tp__text_lines_next(&lines));
}

static void a_byte_order_mark_is_left_out_at_the_start(void) {
    begin("\xef\xbb\xbfone\n\xef\xbb\xbftwo");
    expect_line(1, "one");
    expect_line(2, "\xef\xbb\xbftwo");
    begin("\xef\xbb\xbf");
    CHECK(!tp__text_lines_next(&lines));
    begin("\xef\xbb");
    expect_line(1, "\xef\xbb");
    begin("\xef\xbb\xbf\xef\xbb\xbfx");
    expect_line(1, "\xef\xbb\xbfx");
}

static void zero_bytes_are_a_part_of_a_line(void) {
    lines = tp__text_lines_begin("a\0b\nc", 5);
    REQUIRE(tp__text_lines_next(&lines));
    CHECK_EQ(lines.length, 3);
    CHECK_MEM(lines.line, "a\0b", 3);
    expect_line(2, "c");
}

CHECK_MAIN(CASE(lines_end_at_newlines_or_the_end), CASE(an_empty_text_has_no_line),
    CASE(a_byte_order_mark_is_left_out_at_the_start), CASE(zero_bytes_are_a_part_of_a_line))
