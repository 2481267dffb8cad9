/*
 * lanserver's settings: the option that each becomes, and the combinations that are refused. Each
 * case loads a configuration file.
 */
#include "lanserver/program/lan_settings.h"
#include "core/config/config.h"
#include "os/process.h"
#include "relations_fixture.h"

static tp__settings settings;
static tp__hub_options hub;
static char report[TP__CONFIG_REPORT];

static const char *path_of_test(void) {
    static char path[64];
    (void)snprintf(path, sizeof path, "lan_settings-%" PRIu64 ".tmp", tp_process_id());
    return path;
}

static tp_err load(const char *lines) {
    const char *path = path_of_test();
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    (void)fputs(lines, file);
    CHECK_EQ(fclose(file), 0);
    tp_err error = tp__settings_load(path, &settings, report, sizeof report);
    CHECK_EQ(remove(path), 0);
    if (!error) {
        tp__settings_apply(&settings, &hub);
    }
    return error;
}

/* Every line of the example with its comment sign removed, empty values included. */
static void the_example_lists_the_defaults(void) {
    FILE *file = tmpfile();
    if (file == NULL) {
        SKIP("no temporary file can be made here");
    }
    const tp__setting_table *table = tp__settings_table();
    tp__config_print_example(table->entries, table->count, file);
    rewind(file);
    static char lines[65536];
    char line[512];
    size_t size = 0;
    unsigned count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z') {
            size += (size_t)snprintf(lines + size, sizeof lines - size, "%s", line + 1);
            count++;
        }
    }
    (void)fclose(file);
    CHECK_GT(count, 25);
    CHECK(strstr(lines, "\ndeny = \n") != NULL);
    REQUIRE(load("") == TP_OK);
    static tp__settings standard;
    standard = settings;
    CHECK_EQ(load(lines), TP_OK);
    CHECK_STR(report, "");
    CHECK_MEM(&standard, &settings, sizeof settings);
}

/* A backend name that is valid on the other system only. */
#ifdef _WIN32
#define OTHER_IO "epoll"
#define THIS_IO  "iocp"
#else
#define OTHER_IO "iocp"
#define THIS_IO  "epoll"
#endif

static const relation_row rows[] = {
    {"max_frame = 2m\nqueue_bytes = 1m\nunconfirmed_limit = 100\n",
        "max_frame is 2m and queue_bytes is 1m: expected max_frame plus 4 bytes of header",
        "max_frame = 1048572\nqueue_bytes = 1m\nunconfirmed_limit = 100\n", false},
    {"workers = 2\nrunning = 3\n",
        "running is 3 and workers is 2: expected running to be at most workers",
        "workers = 2\nrunning = 2\n", false},
    {"idle_timeout = 99ms\nping_interval = 0\n", "idle_timeout is 99ms: expected at least 100ms",
        "idle_timeout = 100ms\nping_interval = 0\n", false},
    {"ping_interval = 99ms\n", "ping_interval is 99ms: expected at least 100ms",
        "ping_interval = 100ms\n", false},
    {"idle_timeout = 20s\nping_interval = 20s\n",
        "ping_interval is 20s and idle_timeout is 20s: expected ping_interval to be less",
        "idle_timeout = 20s\nping_interval = 19999ms\n", false},
    {"idle_timeout = 20s\n", "ping_interval is 30s and idle_timeout is 20s",
        "idle_timeout = 20s\nping_interval = 0\n", false},
    {"io = " OTHER_IO "\n", "io is " OTHER_IO ": expected auto, or " THIS_IO, "io = " THIS_IO "\n",
        false},
    {"allow = 10.0.0.0/8\ndeny = any\n",
        "allow is a list of 1 networks and deny is a list of 1 networks: expected deny to leave",
        "allow = 10.0.0.0/8\ndeny = 10.0.0.0/9\n", false},
    {"listen = 0.0.0.0:7400\n",
        "listen is 0.0.0.0:7400 and allow_public_bind is no: expected a private address",
        "listen = 0.0.0.0:7400\nallow_public_bind = yes\n", false},
    {"listen = 127.0.0.1\n", "listen cannot be \"127.0.0.1\": expected an IP address and port",
        "listen = 127.0.0.1:0\n", false},
    {"max_sessions = 501\nqueue_packets = 500\nunconfirmed_limit = 100\n",
        "max_sessions is 501 and queue_packets is 500: expected no more sessions than",
        "max_sessions = 500\nqueue_packets = 500\nunconfirmed_limit = 100\n", false},
    {"max_sessions = 1025\nqueue_bytes = 30k\nmax_frame = 1k\nunconfirmed_limit = 100\n",
        "max_sessions is 1025 and queue_bytes is 30k: expected 30 bytes of queue_bytes",
        "max_sessions = 1024\nqueue_bytes = 30k\nmax_frame = 1k\nunconfirmed_limit = 100\n", false},
    {"allow =\n", "allow cannot be \"\": expected networks", "allow = any\ndeny =\n", false},
#ifndef _WIN32 /* on Windows only iocp can be named */
    {"io = epoll\nworkers = 2\nrunning = 1\n", "running is 1 and io is epoll: expected",
        "workers = 2\nrunning = 1\n", true},
    {"io = epoll\nsend_buffer_zero = yes\n", "send_buffer_zero is yes and io is epoll: expected",
        "send_buffer_zero = yes\n", true},
    {"io = epoll\npost_receive_buffers = yes\n",
        "post_receive_buffers is yes and io is epoll: expected", "post_receive_buffers = yes\n",
        true},
#endif
};

static void settings_that_contradict_each_other_are_refused(void) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        relation_check(&rows[i], report, load);
    }
}

static void the_log_file_cannot_be_the_configuration(void) {
    char line[96];
    (void)snprintf(line, sizeof line, "log_file = %s\n", path_of_test());
    CHECK_EQ(load(line), TP_ERR_CONFIG);
    CHECK(strstr(report, "expected the log to have a file of its own") != NULL);
}

/* In every notation of an address. */
static void an_address_needs_a_port(void) {
    static const char *const without[] = {"127.0.0.1", "::1", "[::1]", "1::0", "::0", "127.0.0.1:"};
    static const char *const with[] = {"127.0.0.1:0", "127.0.0.1:7400", "[::1]:0", "[::1]:7400"};
    char line[64];
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        (void)snprintf(line, sizeof line, "listen = %s\n", without[i]);
        CHECK_EQ(load(line), TP_ERR_CONFIG);
    }
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++) {
        (void)snprintf(line, sizeof line, "listen = %s\n", with[i]);
        CHECK_EQ(load(line), TP_OK);
    }
}

CHECK_MAIN(CASE(the_example_lists_the_defaults),
    CASE(settings_that_contradict_each_other_are_refused),
    CASE(the_log_file_cannot_be_the_configuration), CASE(an_address_needs_a_port))
