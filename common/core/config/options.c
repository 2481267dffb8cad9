/*
 * Parses the command line, and prints the help. One thread, at start. All memory is the caller's.
 */
#include "core/config/options.h"

#include <assert.h>
#include <string.h>

#include "core/config/config_report.h"

typedef struct reader {
    const tp__setting *table;
    size_t count;
    void *target;
    char *const *next; /* the next word */
    char *const *end;
    bool given[TP__SETTINGS_MAX];
    bool stopped; /* --help or --version has been read */
    tp__report report;
} reader;

static void option_report_unknown(reader *in, const char *name) {
    char quoted[TP__QUOTED_TEXT];
    const tp__setting *near = tp__setting_nearest(in->table, in->count, name);
    if (near != NULL) {
        tp__report_error(&in->report, "unknown option \"--%s\": did you mean \"--%s\"?",
            tp__quoted(name, quoted), near->name);
    } else {
        tp__report_error(&in->report, "unknown option \"--%s\": --help lists all options",
            tp__quoted(name, quoted));
    }
}

/* The value after '=', or "yes" for a bool without one, or the next word; NULL if there is none. */
static const char *option_value(reader *in, const tp__setting *setting, const char *equals) {
    if (equals != NULL) {
        return equals + 1;
    }
    if (setting->kind == TP__SETTING_BOOL) {
        return "yes";
    }
    return in->next < in->end ? *in->next++ : NULL;
}

static void options_take(reader *in, const tp__setting *setting, const char *equals) {
    char expectation[TP__EXPECTATION_TEXT];
    char quoted[TP__QUOTED_TEXT];
    assert((size_t)(setting - in->table) < in->count);
    bool *given = &in->given[setting - in->table];
    bool again = *given && setting->kind != TP__SETTING_NETWORKS;
    if (!*given) {
        *given = true;
        tp__setting_clear(setting, in->target);
    }
    const char *value = option_value(in, setting, equals);
    if (value == NULL) {
        tp__report_error(&in->report, "--%s has no value: expected %s", setting->name,
            tp__setting_expectation(setting, expectation));
        return;
    }
    if (again) {
        tp__report_error(&in->report, "--%s is given twice", setting->name);
        return;
    }
    if (tp__setting_read(setting, value, in->target) != TP_OK) {
        tp__report_error(&in->report, "--%s cannot be \"%s\": expected %s", setting->name,
            tp__quoted(value, quoted), tp__setting_expectation(setting, expectation));
        return;
    }
    in->stopped = strcmp(setting->name, "help") == 0 || strcmp(setting->name, "version") == 0;
}

static void options_take_word(reader *in, const char *word) {
    char name[TP__QUOTED_TEXT];
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
        tp__report_error(&in->report, "unexpected \"%s\": expected an option such as --help",
            tp__quoted(word, name));
        return;
    }
    const char *equals = strchr(word, '=');
    size_t length = equals == NULL ? strlen(word + 2) : (size_t)(equals - word) - 2;
    if (length >= sizeof name) {
        option_report_unknown(in, word + 2);
        return;
    }
    memcpy(name, word + 2, length);
    name[length] = '\0';
    const tp__setting *setting = tp__setting_find(in->table, in->count, name);
    if (setting == NULL) {
        option_report_unknown(in, name);
        return;
    }
    options_take(in, setting, equals);
}

static void option_report_missing(reader *in) {
    for (size_t i = 0; i < in->count; i++) {
        if (in->table[i].default_value == NULL && !in->given[i]) {
            char expectation[TP__EXPECTATION_TEXT];
            tp__report_error(&in->report, "--%s is missing: expected %s", in->table[i].name,
                tp__setting_expectation(&in->table[i], expectation));
        }
    }
}

tp_err tp__options_read(const tp__setting *table, size_t count, int argument_count,
    char *const *arguments, void *target, char *report, size_t report_size) {
    reader in = {.table = table,
        .count = count,
        .target = target,
        .next = arguments,
        .end = arguments + argument_count,
        .report = tp__report_begin(report, report_size)};
    tp_err error = tp__settings_reset(table, count, target);
    if (error) {
        return error;
    }
    while (in.next < in.end && !in.stopped) {
        options_take_word(&in, *in.next++);
    }
    if (in.stopped) {
        return TP_OK;
    }
    option_report_missing(&in);
    return tp__report_end(&in.report);
}

/* ---- help ------------------------------------------------------------------------------------ */

#define NAME_TEXT  128u /* "auto|epoll|iocp" and more */
#define NAME_WIDTH 20   /* longer names have a line of their own */

static const char *option_metavariable(const tp__setting *setting) {
    static const char *const words[] = {
        [TP__SETTING_COUNT] = "N",
        [TP__SETTING_BYTES] = "SIZE",
        [TP__SETTING_TIME] = "TIME",
        [TP__SETTING_ADDRESS] = "ADDRESS",
        [TP__SETTING_NETWORKS] = "NETWORKS",
        [TP__SETTING_PROCESSORS] = "PROCESSORS",
        [TP__SETTING_TEXT] = "TEXT",
    };
    return setting->metavariable != NULL ? setting->metavariable : words[setting->kind];
}

/* "--config FILE", "--io auto|epoll|iocp", "--help" */
static const char *option_print_name(const tp__setting *setting, char text[NAME_TEXT]) {
    bool chosen = setting->kind == TP__SETTING_CHOICE;
    bool alone = chosen || setting->kind == TP__SETTING_BOOL;
    int used = snprintf(text, NAME_TEXT, "--%s%s%s", setting->name, alone ? "" : " ",
        alone ? "" : option_metavariable(setting));
    for (unsigned i = 0; chosen && setting->choices[i] != NULL; i++) {
        assert(used > 0 && (size_t)used < NAME_TEXT);
        used += snprintf(
            text + used, NAME_TEXT - (size_t)used, "%c%s", i == 0 ? ' ' : '|', setting->choices[i]);
    }
    assert(used > 0 && (size_t)used < NAME_TEXT);
    return text;
}

/* The lines of the help, of which the first may follow the name. */
static void option_print_help(const char *name, const char *help, FILE *file) {
    bool apart = strlen(name) > NAME_WIDTH;
    (void)fprintf(file, "  %-*s%s", NAME_WIDTH, name, apart ? "\n" : "");
    for (bool first = !apart; *help != '\0'; first = false) {
        size_t length = strcspn(help, "\n");
        (void)fprintf(file, "%*s%.*s\n", first ? 2 : NAME_WIDTH + 4, "", (int)length, help);
        help += length + (help[length] == '\n');
    }
}

/* The range of a number; whether the option is required, or else its default value. A bool and an
 * empty text need no such line. */
static void option_print_range(const tp__setting *setting, FILE *file) {
    char expectation[TP__EXPECTATION_TEXT];
    const char *standard = setting->default_value;
    bool empty = standard != NULL && *standard == '\0';
    if (setting->kind == TP__SETTING_BOOL || (setting->kind == TP__SETTING_TEXT && empty)) {
        return;
    }
    (void)fprintf(file, "%*s", NAME_WIDTH + 4, "");
    if (setting->kind != TP__SETTING_TEXT && setting->kind != TP__SETTING_CHOICE) {
        (void)fprintf(file, "%s: %s. ", option_metavariable(setting),
            tp__setting_expectation(setting, expectation));
    }
    (void)fprintf(file, "%s%s.\n", standard == NULL ? "Required" : "Default: ",
        standard == NULL ? "" : (empty ? "none" : standard));
}

void tp__options_print_help(const tp__setting *table, size_t count, FILE *file) {
    const char *group = NULL;
    for (size_t i = 0; i < count; i++) {
        const tp__setting *setting = &table[i];
        char name[NAME_TEXT];
        if (setting->group != group) {
            group = setting->group;
            (void)fprintf(file, "%s%s:\n", i == 0 ? "" : "\n", group);
        }
        option_print_help(option_print_name(setting, name), setting->help, file);
        option_print_range(setting, file);
    }
}
