/* The rate limit of a call site, and the list of call sites that exceed it. */
#include "core/log/log_site.h"
#include "check.h"
#include "core/log/log_noisy.h"
#include "os/thread.h"

static tp__log_verdict ask(tp_log_site *site, uint32_t second, uint32_t *held) {
    return tp__log_site_check(site, &second, held);
}

static void each_second_has_its_limit(void) {
    tp_log_site site = {0};
    uint32_t held;
    for (uint32_t second = 0; second < 3; second++) {
        for (unsigned i = 0; i < TP_LOG_BURST; i++) {
            CHECK_EQ(ask(&site, second, &held), TP__LOG_PASS);
            CHECK_EQ(held, second > 0 && i == 0 ? 6 : 0);
        }
        CHECK_EQ(ask(&site, second, &held), TP__LOG_SUPPRESS_FIRST);
        for (unsigned i = 0; i < 5; i++) {
            CHECK_EQ(ask(&site, second, &held), TP__LOG_SUPPRESS);
            CHECK_EQ(held, 0);
        }
    }
}

static void the_report_is_taken_once(void) {
    tp_log_site site = {0};
    uint32_t held;
    for (unsigned i = 0; i < TP_LOG_BURST + 4; i++) {
        (void)ask(&site, 7, &held);
    }
    CHECK_EQ(tp__log_site_take_suppressed(&site, 6), 0);
    CHECK_EQ(tp__log_site_take_suppressed(&site, 8), 0);
    CHECK_EQ(tp__log_site_take_suppressed(&site, 7), 4);
    CHECK_EQ(tp__log_site_take_suppressed(&site, 7), 0);
    /* This second's limit has been reached already. */
    CHECK_EQ(ask(&site, 7, &held), TP__LOG_SUPPRESS_FIRST);
    CHECK_EQ(ask(&site, 8, &held), TP__LOG_PASS);
    CHECK_EQ(held, 1);
    CHECK_EQ(tp__log_site_take_suppressed(&site, 7), 0);
}

static void a_site_within_its_limit_has_nothing_to_report(void) {
    tp_log_site site = {0};
    uint32_t held;
    for (unsigned i = 0; i < TP_LOG_BURST; i++) {
        (void)ask(&site, 7, &held);
    }
    CHECK_EQ(tp__log_site_take_suppressed(&site, 7), 0);
    CHECK_EQ(ask(&site, 8, &held), TP__LOG_PASS);
    CHECK_EQ(held, 0);
}

static void a_late_thread_counts_in_the_later_second(void) {
    tp_log_site site = {0};
    uint32_t held;
    for (unsigned i = 0; i < TP_LOG_BURST; i++) {
        (void)ask(&site, 9, &held);
    }
    uint32_t second = 8;
    CHECK_EQ(tp__log_site_check(&site, &second, &held), TP__LOG_SUPPRESS_FIRST);
    CHECK_EQ(second, 9);
    CHECK_EQ(tp__log_site_take_suppressed(&site, 9), 1);
}

static void a_full_count_stays_full(void) {
    tp_log_site site = {.second_and_count = (uint64_t)5 << 32 | (UINT32_MAX - 1)};
    uint32_t held;
    CHECK_EQ(ask(&site, 5, &held), TP__LOG_SUPPRESS);
    CHECK_EQ(ask(&site, 5, &held), TP__LOG_SUPPRESS);
    CHECK_EQ(site.second_and_count, (uint64_t)5 << 32 | UINT32_MAX);
    CHECK_EQ(ask(&site, 6, &held), TP__LOG_PASS);
    CHECK_EQ(held, UINT32_MAX - TP_LOG_BURST);
}

/* With several threads, each line is either written or reported as held back by exactly one of
 * them. */
#define THREADS 3
#define ASKS    100000

static tp_log_site shared_site;
static atomic_uint shared_second;
static atomic_ullong said;
static atomic_ullong reported;

static void ask_much(void *argument) {
    (void)argument;
    unsigned long long mine_said = 0;
    unsigned long long mine_reported = 0;
    for (unsigned i = 0; i < ASKS; i++) {
        uint32_t second = atomic_load(&shared_second);
        uint32_t held;
        if (tp__log_site_check(&shared_site, &second, &held) == TP__LOG_PASS) {
            mine_said++;
        }
        mine_reported += held;
        if (i % 97 == 0) {
            mine_reported += tp__log_site_take_suppressed(&shared_site, second);
        }
        if (i % 53 == 0) {
            atomic_fetch_add(&shared_second, 1);
        }
    }
    atomic_fetch_add(&said, mine_said);
    atomic_fetch_add(&reported, mine_reported);
}

static void threads_lose_no_line(void) {
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "ask", ask_much, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    uint32_t last;
    (void)ask(&shared_site, UINT32_MAX, &last);
    CHECK_EQ(atomic_load(&said) + atomic_load(&reported) + last, THREADS * ASKS);
}

static tp__log_noisy_list list;
static tp_log_site sites[TP__LOG_MAX_NOISY + 1];

static void add(tp_log_site *site, uint32_t second, const char *text) {
    tp__log_line line;
    tp__log_line_print(&line, TP_LOG_INFO, "%s", text);
    tp__log_noisy_add(&list, site, second, TP_LOG_INFO, &line);
}

static void noisy_sites_are_found_by_site_and_by_time(void) {
    list.count = 0;
    tp__log_noisy entry;
    CHECK(!tp__log_noisy_take(&list, &sites[0], &entry));
    CHECK(!tp__log_noisy_take_before(&list, UINT32_MAX, &entry));
    add(&sites[0], 5, "five");
    add(&sites[1], 6, "six");
    add(&sites[2], 7, "seven");
    CHECK(!tp__log_noisy_has_before(&list, 5));
    CHECK(tp__log_noisy_has_before(&list, 6));
    CHECK(tp__log_noisy_take(&list, &sites[1], &entry));
    CHECK_STR(entry.sample, "six");
    CHECK(!tp__log_noisy_take(&list, &sites[1], &entry));
    CHECK(tp__log_noisy_take_before(&list, 6, &entry));
    CHECK(entry.site == &sites[0]);
    CHECK_STR(entry.sample, "five");
    CHECK_EQ(entry.level, TP_LOG_INFO);
    CHECK(!tp__log_noisy_take_before(&list, 7, &entry));
    CHECK(tp__log_noisy_take_before(&list, 8, &entry));
    CHECK_EQ(list.count, 0);
}

static void a_site_is_listed_once(void) {
    list.count = 0;
    tp__log_noisy entry;
    add(&sites[0], 5, "five");
    add(&sites[0], 6, "six");
    CHECK_EQ(list.count, 1);
    CHECK(tp__log_noisy_take(&list, &sites[0], &entry));
    CHECK_EQ(entry.second, 6);
    CHECK_STR(entry.sample, "six");
}

static void a_full_list_accepts_no_more(void) {
    list.count = 0;
    for (unsigned i = 0; i <= TP__LOG_MAX_NOISY; i++) {
        add(&sites[i], i, "text");
    }
    CHECK_EQ(list.count, TP__LOG_MAX_NOISY);
    tp__log_noisy entry;
    CHECK(!tp__log_noisy_take(&list, &sites[TP__LOG_MAX_NOISY], &entry));
    for (unsigned i = 0; i < TP__LOG_MAX_NOISY; i++) {
        CHECK(tp__log_noisy_take(&list, &sites[i], &entry));
        CHECK_EQ(entry.second, i);
    }
}

CHECK_MAIN(CASE(each_second_has_its_limit), CASE(the_report_is_taken_once),
    CASE(a_site_within_its_limit_has_nothing_to_report),
    CASE(a_late_thread_counts_in_the_later_second), CASE(a_full_count_stays_full),
    CASE(threads_lose_no_line), CASE(noisy_sites_are_found_by_site_and_by_time),
    CASE(a_site_is_listed_once), CASE(a_full_list_accepts_no_more))
