/*
 * Shelves for the memory of large packets. Any thread; no lock.
 *
 * A shelf has a fixed number of places, so what is kept is bounded: KEPT bytes a class. A place
 * is on one of the shelf's two stacks, `full` or `vacant`, or with a call in progress; only who has
 * it in such a call touches its pointer (stack.h argues the hand-over).
 */
#include "core/memory/large.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/memory/memory.h"
#include "core/memory/stack.h"
#include "os/compiler.h"
#include "os/thread.h"

#define KEPT       ((size_t)8 << 20) /* bytes a shelf may keep, or one piece if that is larger */
#define PLACES_MAX (KEPT / TP__LARGE_SMALLEST)

typedef struct place {
    _Atomic uint32_t next;
    void *memory;
} place;

typedef struct shelf {
    tp__stack full;
    tp__stack vacant;
    place *places;
    _Atomic uint32_t ready;     /* pieces in `full`; a little off while somebody is at it */
    _Atomic uint32_t ready_low; /* the least there were since tp__large_reap() looked */
    uint8_t apart[TP_CACHE_LINE];
} shelf;

static shelf shelves[TP__LARGE_CLASSES];
static tp_once once;

/* 256 + 128 + ... + 2 + 1 places of 8 MiB and less, and one of 16 MiB. */
static place all_places[2 * PLACES_MAX];

static size_t class_bytes(unsigned class_index) {
    return TP__LARGE_SMALLEST << class_index;
}

static uint32_t places_of(unsigned class_index) {
    size_t places = KEPT / class_bytes(class_index);
    return places > 0 ? (uint32_t)places : 1;
}

static _Atomic uint32_t *next_of(void *places, uint32_t index) {
    return &((place *)places)[index - 1].next;
}

static void initialise(void) {
    place *places = all_places;
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        shelves[i].places = places;
        for (uint32_t index = places_of(i); index > 0; index--) {
            tp__stack_push(&shelves[i].vacant, next_of, places, index);
        }
        places += places_of(i);
    }
}

unsigned tp__large_class(size_t payload) {
    unsigned class_index = 0;
    while (class_bytes(class_index) < payload) {
        class_index++;
    }
    return class_index;
}

/* Takes a piece off the shelf, or NULL. */
static void *fetch(shelf *from) {
    uint32_t index = tp__stack_pop(&from->full, next_of, from->places);
    if (index == 0) {
        return NULL;
    }
    uint32_t left = atomic_fetch_sub_explicit(&from->ready, 1, memory_order_relaxed) - 1;
    if (left < atomic_load_explicit(&from->ready_low, memory_order_relaxed)) {
        atomic_store_explicit(&from->ready_low, left, memory_order_relaxed);
    }
    void *memory = from->places[index - 1].memory;
    tp__stack_push(&from->vacant, next_of, from->places, index);
    return memory;
}

void *tp__large_take(unsigned class_index) {
    tp_once_run(&once, initialise);
    void *memory = fetch(&shelves[class_index]);
    return memory != NULL ? memory : tp__allocate_piece(TP__LARGE_HEAD + class_bytes(class_index));
}

void tp__large_give(unsigned class_index, void *memory) {
    shelf *to = &shelves[class_index];
    uint32_t index = tp__stack_pop(&to->vacant, next_of, to->places);
    if (index == 0) {
        tp__free_piece(memory, TP__LARGE_HEAD + class_bytes(class_index));
        return;
    }
    to->places[index - 1].memory = memory;
    atomic_fetch_add_explicit(&to->ready, 1, memory_order_relaxed);
    tp__stack_push(&to->full, next_of, to->places, index);
}

/* Off the shelf and out of the process; the bytes, or 0 if there is nothing on it. */
static size_t let_go(unsigned class_index) {
    void *memory = fetch(&shelves[class_index]);
    if (memory == NULL) {
        return 0;
    }
    size_t bytes = TP__LARGE_HEAD + class_bytes(class_index);
    tp__free_piece(memory, bytes);
    return bytes;
}

size_t tp__large_reap(size_t most) {
    size_t bytes = 0;
    tp_once_run(&once, initialise);
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        shelf *from = &shelves[i];
        uint32_t unused = atomic_load_explicit(&from->ready_low, memory_order_relaxed);
        for (; unused > 0 && bytes < most; unused--) {
            bytes += let_go(i);
        }
        atomic_store_explicit(&from->ready_low,
            atomic_load_explicit(&from->ready, memory_order_relaxed), memory_order_relaxed);
    }
    return bytes;
}

size_t tp__large_trim(void) {
    size_t bytes = 0;
    tp_once_run(&once, initialise);
    for (unsigned i = 0; i < TP__LARGE_CLASSES; i++) {
        size_t more;
        while ((more = let_go(i)) > 0) {
            bytes += more;
        }
    }
    return bytes;
}
