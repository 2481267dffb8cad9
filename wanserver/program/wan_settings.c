/*
 * The tables of the settings in wan_settings.h, their conditions, and the options that they become.
 * One thread, at start.
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

/* In the order of tp_auth, tp_handshake_priority, tp_queue_policy and tp_close_reason. */
static const char *const auth_names[] = {"token", "open", NULL};
static const char *const handshake_names[] = {"idle", "low", "normal", NULL};
static const char *const policy_names[] = {"disconnect", "drop", "refuse", NULL};
#define CLOSE_NAME(name, value, text) text,
static const char *const close_names[] = {TP_CLOSE_REASONS(CLOSE_NAME) NULL};
#undef CLOSE_NAME

#define DAY_MS 86400000u

#define AT(field) offsetof(tp__settings, field)

/* clang-format off */
static const tp__setting settings_table[] = {
    {"listen", TP__SETTING_ADDRESS, AT(server.listen), 0, 0, NULL, "127.0.0.1:7777", NULL,
        "Address and port that players connect to: 0.0.0.0:7777 for all IPv4 addresses of this\n"
        "machine, [::]:7777 for the IPv6 addresses too. The port is required; 0 lets the system\n"
        "choose one."},
    {"key_file", TP__SETTING_TEXT, AT(key_file), 1, TP__PATH_MAX, NULL, NULL,
        "/etc/twinport/gate.key",
        "The file with this gate's private key; wanserver --genkey makes one."},
    {"auth", TP__SETTING_CHOICE, AT(auth), 0, 0, auth_names, "token", NULL,
        "token: a player needs a token of the login service, valid once, for the account in it.\n"
        "open: no tokens; players have no account and cannot be banned. For tests."},
    {"token_keys", TP__SETTING_TEXT, AT(token_keys), 0, TP__PATH_MAX, NULL, "", NULL,
        "For auth = token: the key ring with which the login service makes tokens, a line of an\n"
        "id and 64 hexadecimal digits for each key; tp-token --new-key makes one. Read again at\n"
        "SIGHUP (Linux only)."},
    {"used_tokens", TP__SETTING_COUNT, AT(used_tokens), 1024, 16777216, NULL, "262144", NULL,
        "Used tokens that are remembered until they expire. At this limit further tokens are\n"
        "refused: so it should be at least `max_players` plus `max_waiting`."},
    {"max_token_life", TP__SETTING_TIME, AT(max_token_life), 1000,
        TP_TOKEN_LIFE_MAX * UINT64_C(1000), NULL, "1h", NULL,
        "The longest time until a token may expire, in whole seconds. A token that is valid for\n"
        "longer is refused: its expiry may not be in seconds, or a clock may be wrong."},

    {"allow", TP__SETTING_NETWORKS, AT(server.allow), 0, 0, NULL, "any", NULL,
        "Networks that may connect."},
    {"deny", TP__SETTING_NETWORKS, AT(server.deny), 0, 0, NULL, "", NULL,
        "Networks that are refused even if `allow` lists them. Empty: none."},
    {"bans", TP__SETTING_TEXT, AT(bans), 0, TP__PATH_MAX, NULL, "", NULL,
        "A file with up to 4,096 banned networks: a network in each line, and optionally the time\n"
        "until which it is banned, in seconds since 1970. Read again at SIGHUP (Linux only);\n"
        "players who are banned then are disconnected. A network that is listed twice gives a\n"
        "warning; if a line is wrong, the old bans stay. Empty: no bans."},
    {"backlog", TP__SETTING_COUNT, AT(server.backlog), 1, 65535, NULL, "1024", NULL,
        "New connections that may wait until the program accepts them."},
    {"accept_rate", TP__SETTING_COUNT, AT(accept_rate), 0, 1000000, NULL, "20", NULL,
        "Connections per second from one address; IPv6: from one /64. 0: no limit."},
    {"accept_burst", TP__SETTING_COUNT, AT(accept_burst), 1, 1000000, NULL, "50", NULL,
        "Connections that one address may open at once; after them `accept_rate` applies."},
    {"connections_per_address", TP__SETTING_COUNT, AT(connections_per_address), 0, 1048576, NULL,
        "64", NULL,
        "Connections from one address at the same time. 0: no limit. All players of a school or\n"
        "of a mobile network may come from one address."},
    {"max_addresses", TP__SETTING_COUNT, AT(max_addresses), 1024, 16777216, NULL, "65536", NULL,
        "Addresses whose connections are counted. Beyond it the address that was seen longest ago\n"
        "and has no connection is forgotten. If all have one, new addresses are refused: so it\n"
        "should be at least `max_players` plus `max_waiting`."},

    {"handshake_timeout", TP__SETTING_TIME, AT(handshake_timeout), 100, 600000, NULL, "10s", NULL,
        "The time from the connection to the end of its handshake, whatever it sends meanwhile."},
    {"max_pending", TP__SETTING_COUNT, AT(max_pending), 16, 65536, NULL, "1024", NULL,
        "Connections in their handshake. At the limit the oldest one without HELLO is closed."},
    {"handshake_threads", TP__SETTING_COUNT, AT(handshake_threads), 1, 64, NULL, "1", NULL,
        "Threads for handshakes."},
    {"handshake_priority", TP__SETTING_CHOICE, AT(handshake_priority), 0, 0, handshake_names,
        "idle", NULL,
        "Priority of the handshake threads.\n"
        "idle: only processor time that no other thread wants; one more thread, at low, takes\n"
        "handshakes that have waited for 0.2s.\n"
        "low: below the threads that serve the players.\n"
        "normal: the same as those."},
    {"handshake_queue", TP__SETTING_COUNT, AT(handshake_queue), 1, 65536, NULL, "512", NULL,
        "Handshakes that may wait for a handshake thread. Further clients are told to try again\n"
        "later, if `max_pending` is at least `handshake_queue` plus `handshake_threads`."},
    {"busy_time", TP__SETTING_TIME, AT(busy_time), 0, 65535000, NULL, "5s", NULL,
        "Time after which clients should try again when `handshake_queue` is full; whole seconds."},

    {"max_players", TP__SETTING_COUNT, AT(max_players), 1, TP_MAX_SESSIONS, NULL, "4096", NULL,
        "Players at the same time."},
    {"max_waiting", TP__SETTING_COUNT, AT(max_waiting), 0, TP_MAX_SESSIONS, NULL, "0", NULL,
        "Players beyond `max_players` that may wait, and are told their position. When both are\n"
        "full, further players are refused. Both plus 5/4 of `max_pending` are at most 1048576."},
    {"place_interval", TP__SETTING_TIME, AT(place_interval), 10, 60000, NULL, "1s", NULL,
        "The shortest time between two messages to a waiting player about its position."},
    {"message_rate", TP__SETTING_COUNT, AT(message_rate), 0, 10000000, NULL, "200", NULL,
        "Messages per second from one player; a player who sends more is disconnected.\n"
        "0: no limit."},
    {"message_burst", TP__SETTING_COUNT, AT(message_burst), 1, 10000000, NULL, "400", NULL,
        "Messages that a player may send at once; after them `message_rate` applies."},
    {"byte_rate", TP__SETTING_BYTES, AT(byte_rate), 0, UINT32_MAX, NULL, "256k", NULL,
        "Bytes per second from one player, as received from the network. A record in which no\n"
        "frame ends counts as at least 256. 0: no limit."},
    {"byte_burst", TP__SETTING_BYTES, AT(byte_burst), 65536, UINT32_MAX, NULL, "512k", NULL,
        "Bytes that a player may send at once; after them `byte_rate` applies. At least the size\n"
        "of a message of `max_frame` on the network: 4 bytes more, and 18 for each 16384."},
    {"max_frame", TP__SETTING_BYTES, AT(server.max_frame), 16, TP_PACKET_MAX, NULL, "64k", NULL,
        "The largest message of a player; at most `bus_max_frame` less 28. A message that is too\n"
        "large for lanserver is dropped and counted."},
    {"queue_bytes", TP__SETTING_BYTES, AT(server.queue_bytes), 1024, UINT32_MAX, NULL, "1m", NULL,
        "Bytes that may wait to be sent to one player; at least `max_frame` plus 4."},
    {"queue_packets", TP__SETTING_COUNT, AT(server.queue_packets), 1, 0xFFFFFF, NULL, "4096", NULL,
        "Packets that may wait to be sent to one player."},
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), 0, 0, policy_names, "disconnect", NULL,
        "What happens at `queue_bytes` or `queue_packets`. disconnect: the player is\n"
        "disconnected. drop and refuse (the same for a gate): further messages to the player are\n"
        "lost, and counted."},
    {"idle_timeout", TP__SETTING_TIME, AT(server.idle_timeout), 0, DAY_MS, NULL, "60s", NULL,
        "A player who sends nothing for this time, not even an answer to PING, is disconnected.\n"
        "0: never; otherwise at least 100ms."},
    {"ping_interval", TP__SETTING_TIME, AT(server.ping_interval), 0, DAY_MS, NULL, "30s", NULL,
        "A player who sends nothing for this time is sent PING. 0: never; otherwise at least\n"
        "100ms, and less than `idle_timeout`."},
    {"drain_timeout", TP__SETTING_TIME, AT(server.drain_timeout), 0, 600000, NULL, "5s", NULL,
        "At a stop: how long each step may take, first for queues to be sent, then for services\n"
        "to learn that their players have left. The whole stop takes at most 2s more than this\n"
        "value."},

    {"bus", TP__SETTING_ADDRESS, AT(bus), 0, 0, NULL, "127.0.0.1:7400", NULL,
        "Address and port of lanserver."},
    {"bus_max_frame", TP__SETTING_BYTES, AT(bus_max_frame), 1024, TP_PACKET_MAX, NULL, "1m", NULL,
        "The largest message on the bus, including headers: the same as lanserver's `max_frame`.\n"
        "A player's message gets 28 bytes of header."},
    {"service", TP__SETTING_TEXT, AT(service), 1, TP_NAME_MAX, NULL, NULL, "arena",
        "The service that players are assigned to at first: a name of a-z 0-9 . _ - on the bus,\n"
        "but not gate, the name of the gates."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 1024, NULL, "64", NULL,
        "Services that players may be moved to, including `service`."},
    {"keep_players", TP__SETTING_COUNT, AT(keep_players), 0, TP_MAX_SESSIONS, NULL, "1048576", NULL,
        "Players that are kept when their service or the bus is lost, until it is back or\n"
        "`keep_time` is over. Further players are disconnected."},
    {"keep_time", TP__SETTING_TIME, AT(keep_time), 0, DAY_MS, NULL, "30s", NULL,
        "Time for which players are kept when their service or the bus is lost. After it they are\n"
        "disconnected."},
    {"lost_close", TP__SETTING_CHOICE, AT(lost_close), 0, 0, close_names, "shutdown", NULL,
        "Reason sent to players who are disconnected after the loss of their service or the bus."},

    {"priority", TP__SETTING_CHOICE, AT(server.priority), 0, 0, tp__priority_names, "low", NULL,
        "Priority of this program among the programs of the machine. low: players do not delay\n"
        "the bus. normal and high also ask for low latency; high needs a permission of the\n"
        "system. idle: only processor time that no other program wants.\n"
        "On Linux this counts only within a scheduling group: see docs/tuning.md."},
    {"processors", TP__SETTING_PROCESSORS, AT(server.processors), 0, 0, NULL, "all", NULL,
        "The processors that this program may use; the others are left to lanserver, for example."},
    {"io", TP__SETTING_CHOICE, AT(server.io), 0, 0, tp__io_names, "auto", NULL,
        "The system's interface for network events; auto selects the best one available."},
    {"workers", TP__SETTING_COUNT, AT(server.workers), 0, 64, NULL, "0", NULL,
        "Threads that serve the players. 0: one per processor."},
    {"running", TP__SETTING_COUNT, AT(server.running), 0, 64, NULL, "0", NULL,
        "iocp only: how many workers run at the same time, at most `workers`. 0: all of them."},
    {"nagle", TP__SETTING_BOOL, AT(server.nagle), 0, 0, NULL, "no", NULL,
        "TCP may delay small packets to combine them (Nagle's algorithm)."},
    {"send_buffer_zero", TP__SETTING_BOOL, AT(server.send_buffer_zero), 0, 0, NULL, "no", NULL,
        "iocp only: send from the program's memory, without the system's send buffer."},
    {"post_receive_buffers", TP__SETTING_BOOL, AT(server.post_receive_buffers), 0, 0, NULL, "no",
        NULL,
        "iocp only: each player has a receive buffer of its own while it waits for data."},
    {"receive_buffer", TP__SETTING_BYTES, AT(server.receive_buffer), 4096, 1048576, NULL, "64k",
        NULL,
        "Bytes that a thread reads with one call."},
    {"reserve_descriptors", TP__SETTING_COUNT, AT(server.reserve_descriptors), 0, 65536, NULL, "16",
        NULL,
        "Linux only: file descriptors that connections of players never use, for the bus, the log\n"
        "and the files that are read again; at most a quarter of those that the system allows.\n"
        "When no others are left, new connections wait until one is closed."},
    {"reserve", TP__SETTING_BYTES, AT(server.reserve), 0, (uint64_t)1 << 30, NULL, "4m", NULL,
        "Memory for messages that is allocated at start."},
    {"memory_limit", TP__SETTING_BYTES, AT(server.memory_limit), 0, (uint64_t)1 << 40, NULL, "0",
        NULL,
        "Memory that messages may use in total. Beyond it the player with the largest queue is\n"
        "disconnected first. 0: no limit; otherwise at least 1m, `reserve` and `queue_bytes`."},

    {"log_level", TP__SETTING_CHOICE, AT(server.log_level), 0, 0, tp__log_level_names, "info", NULL,
        "The lowest level of lines that are logged; off: none."},
    {"log_file", TP__SETTING_TEXT, AT(server.log_file), 0, TP__LOG_FILE_MAX, NULL, "", NULL,
        "The log file, appended to; opened again at SIGHUP (Linux only). Empty: standard error."},
};

#define ARGUMENT(field) offsetof(tp__arguments, field)

static const tp__setting arguments_table[] = {
    {"config", TP__SETTING_TEXT, ARGUMENT(config), 0, TP__PATH_MAX, NULL, "", "FILE",
        "The configuration file."},
    {"check-config", TP__SETTING_BOOL, ARGUMENT(check_config), 0, 0, NULL, "no", NULL,
        "Check the configuration and the files that it names, print their errors and exit."},
    {"print-config", TP__SETTING_BOOL, ARGUMENT(print_config), 0, 0, NULL, "no", NULL,
        "Print an example of a configuration file and exit."},
    {"genkey", TP__SETTING_TEXT, ARGUMENT(genkey), 0, TP__PATH_MAX, NULL, "", "FILE",
        "Write a new private key to this file, which must not exist yet, print its public key,\n"
        "which clients need, and exit."},
    {"show-key", TP__SETTING_TEXT, ARGUMENT(show_key), 0, TP__PATH_MAX, NULL, "", "FILE",
        "Print the public key of the private key in this file and exit."},
    {"version", TP__SETTING_BOOL, ARGUMENT(version), 0, 0, NULL, "no", NULL,
        "Print the version and exit."},
    {"help", TP__SETTING_BOOL, ARGUMENT(help), 0, 0, NULL, "no", NULL,
        "Print this help and exit."},
};
/* clang-format on */

#define SETTINGS  (sizeof settings_table / sizeof settings_table[0])
#define ARGUMENTS (sizeof arguments_table / sizeof arguments_table[0])

tp_err tp__arguments_read(
    int count, char *const *words, tp__arguments *arguments, char *report, size_t report_size) {
    return tp__options_read(
        arguments_table, ARGUMENTS, count, words, arguments, report, report_size);
}

void tp__arguments_print_help(FILE *file) {
    fputs("usage: wanserver --config FILE\n"
          "       wanserver --genkey FILE\n"
          "       wanserver --show-key FILE\n\n"
          "The gate: players connect to it over the Internet, and it forwards messages between\n"
          "them and a service on lanserver's bus. Ctrl-C or SIGTERM stops it in order, a second\n"
          "one at once; SIGHUP makes it open its log file and read its key ring and bans\n"
          "again.\n\n",
        file);
    tp__options_print_help(arguments_table, ARGUMENTS, file);
}

/* ---- conditions between settings ------------------------------------------------------------- */

/* Pending connections have slots in addition to those of players, as the server allocates them. */
static uint64_t slots_of(const tp__settings *settings) {
    return settings->max_players + settings->max_waiting +
           tp__pending_slots((unsigned)settings->max_pending);
}

static void check_limits(const tp__relations *all, const tp__settings *settings) {
    uint64_t players = settings->max_players + settings->max_waiting;
    tp__relation_must(all, players <= TP_MAX_SESSIONS, "max_players", "max_waiting",
        "at most %u together", TP_MAX_SESSIONS);
    tp__relation_must(all, players > TP_MAX_SESSIONS || slots_of(settings) <= TP_MAX_SESSIONS,
        "max_players", "max_pending",
        "at most %u for max_players, max_waiting and 5/4 of max_pending together", TP_MAX_SESSIONS);
    tp__relation_should(all,
        settings->handshake_queue + settings->handshake_threads <= settings->max_pending,
        "handshake_queue", "max_pending",
        "max_pending to be at least handshake_queue plus handshake_threads (%u): otherwise further "
        "clients are disconnected, not told to try again later",
        (unsigned)settings->handshake_threads);
    tp__relation_should(all,
        (settings->accept_rate == 0 && settings->connections_per_address == 0) ||
            settings->max_addresses >= players,
        "max_addresses", "max_players",
        "at least as many addresses as max_players and max_waiting together: otherwise players may "
        "be refused before these limits are reached");
    tp__relation_should(all, settings->auth != TP_AUTH_TOKEN || settings->used_tokens >= players,
        "used_tokens", "max_players",
        "at least as many tokens as max_players and max_waiting together: otherwise, if all come "
        "at once, some are refused before these limits are reached");
}

/* A token bucket of `burst` is refilled once a millisecond at most. */
static void check_rate(const tp__relations *all, const char *rate, uint64_t per_second,
    const char *burst, uint64_t at_once) {
    tp__relation_should(all, per_second <= at_once * 1000, rate, burst,
        "the burst to be at least a thousandth of the rate: otherwise the rate cannot be reached");
}

static void check_rates(const tp__relations *all, const tp__settings *settings) {
    uint64_t frame = settings->server.max_frame + TP_FRAME_HEADER;
    size_t largest = tp_record_stream_size((size_t)frame);
    tp__relation_must(all, settings->byte_rate == 0 || largest <= settings->byte_burst,
        "byte_burst", "max_frame",
        "byte_burst to be at least %zu, the bytes of one message of max_frame on the network: "
        "otherwise such a message disconnects its player",
        largest);
    check_rate(all, "accept_rate", settings->accept_rate, "accept_burst", settings->accept_burst);
    check_rate(
        all, "message_rate", settings->message_rate, "message_burst", settings->message_burst);
    check_rate(all, "byte_rate", settings->byte_rate, "byte_burst", settings->byte_burst);
    tp__relation_must(all, settings->max_token_life % 1000 == 0, "max_token_life", NULL,
        "whole seconds, the unit of a token's expiry");
    tp__relation_must(all, settings->busy_time % 1000 == 0, "busy_time", NULL,
        "whole seconds, the unit of the protocol");
}

static void check_bus(const tp__relations *all, const tp__settings *settings) {
    const tp_address *listen = &settings->server.listen;
    tp__relation_must(all, settings->bus.port != 0, "bus", NULL, "the port of lanserver, not 0");
    tp__relation_must(all, listen->port == 0 || !tp_address_equal(listen, &settings->bus), "bus",
        "listen", "lanserver to have an address of its own");
    tp__relation_must(all, tp_bus_name_valid(settings->service, strlen(settings->service)),
        "service", NULL, "1 to %d bytes of a-z 0-9 . _ -", TP_NAME_MAX);
    tp__relation_must(all, strcmp(settings->service, TP_GATE_SERVICE) != 0, "service", NULL,
        "a service other than \"%s\", the name of the gates", TP_GATE_SERVICE);
    tp__relation_must(all,
        settings->server.max_frame + TP_GATE_DATA_SIZE + TP_BUS_HEADER <= settings->bus_max_frame,
        "max_frame", "bus_max_frame",
        "max_frame plus %u bytes of headers to fit into bus_max_frame: otherwise a player's "
        "largest message cannot be forwarded",
        TP_GATE_DATA_SIZE + TP_BUS_HEADER);
}

static void check_files(const tp__relations *all, const tp__settings *settings) {
    if (settings->auth == TP_AUTH_TOKEN && settings->token_keys[0] == '\0') {
        tp__report_error(all->wrong,
            "%s: token_keys is missing: expected the key ring file, for auth = token", all->path);
    }
    tp__server_settings_check_log(all, &settings->server, "key_file", settings->key_file);
    tp__server_settings_check_log(all, &settings->server, "token_keys", settings->token_keys);
    tp__server_settings_check_log(all, &settings->server, "bans", settings->bans);
}

static tp_err wan_settings_check(
    const char *path, const tp__settings *settings, char *report, size_t report_size) {
    tp__report wrong = tp__report_begin(report, report_size);
    const tp__relations all = {settings_table, SETTINGS, settings, path, &wrong};
    check_files(&all, settings);
    tp__server_settings_check(&all, &settings->server);
    check_limits(&all, settings);
    check_rates(&all, settings);
    check_bus(&all, settings);
    return tp__report_end(&wrong);
}

tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size) {
    memset(settings, 0, sizeof *settings);
    tp_err error = tp__config_load(settings_table, SETTINGS, path, settings, report, report_size);
    return error ? error : wan_settings_check(path, settings, report, report_size);
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
    gate->place_interval_ms = (unsigned)settings->place_interval;
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
