/*
 * What a gate and a service say to each other about players, header-only. docs/gate-protocol.md
 * says what the messages mean; here is how they lie in memory.
 *
 * A gate message is the payload of a bus message between a gate and one peer of a service
 * (proto/bus.h), behind the bus's header. All integers are little-endian. A player is named by his
 * session at the gate: its low 20 bits are his place there, which one player has at a time.
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
 *                                                 12       what the player said
 *
 *     SEND  service to gate, SEND                 KICK   service to gate, REQUEST
 *      0  u8   kind 4                              0  u8   kind 5
 *      1  u8   0                                   1  u8   0
 *      2  u16  count of sessions, not 0            2  u16  close code
 *      4       u64 each                            4  u64  session
 *      .       what the players are told
 *                                                 DONE   the REPLY to each of the requests
 *     MOVE  service to gate, REQUEST               0  u8   kind 7
 *      0  u8   kind 6                              1  u8   status: tp_gate_status
 *      1  u8   bytes of the service's name         2  u16  close code, with status REFUSED
 *      2  u16  bytes of the blob
 *      4  u64  session
 *     12  u32  peer, 0: any of the service
 *     16       the name, then the blob
 *
 * Readers take any bytes and say false to what is no such message; nothing is read beyond `size`.
 * There is no library behind it, no state, no allocation. Any thread. C11 and C++17.
 */
#ifndef TWINPORT_PROTO_GATE_H
#define TWINPORT_PROTO_GATE_H

#include <string.h>

#include "proto/bus.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_GATE_VERSION   1u
#define TP_GATE_SERVICE   "gate" /* the service gates are of, unless it is configured otherwise */
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
    TP_GATE_RETURN = 1,    /* he was with a peer of this service, or with this one, that was lost */
    TP_GATE_MOVED = 2,     /* another peer's MOVE brought him: the blob is what it handed on */
    TP_GATE_IDENTIFIED = 4 /* account, the identity's flags and user data come from his token */
};

/* LEAVE: why. */
typedef enum tp_gate_leave {
    TP_GATE_LEAVE_ENDED = 1, /* his session is over */
    TP_GATE_LEAVE_MOVED = 2  /* he is with another peer now, as this one asked */
} tp_gate_leave;

/* DONE: what became of the request. */
typedef enum tp_gate_status {
    TP_GATE_OK = 0,
    TP_GATE_NO_PLAYER = 1, /* KICK, MOVE: he is not, or no longer, with this peer */
    TP_GATE_NO_TARGET = 2, /* MOVE: no other peer of that service is there */
    TP_GATE_REFUSED = 3,   /* JOIN: he is not taken, and the gate closes him with the close code */
    TP_GATE_FULL = 4       /* MOVE: a limit of the gate is reached */
} tp_gate_status;

#define TP_GATE_JOIN_SIZE  96u /* without the blob */
#define TP_GATE_LEAVE_SIZE 20u
#define TP_GATE_DATA_SIZE  12u /* without what the player said */
#define TP_GATE_SEND_FIXED 4u
#define TP_GATE_KICK_SIZE  12u
#define TP_GATE_MOVE_FIXED 16u
#define TP_GATE_DONE_SIZE  4u
#define TP_GATE_PLACE_SIZE 8u /* what one who waits is told: u32 place, u32 waiting */

/* ---- gate to service ------------------------------------------------------------------------- */

typedef struct tp_gate_join {
    uint16_t flags;
    uint16_t port;
    uint32_t identity_flags;
    uint64_t session;
    uint64_t account;
    uint32_t visit; /* numbers a gate's JOINs: a LEAVE belongs to the JOIN with the same one */
    uint16_t blob_size;
    uint16_t reserved;
    uint8_t ip[16];
    uint8_t user_data[TP_GATE_USER_DATA];
    const uint8_t *blob; /* in the message that was read; or what is to be written */
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

/* False also if it is of another version. */
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
    uint16_t why; /* as it came: it may be no tp_gate_leave at all */
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

/* Writes TP_GATE_DATA_SIZE bytes, in front of what the player said. */
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

/* The bytes in front of what is told to `count` players. */
static inline size_t tp_gate_send_size(size_t count) {
    return TP_GATE_SEND_FIXED + 8 * count;
}

/* Writes TP_GATE_SEND_FIXED bytes; `count` sessions follow (tp_gate_put_session).
 * 1..TP_GATE_SEND_MAX. */
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

/* `count` receives how many sessions there are; the message begins at tp_gate_send_size(*count). */
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
    uint8_t name_size;  /* 0 if a peer is named: then it is the peer's service */
    uint8_t reserved;
    const char *name; /* without an end mark */
    const uint8_t *blob;
} tp_gate_move;

/* How many bytes tp_gate_write_move() writes. */
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
    uint8_t status; /* as it came: it may be no tp_gate_status at all */
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
