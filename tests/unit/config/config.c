/*
 * Configuration files: syntax, values, lists, the text of every error, files that cannot be loaded,
 * and the generated example, which must parse.
 */
#include "core/config/config.h"
#include "check.h"
#include "core/memory/memory.h"
#include "os/process.h"

typedef struct target {
    tp_address listen;
    uint64_t workers;
    uint64_t idle;
    bool nagle;
    unsigned level;
    tp__networks allow;
    char name[17];
} target;

static const char *const levels[] = {"debug", "info", NULL};

static const tp__setting table[] = {
    {"listen", TP__SETTING_ADDRESS, offsetof(target, listen), 0, 0, NULL, NULL, "127.0.0.1:4000",
        .help = "Where services connect."},
    {"workers", TP__SETTING_COUNT, offsetof(target, workers), 1, 64, NULL, "2", .unit = "threads",
        .help = "Threads that run the sessions."},
    {"idle_timeout", TP__SETTING_TIME, offsetof(target, idle), 0, 3600000, NULL, "30s", NULL,
        .help = "A session that says nothing for so long is ended.\n0 lets it live."},
    {"nagle", TP__SETTING_BOOL, offsetof(target, nagle), 0, 0, NULL, "no", NULL,
        .help = "Gather in TCP."},
    {"log_level", TP__SETTING_CHOICE, offsetof(target, level), 0, 0, levels, "info", NULL,
        .help = "Lines."},
    {"allow", TP__SETTING_NETWORKS, offsetof(target, allow), 0, 0, NULL, "private", NULL,
        .help = "Who."},
    {"name", TP__SETTING_TEXT, offsetof(target, name), 0, 16, NULL, "bus", NULL,
        .help = "Its name."},
};
#define SETTINGS (sizeof table / sizeof table[0])

static target now;
static char report[TP__CONFIG_REPORT];

static tp_err parse_bytes(const char *text, size_t size) {
    memset(&now, 0, sizeof now);
    return tp__config_parse(table, SETTINGS, "bus.conf", text, size, &now, report, sizeof report);
}

static tp_err parse(const char *text) {
    return parse_bytes(text, strlen(text));
}

static void values_and_defaults_are_set(void) {
    CHECK_EQ(parse("listen = 127.0.0.1:4000\nworkers=4\n"), TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(now.listen.port, 4000);
    CHECK_EQ(now.workers, 4);
    CHECK_EQ(now.idle, 30000);
    CHECK_EQ(now.nagle, false);
    CHECK_EQ(now.level, 1);
    CHECK_EQ(now.allow.count, 8);
    CHECK_STR(now.name, "bus");
}

static void spaces_comments_and_line_ends_are_free(void) {
    CHECK_EQ(parse("\xef\xbb\xbf# a comment\r\n"
                   "\r\n"
                   "   \t \n"
                   "\t listen=[::1]:1\t # where\r\n"
                   "workers  =  3 # how many = ?\n"
                   "name = a #b#c # d\n"
                   "#workers = 5\n"
                   "nagle = yes"), /* the last line has no newline */
        TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(now.listen.port, 1);
    CHECK_EQ(now.workers, 3);
    CHECK_STR(now.name, "a");
    CHECK_EQ(now.nagle, true);
    CHECK_EQ(parse("listen=[::1]:4\nname = a#b = c"), TP_OK);
    CHECK_STR(now.name, "a#b = c");
    CHECK_EQ(parse("listen=[::1]:4\nname ="), TP_OK);
    CHECK_STR(now.name, "");
}

static void lists_add_up_and_replace_the_default(void) {
    CHECK_EQ(parse("allow = 10.0.0.0/8\nlisten = [::1]:4\nallow = ::1, fd00::/8\n"), TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(now.allow.count, 3);
    CHECK_EQ(now.allow.networks[0].bits, 104);
}

static void errors_name_line_value_and_expectation(void) {
    static const struct {
        const char *text;
        const char *message;
    } wrong[] = {
        {"", "bus.conf:1: listen is missing: expected an IP address and port such as "
             "127.0.0.1:4000 or [::1]:4000"},
        {"listen = [::1]:4\n\nwokers = 3\n",
            "bus.conf:3: unknown key \"wokers\": did you mean \"workers\"?"},
        {"listen = [::1]:4\nzzz = 3\n",
            "bus.conf:2: unknown key \"zzz\": --print-config lists all keys"},
        {"listen = [::1]:4\nworkers = 100\n",
            "bus.conf:2: workers cannot be \"100\": expected a whole number from 1 to 64"},
        {"listen = [::1]:4\nworkers =\n",
            "bus.conf:2: workers cannot be \"\": expected a whole number from 1 to 64"},
        {"listen = [::1]:4\nnagle = on\n",
            "bus.conf:2: nagle cannot be \"on\": expected yes or no"},
        {"listen = [::1]:4\nlog_level = loud\n",
            "bus.conf:2: log_level cannot be \"loud\": expected one of debug, info"},
        {"listen = [::1]:4\nidle_timeout = 30\n",
            "bus.conf:2: idle_timeout cannot be \"30\": expected a time with its unit such as "
            "500ms, 30s or 5min, from 0 to 1h"},
        {"listen = [::1]:4\nname = 12345678901234567\n",
            "bus.conf:2: name cannot be \"12345678901234567\": expected 0 to 16 bytes of text"},
        {"workers = 1\nlisten = [::1]:4\nworkers = 1\n",
            "bus.conf:3: workers is set twice: first in line 1"},
        {"listen = [::1]:4\nworkers 3\n",
            "bus.conf:2: \"workers 3\" is not a setting: expected key = value"},
        {"listen = [::1]:4\n= 3\n", "bus.conf:2: \"= 3\" is not a setting: expected key = value"},
        {"listen = [::1]:4\n[bus]\n",
            "bus.conf:2: \"[bus]\" is not a setting: expected key = value"},
        {"listen = [::1]:4\nname = a\x01\n",
            "bus.conf:2: byte 9 of the line is 0x01: expected text without control characters"},
        {"listen = [::1]:4\nname = a\rb\n",
            "bus.conf:2: byte 9 of the line is 0x0d: expected text without control characters"},
        {"listen = [::1]:4\nname = a\x7f\n",
            "bus.conf:2: byte 9 of the line is 0x7f: expected text without control characters"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(parse(wrong[i].text), TP_ERR_CONFIG);
        CHECK_STR(report, wrong[i].message);
    }
}

static void a_zero_byte_is_an_error(void) {
    static const char text[] = "listen = [::1]:4\nname = a\0b\n";
    CHECK_EQ(parse_bytes(text, sizeof text - 1), TP_ERR_CONFIG);
    CHECK_STR(
        report, "bus.conf:2: byte 9 of the line is 0x00: expected text without control characters");
}

static void errors_are_listed_up_to_a_limit(void) {
    CHECK_EQ(parse("workers = 0\nnagle = 2\nx\n"), TP_ERR_CONFIG);
    CHECK_STR(report, "bus.conf:1: workers cannot be \"0\": expected a whole number from 1 to 64\n"
                      "bus.conf:2: nagle cannot be \"2\": expected yes or no\n"
                      "bus.conf:3: \"x\" is not a setting: expected key = value\n"
                      "bus.conf:3: listen is missing: expected an IP address and port such as "
                      "127.0.0.1:4000 or [::1]:4000");
    CHECK_EQ(parse("listen=[::1]:4\na\nb\nc\nd\ne\nf\ng\nh\ni\nj"), TP_ERR_CONFIG);
    CHECK(strstr(report, "bus.conf:9: \"h\" is not a setting") != NULL);
    CHECK(strstr(report, "bus.conf:10:") == NULL);
    CHECK(strstr(report, "\nand 2 more errors") != NULL);
}

static void lines_and_files_have_a_maximum_length(void) {
    static char text[TP__CONFIG_MAX_FILE + 2];
    size_t head = (size_t)sprintf(text, "listen = [::1]:4\n#");
    memset(text + head, 'x', sizeof text - head);
    size_t end_of_line = head - 1 + TP__CONFIG_MAX_LINE;
    text[end_of_line] = '\n';
    CHECK_EQ(parse_bytes(text, end_of_line + 1), TP_OK);
    text[end_of_line] = '\r';
    text[end_of_line + 1] = '\n';
    CHECK_EQ(parse_bytes(text, end_of_line + 2), TP_OK);
    text[end_of_line] = 'x';
    CHECK_EQ(parse_bytes(text, end_of_line + 2), TP_ERR_CONFIG);
    CHECK_STR(report, "bus.conf:2: the line is too long: expected at most 4096 bytes");

    memset(text + head, '\n', sizeof text - head);
    CHECK_EQ(parse_bytes(text, TP__CONFIG_MAX_FILE), TP_OK);
    CHECK_EQ(parse_bytes(text, TP__CONFIG_MAX_FILE + 1), TP_ERR_CONFIG);
    CHECK_STR(report, "bus.conf:1: the text is too long: expected at most 1048576 bytes");
}

static void a_report_is_cut_to_its_buffer(void) {
    char small[20];
    memset(small, 'z', sizeof small);
    const char *text = "listen = [::1]:4\nworkers = 0\n";
    CHECK_EQ(tp__config_parse(table, SETTINGS, "bus.conf", text, strlen(text), &now, small, 10),
        TP_ERR_CONFIG);
    CHECK_STR(small, "bus.conf:");
    CHECK_EQ(small[10], 'z');
}

static void an_invalid_table_is_refused(void) {
    tp__setting wrong = table[1];
    wrong.default_value = "none";
    CHECK_EQ(tp__config_parse(&wrong, 1, "bus.conf", "", 0, &now, report, sizeof report),
        TP_ERR_INVALID);
}

/* ---- files ----------------------------------------------------------------------------------- */

static char file_name[64];

static FILE *create_file(void) {
    (void)snprintf(file_name, sizeof file_name, "config-%" PRIu64 ".conf", tp_process_id());
    FILE *file = fopen(file_name, "wb");
    REQUIRE(file != NULL);
    return file;
}

static tp_err load(void) {
    memset(&now, 0, sizeof now);
    return tp__config_load(table, SETTINGS, file_name, &now, report, sizeof report);
}

static void a_file_is_loaded(void) {
    FILE *file = create_file();
    (void)fputs("listen = 127.0.0.1:4000\r\nworkers = 9\r\n", file);
    (void)fclose(file);
    CHECK_EQ(load(), TP_OK);
    CHECK_EQ(now.workers, 9);
    uint64_t live = tp__memory_live();
    tp__memory_fail_after(1);
    CHECK_EQ(load(), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    CHECK_EQ(tp__memory_live(), live);
    CHECK(strstr(report, "cannot be read: memory could not be allocated") != NULL);
    file = create_file();
    (void)fputs("listen = 127.0.0.1:4000\nworkers = 0\n", file);
    (void)fclose(file);
    CHECK_EQ(load(), TP_ERR_CONFIG);
    CHECK(strstr(report, file_name) == report);
    CHECK(strstr(report, ":2: workers cannot be") != NULL);
    CHECK_EQ(remove(file_name), 0);
}

static void without_a_file_the_defaults_apply(void) {
    memset(&now, 0, sizeof now);
    const tp__setting *with_standard = table + 1; /* every setting but `listen` */
    CHECK_EQ(tp__config_load(with_standard, SETTINGS - 1, "", &now, report, sizeof report), TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(now.workers, 2);
    CHECK_STR(now.name, "bus");
}

static void a_missing_file_is_named(void) {
    CHECK_EQ(
        tp__config_load(table, SETTINGS, "no-such-folder/bus.conf", &now, report, sizeof report),
        TP_ERR_NO_FILE);
    CHECK(strstr(report, "no-such-folder/bus.conf: cannot be opened: ") == report);
}

static void a_folder_is_refused(void) {
    CHECK_EQ(tp__config_load(table, SETTINGS, ".", &now, report, sizeof report), TP_ERR_NO_FILE);
    CHECK(strstr(report, ".: cannot be ") == report);
}

static void a_file_that_is_too_large_is_refused(void) {
    FILE *file = create_file();
    for (unsigned i = 0; i <= TP__CONFIG_MAX_FILE; i++) {
        (void)fputc('\n', file);
    }
    (void)fclose(file);
    CHECK_EQ(load(), TP_ERR_TOO_LARGE);
    CHECK(strstr(report, "is too large: expected at most 1048576 bytes") != NULL);
    CHECK_EQ(remove(file_name), 0);
}

/* ---- the example ----------------------------------------------------------------------------- */

static size_t read_file(char *text, size_t room) {
    FILE *file = fopen(file_name, "rb");
    REQUIRE(file != NULL);
    size_t size = fread(text, 1, room - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    return size;
}

/* Removes the '#' from every line that holds a setting. */
static void uncomment(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        bool starts_line = from == text || from[-1] == '\n';
        if (!(starts_line && from[0] == '#' && from[1] != ' ')) {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void the_example_is_a_valid_configuration(void) {
    tp__setting grouped[SETTINGS];
    for (size_t i = 0; i < SETTINGS; i++) {
        grouped[i] = table[i];
        grouped[i].group = i < 2 ? "Network" : "Sessions";
    }
    FILE *file = create_file();
    tp__config_print_example(grouped, SETTINGS, file);
    (void)fclose(file);
    CHECK_EQ(load(), TP_OK);
    CHECK_STR(report, "");
    target as_example = now;

    static char text[8192];
    read_file(text, sizeof text);
    CHECK(strstr(text, "# Threads that run the sessions.\n"
                       "# Value: a whole number from 1 to 64. Unit: threads.\n"
                       "#workers = 2\n") != NULL);
    CHECK(strstr(text, "# A session that says nothing for so long is ended.\n"
                       "# 0 lets it live.\n# Value: ") != NULL);
    CHECK(strstr(text, "# ---- Network ----") == text);
    CHECK(strstr(text, "\n#workers = 2\n\n# ---- Sessions ----") != NULL);
    CHECK(strstr(text, "\nlisten = 127.0.0.1:4000\n") != NULL);
    uncomment(text);
    CHECK_EQ(parse(text), TP_OK); /* the defaults, written out */
    CHECK_STR(report, "");
    CHECK_MEM(&now, &as_example, sizeof now);
    for (size_t i = 0; i < SETTINGS; i++) {
        CHECK(strstr(text, table[i].name) != NULL);
    }
    CHECK_EQ(remove(file_name), 0);
}

CHECK_MAIN(CASE(values_and_defaults_are_set), CASE(spaces_comments_and_line_ends_are_free),
    CASE(lists_add_up_and_replace_the_default), CASE(errors_name_line_value_and_expectation),
    CASE(a_zero_byte_is_an_error), CASE(errors_are_listed_up_to_a_limit),
    CASE(lines_and_files_have_a_maximum_length), CASE(a_report_is_cut_to_its_buffer),
    CASE(an_invalid_table_is_refused), CASE(a_file_is_loaded),
    CASE(without_a_file_the_defaults_apply), CASE(a_missing_file_is_named),
    CASE(a_folder_is_refused), CASE(a_file_that_is_too_large_is_refused),
    CASE(the_example_is_a_valid_configuration))
