/*
 * The output of the log: a file, standard error or the user's sink.
 */
#ifndef TWINPORT_CORE_LOG_LOG_OUTPUT_H
#define TWINPORT_CORE_LOG_LOG_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/stream.h"
#include "twinport/error.h"
#include "twinport/log.h"

typedef struct tp__log_output {
    void (*sink)(void *context, const char *lines, size_t n); /* NULL: the stream is used */
    void *context;
    char *path; /* of the file, a copy; NULL: standard error */
    tp_stream stream;
    tp_stream next; /* if has_next: the reopened file, for the next lines */
    bool has_next;
    uint64_t unwritten; /* lines lost and not yet reported in the log */
} tp__log_output;

/* Opens the output of these options, which are valid. TP_ERR_NO_FILE, TP_ERR_NO_MEMORY. */
tp_err tp__log_output_open(tp__log_output *output, const tp_log_options *options);
void tp__log_output_close(tp__log_output *output);
void tp__log_output_close_file(tp_stream *file);

/* Makes the reopened file the current one. False: there is none. True: the caller closes `before`,
 * the former file. Under the log's lock. */
bool tp__log_output_take_next(tp__log_output *output, tp_stream *before);

/* Writes `lines` lines, without a time limit unless it is cancelled. Returns how many of them were
 * lost. The log's thread. */
uint64_t tp__log_output_write(
    tp__log_output *output, const char *bytes, size_t size, uint64_t lines);

/* Writes directly to standard error, for 100 ms at most. False if bytes are lost. Any thread; needs
 * no open output. */
bool tp__log_output_write_stderr(const char *bytes, size_t size);

#endif
