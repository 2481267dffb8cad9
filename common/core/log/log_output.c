/*
 * The output of the log: a file, standard error or the user's sink.
 *
 * Only the log's thread writes and accesses `stream` and `unwritten`; `next` is under the lock of
 * log.c. Errors of the output itself go to standard error, because the log would feed itself
 * otherwise.
 */
#include "core/log/log_output.h"

#include <assert.h>
#include <string.h>

#include "core/memory/memory.h"

#define DIRECT_MS 100 /* limit for a line that a thread other than the log's writes itself */

bool tp__log_output_write_stderr(const char *bytes, size_t size) {
    tp_stream error;
    tp_stream_standard(&error, TP_STANDARD_ERROR);
    return tp_stream_write(&error, bytes, size, DIRECT_MS, NULL) == TP_OK;
}

static void report_to_stderr(const char *line) {
    (void)tp__log_output_write_stderr(line, strlen(line));
}

static char *copy_of(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = tp__allocate(size);
    if (copy) {
        memcpy(copy, text, size);
    }
    return copy;
}

tp_err tp__log_output_open(tp__log_output *output, const tp_log_options *options) {
    *output = (tp__log_output){.sink = options->sink, .context = options->context};
    if (!options->file) {
        tp_stream_standard(&output->stream, TP_STANDARD_ERROR);
        return TP_OK;
    }
    output->path = copy_of(options->file);
    if (!output->path) {
        return TP_ERR_NO_MEMORY;
    }
    tp_err error = tp_stream_open(&output->stream, output->path, false);
    if (error) {
        tp__free(output->path);
        output->path = NULL;
    }
    return error;
}

void tp__log_output_close_file(tp_stream *file) {
    if (tp_stream_close(file)) {
        report_to_stderr("twinport: closing the log file failed\n");
    }
}

void tp__log_output_close(tp__log_output *output) {
    if (output->path) {
        tp__log_output_close_file(&output->stream);
    }
    if (output->has_next) {
        tp__log_output_close_file(&output->next);
    }
    tp__free(output->path);
}

bool tp__log_output_take_next(tp__log_output *output, tp_stream *before) {
    if (!output->has_next) {
        return false;
    }
    *before = output->stream;
    output->stream = output->next;
    output->has_next = false;
    return true;
}

static uint64_t lines_in(const char *bytes, size_t size) {
    uint64_t lines = 0;
    for (size_t i = 0; i < size; i++) {
        lines += bytes[i] == '\n';
    }
    return lines;
}

uint64_t tp__log_output_write(
    tp__log_output *output, const char *bytes, size_t size, uint64_t lines) {
    if (output->sink) {
        output->sink(output->context, bytes, size);
        return 0;
    }
    size_t written = 0;
    if (tp_stream_write(&output->stream, bytes, size, -1, &written) == TP_OK) {
        return 0;
    }
    if (output->unwritten == 0 && output->path) {
        report_to_stderr("twinport: writing the log file failed\n");
    }
    assert(written <= size && lines_in(bytes, written) <= lines);
    uint64_t lost = lines - lines_in(bytes, written);
    output->unwritten += lost;
    return lost;
}
