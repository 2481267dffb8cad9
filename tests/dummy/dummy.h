/*
 * tp-dummy: the load client that checks a server's answers.
 *
 * It uses common/os, proto/frame.h and, for the WAN, the client's side of proto, so that it shares
 * nothing with the core under test.
 *
 * Structure: a LOAD is one run. It has SHARDS, one for each thread, each with a port and a worker
 * of its own; a CONNECTION belongs to one shard and is used by that shard's thread only. A
 * connection's MODE, a table of hooks, decides what it does; its WIRE (wire.h), another table, how
 * frames become bytes. The main thread moves the load from phase to phase.
 */
#ifndef TWINPORT_TESTS_DUMMY_H
#define TWINPORT_TESTS_DUMMY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "os/compiler.h"
#include "os/port.h"
#include "os/thread.h"
#include "proto/frame.h"
#include "proto/record.h"

typedef struct mode mode;
typedef struct wire wire;
typedef struct secure secure;
typedef struct tokens tokens;
typedef struct load load;
typedef struct shard shard;
typedef struct connection connection;
typedef struct walker walker;

/* ---- the request ----------------------------------------------------------------------------- */

typedef struct run_options {
    tp_address address;
    const char *address_text;
    const wire *wire;
    const mode *mode;
    const char *io;
    unsigned connections;
    unsigned window; /* messages outstanding per connection */
    uint32_t size;   /* payload bytes of a message */
    uint32_t limit;  /* the server's frame limit, which a mode's garbage exceeds */
    double seconds;  /* measured time */
    double warmup;   /* time before it, not measured */
    double patience; /* the time-out of an answer or an end */
    double rate;     /* messages per second and connection; 0: as fast as they are answered */
    unsigned threads;
    uint64_t seed;
    bool json;
    bool marks;

    /* For the WAN. */
    bool has_server_key;
    uint8_t server_key[TP_KEY_SIZE]; /* public */
    tp_suite suite;
    tokens *tokens; /* NULL: mode open; run.c frees them */
} run_options;

/* ---- the result ------------------------------------------------------------------------------ */

/* X(code, name): what can be wrong with a server. */
#define FAULTS(X)                                                                                  \
    X(FAULT_CONNECT, "connect_failed")                                                             \
    X(FAULT_BYTES, "wrong_bytes")                                                                  \
    X(FAULT_LENGTH, "wrong_length")                                                                \
    X(FAULT_UNASKED, "answer_not_asked_for")                                                       \
    X(FAULT_HANDSHAKE, "not_welcome")                                                              \
    X(FAULT_RECORD, "bad_record")                                                                  \
    X(FAULT_FRAME, "bad_frame")                                                                    \
    X(FAULT_MISSING, "missing_answer")                                                             \
    X(FAULT_LOST, "connection_lost")                                                               \
    X(FAULT_VIEW, "wrong_view")                                                                    \
    X(FAULT_REASON, "wrong_close_reason")                                                          \
    X(FAULT_NOT_CUT, "not_cut")                                                                    \
    X(FAULT_NOT_ENDED, "end_not_answered")                                                         \
    X(FAULT_SYSTEM, "system")

typedef enum fault {
#define FAULT_ENUM(code, name) code,
    FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_COUNT
} fault;

/* What the arena's players have done and seen. */
typedef struct arena_counts {
    uint64_t steps;
    uint64_t probes;
    uint64_t probes_lost; /* to a service that was lost */
    uint64_t sights;
    uint64_t entries; /* players in the sights */
    /* Those of them whose position could be checked against their own steps. */
    uint64_t entries_known;
    uint64_t returns; /* welcomes after the first one: the service was lost and came back */
    /* From the last message of the lost service to the welcome of the new one. */
    uint64_t longest_away_ns;
} arena_counts;

typedef struct counts {
    uint64_t messages; /* right answers in the measured time */
    uint64_t answers;  /* all right answers */
    /* Connections that were established, welcome included. */
    uint64_t connects;
    uint64_t cut; /* ended by the server, as the mode expects */
    /* Slow: all that was sent was answered in the end. */
    uint64_t served;
    uint64_t stayed;                            /* half-open: still open at the end */
    uint64_t pings;                             /* answered with PONG */
    uint64_t closes[TP_CLOSE_REASON_COUNT + 1]; /* CLOSE frames by reason; last: unknown numbers */
    uint64_t ends_without_close;                /* streams that the server ended without a reason */
    uint64_t faults[FAULT_COUNT];
    arena_counts arena;
    histogram latency;
} counts;

/* ---- the run --------------------------------------------------------------------------------- */

typedef enum phase { CONNECTING, WARMING, MEASURING, STOPPING } phase;

struct load {
    const run_options *options;
    const uint8_t *pattern; /* PATTERN_PERIOD + options->size bytes, periodic */
    atomic_int phase;
    atomic_uint connected; /* connections that were established or have failed, each counted once */
    atomic_uint answered_once; /* connections that have had an answer or have failed */
    atomic_uint over;          /* connections that are closed for good */
    uint64_t begin_ns;
    unsigned missing; /* connections that were not established in time */
};

#define SHARD_WALKERS 16384u

struct shard {
    load *load;
    unsigned index;
    tp_thread thread;
    tp_port *port;
    tp_worker *worker;
    connection *connections;
    unsigned count;
    unsigned opened;     /* how many of them were started for the first time */
    unsigned connecting; /* connects and handshakes in progress */
    unsigned live;       /* sockets not yet closed */
    uint64_t now_ns;     /* read once per round and per delivery */
    uint64_t chance;
    bool failed;                        /* the port could not be made, or a wait failed */
    uint8_t plain[TP_RECORD_PLAIN_MAX]; /* WAN: of the current record */
    walker *walkers[SHARD_WALKERS];     /* arena: by number, as far as they do not collide */
    counts counts;
};

/* A run with these options; adds its counts to `total`. Returns the measured seconds. */
double load_run(const run_options *options, counts *total);

/* ---- connections ----------------------------------------------------------------------------- */

#define PATTERN_PERIOD 65521u /* a prime */
#define SEND_MESSAGES  30     /* in one send, two buffers each */
#define URGENT_SIZE    (8 * (TP_FRAME_HEADER + TP_FRAME_PING_MAX))
#define RAW_SIZE       256
#define HEAD_SIZE      (TP_FRAME_HEADER + 8)

typedef enum state {
    CLOSED,    /* no socket */
    OPENING,   /* connecting */
    HANDSHAKE, /* WAN: connected, HELLO sent, not yet welcome */
    OPEN,      /* frames may be sent */
    LEAVING,   /* CLOSE is sent or will be; waits for the server's end */
    CLOSING,   /* tp_socket_close() was called */
} state;

struct connection {
    shard *shard;
    tp_socket socket;
    tp_op connect;
    tp_op receive;
    tp_op send;
    tp_op close;
    state state;
    uint32_t number;
    uint32_t life;      /* how often it was opened */
    bool counted;       /* in load->connected */
    bool arriving;      /* in shard->connecting */
    bool answered_once; /* in load->answered_once */
    bool receiving;
    bool sending;
    bool finished;  /* FIN was sent */
    bool forbidden; /* no answer may come any more */
    bool no_close;  /* nor a CLOSE */

    /* Output. Invariant: answered <= sequence; messages answered..sequence-1 are outstanding. */
    uint64_t sequence; /* of the next message */
    uint64_t owed;     /* messages to send as soon as the socket is free */
    uint64_t answered;
    uint64_t *sent_ns; /* of message n at n % window */
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    uint8_t heads[SEND_MESSAGES][HEAD_SIZE];
    uint8_t urgent[URGENT_SIZE]; /* READY and PONGs, sent before the messages */
    uint8_t urgent_sending[URGENT_SIZE];
    uint32_t urgent_size;
    uint8_t raw[RAW_SIZE]; /* the mode's own bytes, sent behind the messages owed */
    uint32_t raw_size;

    /* Input: the frame being received. */
    uint8_t header[TP_FRAME_HEADER];
    uint32_t header_have;
    tp_frame_header frame;
    uint32_t frame_have;
    uint8_t control[TP_FRAME_CLOSE_MAX];
    uint8_t *message; /* for modes that take whole messages: `message_capacity` bytes */
    uint32_t message_capacity;
    bool close_seen;
    uint16_t close_reason;

    secure *secure; /* WAN: handshake, keys, records in flight */

    /* For the mode. */
    uint64_t deadline_ns; /* 0: none; HANDSHAKE: until the welcome */
    uint64_t due_ns;      /* of the next message, at a rate */
    unsigned choice;
    bool paused;
    walker *walker;
};

/* Starts to connect. */
void connection_open(connection *c);
/* Called by the wire when frames may be sent: the mode begins. */
void connection_establish(connection *c);
/* Called by the wire when it has spoilt its HELLO: the connection waits to be cut, or for its
 * mode. */
void connection_spoil(connection *c);
/* Sends these bytes as they are, before frames may be sent: the wire's HELLO. They must stay
 * unchanged until they are sent. */
void connection_send_raw(connection *c, const uint8_t *bytes, size_t size);
/* Sends what is due, if the socket is free: urgent frames, messages owed, raw bytes, CLOSE. */
void connection_flush(connection *c);
/* Sends CLOSE and FIN and waits for the server's end. */
void connection_leave(connection *c);
/* Closes immediately. Nothing is delivered afterwards. */
void connection_close(connection *c, bool reset);
/* Starts or resumes receiving. Called by the wire; on the LAN not if the mode reads late. */
void connection_read(connection *c);
/* Counts and prints a fault, and closes the connection. */
void connection_fault(connection *c, fault what, const char *format, ...) TP_PRINTF(3, 4);
/* The same without a connection to close. */
void shard_fault(shard *s, fault what, const char *format, ...) TP_PRINTF(3, 4);

/* Writes the head of message `sequence` (header and number) into `head` (HEAD_SIZE bytes) and
 * returns its length; `rest` is set to the payload behind it. */
uint32_t message_write(const connection *c, uint64_t sequence, uint8_t *head, tp_buffer *rest);
/* Counts for the load that an answer has come, or that none will. */
void connection_answered(connection *c);
/* Processes received bytes of frames (receive.c). False: the connection was closed meanwhile. */
bool connection_take(connection *c, const uint8_t *bytes, size_t count);

phase connection_phase(const connection *c);
uint32_t shard_chance(shard *s);
const char *error_name(tp_err error);

/* ---- modes ----------------------------------------------------------------------------------- */

/* How a mode may spoil the wire's own bytes (HELLO, records), where it has any. */
typedef enum spoil {
    SPOIL_NOTHING,
    SPOIL_CHANGE, /* changes them: the server must cut the connection without an answer */
    SPOIL_CUT,    /* sends a part of them, and nothing more */
} spoil;

struct mode {
    const char *name;
    const char *help;
    spoil spoil;
    bool hostile;    /* afterwards an ordinary client must still be served */
    bool reads_late; /* does not start to receive by itself */
    bool timed;      /* the latency of answers is meaningful */

    void (*begin)(connection *c);                   /* connected */
    void (*answers)(connection *c, uint64_t count); /* right answers, once per delivery */
    /* Instead of `answers`: a whole message. False: the connection was closed meanwhile. */
    bool (*message)(connection *c, const uint8_t *bytes, uint32_t size);
    void (*delivered)(connection *c);           /* after every delivery; may be NULL */
    void (*sent)(connection *c);                /* a send is complete; may be NULL */
    void (*ended)(connection *c, tp_err error); /* the server ended the stream */
    void (*closed)(connection *c);              /* may be NULL */
    void (*tick)(connection *c);   /* every few ms, also after a spoilt HELLO; may be NULL */
    void (*spoilt)(connection *c); /* the HELLO was spoilt; may be NULL if it never is */
    void (*stop)(connection *c);   /* the time is over */
};

extern const mode mode_echo, mode_storm, mode_slow, mode_garbage, mode_half_open, mode_reset,
    mode_arena;
extern const mode *const modes[]; /* ends with NULL */

/* Used by several modes. */
/* Closed: opens the connection again unless the time is over. */
void mode_reopen(connection *c);
/* Ended by the server, which is a fault in this mode. */
void mode_lost(connection *c, tp_err error);

/* ---- arguments and report -------------------------------------------------------------------- */

int lan_main(int argc, char **argv);
int wan_main(int argc, char **argv);

/* `options->wire` is the network. */
bool run_options_read(int argc, char **argv, run_options *options);
void run_usage(const wire *network);
bool address_read(const char *text, tp_address *address);

uint64_t faults_sum(const counts *c);
void report_json(const run_options *options, const counts *c, double seconds);
void report_text(const run_options *options, const counts *c, double seconds);

#endif
