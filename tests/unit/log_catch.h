/*
 * The process's log, caught: what it has said so far can be asked for while it is open. Its thread
 * writes the text under the mutex; what does not fit any more is a failure.
 */
#ifndef TWINPORT_TESTS_LOG_CATCH_H
#define TWINPORT_TESTS_LOG_CATCH_H

#include "check.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"

#define LOG_CATCH_ROOM        (256u * 1024)
#define LOG_CATCH_PATIENCE_MS 60000u

static struct {
    tp_mutex mutex;
    size_t size;
    char text[LOG_CATCH_ROOM]; /* whole lines, and a 0 behind them */
} log_catch;

static inline void log_catch_lines(void *context, const char *lines, size_t n) {
    (void)context;
    tp_mutex_lock(&log_catch.mutex);
    bool fits = log_catch.size + n < LOG_CATCH_ROOM;
    CHECK(fits);
    if (fits) {
        memcpy(log_catch.text + log_catch.size, lines, n);
        log_catch.size += n;
        log_catch.text[log_catch.size] = '\0';
    }
    tp_mutex_unlock(&log_catch.mutex);
}

static inline void log_catch_open(void) {
    const tp_log_options options = {
        .size = sizeof options, .level = TP_LOG_INFO, .sink = log_catch_lines};
    tp_mutex_init(&log_catch.mutex);
    log_catch.size = 0;
    log_catch.text[0] = '\0';
    REQUIRE(tp_log_open(&options) == TP_OK);
}

static inline void log_catch_close(void) {
    tp_log_close();
    tp_mutex_destroy(&log_catch.mutex);
}

/* What this line, of which `end` is behind the last byte, counts for: 1, or as many as it says were
 * held back. 0: it has not all three parts (NULL: any). */
static inline uint64_t log_catch_weight(
    const char *line, const char *end, const char *level, const char *a, const char *b) {
    static const char held[] = " more in one second, held back: ";
    char copy[1024];
    size_t size = (size_t)(end - line) < sizeof copy ? (size_t)(end - line) : sizeof copy - 1;
    memcpy(copy, line, size);
    copy[size] = '\0';
    if ((level && !strstr(copy, level)) || (a && !strstr(copy, a)) || (b && !strstr(copy, b))) {
        return 0;
    }
    const char *more = strstr(copy, held);
    if (!more) {
        return 1;
    }
    while (more > copy && more[-1] >= '0' && more[-1] <= '9') {
        more--;
    }
    return strtoull(more, NULL, 10);
}

/* How often something with these parts was said, what was held back included. */
static inline uint64_t log_caught(const char *level, const char *a, const char *b) {
    uint64_t count = 0;
    tp_log_flush();
    tp_mutex_lock(&log_catch.mutex);
    for (const char *line = log_catch.text; *line != '\0';) {
        const char *end = strchr(line, '\n');
        end = end ? end : line + strlen(line);
        count += log_catch_weight(line, end, level, a, b);
        line = *end == '\n' ? end + 1 : end;
    }
    tp_mutex_unlock(&log_catch.mutex);
    return count;
}

/* Until it was said so often: what is held back is said when its second is over. */
static inline bool log_catch_await(
    const char *level, const char *a, const char *b, uint64_t count) {
    uint64_t deadline = tp_clock_ms() + LOG_CATCH_PATIENCE_MS;
    while (log_caught(level, a, b) < count && tp_clock_ms() < deadline) {
        tp_thread_yield();
    }
    uint64_t said = log_caught(level, a, b);
    if (said != count) {
        printf("\"%s\" \"%s\" \"%s\": %u times and not %u in\n%s", level, a ? a : "", b ? b : "",
            (unsigned)said, (unsigned)count, log_catch.text);
    }
    return said == count;
}

#endif
