/*
 * tp-arena: a game service. Players walk in a zone, and twenty times a second each gets the
 * positions of the players in sight.
 *
 *     tp-arena [--bus HOST:PORT] [--service NAME] [--instance NAME] [--gates NAME] [--report]
 *
 * It shows: how a service handles players, with no code for connections, encryption or routing
 * (twinport/backend.h); how one message is sent to all players of a cell; and a clock without
 * locks: the main thread sends this service an empty message on the bus for each tick. So a tick is
 * one more handler call, handlers run one after another, and only they use the game's state.
 *
 * Output: "up" and "down" when the bus is connected and lost, and at the end the statistics as one
 * line of JSON; with --report also once a second.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "twinport/process.h"
#include "zone.h"

typedef struct arena {
    zone zone;
    tp_player audience[ARENA_PLAYERS_MAX]; /* of the cell in show() */
    uint64_t joined, returned, left;
    uint64_t steps, stale_steps, probes, malformed;
    uint64_t sights;         /* messages, each for the players of one cell */
    uint64_t sights_refused; /* copies that the bus did not accept */
} arena;

static arena game;
static bool reports; /* --report */

static void print_statistics(void) {
    printf("{\"joined\": %" PRIu64 ", \"returned\": %" PRIu64 ", \"left\": %" PRIu64
           ", \"walking\": %u, \"steps\": %" PRIu64 ", \"stale_steps\": %" PRIu64
           ", \"probes\": %" PRIu64 ", \"malformed\": %" PRIu64 ", \"ticks\": %" PRIu32
           ", \"sights\": %" PRIu64 ", \"sights_refused\": %" PRIu64 "}\n",
        game.joined, game.returned, game.left, zone_walking(&game.zone), game.steps,
        game.stale_steps, game.probes, game.malformed, game.zone.tick, game.sights,
        game.sights_refused);
    fflush(stdout);
}

/* ---- players join and leave ------------------------------------------------------------------ */

static void send_welcome(tp_backend *backend, const zone_player *player) {
    tp_packet *welcome = tp_packet_new(ARENA_WELCOME_SIZE);
    if (!welcome) {
        return;
    }
    tp_packet_put_u8(welcome, ARENA_WELCOME);
    tp_packet_put_u8(welcome, 0);
    tp_packet_put_u16(welcome, player->at.x);
    tp_packet_put_u16(welcome, player->at.y);
    tp_packet_put_u16(welcome, 0);
    tp_packet_put_u32(welcome, player->number);
    tp_backend_send(backend, &player->handle, welcome);
    tp_packet_release(welcome);
}

static void on_player_join(tp_backend *backend, const tp_player_info *info) {
    game.joined++;
    game.returned += (info->flags & TP_PLAYER_RETURNS) != 0;
    send_welcome(backend, zone_enter(&game.zone, &info->player));
}

static void on_player_leave(
    tp_backend *backend, const tp_player *handle, tp_leave why, tp_end_reason end) {
    (void)backend;
    (void)why;
    (void)end;
    zone_player *player = zone_find(&game.zone, handle);
    if (player) {
        game.left++;
        zone_leave(&game.zone, player);
    }
}

/* ---- messages of players --------------------------------------------------------------------- */

/* A step with an older number was on its way while the player was lost, and joined again under a
 * new number. */
static void take_step(zone_player *player, tp_packet *message) {
    int dx = tp_packet_get_i8(message);
    int dy = tp_packet_get_i8(message);
    tp_packet_get_u8(message);
    uint16_t serial = tp_packet_get_u16(message);
    tp_packet_get_u16(message);
    uint32_t number = tp_packet_get_u32(message);
    if (tp_packet_error(message)) {
        game.malformed++;
    } else if (number != player->number || serial != (uint16_t)(player->serial + 1)) {
        game.stale_steps++;
    } else {
        game.steps++;
        player->serial = serial;
        player->walking = true;
        player->at = arena_step(player->at, dx, dy);
    }
}

static void on_player_message(tp_backend *backend, const tp_player *handle, tp_packet *message) {
    zone_player *player = zone_find(&game.zone, handle);
    uint8_t kind = tp_packet_get_u8(message);
    if (player && kind == ARENA_STEP) {
        take_step(player, message);
    } else if (player && kind == ARENA_PROBE && tp_packet_left(message) <= ARENA_PROBE_MAX) {
        game.probes++;
        tp_backend_send(backend, handle, message);
    } else {
        game.malformed++;
    }
}

/* ---- the clock ------------------------------------------------------------------------------- */

/* Writes all players of these cells; false if the packet cannot take them. */
static bool write_sight(tp_packet *sight, const unsigned *cells, unsigned count, unsigned players) {
    const zone *z = &game.zone;
    tp_packet_put_u8(sight, ARENA_SIGHT);
    tp_packet_put_u8(sight, 0);
    tp_packet_put_u16(sight, (uint16_t)players);
    tp_packet_put_u32(sight, z->tick);
    for (unsigned c = 0; c < count; c++) {
        for (unsigned i = z->begin[cells[c]]; i < z->begin[cells[c] + 1]; i++) {
            const zone_player *seen = &z->players[z->order[i]];
            tp_packet_put_u32(sight, seen->number);
            tp_packet_put_u16(sight, seen->at.x);
            tp_packet_put_u16(sight, seen->at.y);
            tp_packet_put_u16(sight, seen->serial);
            tp_packet_put_u16(sight, 0);
        }
    }
    return tp_packet_error(sight) == TP_OK;
}

/* Sends one message to all players of this cell: they see the same. */
static void show(tp_backend *backend, unsigned cell) {
    const zone *z = &game.zone;
    unsigned audience = 0;
    for (unsigned i = z->begin[cell]; i < z->begin[cell + 1]; i++) {
        game.audience[audience++] = z->players[z->order[i]].handle;
    }
    if (audience == 0) {
        return;
    }
    unsigned cells[9];
    unsigned count = zone_cells_in_sight(cell, cells);
    unsigned players = 0;
    for (unsigned c = 0; c < count; c++) {
        players += z->begin[cells[c] + 1] - z->begin[cells[c]];
    }
    size_t reached = 0;
    tp_packet *sight = tp_packet_new(ARENA_SIGHT_HEAD + players * ARENA_SIGHT_ENTRY);
    if (sight && write_sight(sight, cells, count, players)) {
        tp_backend_send_many(backend, game.audience, audience, sight, &reached);
        game.sights++;
    }
    game.sights_refused += audience - reached;
    tp_packet_release(sight);
}

static void tick(tp_backend *backend) {
    zone_sort(&game.zone);
    for (unsigned cell = 0; cell < ARENA_CELLS * ARENA_CELLS; cell++) {
        show(backend, cell);
    }
    if (reports && game.zone.tick % (1000 / ARENA_TICK_MS) == 0) {
        print_statistics();
    }
}

/* A tick is a message from this service to itself; messages of other peers are ignored. */
static void on_message(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    (void)packet;
    if (from->peer == tp_lanclient_self(client)) {
        tick(tp_backend_of(client));
    }
}

/* Runs on the main thread. While the bus is lost there are no players, and no ticks. */
static void send_tick(tp_backend *backend) {
    tp_lanclient *client = tp_backend_client(backend);
    tp_packet *packet = tp_packet_new(0);
    if (packet && tp_lanclient_self(client) != TP_NO_PEER) {
        tp_lanclient_send(client, tp_lanclient_self(client), packet, NULL);
    }
    tp_packet_release(packet);
}

/* ---- the program ----------------------------------------------------------------------------- */

static void print_word(const char *word) {
    printf("%s\n", word);
    fflush(stdout);
}

static void on_up(tp_backend *backend, tp_peer_id self) {
    (void)backend;
    (void)self;
    print_word("up");
}

static void on_down(tp_backend *backend, tp_err why) {
    (void)backend;
    (void)why;
    print_word("down");
}

static bool read_option(const char *name, const char *value, tp_backend_options *options) {
    if (strcmp(name, "--bus") == 0) {
        return tp_address_parse(value, &options->bus.address) == TP_OK;
    }
    const char **text = strcmp(name, "--service") == 0    ? &options->bus.service
                        : strcmp(name, "--instance") == 0 ? &options->bus.instance
                        : strcmp(name, "--gates") == 0    ? &options->gates
                                                          : NULL;
    if (text) {
        *text = value;
    }
    return text != NULL;
}

static bool read_arguments(int count, char **words, tp_backend_options *options) {
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--report") == 0) {
            reports = true;
        } else if (i + 1 == count || !read_option(words[i], words[i + 1], options)) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static tp_err serve(tp_backend *backend) {
    tp_err error = tp_backend_start(backend);
    if (error) {
        return error;
    }
    while (!tp_process_wait_stop((int)ARENA_TICK_MS)) {
        send_tick(backend);
    }
    tp_backend_stop(backend);
    return tp_backend_wait(backend, -1);
}

int main(int count, char **words) {
    tp_backend_options options;
    tp_backend_defaults(&options);
    options.bus.service = "arena";
    options.max_players = ARENA_PLAYERS_MAX;
    tp_address_parse("127.0.0.1:7400", &options.bus.address);
    if (!read_arguments(count, words, &options)) {
        fputs("usage: tp-arena [--bus HOST:PORT] [--service NAME] [--instance NAME] [--gates NAME] "
              "[--report]\n",
            stderr);
        return 2;
    }
    zone_init(&game.zone, (uint32_t)time(NULL) << 12);

    const tp_backend_handlers handlers = {
        .size = sizeof handlers,
        .on_player_join = on_player_join,
        .on_player_leave = on_player_leave,
        .on_player_message = on_player_message,
        .on_up = on_up,
        .on_down = on_down,
        .bus = {.size = sizeof handlers.bus, .on_message = on_message},
    };
    tp_backend *backend = NULL;
    tp_err error = tp_process_catch_stop();
    if (!error) {
        error = tp_backend_create(&options, &handlers, &backend);
    }
    if (!error) {
        error = serve(backend);
    }
    tp_backend_destroy(backend);
    if (error) {
        fprintf(stderr, "tp-arena: %s\n", tp_err_text(error));
        return 1;
    }
    print_statistics();
    return 0;
}
