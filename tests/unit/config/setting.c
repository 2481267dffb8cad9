/*
 * Values of settings: what is read for each kind of setting, and the error text for everything
 * else.
 */
#include "core/config/setting.h"
#include "check.h"
#include "core/config/config_report.h"

typedef struct target {
    bool flag;
    uint64_t count;
    uint64_t bytes;
    uint64_t time;
    tp_processors processors;
    tp_address address;
    tp__networks networks;
    unsigned choice;
    char text[9];
    char behind; /* must stay as it is */
} target;

static const char *const colours[] = {"red", "green", "blue", NULL};

enum { FLAG, COUNT, BYTES, TIME, ADDRESS, NETWORKS, PROCESSORS, CHOICE, TEXT, SETTINGS };

static const tp__setting table[SETTINGS] = {
    {"flag", TP__SETTING_BOOL, offsetof(target, flag), 0, 0, NULL, "yes", NULL, .help = "a flag"},
    {"count", TP__SETTING_COUNT, offsetof(target, count), 1, 64, NULL, "7", NULL,
        .help = "a count"},
    {"bytes", TP__SETTING_BYTES, offsetof(target, bytes), 4096, 64u << 20, NULL, "1m", NULL,
        .help = "size"},
    {"time", TP__SETTING_TIME, offsetof(target, time), 0, 86400000, NULL, "30s", NULL,
        .help = "a time"},
    {"address", TP__SETTING_ADDRESS, offsetof(target, address), 0, 0, NULL, "127.0.0.1:4000", NULL,
        .help = "an address"},
    {"networks", TP__SETTING_NETWORKS, offsetof(target, networks), 0, 0, NULL, "private", NULL,
        .help = "networks"},
    {"processors", TP__SETTING_PROCESSORS, offsetof(target, processors), 0, 0, NULL, "0-2", NULL,
        .help = "processors"},
    {"choice", TP__SETTING_CHOICE, offsetof(target, choice), 0, 0, colours, "green", NULL,
        .help = "one"},
    {"text", TP__SETTING_TEXT, offsetof(target, text), 2, 8, NULL, "bus", NULL, .help = "a text"},
};

static target now;

static void start(void) {
    memset(&now, 0x5a, sizeof now);
    REQUIRE(tp__settings_reset(table, SETTINGS, &now) == TP_OK);
}

static bool is_read(unsigned which, const char *value) {
    return tp__setting_read(&table[which], value, &now) == TP_OK;
}

static void defaults_are_set(void) {
    start();
    CHECK_EQ(now.flag, true);
    CHECK_EQ(now.count, 7);
    CHECK_EQ(now.bytes, 1u << 20);
    CHECK_EQ(now.time, 30000);
    CHECK_EQ(now.address.port, 4000);
    CHECK_EQ(now.networks.count, 8);
    CHECK_EQ(now.processors.bits[0], 7);
    CHECK_EQ(now.choice, 1);
    CHECK_STR(now.text, "bus");
    CHECK_EQ(now.behind, 0x5a);
}

static void an_invalid_table_is_refused(void) {
    tp__setting bad = table[COUNT];
    bad.default_value = "65";
    CHECK_EQ(tp__settings_reset(&bad, 1, &now), TP_ERR_INVALID);
    bad.default_value = NULL;
    now.count = 99;
    CHECK_EQ(tp__settings_reset(&bad, 1, &now), TP_OK);
    CHECK_EQ(now.count, 99);
    static tp__setting many[TP__SETTINGS_MAX + 1];
    for (unsigned i = 0; i <= TP__SETTINGS_MAX; i++) {
        many[i] = table[COUNT];
    }
    CHECK_EQ(tp__settings_reset(many, TP__SETTINGS_MAX, &now), TP_OK);
    CHECK_EQ(tp__settings_reset(many, TP__SETTINGS_MAX + 1, &now), TP_ERR_INVALID);
}

static void a_list_may_be_empty_by_default(void) {
    tp__setting list = table[NETWORKS];
    list.default_value = "";
    start();
    CHECK_EQ(tp__settings_reset(&list, 1, &now), TP_OK);
    CHECK_EQ(now.networks.count, 0);
}

static void bools_are_yes_or_no(void) {
    start();
    CHECK(is_read(FLAG, "no"));
    CHECK_EQ(now.flag, false);
    CHECK(is_read(FLAG, "yes"));
    CHECK_EQ(now.flag, true);
    static const char *const bad[] = {"", "Yes", "true", "1", "on", "yes ", "y"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!is_read(FLAG, bad[i]));
    }
}

static void counts_are_whole_numbers_in_their_range(void) {
    start();
    CHECK(is_read(COUNT, "1"));
    CHECK_EQ(now.count, 1);
    CHECK(is_read(COUNT, "64"));
    CHECK_EQ(now.count, 64);
    static const char *const bad[] = {"", "0", "65", "-1", "+1", " 1", "1 ", "01", "1k", "1.0",
        "0x1", "one", "18446744073709551615", "18446744073709551616", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (is_read(COUNT, bad[i])) {
            CHECK_STR("is read", bad[i]);
        }
    }
    tp__setting wide = table[COUNT];
    wide.min = 0;
    wide.max = UINT64_MAX;
    CHECK_EQ(tp__setting_read(&wide, "18446744073709551615", &now), TP_OK);
    CHECK_EQ(now.count, UINT64_MAX);
    CHECK_EQ(tp__setting_read(&wide, "18446744073709551616", &now), TP_ERR_CONFIG);
    CHECK_EQ(tp__setting_read(&wide, "0", &now), TP_OK);
    CHECK_EQ(now.count, 0);
    CHECK_EQ(tp__setting_read(&wide, "00", &now), TP_ERR_CONFIG);
}

static void bytes_and_times_have_units(void) {
    static const struct {
        unsigned which;
        const char *text;
        uint64_t value;
    } good[] = {{BYTES, "4096", 4096}, {BYTES, "4k", 4096}, {BYTES, "64m", 64u << 20},
        {TIME, "0", 0}, {TIME, "0ms", 0}, {TIME, "1ms", 1}, {TIME, "1500ms", 1500},
        {TIME, "2s", 2000}, {TIME, "5min", 300000}, {TIME, "24h", 86400000}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        start();
        CHECK(is_read(good[i].which, good[i].text));
        CHECK_EQ(good[i].which == BYTES ? now.bytes : now.time, good[i].value);
    }
    static const char *const bad_bytes[] = {"", "4095", "65m", "1g", "4K", "4kb", "4 k", "k", "0",
        "4t", "4.5k", "17179869184g", "18014398509481992k"};
    for (size_t i = 0; i < sizeof bad_bytes / sizeof bad_bytes[0]; i++) {
        if (is_read(BYTES, bad_bytes[i])) {
            CHECK_STR("is read", bad_bytes[i]);
        }
    }
    static const char *const bad_times[] = {
        "", "5", "30", "1m", "1 s", "s", "25h", "-1s", "1sec", "86400001ms", "18446744073709552s"};
    for (size_t i = 0; i < sizeof bad_times / sizeof bad_times[0]; i++) {
        if (is_read(TIME, bad_times[i])) {
            CHECK_STR("is read", bad_times[i]);
        }
    }
}

static void addresses_choices_and_texts_are_read(void) {
    start();
    CHECK(is_read(ADDRESS, "[::1]:80"));
    CHECK_EQ(now.address.port, 80);
    CHECK(!is_read(ADDRESS, "localhost:80"));
    CHECK(is_read(CHOICE, "blue"));
    CHECK_EQ(now.choice, 2);
    CHECK(!is_read(CHOICE, "Blue"));
    CHECK(!is_read(CHOICE, ""));
    CHECK(is_read(TEXT, "12345678"));
    CHECK_STR(now.text, "12345678");
    CHECK(is_read(TEXT, "ab"));
    CHECK_STR(now.text, "ab");
    CHECK(!is_read(TEXT, "123456789"));
    CHECK(!is_read(TEXT, "a"));
    CHECK_EQ(now.behind, 0x5a);
}

static void networks_are_collected(void) {
    start();
    tp__setting_clear(&table[NETWORKS], &now);
    CHECK_EQ(now.networks.count, 0);
    CHECK(is_read(NETWORKS, "10.0.0.0/8, 192.168.0.0/16\tfd00::/8,::1"));
    CHECK_EQ(now.networks.count, 4);
    CHECK_EQ(now.networks.networks[0].bits, 104);
    CHECK_EQ(now.networks.networks[3].bits, 128);
    CHECK(is_read(NETWORKS, "any"));
    CHECK_EQ(now.networks.count, 5);
    CHECK_EQ(now.networks.networks[4].bits, 0);
    CHECK(is_read(NETWORKS, "private"));
    CHECK_EQ(now.networks.count, 13);
    static const char *const bad[] = {"", ",", " ", "10.0.0.1/8", "10.0.0.0/8; ::1", "Any", "lan",
        "::1 bad", "1111111111111111111111111111111111111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (is_read(NETWORKS, bad[i])) {
            CHECK_STR("is read", bad[i]);
        }
    }
}

static void a_list_has_a_maximum_length(void) {
    start();
    tp__setting_clear(&table[NETWORKS], &now);
    for (unsigned i = 0; i < TP_ACCESS_MAX_NETWORKS; i++) {
        CHECK(is_read(NETWORKS, "::1"));
    }
    CHECK(!is_read(NETWORKS, "::1"));
    CHECK(!is_read(NETWORKS, "private"));
    CHECK_EQ(now.networks.count, TP_ACCESS_MAX_NETWORKS);
    CHECK_EQ(now.choice, 1); /* the member behind the list */
}

static void processors_are_read_as_numbers_and_ranges(void) {
    start();
    CHECK(is_read(PROCESSORS, "5"));
    CHECK_EQ(now.processors.bits[0], 1u << 5);
    CHECK(is_read(PROCESSORS, "1,3-4, 62-65 1023"));
    CHECK_EQ(now.processors.bits[0], UINT64_C(0xc00000000000001a));
    CHECK_EQ(now.processors.bits[1], 3);
    CHECK_EQ(now.processors.bits[15], UINT64_C(0x8000000000000000));
    CHECK(is_read(PROCESSORS, "0-1023"));
    CHECK(is_read(PROCESSORS, "all"));
    for (unsigned i = 0; i < TP_PROCESSORS_MAX / 64; i++) {
        CHECK_EQ(now.processors.bits[i], 0);
    }
    static const char *const bad[] = {"", ",", "1024", "3-1", "0-1024", "1-", "-1", "1-2-3", "a",
        "all,1", "1;2", "0x1", "99999999999999999999",
        "1111111111111111111111111111111111111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (is_read(PROCESSORS, bad[i])) {
            CHECK_STR("is read", bad[i]);
        }
    }
    CHECK_EQ(now.address.port, 4000); /* the member behind them */
}

static void clearing_changes_lists_only(void) {
    start();
    for (unsigned i = 0; i < SETTINGS; i++) {
        tp__setting_clear(&table[i], &now);
    }
    CHECK_EQ(now.count, 7);
    CHECK_STR(now.text, "bus");
    CHECK_EQ(now.networks.count, 0);
}

static void expectations_name_the_range(void) {
    char text[TP__EXPECTATION_TEXT];
    CHECK_STR(tp__setting_expectation(&table[FLAG], text), "yes or no");
    CHECK_STR(tp__setting_expectation(&table[COUNT], text), "a whole number from 1 to 64");
    CHECK_STR(tp__setting_expectation(&table[BYTES], text),
        "a number of bytes such as 512, 64k or 2m, from 4k to 64m");
    CHECK_STR(tp__setting_expectation(&table[TIME], text),
        "a time with its unit such as 500ms, 30s or 5min, from 0 to 24h");
    CHECK_STR(tp__setting_expectation(&table[PROCESSORS], text),
        "processor numbers such as 2 or 0-3,8, from 0 to 1023, or all");
    CHECK_STR(tp__setting_expectation(&table[CHOICE], text), "one of red, green, blue");
    CHECK_STR(tp__setting_expectation(&table[TEXT], text), "2 to 8 bytes of text");
    tp__setting path = table[TEXT];
    path.metavariable = "FILE";
    CHECK_STR(tp__setting_expectation(&path, text), "a path of 2 to 8 bytes");
    static const char *const many[] = {"00000000000000000000000000000000000000000000000000000000000"
                                       "0000000000000000000000000000000000",
        "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
        "111",
        "222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222"
        "222",
        "3333333333333", NULL};
    tp__setting long_choice = {.kind = TP__SETTING_CHOICE, .choices = many};
    CHECK_LT(strlen(tp__setting_expectation(&long_choice, text)), TP__EXPECTATION_TEXT);
}

static const char *nearest(const char *name) {
    const tp__setting *found = tp__setting_nearest(table, SETTINGS, name);
    return found == NULL ? "none" : found->name;
}

static void settings_are_found_by_name_and_by_similarity(void) {
    CHECK(tp__setting_find(table, SETTINGS, "time") == &table[TIME]);
    CHECK(tp__setting_find(table, SETTINGS, "Time") == NULL);
    CHECK(tp__setting_find(table, SETTINGS, "") == NULL);
    CHECK_STR(nearest("adress"), "address");
    CHECK_STR(nearest("netwroks"), "networks");
    CHECK_STR(nearest("coun"), "count");
    CHECK_STR(nearest("colour"), "none");
    CHECK_STR(nearest("x"), "none");
    CHECK_STR(nearest(""), "none");
    CHECK_STR(nearest("a name that is far too long to be compared with anything"), "none");
}

static void quoted_values_are_printable(void) {
    char text[TP__QUOTED_TEXT];
    char at_limit[TP__QUOTED_TEXT];
    char above[TP__QUOTED_TEXT + 1];
    memset(at_limit, 'x', sizeof at_limit);
    at_limit[sizeof at_limit - 1] = '\0';
    memset(above, 'x', sizeof above);
    above[sizeof above - 1] = '\0';
    CHECK_STR(tp__quoted("plain", text), "plain");
    CHECK_STR(tp__quoted("a\nb\x1b\x7f\t\xc3\xa9", text), "a?b???\xc3\xa9");
    CHECK_STR(tp__quoted(at_limit, text), at_limit);
    CHECK_EQ(strlen(tp__quoted(above, text)), TP__QUOTED_TEXT - 1);
    CHECK_STR(text + TP__QUOTED_TEXT - 6, "xx...");
}

static void reports_stay_in_their_buffer(void) {
    char text[100];
    memset(text, 'z', sizeof text);
    tp__report report = tp__report_begin(text, 20);
    CHECK_EQ(tp__report_end(&report), TP_OK);
    CHECK_STR(text, "");
    for (unsigned i = 0; i < TP__REPORT_ERRORS + 3; i++) {
        tp__report_error(&report, "error %u", i);
    }
    CHECK_EQ(tp__report_end(&report), TP_ERR_CONFIG);
    CHECK_STR(text, "error 0\nerror 1\nerr");
    CHECK_EQ(text[20], 'z');
    report = tp__report_begin(text, 1);
    tp__report_error(&report, "x");
    CHECK_EQ(tp__report_end(&report), TP_ERR_CONFIG);
    CHECK_STR(text, "");
}

static void many_errors_are_counted(void) {
    char text[200];
    tp__report report = tp__report_begin(text, sizeof text);
    for (unsigned i = 0; i < TP__REPORT_ERRORS + 3; i++) {
        tp__report_error(&report, "%u", i);
    }
    CHECK_EQ(tp__report_end(&report), TP_ERR_CONFIG);
    CHECK_STR(text, "0\n1\n2\n3\n4\n5\n6\n7\nand 3 more errors");
}

CHECK_MAIN(CASE(defaults_are_set), CASE(an_invalid_table_is_refused),
    CASE(a_list_may_be_empty_by_default), CASE(bools_are_yes_or_no),
    CASE(counts_are_whole_numbers_in_their_range), CASE(bytes_and_times_have_units),
    CASE(addresses_choices_and_texts_are_read), CASE(networks_are_collected),
    CASE(a_list_has_a_maximum_length), CASE(processors_are_read_as_numbers_and_ranges),
    CASE(clearing_changes_lists_only), CASE(expectations_name_the_range),
    CASE(settings_are_found_by_name_and_by_similarity), CASE(quoted_values_are_printable),
    CASE(reports_stay_in_their_buffer), CASE(many_errors_are_counted))
