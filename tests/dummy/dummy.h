/*
 * tp-dummy: the load client that judges a server.
 *
 * It stands on common/os, on proto/frame.h and, for the WAN, on the client's side of proto, so that
 * nothing it relies on is shared with the core it judges.
 *
 * Shape: a LOAD is one run. It has SHARDS, one per thread, each with a port and worker of its own;
 * a CONNECTION belongs to one shard and is touched by that shard's thread only. What a connection
 * does is decided by its MODE, a table of hooks; how frames become bytes by its WIRE (wire.h),
 * another one. The main thread moves the load from phase to phase.
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

/* ---- what was asked for ---------------------------------------------------------------------- */

typedef struct run_options {
    tp_address address;
    const char *address_text;
    const wire *wire;
    const mode *mode;
    const char *io;
    unsigned connections;
    unsigned window; /* messages outstanding per connection */
    uint32_t size;   /* payload bytes of a message */
    uint32_t limit;  /* the server's limit of a frame, for the garbage beyond it */
    double seconds;  /* measured */
    double warmup;   /* before, not measured */
    double patience; /* how long an answer or an end may take */
    double rate;     /* messages per second and connection; 0: as fast as they are answered */
    unsigned threads;
    uint64_t seed;
    bool json;
    bool marks;

    /* The WAN's. */
    bool has_server_key;
    uint8_t server_key[TP_KEY_SIZE]; /* public */
    tp_suite suite;
    tokens *tokens; /* NULL: mode open; the command frees them */
} run_options;

/* ---- what happened --------------------------------------------------------------------------- */

/* X(code, name): what is wrong with a server. */
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

/* What players of the arena did and saw. */
typedef struct arena_counts {
    uint64_t steps;
    uint64_t probes;
    uint64_t probes_lost; /* with a service that was lost */
    uint64_t sights;
    uint64_t entries;         /* players in them */
    uint64_t entries_known;   /* ... whose place could be checked against their own steps */
    uint64_t returns;         /* welcomes behind the first: the service was lost, and is back */
    uint64_t longest_away_ns; /* from the last word of the lost one to the welcome of the new one */
} arena_counts;

typedef struct counts {
    uint64_t messages;                          /* right answers in the measured time */
    uint64_t answers;                           /* right answers at all */
    uint64_t connects;                          /* connections that were made, welcome included */
    uint64_t cut;                               /* ended by the server, as the mode expects */
    uint64_t served;                            /* slow: everything answered after all */
    uint64_t stayed;                            /* half-open: still there at the end */
    uint64_t pings;                             /* answered with PONG */
    uint64_t closes[TP_CLOSE_REASON_COUNT + 1]; /* CLOSE frames by reason; last: unknown numbers */
    uint64_t ends_without_close; /* streams that the server ended and gave no reason */
    uint64_t faults[FAULT_COUNT];
    arena_counts arena;
    histogram latency;
} counts;

/* ---- the run --------------------------------------------------------------------------------- */

typedef enum phase { CONNECTING, WARMING, MEASURING, STOPPING } phase;

struct load {
    const run_options *options;
    const uint8_t
        *pattern; /* PATTERN_PERIOD + options->size bytes, the same again after a period */
    atomic_int phase;
    atomic_uint connected; /* connections that were made or have failed: once per connection */
    atomic_uint heard;     /* ... that have had an answer, or have failed */
    atomic_uint over;      /* ... that are closed and do not come again */
    uint64_t begin_ns;
    unsigned missing; /* connections that were not made in time */
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
    unsigned opened;     /* of them, how many were started for the first time */
    unsigned connecting; /* connects and handshakes on their way */
    unsigned live;       /* sockets not yet closed */
    uint64_t now_ns;     /* read once per turn and per delivery */
    uint64_t chance;
    bool failed;                        /* the port could not be made or waited on */
    uint8_t plain[TP_RECORD_PLAIN_MAX]; /* WAN: of the record in hand */
    walker *walkers[SHARD_WALKERS];     /* arena: by number, as far as they do not collide */
    counts counts;
};

/* A run with these options; its counts are added to `total`. Returns the measured seconds. */
double load_run(const run_options *options, counts *total);

/* ---- connections ----------------------------------------------------------------------------- */

#define PATTERN_PERIOD 65521u /* a prime */
#define SEND_MESSAGES  30     /* in one gathered send, two buffers each */
#define URGENT_ROOM    (8 * (TP_FRAME_HEADER + TP_FRAME_PING_MAX))
#define RAW_ROOM       256
#define HEAD_ROOM      (TP_FRAME_HEADER + 8)

typedef enum state {
    CLOSED,   /* no socket */
    OPENING,  /* connect on its way */
    GREETING, /* WAN: connected, HELLO said, not yet welcome */
    OPEN,     /* frames may be sent */
    LEAVING,  /* CLOSE is said or about to be; waits for the server's end */
    CLOSING,  /* tp_socket_close called */
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
    uint32_t life; /* how many times it was opened */
    bool counted;  /* in load->connected */
    bool arriving; /* in shard->connecting */
    bool heard;    /* in load->heard */
    bool receiving;
    bool sending;
    bool finished;  /* FIN sent */
    bool forbidden; /* no answer may come any more */
    bool silent;    /* ... nor a word why */

    /* Out. Invariant: answered <= sequence; messages answered..sequence-1 are outstanding. */
    uint64_t sequence; /* of the next message */
    uint64_t owed;     /* messages to send as soon as the socket is free */
    uint64_t answered;
    uint64_t *sent_ns; /* of message n at n % window */
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    uint8_t heads[SEND_MESSAGES][HEAD_ROOM];
    uint8_t urgent[URGENT_ROOM]; /* READY and PONGs: in front of the messages */
    uint8_t urgent_sending[URGENT_ROOM];
    uint32_t urgent_size;
    uint8_t raw[RAW_ROOM]; /* the mode's own bytes, sent behind the messages owed */
    uint32_t raw_size;

    /* In: the frame that is arriving. */
    uint8_t header[TP_FRAME_HEADER];
    uint32_t header_have;
    tp_frame_header frame;
    uint32_t frame_have;
    uint8_t control[TP_FRAME_CLOSE_MAX];
    uint8_t *message; /* for modes that take messages whole: `message_room` bytes */
    uint32_t message_room;
    bool close_seen;
    uint16_t close_reason;

    secure *secure; /* the WAN's: handshake, keys, records on their way */

    /* The mode's. */
    uint64_t deadline_ns; /* 0: none; GREETING: until the welcome */
    uint64_t due_ns;      /* of the next message, at a rate */
    unsigned choice;
    bool paused;
    walker *walker;
};

/* Starts the connect. */
void connection_open(connection *c);
/* The wire is ready for frames: the mode begins. */
void connection_establish(connection *c);
/* What it greeted with was spoilt: it waits to be cut, or for what its mode does. */
void connection_spoil(connection *c);
/* Sends these bytes as they are, before there are frames: the wire's greeting. They stay
 * untouched. */
void connection_greet(connection *c, const uint8_t *bytes, size_t size);
/* Sends what is due, if the socket is free: urgent frames, messages owed, raw bytes, the
 * farewell. */
void connection_flush(connection *c);
/* Says CLOSE and FIN and waits for the server's end. */
void connection_leave(connection *c);
/* Closes at once. Nothing is delivered after it. */
void connection_close(connection *c, bool reset);
/* Starts receiving, or goes on after a pause. Done by the wire, and on the LAN not if the mode
 * reads late. */
void connection_read(connection *c);
/* Counts and says what is wrong, and closes. */
void connection_fault(connection *c, fault what, const char *format, ...) TP_PRINTF(3, 4);
/* The same without a connection to close. */
void shard_fault(shard *s, fault what, const char *format, ...) TP_PRINTF(3, 4);

/* Writes the head of message `sequence` (header and number) into `head` (HEAD_ROOM) and returns its
 * length; `rest` receives the payload behind it. */
uint32_t message_write(const connection *c, uint64_t sequence, uint8_t *head, tp_buffer *rest);
/* An answer has come, or none will: counts it for the load. */
void connection_heard(connection *c);
/* Looks at received bytes of frames (receive.c). False: the connection has been closed over
 * them. */
bool connection_take(connection *c, const uint8_t *bytes, size_t count);

phase connection_phase(const connection *c);
uint32_t shard_chance(shard *s);
const char *error_name(tp_err error);

/* ---- modes ----------------------------------------------------------------------------------- */

/* What a mode does, by chance, to the bytes of the wire itself, where it has any (HELLO,
 * records). */
typedef enum spoil {
    SPOIL_NOTHING,
    SPOIL_CHANGE, /* to what cannot be accepted: must be cut, without a word */
    SPOIL_CUT,    /* sends a part of it, and no more */
} spoil;

struct mode {
    const char *name;
    const char *help;
    spoil spoil;
    bool hostile;    /* afterwards an ordinary client must still be served */
    bool reads_late; /* does not begin to receive by itself */
    bool timed;      /* the answers' latency means something */

    void (*begin)(connection *c);                   /* connected */
    void (*answers)(connection *c, uint64_t count); /* right answers, once per delivery */
    /* Instead of answers: a whole message. False: the connection has been closed over it. */
    bool (*message)(connection *c, const uint8_t *bytes, uint32_t size);
    void (*delivered)(connection *c);           /* behind every delivery; may be NULL */
    void (*sent)(connection *c);                /* a send is done; may be NULL */
    void (*ended)(connection *c, tp_err error); /* the server ended the stream */
    void (*closed)(connection *c);              /* may be NULL */
    void (*tick)(connection *c);   /* every few ms, also behind a spoilt HELLO; may be NULL */
    void (*spoilt)(connection *c); /* HELLO was; may be NULL: never is */
    void (*stop)(connection *c);   /* the time is up */
};

extern const mode mode_echo, mode_storm, mode_slow, mode_garbage, mode_half_open, mode_reset,
    mode_arena;
extern const mode *const modes[]; /* NULL at the end */

/* Used by several modes. */
void mode_reopen(connection *c);             /* closed: begins again unless the time is up */
void mode_lost(connection *c, tp_err error); /* ended: it should not have */

/* ---- arguments and report -------------------------------------------------------------------- */

int lan_main(int argc, char **argv);
int wan_main(int argc, char **argv);

/* `options->wire` says for which network. */
bool run_options_read(int argc, char **argv, run_options *options);
void run_usage(const wire *network);
bool address_read(const char *text, tp_address *address);

uint64_t faults_sum(const counts *c);
void report_json(const run_options *options, const counts *c, double seconds);
void report_text(const run_options *options, const counts *c, double seconds);

#endif
