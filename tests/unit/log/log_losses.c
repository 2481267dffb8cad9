/*
 * Lines that the log does not write, because there are too many of them, its buffer is full or its
 * file refuses them: each is counted, and the log reports how many there were.
 */
#include "log_kept.h"

/* One call site for each line keeps the rate limit out of the other cases. */
#define SITES 1001
static tp_log_site sites[SITES];

static void a_flood_is_limited_and_reported_every_second(void) {
    open_kept(TP_LOG_INFO, 0);
    tp_log_stats before = stats();
    uint64_t started = tp_clock_ms();
    for (unsigned i = 0; i < 1000; i++) {
        TP_LOG(TP_LOG_WARNING, "malformed packet %u", i);
    }
    /* Seconds in which a line was written, at most. */
    uint64_t seconds = (tp_clock_ms() - started) / 1000 + 2;
    /* No further line is logged: the log itself reports when the second is over. */
    wait_for_text("more lines suppressed in one second: malformed packet");
    tp_log_close();
    unsigned long held = sum_before(" more lines suppressed in one second: malformed packet");
    unsigned said = count_of("  malformed packet");
    CHECK_EQ(said + held, 1000);
    CHECK_GE(said, TP_LOG_BURST);
    CHECK_LE(said, seconds * TP_LOG_BURST);
    CHECK_EQ(stats().suppressed - before.suppressed, held);
    CHECK_LE(lines_kept(), seconds * (TP_LOG_BURST + 1));
    CHECK_EQ(stats().lines - before.lines, lines_kept());
}

/* The same when the log's thread sleeps already and no further line wakes it. */
static void a_flood_after_silence_is_reported(void) {
    static tp_log_site site;
    open_kept(TP_LOG_INFO, 0);
    for (unsigned i = 0; i < TP_LOG_BURST; i++) {
        tp_log_say(&site, TP_LOG_WARNING, "drop %u", i);
    }
    tp_log_flush();
    for (unsigned i = 0; i < 1000; i++) {
        tp_log_say(&site, TP_LOG_WARNING, "drop %u", i);
    }
    wait_for_text("more lines suppressed in one second: drop");
    tp_log_close();
    CHECK_EQ(count_of("  drop") + sum_before(" more lines suppressed in one second: drop"),
        1000 + TP_LOG_BURST);
}

static void suppressed_lines_are_reported_at_close(void) {
    open_kept(TP_LOG_INFO, 0);
    for (unsigned i = 0; i < 50; i++) {
        TP_LOG(TP_LOG_WARNING, "flood %u", i);
    }
    tp_log_close();
    CHECK_EQ(count_of("  flood") + sum_before(" more lines suppressed in one second: flood"), 50);
}

static void dropped_lines_are_counted_and_reported(void) {
    memset(sites, 0, sizeof sites);
    open_kept(TP_LOG_INFO, 8192);
    tp_log_stats before = stats();
    block_sink(true);
    tp_log_say(&sites[0], TP_LOG_INFO, "number 0.");
    wait_until_sink_is_held_up(); /* from now on lines can only gather */
    for (unsigned i = 1; i < 1000; i++) {
        tp_log_say(&sites[i], TP_LOG_INFO, "number %u.", i);
    }
    block_sink(false);
    tp_log_flush();
    tp_log_say(&sites[1000], TP_LOG_INFO, "room again");
    tp_log_close();
    unsigned said = count_of("  number ");
    unsigned long dropped = sum_before(" log lines dropped");
    CHECK_GT(said, 50);
    CHECK_GT(dropped, 500);
    CHECK_EQ(said + dropped, 1000);
    CHECK_EQ(stats().dropped - before.dropped, dropped);
    CHECK_EQ(count_of("room again"), 1);
    CHECK(strstr(kept.text, "log lines dropped") < strstr(kept.text, "room again"));
}

static void lines_a_file_refuses_are_counted(void) {
    tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO, .file = "/dev/full"};
    FILE *full = fopen(options.file, "r");
    if (full == NULL) {
        SKIP("this system has no /dev/full");
    }
    (void)fclose(full);
    tp_log_stats before = stats();
    REQUIRE(tp_log_open(&options) == TP_OK);
    TP_LOG(TP_LOG_INFO, "lost");
    tp_log_flush();
    TP_LOG(TP_LOG_INFO, "lost too");
    tp_log_close();
    CHECK_EQ(stats().failed - before.failed, 2);
    CHECK_EQ(stats().lines, before.lines);
}

CHECK_MAIN(CASE(a_flood_is_limited_and_reported_every_second),
    CASE(a_flood_after_silence_is_reported), CASE(suppressed_lines_are_reported_at_close),
    CASE(dropped_lines_are_counted_and_reported), CASE(lines_a_file_refuses_are_counted))
