/*
 * wanserver's settings: the option that each becomes, that the defaults are the library's, and the
 * combinations that are refused.
 */
#include "wanserver/program/wan_settings.h"
#include "core/config/config.h"
#include "os/process.h"
#include "proto/frame.h"
#include "relations_fixture.h"

static tp__settings settings;
static tp_wanserver_options wan;
static tp__gate_options gate;
static char report[TP__CONFIG_REPORT];

static tp_err load_whole(const char *lines) {
    char path[64];
    (void)snprintf(path, sizeof path, "wan_settings-%" PRIu64 ".tmp", tp_process_id());
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    (void)fputs(lines, file);
    CHECK_EQ(fclose(file), 0);
    tp_err error = tp__settings_load(path, &settings, report, sizeof report);
    CHECK_EQ(remove(path), 0);
    if (!error) {
        tp__settings_apply(&settings, &wan, &gate);
    }
    return error;
}

static tp_err load(const char *lines) {
    static char text[70000];
    (void)snprintf(text, sizeof text, "key_file = k\nservice = arena\n%s", lines);
    return load_whole(text);
}

/* All lines of the example with their comment signs removed: the defaults, written out. */
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
        char *end = strchr(line, '\n');
        REQUIRE(end != NULL);
        bool is_setting = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';
        if (is_setting && strncmp(line + 1, "token_keys", 10) != 0) { /* must not stay empty */
            size += (size_t)snprintf(lines + size, sizeof lines - size, "%s", line + 1);
            count++;
        }
    }
    (void)fclose(file);
    CHECK_GT(count, 40);

    REQUIRE(load("token_keys = r\n") == TP_OK);
    static tp__settings standard;
    standard = settings;
    (void)snprintf(lines + size, sizeof lines - size, "token_keys = r\n");
    CHECK_EQ(load(lines), TP_OK);
    CHECK_STR(report, "");
    CHECK_MEM(&standard, &settings, sizeof settings);
}

static void the_defaults_are_the_librarys(void) {
    tp_wanserver_options library;
    tp__gate_options of_gate;
    tp_wanserver_defaults(&library);
    tp__gate_defaults(&of_gate);
    REQUIRE(load("token_keys = r\n") == TP_OK);
#define SAME(member) CHECK_EQ(wan.member, library.member)
    SAME(auth);
    SAME(replay_tokens);
    SAME(max_token_life_s);
    SAME(handshake_timeout_ms);
    SAME(max_pending);
    SAME(handshake_threads);
    SAME(handshake_priority);
    SAME(handshake_queue);
    SAME(busy_seconds);
    SAME(accept_rate);
    SAME(accept_burst);
    SAME(connections_per_address);
    SAME(max_addresses);
    SAME(message_rate);
    SAME(message_burst);
    SAME(byte_rate);
    SAME(byte_burst);
    SAME(server.listen);
    SAME(server.backlog);
    SAME(server.workers);
    SAME(server.running);
    SAME(server.low_latency);
    SAME(server.nodelay);
    SAME(server.send_buffer_zero);
    SAME(server.post_receive_buffers);
    SAME(server.receive_buffer);
    SAME(server.reserve_descriptors);
    SAME(server.max_sessions);
    SAME(server.max_frame);
    SAME(server.queue_bytes);
    SAME(server.queue_packets);
    SAME(server.queue_policy);
    SAME(server.idle_timeout_ms);
    SAME(server.ping_interval_ms);
    SAME(server.drain_timeout_ms);
#undef SAME
#define SAME(member) CHECK_EQ(gate.member, of_gate.member)
    SAME(max_players);
    SAME(max_waiting);
    SAME(place_interval_ms);
    SAME(keep_players);
    SAME(keep_ms);
    SAME(lost_close);
    SAME(max_services);
    SAME(drain_ms);
#undef SAME
    CHECK_EQ(gate.bus.low_latency, of_gate.bus.low_latency);
    CHECK_EQ(gate.bus.max_frame, of_gate.bus.max_frame);
    CHECK(tp_address_equal(&gate.bus.address, &of_gate.bus.address));
    CHECK_EQ(settings.server.priority, TP_PRIORITY_LOW);
}

static void every_setting_reaches_its_option(void) {
    REQUIRE(load("listen = 1.2.3.4:5\nauth = open\ntoken_keys = r\nused_tokens = 2048\n"
                 "max_token_life = 90s\n"
                 "allow = 10.0.0.0/8\ndeny = 10.1.0.0/16, ::1\nbans = b\nbacklog = 9\n"
                 "accept_rate = 11\naccept_burst = 12\nconnections_per_address = 13\n"
                 "max_addresses = 2000\nhandshake_timeout = 150ms\nmax_pending = 17\n"
                 "handshake_threads = 3\nhandshake_priority = low\n"
                 "handshake_queue = 19\nbusy_time = 20s\nmax_players = 21\n"
                 "max_waiting = 22\nplace_interval = 230ms\nmessage_rate = 24\nmessage_burst = 25\n"
                 "byte_rate = 26k\nbyte_burst = 127k\nmax_frame = 28k\nqueue_bytes = 29k\n"
                 "queue_packets = 30\nqueue_policy = refuse\nidle_timeout = 31s\n"
                 "ping_interval = 30s\ndrain_timeout = 33s\nbus = 1.2.3.4:34\n"
                 "bus_max_frame = 42k\nmax_services = 35\n"
                 "keep_players = 36\nkeep_time = 37s\nlost_close = overload\npriority = high\n"
                 "processors = 1\nworkers = 38\nrunning = 37\nnagle = yes\nsend_buffer_zero = yes\n"
                 "post_receive_buffers = yes\nreceive_buffer = 40k\nreserve = 41k\n"
                 "reserve_descriptors = 42\n"
                 "log_level = error\nlog_file = l\n") == TP_OK);
    CHECK_STR(settings.key_file, "k");
    CHECK_STR(settings.token_keys, "r");
    CHECK_STR(settings.bans, "b");
    CHECK_EQ(wan.auth, TP_AUTH_OPEN);
    CHECK_EQ(wan.replay_tokens, 2048);
    CHECK_EQ(wan.max_token_life_s, 90);
    CHECK_EQ(wan.accept_rate, 11);
    CHECK_EQ(wan.accept_burst, 12);
    CHECK_EQ(wan.connections_per_address, 13);
    CHECK_EQ(wan.max_addresses, 2000);
    CHECK_EQ(wan.handshake_timeout_ms, 150);
    CHECK_EQ(wan.max_pending, 17);
    CHECK_EQ(wan.handshake_threads, 3);
    CHECK_EQ(wan.handshake_priority, TP_HANDSHAKE_LOW);
    CHECK_EQ(wan.handshake_queue, 19);
    CHECK_EQ(wan.busy_seconds, 20);
    CHECK_EQ(wan.message_rate, 24);
    CHECK_EQ(wan.message_burst, 25);
    CHECK_EQ(wan.byte_rate, 26u << 10);
    CHECK_EQ(wan.byte_burst, 127u << 10);

    const tp_server_options *server = &wan.server;
    CHECK_EQ(server->address.port, 5);
    CHECK_EQ(server->access.allow_count, 1);
    CHECK_EQ(server->access.deny_count, 2);
    CHECK_EQ(server->backlog, 9);
    CHECK_EQ(server->max_sessions, 43); /* players in the game and in the waiting room */
    CHECK_EQ(server->max_frame, 28u << 10);
    CHECK_EQ(server->queue_bytes, 29u << 10);
    CHECK_EQ(server->queue_packets, 30);
    CHECK_EQ(server->queue_policy, TP_QUEUE_REFUSE);
    CHECK_EQ(server->idle_timeout_ms, 31000);
    CHECK_EQ(server->ping_interval_ms, 30000);
    CHECK_EQ(server->drain_timeout_ms, 33000);
    CHECK_EQ(server->workers, 38);
    CHECK_EQ(server->running, 37);
    CHECK_EQ(server->low_latency, true);
    CHECK_EQ(gate.bus.low_latency, true);
    CHECK_EQ(server->nodelay, false);
    CHECK_EQ(server->send_buffer_zero, true);
    CHECK_EQ(server->post_receive_buffers, true);
    CHECK_EQ(server->receive_buffer, 40u << 10);
    CHECK_EQ(server->reserve_bytes, 41u << 10);
    CHECK_EQ(server->reserve_descriptors, 42);

    CHECK_STR(gate.service, "arena");
    CHECK_EQ(gate.bus.address.port, 34);
    CHECK_EQ(gate.bus.max_frame, 42u << 10);
    CHECK_EQ(gate.bus.nodelay, false);
    CHECK(gate.identity == tp_session_identity);
    CHECK_EQ(gate.max_players, 21);
    CHECK_EQ(gate.max_waiting, 22);
    CHECK_EQ(gate.place_interval_ms, 230);
    CHECK_EQ(gate.keep_players, 36);
    CHECK_EQ(gate.keep_ms, 37000);
    CHECK_EQ(gate.lost_close, TP_CLOSE_OVERLOAD);
    CHECK_EQ(gate.max_services, 35);
    CHECK_EQ(gate.drain_ms, 33000);

    CHECK_EQ(settings.server.priority, TP_PRIORITY_HIGH);
    CHECK_EQ(settings.server.processors.bits[0], 2);
    tp_log_options log = tp__server_settings_log(&settings.server);
    CHECK_EQ(log.level, TP_LOG_ERROR);
    CHECK_STR(log.file, "l");
}

static void missing_settings_are_errors(void) {
    CHECK_EQ(tp__settings_load("", &settings, report, sizeof report), TP_ERR_CONFIG);
    CHECK(strstr(report, "key_file is missing") != NULL);
    CHECK(strstr(report, "service is missing") != NULL);
    CHECK_EQ(load(""), TP_ERR_CONFIG); /* auth = token is the default */
    CHECK(strstr(report, "token_keys is missing") != NULL);
    CHECK_EQ(load("auth = open\n"), TP_OK);
}

/* Combinations that both programs refuse are among the rows of lan_settings.c. */
static const relation_row rows[] = {
    {"auth = open\nidle_timeout = 20s\n",
        "ping_interval is 30s and idle_timeout is 20s: expected ping_interval to be less",
        "auth = open\nidle_timeout = 20s\nping_interval = 10s\n", false},
    {"auth = open\nmax_frame = 64k\nqueue_bytes = 64k\n",
        "max_frame is 64k and queue_bytes is 64k: expected max_frame plus 4 bytes of header",
        "auth = open\nmax_frame = 64k\nqueue_bytes = 65540\n", false},
    {"auth = open\nmax_players = 1000000\nmax_waiting = 48577\nmax_addresses = 16777216\n",
        "max_players is 1000000 and max_waiting is 48577: expected at most 1048576 together",
        "auth = open\nmax_players = 1000000\nmax_waiting = 48556\nmax_addresses = 16777216\n"
        "max_pending = 16\nhandshake_queue = 1\n",
        false},
    {"auth = open\nmax_players = 1000000\nmax_waiting = 48557\nmax_addresses = 16777216\n"
     "max_pending = 16\nhandshake_queue = 1\n",
        "max_players is 1000000 and max_pending is 16: expected at most 1048576",
        "auth = open\nmax_players = 1000000\nmax_addresses = 16777216\n", false},
    {"auth = open\nmax_frame = 65536\nbyte_burst = 65629\n",
        "byte_burst is 65629 and max_frame is 64k: expected byte_burst to be at least 65630",
        "auth = open\nmax_frame = 65536\nbyte_burst = 65630\n", false},
    {"auth = open\nmax_frame = 1m\nqueue_bytes = 2m\n", "byte_burst is 512k and max_frame is 1m",
        "auth = open\nmax_frame = 1m\nqueue_bytes = 2m\nbyte_rate = 0\nbus_max_frame = 2m\n",
        false},
    {"auth = open\nbusy_time = 1500ms\n", "busy_time is 1500ms: expected whole seconds",
        "auth = open\nbusy_time = 2s\n", false},
    {"auth = open\nbus = 127.0.0.1:0\n", "bus is 127.0.0.1:0: expected the port of lanserver",
        "auth = open\nbus = 127.0.0.1:1\n", false},
    {"auth = open\nbus = 127.0.0.1\n",
        "bus cannot be \"127.0.0.1\": expected an IP address and port",
        "auth = open\nbus = [::1]:7400\n", false},
    {"auth = open\nlisten = 127.0.0.1:7400\n",
        "bus is 127.0.0.1:7400 and listen is 127.0.0.1:7400: expected lanserver to have",
        "auth = open\nlisten = 127.0.0.1:7401\n", false},
    {"auth = open\nmax_frame = 1048549\nbyte_rate = 0\nqueue_bytes = 2m\n",
        "max_frame is 1048549 and bus_max_frame is 1m: expected max_frame plus 28 bytes of headers",
        "auth = open\nmax_frame = 1048548\nbyte_rate = 0\nqueue_bytes = 2m\n", false},
    {"auth = open\nlog_file = k\n", "log_file is k and key_file is k: expected the log to have",
        "auth = open\nlog_file = l\n", false},
    {"token_keys = r\nlog_file = r\n", "log_file is r and token_keys is r: expected the log",
        "token_keys = r\nlog_file = l\n", false},
    {"auth = open\nbans = b\nlog_file = b\n", "log_file is b and bans is b: expected the log",
        "auth = open\nbans = b\nlog_file = l\n", false},
    /* These give a warning only. */
    {"auth = open\nmax_pending = 512\n", "handshake_queue is 512 and max_pending is 512: expected",
        "auth = open\nmax_pending = 513\n", true},
    {"auth = open\nmax_players = 2000\nmax_waiting = 49\nmax_addresses = 2048\n",
        "max_addresses is 2048 and max_players is 2000: expected at least as many",
        "auth = open\nmax_players = 2000\nmax_waiting = 48\nmax_addresses = 2048\n", true},
    {"token_keys = r\nmax_players = 2049\nused_tokens = 2048\n",
        "used_tokens is 2048 and max_players is 2049: expected at least as many",
        "auth = open\nmax_players = 2049\nused_tokens = 2048\n", true},
    {"auth = open\naccept_rate = 1001\naccept_burst = 1\n",
        "accept_rate is 1001 and accept_burst is 1: expected the burst",
        "auth = open\naccept_rate = 1000\naccept_burst = 1\n", true},
    {"auth = open\nmessage_rate = 2001\nmessage_burst = 2\n",
        "message_rate is 2001 and message_burst is 2: expected the burst",
        "auth = open\nmessage_rate = 2000\nmessage_burst = 2\n", true},
    {"auth = open\nbyte_rate = 524288001\n",
        "byte_rate is 524288001 and byte_burst is 512k: expected the burst",
        "auth = open\nbyte_rate = 524288000\n", true},
};

static void settings_that_contradict_each_other_are_refused(void) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        relation_check(&rows[i], report, load);
    }
}

/* Each is a valid service name, except the gate's own. */
static void the_gates_own_name_is_no_service(void) {
    static const char file[] = "key_file = k\nauth = open\nservice = ";
    static const struct {
        const char *service;
        const char *wanted;
    } bad[] = {{"gate", "service is gate: expected a service other than \"gate\""},
        {"The Arena", "service is The Arena: expected 1 to 63 bytes of a-z 0-9 . _ -"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "%s%s\n", file, bad[i].service);
        CHECK_EQ(load_whole(text), TP_ERR_CONFIG);
        CHECK(strstr(report, bad[i].wanted) != NULL);
    }
    CHECK_EQ(load_whole("key_file = k\nauth = open\nservice = gates\n"), TP_OK);
}

CHECK_MAIN(CASE(the_example_lists_the_defaults), CASE(the_defaults_are_the_librarys),
    CASE(every_setting_reaches_its_option), CASE(missing_settings_are_errors),
    CASE(settings_that_contradict_each_other_are_refused), CASE(the_gates_own_name_is_no_service))
