/*
 * The configuration's lines. One thread, at start; the text and all memory are the caller's,
 * nothing is allocated. The text is hostile until proven otherwise: every copy has its bound.
 */
#include "core/config/config.h"

#include <string.h>

#include "core/config/config_report.h"

typedef struct reader {
    const tp__setting *table;
    size_t count;
    const char *name; /* of the text, for messages */
    void *target;
    unsigned line;                      /* the one being read, from 1 */
    unsigned given[TP__SETTINGS_MAX];   /* the line that gave a setting first, or 0 */
    char text[TP__CONFIG_MAX_LINE + 1]; /* the line, cut up in place */
    tp__report report;
} reader;

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *text) {
    while (is_blank(*text)) {
        text++;
    }
    size_t length = strlen(text);
    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    text[length] = '\0';
    return text;
}

/* A '#' begins a comment where a word could begin, so that it may stand inside one. */
static void cut_comment(char *text) {
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '#' && (at == text || is_blank(at[-1]))) {
            *at = '\0';
            return;
        }
    }
}

static void report_unknown(reader *in, const char *key) {
    char quoted[TP__QUOTED_TEXT];
    const tp__setting *near = tp__setting_nearest(in->table, in->count, key);
    if (near != NULL) {
        tp__report_error(&in->report, "%s:%u: unknown key \"%s\": did you mean \"%s\"?", in->name,
            in->line, tp__quoted(key, quoted), near->name);
    } else {
        tp__report_error(&in->report,
            "%s:%u: unknown key \"%s\": expected one of the example configuration", in->name,
            in->line, tp__quoted(key, quoted));
    }
}

static void take_setting(reader *in, const char *key, const char *value) {
    const tp__setting *setting = tp__setting_find(in->table, in->count, key);
    if (setting == NULL) {
        report_unknown(in, key);
        return;
    }
    unsigned *given = &in->given[setting - in->table];
    if (*given == 0) {
        *given = in->line;
        tp__setting_clear(setting, in->target);
    } else if (setting->kind != TP__SETTING_NETWORKS) {
        tp__report_error(&in->report, "%s:%u: %s is given again: expected once, and line %u has it",
            in->name, in->line, setting->name, *given);
        return;
    }
    if (tp__setting_read(setting, value, in->target) != TP_OK) {
        char quoted[TP__QUOTED_TEXT];
        char expectation[TP__EXPECTATION_TEXT];
        tp__report_error(&in->report, "%s:%u: %s cannot be \"%s\": expected %s", in->name, in->line,
            setting->name, tp__quoted(value, quoted),
            tp__setting_expectation(setting, expectation));
    }
}

static void take_line(reader *in) {
    cut_comment(in->text);
    char *key = trim(in->text);
    if (*key == '\0') {
        return;
    }
    char *equals = strchr(key, '=');
    if (equals == NULL || equals == key) {
        char quoted[TP__QUOTED_TEXT];
        tp__report_error(&in->report, "%s:%u: \"%s\" sets nothing: expected key = value", in->name,
            in->line, tp__quoted(key, quoted));
        return;
    }
    *equals = '\0';
    take_setting(in, trim(key), trim(equals + 1));
}

/* Copies a line out of the text, if it is one that can be read. */
static bool copy_line(reader *in, const char *text, size_t size) {
    if (size > 0 && text[size - 1] == '\r') {
        size--;
    }
    if (size > TP__CONFIG_MAX_LINE) {
        tp__report_error(&in->report, "%s:%u: the line is too long: expected at most %u bytes",
            in->name, in->line, TP__CONFIG_MAX_LINE);
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            tp__report_error(&in->report,
                "%s:%u: byte %u of the line is 0x%02x: expected text without control characters",
                in->name, in->line, (unsigned)i + 1, c);
            return false;
        }
    }
    memcpy(in->text, text, size);
    in->text[size] = '\0';
    return true;
}

static void report_missing(reader *in) {
    for (size_t i = 0; i < in->count; i++) {
        if (in->table[i].standard == NULL && in->given[i] == 0) {
            char expectation[TP__EXPECTATION_TEXT];
            tp__report_error(&in->report, "%s:%u: %s is missing: expected %s", in->name, in->line,
                in->table[i].name, tp__setting_expectation(&in->table[i], expectation));
        }
    }
}

tp_err tp__config_parse(const tp__setting *table, size_t count, const char *name, const char *text,
    size_t size, void *target, char *report, size_t room) {
    reader in = {.table = table,
        .count = count,
        .name = name,
        .target = target,
        .report = tp__report_begin(report, room)};
    tp_err error = tp__settings_reset(table, count, target);
    if (error) {
        return error;
    }
    if (size > TP__CONFIG_MAX_FILE) {
        tp__report_error(&in.report, "%s:1: the text is too long: expected at most %u bytes", name,
            TP__CONFIG_MAX_FILE);
        return tp__report_end(&in.report);
    }
    /* Some editors begin a text with a byte order mark. */
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        size -= 3;
    }
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t length = end == NULL ? size : (size_t)(end - text);
        in.line++;
        if (copy_line(&in, text, length)) {
            take_line(&in);
        }
        size_t taken = length + (end != NULL);
        text += taken;
        size -= taken;
    }
    in.line += in.line == 0; /* an empty text has one line, too, to be named */
    report_missing(&in);
    return tp__report_end(&in.report);
}

/* ---- the example ----------------------------------------------------------------------------- */

static void print_comment(const char *text, FILE *file) {
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        (void)fprintf(file, "# %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

void tp__config_print_example(const tp__setting *table, size_t count, FILE *file) {
    for (size_t i = 0; i < count; i++) {
        const tp__setting *setting = &table[i];
        char expectation[TP__EXPECTATION_TEXT];
        (void)fprintf(file, i == 0 ? "" : "\n");
        print_comment(setting->help, file);
        (void)fprintf(file, "# Takes %s.\n", tp__setting_expectation(setting, expectation));
        if (setting->standard == NULL) {
            (void)fprintf(file, "%s = %s\n", setting->name, setting->example);
        } else {
            (void)fprintf(file, "#%s = %s\n", setting->name, setting->standard);
        }
    }
}
