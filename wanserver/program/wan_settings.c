/*
 * The conditions between the settings in wan_settings.h, and the options that they become. The
 * table is in wan_table.c. One thread, at start.
 */
#include "wanserver/program/wan_settings.h"

#include <string.h>

#include "core/config/relations.h"
#include "proto/bus.h"
#include "proto/frame.h"
#include "proto/gate.h"
#include "proto/record.h"
#include "wanserver/handshake/pending.h"

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

static void wan_settings_check(const tp__relations *all) {
    const tp__settings *settings = all->target;
    check_files(all, settings);
    check_limits(all, settings);
    check_rates(all, settings);
    check_bus(all, settings);
}

tp_err tp__settings_load(
    const char *path, tp__settings *settings, char *report, size_t report_size) {
    return tp__server_settings_load(tp__settings_table(), wan_settings_check, path, settings,
        sizeof *settings, report, report_size);
}

/* ---- options --------------------------------------------------------------------------------- */

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
