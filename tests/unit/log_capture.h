/* Captures the log in memory, for tests of what is logged. One at a time. */
#ifndef TWINPORT_TESTS_LOG_CAPTURE_H
#define TWINPORT_TESTS_LOG_CAPTURE_H

#include "check.h"
#include "twinport/log.h"

static char captured_log[16384];
static size_t captured_size;

static void capture_lines(void *context, const char *lines, size_t size) {
    (void)context;
    size_t space_left = sizeof captured_log - 1 - captured_size;
    size_t taken = size < space_left ? size : space_left;
    memcpy(captured_log + captured_size, lines, taken);
    captured_size += taken;
    captured_log[captured_size] = '\0';
}

/* Opens the log. What was captured before is discarded. */
static void capture_log(void) {
    const tp_log_options options = {
        .size = sizeof options, .level = TP_LOG_WARNING, .sink = capture_lines};
    captured_size = 0;
    captured_log[0] = '\0';
    REQUIRE(tp_log_open(&options) == TP_OK);
}

/* No thread may log at the same time. */
static void end_log(void) {
    tp_log_close();
}

static bool was_logged(const char *text) {
    return strstr(captured_log, text) != NULL;
}

#endif
