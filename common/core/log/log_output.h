/*
 * Where the log's lines go: a file, standard error, or the user's sink.
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
    void (*sink)(void *context, const char *lines, size_t n); /* NULL: the stream */
    void *context;
    char *path; /* of the file, a copy; NULL: standard error */
    tp_stream stream;
    tp_stream next; /* if has_next: the reopened file, which the next lines go to */
    bool has_next;
    uint64_t unwritten; /* lines lost since the stream last took something */
} tp__log_output;

/* Opens what the options name, which are valid. TP_ERR_NO_FILE, TP_ERR_NO_MEMORY. */
tp_err tp__log_output_open(tp__log_output *output, const tp_log_options *options);
void tp__log_output_close(tp__log_output *output);
void tp__log_output_close_file(tp_stream *file);

/* Makes the reopened file the current one. False: there is none. True: the caller closes `before`,
 * the file that was current. */
bool tp__log_output_take_next(tp__log_output *output, tp_stream *before);

/* Hands lines over, waiting as long as it takes unless it is cancelled. Returns how many of `lines`
 * were lost. */
uint64_t tp__log_output_write(
    tp__log_output *output, const char *bytes, size_t size, uint64_t lines);

/* Straight to standard error, which waits for a reader no longer than some milliseconds. False if
 * the lines are lost. Any thread, without an output. */
bool tp__log_output_say(const char *bytes, size_t size);

#endif
