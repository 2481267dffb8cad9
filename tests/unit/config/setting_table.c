/* Tables made of groups: order, changes, and what the check finds in a broken table. */
#include "core/config/setting_table.h"
#include "check.h"
#include "os/compiler.h"

typedef struct target {
    uint64_t backlog;
    uint64_t rate;
    uint64_t players;
} target;

#define AT(field) offsetof(target, field)

static const tp__setting shared_network[] = {
    {"backlog", TP__SETTING_COUNT, AT(backlog), 1, 100, .default_value = "8", .help = "Waiting."},
    {"rate", TP__SETTING_COUNT, AT(rate), 1, 100, .default_value = "9", .help = "Speed."},
};
static const tp__setting own_network[] = {
    {"players", TP__SETTING_COUNT, AT(players), 1, 9, .default_value = "3", .help = "People."},
};
static const tp__setting own_bus[] = {
    {"service", TP__SETTING_COUNT, AT(players), 1, 9, .example = "3", .help = "Where."},
};

static const tp__setting_group shared[] = {
    {"Network", shared_network, TP_COUNT_OF(shared_network)}, {NULL, NULL, 0}};
static const tp__setting_group own[] = {{"Bus", own_bus, TP_COUNT_OF(own_bus)},
    {"Network", own_network, TP_COUNT_OF(own_network)}, {NULL, NULL, 0}};

static tp__setting_table table;

static void groups_are_joined_in_the_programs_order(void) {
    static const char *const names[] = {"service", "backlog", "rate", "players"};
    tp__setting_table_make(&table, own, shared, NULL);
    REQUIRE(table.count == TP_COUNT_OF(names));
    for (size_t i = 0; i < table.count; i++) {
        CHECK_STR(table.entries[i].name, names[i]);
        CHECK_STR(table.entries[i].group, i == 0 ? "Bus" : "Network");
    }
    CHECK_STR(table.entries[1].default_value, "8");
    tp__setting_table_make(&table, own, NULL, NULL);
    CHECK_EQ(table.count, 2);
}

static void a_change_replaces_only_what_it_has(void) {
    static const tp__setting_change changes[] = {
        {"rate", .default_value = "20", .min = 20}, {"backlog", .help = "Queued."}, {.name = NULL}};
    tp__setting_table_make(&table, own, shared, changes);
    CHECK_STR(table.entries[2].default_value, "20");
    CHECK_EQ(table.entries[2].min, 20);
    CHECK_EQ(table.entries[2].max, 100);
    CHECK_STR(table.entries[2].help, "Speed.");
    CHECK_STR(table.entries[1].default_value, "8");
    CHECK_EQ(table.entries[1].min, 1);
    CHECK_STR(table.entries[1].help, "Queued.");
    CHECK_STR(shared_network[1].default_value, "9");
}

static void check_finds(const char *wanted) {
    const char *broken = tp__setting_table_check(&table);
    REQUIRE(broken != NULL);
    CHECK(strstr(broken, wanted) != NULL);
}

static void the_check_finds_each_fault(void) {
    tp__setting_table_make(&table, own, shared, NULL);
    CHECK(tp__setting_table_check(&table) == NULL);
    table.entries[3].name = "rate";
    check_finds("tp__setting_find");
    table.entries[3].name = "players";
    table.entries[2].help = NULL;
    check_finds("help");
    table.entries[2].help = "Speed.";
    table.entries[2].group = NULL;
    check_finds("group");
    table.entries[2].group = "Network";
    table.entries[0].example = NULL;
    check_finds("example");
    table.entries[0].example = "3";
    CHECK(tp__setting_table_check(&table) == NULL);
    table.count = TP__SETTINGS_MAX + 1;
    check_finds("TP__SETTINGS_MAX");
}

CHECK_MAIN(CASE(groups_are_joined_in_the_programs_order), CASE(a_change_replaces_only_what_it_has),
    CASE(the_check_finds_each_fault))
