/*
 * The file of bans: which lines are read as bans, in which order, and the error text of each wrong
 * line. Most texts are parsed from memory, some from a file.
 */
#include "check.h"

#include "core/config/config.h"
#include "core/memory/memory.h"
#include "os/process.h"
#include "wanserver/files/ban_list.h"

static tp__ban_list list;
static char report[TP__CONFIG_REPORT];

static tp_err parse(const char *text) {
    return tp__ban_list_parse("bans", text, strlen(text), &list, report, sizeof report);
}

static void check_ban(size_t index, const char *text, uint64_t until, unsigned line) {
    tp_network network;
    REQUIRE(tp_network_parse(text, &network) == TP_OK);
    CHECK_EQ(tp__ban_compare(&list.bans[index].network, &network), 0);
    CHECK_EQ(list.bans[index].until, until);
    CHECK_EQ(list.bans[index].line, line);
}

static void bans_are_read_in_order(void) {
    CHECK_EQ(parse("# whom we do not want\r\n"
                   "2001:db8:bad::/48 18446744073709551615\r\n"
                   "\t198.51.100.0/24\t1788000000 # until then\n"
                   "198.51.100.0/25\n"
                   "10.0.0.1"),
        TP_OK);
    CHECK_STR(report, "");
    REQUIRE(list.count == 4);
    check_ban(0, "10.0.0.1", 0, 5);
    check_ban(1, "198.51.100.0/24", 1788000000, 3);
    check_ban(2, "198.51.100.0/25", 0, 4);
    check_ban(3, "2001:db8:bad::/48", UINT64_MAX, 2);
    CHECK_EQ(parse(""), TP_OK);
    CHECK_EQ(list.count, 0);
}

static void wrong_lines_are_named(void) {
    static const struct {
        const char *text;
        const char *wanted;
    } wrong[] = {
        {"10.0.0.1\nnobody\n", "bans:2: 'nobody': expected a network"},
        {"10.0.0.1/8\r\n", "bans:1: '10.0.0.1/8': expected a network"},
        {" 10.0.0.1\tsoon # \n", "bans:1: ' 10.0.0.1?soon #': expected a network"},
        {"10.0.0.1 -1\n", "bans:1: '10.0.0.1 -1': expected a network"},
        {"10.0.0.1 18446744073709551616", "bans:1: '10.0.0.1 18446744073709551616': expected a"},
        {"10.0.0.1 1 2\n", "bans:1: '10.0.0.1 1 2': expected a network"},
        {"111111111111111111111111111111111111111111111111111111111111111\n",
            "bans:1: '111111111111111111111111111111111111111111111111111111111111111': expected "
            "a"},
        {"1111111111111111111111111111111111111111111111111111111111111111\n",
            "bans:1: '111111111111111111111111111111111111111111111111111111111111...': expected "
            "a"},
        /* only the first errors are listed */
        {"::1\n::1\nnobody\n", "bans:3: 'nobody': expected a network"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(parse(wrong[i].text), TP_ERR_CONFIG);
        if (strncmp(report, wrong[i].wanted, strlen(wrong[i].wanted)) != 0) {
            CHECK_STR(report, wrong[i].wanted);
        }
        CHECK_EQ(list.count, 0);
    }
}

static void a_zero_byte_does_not_end_the_list(void) {
    static const char text[] = "10.0.0.1\0x\n";
    CHECK_EQ(tp__ban_list_parse("bans", text, sizeof text - 1, &list, report, sizeof report),
        TP_ERR_CONFIG);
    CHECK(strstr(report, "'10.0.0.1?x'") != NULL);
}

/* Of two lines for one network the longer ban counts, in either order. */
static void a_network_listed_twice_gives_a_warning(void) {
    CHECK_EQ(parse("::1 7\n10.0.0.1\n::1 5\n::ffff:10.0.0.1 9\n::1 8\n::2 6\n::2\n"), TP_OK);
    CHECK_STR(report, "bans:3: network given again: line 1 has it; the longer ban counts\n"
                      "bans:4: network given again: line 2 has it; the longer ban counts\n"
                      "bans:5: network given again: line 1 has it; the longer ban counts\n"
                      "bans:7: network given again: line 6 has it; the longer ban counts");
    REQUIRE(list.count == 3);
    check_ban(0, "::1", 8, 1);
    check_ban(1, "::2", 0, 6);
    check_ban(2, "10.0.0.1", 0, 2);
    CHECK_EQ(parse("::1\n::1\n::1\n::1\n::1\n::1\n::1\n::1\n::1\n::1\n::1\n"), TP_OK);
    CHECK(strstr(report, "bans:9: network given again") != NULL);
    CHECK(strstr(report, "bans:10:") == NULL);
    CHECK(strstr(report, "\nand 2 more warnings") != NULL);
    CHECK_EQ(list.count, 1);
    CHECK_EQ(parse("::1\n"), TP_OK);
    CHECK_STR(report, "");
}

static void the_number_of_bans_is_bounded(void) {
    static char text[(TP__BAN_LIST_MAX + 1) * 20];
    size_t size = 0;
    for (unsigned i = 0; i < TP__BAN_LIST_MAX; i++) {
        size += (size_t)snprintf(
            text + size, sizeof text - size, "10.0.%u.%u\n", i * 7 % 4096 / 256, i * 7 % 256);
    }
    CHECK_EQ(parse(text), TP_OK);
    CHECK_EQ(list.count, TP__BAN_LIST_MAX);
    for (size_t i = 1; i < list.count; i++) {
        CHECK_LT(tp__ban_compare(&list.bans[i - 1].network, &list.bans[i].network), 0);
    }
    (void)snprintf(text + size, sizeof text - size, "11.0.0.1\n");
    CHECK_EQ(parse(text), TP_ERR_CONFIG);
    CHECK_STR(report, "bans:4097: too many networks: expected at most 4096");
    (void)snprintf(text + size, sizeof text - size, "10.0.0.1 \n"); /* one network more */
    CHECK_EQ(parse(text), TP_OK);
    CHECK_EQ(list.count, TP__BAN_LIST_MAX);
    CHECK(strstr(report, "bans:4097: network given again: line ") != NULL);
}

static void files_are_read(void) {
    char path[64];
    (void)snprintf(path, sizeof path, "ban_list-%" PRIu64 ".tmp", tp_process_id());
    uint64_t live = tp__memory_live();
    (void)remove(path);
    CHECK_EQ(tp__ban_list_load(path, &list, report, sizeof report), TP_ERR_NO_FILE);
    CHECK_NE(report[0], '\0');
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    (void)fputs("10.0.0.0/8\n", file);
    CHECK_EQ(fclose(file), 0);
    CHECK_EQ(tp__ban_list_load(path, &list, report, sizeof report), TP_OK);
    REQUIRE(list.count == 1);
    check_ban(0, "10.0.0.0/8", 0, 1);
    tp__memory_fail_after(1);
    CHECK_EQ(tp__ban_list_load(path, &list, report, sizeof report), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    CHECK_EQ(list.count, 0);
    CHECK_EQ(remove(path), 0);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(bans_are_read_in_order), CASE(wrong_lines_are_named),
    CASE(a_zero_byte_does_not_end_the_list), CASE(a_network_listed_twice_gives_a_warning),
    CASE(the_number_of_bans_is_bounded), CASE(files_are_read))
