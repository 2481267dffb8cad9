/*
 * The trace: numbers in memory, for races whose timing a line of text would change. One ring for
 * the process, created when the trace is first switched on and kept until the process ends, so that
 * no call needs to wait for a thread inside tp_trace(). Any thread; recent.c has the rules of the
 * ring.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/log/recent.h"
#include "os/clock.h"
#include "os/compiler.h"
#include "os/error.h"
#include "os/stream.h"
#include "os/thread.h"
#include "twinport/log.h"

enum { WORD_TIME, WORD_THREAD, WORD_EVENT, WORD_FIRST, WORD_SECOND, WORDS };

/*
 * `ring` is set once and never changed; `active` is `ring` while the trace is on and NULL while it
 * is off. Both are stored with release and loaded with acquire, so that a thread that reads the
 * pointer sees the ring initialised.
 */
static _Atomic(tp__recent *) ring;
static _Atomic(tp__recent *) active;

void tp_trace(uint32_t event, uint64_t first, uint64_t second) {
    tp__recent *recent = atomic_load_explicit(&active, memory_order_acquire);
    if (TP_LIKELY(recent == NULL)) {
        return;
    }
    uint64_t words[WORDS];
    words[WORD_TIME] = tp_clock_ns();
    words[WORD_THREAD] = tp_thread_id();
    words[WORD_EVENT] = event;
    words[WORD_FIRST] = first;
    words[WORD_SECOND] = second;
    tp__recent_put(recent, words);
}

tp_err tp_trace_enable(bool on) {
    if (!on) {
        atomic_store_explicit(&active, NULL, memory_order_relaxed);
        return TP_OK;
    }
    tp__recent *recent = atomic_load_explicit(&ring, memory_order_acquire);
    if (recent == NULL) {
        tp__recent *made = tp__recent_create(TP_TRACE_ENTRIES, WORDS);
        if (made == NULL) {
            return TP_ERR_NO_MEMORY;
        }
        if (atomic_compare_exchange_strong_explicit(
                &ring, &recent, made, memory_order_acq_rel, memory_order_acquire)) {
            recent = made;
        } else {
            tp__recent_destroy(made); /* another thread was faster; `recent` is its ring */
        }
    }
    atomic_store_explicit(&active, recent, memory_order_release);
    return TP_OK;
}

static bool read_entry(const tp__recent *recent, uint64_t number, tp_trace_entry *entry) {
    uint64_t words[WORDS];
    if (!tp__recent_read(recent, number, words)) {
        return false;
    }
    *entry = (tp_trace_entry){.time_ns = words[WORD_TIME],
        .thread = words[WORD_THREAD],
        .first = words[WORD_FIRST],
        .second = words[WORD_SECOND],
        .event = (uint32_t)words[WORD_EVENT]};
    return true;
}

/* The number of the first of the last `capacity` entries before `end`. */
static uint64_t first_of_last(uint64_t end, size_t capacity) {
    uint64_t held = end < TP_TRACE_ENTRIES ? end : TP_TRACE_ENTRIES;
    return end - (held < capacity ? held : capacity);
}

size_t tp_trace_read(tp_trace_entry *entries, size_t capacity) {
    const tp__recent *recent = atomic_load_explicit(&ring, memory_order_acquire);
    if (recent == NULL) {
        return 0;
    }
    uint64_t end = tp__recent_count(recent);
    size_t count = 0;
    for (uint64_t number = first_of_last(end, capacity); number < end; number++) {
        if (read_entry(recent, number, &entries[count])) {
            count++;
        }
    }
    return count;
}

static tp_err dump_line(tp_stream *file, const tp_trace_entry *entry) {
    char line[128]; /* five numbers of 20 digits at most */
    int size = snprintf(line, sizeof line, "%llu %llu %lu 0x%llx 0x%llx\n",
        (unsigned long long)entry->time_ns, (unsigned long long)entry->thread,
        (unsigned long)entry->event, (unsigned long long)entry->first,
        (unsigned long long)entry->second);
    assert(size > 0 && (size_t)size < sizeof line);
    return tp_stream_write(file, line, (size_t)size, -1, NULL);
}

static tp_err dump_entries(const tp__recent *recent, tp_stream *file) {
    uint64_t end = tp__recent_count(recent);
    for (uint64_t number = first_of_last(end, TP_TRACE_ENTRIES); number < end; number++) {
        tp_trace_entry entry;
        if (!read_entry(recent, number, &entry)) {
            continue;
        }
        tp_err error = dump_line(file, &entry);
        if (error) {
            return error;
        }
    }
    return TP_OK;
}

tp_err tp_trace_dump(const char *path) {
    const tp__recent *recent = atomic_load_explicit(&ring, memory_order_acquire);
    static const char head[] = "# time_ns thread event first second\n";
    tp_stream file;
    tp_err error = tp_stream_open(&file, path, true);
    if (error) {
        return error;
    }
    error = tp_stream_write(&file, head, sizeof head - 1, -1, NULL);
    if (!error && recent != NULL) {
        error = dump_entries(recent, &file);
    }
    int os_error = tp_os_error();
    tp_err closing = tp_stream_close(&file);
    if (error) {
        (void)tp_os_fail(os_error);
        return error;
    }
    return closing;
}
