/*
 * The process's log, and the trace of numbers.
 *
 * A line is formatted into memory by the thread that has something to say and written by the log's
 * own thread, in batches: nobody waits for a disk. What does not fit in memory is dropped and the
 * number of lines dropped is written. Each place in the code may say TP_LOG_BURST lines in a
 * second; what exceeds that is counted, and the count is said when the second is over: a flood of
 * malformed packets costs a line a second.
 *
 * For races, where a line of text would hide them, tp_trace() puts numbers into a ring in memory.
 */
#ifndef TWINPORT_LOG_H
#define TWINPORT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tp_log_level {
    TP_LOG_DEBUG = 0,
    TP_LOG_INFO = 1,
    TP_LOG_WARNING = 2,
    TP_LOG_ERROR = 3,
    TP_LOG_OFF = 4
} tp_log_level;

#define TP_LOG_BURST 10 /* lines per second and place in the code */

typedef struct tp_log_options {
    size_t size;        /* sizeof(tp_log_options) */
    tp_log_level level; /* lines below it are not formatted */
    const char *file;   /* appended to; NULL: standard error */
    size_t buffer; /* bytes, 0: 1 MiB; 4,096..67,108,864; half of it gathers lines while the other
                      half is being written */
    /* Takes whole lines instead of a file, on the log's thread; or NULL. What it says itself goes
     * to standard error. */
    void (*sink)(void *context, const char *lines, size_t n);
    void *context; /* for sink */
} tp_log_options;

/*
 * Opens the process's log: starts its thread. `options` and its file name are not needed
 * afterwards. TP_ERR_STATE if it is open, TP_ERR_NO_FILE, TP_ERR_INVALID (out of range, or both
 * file and sink), TP_ERR_NO_MEMORY, TP_ERR_OS. Before it is opened and after it is closed, lines of
 * level warning and above go straight to standard error, which takes each within 100 milliseconds
 * or loses it.
 *
 * Writing raises no signal: no SIGPIPE when the reader has gone, no SIGXFSZ at a limit of file
 * size; the program's signal dispositions stay as they are. Standard error is written to only if
 * it is the process's own: a descriptor 2 that was closed when the process began, or that has
 * become a socket since, is left alone. Lines lost for any of these count as failed.
 */
tp_err tp_log_open(const tp_log_options *options);

/*
 * Writes everything said so far and stops the thread. No other thread may be in a log call, nor may
 * it be called by the sink. Does nothing if the log is not open.
 *
 * It waits for a sink as long as that takes, but not for a pipe or console that takes nothing:
 * after a second the rest counts as failed. If the system does not let go of the thread even
 * then, the log cannot be opened again in this process: TP_ERR_STATE.
 */
void tp_log_close(void);

/*
 * Opens the log's file again by its name, which a tool has renamed or deleted meanwhile: what is
 * said after the call is in the new file, and the old one is closed as soon as it has what was said
 * before. Any thread but the log's own. TP_OK also without a file; TP_ERR_STATE: the log is not
 * open; TP_ERR_NO_FILE: then the file at hand stays in use.
 */
tp_err tp_log_reopen(void);

/* Waits until everything said before the call is written. Any thread; inside the sink, and if the
 * log is not open, it does nothing. */
void tp_log_flush(void);

/* The level in force: what tp_log_open() was given until it is changed; warning while the log is
 * not open. Any thread. */
tp_log_level tp_log_get_level(void);
void tp_log_set_level(tp_log_level level);

/* "debug", "info", "warning", "error", "off"; TP_ERR_INVALID for anything else. */
tp_err tp_log_level_parse(const char *text, tp_log_level *level);

/* One place in the code that logs: its share of the rate limit. Zero at the start, and there as
 * long as the log is open; TP_LOG() sees to both. */
typedef struct tp_log_place {
    uint64_t second_and_count; /* accessed atomically by the log alone */
} tp_log_place;

#if defined(__clang__)
__attribute__((format(printf, 3, 4)))
#elif defined(__GNUC__)
/* The C standard's formats on every system; mingw's plain "printf" means Microsoft's of old. */
__attribute__((format(gnu_printf, 3, 4)))
#endif
void tp_log_say(tp_log_place *place, tp_log_level level, const char *format, ...);

/* TP_LOG(TP_LOG_WARNING, "port %u is in use", port): printf's formats; a newline is added. */
#define TP_LOG(level, ...)                                                                         \
    do {                                                                                           \
        static tp_log_place tp_log_place_here;                                                     \
        if ((level) >= tp_log_get_level()) {                                                       \
            tp_log_say(&tp_log_place_here, (level), __VA_ARGS__);                                  \
        }                                                                                          \
    } while (0)

/* Counts of the log itself. */
typedef struct tp_log_stats {
    size_t size;         /* sizeof(tp_log_stats), set by the caller */
    uint64_t lines;      /* written */
    uint64_t suppressed; /* held back by the rate limit */
    uint64_t dropped;    /* no room in memory */
    uint64_t failed;     /* the file or standard error did not take */
} tp_log_stats;
/* Since the process began, over every open and close. Any thread. */
void tp_log_get_stats(tp_log_stats *stats);

/* ---- the trace ------------------------------------------------------------------------------- */

/*
 * Puts one entry into the process's ring of the last TP_TRACE_ENTRIES: time, thread, event and two
 * numbers. Any thread, no lock, no allocation: a reading of the clock and a handful of stores. Off
 * until tp_trace_enable(true), and while it is off no more than a test.
 */
#define TP_TRACE_ENTRIES 65536
void tp_trace(uint32_t event, uint64_t first, uint64_t second);
tp_err tp_trace_enable(bool on); /* allocates the ring at the first time: TP_ERR_NO_MEMORY */

/*
 * What the core itself traces: `first` is the session's id, `second` as said. Your own events begin
 * at TP_TRACE_USER. X(code name, value, second)
 */
#define TP_TRACE_EVENTS(X)                                                                         \
    X(TP_TRACE_OPEN, 1, "1 if outgoing")                                                           \
    X(TP_TRACE_JOIN, 2, "0")                                                                       \
    X(TP_TRACE_SEND, 3, "bytes of a gathered send that begins")                                    \
    X(TP_TRACE_FINISH, 4, "tp_end_reason: it ends after what is queued")                           \
    X(TP_TRACE_CLOSE, 5, "tp_end_reason: it ends now")                                             \
    X(TP_TRACE_RELEASE, 6, "tp_end_reason")

typedef enum tp_trace_event {
#define TP_TRACE_ENUM(name, value, second) name = value,
    TP_TRACE_EVENTS(TP_TRACE_ENUM)
#undef TP_TRACE_ENUM
        TP_TRACE_USER = 256
} tp_trace_event;

typedef struct tp_trace_entry {
    uint64_t time_ns; /* monotonic */
    uint64_t thread;
    uint64_t first;
    uint64_t second;
    uint32_t event;
    uint32_t reserved;
} tp_trace_entry;

/* Copies the newest entries, oldest first, at most `room`; returns how many. Entries that are being
 * written meanwhile are left out. Any thread. */
size_t tp_trace_read(tp_trace_entry *entries, size_t room);

/* Writes the ring to a file as text, one entry a line. TP_ERR_NO_FILE, or the system's error if the
 * file does not take it all. */
tp_err tp_trace_dump(const char *file);

#ifdef __cplusplus
}
#endif
#endif
