/*
 * A server's ledger. Its workers write, any thread reads, the server owns it. It is a ring of the
 * last ends, stored as plain words; recent.c explains why a reader never sees a part of an entry.
 */
#include "core/engine/ledger.h"

#include <assert.h>
#include <string.h>

#include "core/log/recent.h"
#include "core/memory/memory.h"
#include "twinport/server.h"

#define END_WORDS ((sizeof(tp_session_end) + sizeof(uint64_t) - 1) / sizeof(uint64_t))

_Static_assert(END_WORDS <= TP__RECENT_MAX_WORDS, "an end fits into an entry");
_Static_assert((TP_LEDGER_ENTRIES & (TP_LEDGER_ENTRIES - 1)) == 0, "a ring of a power of two");

struct tp__ledger {
    tp__recent *ends;
};

tp__ledger *tp__ledger_create(void) {
    tp__ledger *ledger = tp__allocate(sizeof *ledger);
    if (ledger == NULL) {
        return NULL;
    }
    ledger->ends = tp__recent_create(TP_LEDGER_ENTRIES, END_WORDS);
    if (ledger->ends == NULL) {
        tp__free(ledger);
        return NULL;
    }
    return ledger;
}

void tp__ledger_destroy(tp__ledger *ledger) {
    if (ledger != NULL) {
        tp__recent_destroy(ledger->ends);
        tp__free(ledger);
    }
}

void tp__ledger_record(tp__ledger *ledger, const tp_session_end *end) {
    assert(ledger && end);
    uint64_t words[END_WORDS] = {0};
    memcpy(words, end, sizeof *end);
    tp__recent_put(ledger->ends, words);
}

size_t tp__ledger_read(const tp__ledger *ledger, tp_session_end *ends, size_t capacity) {
    uint64_t number = tp__recent_count(ledger->ends);
    uint64_t oldest = number < TP_LEDGER_ENTRIES ? 0 : number - TP_LEDGER_ENTRIES;
    size_t count = 0;
    assert(ends || capacity == 0);
    assert(number - oldest <= TP_LEDGER_ENTRIES);
    while (number-- > oldest && count < capacity) {
        uint64_t words[END_WORDS];
        if (tp__recent_read(ledger->ends, number, words)) {
            memcpy(&ends[count], words, sizeof ends[count]);
            ends[count].size = sizeof ends[count];
            count++;
        }
    }
    return count;
}

uint64_t tp__ledger_count(const tp__ledger *ledger) {
    return tp__recent_count(ledger->ends);
}
