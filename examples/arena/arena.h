/*
 * The rules and messages of the arena's game, for its service and for the clients of its players.
 *
 * A zone has ARENA_SIZE x ARENA_SIZE points and is divided into square cells. Players move by
 * steps. Twenty times a second each player gets the positions of the players in sight: those in the
 * player's cell and in the eight cells around it.
 *
 * A message is the payload of a DATA frame, little-endian, and begins with its kind:
 *
 *     WELCOME  service   u8 1, u8 zero, u16 x, u16 y, u16 zero, u32 number
 *     STEP     player    u8 2, i8 dx, i8 dy, u8 zero, u16 serial, u16 zero, u32 number
 *     SIGHT    service   u8 3, u8 zero, u16 players, u32 tick, then for each player:
 *                        u32 number, u16 x, u16 y, u16 serial, u16 zero
 *     PROBE    both      u8 4, then up to 64 bytes, which are sent back unchanged
 *
 * WELCOME is the service's first message. It gives the player a number that no player has had
 * before, a position that the service has chosen, and serial 0. It comes again when the service was
 * lost and is back. A STEP carries the number, so that a step from before a loss has no effect, and
 * a serial that is one more than that of the last step (65,535 is followed by 0). arena_step() is
 * where a step leads: client and service compute the same.
 */
#ifndef TWINPORT_EXAMPLES_ARENA_H
#define TWINPORT_EXAMPLES_ARENA_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define ARENA_SIZE        2000
#define ARENA_CELL        250
#define ARENA_CELLS       (ARENA_SIZE / ARENA_CELL) /* in a row */
#define ARENA_STEP_MAX    20 /* along each axis; a longer one is cut to this */
#define ARENA_TICK_MS     50u
#define ARENA_PLAYERS_MAX 4096u /* a SIGHT of all of them fits into 64 KiB, the limit on the WAN */
#define ARENA_PROBE_MAX   64u

enum { ARENA_WELCOME = 1, ARENA_STEP = 2, ARENA_SIGHT = 3, ARENA_PROBE = 4 };

#define ARENA_WELCOME_SIZE 12u
#define ARENA_STEP_SIZE    12u
#define ARENA_SIGHT_HEAD   8u
#define ARENA_SIGHT_ENTRY  12u

typedef struct arena_point {
    uint16_t x; /* 0..ARENA_SIZE-1 */
    uint16_t y;
} arena_point;

static inline uint16_t arena_move(uint16_t from, int by) {
    int step = by > ARENA_STEP_MAX ? ARENA_STEP_MAX : by < -ARENA_STEP_MAX ? -ARENA_STEP_MAX : by;
    int to = (int)from + step;
    return (uint16_t)(to < 0 ? 0 : to >= ARENA_SIZE ? ARENA_SIZE - 1 : to);
}

static inline arena_point arena_step(arena_point from, int dx, int dy) {
    return (arena_point){.x = arena_move(from.x, dx), .y = arena_move(from.y, dy)};
}

static inline unsigned arena_cell(arena_point at) {
    return at.y / ARENA_CELL * (unsigned)ARENA_CELLS + at.x / ARENA_CELL;
}

static inline bool arena_in_sight(arena_point a, arena_point b) {
    return abs(a.x / ARENA_CELL - b.x / ARENA_CELL) <= 1 &&
           abs(a.y / ARENA_CELL - b.y / ARENA_CELL) <= 1;
}

#endif
