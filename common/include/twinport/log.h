/*
 * The log of the process, and the trace.
 *
 * A line is formatted into memory by the thread that logs it and written by the log's own thread,
 * in batches, so that no other thread waits for a disk. Lines that do not fit into memory are
 * dropped, and their number is logged. Each call site may log TP_LOG_BURST lines per second;
 * further lines are counted, and their number is logged when the second is over. So a flood of
 * malformed packets costs one more line per second.
 *
 * The trace is for races, whose timing a line of text would change: tp_trace() writes numbers into
 * a ring in memory.
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

#define TP_LOG_BURST 10 /* lines per second and call site */

typedef struct tp_log_options {
    size_t size;        /* sizeof(tp_log_options) */
    tp_log_level level; /* lines below it are not formatted */
    const char *file;   /* appended to; NULL: standard error */
    size_t buffer; /* bytes, 0: 1 MiB; 4,096..67,108,864; one half collects lines while the other
                      half is being written */
    /* Receives whole lines instead of a file, on the log's thread; or NULL. Lines that the sink
     * logs itself go to standard error. */
    void (*sink)(void *context, const char *lines, size_t n);
    void *context; /* for sink */
} tp_log_options;

/*
 * Opens the log and starts its thread. `options` and its file name are copied. TP_ERR_STATE if the
 * log is open, TP_ERR_NO_FILE, TP_ERR_INVALID (out of range, or both file and sink),
 * TP_ERR_NO_MEMORY, TP_ERR_OS. Before the log is opened and after it is closed, lines of level
 * warning and above go directly to standard error; a line that is not accepted within 100
 * milliseconds is lost.
 *
 * Writing raises no signal: no SIGPIPE if the reader has closed, no SIGXFSZ at a file size limit;
 * the program's signal dispositions are not changed. Standard error is written only if it belongs
 * to the process: a descriptor 2 that was closed when the process began, or that has become a
 * socket since, is not used. Lines lost for any of these reasons count as failed.
 */
tp_err tp_log_open(const tp_log_options *options);

/*
 * Writes all lines logged so far and stops the thread. No other thread may be in a log call, and
 * the sink must not call it. Does nothing if the log is not open.
 *
 * It waits for a sink as long as the sink takes, but not for a pipe or console whose reader does
 * not read: after one second the remaining lines count as failed. If the log's thread then still
 * hangs in a system call, the log cannot be opened again in this process: TP_ERR_STATE.
 */
void tp_log_close(void);

/*
 * Opens the log file again by its name, after a tool has renamed or deleted it. Lines logged after
 * the call go to the new file; the old one is closed as soon as the lines logged before are written
 * to it. Any thread but the log's own. TP_OK also without a file; TP_ERR_STATE: the log is not
 * open; TP_ERR_NO_FILE: the old file stays in use.
 */
tp_err tp_log_reopen(void);

/* Waits until all lines logged before the call are written. Any thread; does nothing inside the
 * sink, or if the log is not open. */
void tp_log_flush(void);

/* The current level: that of tp_log_open() until it is changed; warning while the log is not open.
 * Any thread. */
tp_log_level tp_log_get_level(void);
void tp_log_set_level(tp_log_level level);

/* "debug", "info", "warning", "error", "off"; TP_ERR_INVALID for anything else. */
tp_err tp_log_level_parse(const char *text, tp_log_level *level);

/* One call site in the source, with the state of its rate limit. It must be zero at first and exist
 * as long as the log is open; TP_LOG() does both. */
typedef struct tp_log_site {
    uint64_t second_and_count; /* accessed atomically by the log alone */
} tp_log_site;

#if defined(__clang__)
__attribute__((format(printf, 3, 4)))
#elif defined(__GNUC__)
/* The C standard's formats on every system; with mingw, "printf" means Microsoft's old formats. */
__attribute__((format(gnu_printf, 3, 4)))
#endif
/* Logs one line, if `level` is high enough and the call site is within its rate limit. Any thread.
 * Usually called through TP_LOG(). */
void tp_log_say(tp_log_site *site, tp_log_level level, const char *format, ...);

/* TP_LOG(TP_LOG_WARNING, "port %u is in use", port): the formats of printf; a newline is added. */
#define TP_LOG(level, ...)                                                                         \
    do {                                                                                           \
        static tp_log_site tp_log_site_here;                                                       \
        if ((level) >= tp_log_get_level()) {                                                       \
            tp_log_say(&tp_log_site_here, (level), __VA_ARGS__);                                   \
        }                                                                                          \
    } while (0)

/* Statistics of the log, in lines. */
typedef struct tp_log_stats {
    size_t size;         /* sizeof(tp_log_stats), set by the caller */
    uint64_t lines;      /* written */
    uint64_t suppressed; /* by the rate limit */
    uint64_t dropped;    /* because the buffer was full */
    uint64_t failed;     /* not accepted by the file or standard error */
} tp_log_stats;
/* The counts since the process began, over every open and close. Any thread. */
void tp_log_get_stats(tp_log_stats *stats);

/* ---- the trace ------------------------------------------------------------------------------- */

/*
 * Writes one entry into the process's ring of the last TP_TRACE_ENTRIES: time, thread, event and
 * two numbers. Any thread, no lock, no allocation: it reads the clock and stores a few words. The
 * trace is off until tp_trace_enable(true); while it is off, a call is a single test.
 */
#define TP_TRACE_ENTRIES 65536
void tp_trace(uint32_t event, uint64_t first, uint64_t second);
/* Switches the trace on or off. The first `true` allocates the ring: TP_ERR_NO_MEMORY. Any
 * thread. */
tp_err tp_trace_enable(bool on);

/*
 * The events of the core: `first` is the session's id, `second` is listed with the event. Your own
 * events begin at TP_TRACE_USER. X(code name, value, second)
 */
#define TP_TRACE_EVENTS(X)                                                                         \
    X(TP_TRACE_OPEN, 1, "1 if outgoing")                                                           \
    X(TP_TRACE_JOIN, 2, "0")                                                                       \
    X(TP_TRACE_SEND, 3, "bytes of a send batch that begins")                                       \
    X(TP_TRACE_FINISH, 4, "tp_end_reason: it ends after its queue is sent")                        \
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

/* Copies the newest entries, oldest first, at most `capacity`; returns their number. Entries that
 * are being written at the same time are left out. Any thread. */
size_t tp_trace_read(tp_trace_entry *entries, size_t capacity);

/* Writes the ring to a file as text, one entry per line. TP_ERR_NO_FILE, or the error of the write
 * or close. Any thread. */
tp_err tp_trace_dump(const char *file);

#ifdef __cplusplus
}
#endif
#endif
