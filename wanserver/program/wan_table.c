/*
 * The tables of wanserver's settings and options: its own entries, and what is different in those
 * that lanserver has too (core/config/server_table.c). Data, made into a table at the first use.
 */
#include <assert.h>

#include "core/config/server_table.h"
#include "os/compiler.h"
#include "proto/frame.h"
#include "proto/token.h"
#include "wanserver/program/wan_settings.h"

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
static const tp__setting keys[] = {
    {"key_file", TP__SETTING_TEXT, AT(key_file), 1, TP__PATH_MAX,
        .example = "/etc/twinport/gate.key", .metavariable = "FILE", .help =
        "The file with this gate's private key; wanserver --genkey makes one."},
    {"auth", TP__SETTING_CHOICE, AT(auth), .choices = auth_names, .default_value = "token", .help =
        "token: a player needs a token of the login service, valid once, for the account in it.\n"
        "open: no tokens; players have no account and cannot be banned. For tests."},
    {"token_keys", TP__SETTING_TEXT, AT(token_keys), 0, TP__PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "For auth = token: the key ring with which the login service makes tokens, a line of an\n"
        "id and 64 hexadecimal digits for each key; tp-token --new-key makes one. Read again at\n"
        "SIGHUP (Linux only)."},
    {"used_tokens", TP__SETTING_COUNT, AT(used_tokens), 1024, 16777216, .default_value = "262144",
        .unit = "tokens", .help =
        "Used tokens that are remembered until they expire. At this limit further tokens are\n"
        "refused: so it should be at least `max_players` plus `max_waiting`."},
    {"max_token_life", TP__SETTING_TIME, AT(max_token_life), 1000,
        TP_TOKEN_LIFE_MAX * UINT64_C(1000), .default_value = "1h", .help =
        "The longest time until a token may expire, in whole seconds. A token that is valid for\n"
        "longer is refused: its expiry may not be in seconds, or a clock may be wrong."},
};

static const tp__setting access[] = {
    {"bans", TP__SETTING_TEXT, AT(bans), 0, TP__PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "A file with up to 4,096 banned networks: a network in each line, and optionally the time\n"
        "until which it is banned, in seconds since 1970. Read again at SIGHUP (Linux only);\n"
        "players who are banned then are disconnected. A network that is listed twice gives a\n"
        "warning; if a line is wrong, the old bans stay. Empty: no bans."},
};

static const tp__setting addresses[] = {
    {"accept_rate", TP__SETTING_COUNT, AT(accept_rate), 0, 1000000, .default_value = "20",
        .unit = "connections per second", .help =
        "Connections per second from one address; IPv6: from one /64. 0: no limit."},
    {"accept_burst", TP__SETTING_COUNT, AT(accept_burst), 1, 1000000, .default_value = "50",
        .unit = "connections", .help =
        "Connections that one address may open at once; after them `accept_rate` applies."},
    {"connections_per_address", TP__SETTING_COUNT, AT(connections_per_address), 0, 1048576,
        .default_value = "64", .unit = "connections", .help =
        "Connections from one address at the same time. 0: no limit. All players of a school or\n"
        "of a mobile network may come from one address."},
    {"max_addresses", TP__SETTING_COUNT, AT(max_addresses), 1024, 16777216,
        .default_value = "65536", .unit = "addresses", .help =
        "Addresses whose connections are counted. Beyond it the address that was seen longest ago\n"
        "and has no connection is forgotten. If all have one, new addresses are refused: so it\n"
        "should be at least `max_players` plus `max_waiting`."},
};

static const tp__setting handshakes[] = {
    {"handshake_timeout", TP__SETTING_TIME, AT(handshake_timeout), 100, 600000,
        .default_value = "10s", .help =
        "The time from the connection to the end of its handshake, whatever it sends meanwhile."},
    {"max_pending", TP__SETTING_COUNT, AT(max_pending), 16, 65536, .default_value = "1024",
        .unit = "connections", .help =
        "Connections in their handshake. At the limit the oldest one without HELLO is closed."},
    {"handshake_threads", TP__SETTING_COUNT, AT(handshake_threads), 1, 64, .default_value = "1",
        .unit = "threads", .help =
        "Threads for handshakes."},
    {"handshake_priority", TP__SETTING_CHOICE, AT(handshake_priority), .choices = handshake_names,
        .default_value = "idle", .help =
        "Priority of the handshake threads.\n"
        "idle: only processor time that no other thread wants; one more thread, at low, takes\n"
        "handshakes that have waited for 0.2s.\n"
        "low: below the threads that serve the players.\n"
        "normal: the same as those."},
    {"handshake_queue", TP__SETTING_COUNT, AT(handshake_queue), 1, 65536, .default_value = "512",
        .unit = "handshakes", .help =
        "Handshakes that may wait for a handshake thread. Further clients are told to try again\n"
        "later, if `max_pending` is at least `handshake_queue` plus `handshake_threads`."},
    {"busy_time", TP__SETTING_TIME, AT(busy_time), 0, 65535000, .default_value = "5s", .help =
        "Time after which clients should try again when `handshake_queue` is full; whole seconds."},
};

static const tp__setting players[] = {
    {"max_players", TP__SETTING_COUNT, AT(max_players), 1, TP_MAX_SESSIONS, .default_value = "4096",
        .unit = "players", .help =
        "Players at the same time."},
    {"max_waiting", TP__SETTING_COUNT, AT(max_waiting), 0, TP_MAX_SESSIONS, .default_value = "0",
        .unit = "players", .help =
        "Players beyond `max_players` that may wait, and are told their position. When both are\n"
        "full, further players are refused. Both plus 5/4 of `max_pending` are at most 1048576."},
    {"place_interval", TP__SETTING_TIME, AT(place_interval), 10, 60000, .default_value = "1s",
        .help =
        "The shortest time between two messages to a waiting player about its position."},
    {"message_rate", TP__SETTING_COUNT, AT(message_rate), 0, 10000000, .default_value = "200",
        .unit = "messages per second", .help =
        "Messages per second from one player; a player who sends more is disconnected.\n"
        "0: no limit."},
    {"message_burst", TP__SETTING_COUNT, AT(message_burst), 1, 10000000, .default_value = "400",
        .unit = "messages", .help =
        "Messages that a player may send at once; after them `message_rate` applies."},
    {"byte_rate", TP__SETTING_BYTES, AT(byte_rate), 0, UINT32_MAX, .default_value = "256k",
        .unit = "bytes per second", .help =
        "Bytes per second from one player, as received from the network. A record in which no\n"
        "frame ends counts as at least 256. 0: no limit."},
    {"byte_burst", TP__SETTING_BYTES, AT(byte_burst), 65536, UINT32_MAX, .default_value = "512k",
        .help =
        "Bytes that a player may send at once; after them `byte_rate` applies. At least the size\n"
        "of a message of `max_frame` on the network: 4 bytes more, and 18 for each 16384."},
};

static const tp__setting messages[] = {
    {"queue_policy", TP__SETTING_CHOICE, AT(queue_policy), .choices = policy_names,
        .default_value = "disconnect", .help =
        "What happens at `queue_bytes` or `queue_packets`. disconnect: the player is\n"
        "disconnected. drop and refuse (the same for a gate): further messages to the player are\n"
        "lost, and counted."},
};

static const tp__setting bus[] = {
    {"bus", TP__SETTING_ADDRESS, AT(bus), .default_value = "127.0.0.1:7400", .help =
        "Address and port of lanserver."},
    {"bus_max_frame", TP__SETTING_BYTES, AT(bus_max_frame), 1024, TP_PACKET_MAX,
        .default_value = "1m", .help =
        "The largest message on the bus, including headers: the same as lanserver's `max_frame`.\n"
        "A player's message gets 28 bytes of header."},
    {"service", TP__SETTING_TEXT, AT(service), 1, TP_NAME_MAX, .example = "arena",
        .metavariable = "NAME", .help =
        "The service that players are assigned to at first: a name of a-z 0-9 . _ - on the bus,\n"
        "but not gate, the name of the gates."},
    {"max_services", TP__SETTING_COUNT, AT(max_services), 1, 1024, .default_value = "64",
        .unit = "services", .help =
        "Services that players may be moved to, including `service`."},
    {"keep_players", TP__SETTING_COUNT, AT(keep_players), 0, TP_MAX_SESSIONS,
        .default_value = "1048576", .unit = "players", .help =
        "Players that are kept when their service or the bus is lost, until it is back or\n"
        "`keep_time` is over. Further players are disconnected."},
    {"keep_time", TP__SETTING_TIME, AT(keep_time), 0, DAY_MS, .default_value = "30s", .help =
        "Time for which players are kept when their service or the bus is lost. After it they are\n"
        "disconnected."},
    {"lost_close", TP__SETTING_CHOICE, AT(lost_close), .choices = close_names,
        .default_value = "shutdown", .help =
        "Reason sent to players who are disconnected after the loss of their service or the bus."},
};

static const tp__setting_change settings_changes[] = {
    {"listen", .default_value = "127.0.0.1:7777", .help =
        "Address and port that players connect to: 0.0.0.0:7777 for all IPv4 addresses of this\n"
        "machine, [::]:7777 for the IPv6 addresses too. The port is required; 0 lets the system\n"
        "choose one."},
    {"allow", .default_value = "any"},
    {"max_frame", .default_value = "64k", .min = 16, .help =
        "The largest message of a player; at most `bus_max_frame` less 28. A message that is too\n"
        "large for lanserver is dropped and counted."},
    {"queue_bytes", .default_value = "1m"},
    {"queue_packets", .default_value = "4096"},
    {"drain_timeout", .help =
        "At a stop: how long each step may take, first for queues to be sent, then for services\n"
        "to learn that their players have left. The whole stop takes at most 2s more than this\n"
        "value."},
    {"priority", .default_value = "low"},
    {.name = NULL},
};
/* clang-format on */

static const tp__setting_group settings_groups[] = {
    {TP__GROUP_NETWORK, NULL, 0},
    {"Keys and tokens", keys, TP_COUNT_OF(keys)},
    {TP__GROUP_ACCESS, access, TP_COUNT_OF(access)},
    {"Limits of an address", addresses, TP_COUNT_OF(addresses)},
    {"Handshakes", handshakes, TP_COUNT_OF(handshakes)},
    {"Players", players, TP_COUNT_OF(players)},
    {"Bus", bus, TP_COUNT_OF(bus)},
    {TP__GROUP_MESSAGES, messages, TP_COUNT_OF(messages)},
    {TP__GROUP_MEMORY, NULL, 0},
    {TP__GROUP_TIMES, NULL, 0},
    {TP__GROUP_PRIORITY, NULL, 0},
    {TP__GROUP_THREADS, NULL, 0},
    {TP__GROUP_LOG, NULL, 0},
    {NULL, NULL, 0},
};

const tp__setting_table *tp__settings_table(void) {
    static tp__setting_table table;
    static_assert(offsetof(tp__settings, server) == 0, "the shared entries' offsets");
    if (table.count == 0) {
        tp__setting_table_make(&table, settings_groups, tp__server_groups, settings_changes);
    }
    return &table;
}

/* ---- options --------------------------------------------------------------------------------- */

#define ARGUMENT(field) offsetof(tp__arguments, field)

/* clang-format off */
static const tp__setting key_options[] = {
    {"genkey", TP__SETTING_TEXT, ARGUMENT(genkey), 0, TP__PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "Write a new private key to FILE, which must not exist\n"
        "yet, print its public key, which clients need, and exit."},
    {"show-key", TP__SETTING_TEXT, ARGUMENT(show_key), 0, TP__PATH_MAX, .default_value = "",
        .metavariable = "FILE", .help =
        "Print the public key of the private key in FILE and\n"
        "exit."},
};

static const tp__setting_change option_changes[] = {
    {"config", .help =
        "The configuration file. Required, except with --genkey\n"
        "and --show-key."},
    {.name = NULL},
};
/* clang-format on */

static const tp__setting_group option_groups[] = {
    {TP__GROUP_CONFIGURATION, NULL, 0},
    {"Keys", key_options, TP_COUNT_OF(key_options)},
    {TP__GROUP_PROGRAM, NULL, 0},
    {NULL, NULL, 0},
};

const tp__setting_table *tp__arguments_table(void) {
    static tp__setting_table table;
    static_assert(offsetof(tp__arguments, program) == 0, "the shared entries' offsets");
    if (table.count == 0) {
        tp__setting_table_make(&table, option_groups, tp__program_groups, option_changes);
    }
    return &table;
}
