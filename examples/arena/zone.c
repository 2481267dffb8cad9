/*
 * The zone: see zone.h. It belongs to the handlers of the backend, which run one after another.
 */
#include "zone.h"

#include <string.h>

void zone_init(zone *z, uint32_t first_number) {
    memset(z, 0, sizeof *z);
    z->last_number = first_number;
    z->chance = first_number;
}

static uint16_t somewhere(zone *z) {
    z->chance = z->chance * 6364136223846793005u + 1442695040888963407u;
    return (uint16_t)((z->chance >> 33) % ARENA_SIZE);
}

zone_player *zone_enter(zone *z, const tp_player *handle) {
    zone_player *player = &z->players[handle->index];
    z->last_number += z->last_number == UINT32_MAX ? 2 : 1; /* never 0 */
    *player = (zone_player){
        .handle = *handle,
        .number = z->last_number,
        .at = {.x = somewhere(z), .y = somewhere(z)},
    };
    return player;
}

zone_player *zone_find(zone *z, const tp_player *handle) {
    zone_player *player = &z->players[handle->index];
    return player->number != 0 && tp_player_same(&player->handle, handle) ? player : NULL;
}

void zone_leave(zone *z, zone_player *player) {
    (void)z;
    player->number = 0;
}

unsigned zone_walking(const zone *z) {
    unsigned count = 0;
    for (unsigned i = 0; i < ARENA_PLAYERS_MAX; i++) {
        count += z->players[i].number != 0 && z->players[i].walking;
    }
    return count;
}

void zone_sort(zone *z) {
    unsigned next[ARENA_CELLS * ARENA_CELLS] = {0};
    for (unsigned i = 0; i < ARENA_PLAYERS_MAX; i++) {
        if (z->players[i].number != 0) {
            next[arena_cell(z->players[i].at)]++;
        }
    }
    unsigned begin = 0;
    for (unsigned cell = 0; cell < ARENA_CELLS * ARENA_CELLS; cell++) {
        unsigned here = next[cell];
        z->begin[cell] = next[cell] = begin;
        begin += here;
    }
    z->begin[ARENA_CELLS * ARENA_CELLS] = begin;
    for (unsigned i = 0; i < ARENA_PLAYERS_MAX; i++) {
        if (z->players[i].number != 0) {
            z->order[next[arena_cell(z->players[i].at)]++] = (uint16_t)i;
        }
    }
    z->tick++;
}

unsigned zone_cells_in_sight(unsigned cell, unsigned cells[9]) {
    int column = (int)(cell % ARENA_CELLS);
    int row = (int)(cell / ARENA_CELLS);
    unsigned count = 0;
    for (int y = row - 1; y <= row + 1; y++) {
        for (int x = column - 1; x <= column + 1; x++) {
            if (x >= 0 && x < ARENA_CELLS && y >= 0 && y < ARENA_CELLS) {
                cells[count++] = (unsigned)(y * ARENA_CELLS + x);
            }
        }
    }
    return count;
}
