/*
 * The log through its public functions: levels, lines, their order, batches, files and failed
 * opens. Output goes to a sink that keeps it, or to a file.
 */
#include "core/memory/memory.h"
#include "log_kept.h"
#include "os/process.h"

/* One call site for each line keeps the rate limit out of the other cases. */
#define SITES 20000
static tp_log_site sites[SITES];

static void logging_before_open_is_harmless(void) {
    TP_LOG(TP_LOG_DEBUG, "not to be seen");
    TP_LOG(TP_LOG_WARNING, "this line on standard error is part of the test");
    tp_log_flush();
    tp_log_close();
    CHECK_EQ(tp_log_get_level(), TP_LOG_WARNING);
    CHECK_EQ(stats().lines, 0);
    for (unsigned i = 0; i < 1000; i++) {
        TP_LOG(TP_LOG_ERROR, "part of the test: line %u of 1000", i);
    }
    CHECK_GT(stats().suppressed, 0);
}

static void levels_have_names(void) {
    tp_log_level level = TP_LOG_OFF;
    CHECK_EQ(tp_log_level_parse("debug", &level), TP_OK);
    CHECK_EQ(level, TP_LOG_DEBUG);
    CHECK_EQ(tp_log_level_parse("info", &level), TP_OK);
    CHECK_EQ(level, TP_LOG_INFO);
    CHECK_EQ(tp_log_level_parse("warning", &level), TP_OK);
    CHECK_EQ(level, TP_LOG_WARNING);
    CHECK_EQ(tp_log_level_parse("error", &level), TP_OK);
    CHECK_EQ(level, TP_LOG_ERROR);
    CHECK_EQ(tp_log_level_parse("off", &level), TP_OK);
    CHECK_EQ(level, TP_LOG_OFF);
    CHECK_EQ(tp_log_level_parse("Debug", &level), TP_ERR_INVALID);
    CHECK_EQ(tp_log_level_parse("", &level), TP_ERR_INVALID);
    CHECK_EQ(tp_log_level_parse(NULL, &level), TP_ERR_INVALID);
    CHECK_EQ(level, TP_LOG_OFF);
}

static void a_line_has_time_level_and_text(void) {
    open_kept(TP_LOG_DEBUG, 0);
    TP_LOG(TP_LOG_DEBUG, "one %d", 1);
    TP_LOG(TP_LOG_INFO, "two %s", "2");
    TP_LOG(TP_LOG_WARNING, "three %zu %" PRIu64, (size_t)3, UINT64_MAX);
    TP_LOG(TP_LOG_ERROR, "four");
    tp_log_close();
    static const char *const rest[] = {" debug    one 1\n", " info     two 2\n",
        " warning  three 3 18446744073709551615\n", " error    four\n"};
    const char *at = kept.text;
    for (unsigned i = 0; i < 4; i++) {
        unsigned year, month, day, hour, minute, second, ms;
        int size = 0;
        CHECK_EQ(sscanf(at, "%4u-%2u-%2u %2u:%2u:%2u.%3u%n", &year, &month, &day, &hour, &minute,
                     &second, &ms, &size),
            7);
        CHECK_EQ(size, 23);
        CHECK(year >= 2024 && month <= 12 && day <= 31 && hour < 24 && minute < 60 && second <= 60);
        at += size;
        CHECK(strncmp(at, rest[i], strlen(rest[i])) == 0);
        at += strlen(rest[i]);
    }
    CHECK_STR(at, "");
}

static void lines_below_the_level_are_not_written(void) {
    open_kept(TP_LOG_WARNING, 0);
    TP_LOG(TP_LOG_INFO, "quiet");
    TP_LOG(TP_LOG_WARNING, "loud");
    tp_log_set_level(TP_LOG_DEBUG);
    CHECK_EQ(tp_log_get_level(), TP_LOG_DEBUG);
    TP_LOG(TP_LOG_DEBUG, "now heard");
    tp_log_set_level(TP_LOG_OFF);
    TP_LOG(TP_LOG_ERROR, "off");
    static tp_log_site site;
    tp_log_set_level(TP_LOG_DEBUG);
    tp_log_say(&site, TP_LOG_OFF, "off is no level to say");
    tp_log_close();
    CHECK_EQ(count_of("quiet"), 0);
    CHECK_EQ(count_of("loud"), 1);
    CHECK_EQ(count_of("now heard"), 1);
    CHECK_EQ(count_of("off"), 0);
}

static void a_line_is_escaped_and_cut(void) {
    static char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    open_kept(TP_LOG_INFO, 4096);
    TP_LOG(TP_LOG_INFO, "name: %s", "a\n2026-01-01 00:00:00.000 error    forged\r\t\x7f\x1b[31m");
    TP_LOG(TP_LOG_INFO, "%s", longest);
    TP_LOG(TP_LOG_INFO, "%.*s", 5, "caf\xc3\xa9");
    tp_log_close();
    CHECK_EQ(lines_kept(), 3);
    CHECK_EQ(count_of("name: a?2026-01-01 00:00:00.000 error    forged????[31m\n"), 1);
    CHECK_EQ(count_of("xxx...\n"), 1);
    CHECK_EQ(count_of("caf\xc3\xa9\n"), 1);
    CHECK_LT(kept.size, 1024 + 200);
}

static void lines_keep_their_order_and_a_flush_waits_for_them(void) {
    memset(sites, 0, sizeof sites);
    open_kept(TP_LOG_INFO, 0);
    uint64_t before = stats().lines;
    for (unsigned i = 0; i < 2000; i++) {
        tp_log_say(&sites[i], TP_LOG_INFO, "line %u.", i);
        if (i % 500 == 499) {
            tp_log_flush();
            tp_mutex_lock(&kept.lock);
            CHECK_EQ(lines_kept(), i + 1);
            tp_mutex_unlock(&kept.lock);
        }
    }
    tp_log_close();
    CHECK_EQ(stats().lines - before, 2000);
    const char *at = kept.text;
    char found[1024];
    for (unsigned i = 0; i < 2000; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "line %u.", i);
        REQUIRE(next_text(&at, found, sizeof found));
        CHECK_STR(found, text);
    }
    CHECK_LT(kept.calls, 1000); /* lines are written in batches */
}

static void lines_are_written_without_a_flush(void) {
    open_kept(TP_LOG_INFO, 0);
    TP_LOG(TP_LOG_INFO, "first");
    wait_for_text("first");
    TP_LOG(TP_LOG_ERROR, "second");
    wait_for_text("second");
    TP_LOG(TP_LOG_INFO, "third");
    wait_for_text("third");
    tp_log_close();
}

#define THREADS    4
#define PER_THREAD 4000

static void log_much(void *argument) {
    unsigned thread = (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < PER_THREAD; i++) {
        tp_log_say(&sites[thread * PER_THREAD + i], TP_LOG_INFO, "thread %u line %u.", thread, i);
        if (i % 1000 == 0) {
            tp_log_flush();
        }
    }
}

static void lines_of_many_threads_stay_whole_and_in_order(void) {
    memset(sites, 0, sizeof sites);
    open_kept(TP_LOG_INFO, 4u << 20);
    tp_thread threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "say", log_much, (void *)i) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    tp_log_close();
    unsigned next[THREADS] = {0};
    const char *at = kept.text;
    char text[1024];
    while (next_text(&at, text, sizeof text)) {
        unsigned thread;
        unsigned line;
        char dot;
        REQUIRE(sscanf(text, "thread %u line %u%c", &thread, &line, &dot) == 3);
        REQUIRE(thread < THREADS);
        CHECK_EQ(line, next[thread]);
        CHECK_EQ(dot, '.');
        next[thread] = line + 1;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(next[i], PER_THREAD);
    }
}

static void log_inside_sink(void *context, const char *lines, size_t n) {
    (void)lines;
    (void)n;
    atomic_fetch_add((atomic_uint *)context, 1);
    TP_LOG(TP_LOG_WARNING, "part of the test: the sink says something itself");
    tp_log_flush();
}

static void a_sink_that_logs_does_not_receive_its_own_lines(void) {
    atomic_uint calls = 0;
    tp_log_options options = {
        .size = sizeof options, .level = TP_LOG_INFO, .sink = log_inside_sink, .context = &calls};
    REQUIRE(tp_log_open(&options) == TP_OK);
    TP_LOG(TP_LOG_INFO, "one line");
    tp_log_flush();
    tp_log_close();
    CHECK_EQ(atomic_load(&calls), 1);
}

static void own_file_name(char *name, size_t size) {
    (void)snprintf(name, size, "log-%" PRIu64 ".txt", tp_process_id());
}

static void a_file_is_appended_to(void) {
    char name[64];
    own_file_name(name, sizeof name);
    tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO, .file = name};
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(tp_log_open(&options) == TP_OK);
        CHECK_EQ(tp_log_open(&options), TP_ERR_STATE);
        TP_LOG(TP_LOG_INFO, "opening %u", i);
        tp_log_close();
    }
    FILE *file = fopen(name, "rb");
    REQUIRE(file != NULL);
    kept.size = fread(kept.text, 1, KEPT, file);
    kept.text[kept.size] = '\0';
    (void)fclose(file);
    CHECK_EQ(remove(name), 0);
    CHECK_EQ(lines_kept(), 3);
    CHECK_EQ(count_of("opening"), 3);
    CHECK(strstr(kept.text, "opening 0\n") < strstr(kept.text, "opening 1\n"));
    CHECK(strstr(kept.text, "opening 1\n") < strstr(kept.text, "opening 2\n"));
}

static void a_failed_open_returns_the_reason(void) {
    tp_log_options good = {.size = sizeof good, .level = TP_LOG_INFO};
    tp_log_options options = good;
    CHECK_EQ(tp_log_open(NULL), TP_ERR_INVALID);
    options.size = sizeof options - 1;
    CHECK_EQ(tp_log_open(&options), TP_ERR_INVALID);
    options = good;
    options.level = (tp_log_level)5;
    CHECK_EQ(tp_log_open(&options), TP_ERR_INVALID);
    options = good;
    options.buffer = 4095;
    CHECK_EQ(tp_log_open(&options), TP_ERR_INVALID);
    options.buffer = 67108865;
    CHECK_EQ(tp_log_open(&options), TP_ERR_INVALID);
    options = good;
    options.file = "x";
    options.sink = keep_lines;
    CHECK_EQ(tp_log_open(&options), TP_ERR_INVALID);
    options = good;
    options.file = "no-such-folder/log.txt";
    CHECK_EQ(tp_log_open(&options), TP_ERR_NO_FILE);
    uint64_t live = tp__memory_live();
    for (long n = 1; n <= 2; n++) {
        tp__memory_fail_after(n);
        CHECK_EQ(tp_log_open(&good), TP_ERR_NO_MEMORY);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
    CHECK_EQ(tp_log_get_level(), TP_LOG_WARNING);
    open_kept(TP_LOG_INFO, 0); /* and a good open still works */
    TP_LOG(TP_LOG_INFO, "at last");
    tp_log_close();
    CHECK_EQ(count_of("at last"), 1);
    CHECK_EQ(tp__memory_live(), live);
}

static void older_callers_get_the_statistics_of_their_size(void) {
    tp_log_stats old;
    memset(&old, 0x5a, sizeof old);
    old.size = offsetof(tp_log_stats, dropped);
    tp_log_get_stats(&old);
    CHECK_EQ(old.size, offsetof(tp_log_stats, dropped));
    CHECK_EQ(old.suppressed, stats().suppressed);
    CHECK_EQ(old.dropped, 0x5a5a5a5a5a5a5a5au);
    CHECK_EQ(old.failed, 0x5a5a5a5a5a5a5a5au);
}

CHECK_MAIN(CASE(logging_before_open_is_harmless), CASE(levels_have_names),
    CASE(a_line_has_time_level_and_text), CASE(lines_below_the_level_are_not_written),
    CASE(a_line_is_escaped_and_cut), CASE(lines_keep_their_order_and_a_flush_waits_for_them),
    CASE(lines_are_written_without_a_flush), CASE(lines_of_many_threads_stay_whole_and_in_order),
    CASE(a_sink_that_logs_does_not_receive_its_own_lines), CASE(a_file_is_appended_to),
    CASE(a_failed_open_returns_the_reason), CASE(older_callers_get_the_statistics_of_their_size))
