/*
 * Parses the lines of a configuration, and prints the example. One thread, at start. All memory is
 * the caller's; nothing is allocated. The text is not trusted: every copy has a limit.
 */
#include "core/config/config.h"

#include <assert.h>
#include <string.h>

#include "core/base/text_lines.h"
#include "core/config/config_report.h"

typedef struct reader {
    const tp__setting *table;
    size_t count;
    const char *name; /* of the text, for messages */
    void *target;
    unsigned line;                      /* the line being read, from 1 */
    unsigned given[TP__SETTINGS_MAX];   /* for each setting its first line, or 0 */
    char text[TP__CONFIG_MAX_LINE + 1]; /* the line, split in place */
    tp__report report;
} reader;

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Removes blanks at both ends, in place. */
static char *trim_blanks(char *text) {
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

/* A '#' begins a comment only at the start of the line or after a blank, so that a value may
 * contain it. */
static void cut_comment(char *text) {
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '#' && (at == text || is_blank(at[-1]))) {
            *at = '\0';
            return;
        }
    }
}

static void config_report_unknown(reader *in, const char *key) {
    char quoted[TP__QUOTED_TEXT];
    const tp__setting *near = tp__setting_nearest(in->table, in->count, key);
    if (near != NULL) {
        tp__report_error(&in->report, "%s:%u: unknown key \"%s\": did you mean \"%s\"?", in->name,
            in->line, tp__quoted(key, quoted), near->name);
    } else {
        tp__report_error(&in->report, "%s:%u: unknown key \"%s\": --print-config lists all keys",
            in->name, in->line, tp__quoted(key, quoted));
    }
}

static void config_take_setting(reader *in, const char *key, const char *value) {
    const tp__setting *setting = tp__setting_find(in->table, in->count, key);
    if (setting == NULL) {
        config_report_unknown(in, key);
        return;
    }
    assert((size_t)(setting - in->table) < in->count && in->line > 0);
    unsigned *given = &in->given[setting - in->table];
    if (*given == 0) {
        *given = in->line;
        tp__setting_clear(setting, in->target);
    } else if (setting->kind != TP__SETTING_NETWORKS) {
        tp__report_error(&in->report, "%s:%u: %s is set twice: first in line %u", in->name,
            in->line, setting->name, *given);
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

static void config_take_line(reader *in) {
    cut_comment(in->text);
    char *key = trim_blanks(in->text);
    if (*key == '\0') {
        return;
    }
    char *equals = strchr(key, '=');
    if (equals == NULL || equals == key) {
        char quoted[TP__QUOTED_TEXT];
        tp__report_error(&in->report, "%s:%u: \"%s\" is not a setting: expected key = value",
            in->name, in->line, tp__quoted(key, quoted));
        return;
    }
    *equals = '\0';
    config_take_setting(in, trim_blanks(key), trim_blanks(equals + 1));
}

/* Copies a line of the text, without a final '\r'. False, with an error in the report: the line is
 * too long or has a control character. */
static bool config_copy_line(reader *in, const char *text, size_t size) {
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
    assert(size < sizeof in->text);
    memcpy(in->text, text, size);
    in->text[size] = '\0';
    return true;
}

static void config_report_missing(reader *in) {
    for (size_t i = 0; i < in->count; i++) {
        if (in->table[i].default_value == NULL && in->given[i] == 0) {
            char expectation[TP__EXPECTATION_TEXT];
            tp__report_error(&in->report, "%s:%u: %s is missing: expected %s", in->name, in->line,
                in->table[i].name, tp__setting_expectation(&in->table[i], expectation));
        }
    }
}

tp_err tp__config_parse(const tp__setting *table, size_t count, const char *name, const char *text,
    size_t size, void *target, char *report, size_t report_size) {
    reader in = {.table = table,
        .count = count,
        .name = name,
        .target = target,
        .report = tp__report_begin(report, report_size)};
    tp_err error = tp__settings_reset(table, count, target);
    if (error) {
        return error;
    }
    if (size > TP__CONFIG_MAX_FILE) {
        tp__report_error(&in.report, "%s:1: the text is too long: expected at most %u bytes", name,
            TP__CONFIG_MAX_FILE);
        return tp__report_end(&in.report);
    }
    tp__text_lines lines = tp__text_lines_begin(text, size);
    while (tp__text_lines_next(&lines)) {
        in.line = lines.number;
        if (config_copy_line(&in, lines.line, lines.length)) {
            config_take_line(&in);
        }
    }
    in.line += in.line == 0; /* errors of an empty text name line 1 */
    config_report_missing(&in);
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

/* "# ---- Connections -------------------" */
static void print_heading(const char *title, FILE *file) {
    static const char line[] = "------------------------------------------------------------------"
                               "---------------------";
    size_t length = strlen(title);
    assert(length < sizeof line);
    (void)fprintf(file, "# ---- %s %s\n\n", title, line + length);
}

static void print_possible_values(const tp__setting *setting, FILE *file) {
    char expectation[TP__EXPECTATION_TEXT];
    (void)fprintf(file, "# Value: %s.", tp__setting_expectation(setting, expectation));
    if (setting->unit != NULL) {
        (void)fprintf(file, " Unit: %s.", setting->unit);
    }
    (void)fprintf(file, "\n");
}

void tp__config_print_example(const tp__setting *table, size_t count, FILE *file) {
    const char *group = NULL;
    for (size_t i = 0; i < count; i++) {
        const tp__setting *setting = &table[i];
        (void)fprintf(file, i == 0 ? "" : "\n");
        if (setting->group != group) {
            group = setting->group;
            print_heading(group, file);
        }
        print_comment(setting->help, file);
        print_possible_values(setting, file);
        if (setting->default_value == NULL) {
            (void)fprintf(file, "%s = %s\n", setting->name, setting->example);
        } else {
            (void)fprintf(file, "#%s = %s\n", setting->name, setting->default_value);
        }
    }
}
