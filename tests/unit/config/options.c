/* The command line: options and values, lists, the text of every error, help and version. */
#include "core/config/options.h"
#include "check.h"
#include "os/process.h"

typedef struct target {
    uint64_t port;
    unsigned io;
    bool quiet;
    bool help;
    bool version;
    tp__networks allow;
    char config[33];
} target;

static const char *const ios[] = {"auto", "epoll", "iocp", NULL};

static const tp__setting table[] = {
    {"port", TP__SETTING_COUNT, offsetof(target, port), 0, 65535, NULL, NULL, "4000",
        .help = "The port."},
    {"io", TP__SETTING_CHOICE, offsetof(target, io), 0, 0, ios, "auto", NULL,
        .help = "The back end."},
    {"quiet", TP__SETTING_BOOL, offsetof(target, quiet), 0, 0, NULL, "no", NULL,
        .help = "Says less."},
    {"allow", TP__SETTING_NETWORKS, offsetof(target, allow), 0, 0, NULL, "private", NULL,
        .help = "Who."},
    {"config", TP__SETTING_TEXT, offsetof(target, config), 0, 32, NULL, "", .metavariable = "FILE",
        .help = "A file.\nIts lines are key = value."},
    {"help", TP__SETTING_BOOL, offsetof(target, help), 0, 0, NULL, "no", NULL,
        .help = "Prints this."},
    {"version", TP__SETTING_BOOL, offsetof(target, version), 0, 0, NULL, "no", NULL,
        .help = "Prints it."},
};
#define SETTINGS (sizeof table / sizeof table[0])

static target now;
static char report[2048];

/* Splits a command line, given without the program's name, at its spaces. */
#define MAX_WORDS 16
static tp_err read_words(const char *line) {
    static char text[512];
    char *words[MAX_WORDS];
    int count = 0;
    memset(&now, 0, sizeof now);
    (void)snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        REQUIRE(count < MAX_WORDS);
        words[count++] = word;
    }
    return tp__options_read(table, SETTINGS, count, words, &now, report, sizeof report);
}

static void values_follow_or_are_joined(void) {
    CHECK_EQ(read_words("--port 4000 --io=epoll --quiet --config a=b"), TP_OK);
    CHECK_STR(report, "");
    CHECK_EQ(now.port, 4000);
    CHECK_EQ(now.io, 1);
    CHECK_EQ(now.quiet, true);
    CHECK_STR(now.config, "a=b");
    CHECK_EQ(now.allow.count, 8);
    CHECK_EQ(read_words("--port=1 --quiet=no --config="), TP_OK);
    CHECK_EQ(now.port, 1);
    CHECK_EQ(now.io, 0);
    CHECK_EQ(now.quiet, false);
    CHECK_STR(now.config, "");
    CHECK_EQ(read_words("--config --port --port 1"), TP_OK); /* a value may look like an option */
    CHECK_STR(now.config, "--port");
}

static void lists_may_be_given_more_than_once(void) {
    CHECK_EQ(read_words("--allow 10.0.0.0/8 --port 1 --allow=::1,fd00::/8"), TP_OK);
    CHECK_EQ(now.allow.count, 3);
}

static void errors_name_what_was_expected(void) {
    static const struct {
        const char *line;
        const char *message;
    } wrong[] = {
        {"", "--port is missing: expected a whole number from 0 to 65535"},
        {"--port", "--port has no value: expected a whole number from 0 to 65535"},
        {"--port 1 --prot 2", "unknown option \"--prot\": did you mean \"--port\"?\n"
                              "unexpected \"2\": expected an option such as --help"},
        {"--port 1 --zzzzzz", "unknown option \"--zzzzzz\": --help lists all options"},
        {"--port 70000", "--port cannot be \"70000\": expected a whole number from 0 to 65535"},
        {"--port=", "--port cannot be \"\": expected a whole number from 0 to 65535"},
        {"--port 1 --io=uring", "--io cannot be \"uring\": expected one of auto, epoll, iocp"},
        {"--port 1 --quiet=maybe", "--quiet cannot be \"maybe\": expected yes or no"},
        {"--port 1 --port 1", "--port is given twice"},
        {"--port 1 file", "unexpected \"file\": expected an option such as --help"},
        {"--port 1 -q", "unexpected \"-q\": expected an option such as --help"},
        {"--port 1 --", "unexpected \"--\": expected an option such as --help"},
        {"--port 1 --=x", "unknown option \"--\": --help lists all options"},
        {"--port 1 --aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1",
            "unknown option \"--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\""
            ": --help lists all options"},
        {"--port 1 --quiet no", "unexpected \"no\": expected an option such as --help"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(read_words(wrong[i].line), TP_ERR_CONFIG);
        CHECK_STR(report, wrong[i].message);
    }
}

static void help_and_version_need_no_other_option(void) {
    CHECK_EQ(read_words("--help"), TP_OK);
    CHECK_EQ(now.help, true);
    CHECK_EQ(read_words("--version --port x"), TP_OK);
    CHECK_EQ(now.version, true);
    CHECK_EQ(now.help, false);
}

static void an_invalid_table_is_refused(void) {
    tp__setting wrong = table[1];
    wrong.default_value = "none";
    char *none[] = {NULL};
    CHECK_EQ(tp__options_read(&wrong, 1, 0, none, &now, report, sizeof report), TP_ERR_INVALID);
}

/* A name that is too long for its column has a line of its own. */
static void the_help_has_groups_and_names_every_option(void) {
    char name[64];
    (void)snprintf(name, sizeof name, "options-%" PRIu64 ".txt", tp_process_id());
    FILE *file = fopen(name, "w+b");
    REQUIRE(file != NULL);
    tp__setting grouped[SETTINGS + 1];
    for (size_t i = 0; i <= SETTINGS; i++) {
        grouped[i] = table[i < SETTINGS ? i : 2];
        grouped[i].group = i < 2 ? "Listening" : "Others";
    }
    grouped[SETTINGS].name = "quiet-and-with-a-long-name";
    tp__options_print_help(grouped, SETTINGS + 1, file);
    static char text[4096];
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    CHECK_EQ(remove(name), 0);
    CHECK_STR(text, "Listening:\n"
                    "  --port N              The port.\n"
                    "                        N: a whole number from 0 to 65535. Required.\n"
                    "  --io auto|epoll|iocp  The back end.\n"
                    "                        Default: auto.\n"
                    "\n"
                    "Others:\n"
                    "  --quiet               Says less.\n"
                    "  --allow NETWORKS      Who.\n"
                    "                        NETWORKS: networks such as 10.0.0.0/8 or fd00::/8 (no "
                    "host bits), private or any; at most 256. Default: private.\n"
                    "  --config FILE         A file.\n"
                    "                        Its lines are key = value.\n"
                    "  --help                Prints this.\n"
                    "  --version             Prints it.\n"
                    "  --quiet-and-with-a-long-name\n"
                    "                        Says less.\n");
}

CHECK_MAIN(CASE(values_follow_or_are_joined), CASE(lists_may_be_given_more_than_once),
    CASE(errors_name_what_was_expected), CASE(help_and_version_need_no_other_option),
    CASE(an_invalid_table_is_refused), CASE(the_help_has_groups_and_names_every_option))
