/*
 * The messages between a gate and a service, about players: layout, writers and readers,
 * header-only. docs/gate-protocol.md describes their meaning.
 *
 * A gate message is the payload of a bus message between a gate and one peer of a service
 * (proto/bus.h), behind the bus's header. All integers are little-endian. A player is identified by
 * the session at the gate; its low 20 bits are the slot there, which one player has at a time.
 *
 *     JOIN  gate to service, REQUEST              LEAVE  gate to service, REQUEST
 *      0  u8   kind 1                              0  u8   kind 2
 *      1  u8   version                             1  u8   0
 *      2  u16  flags: TP_GATE_RETURN ...           2  u16  why: tp_gate_leave
 *      4  u32  the identity's flags                4  u64  session
 *      8  u64  session                            12  u32  visit
 *     16  u64  account                            16  u16  end: tp_end_reason, with why ENDED
 *     24  16   address, IPv4 as ::ffff:a.b.c.d    18  u16  0
 *     40  u16  port
 *     42  u16  bytes of the blob                  DATA   gate to service, SEND
 *     44  u32  visit                               0  u8   kind 3
 *     48  48   user data                           1  3    0
 *     96       the blob                            4  u64  session
 *                                                 12       the player's message
 *
 *     SEND  service to gate, SEND                 KICK   service to gate, REQUEST
 *      0  u8   kind 4                              0  u8   kind 5
 *      1  u8   0                                   1  u8   0
 *      2  u16  count of sessions, not 0            2  u16  close code
 *      4       u64 each                            4  u64  session
 *      .       the message to the players
 *                                                 DONE   the REPLY to each request
 *     MOVE  service to gate, REQUEST               0  u8   kind 7
 *      0  u8   kind 6                              1  u8   status: tp_gate_status
 *      1  u8   bytes of the service's name         2  u16  close code, with status REFUSED
 *      2  u16  bytes of the blob
 *      4  u64  session
 *     12  u32  peer, 0: any of the service
 *     16       the name, then the blob
 *
 * Readers accept any bytes, return false for what is not such a message, and read nothing beyond
 * `size`. No library, no state, no allocation. Any thread. C11 and C++17.
 */
#ifndef TWINPORT_PROTO_GATE_H
#define TWINPORT_PROTO_GATE_H

#include <string.h>

#include "proto/bus.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_GATE_VERSION   1u
#define TP_GATE_SERVICE   "gate" /* the service of the gates, unless configured otherwise */
#define TP_GATE_USER_DATA 48u    /* as in a connect token */
#define TP_GATE_BLOB_MAX  1024u  /* bytes that a MOVE hands on */
#define TP_GATE_SEND_MAX  65535u /* sessions in one SEND */

typedef enum tp_gate_kind {
    TP_GATE_JOIN = 1,
    TP_GATE_LEAVE = 2,
    TP_GATE_DATA = 3,
    TP_GATE_SEND = 4,
    TP_GATE_KICK = 5,
    TP_GATE_MOVE = 6,
    TP_GATE_DONE = 7
} tp_gate_kind;

/* JOIN's flags. */
enum {
    TP_GATE_RETURN = 1,    /* was at a peer of this service (it may be this one) that was lost */
    TP_GATE_MOVED = 2,     /* comes from another peer's MOVE, with that MOVE's blob */
    TP_GATE_IDENTIFIED = 4 /* account, the identity's flags and user data are from a token */
};

/* Why a player leaves a peer. */
typedef enum tp_gate_leave {
    TP_GATE_LEAVE_ENDED = 1, /* the session has ended */
    TP_GATE_LEAVE_MOVED = 2  /* the player is at another peer now, as this one requested */
} tp_gate_leave;

/* The result of a request, in DONE. */
typedef enum tp_gate_status {
    TP_GATE_OK = 0,
    TP_GATE_NO_PLAYER = 1, /* KICK, MOVE: the player is not, or no longer, at this peer */
    TP_GATE_NO_TARGET = 2, /* MOVE: no other peer of that service is on the bus */
    TP_GATE_REFUSED = 3,   /* JOIN: not accepted; the gate closes the player with the close code */
    TP_GATE_FULL = 4       /* MOVE: a limit of the gate is reached, or it has no memory */
} tp_gate_status;

#define TP_GATE_JOIN_SIZE  96u /* without the blob */
#define TP_GATE_LEAVE_SIZE 20u
#define TP_GATE_DATA_SIZE  12u /* without the player's message */
#define TP_GATE_SEND_FIXED 4u
#define TP_GATE_KICK_SIZE  12u
#define TP_GATE_MOVE_FIXED 16u
#define TP_GATE_DONE_SIZE  4u
#define TP_GATE_PLACE_SIZE 8u /* to a waiting player: u32 place, u32 players waiting */

/* ---- gate to service ------------------------------------------------------------------------- */

typedef struct tp_gate_join {
    uint16_t flags;
    uint16_t port;
    uint32_t identity_flags;
    uint64_t session;
    uint64_t account;
    uint32_t visit; /* numbers a gate's JOINs; a LEAVE has the number of the JOIN that it ends */
    uint16_t blob_size;
    uint16_t reserved;
    uint8_t ip[16];
    uint8_t user_data[TP_GATE_USER_DATA];
    const uint8_t *blob; /* read: points into the message; write: the bytes to copy */
} tp_gate_join;

/* Writes TP_GATE_JOIN_SIZE + blob_size bytes at `bytes`; blob_size is at most TP_GATE_BLOB_MAX. */
static inline void tp_gate_write_join(uint8_t *bytes, const tp_gate_join *join) {
    bytes[0] = TP_GATE_JOIN;
    bytes[1] = TP_GATE_VERSION;
    tp_bus_put_u16(bytes + 2, join->flags);
    tp_bus_put_u32(bytes + 4, join->identity_flags);
    tp_bus_put_u64(bytes + 8, join->session);
    tp_bus_put_u64(bytes + 16, join->account);
    memcpy(bytes + 24, join->ip, sizeof join->ip);
    tp_bus_put_u16(bytes + 40, join->port);
    tp_bus_put_u16(bytes + 42, join->blob_size);
    tp_bus_put_u32(bytes + 44, join->visit);
    memcpy(bytes + 48, join->user_data, sizeof join->user_data);
    if (join->blob_size) {
        memcpy(bytes + TP_GATE_JOIN_SIZE, join->blob, join->blob_size);
    }
}

/* False also for another version. */
static inline bool tp_gate_read_join(const uint8_t *bytes, size_t size, tp_gate_join *join) {
    if (size < TP_GATE_JOIN_SIZE || bytes[0] != TP_GATE_JOIN || bytes[1] != TP_GATE_VERSION) {
        return false;
    }
    join->flags = tp_bus_get_u16(bytes + 2);
    join->identity_flags = tp_bus_get_u32(bytes + 4);
    join->session = tp_bus_get_u64(bytes + 8);
    join->account = tp_bus_get_u64(bytes + 16);
    memcpy(join->ip, bytes + 24, sizeof join->ip);
    join->port = tp_bus_get_u16(bytes + 40);
    join->blob_size = tp_bus_get_u16(bytes + 42);
    join->visit = tp_bus_get_u32(bytes + 44);
    join->reserved = 0;
    memcpy(join->user_data, bytes + 48, sizeof join->user_data);
    join->blob = bytes + TP_GATE_JOIN_SIZE;
    return join->session != 0 && join->blob_size <= TP_GATE_BLOB_MAX &&
           size == TP_GATE_JOIN_SIZE + (size_t)join->blob_size;
}

typedef struct tp_gate_left {
    uint64_t session;
    uint32_t visit;
    uint16_t why; /* unchecked: it may be no tp_gate_leave */
    uint16_t end;
} tp_gate_left;

/* Writes TP_GATE_LEAVE_SIZE bytes. */
static inline void tp_gate_write_leave(uint8_t *bytes, const tp_gate_left *left) {
    bytes[0] = TP_GATE_LEAVE;
    bytes[1] = 0;
    tp_bus_put_u16(bytes + 2, left->why);
    tp_bus_put_u64(bytes + 4, left->session);
    tp_bus_put_u32(bytes + 12, left->visit);
    tp_bus_put_u16(bytes + 16, left->end);
    tp_bus_put_u16(bytes + 18, 0);
}

static inline bool tp_gate_read_leave(const uint8_t *bytes, size_t size, tp_gate_left *left) {
    if (size != TP_GATE_LEAVE_SIZE || bytes[0] != TP_GATE_LEAVE) {
        return false;
    }
    left->why = tp_bus_get_u16(bytes + 2);
    left->session = tp_bus_get_u64(bytes + 4);
    left->visit = tp_bus_get_u32(bytes + 12);
    left->end = tp_bus_get_u16(bytes + 16);
    return left->session != 0;
}

/* Writes TP_GATE_DATA_SIZE bytes; the player's message follows. */
static inline void tp_gate_write_data(uint8_t *bytes, uint64_t session) {
    tp_bus_put_u32(bytes, TP_GATE_DATA);
    tp_bus_put_u64(bytes + 4, session);
}

static inline bool tp_gate_read_data(const uint8_t *bytes, size_t size, uint64_t *session) {
    if (size < TP_GATE_DATA_SIZE || bytes[0] != TP_GATE_DATA) {
        return false;
    }
    *session = tp_bus_get_u64(bytes + 4);
    return true;
}

/* ---- service to gate ------------------------------------------------------------------------- */

/* The bytes of a SEND to `count` players in front of the message. */
static inline size_t tp_gate_send_size(size_t count) {
    return TP_GATE_SEND_FIXED + 8 * count;
}

/* Writes TP_GATE_SEND_FIXED bytes; `count` sessions follow (tp_gate_put_session()), 1 to
 * TP_GATE_SEND_MAX of them. */
static inline void tp_gate_write_send(uint8_t *bytes, size_t count) {
    bytes[0] = TP_GATE_SEND;
    bytes[1] = 0;
    tp_bus_put_u16(bytes + 2, (uint16_t)count);
}

/* Session number `n` of a SEND whose first byte is at `bytes`. */
static inline void tp_gate_put_session(uint8_t *bytes, size_t n, uint64_t session) {
    tp_bus_put_u64(bytes + tp_gate_send_size(n), session);
}
static inline uint64_t tp_gate_get_session(const uint8_t *bytes, size_t n) {
    return tp_bus_get_u64(bytes + tp_gate_send_size(n));
}

/* Sets *count to the number of sessions; the message begins at tp_gate_send_size(*count). */
static inline bool tp_gate_read_send(const uint8_t *bytes, size_t size, size_t *count) {
    if (size < TP_GATE_SEND_FIXED || bytes[0] != TP_GATE_SEND) {
        return false;
    }
    *count = tp_bus_get_u16(bytes + 2);
    return *count > 0 && size >= tp_gate_send_size(*count);
}

typedef struct tp_gate_kick {
    uint64_t session;
    uint16_t close_code;
} tp_gate_kick;

/* Writes TP_GATE_KICK_SIZE bytes. */
static inline void tp_gate_write_kick(uint8_t *bytes, const tp_gate_kick *kick) {
    bytes[0] = TP_GATE_KICK;
    bytes[1] = 0;
    tp_bus_put_u16(bytes + 2, kick->close_code);
    tp_bus_put_u64(bytes + 4, kick->session);
}

static inline bool tp_gate_read_kick(const uint8_t *bytes, size_t size, tp_gate_kick *kick) {
    if (size != TP_GATE_KICK_SIZE || bytes[0] != TP_GATE_KICK) {
        return false;
    }
    kick->close_code = tp_bus_get_u16(bytes + 2);
    kick->session = tp_bus_get_u64(bytes + 4);
    return true;
}

typedef struct tp_gate_move {
    uint64_t session;
    uint32_t peer;      /* 0: any of the service */
    uint16_t blob_size; /* at most TP_GATE_BLOB_MAX */
    uint8_t name_size;  /* 0: no name; then `peer` is set, and the service is its own */
    uint8_t reserved;
    const char *name; /* without an end mark */
    const uint8_t *blob;
} tp_gate_move;

/* The bytes that tp_gate_write_move() writes. */
static inline size_t tp_gate_move_size(const tp_gate_move *move) {
    return TP_GATE_MOVE_FIXED + (size_t)move->name_size + move->blob_size;
}

static inline void tp_gate_write_move(uint8_t *bytes, const tp_gate_move *move) {
    bytes[0] = TP_GATE_MOVE;
    bytes[1] = move->name_size;
    tp_bus_put_u16(bytes + 2, move->blob_size);
    tp_bus_put_u64(bytes + 4, move->session);
    tp_bus_put_u32(bytes + 12, move->peer);
    if (move->name_size) {
        memcpy(bytes + TP_GATE_MOVE_FIXED, move->name, move->name_size);
    }
    if (move->blob_size) {
        memcpy(bytes + TP_GATE_MOVE_FIXED + move->name_size, move->blob, move->blob_size);
    }
}

/* `name` and `blob` point into the message. */
static inline bool tp_gate_read_move(const uint8_t *bytes, size_t size, tp_gate_move *move) {
    if (size < TP_GATE_MOVE_FIXED || bytes[0] != TP_GATE_MOVE) {
        return false;
    }
    move->name_size = bytes[1];
    move->reserved = 0;
    move->blob_size = tp_bus_get_u16(bytes + 2);
    move->session = tp_bus_get_u64(bytes + 4);
    move->peer = tp_bus_get_u32(bytes + 12);
    if (size != tp_gate_move_size(move) || move->blob_size > TP_GATE_BLOB_MAX) {
        return false;
    }
    move->name = (const char *)bytes + TP_GATE_MOVE_FIXED;
    move->blob = bytes + TP_GATE_MOVE_FIXED + move->name_size;
    if (move->name_size == 0) {
        return move->peer != 0;
    }
    return tp_bus_name_valid(move->name, move->name_size);
}

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct tp_gate_done {
    uint8_t status; /* unchecked: it may be no tp_gate_status */
    uint8_t reserved;
    uint16_t close_code;
} tp_gate_done;

/* Writes TP_GATE_DONE_SIZE bytes. */
static inline void tp_gate_write_done(uint8_t *bytes, const tp_gate_done *done) {
    bytes[0] = TP_GATE_DONE;
    bytes[1] = done->status;
    tp_bus_put_u16(bytes + 2, done->close_code);
}

static inline bool tp_gate_read_done(const uint8_t *bytes, size_t size, tp_gate_done *done) {
    if (size != TP_GATE_DONE_SIZE || bytes[0] != TP_GATE_DONE) {
        return false;
    }
    done->status = bytes[1];
    done->reserved = 0;
    done->close_code = tp_bus_get_u16(bytes + 2);
    return true;
}

#ifdef __cplusplus
}
#endif
#endif
