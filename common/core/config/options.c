/*
 * The command line's words. One thread, at start; all memory is the caller's.
 */
#include "core/config/options.h"

#include <string.h>

#include "core/config/config_report.h"

typedef struct reader {
    const tp__setting *table;
    size_t count;
    void *target;
    char *const *next; /* words still to read */
    char *const *end;
    bool given[TP__SETTINGS_MAX];
    bool stopped; /* --help or --version has been read */
    tp__report report;
} reader;

static void report_unknown(reader *in, const char *name) {
    char quoted[TP__QUOTED_TEXT];
    const tp__setting *near = tp__setting_nearest(in->table, in->count, name);
    if (near != NULL) {
        tp__report_error(&in->report, "unknown option \"--%s\": did you mean \"--%s\"?",
            tp__quoted(name, quoted), near->name);
    } else {
        tp__report_error(&in->report, "unknown option \"--%s\": --help lists those there are",
            tp__quoted(name, quoted));
    }
}

/* The value behind '=', or the next word, or "yes" for a bool that stands alone. NULL if none. */
static const char *value_of(reader *in, const tp__setting *setting, const char *equals) {
    if (equals != NULL) {
        return equals + 1;
    }
    if (setting->kind == TP__SETTING_BOOL) {
        return "yes";
    }
    return in->next < in->end ? *in->next++ : NULL;
}

static void take_option(reader *in, const tp__setting *setting, const char *equals) {
    char expectation[TP__EXPECTATION_TEXT];
    char quoted[TP__QUOTED_TEXT];
    bool *given = &in->given[setting - in->table];
    bool again = *given && setting->kind != TP__SETTING_NETWORKS;
    if (!*given) {
        *given = true;
        tp__setting_clear(setting, in->target);
    }
    const char *value = value_of(in, setting, equals);
    if (value == NULL) {
        tp__report_error(&in->report, "--%s has no value: expected %s", setting->name,
            tp__setting_expectation(setting, expectation));
        return;
    }
    if (again) {
        tp__report_error(&in->report, "--%s is given again: expected once", setting->name);
        return;
    }
    if (tp__setting_read(setting, value, in->target) != TP_OK) {
        tp__report_error(&in->report, "--%s cannot be \"%s\": expected %s", setting->name,
            tp__quoted(value, quoted), tp__setting_expectation(setting, expectation));
        return;
    }
    in->stopped = strcmp(setting->name, "help") == 0 || strcmp(setting->name, "version") == 0;
}

static void take_word(reader *in, const char *word) {
    char name[TP__QUOTED_TEXT];
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
        tp__report_error(&in->report, "\"%s\" is out of place: expected an option, such as --help",
            tp__quoted(word, name));
        return;
    }
    const char *equals = strchr(word, '=');
    size_t length = equals == NULL ? strlen(word + 2) : (size_t)(equals - word) - 2;
    if (length >= sizeof name) {
        report_unknown(in, word + 2);
        return;
    }
    memcpy(name, word + 2, length);
    name[length] = '\0';
    const tp__setting *setting = tp__setting_find(in->table, in->count, name);
    if (setting == NULL) {
        report_unknown(in, name);
        return;
    }
    take_option(in, setting, equals);
}

static void report_missing(reader *in) {
    for (size_t i = 0; i < in->count; i++) {
        if (in->table[i].standard == NULL && !in->given[i]) {
            char expectation[TP__EXPECTATION_TEXT];
            tp__report_error(&in->report, "--%s is missing: expected %s", in->table[i].name,
                tp__setting_expectation(&in->table[i], expectation));
        }
    }
}

tp_err tp__options_read(const tp__setting *table, size_t count, int argument_count,
    char *const *arguments, void *target, char *report, size_t room) {
    reader in = {.table = table,
        .count = count,
        .target = target,
        .next = arguments,
        .end = arguments + argument_count,
        .report = tp__report_begin(report, room)};
    tp_err error = tp__settings_reset(table, count, target);
    if (error) {
        return error;
    }
    while (in.next < in.end && !in.stopped) {
        take_word(&in, *in.next++);
    }
    if (in.stopped) {
        return TP_OK;
    }
    report_missing(&in);
    return tp__report_end(&in.report);
}

/* ---- help ------------------------------------------------------------------------------------ */

static void print_value(const tp__setting *setting, FILE *file) {
    static const char *const words[] = {
        [TP__SETTING_COUNT] = "N",
        [TP__SETTING_BYTES] = "SIZE",
        [TP__SETTING_TIME] = "TIME",
        [TP__SETTING_ADDRESS] = "ADDRESS",
        [TP__SETTING_NETWORKS] = "NETWORKS",
        [TP__SETTING_PROCESSORS] = "PROCESSORS",
        [TP__SETTING_TEXT] = "TEXT",
    };
    if (setting->kind == TP__SETTING_CHOICE) {
        for (unsigned i = 0; setting->choices[i] != NULL; i++) {
            (void)fprintf(file, "%c%s", i == 0 ? ' ' : '|', setting->choices[i]);
        }
    } else if (setting->kind != TP__SETTING_BOOL) {
        (void)fprintf(file, " %s", words[setting->kind]);
    }
}

static void print_help(const char *help, FILE *file) {
    while (*help != '\0') {
        size_t length = strcspn(help, "\n");
        (void)fprintf(file, "        %.*s\n", (int)length, help);
        help += length + (help[length] == '\n');
    }
}

void tp__options_print_help(const tp__setting *table, size_t count, FILE *file) {
    for (size_t i = 0; i < count; i++) {
        const tp__setting *setting = &table[i];
        char expectation[TP__EXPECTATION_TEXT];
        (void)fprintf(file, "    --%s", setting->name);
        print_value(setting, file);
        (void)fprintf(file, "\n");
        print_help(setting->help, file);
        if (setting->kind == TP__SETTING_BOOL) {
            continue;
        }
        (void)fprintf(file, "        Takes %s", tp__setting_expectation(setting, expectation));
        if (setting->standard == NULL) {
            (void)fprintf(file, "; must be given.\n");
        } else {
            (void)fprintf(file, "; %s unless given.\n",
                setting->standard[0] == '\0' ? "empty" : setting->standard);
        }
    }
}
