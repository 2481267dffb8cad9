/*
 * The messages of the bus, header-only: their layout in memory. docs/bus-protocol.md describes
 * their meaning.
 *
 * A bus message is the payload of a DATA frame (proto/frame.h). It begins with a header of 16
 * bytes, little-endian:
 *
 *     0  u8   kind
 *     1  u8   flags
 *     2  u16  key          ANY and REQUEST to a service: chooses the peer; ERROR: the reason
 *     4  u32  source       from the hub: the sender's id, 0 for the hub itself
 *                          to the hub: how many messages of others this client has processed
 *     8  u32  destination  to the hub: a peer's id or a service's hash, by kind
 *                          from the hub: how many messages of this client it has processed
 *    12  u32  correlation  assigned by the first sender, never 0
 *
 * No library, no state, no allocation. All functions may be called from any thread. C11 and C++17.
 */
#ifndef TWINPORT_PROTO_BUS_H
#define TWINPORT_PROTO_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TP_BUS_VERSION      1u
#define TP_BUS_HEADER       16u
#define TP_BUS_NAME_MAX     63u   /* bytes of the name of a service or instance */
#define TP_BUS_ACK_MS       50u   /* longest time until a message is acknowledged ... */
#define TP_BUS_ACK_MESSAGES 1024u /* ... and greatest number of messages */
#define TP_BUS_HUB          0u    /* the hub, as a source and as the destination of a REQUEST */

/* The greatest limit of unacknowledged messages: far below 2^31, so that the difference of two
 * cumulative counts is unambiguous. */
#define TP_BUS_UNCONFIRMED_MAX 16777216u

typedef enum tp_bus_kind {
    TP_BUS_HELLO = 1,     /* from a client: its service and instance */
    TP_BUS_WELCOME = 2,   /* from the hub: the client's id, and limits */
    TP_BUS_PEER_UP = 3,   /* hub */
    TP_BUS_PEER_DOWN = 4, /* hub */
    TP_BUS_ACK = 5,       /* both directions: only the count in the header */
    TP_BUS_SEND = 6,      /* to one peer */
    TP_BUS_ANY = 7,       /* to one peer of a service */
    TP_BUS_ALL = 8,       /* to every other peer of a service or of the bus */
    TP_BUS_REQUEST = 9,   /* to a peer, to the hub, or (TO_SERVICE) to one peer of a service */
    TP_BUS_REPLY = 10,    /* to the peer whose REQUEST it answers */
    TP_BUS_ERROR = 11     /* returns a message that was not delivered or is refused */
} tp_bus_kind;

enum {
    TP_BUS_ACK_VALID = 1,  /* from the hub: `destination` has the count */
    TP_BUS_TO_SERVICE = 2, /* REQUEST: the destination is a service */
    TP_BUS_KEYED = 4       /* ANY, REQUEST to a service: one key always chooses one peer */
};

/* X(code name, value on the wire, text). The values never change. */
#define TP_BUS_REASONS(X)                                                                          \
    X(TP_BUS_NO_PEER, 1, "no-peer")                                                                \
    X(TP_BUS_NO_SERVICE, 2, "no-service")                                                          \
    X(TP_BUS_QUEUE_FULL, 3, "queue-full")                                                          \
    X(TP_BUS_UNCONFIRMED_FULL, 4, "unconfirmed-full")                                              \
    X(TP_BUS_TOO_LARGE, 5, "too-large")                                                            \
    X(TP_BUS_PEER_LOST, 6, "peer-lost") /* it may have been processed */                           \
    X(TP_BUS_MALFORMED, 7, "malformed")                                                            \
    X(TP_BUS_NO_MEMORY, 8, "no-memory")                                                            \
    X(TP_BUS_SHUTDOWN, 9, "shutdown")                                                              \
    X(TP_BUS_NO_HANDLER, 10, "no-handler")   /* sent by a client without a handler */              \
    X(TP_BUS_BAD_VERSION, 16, "bad-version") /* this and below: reasons to refuse a HELLO */       \
    X(TP_BUS_BAD_NAME, 17, "bad-name")                                                             \
    X(TP_BUS_NAME_COLLISION, 18, "name-collision")                                                 \
    X(TP_BUS_HUB_FULL, 19, "hub-full")

typedef enum tp_bus_reason {
    TP_BUS_DELIVERED = 0, /* never on the wire */
#define TP_BUS_ENUM(name, value, text) name = value,
    TP_BUS_REASONS(TP_BUS_ENUM)
#undef TP_BUS_ENUM
        TP_BUS_REASON_END = 32 /* all reasons of this version are less */
} tp_bus_reason;

/* The reason's name ("no-peer"); "unknown" for a number that is not in the list. */
static inline const char *tp_bus_reason_name(uint16_t reason) {
    switch (reason) {
#define TP_BUS_CASE(name, value, text)                                                             \
    case value:                                                                                    \
        return text;
        TP_BUS_REASONS(TP_BUS_CASE)
#undef TP_BUS_CASE
    default:
        return "unknown";
    }
}

/* ---- the header ------------------------------------------------------------------------------ */

typedef struct tp_bus_header {
    uint8_t kind; /* as received: may be no tp_bus_kind */
    uint8_t flags;
    uint16_t key;
    uint32_t source;
    uint32_t destination;
    uint32_t correlation;
} tp_bus_header;

static inline uint16_t tp_bus_get_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t tp_bus_get_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline uint64_t tp_bus_get_u64(const uint8_t *bytes) {
    return tp_bus_get_u32(bytes) | (uint64_t)tp_bus_get_u32(bytes + 4) << 32;
}

static inline void tp_bus_put_u16(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)(value & 0xffu);
    bytes[1] = (uint8_t)(value >> 8);
}

static inline void tp_bus_put_u32(uint8_t *bytes, uint32_t value) {
    bytes[0] = (uint8_t)(value & 0xffu);
    bytes[1] = (uint8_t)(value >> 8 & 0xffu);
    bytes[2] = (uint8_t)(value >> 16 & 0xffu);
    bytes[3] = (uint8_t)(value >> 24);
}

static inline void tp_bus_put_u64(uint8_t *bytes, uint64_t value) {
    tp_bus_put_u32(bytes, (uint32_t)(value & 0xffffffffu));
    tp_bus_put_u32(bytes + 4, (uint32_t)(value >> 32));
}

/* Reads the TP_BUS_HEADER bytes at `bytes`. */
static inline tp_bus_header tp_bus_read(const uint8_t *bytes) {
    tp_bus_header header;
    header.kind = bytes[0];
    header.flags = bytes[1];
    header.key = tp_bus_get_u16(bytes + 2);
    header.source = tp_bus_get_u32(bytes + 4);
    header.destination = tp_bus_get_u32(bytes + 8);
    header.correlation = tp_bus_get_u32(bytes + 12);
    return header;
}

/* Writes TP_BUS_HEADER bytes at `bytes`. */
static inline void tp_bus_write(uint8_t *bytes, const tp_bus_header *header) {
    bytes[0] = header->kind;
    bytes[1] = header->flags;
    tp_bus_put_u16(bytes + 2, header->key);
    tp_bus_put_u32(bytes + 4, header->source);
    tp_bus_put_u32(bytes + 8, header->destination);
    tp_bus_put_u32(bytes + 12, header->correlation);
}

/* True for the six kinds that travel from peer to peer. They are numbered, acknowledged and
 * counted. */
static inline bool tp_bus_is_message(uint8_t kind) {
    return kind >= TP_BUS_SEND && kind <= TP_BUS_ERROR;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* True if `name` is 1 to TP_BUS_NAME_MAX bytes out of a-z 0-9 . _ - */
static inline bool tp_bus_name_valid(const char *name, size_t size) {
    if (size < 1 || size > TP_BUS_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool good =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!good) {
            return false;
        }
    }
    return true;
}

/* A service's hash on the bus: 32-bit FNV-1a of its name. */
static inline uint32_t tp_bus_service_hash(const char *name, size_t size) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++) {
        hash ^= (uint8_t)name[i];
        hash *= 16777619u;
    }
    return hash;
}

/* ---- payloads behind the header -------------------------------------------------------------- */

/* HELLO: u16 version, u16 zero, u32 largest payload accepted, service, instance (each u16 length,
 * bytes). */
#define TP_BUS_HELLO_FIXED 8u
/* WELCOME, complete. */
#define TP_BUS_WELCOME_SIZE 44u
/* PEER_UP: u32 id, service, instance. PEER_DOWN: u32 id, u16 tp_end_reason, u16 zero. */
#define TP_BUS_PEER_UP_FIXED  4u
#define TP_BUS_PEER_DOWN_SIZE 8u
/* ERROR: u32 peer it did not reach, u32 destination as sent, u8 kind, 3 zero; text may follow. */
#define TP_BUS_ERROR_FIXED 12u
#define TP_BUS_ERROR_TEXT  200u

typedef struct tp_bus_welcome {
    uint16_t version;
    uint32_t peer;        /* the client's own id */
    uint64_t hub;         /* random, new at each start of the hub */
    uint32_t max_payload; /* largest bus message, header included */
    uint32_t unconfirmed; /* limit of unacknowledged messages for a peer */
    uint32_t ack_messages;
    uint32_t ack_ms;
    uint32_t heartbeat_ms; /* silence after which the hub sends PING, 0: never */
    uint32_t idle_ms;      /* silence after which the hub ends the connection, 0: never */
    uint32_t peers;        /* PEER_UPs that follow at once, one for each other peer */
} tp_bus_welcome;

static inline void tp_bus_write_welcome(uint8_t *bytes, const tp_bus_welcome *welcome) {
    tp_bus_put_u16(bytes, welcome->version);
    tp_bus_put_u16(bytes + 2, 0);
    tp_bus_put_u32(bytes + 4, welcome->peer);
    tp_bus_put_u64(bytes + 8, welcome->hub);
    tp_bus_put_u32(bytes + 16, welcome->max_payload);
    tp_bus_put_u32(bytes + 20, welcome->unconfirmed);
    tp_bus_put_u32(bytes + 24, welcome->ack_messages);
    tp_bus_put_u32(bytes + 28, welcome->ack_ms);
    tp_bus_put_u32(bytes + 32, welcome->heartbeat_ms);
    tp_bus_put_u32(bytes + 36, welcome->idle_ms);
    tp_bus_put_u32(bytes + 40, welcome->peers);
}

/* Reads TP_BUS_WELCOME_SIZE bytes. */
static inline tp_bus_welcome tp_bus_read_welcome(const uint8_t *bytes) {
    tp_bus_welcome welcome;
    welcome.version = tp_bus_get_u16(bytes);
    welcome.peer = tp_bus_get_u32(bytes + 4);
    welcome.hub = tp_bus_get_u64(bytes + 8);
    welcome.max_payload = tp_bus_get_u32(bytes + 16);
    welcome.unconfirmed = tp_bus_get_u32(bytes + 20);
    welcome.ack_messages = tp_bus_get_u32(bytes + 24);
    welcome.ack_ms = tp_bus_get_u32(bytes + 28);
    welcome.heartbeat_ms = tp_bus_get_u32(bytes + 32);
    welcome.idle_ms = tp_bus_get_u32(bytes + 36);
    welcome.peers = tp_bus_get_u32(bytes + 40);
    return welcome;
}

typedef struct tp_bus_error {
    uint32_t peer;        /* the peer it did not reach; 0 if it was not sent to one */
    uint32_t destination; /* as its sender wrote it */
    uint8_t kind;         /* likewise */
} tp_bus_error;

static inline void tp_bus_write_error(uint8_t *bytes, const tp_bus_error *error) {
    tp_bus_put_u32(bytes, error->peer);
    tp_bus_put_u32(bytes + 4, error->destination);
    bytes[8] = error->kind;
    bytes[9] = 0;
    bytes[10] = 0;
    bytes[11] = 0;
}

/* Reads TP_BUS_ERROR_FIXED bytes. */
static inline tp_bus_error tp_bus_read_error(const uint8_t *bytes) {
    tp_bus_error error;
    error.peer = tp_bus_get_u32(bytes);
    error.destination = tp_bus_get_u32(bytes + 4);
    error.kind = bytes[8];
    return error;
}

#ifdef __cplusplus
}
#endif
#endif
