/*
 * The list of noisy call sites. It is short and searched from the front. Under the log's lock.
 */
#include "core/log/log_noisy.h"

#include <assert.h>

static size_t noisy_find_site(const tp__log_noisy_list *list, const tp_log_site *site) {
    size_t i = 0;
    while (i < list->count && list->entries[i].site != site) {
        i++;
    }
    return i;
}

static size_t noisy_find_before(const tp__log_noisy_list *list, uint32_t second) {
    size_t i = 0;
    while (i < list->count && list->entries[i].second >= second) {
        i++;
    }
    return i;
}

static bool noisy_take(tp__log_noisy_list *list, size_t index, tp__log_noisy *entry) {
    assert(index <= list->count && list->count <= TP__LOG_MAX_NOISY);
    if (index == list->count) {
        return false;
    }
    *entry = list->entries[index];
    list->entries[index] = list->entries[--list->count];
    return true;
}

void tp__log_noisy_add(tp__log_noisy_list *list, tp_log_site *site, uint32_t second,
    tp_log_level level, const tp__log_line *first) {
    assert(site != NULL);
    size_t index = noisy_find_site(list, site);
    if (index == TP__LOG_MAX_NOISY) {
        return;
    }
    if (index == list->count) {
        list->count++;
    }
    tp__log_noisy *entry = &list->entries[index];
    entry->site = site;
    entry->second = second;
    entry->level = level;
    tp__log_line_copy_text(first, entry->sample, sizeof entry->sample);
}

bool tp__log_noisy_take(tp__log_noisy_list *list, const tp_log_site *site, tp__log_noisy *entry) {
    return noisy_take(list, noisy_find_site(list, site), entry);
}

bool tp__log_noisy_take_before(tp__log_noisy_list *list, uint32_t second, tp__log_noisy *entry) {
    return noisy_take(list, noisy_find_before(list, second), entry);
}

bool tp__log_noisy_has_before(const tp__log_noisy_list *list, uint32_t second) {
    return noisy_find_before(list, second) < list->count;
}
