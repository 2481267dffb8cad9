/*
 * The tables behind wan_settings.h. One thread, at start.
 */
#include "wanserver/program/wan_settings.h"

#include <string.h>

#include "core/config/config.h"
#include "core/config/options.h"
#include "core/config/relations.h"
#include "proto/bus.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "proto/record.h"
#include "wanserver/handshake/pending.h"

/* By tp_auth, tp_handshake_priority, tp_queue_policy, tp_close_reason. */
static const char *const auth_names[] = {"token", "open", NULL};
static const char *const handshake_names[] = {"idle", "low", "normal", NULL};
static const char *const policy_names[] = {"disconnect", "drop", "refuse", NULL};
#define CLOSE_NAME(name, value, text) text,
static const char *const close_names[] = {TP_CLOSE_REASONS(CLOSE_NAME) NULL};
#undef CLOSE_NAME

#define DAY_MS 86400000u

/* One entry of the table. */
#define AT(field) offsetof(tp__settings, field)

/* clang-format off */
static const tp__setting settings_table[] = {
    {"listen", TP__SETTING_ADDRESS, AT(server.listen), 0, 0, NULL, "127.0.0.1:7777", NULL,
        "Where players connect: 0.0.0.0:7777 on every IPv4 address of this machine, [::]:7777 on the\n"
        "IPv6 ones too. Port 0 asks the system for a free one; without a port it is refused."},
    {"key_file", TP__SETTING_TEXT, AT(key_file), 1, TP__PATH_MAX, NULL, NULL, "/etc/twinport/gate.key",
        "The file of this gateway's private key; wanserver --genkey makes one."},
    {"auth", TP__SETTING_CHOICE, AT(auth), 0, 0, auth_names, "token", NULL,
        "token: who has a token of the login service's may play, once, as the account in it.\n"
        "open: anybody may, and nobody is known: no accounts, no bans of players. For tests."},
    {"token_keys", TP__SETTING_TEXT, AT(token_keys), 0, TP__PATH_MAX, NULL, "", NULL,
        "With auth = token: the key ring that the login service mints tokens with, a line of an id and\n"
        "64 hexadecimal digits for each key; tp-token --new-key makes one. Read again at SIGHUP (on\n"
        "Windows at the start only)."},
    {"used_tokens", TP__SETTING_COUNT, AT(used_tokens), 1024, 16777216, NULL, "262144", NULL,
        "Used tokens that are remembered until they expire. At the limit no further one is taken,\n"
        "so there should be as many as max_players and max_waiting."},
    {"max_token_life", TP__SETTING_TIME, AT(max_token_life), 1000,
        TP_TOKEN_LIFE_MAX * UINT64_C(1000), NULL, "1h", NULL,
        "The longest time, in whole seconds, from now until a token expires. One that would live\n"
        "longer is refused: its expiry is in another unit than seconds, say, or a clock is wrong."},

    {"allow", TP__SETTING_NETWORKS, AT(server.allow), 0, 0, NULL, "any", NULL,
        "Who may connect."},
    {"deny", TP__SETTING_NETWORKS, AT(server.deny), 0, 0, NULL, "", NULL,
        "Who may not, even if allowed above. Empty: nobody."},
    {"bans", TP__SETTING_TEXT, AT(bans), 0, TP__PATH_MAX, NULL, "", NULL,
        "A file of more of them, up to 4,096: a line for each network, perhaps with the time until\n"
        "when, in seconds since 1970. Read again at SIGHUP, too; who is banned then is sent away.\n"
        "A network given twice is warned of; a line that is wrong leaves everything as it was."},
    {"backlog", TP__SETTING_COUNT, AT(server.backlog), 1, 65535, NULL, "1024", NULL,
        "Connections that may wait to be accepted."},
    {"accept_rate", TP__SETTING_COUNT, AT(accept_rate), 0, 1000000, NULL, "20", NULL,
        "Connections per second that one address may make; IPv6: one /64. 0: any number."},
    {"accept_burst", TP__SETTING_COUNT, AT(accept_burst), 1, 1000000, NULL, "50", NULL,
        "... and at once."},
    {"connections_per_address", TP__SETTING_COUNT, AT(connections_per_address), 0, 1048576, NULL, "64",
        NULL,
        "Connections that one address may have at the same time. 0: any number. Mind that the players\n"
        "of a school or of a mobile network may all come from one."},
    {"max_addresses", TP__SETTING_COUNT, AT(max_addresses), 1024, 16777216, NULL, "65536", NULL,
        "Addresses that are counted. Beyond it the one seen longest ago without a connection is\n"
        "forgotten; if all have one, others are turned away, so there should be as many as\n"
        "max_players and max_waiting."},

    {"handshake_timeout", TP__SETTING_TIME, AT(handshake_timeout), 100, 600000, NULL, "10s", NULL,
        "From the connection to the end of its handshake, whatever it sends meanwhile."},
    {"max_pending", TP__SETTING_COUNT, AT(max_pending), 16, 65536, NULL, "1024", NULL,
        "Connections in their handshake. At the limit the oldest that has said nothing makes room."},
    {"handshake_threads", TP__SETTING_COUNT, AT(handshake_threads), 1, 64, NULL, "1", NULL,
        "Threads for handshakes."},
    {"handshake_priority", TP__SETTING_CHOICE, AT(handshake_priority), 0, 0, handshake_names,
        "idle",
        NULL,
        "idle: they get what no other thread wants of the processors, and one thread more, at\n"
        "low, takes what has waited for 0.2s. low: below the threads that serve the players.\n"
        "normal: as those."},
    {"handshake_queue", TP__SETTING_COUNT, AT(handshake_queue), 1, 65536, NULL, "512", NULL,
        "Handshakes that may wait for them. Beyond it clients are told to come again, if\n"
        "max_pending has room for so many and for handshake_threads ..."},
    {"busy_time", TP__SETTING_TIME, AT(busy_time), 0, 65535000, NULL, "5s", NULL,
        "... after this time, in whole seconds."},

    {"max_players", TP__SETTING_COUNT, AT(max_players), 1, TP_MAX_SESSIONS, NULL, "4096", NULL,
        "Players at once."},
    {"max_waiting", TP__SETTING_COUNT, AT(max_waiting), 0, TP_MAX_SESSIONS, NULL, "0", NULL,
        "Players beyond them that may wait for a place, and are told which they have. Who comes when\n"
        "both are full is turned away. Both, and 5/4 of max_pending, are at most 1048576 in all."},
    {"place_interval", TP__SETTING_TIME, AT(place_interval), 10, 60000, NULL, "1s", NULL,
        "Who waits is told a new place at most so often."},
    {"message_rate", TP__SETTING_COUNT, AT(message_rate), 0, 10000000, NULL, "200", NULL,
        "Messages per second that a player may send; who sends more is ended. 0: any number."},
    {"message_burst", TP__SETTING_COUNT, AT(message_burst), 1, 10000000, NULL, "400", NULL,
        "... and at once."},
    {"byte_rate", TP__SETTING_BYTES, AT(byte_rate), 0, UINT32_MAX, NULL, "256k", NULL,
        "Bytes per second that a player may send, as they come from the network. A record in\n"
        "which no message ends counts as at least 256. 0: any number."},
    {"byte_burst", TP__SETTING_BYTES, AT(byte_burst), 65536, UINT32_MAX, NULL, "512k", NULL,
        "... and at once; at least what one message of max_frame is on the network: 4 bytes more,\n"
        "and 18 for each 16384."},
    {"max_frame", TP__SETTING_BYTES, AT(server.max_frame), 16, TP_PACKET_MAX, NULL, "64k", NULL,
        "The largest message of a player; at most bus_max_frame less 28. What lanserver has no\n"
        "room for is dropped, and counted."},
    {"queue_bytes", TP__SETTING_BYTES, AT(server.queue_bytes), 1024, UINT32_MAX, NULL, "1m", NULL,
        "What may wait to be sent to one player, in bytes; at least max_frame and 4 ..."},
    {"queue_packets", TP__SETTING_COUNT, AT(server.queue_packets), 1, 0xFFFFFF, NULL, "4096", NULL,
        "... and in packets."},
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), 0, 0, policy_names, "disconnect", NULL,
        "At that limit the player is ended; or (drop and refuse are the same for a gate) the newest\n"
        "messages are lost to him, and counted."},
    {"idle_timeout", TP__SETTING_TIME, AT(server.idle_timeout), 0, DAY_MS, NULL, "60s", NULL,
        "A player who says nothing for so long, not even in answer to PING, is ended.\n"
        "0: never; else at least 100ms."},
    {"ping_interval", TP__SETTING_TIME, AT(server.ping_interval), 0, DAY_MS, NULL, "30s", NULL,
        "Silence after which a player is sent PING. 0: never; else at least 100ms, and less than\n"
        "idle_timeout."},
    {"drain_timeout", TP__SETTING_TIME, AT(server.drain_timeout), 0, 600000, NULL, "5s", NULL,
        "At the end: time for queues to empty, and for services to hear that their players left;\n"
        "all together take 2s more at most."},

    {"bus", TP__SETTING_ADDRESS, AT(bus), 0, 0, NULL, "127.0.0.1:7400", NULL,
        "Where lanserver listens, with its port."},
    {"bus_max_frame", TP__SETTING_BYTES, AT(bus_max_frame), 1024, TP_PACKET_MAX, NULL, "1m", NULL,
        "The largest message on the bus, headers included: the same as lanserver's max_frame.\n"
        "Players' messages get 28 bytes of header."},
    {"service", TP__SETTING_TEXT, AT(service), 1, TP_NAME_MAX, NULL, NULL, "arena",
        "The service whose players they are: a name of a-z 0-9 . _ - on the bus, other than gate,\n"
        "which the gates have."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 1024, NULL, "64", NULL,
        "Services that players may be moved to, that one included."},
    {"keep_players", TP__SETTING_COUNT, AT(keep_players), 0, TP_MAX_SESSIONS, NULL, "1048576", NULL,
        "Players that are kept when their service or the bus is lost, until it is back ..."},
    {"keep_time", TP__SETTING_TIME, AT(keep_time), 0, DAY_MS, NULL, "30s", NULL,
        "... or this time is over. Then, or if there are more of them, they are ended ..."},
    {"lost_close", TP__SETTING_CHOICE, AT(lost_close), 0, 0, close_names, "shutdown", NULL,
        "... with this word to them."},

    {"priority", TP__SETTING_CHOICE, AT(server.priority), 0, 0, tp__priority_names, "low", NULL,
        "How it stands to other programs of this machine; low, so that players do not hold up what goes\n"
        "over the bus. normal and high also ask to be run soon; high needs a permission of the\n"
        "system's. idle: only what others leave over.\n"
        "On Linux it counts within a scheduling group only: see docs/operations.md."},
    {"processors", TP__SETTING_PROCESSORS, AT(server.processors), 0, 0, NULL, "all", NULL,
        "The processors it may use: the rest is left to others, to lanserver say."},
    {"io", TP__SETTING_CHOICE, AT(server.io), 0, 0, tp__io_names, "auto", NULL,
        "How the system's completions are waited for; auto takes the best there is."},
    {"workers", TP__SETTING_COUNT, AT(server.workers), 0, 64, NULL, "0", NULL,
        "Threads that serve the players; 0: one per processor."},
    {"running", TP__SETTING_COUNT, AT(server.running), 0, 64, NULL, "0", NULL,
        "iocp: how many of them run at once, not more than workers; 0: all."},
    {"nagle", TP__SETTING_BOOL, AT(server.nagle), 0, 0, NULL, "no", NULL,
        "TCP may hold small packets back to gather them."},
    {"send_buffer_zero", TP__SETTING_BOOL, AT(server.send_buffer_zero), 0, 0, NULL, "no", NULL,
        "iocp: send from the program's memory, without the system's buffer."},
    {"post_receive_buffers", TP__SETTING_BOOL, AT(server.post_receive_buffers), 0, 0, NULL, "no", NULL,
        "iocp: every player waits with a buffer of its own."},
    {"receive_buffer", TP__SETTING_BYTES, AT(server.receive_buffer), 4096, 1048576, NULL, "64k", NULL,
        "Bytes that a thread reads at once."},
    {"reserve_descriptors", TP__SETTING_COUNT, AT(server.reserve_descriptors), 0, 65536, NULL, "16",
        NULL,
        "Linux: descriptors, but at most a quarter of those that the system allows, not meant for\n"
        "players: for the bus, the log and the files that are read again.\n"
        "Who comes when no others are left waits until somebody goes."},
    {"reserve", TP__SETTING_BYTES, AT(server.reserve), 0, (uint64_t)1 << 30, NULL, "4m", NULL,
        "Memory for messages that is made ready at start."},
    {"memory_limit", TP__SETTING_BYTES, AT(server.memory_limit), 0, (uint64_t)1 << 40, NULL, "0",
        NULL,
        "Memory that messages may take in all. Beyond it the player with the largest queue is\n"
        "ended first. 0: no limit; else at least 1m, reserve and queue_bytes."},

    {"log_level", TP__SETTING_CHOICE, AT(server.log_level), 0, 0, tp__log_level_names, "info", NULL,
        "What is worth a line in the log."},
    {"log_file", TP__SETTING_TEXT, AT(server.log_file), 0, TP__LOG_FILE_MAX, NULL, "", NULL,
        "The log's file, appended to; opened again at SIGHUP (on Linux). Empty: standard error."},
};

#define ARGUMENT(field) offsetof(tp__arguments, field)

static const tp__setting arguments_table[] = {
    {"config", TP__SETTING_TEXT, ARGUMENT(config), 0, TP__PATH_MAX, NULL, "", NULL,
        "The configuration file."},
    {"check-config", TP__SETTING_BOOL, ARGUMENT(check_config), 0, 0, NULL, "no", NULL,
        "Read it and the files that it names, say what is wrong with them, and end."},
    {"print-config", TP__SETTING_BOOL, ARGUMENT(print_config), 0, 0, NULL, "no", NULL,
        "Write an example of a configuration file to standard output, and end."},
    {"genkey", TP__SETTING_TEXT, ARGUMENT(genkey), 0, TP__PATH_MAX, NULL, "", NULL,
        "Write a new private key to this file, which must not exist yet, print its public key, which\n"
        "clients need, and end."},
    {"show-key", TP__SETTING_TEXT, ARGUMENT(show_key), 0, TP__PATH_MAX, NULL, "", NULL,
        "Print the public key of the private key in this file, and end."},
    {"version", TP__SETTING_BOOL, ARGUMENT(version), 0, 0, NULL, "no", NULL,
        "Say the version, and end."},
    {"help", TP__SETTING_BOOL, ARGUMENT(help), 0, 0, NULL, "no", NULL,
        "Say this, and end."},
};
/* clang-format on */

#define SETTINGS  (sizeof settings_table / sizeof settings_table[0])
#define ARGUMENTS (sizeof arguments_table / sizeof arguments_table[0])

tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t room) {
    return tp__options_read(arguments_table, ARGUMENTS, count, words, arguments, report, room);
}

void tp__arguments_print_help(FILE *file) {
    fputs("usage: wanserver --config FILE\n"
          "       wanserver --genkey FILE\n"
          "       wanserver --show-key FILE\n\n"
          "The gate: players connect to it over the Internet, and it passes what they say to a "
          "service on\n"
          "lanserver's bus, and back. Ctrl-C or SIGTERM ends it gently, a second one at once;\n"
          "SIGHUP has it open its log file and read its key ring and bans again.\n\n",
        file);
    tp__options_print_help(arguments_table, ARGUMENTS, file);
}

/* ---- what they ask of each other ------------------------------------------------------------- */

/* Connections before READY have slots beside those of the players, as the server makes them. */
static uint64_t slots_of(const tp__settings *settings) {
    return settings->max_players + settings->max_waiting +
           tp__pending_slots((unsigned)settings->max_pending);
}

static void check_places(const tp__relations *all, const tp__settings *settings) {
    uint64_t places = settings->max_players + settings->max_waiting;
    tp__relation_must(all, places <= TP_MAX_SESSIONS, "max_players", "max_waiting",
        "at most %u of them together", TP_MAX_SESSIONS);
    tp__relation_must(all, places > TP_MAX_SESSIONS || slots_of(settings) <= TP_MAX_SESSIONS,
        "max_players", "max_pending",
        "at most %u of max_players, max_waiting and 5/4 of max_pending together", TP_MAX_SESSIONS);
    tp__relation_should(all,
        settings->handshake_queue + settings->handshake_threads <= settings->max_pending,
        "handshake_queue", "max_pending",
        "max_pending to have room for handshake_queue and the %u of handshake_threads: else who is "
        "too many is cut, not told to come again",
        (unsigned)settings->handshake_threads);
    tp__relation_should(all,
        (settings->accept_rate == 0 && settings->connections_per_address == 0) ||
            settings->max_addresses >= places,
        "max_addresses", "max_players",
        "at least as many addresses as max_players and max_waiting together: else players are "
        "turned away although there are places");
    tp__relation_should(all, settings->auth != TP_AUTH_TOKEN || settings->used_tokens >= places,
        "used_tokens", "max_players",
        "at least as many tokens as max_players and max_waiting together: if all come at once, "
        "some are turned away although there are places");
}

/* A bucket that holds `burst` is filled at most once a millisecond. */
static void check_rate(const tp__relations *all, const char *rate, uint64_t per_second,
    const char *burst, uint64_t at_once) {
    tp__relation_should(all, per_second <= at_once * 1000, rate, burst,
        "the burst to be at least a thousandth of the rate: else the rate cannot be reached");
}

static void check_rates(const tp__relations *all, const tp__settings *settings) {
    uint64_t frame = settings->server.max_frame + TP_FRAME_HEADER;
    size_t largest = tp_record_stream_size((size_t)frame);
    tp__relation_must(all, settings->byte_rate == 0 || largest <= settings->byte_burst,
        "byte_burst", "max_frame",
        "room in byte_burst for the %zu bytes that one message of max_frame is on the network: "
        "else it ends its player",
        largest);
    check_rate(all, "accept_rate", settings->accept_rate, "accept_burst", settings->accept_burst);
    check_rate(
        all, "message_rate", settings->message_rate, "message_burst", settings->message_burst);
    check_rate(all, "byte_rate", settings->byte_rate, "byte_burst", settings->byte_burst);
    tp__relation_must(all, settings->max_token_life % 1000 == 0, "max_token_life", NULL,
        "whole seconds: a token's expiry is given in them");
    tp__relation_must(all, settings->busy_time % 1000 == 0, "busy_time", NULL,
        "whole seconds: clients are not told parts of one");
}

static void check_bus(const tp__relations *all, const tp__settings *settings) {
    const tp_address *listen = &settings->server.listen;
    tp__relation_must(all, settings->bus.port != 0, "bus", NULL, "the port of lanserver, not 0");
    tp__relation_must(all, listen->port == 0 || !tp_address_equal(listen, &settings->bus), "bus",
        "listen", "lanserver to have an address of its own");
    tp__relation_must(all, tp_bus_name_valid(settings->service, strlen(settings->service)),
        "service", NULL, "1 to %d bytes of a-z 0-9 . _ -", TP_NAME_MAX);
    tp__relation_must(all, strcmp(settings->service, TP_GATE_SERVICE) != 0, "service", NULL,
        "a service other than \"%s\", which is what the gates are themselves", TP_GATE_SERVICE);
    tp__relation_must(all,
        settings->server.max_frame + TP_GATE_DATA_SIZE + TP_BUS_HEADER <= settings->bus_max_frame,
        "max_frame", "bus_max_frame",
        "max_frame, and %u bytes of headers, to fit into bus_max_frame: else a player's largest "
        "message cannot be passed on",
        TP_GATE_DATA_SIZE + TP_BUS_HEADER);
}

static void check_files(const tp__relations *all, const tp__settings *settings) {
    if (settings->auth == TP_AUTH_TOKEN && settings->token_keys[0] == '\0') {
        tp__report_error(all->wrong,
            "%s: token_keys is missing: expected the key ring's file, for auth = token", all->path);
    }
    tp__server_settings_check_log(all, &settings->server, "key_file", settings->key_file);
    tp__server_settings_check_log(all, &settings->server, "token_keys", settings->token_keys);
    tp__server_settings_check_log(all, &settings->server, "bans", settings->bans);
}

static tp_err check_together(
    const char *path, const tp__settings *settings, char *report, size_t room) {
    tp__report wrong = tp__report_begin(report, room);
    const tp__relations all = {settings_table, SETTINGS, settings, path, &wrong};
    check_files(&all, settings);
    tp__server_settings_check(&all, &settings->server);
    check_places(&all, settings);
    check_rates(&all, settings);
    check_bus(&all, settings);
    return tp__report_end(&wrong);
}

tp_err tp__settings_load(const char *path, tp__settings *settings, char *report, size_t room) {
    memset(settings, 0, sizeof *settings);
    tp_err error = tp__config_load(settings_table, SETTINGS, path, settings, report, room);
    return error ? error : check_together(path, settings, report, room);
}

void tp__settings_print_example(FILE *file) {
    tp__config_print_example(settings_table, SETTINGS, file);
}

static void apply_to_server(const tp__settings *settings, tp_server_options *server) {
    tp__server_settings_apply(&settings->server, server);
    server->max_sessions = (unsigned)(settings->max_players + settings->max_waiting);
    server->queue_policy = (tp_queue_policy)settings->queue_policy;
}

static void apply_to_wan(const tp__settings *settings, tp_wanserver_options *wan) {
    tp_wanserver_defaults(wan);
    apply_to_server(settings, &wan->server);
    wan->auth = (tp_auth)settings->auth;
    wan->replay_tokens = (unsigned)settings->used_tokens;
    wan->max_token_life_s = (unsigned)(settings->max_token_life / 1000);
    wan->handshake_timeout_ms = (unsigned)settings->handshake_timeout;
    wan->max_pending = (unsigned)settings->max_pending;
    wan->handshake_threads = (unsigned)settings->handshake_threads;
    wan->handshake_priority = (tp_handshake_priority)settings->handshake_priority;
    wan->handshake_queue = (unsigned)settings->handshake_queue;
    wan->busy_seconds = (unsigned)(settings->busy_time / 1000);
    wan->accept_rate = (unsigned)settings->accept_rate;
    wan->accept_burst = (unsigned)settings->accept_burst;
    wan->connections_per_address = (unsigned)settings->connections_per_address;
    wan->max_addresses = (unsigned)settings->max_addresses;
    wan->message_rate = (unsigned)settings->message_rate;
    wan->message_burst = (unsigned)settings->message_burst;
    wan->byte_rate = (size_t)settings->byte_rate;
    wan->byte_burst = (size_t)settings->byte_burst;
}

static void apply_to_gate(const tp__settings *settings, tp__gate_options *gate) {
    tp__gate_defaults(gate);
    gate->bus.address = settings->bus;
    gate->bus.max_frame = (size_t)settings->bus_max_frame;
    gate->bus.io = tp__io_names[settings->server.io];
    gate->bus.low_latency = tp__server_settings_low_latency(&settings->server);
    gate->bus.nodelay = !settings->server.nagle;
    gate->bus.drain_timeout_ms = (unsigned)settings->server.drain_timeout;
    gate->service = settings->service;
    gate->identity = tp_session_identity;
    gate->largest_message = (size_t)settings->server.max_frame;
    gate->max_players = (unsigned)settings->max_players;
    gate->max_waiting = (unsigned)settings->max_waiting;
    gate->tell_ms = (unsigned)settings->place_interval;
    gate->keep_players = (unsigned)settings->keep_players;
    gate->keep_ms = (unsigned)settings->keep_time;
    gate->lost_close = (uint16_t)settings->lost_close;
    gate->max_services = (unsigned)settings->max_services;
    gate->drain_ms = (unsigned)settings->server.drain_timeout;
}

void tp__settings_apply(
    const tp__settings *settings, tp_wanserver_options *wan, tp__gate_options *gate) {
    apply_to_wan(settings, wan);
    apply_to_gate(settings, gate);
}
