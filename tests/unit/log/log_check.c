/*
 * The checks of the log's parts find each broken invariant: the cases break one field after
 * another of a list of noisy sites and of a ring, look, and repair it.
 */
#include "check.h"
#include "check_finds.h"

#include "core/log/log_noisy.h"
#include "core/log/recent.h"

#define CHECK_FOUND(type, field, wrong, text) CHECK_FINDS_VALUE(LOOK, text, type, field, wrong)

static tp_log_site sites[3];
static tp__log_noisy_list list;

static void the_check_finds_a_wrong_list_of_sites(void) {
#define LOOK text_of(tp__log_noisy_check(&list))
    CHECK_STR(LOOK, "");
    tp__log_line line;
    tp__log_line_print(&line, TP_LOG_INFO, "%s", "a sample");
    for (size_t i = 0; i < 3; i++) {
        tp__log_noisy_add(&list, &sites[i], 5, TP_LOG_INFO, &line);
        CHECK_STR(LOOK, "");
    }
    tp__log_noisy_add(&list, &sites[1], 6, TP_LOG_INFO, &line); /* replaced */
    CHECK_STR(LOOK, "");
    CHECK_FOUND(size_t, list.count, TP__LOG_MAX_NOISY + 1, "count <= TP__LOG_MAX_NOISY");
    CHECK_FOUND(size_t, list.count, 4, "site != NULL");
    CHECK_FOUND(tp_log_site *, list.entries[2].site, &sites[0], "site != entry->site");
    CHECK_FOUND(tp_log_level, list.entries[0].level, TP_LOG_OFF, "level < TP_LOG_OFF");
    char sample[TP__LOG_SAMPLE];
    memcpy(sample, list.entries[0].sample, sizeof sample);
    memset(list.entries[0].sample, 'x', sizeof sample);
    CHECK(strstr(LOOK, "memchr") != NULL);
    memcpy(list.entries[0].sample, sample, sizeof sample);
    CHECK_STR(LOOK, "");
#undef LOOK
}

static void the_check_finds_a_wrong_ring(void) {
#define LOOK text_of(tp__recent_check(ring))
    tp__recent *ring = tp__recent_create(4, 2);
    REQUIRE(ring != NULL);
    CHECK_STR(LOOK, "");
    for (uint64_t i = 0; i < 6; i++) {
        tp__recent_put(ring, (const uint64_t[]){i, i});
        CHECK_STR(LOOK, "");
    }
    CHECK_FOUND(size_t, ring->entries, 3, "entries - 1");
    CHECK_FOUND(size_t, ring->words, TP__RECENT_MAX_WORDS + 1, "words <= TP__RECENT_MAX_WORDS");
    CHECK_FOUND(uint64_t, ring->lost, 7, "<= next");
    CHECK_FOUND(uint64_t, ring->next, 5, "mark / 2 <= next");
    CHECK_FOUND(uint64_t, ring->cells[0], 2 * 4 + 1, "mark % 2 == 0");
    CHECK_FOUND(uint64_t, ring->cells[0], 2 * 3 + 2, "% recent->entries == i");
    tp__recent_destroy(ring);
#undef LOOK
}

CHECK_MAIN(CASE(the_check_finds_a_wrong_list_of_sites), CASE(the_check_finds_a_wrong_ring))
