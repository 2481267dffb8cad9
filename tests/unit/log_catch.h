/*
 * The process's log, readable while it is open. The log's thread appends the text under the mutex;
 * text that exceeds the buffer is a failure.
 */
#ifndef TWINPORT_TESTS_LOG_CATCH_H
#define TWINPORT_TESTS_LOG_CATCH_H

#include "check.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"

#define LOG_CATCH_SIZE        (256u * 1024)
#define LOG_CATCH_PATIENCE_MS 60000u
#define LOG_CATCH_LEVEL       (sizeof "2026-11-21 12:00:00.000 " - 1) /* column of a line's level */

static struct {
    tp_mutex mutex;
    size_t size;
    char text[LOG_CATCH_SIZE]; /* whole lines, and a terminating zero */
} log_catch;

static inline void log_catch_lines(void *context, const char *lines, size_t n) {
    (void)context;
    tp_mutex_lock(&log_catch.mutex);
    bool fits = log_catch.size + n < LOG_CATCH_SIZE;
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

/* How many messages the line stands for: 1, or the number that it reports as suppressed. 0 if it
 * has another level, or one of the two texts (NULL: any) is missing. `end` is behind its last
 * byte. */
static inline uint64_t log_catch_weight(
    const char *line, const char *end, const char *level, const char *a, const char *b) {
    static const char held[] = " more lines suppressed in one second: ";
    char copy[1024];
    size_t size = (size_t)(end - line) < sizeof copy ? (size_t)(end - line) : sizeof copy - 1;
    memcpy(copy, line, size);
    copy[size] = '\0';
    bool on_level = !level || (size > LOG_CATCH_LEVEL &&
                                  strncmp(copy + LOG_CATCH_LEVEL, level, strlen(level)) == 0);
    if (!on_level || (a && !strstr(copy, a)) || (b && !strstr(copy, b))) {
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

/* How often a message with these texts was logged, held-back ones included. */
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

/* Waits until it was logged so often. Held-back messages are reported when their second is over. */
static inline bool log_catch_await(
    const char *level, const char *a, const char *b, uint64_t count) {
    uint64_t deadline = tp_clock_ms() + LOG_CATCH_PATIENCE_MS;
    while (log_caught(level, a, b) < count && tp_clock_ms() < deadline) {
        tp_thread_yield();
    }
    uint64_t said = log_caught(level, a, b);
    if (said != count) {
        printf("\"%s\" \"%s\" \"%s\": logged %u times, expected %u, in\n%s", level, a ? a : "",
            b ? b : "", (unsigned)said, (unsigned)count, log_catch.text);
    }
    return said == count;
}

#endif
