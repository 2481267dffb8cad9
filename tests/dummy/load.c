/*
 * One run: its shards and its phases.
 *
 * Threads: each shard's thread makes its port, opens its connections, and runs until the time is
 * over and every socket is closed. The main thread advances the phase and merges the counts when
 * the shards have ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/process.h"
#include "wire.h"

#define CONNECTING_AT_ONCE 64 /* per shard: below any listener's backlog */
#define TICK_MS            5
#define CLOSING_NS         5000000000u /* the time-out of closes */

uint32_t shard_chance(shard *s) {
    s->chance += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = s->chance;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static void each(shard *s, void (*act)(connection *c)) {
    for (unsigned i = 0; i < s->opened; i++) {
        act(&s->connections[i]);
    }
}

static void open_some(shard *s) {
    while (s->opened < s->count && s->connecting < CONNECTING_AT_ONCE) {
        connection_open(&s->connections[s->opened++]);
    }
}

static bool belongs_to_its_mode(const connection *c) {
    return c->state == OPEN || (c->state == HANDSHAKE && c->forbidden);
}

/* Runs what is due for each connection. */
static void tick(connection *c) {
    if (c->state == LEAVING && c->deadline_ns != 0 && c->shard->now_ns >= c->deadline_ns) {
        connection_fault(
            c, FAULT_NOT_ENDED, "connection %u: the server does not end after CLOSE", c->number);
    }
    if (c->state == HANDSHAKE && !c->forbidden && c->shard->now_ns >= c->deadline_ns) {
        connection_fault(c, FAULT_HANDSHAKE, "connection %u: HELLO is not answered", c->number);
    }
    if (belongs_to_its_mode(c) && c->shard->load->options->mode->tick != NULL) {
        c->shard->load->options->mode->tick(c);
        connection_flush(c);
    }
}

static void stop(connection *c) {
    if (belongs_to_its_mode(c)) {
        c->shard->load->options->mode->stop(c);
        connection_flush(c);
    }
}

static void give_up(connection *c) {
    uint64_t missing = c->sequence - c->answered;
    if (c->state == CLOSED || c->state == CLOSING) {
        return;
    }
    if (c->state == OPENING) {
        connection_fault(c, FAULT_CONNECT, "connection %u: neither made nor refused", c->number);
    } else if (c->state == HANDSHAKE) {
        connection_fault(c, c->forbidden ? FAULT_NOT_CUT : FAULT_HANDSHAKE,
            "connection %u: neither welcome nor turned away", c->number);
    } else if (c->state == LEAVING && missing == 0) { /* its own deadline may be a little later */
        connection_fault(
            c, FAULT_NOT_ENDED, "connection %u: the server does not end after CLOSE", c->number);
    } else {
        c->shard->counts.faults[FAULT_MISSING] += missing > 0 ? missing - 1 : 0;
        connection_fault(c, FAULT_MISSING, "connection %u: %llu answers are missing", c->number,
            (unsigned long long)missing);
    }
}

/* One round: waits a little, runs completions, and every few ms what is due by the clock. */
static bool run_round(shard *s, uint64_t *next_tick) {
    tp_err error = tp_port_wait(s->worker, TICK_MS);
    if (error == TP_OK) {
        (void)tp_port_dispatch(s->worker);
    } else if (error != TP_ERR_TIMED_OUT) {
        shard_fault(s, FAULT_SYSTEM, "waiting fails: %s (%d)", error_name(error), tp_os_error());
        s->failed = true;
        return false;
    }
    s->now_ns = tp_clock_ns();
    if (s->now_ns >= *next_tick) {
        *next_tick = s->now_ns + TICK_MS * 1000000u;
        each(s, tick);
    }
    return true;
}

static bool run_until_closed(shard *s, uint64_t *next_tick, uint64_t patience_ns) {
    uint64_t end = tp_clock_ns() + patience_ns;
    while (s->live > 0 && s->now_ns < end) {
        if (!run_round(s, next_tick)) {
            return false;
        }
    }
    return s->live == 0;
}

static void shard_run(shard *s) {
    uint64_t next_tick = 0;
    s->now_ns = tp_clock_ns();
    while (atomic_load_explicit(&s->load->phase, memory_order_relaxed) != STOPPING) {
        open_some(s);
        if (!run_round(s, &next_tick)) {
            return;
        }
    }
    each(s, stop);
    if (!run_until_closed(s, &next_tick, (uint64_t)(s->load->options->patience * 1e9))) {
        each(s, give_up);
        if (!s->failed && !run_until_closed(s, &next_tick, CLOSING_NS)) {
            shard_fault(s, FAULT_SYSTEM, "%u sockets do not come back from their close", s->live);
            s->failed = true;
        }
    }
}

static void shard_main(void *argument) {
    shard *s = argument;
    tp_port_options options = {
        .size = sizeof options, .backend = s->load->options->io, .workers = 1};
    tp_err error = tp_port_create(&options, &s->port);
    if (error != TP_OK) {
        shard_fault(s, FAULT_SYSTEM, "no port: %s", error_name(error));
        atomic_fetch_add(&s->load->connected, s->count);
        atomic_fetch_add(&s->load->answered_once, s->count);
        atomic_fetch_add(&s->load->over, s->count);
        s->failed = true;
        return;
    }
    s->worker = tp_port_worker(s->port, 0);
    shard_run(s);
    if (s->live == 0) {
        tp_port_destroy(s->port); /* if it failed, the process ends with it */
    }
}

/* ---- the main thread ------------------------------------------------------------------------- */

/* Until the time is over, `count` has reached `enough`, or no connection is left to wait for. */
static void rest_until(const load *l, uint64_t end_ns, const atomic_uint *count, unsigned enough) {
    tp_mutex mutex;
    tp_condition never;
    tp_mutex_init(&mutex);
    tp_condition_init(&never);
    tp_mutex_lock(&mutex);
    uint64_t now_ns;
    while ((now_ns = tp_clock_ns()) < end_ns && atomic_load(count) < enough &&
           atomic_load(&l->over) < l->options->connections && !tp_process_wait_stop(0)) {
        uint64_t left_ms = (end_ns - now_ns) / 1000000 + 1;
        (void)tp_condition_wait(&never, &mutex, left_ms < 5 ? (int)left_ms : 5);
    }
    tp_mutex_unlock(&mutex);
    tp_condition_destroy(&never);
    tp_mutex_destroy(&mutex);
}

static uint64_t time_in(double seconds) {
    return tp_clock_ns() + (uint64_t)(seconds * 1e9);
}

/* For a program that measures the server from outside over the same time. */
static void mark(const load *l, const char *word) {
    if (l->options->marks) {
        puts(word);
        fflush(stdout);
    }
}

/* A load of fewer connections than requested is a fault. */
static void note_missing(load *l) {
    unsigned connected = atomic_load(&l->connected);
    if (connected < l->options->connections && !tp_process_wait_stop(0)) {
        l->missing = l->options->connections - connected;
        fprintf(stderr, "tp-dummy: %u connections were not established in time\n", l->missing);
    }
}

static double run_phases(load *l) {
    const run_options *o = l->options;
    rest_until(l, time_in(o->patience + 60), &l->connected, o->connections);
    note_missing(l);
    atomic_store(&l->phase, WARMING);
    if (o->mode->timed) { /* all connections must be served during the measured time */
        rest_until(l, time_in(o->patience), &l->answered_once, o->connections);
    }
    rest_until(l, time_in(o->warmup), &l->over, o->connections);
    mark(l, "measuring");
    uint64_t begin = tp_clock_ns();
    l->begin_ns = begin;
    atomic_store(&l->phase, MEASURING);
    rest_until(l, time_in(o->seconds), &l->over, o->connections);
    atomic_store(&l->phase, STOPPING);
    double seconds = (double)(tp_clock_ns() - begin) / 1e9;
    mark(l, "measured");
    return seconds;
}

static void no_memory(void) {
    fprintf(stderr, "tp-dummy: out of memory\n");
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        no_memory();
    }
    return memory;
}

static uint8_t *make_pattern(const run_options *options) {
    size_t size = PATTERN_PERIOD + (size_t)options->size;
    uint8_t *pattern = allocate(size, 1);
    shard dice = {.chance = options->seed};
    for (size_t i = 0; i < size; i++) {
        pattern[i] =
            i < PATTERN_PERIOD ? (uint8_t)shard_chance(&dice) : pattern[i - PATTERN_PERIOD];
    }
    return pattern;
}

static void shard_make(shard *s, load *l, unsigned index, unsigned first, unsigned count) {
    s->load = l;
    s->index = index;
    s->count = count;
    s->chance = l->options->seed * 1000003u + index;
    s->connections = allocate(count, sizeof *s->connections);
    for (unsigned i = 0; i < count; i++) {
        s->connections[i].shard = s;
        s->connections[i].number = first + i;
        s->connections[i].sent_ns = allocate(l->options->window, sizeof(uint64_t));
        if (!l->options->wire->make(&s->connections[i])) {
            no_memory();
        }
    }
}

static void merge_arena(arena_counts *into, const arena_counts *from) {
    into->steps += from->steps;
    into->probes += from->probes;
    into->probes_lost += from->probes_lost;
    into->sights += from->sights;
    into->entries += from->entries;
    into->entries_known += from->entries_known;
    into->returns += from->returns;
    if (into->longest_away_ns < from->longest_away_ns) {
        into->longest_away_ns = from->longest_away_ns;
    }
}

static void merge(counts *into, const counts *from) {
    into->messages += from->messages;
    into->answers += from->answers;
    into->connects += from->connects;
    into->cut += from->cut;
    into->served += from->served;
    into->stayed += from->stayed;
    into->pings += from->pings;
    into->ends_without_close += from->ends_without_close;
    for (size_t i = 0; i < TP_COUNT_OF(into->closes); i++) {
        into->closes[i] += from->closes[i];
    }
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        into->faults[i] += from->faults[i];
    }
    merge_arena(&into->arena, &from->arena);
    histogram_merge(&into->latency, &from->latency);
}

static void shard_free(shard *s) {
    /* Sockets that did not complete may still be written to, so their memory is kept. */
    for (unsigned i = 0; s->live == 0 && i < s->count; i++) {
        s->load->options->wire->free(&s->connections[i]);
        free(s->connections[i].sent_ns);
        free(s->connections[i].message);
        free(s->connections[i].walker);
    }
    if (s->live == 0) {
        free(s->connections);
    }
}

double load_run(const run_options *options, counts *total) {
    uint8_t *pattern = make_pattern(options);
    load l = {.options = options, .pattern = pattern};
    unsigned threads = options->threads;
    shard *shards = allocate(threads, sizeof *shards);
    unsigned first = 0;
    for (unsigned i = 0; i < threads; i++) {
        unsigned count = options->connections / threads + (i < options->connections % threads);
        shard_make(&shards[i], &l, i, first, count);
        first += count;
    }
    for (unsigned i = 0; i < threads; i++) {
        if (tp_thread_start(&shards[i].thread, "dummy", shard_main, &shards[i]) != TP_OK) {
            fprintf(stderr, "tp-dummy: cannot start a thread\n");
            exit(1);
        }
    }
    double seconds = run_phases(&l);
    total->faults[FAULT_CONNECT] += l.missing;
    bool stuck = false;
    for (unsigned i = 0; i < threads; i++) {
        tp_thread_join(&shards[i].thread);
        merge(total, &shards[i].counts);
        stuck = stuck || shards[i].live > 0;
        shard_free(&shards[i]);
    }
    if (!stuck) {
        free(shards);
        free(pattern);
    }
    return seconds;
}
