/*
 * The log of the process: threads put lines into memory, the log's own thread writes them in
 * batches. It is not used on the message path.
 *
 * Any thread logs; one thread (the writer), started by tp_log_open() and ended by tp_log_close(),
 * writes. There are two buffers: `fill`, to which all threads append under the lock, and `out`,
 * which only the writer uses. The writer swaps them under the lock and writes without it, and lines
 * are formatted before the lock is taken, so a thread that logs waits at most for other threads'
 * memcpy.
 *
 * log_site.c has the rate limit of a call site. Sites with suppressed lines are on the `noisy` list
 * until their second is over. Then their number is logged, by the writer or before the site's own
 * next line, whichever comes first.
 *
 * Lines that the sink logs go to standard error, because the log would feed itself otherwise.
 *
 * A close waits CLOSE_MS at most for the writer, then cancels its write. If the writer still hangs
 * in a system call after CANCEL_MS it is abandoned: its memory and output are not freed, and the
 * log cannot be opened again in this process.
 */
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/counter.h"
#include "core/base/invariant.h"
#include "core/log/log_line.h"
#include "core/log/log_noisy.h"
#include "core/log/log_output.h"
#include "core/log/log_site.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"

#define BATCH_MS       50  /* the writer collects lines for so long before it writes */
#define CLOSE_MS       700 /* time for the writer to write the last lines at a close */
#define CANCEL_MS      300 /* time for the writer to end after its write was cancelled */
#define DEFAULT_BUFFER (1024u * 1024u)
#define MIN_BUFFER     4096u
#define MAX_BUFFER     (64u * 1024u * 1024u)

_Static_assert(MIN_BUFFER / 2 >= TP__LOG_LINE, "the smallest buffer takes the longest line");

typedef struct buffer {
    char *bytes;
    size_t used;
    uint64_t lines;
    uint64_t dropped; /* lines that did not fit after these */
} buffer;

/* CLOSED -> OPENING -> OPEN -> CLOSED, or OPEN -> ABANDONED, which is final. OPEN is stored with
 * release and loaded with acquire: a thread that reads OPEN also sees everything in `shared` that
 * tp_log_open() prepared. */
enum { CLOSED, OPENING, OPEN, ABANDONED };
static atomic_int state = CLOSED;

static atomic_int threshold = TP_LOG_WARNING;

static struct {
    /* Constant while the writer exists. */
    tp_thread writer;
    size_t capacity; /* bytes in each buffer */

    _Atomic uint64_t writer_id; /* 0 until the writer runs */

    tp_mutex lock;
    tp_condition filled;  /* the writer waits here */
    tp_condition written; /* flushes and the close wait here */

    /* Under the lock. */
    buffer fill;
    tp__log_noisy_list noisy;
    uint64_t appended_lines; /* since the log was opened */
    uint64_t done_lines;     /* of those, the lines that the writer has written or lost */
    bool urgent;             /* the writer must not wait for more lines */
    bool closing;
    bool ended;     /* the writer does not access `shared` any more */
    bool abandoned; /* set by the close: the writer's remaining lines are counted as failed */

    /* The writer's, except `next` in the output, which is under the lock. */
    buffer out;
    tp__log_output output;
    uint64_t delivered; /* lines of this round that the output accepted */
    uint64_t lost;      /* lines of this round that it did not accept */
} shared;

static struct {
    _Atomic uint64_t lines;
    _Atomic uint64_t suppressed;
    _Atomic uint64_t dropped;
    _Atomic uint64_t failed;
} counts;

static uint32_t second_of_now(void) {
    return (uint32_t)(tp_clock_ms() / 1000);
}

/* ---- logging --------------------------------------------------------------------------------- */

static void log_append(const tp__log_line *line) {
    TP_ASSERT_LOCKED(&shared.lock);
    buffer *fill = &shared.fill;
    assert(fill->used <= shared.capacity && line->size > 0);
    if (shared.capacity - fill->used < line->size) {
        fill->dropped++;
        tp__count_shared(&counts.dropped, 1);
        return;
    }
    bool was_empty = fill->used == 0;
    bool was_half = fill->used >= shared.capacity / 2;
    memcpy(fill->bytes + fill->used, line->bytes, line->size);
    fill->used += line->size;
    fill->lines++;
    shared.appended_lines++;
    if (was_empty || was_half != (fill->used >= shared.capacity / 2)) {
        tp_condition_wake_all(&shared.filled);
    }
}

static void log_print_suppressed(
    tp__log_line *line, tp_log_level level, uint32_t suppressed, const char *sample) {
    tp__log_line_print(line, level, "%lu more lines suppressed in one second: %s",
        (unsigned long)suppressed, sample);
}

/* Appends the number of suppressed lines of a site, before its next line `now`. */
static void log_append_suppressed(
    const tp_log_site *site, tp_log_level level, uint32_t suppressed, const tp__log_line *now) {
    TP_ASSERT_LOCKED(&shared.lock);
    assert(suppressed > 0);
    tp__log_noisy entry = {.level = level};
    if (!tp__log_noisy_take(&shared.noisy, site, &entry)) {
        tp__log_line_copy_text(now, entry.sample, sizeof entry.sample);
    }
    tp__log_line line;
    log_print_suppressed(&line, entry.level, suppressed, entry.sample);
    log_append(&line);
}

static void log_write_directly(const char *bytes, size_t size) {
    if (!tp__log_output_write_stderr(bytes, size)) {
        tp__count_shared(&counts.failed, 1);
    }
}

/* Writes to standard error, for a log that is not open and for its sink. */
static void log_say_directly(tp_log_level level, uint32_t suppressed, const tp__log_line *line) {
    if (suppressed > 0) {
        char sample[TP__LOG_SAMPLE];
        tp__log_line report;
        tp__log_line_copy_text(line, sample, sizeof sample);
        log_print_suppressed(&report, level, suppressed, sample);
        log_write_directly(report.bytes, report.size);
    }
    log_write_directly(line->bytes, line->size);
}

static bool log_is_open_here(void) {
    return atomic_load_explicit(&state, memory_order_acquire) == OPEN &&
           atomic_load_explicit(&shared.writer_id, memory_order_relaxed) != tp_thread_id();
}

void tp_log_say(tp_log_site *site, tp_log_level level, const char *format, ...) {
    if (level < tp_log_get_level() || level >= TP_LOG_OFF) {
        return;
    }
    bool open = log_is_open_here();
    if (!open && level < TP_LOG_WARNING) {
        return;
    }
    uint32_t second = second_of_now();
    uint32_t suppressed;
    tp__log_verdict verdict = tp__log_site_check(site, &second, &suppressed);
    if (verdict != TP__LOG_PASS) {
        tp__count_shared(&counts.suppressed, 1);
        if (verdict == TP__LOG_SUPPRESS || !open) {
            return;
        }
    }

    tp__log_line line;
    va_list arguments;
    va_start(arguments, format);
    tp__log_line_format(&line, level, format, arguments);
    va_end(arguments);

    if (!open) {
        log_say_directly(level, suppressed, &line);
        return;
    }
    tp_mutex_lock(&shared.lock);
    if (verdict == TP__LOG_SUPPRESS_FIRST) {
        tp__log_noisy_add(&shared.noisy, site, second, level, &line);
        tp_condition_wake_all(&shared.filled); /* the writer must wake when the second is over */
    } else {
        if (suppressed > 0) {
            log_append_suppressed(site, level, suppressed, &line);
        }
        log_append(&line);
        if (level >= TP_LOG_ERROR && !shared.urgent) {
            shared.urgent = true;
            tp_condition_wake_all(&shared.filled);
        }
    }
    tp_mutex_unlock(&shared.lock);
}

/* ---- writing: the log's thread --------------------------------------------------------------- */

/* Writes lines to the output and counts those accepted and lost. */
static void log_deliver(const char *bytes, size_t size, uint64_t lines) {
    uint64_t lost = tp__log_output_write(&shared.output, bytes, size, lines);
    assert(lost <= lines);
    shared.delivered += lines - lost;
    shared.lost += lost;
}

static void log_deliver_count(uint64_t lines, const char *what) {
    tp__log_line line;
    tp__log_line_print(&line, TP_LOG_WARNING, "%llu log lines %s", (unsigned long long)lines, what);
    log_deliver(line.bytes, line.size, 1);
}

static void log_write_out(void) {
    buffer *out = &shared.out;
    assert(out->used <= shared.capacity && (out->used > 0) == (out->lines > 0));
    shared.delivered = 0;
    shared.lost = 0;
    uint64_t unwritten = shared.output.unwritten;
    if (out->used > 0) {
        log_deliver(out->bytes, out->used, out->lines);
    }
    if (out->dropped > 0) {
        log_deliver_count(out->dropped, "dropped: buffer full");
    }
    if (unwritten > 0 && shared.output.unwritten == unwritten) {
        log_deliver_count(unwritten, "not written");
        if (shared.output.unwritten == unwritten) {
            shared.output.unwritten = 0; /* the output accepts lines again: it accepted this one */
        }
    }
}

/* The lock is released while it waits. */
static void log_wait_for_lines(void) {
    TP_ASSERT_LOCKED(&shared.lock);
    while (!shared.closing && !shared.urgent && shared.fill.used == 0 &&
           !tp__log_noisy_has_before(&shared.noisy, second_of_now())) {
        int left_of_second = 1000 - (int)(tp_clock_ms() % 1000);
        (void)tp_condition_wait(
            &shared.filled, &shared.lock, shared.noisy.count > 0 ? left_of_second : -1);
    }
    uint64_t until = tp_clock_ms() + BATCH_MS;
    while (!shared.closing && !shared.urgent && shared.fill.used < shared.capacity / 2) {
        uint64_t now = tp_clock_ms();
        if (now >= until) {
            break;
        }
        (void)tp_condition_wait(&shared.filled, &shared.lock, (int)(until - now));
    }
    shared.urgent = false;
}

/* Appends the numbers of suppressed lines for sites whose second is over; for all sites when the
 * log closes. */
static void log_append_noisy(void) {
    TP_ASSERT_LOCKED(&shared.lock);
    uint32_t before = shared.closing ? UINT32_MAX : second_of_now();
    tp__log_noisy entry;
    while (tp__log_noisy_take_before(&shared.noisy, before, &entry)) {
        uint32_t suppressed = tp__log_site_take_suppressed(entry.site, entry.second);
        if (suppressed > 0) {
            tp__log_line line;
            log_print_suppressed(&line, entry.level, suppressed, entry.sample);
            log_append(&line);
        }
    }
    TP__VERIFY(tp__log_noisy_check(&shared.noisy));
}

static void log_swap_buffers(void) {
    TP_ASSERT_LOCKED(&shared.lock);
    buffer full = shared.fill;
    shared.fill = shared.out;
    shared.fill.used = 0;
    shared.fill.lines = 0;
    shared.fill.dropped = 0;
    shared.out = full;
}

/* Writes what has been collected; the lock is released meanwhile. False if it was the last
 * round. */
static bool log_write_round(void) {
    TP_ASSERT_LOCKED(&shared.lock);
    log_wait_for_lines();
    log_append_noisy();
    log_swap_buffers();
    bool last = shared.closing; /* after it is set no thread appends any more */
    tp_stream before;
    bool reopened = tp__log_output_take_next(&shared.output, &before);
    tp_mutex_unlock(&shared.lock);
    if (reopened) {
        tp__log_output_close_file(&before);
    }
    log_write_out();
    tp_mutex_lock(&shared.lock);
    if (!shared.abandoned) {
        tp__count_shared(&counts.lines, shared.delivered);
        tp__count_shared(&counts.failed, shared.lost);
    }
    shared.done_lines += shared.out.lines;
    assert(shared.done_lines + shared.fill.lines == shared.appended_lines);
    tp_condition_wake_all(&shared.written);
    return !last;
}

static void log_run_writer(void *unused) {
    (void)unused;
    atomic_store_explicit(&shared.writer_id, tp_thread_id(), memory_order_relaxed);
    tp_mutex_lock(&shared.lock);
    while (log_write_round()) {
    }
    shared.ended = true;
    tp_condition_wake_all(&shared.written);
    tp_mutex_unlock(&shared.lock);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static bool log_options_are_valid(const tp_log_options *options) {
    return options != NULL && options->size >= sizeof *options && options->level >= TP_LOG_DEBUG &&
           options->level <= TP_LOG_OFF && !(options->file != NULL && options->sink != NULL) &&
           (options->buffer == 0 ||
               (options->buffer >= MIN_BUFFER && options->buffer <= MAX_BUFFER));
}

static tp_err log_allocate_buffers(size_t capacity) {
    assert(capacity >= TP__LOG_LINE);
    shared.capacity = capacity;
    shared.fill = (buffer){.bytes = tp__allocate(capacity)};
    shared.out = (buffer){.bytes = tp__allocate(capacity)};
    return shared.fill.bytes != NULL && shared.out.bytes != NULL ? TP_OK : TP_ERR_NO_MEMORY;
}

static void log_free_buffers(void) {
    tp__free(shared.fill.bytes);
    tp__free(shared.out.bytes);
}

static tp_err log_start_writer(void) {
    tp_mutex_init(&shared.lock);
    tp_condition_init(&shared.filled);
    tp_condition_init(&shared.written);
    tp_err error = tp_thread_start(&shared.writer, "log", log_run_writer, NULL);
    if (error) {
        tp_condition_destroy(&shared.written);
        tp_condition_destroy(&shared.filled);
        tp_mutex_destroy(&shared.lock);
    }
    return error;
}

static tp_err log_open_parts(const tp_log_options *options) {
    memset(&shared, 0, sizeof shared);
    tp_err error = tp__log_output_open(&shared.output, options);
    if (error) {
        return error;
    }
    error = log_allocate_buffers((options->buffer == 0 ? DEFAULT_BUFFER : options->buffer) / 2);
    if (!error) {
        error = log_start_writer();
    }
    if (error) {
        log_free_buffers();
        tp__log_output_close(&shared.output);
    }
    return error;
}

tp_err tp_log_open(const tp_log_options *options) {
    if (!log_options_are_valid(options)) {
        return TP_ERR_INVALID;
    }
    int closed = CLOSED;
    if (!atomic_compare_exchange_strong(&state, &closed, OPENING)) {
        return TP_ERR_STATE;
    }
    tp_err error = log_open_parts(options);
    if (!error) {
        tp_log_set_level(options->level);
    }
    atomic_store_explicit(&state, error ? CLOSED : OPEN, memory_order_release);
    return error;
}

static bool log_wait_for_writer(uint64_t patience_ms) {
    TP_ASSERT_LOCKED(&shared.lock);
    uint64_t until = tp_clock_ms() + patience_ms;
    for (uint64_t now = tp_clock_ms(); !shared.ended && now < until; now = tp_clock_ms()) {
        (void)tp_condition_wait(&shared.written, &shared.lock, (int)(until - now));
    }
    return shared.ended;
}

/* Ends the writer. False: it hangs in a system call, and is abandoned. For a sink it waits without
 * limit, because the application frees the sink's context afterwards. The lock is released
 * meanwhile. */
static bool log_end_writer(void) {
    TP_ASSERT_LOCKED(&shared.lock);
    shared.closing = true;
    tp_condition_wake_all(&shared.filled);
    while (shared.output.sink && !shared.ended) {
        (void)log_wait_for_writer(CLOSE_MS);
    }
    if (log_wait_for_writer(CLOSE_MS)) {
        return true;
    }
    tp_stream_cancel(&shared.output.stream, &shared.writer);
    if (log_wait_for_writer(CANCEL_MS)) {
        return true;
    }
    shared.abandoned = true;
    assert(shared.done_lines <= shared.appended_lines);
    tp__count_shared(&counts.failed, shared.appended_lines - shared.done_lines);
    return false;
}

void tp_log_close(void) {
    if (atomic_load_explicit(&state, memory_order_acquire) != OPEN) {
        return;
    }
    tp_mutex_lock(&shared.lock);
    bool ended = log_end_writer();
    tp_mutex_unlock(&shared.lock);
    if (ended) {
        tp_thread_join(&shared.writer);
        tp_condition_destroy(&shared.written);
        tp_condition_destroy(&shared.filled);
        tp_mutex_destroy(&shared.lock);
        log_free_buffers();
        tp__log_output_close(&shared.output);
    }
    tp_log_set_level(TP_LOG_WARNING);
    atomic_store_explicit(&state, ended ? CLOSED : ABANDONED, memory_order_release);
}

tp_err tp_log_reopen(void) {
    if (!log_is_open_here()) {
        return TP_ERR_STATE;
    }
    if (!shared.output.path) {
        return TP_OK;
    }
    tp_stream file;
    tp_err error = tp_stream_open(&file, shared.output.path, false);
    if (error) {
        return error;
    }
    tp_mutex_lock(&shared.lock);
    tp_stream unused = shared.output.next;
    bool replaced = shared.output.has_next;
    shared.output.next = file;
    shared.output.has_next = true;
    shared.urgent = true;
    tp_condition_wake_all(&shared.filled);
    tp_mutex_unlock(&shared.lock);
    if (replaced) {
        tp__log_output_close_file(&unused);
    }
    return TP_OK;
}

void tp_log_flush(void) {
    if (!log_is_open_here()) {
        return;
    }
    tp_mutex_lock(&shared.lock);
    uint64_t until = shared.appended_lines;
    if (shared.done_lines < until) {
        shared.urgent = true;
        tp_condition_wake_all(&shared.filled);
    }
    while (shared.done_lines < until) {
        (void)tp_condition_wait(&shared.written, &shared.lock, -1);
    }
    tp_mutex_unlock(&shared.lock);
}

/* ---- level and counts ------------------------------------------------------------------------ */

tp_log_level tp_log_get_level(void) {
    return (tp_log_level)atomic_load_explicit(&threshold, memory_order_relaxed);
}

void tp_log_set_level(tp_log_level level) {
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void tp_log_get_stats(tp_log_stats *stats) {
    size_t size = stats->size;
    tp_log_stats now = {.size = size,
        .lines = tp__count_read(&counts.lines),
        .suppressed = tp__count_read(&counts.suppressed),
        .dropped = tp__count_read(&counts.dropped),
        .failed = tp__count_read(&counts.failed)};
    memcpy(stats, &now, size < sizeof now ? size : sizeof now);
}
