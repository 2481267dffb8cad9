/*
 * The process's log: threads put lines into memory, the log's own thread writes them in batches.
 *
 * Any thread says; one thread, started by tp_log_open() and ended by tp_log_close(), writes. There
 * are two buffers: `fill`, which everybody appends to under the lock, and `out`, which is the
 * writer's alone. The writer swaps them under the lock and writes with no lock held, so whoever has
 * something to say waits at most for another's memcpy. Lines are formatted before the lock is
 * taken. None of this is on the message path.
 *
 * The rate limit of a place is log_place.c's. Places that had lines held back are on the `noisy`
 * list until their second is over; then the writer reports how many, or the place's own next line
 * does, whichever comes first.
 *
 * What the sink says itself goes to standard error: the log would feed itself otherwise.
 *
 * A close waits for the writer CLOSE_MS at most, then cancels its write. A writer that the system
 * does not let go of even then is abandoned: it keeps its memory and its output, and the log cannot
 * be opened again in this process.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/log/log_line.h"
#include "core/log/log_noisy.h"
#include "core/log/log_output.h"
#include "core/log/log_place.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"

#define BATCH_MS       50  /* how long the writer lets lines gather */
#define CLOSE_MS       700 /* what a close gives the writer for the last lines */
#define CANCEL_MS      300 /* ... and to come back once its write was cancelled */
#define DEFAULT_BUFFER (1024u * 1024u)
#define MIN_BUFFER     4096u
#define MAX_BUFFER     (64u * 1024u * 1024u)

_Static_assert(MIN_BUFFER / 2 >= TP__LOG_LINE, "the smallest buffer takes the longest line");

typedef struct buffer {
    char *bytes;
    size_t used;
    uint64_t lines;
    uint64_t dropped; /* lines that found no room behind these */
} buffer;

/* CLOSED -> OPENING -> OPEN -> CLOSED, or ABANDONED for good. OPEN is stored with release and
 * loaded with acquire: a thread that sees it sees everything in `shared` that tp_log_open()
 * prepared. */
enum { CLOSED, OPENING, OPEN, ABANDONED };
static atomic_int state = CLOSED;

static atomic_int threshold = TP_LOG_WARNING;

static struct {
    /* Constant while the writer lives. */
    tp_thread writer;
    size_t room; /* bytes in each buffer */

    _Atomic uint64_t writer_id; /* 0 until the writer runs */

    tp_mutex lock;
    tp_condition said;    /* the writer waits here */
    tp_condition written; /* flushes and the close wait here */

    /* Under the lock. */
    buffer fill;
    tp__log_noisy_list noisy;
    uint64_t said_lines; /* appended since open */
    uint64_t done_lines; /* of those, the writer is done with so many */
    bool urgent;         /* the writer is not to let lines gather */
    bool closing;
    bool ended;     /* the writer touches nothing any more */
    bool abandoned; /* by the close: the lines it still had are counted as failed already */

    /* The writer's; `next` in the output is under the lock. */
    buffer out;
    tp__log_output output;
    uint64_t delivered; /* lines of this round, and those that its output did not take */
    uint64_t lost;
} shared;

static struct {
    _Atomic uint64_t lines;
    _Atomic uint64_t suppressed;
    _Atomic uint64_t dropped;
    _Atomic uint64_t failed;
} counts;

static void count(_Atomic uint64_t *counter, uint64_t by) {
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static uint32_t second_of_now(void) {
    return (uint32_t)(tp_clock_ms() / 1000);
}

/* ---- saying ---------------------------------------------------------------------------------- */

/* Under the lock. */
static void append(const tp__log_line *line) {
    buffer *fill = &shared.fill;
    if (shared.room - fill->used < line->size) {
        fill->dropped++;
        count(&counts.dropped, 1);
        return;
    }
    bool was_empty = fill->used == 0;
    bool was_half = fill->used >= shared.room / 2;
    memcpy(fill->bytes + fill->used, line->bytes, line->size);
    fill->used += line->size;
    fill->lines++;
    shared.said_lines++;
    if (was_empty || was_half != (fill->used >= shared.room / 2)) {
        tp_condition_wake_all(&shared.said);
    }
}

static void print_held(tp__log_line *line, tp_log_level level, uint32_t held, const char *sample) {
    tp__log_line_print(
        line, level, "%lu more in one second, held back: %s", (unsigned long)held, sample);
}

/* Under the lock. Reports what was held back at a place that has now more to say. */
static void append_held(
    const tp_log_place *place, tp_log_level level, uint32_t held, const tp__log_line *now) {
    tp__log_noisy entry = {.level = level};
    if (!tp__log_noisy_take(&shared.noisy, place, &entry)) {
        tp__log_line_copy_text(now, entry.sample, sizeof entry.sample);
    }
    tp__log_line line;
    print_held(&line, entry.level, held, entry.sample);
    append(&line);
}

static void write_directly(const char *bytes, size_t size) {
    if (!tp__log_output_say(bytes, size)) {
        count(&counts.failed, 1);
    }
}

/* Before the log is open, and for its sink: straight to standard error. */
static void say_directly(tp_log_level level, uint32_t held, const tp__log_line *line) {
    if (held > 0) {
        char sample[TP__LOG_SAMPLE];
        tp__log_line report;
        tp__log_line_copy_text(line, sample, sizeof sample);
        print_held(&report, level, held, sample);
        write_directly(report.bytes, report.size);
    }
    write_directly(line->bytes, line->size);
}

static bool is_open_to_this_thread(void) {
    return atomic_load_explicit(&state, memory_order_acquire) == OPEN &&
           atomic_load_explicit(&shared.writer_id, memory_order_relaxed) != tp_thread_id();
}

void tp_log_say(tp_log_place *place, tp_log_level level, const char *format, ...) {
    if (level < tp_log_get_level() || level >= TP_LOG_OFF) {
        return;
    }
    bool open = is_open_to_this_thread();
    if (!open && level < TP_LOG_WARNING) {
        return;
    }
    uint32_t second = second_of_now();
    uint32_t held;
    tp__log_verdict verdict = tp__log_place_ask(place, &second, &held);
    if (verdict != TP__LOG_SAY) {
        count(&counts.suppressed, 1);
        if (verdict == TP__LOG_HOLD || !open) {
            return;
        }
    }

    tp__log_line line;
    va_list arguments;
    va_start(arguments, format);
    tp__log_line_format(&line, level, format, arguments);
    va_end(arguments);

    if (!open) {
        say_directly(level, held, &line);
        return;
    }
    tp_mutex_lock(&shared.lock);
    if (verdict == TP__LOG_HOLD_FIRST) {
        tp__log_noisy_add(&shared.noisy, place, second, level, &line);
        tp_condition_wake_all(&shared.said); /* the writer has a second to look after */
    } else {
        if (held > 0) {
            append_held(place, level, held, &line);
        }
        append(&line);
        if (level >= TP_LOG_ERROR && !shared.urgent) {
            shared.urgent = true;
            tp_condition_wake_all(&shared.said);
        }
    }
    tp_mutex_unlock(&shared.lock);
}

/* ---- writing: the log's thread --------------------------------------------------------------- */

/* Hands lines to the output, and counts what became of them. */
static void deliver(const char *bytes, size_t size, uint64_t lines) {
    uint64_t lost = tp__log_output_write(&shared.output, bytes, size, lines);
    shared.delivered += lines - lost;
    shared.lost += lost;
}

static void deliver_count(uint64_t lines, const char *what) {
    tp__log_line line;
    tp__log_line_print(
        &line, TP_LOG_WARNING, "%llu lines of the log %s", (unsigned long long)lines, what);
    deliver(line.bytes, line.size, 1);
}

static void write_out(void) {
    buffer *out = &shared.out;
    shared.delivered = 0;
    shared.lost = 0;
    uint64_t unwritten = shared.output.unwritten;
    if (out->used > 0) {
        deliver(out->bytes, out->used, out->lines);
    }
    if (out->dropped > 0) {
        deliver_count(out->dropped, "were dropped: its memory was full");
    }
    if (unwritten > 0 && shared.output.unwritten == unwritten) {
        deliver_count(unwritten, "could not be written");
        if (shared.output.unwritten == unwritten) {
            shared.output.unwritten = 0; /* it takes lines again, and this was one */
        }
    }
}

/* Under the lock, which is given up while it waits. */
static void wait_for_lines(void) {
    while (!shared.closing && !shared.urgent && shared.fill.used == 0 &&
           !tp__log_noisy_has_before(&shared.noisy, second_of_now())) {
        int left_of_second = 1000 - (int)(tp_clock_ms() % 1000);
        (void)tp_condition_wait(
            &shared.said, &shared.lock, shared.noisy.count > 0 ? left_of_second : -1);
    }
    uint64_t until = tp_clock_ms() + BATCH_MS;
    while (!shared.closing && !shared.urgent && shared.fill.used < shared.room / 2) {
        uint64_t now = tp_clock_ms();
        if (now >= until) {
            break;
        }
        (void)tp_condition_wait(&shared.said, &shared.lock, (int)(until - now));
    }
    shared.urgent = false;
}

/* Under the lock. Reports the places whose second is over; all of them when the log closes. */
static void append_noisy(void) {
    uint32_t before = shared.closing ? UINT32_MAX : second_of_now();
    tp__log_noisy entry;
    while (tp__log_noisy_take_before(&shared.noisy, before, &entry)) {
        uint32_t held = tp__log_place_settle(entry.place, entry.second);
        if (held > 0) {
            tp__log_line line;
            print_held(&line, entry.level, held, entry.sample);
            append(&line);
        }
    }
}

/* Under the lock. */
static void swap_buffers(void) {
    buffer full = shared.fill;
    shared.fill = shared.out;
    shared.fill.used = 0;
    shared.fill.lines = 0;
    shared.fill.dropped = 0;
    shared.out = full;
}

/* One round; false if it was the last. The lock is held before and after. */
static bool write_round(void) {
    wait_for_lines();
    append_noisy();
    swap_buffers();
    bool last = shared.closing; /* nothing is said any more once it is set */
    tp_stream before;
    bool reopened = tp__log_output_take_next(&shared.output, &before);
    tp_mutex_unlock(&shared.lock);
    if (reopened) {
        tp__log_output_close_file(&before);
    }
    write_out();
    tp_mutex_lock(&shared.lock);
    if (!shared.abandoned) {
        count(&counts.lines, shared.delivered);
        count(&counts.failed, shared.lost);
    }
    shared.done_lines += shared.out.lines;
    tp_condition_wake_all(&shared.written);
    return !last;
}

static void run_writer(void *unused) {
    (void)unused;
    atomic_store_explicit(&shared.writer_id, tp_thread_id(), memory_order_relaxed);
    tp_mutex_lock(&shared.lock);
    while (write_round()) {
    }
    shared.ended = true;
    tp_condition_wake_all(&shared.written);
    tp_mutex_unlock(&shared.lock);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static bool are_valid(const tp_log_options *options) {
    return options != NULL && options->size >= sizeof *options && options->level >= TP_LOG_DEBUG &&
           options->level <= TP_LOG_OFF && !(options->file != NULL && options->sink != NULL) &&
           (options->buffer == 0 ||
               (options->buffer >= MIN_BUFFER && options->buffer <= MAX_BUFFER));
}

static tp_err allocate_buffers(size_t room) {
    shared.room = room;
    shared.fill = (buffer){.bytes = tp__allocate(room)};
    shared.out = (buffer){.bytes = tp__allocate(room)};
    return shared.fill.bytes != NULL && shared.out.bytes != NULL ? TP_OK : TP_ERR_NO_MEMORY;
}

static void free_buffers(void) {
    tp__free(shared.fill.bytes);
    tp__free(shared.out.bytes);
}

static tp_err start_writer(void) {
    tp_mutex_init(&shared.lock);
    tp_condition_init(&shared.said);
    tp_condition_init(&shared.written);
    tp_err error = tp_thread_start(&shared.writer, "log", run_writer, NULL);
    if (error) {
        tp_condition_destroy(&shared.written);
        tp_condition_destroy(&shared.said);
        tp_mutex_destroy(&shared.lock);
    }
    return error;
}

static tp_err open_parts(const tp_log_options *options) {
    memset(&shared, 0, sizeof shared);
    tp_err error = tp__log_output_open(&shared.output, options);
    if (error) {
        return error;
    }
    error = allocate_buffers((options->buffer == 0 ? DEFAULT_BUFFER : options->buffer) / 2);
    if (!error) {
        error = start_writer();
    }
    if (error) {
        free_buffers();
        tp__log_output_close(&shared.output);
    }
    return error;
}

tp_err tp_log_open(const tp_log_options *options) {
    if (!are_valid(options)) {
        return TP_ERR_INVALID;
    }
    int closed = CLOSED;
    if (!atomic_compare_exchange_strong(&state, &closed, OPENING)) {
        return TP_ERR_STATE;
    }
    tp_err error = open_parts(options);
    if (!error) {
        tp_log_set_level(options->level);
    }
    atomic_store_explicit(&state, error ? CLOSED : OPEN, memory_order_release);
    return error;
}

/* Under the lock. */
static bool wait_for_writer(uint64_t patience_ms) {
    uint64_t until = tp_clock_ms() + patience_ms;
    for (uint64_t now = tp_clock_ms(); !shared.ended && now < until; now = tp_clock_ms()) {
        (void)tp_condition_wait(&shared.written, &shared.lock, (int)(until - now));
    }
    return shared.ended;
}

/* Under the lock. False: the writer hangs in the system, and is left to itself. A sink is the
 * user's own function with the user's own context, which the user will take away: it is waited
 * for. */
static bool end_writer(void) {
    shared.closing = true;
    tp_condition_wake_all(&shared.said);
    while (shared.output.sink && !shared.ended) {
        (void)wait_for_writer(CLOSE_MS);
    }
    if (wait_for_writer(CLOSE_MS)) {
        return true;
    }
    tp_stream_cancel(&shared.output.stream, &shared.writer);
    if (wait_for_writer(CANCEL_MS)) {
        return true;
    }
    shared.abandoned = true;
    count(&counts.failed, shared.said_lines - shared.done_lines);
    return false;
}

void tp_log_close(void) {
    if (atomic_load_explicit(&state, memory_order_acquire) != OPEN) {
        return;
    }
    tp_mutex_lock(&shared.lock);
    bool ended = end_writer();
    tp_mutex_unlock(&shared.lock);
    if (ended) {
        tp_thread_join(&shared.writer);
        tp_condition_destroy(&shared.written);
        tp_condition_destroy(&shared.said);
        tp_mutex_destroy(&shared.lock);
        free_buffers();
        tp__log_output_close(&shared.output);
    }
    tp_log_set_level(TP_LOG_WARNING);
    atomic_store_explicit(&state, ended ? CLOSED : ABANDONED, memory_order_release);
}

tp_err tp_log_reopen(void) {
    if (!is_open_to_this_thread()) {
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
    tp_condition_wake_all(&shared.said);
    tp_mutex_unlock(&shared.lock);
    if (replaced) {
        tp__log_output_close_file(&unused);
    }
    return TP_OK;
}

void tp_log_flush(void) {
    if (!is_open_to_this_thread()) {
        return;
    }
    tp_mutex_lock(&shared.lock);
    uint64_t until = shared.said_lines;
    if (shared.done_lines < until) {
        shared.urgent = true;
        tp_condition_wake_all(&shared.said);
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
    size_t room = stats->size;
    tp_log_stats now = {.size = room,
        .lines = atomic_load_explicit(&counts.lines, memory_order_relaxed),
        .suppressed = atomic_load_explicit(&counts.suppressed, memory_order_relaxed),
        .dropped = atomic_load_explicit(&counts.dropped, memory_order_relaxed),
        .failed = atomic_load_explicit(&counts.failed, memory_order_relaxed)};
    memcpy(stats, &now, room < sizeof now ? room : sizeof now);
}
