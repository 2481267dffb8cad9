/*
 * The zone: the positions of the players, and which players see each other. No threads and no
 * locks: one thread at a time may call.
 */
#ifndef TWINPORT_EXAMPLES_ZONE_H
#define TWINPORT_EXAMPLES_ZONE_H

#include "arena.h"
#include "twinport/backend.h"

/* A player in the zone. */
typedef struct zone_player {
    tp_player handle;
    uint32_t number; /* identifies the player in SIGHT; 0: the entry is free */
    uint16_t serial; /* of the player's last step */
    bool walking;    /* has made a step */
    arena_point at;
} zone_player;

typedef struct zone {
    zone_player players[ARENA_PLAYERS_MAX]; /* by tp_player.index */
    uint32_t last_number;
    uint32_t tick;
    uint64_t chance; /* state of the random numbers for initial positions */

    /* Result of the last zone_sort(): the players ordered by cell, and where each cell begins. */
    uint16_t order[ARENA_PLAYERS_MAX];
    unsigned begin[ARENA_CELLS * ARENA_CELLS + 1];
} zone;

/* Players are numbered from `first_number` on, which must be another one at each start of the
 * service. */
void zone_init(zone *z, uint32_t first_number);

/* Adds a player, at a random position and with a new number. */
zone_player *zone_enter(zone *z, const tp_player *handle);

/* The player with this handle, or NULL. */
zone_player *zone_find(zone *z, const tp_player *handle);

/* Removes the player. */
void zone_leave(zone *z, zone_player *player);

/* The number of present players who have made a step. */
unsigned zone_walking(const zone *z);

/* Orders the players by cell, and counts a tick. */
void zone_sort(zone *z);

/* Writes the cells in sight of this one, itself included; returns how many, 4 to 9. */
unsigned zone_cells_in_sight(unsigned cell, unsigned cells[9]);

#endif
