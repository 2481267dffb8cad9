/*
 * Lines of the log, and the names of its levels. Any thread; no state.
 */
#include "core/log/log_line.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "os/clock.h"

static const char *const level_names[] = {
    [TP_LOG_DEBUG] = "debug",
    [TP_LOG_INFO] = "info",
    [TP_LOG_WARNING] = "warning",
    [TP_LOG_ERROR] = "error",
    [TP_LOG_OFF] = "off",
};

tp_err tp_log_level_parse(const char *text, tp_log_level *level) {
    for (size_t i = 0; text != NULL && i < TP_COUNT_OF(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (tp_log_level)i;
            return TP_OK;
        }
    }
    return TP_ERR_INVALID;
}

static size_t print_head(char *bytes, tp_log_level level) {
    assert((size_t)level < TP_COUNT_OF(level_names));
    tp_clock_format(tp_clock_wall_ms(), bytes);
    size_t size = strlen(bytes);
    return size +
           (size_t)snprintf(bytes + size, TP__LOG_LINE - size, " %-7s  ", level_names[level]);
}

static void replace_control_characters(char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            text[i] = '?';
        }
    }
}

void tp__log_line_format(
    tp__log_line *line, tp_log_level level, const char *format, va_list arguments) {
    line->text = print_head(line->bytes, level);
    size_t space =
        TP__LOG_LINE - line->text; /* vsnprintf's final zero is replaced by the newline */
    int wanted = vsnprintf(line->bytes + line->text, space, format, arguments);
    size_t size = line->text + (wanted < 0 ? 0 : (size_t)wanted);
    if (wanted < 0) {
        static const char malformed[] = "(a line that could not be formatted)";
        memcpy(line->bytes + line->text, malformed, sizeof malformed);
        size = line->text + sizeof malformed - 1;
    } else if ((size_t)wanted >= space) {
        size = TP__LOG_LINE - 1;
        memcpy(line->bytes + size - 3, "...", 3);
    }
    assert(size >= line->text && size < TP__LOG_LINE);
    replace_control_characters(line->bytes + line->text, size - line->text);
    line->bytes[size] = '\n';
    line->bytes[size + 1] = '\0';
    line->size = size + 1;
}

void tp__log_line_print(tp__log_line *line, tp_log_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tp__log_line_format(line, level, format, arguments);
    va_end(arguments);
}

void tp__log_line_copy_text(const tp__log_line *line, char *text, size_t text_size) {
    assert(line->size > line->text && line->size <= TP__LOG_LINE && text_size > 0);
    size_t size = line->size - line->text - 1;
    if (size > text_size - 1) {
        size = text_size - 1;
    }
    memcpy(text, line->bytes + line->text, size);
    text[size] = '\0';
}
