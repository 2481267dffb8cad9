/*
 * Makes a program's table of shared groups and its own. See setting_table.h. One thread, at start;
 * no state.
 */
#include "core/config/setting_table.h"

#include <assert.h>
#include <string.h>

#include "core/base/invariant.h"

static void table_add(tp__setting_table *table, const char *title, const tp__setting_group *group) {
    for (size_t i = 0; i < group->count; i++) {
        assert(table->count < TP__SETTINGS_MAX);
        tp__setting *entry = &table->entries[table->count++];
        *entry = group->settings[i];
        entry->group = title;
    }
}

static const tp__setting_group *group_find(const tp__setting_group *groups, const char *title) {
    while (groups != NULL && groups->title != NULL && strcmp(groups->title, title) != 0) {
        groups++;
    }
    return groups != NULL && groups->title != NULL ? groups : NULL;
}

static void table_change(tp__setting_table *table, const tp__setting_change *change) {
    tp__setting *entry = table->entries;
    while (strcmp(entry->name, change->name) != 0) {
        entry++;
        assert(entry < table->entries + table->count);
    }
    entry->default_value = change->default_value ? change->default_value : entry->default_value;
    entry->min = change->min > 0 ? change->min : entry->min;
    entry->help = change->help ? change->help : entry->help;
}

void tp__setting_table_make(tp__setting_table *table, const tp__setting_group *own,
    const tp__setting_group *shared, const tp__setting_change *changes) {
    table->count = 0;
    for (const tp__setting_group *group = own; group->title != NULL; group++) {
        const tp__setting_group *same = group_find(shared, group->title);
        if (same != NULL) {
            table_add(table, group->title, same);
        }
        table_add(table, group->title, group);
    }
    for (; shared != NULL && shared->title != NULL; shared++) {
        assert(group_find(own, shared->title) != NULL);
    }
    for (; changes != NULL && changes->name != NULL; changes++) {
        table_change(table, changes);
    }
    TP__VERIFY(tp__setting_table_check(table));
}

const char *tp__setting_table_check(const tp__setting_table *table) {
    TP__INVARIANT(table->count <= TP__SETTINGS_MAX);
    for (size_t i = 0; i < table->count; i++) {
        const tp__setting *entry = &table->entries[i];
        TP__INVARIANT(entry->help != NULL && entry->group != NULL);
        TP__INVARIANT(entry->default_value != NULL || entry->example != NULL);
        TP__INVARIANT(tp__setting_find(table->entries, table->count, entry->name) == entry);
    }
    return NULL;
}
