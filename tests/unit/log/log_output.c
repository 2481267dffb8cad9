/*
 * The log's output: a file that is opened again after it was renamed, and a write that hangs.
 * tp_stream_write() is the test's (wrapped.h).
 */
#include "check.h"
#include "os/process.h"
#include "os/stream.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wrapped.h"

/* ---- the writes of the log ------------------------------------------------------------------- */

static tp_mutex mutex;
static tp_condition changed;
static bool stuck; /* a write does not return, cancelled or not */
static bool inside;

WRAPPED(tp_err, tp_stream_write, tp_stream *stream, const void *bytes, size_t size, int patience_ms,
    size_t *written);

tp_err __wrap_tp_stream_write(
    tp_stream *stream, const void *bytes, size_t size, int patience_ms, size_t *written) {
    tp_mutex_lock(&mutex);
    inside = stuck;
    tp_condition_wake_all(&changed);
    while (stuck) {
        (void)tp_condition_wait(&changed, &mutex, -1);
    }
    tp_mutex_unlock(&mutex);
    return __real_tp_stream_write(stream, bytes, size, patience_ms, written);
}

/* ---- reopening ------------------------------------------------------------------------------- */

static char name[64];
static char old_name[80];
static char text[4096];

static void name_files(void) {
    (void)snprintf(name, sizeof name, "log-output-%" PRIu64 ".txt", tp_process_id());
    (void)snprintf(old_name, sizeof old_name, "%s.1", name);
}

static const char *read_and_remove(const char *path) {
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    CHECK_EQ(remove(path), 0);
    return text;
}

static void open_log(const char *file) {
    tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO, .file = file};
    REQUIRE(tp_log_open(&options) == TP_OK);
}

static void a_renamed_file_is_opened_again(void) {
    name_files();
    open_log(name);
    TP_LOG(TP_LOG_INFO, "before");
    tp_log_flush();
    REQUIRE(rename(name, old_name) == 0);
    TP_LOG(TP_LOG_INFO, "meanwhile");
    tp_log_flush();
    CHECK_EQ(tp_log_reopen(), TP_OK);
    CHECK_EQ(tp_log_reopen(), TP_OK); /* as when two threads call it */
    TP_LOG(TP_LOG_INFO, "after");
    tp_log_close();
    read_and_remove(old_name);
    CHECK(strstr(text, "before\n") && strstr(text, "meanwhile\n") && !strstr(text, "after\n"));
    read_and_remove(name);
    CHECK(strstr(text, "after\n") && !strstr(text, "before\n") && !strstr(text, "meanwhile\n"));
}

static void a_log_closed_after_reopen_leaves_the_new_file(void) {
    name_files();
    open_log(name);
    REQUIRE(rename(name, old_name) == 0);
    CHECK_EQ(tp_log_reopen(), TP_OK);
    tp_log_close();
    CHECK_STR(read_and_remove(name), "");
    CHECK_STR(read_and_remove(old_name), "");
}

static tp_err in_sink;

static void reopen_inside(void *context, const char *lines, size_t size) {
    (void)context;
    (void)lines;
    (void)size;
    in_sink = tp_log_reopen();
}

static void reopen_without_a_file_does_nothing(void) {
    CHECK_EQ(tp_log_reopen(), TP_ERR_STATE);
    open_log(NULL);
    CHECK_EQ(tp_log_reopen(), TP_OK);
    tp_log_close();
    tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO, .sink = reopen_inside};
    REQUIRE(tp_log_open(&options) == TP_OK);
    in_sink = TP_OK;
    CHECK_EQ(tp_log_reopen(), TP_OK);
    TP_LOG(TP_LOG_INFO, "to the sink");
    tp_log_close();
    CHECK_EQ(in_sink, TP_ERR_STATE);
}

/* ---- an output that hangs -------------------------------------------------------------------- */

/* The last case: afterwards the log of this process cannot be opened again. */
static void a_write_that_hangs_does_not_block_the_close(void) {
    tp_log_stats before = {.size = sizeof before};
    tp_log_stats after = {.size = sizeof after};
    name_files();
    tp_log_get_stats(&before);
    open_log(name);
    tp_mutex_lock(&mutex);
    stuck = true;
    tp_mutex_unlock(&mutex);
    TP_LOG(TP_LOG_ERROR, "in the writer's hands");
    tp_mutex_lock(&mutex);
    while (!inside) {
        (void)tp_condition_wait(&changed, &mutex, -1);
    }
    tp_mutex_unlock(&mutex);
    TP_LOG(TP_LOG_ERROR, "behind it");
    tp_log_close();
    tp_log_get_stats(&after);
    CHECK_EQ(after.lines, before.lines);
    CHECK_EQ(after.failed - before.failed, 2);
    tp_log_options options = {.size = sizeof options, .level = TP_LOG_INFO};
    CHECK_EQ(tp_log_open(&options), TP_ERR_STATE);
    (void)remove(name); /* on Windows the file stays open until the process ends */
}

int main(int argc, char **argv) {
    static const struct check_case cases[] = {CASE(a_renamed_file_is_opened_again),
        CASE(a_log_closed_after_reopen_leaves_the_new_file),
        CASE(reopen_without_a_file_does_nothing),
        CASE(a_write_that_hangs_does_not_block_the_close)};
    tp_mutex_init(&mutex);
    tp_condition_init(&changed);
    return check_run(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
