/*
 * The zone: who is where, and who sees whom. No threads of its own and no locks: one thread at a
 * time.
 */
#ifndef TWINPORT_EXAMPLES_ZONE_H
#define TWINPORT_EXAMPLES_ZONE_H

#include "arena.h"
#include "twinport/backend.h"

/* A player in the zone. */
typedef struct zone_player {
    tp_player name;
    uint32_t number; /* as others see him; 0: nobody is here */
    uint16_t serial; /* of his last step */
    bool walking;    /* has made one */
    arena_point at;
} zone_player;

typedef struct zone {
    zone_player players[ARENA_PLAYERS_MAX]; /* by tp_player.index */
    uint32_t last_number;
    uint32_t tick;
    uint64_t chance; /* where players begin */

    /* Of the last zone_sort(): the players ordered by cell, and where each cell begins. */
    uint16_t order[ARENA_PLAYERS_MAX];
    unsigned begin[ARENA_CELLS * ARENA_CELLS + 1];
} zone;

/* `first_number`: numbers are given from here on; another one at each start of the service. */
void zone_init(zone *z, uint32_t first_number);

/* A player enters, somewhere, with a new number. */
zone_player *zone_enter(zone *z, const tp_player *name);

/* The player with this name, or NULL. */
zone_player *zone_find(zone *z, const tp_player *name);

void zone_leave(zone *z, zone_player *player);

/* How many of those who are there have made a step. */
unsigned zone_walking(const zone *z);

/* Orders the players by cell; the next tick. */
void zone_sort(zone *z);

/* The cells in sight of this one, itself included, 4 to 9 of them; returns how many. */
unsigned zone_cells_in_sight(unsigned cell, unsigned cells[9]);

#endif
