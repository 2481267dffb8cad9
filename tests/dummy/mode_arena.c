/*
 * The mode `arena`: players of examples/arena behind a gate. They walk and receive sights, and what
 * a sight shows must agree with what they know: a player's position follows from its own steps, and
 * the positions of this shard's other players at each of their steps are known. Now and then they
 * measure the time to the service and back with a PROBE. A service that was lost and came back
 * sends WELCOME again: then everything starts over.
 *
 * Hooks run on the connection's shard. A walker belongs to its connection, the table of walkers to
 * the shard.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dummy.h"
#include "examples/arena/arena.h"

#define STEPS_KEPT   256u /* steps whose positions a walker keeps */
#define PROBE_STEPS  5u   /* steps per probe */
#define PROBE_SIZE   9u   /* its kind, and when it was sent */
#define MESSAGE_SIZE (TP_FRAME_HEADER + ARENA_STEP_SIZE + TP_FRAME_HEADER + PROBE_SIZE)

_Static_assert(MESSAGE_SIZE <= RAW_SIZE, "a step and a probe go out at once");

struct walker {
    uint32_t number; /* 0: not welcome yet */
    uint16_t serial; /* of the last step */
    uint16_t shown;  /* the latest serial that a sight has shown to the player */
    uint32_t tick;   /* the tick of that sight */
    uint32_t until_probe;
    uint64_t
        /* When a probe was sent to a service that was lost since: the new one may still answer
         * it. */
        older_ns;
    uint64_t probe_ns;            /* when the outstanding probe was sent; 0: none is */
    uint64_t last_message_ns;     /* when the service last sent a message */
    arena_point path[STEPS_KEPT]; /* the position after step n, at n % STEPS_KEPT */
};

static uint16_t get_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t get_u32(const uint8_t *bytes) {
    return get_u16(bytes) | (uint32_t)get_u16(bytes + 2) << 16;
}

static void put_u16(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)(value & 0xff);
    bytes[1] = (uint8_t)(value >> 8);
}

static walker **walker_slot(shard *s, uint32_t number) {
    return &s->walkers[number % SHARD_WALKERS];
}

/* ---- steps and probes ------------------------------------------------------------------------ */

static uint64_t interval_ns(const connection *c) {
    double rate = c->shard->load->options->rate;
    return (uint64_t)(1e9 / (rate > 0 ? rate : 10));
}

static void begin(connection *c) {
    if (!c->walker) {
        c->walker = calloc(1, sizeof *c->walker);
    }
    if (!c->walker) {
        connection_fault(c, FAULT_SYSTEM, "connection %u: no memory", c->number);
        return;
    }
    memset(c->walker, 0, sizeof *c->walker);
    c->walker->until_probe = shard_chance(c->shard) % PROBE_STEPS;
    c->due_ns = c->shard->now_ns + shard_chance(c->shard) % interval_ns(c);
}

static size_t write_step(connection *c, uint8_t *bytes) {
    walker *w = c->walker;
    int dx = (int)(shard_chance(c->shard) % 41) - 20;
    int dy = (int)(shard_chance(c->shard) % 41) - 20;
    arena_point from = w->path[w->serial % STEPS_KEPT];
    w->serial++;
    w->path[w->serial % STEPS_KEPT] = arena_step(from, dx, dy);
    tp_frame_write(bytes, TP_FRAME_DATA, ARENA_STEP_SIZE);
    uint8_t *step = bytes + TP_FRAME_HEADER;
    memset(step, 0, ARENA_STEP_SIZE);
    step[0] = ARENA_STEP;
    step[1] = (uint8_t)dx;
    step[2] = (uint8_t)dy;
    put_u16(step + 4, w->serial);
    put_u16(step + 8, (uint16_t)(w->number & 0xffff));
    put_u16(step + 10, (uint16_t)(w->number >> 16));
    c->shard->counts.arena.steps++;
    return TP_FRAME_HEADER + ARENA_STEP_SIZE;
}

static size_t write_probe(connection *c, uint8_t *bytes) {
    uint64_t now = c->shard->now_ns;
    tp_frame_write(bytes, TP_FRAME_DATA, PROBE_SIZE);
    bytes[TP_FRAME_HEADER] = ARENA_PROBE;
    memcpy(bytes + TP_FRAME_HEADER + 1, &now, sizeof now); /* read again by the same program */
    c->walker->probe_ns = now;
    c->shard->counts.arena.probes++;
    return TP_FRAME_HEADER + PROBE_SIZE;
}

/* While its last messages are being sent, a walker sends nothing. */
static void tick(connection *c) {
    walker *w = c->walker;
    if (!w || w->number == 0 || connection_phase(c) == STOPPING || c->sending ||
        c->shard->now_ns < c->due_ns) {
        return;
    }
    c->due_ns += interval_ns(c);
    c->raw_size = (uint32_t)write_step(c, c->raw);
    if (w->probe_ns == 0 && w->until_probe-- == 0) {
        w->until_probe = PROBE_STEPS;
        c->raw_size += (uint32_t)write_probe(c, c->raw + c->raw_size);
    }
}

static void leave_if_answered(connection *c) {
    if (connection_phase(c) == STOPPING && !c->sending &&
        (!c->walker || c->walker->probe_ns == 0)) {
        if (c->walker) {
            c->shard->counts.arena.probes_lost += c->walker->older_ns != 0;
            c->walker->older_ns = 0;
        }
        connection_leave(c);
    }
}

/* ---- messages of the service ----------------------------------------------------------------- */

static void take_welcome(connection *c, const uint8_t *bytes) {
    walker *w = c->walker;
    arena_counts *seen = &c->shard->counts.arena;
    if (w->number != 0) {
        uint64_t away_ns = c->shard->now_ns - w->last_message_ns;
        seen->returns++;
        seen->probes_lost += w->older_ns != 0;
        seen->longest_away_ns = away_ns > seen->longest_away_ns ? away_ns : seen->longest_away_ns;
    }
    *w = (walker){
        .number = get_u32(bytes + 8), .until_probe = w->until_probe, .older_ns = w->probe_ns};
    w->path[0] = (arena_point){.x = get_u16(bytes + 2), .y = get_u16(bytes + 4)};
    *walker_slot(c->shard, w->number) = w;
    connection_answered(c);
}

static bool take_probe(connection *c, const uint8_t *bytes) {
    walker *w = c->walker;
    uint64_t sent_ns;
    memcpy(&sent_ns, bytes + 1, sizeof sent_ns);
    if (sent_ns == 0 || (sent_ns != w->probe_ns && sent_ns != w->older_ns)) {
        connection_fault(
            c, FAULT_UNASKED, "connection %u: an answer to no probe of its", c->number);
        return false;
    }
    if (sent_ns == w->probe_ns) { /* answers come in order, so there is none for the older one */
        c->shard->counts.arena.probes_lost += w->older_ns != 0;
        w->probe_ns = 0;
    }
    w->older_ns = 0;
    c->shard->counts.answers++;
    if (connection_phase(c) == MEASURING) {
        c->shard->counts.messages++;
        histogram_add(
            &c->shard->counts.latency, c->shard->now_ns > sent_ns ? c->shard->now_ns - sent_ns : 0);
    }
    return true;
}

static bool same(arena_point a, arena_point b) {
    return a.x == b.x && a.y == b.y;
}

/* Whether this walker was at this position after that step. True if the step is too old to be
 * known. */
static bool was_there(const walker *w, uint16_t serial, arena_point at) {
    uint16_t ago = (uint16_t)(w->serial - serial);
    return ago >= STEPS_KEPT ? ago < 0x8000 : same(w->path[serial % STEPS_KEPT], at);
}

/* Whether this agrees with the walker's own state. */
static bool is_me(walker *w, uint16_t serial, arena_point at) {
    bool forward = (uint16_t)(serial - w->shown) < 0x8000;
    w->shown = serial;
    return forward && was_there(w, serial, at);
}

static bool check_entry(connection *c, const uint8_t *entry, arena_point me, unsigned *myself) {
    walker *w = c->walker;
    uint32_t number = get_u32(entry);
    arena_point at = {.x = get_u16(entry + 4), .y = get_u16(entry + 6)};
    uint16_t serial = get_u16(entry + 8);
    walker *seen = *walker_slot(c->shard, number);
    bool known = seen && seen->number == number;
    bool right = at.x < ARENA_SIZE && at.y < ARENA_SIZE && arena_in_sight(me, at) &&
                 (!known || was_there(seen, serial, at));
    if (number == w->number) {
        *myself += 1;
        right = right && is_me(w, serial, at);
    }
    c->shard->counts.arena.entries++;
    c->shard->counts.arena.entries_known += known;
    if (!right) {
        connection_fault(c, FAULT_VIEW,
            "connection %u is shown player %" PRIu32 " at %u,%u after step %u, which cannot be",
            c->number, number, at.x, at.y, serial);
    }
    return right;
}

static const uint8_t *find_me(const walker *w, const uint8_t *entries, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (get_u32(entries + i * ARENA_SIGHT_ENTRY) == w->number) {
            return entries + i * ARENA_SIGHT_ENTRY;
        }
    }
    return NULL;
}

static bool check_sight(connection *c, const uint8_t *bytes, uint32_t size) {
    walker *w = c->walker;
    unsigned count = get_u16(bytes + 2);
    uint32_t tick_number = get_u32(bytes + 4);
    const uint8_t *entries = bytes + ARENA_SIGHT_HEAD;
    bool whole = size == ARENA_SIGHT_HEAD + count * ARENA_SIGHT_ENTRY;
    const uint8_t *mine = whole ? find_me(w, entries, count) : NULL;
    if (!mine || tick_number <= w->tick) {
        connection_fault(c, FAULT_VIEW,
            "connection %u: %s in tick %" PRIu32 " behind tick %" PRIu32, c->number,
            mine ? "a sight" : "does not see itself", tick_number, w->tick);
        return false;
    }
    w->tick = tick_number;
    c->shard->counts.arena.sights++;
    arena_point me = {.x = get_u16(mine + 4), .y = get_u16(mine + 6)};
    unsigned myself = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!check_entry(c, entries + i * ARENA_SIGHT_ENTRY, me, &myself)) {
            return false;
        }
    }
    if (myself != 1) {
        connection_fault(c, FAULT_VIEW, "connection %u sees itself %u times", c->number, myself);
    }
    return myself == 1;
}

/* Before WELCOME no other message may come. */
static bool message(connection *c, const uint8_t *bytes, uint32_t size) {
    walker *w = c->walker;
    if (c->state != OPEN) {
        return true; /* leaving: ignored */
    }
    uint8_t kind = size > 0 ? bytes[0] : 0;
    bool good;
    if (kind == ARENA_WELCOME && size == ARENA_WELCOME_SIZE) {
        take_welcome(c, bytes);
        good = true;
    } else if (kind == ARENA_PROBE && size == PROBE_SIZE && w->number != 0) {
        good = take_probe(c, bytes);
    } else if (kind == ARENA_SIGHT && size >= ARENA_SIGHT_HEAD && w->number != 0) {
        good = check_sight(c, bytes, size);
    } else {
        connection_fault(c, FAULT_UNASKED, "connection %u: a message of kind %u and %u bytes",
            c->number, kind, size);
        good = false;
    }
    w->last_message_ns = c->shard->now_ns;
    return good;
}

static void after_delivery(connection *c) {
    leave_if_answered(c);
}

const mode mode_arena = {
    .name = "arena",
    .help = "players of tp-arena behind a gate: they walk at --rate (default 10), and check what "
            "they see",
    .timed = true,
    .begin = begin,
    .message = message,
    .delivered = after_delivery,
    .sent = leave_if_answered,
    .ended = mode_lost,
    .tick = tick,
    .stop = leave_if_answered,
};
