/* The result of a run, as text or as one JSON object. Main thread, after the shards have ended. */
#include <inttypes.h>
#include <stdio.h>

#include "wire.h"

static const char *const fault_names[] = {
#define FAULT_NAME(code, name) name,
    FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

const char *error_name(tp_err error) {
    switch (error) {
#define ERROR_TEXT(name, value, text)                                                              \
    case name:                                                                                     \
        return text;
        TP_ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
    }
    return "an error without a name";
}

uint64_t faults_sum(const counts *c) {
    uint64_t sum = 0;
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        sum += c->faults[i];
    }
    return sum;
}

static const char *close_name(size_t slot) {
    return tp_close_reason_name(slot < TP_CLOSE_REASON_COUNT ? (uint16_t)slot : UINT16_MAX);
}

static double microseconds(uint64_t ns) {
    return (double)ns / 1000.0;
}

static double rate(uint64_t count, double seconds) {
    return seconds > 0 ? (double)count / seconds : 0;
}

static void json_faults(const counts *c) {
    const char *comma = "";
    printf("\"faults\":{");
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (c->faults[i] > 0) {
            printf("%s\"%s\":%" PRIu64, comma, fault_names[i], c->faults[i]);
            comma = ",";
        }
    }
    printf("}");
}

static void json_closes(const counts *c) {
    printf("\"closes\":{\"none\":%" PRIu64, c->ends_without_close);
    for (size_t i = 0; i < TP_COUNT_OF(c->closes); i++) {
        if (c->closes[i] > 0) {
            printf(",\"%s\":%" PRIu64, close_name(i), c->closes[i]);
        }
    }
    printf("}");
}

static void json_arena(const arena_counts *c) {
    printf(",\"arena\":{\"steps\":%" PRIu64 ",\"probes\":%" PRIu64 ",\"probes_lost\":%" PRIu64
           ",\"sights\":%" PRIu64 ",\"entries\":%" PRIu64 ",\"entries_known\":%" PRIu64
           ",\"returns\":%" PRIu64 ",\"longest_away_ms\":%.1f}",
        c->steps, c->probes, c->probes_lost, c->sights, c->entries, c->entries_known, c->returns,
        (double)c->longest_away_ns / 1e6);
}

void report_json(const run_options *o, const counts *c, double seconds) {
    printf("{\"network\":\"%s\",\"mode\":\"%s\",\"connections\":%u,\"window\":%u,\"size\":%u,"
           "\"threads\":%u,\"seed\":%" PRIu64 ",\"seconds\":%.6f,\"messages\":%" PRIu64
           ",\"messages_per_second\":%.1f,\"answers\":%" PRIu64 ",\"errors\":%" PRIu64
           ",\"p50_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f,\"connects\":%" PRIu64
           ",\"cut\":%" PRIu64 ",\"served\":%" PRIu64 ",\"stayed\":%" PRIu64 ",\"pings\":%" PRIu64
           ",",
        o->wire->name, o->mode->name, o->connections, o->window, o->size, o->threads, o->seed,
        seconds, c->messages, rate(c->messages, seconds), c->answers, faults_sum(c),
        microseconds(histogram_at(&c->latency, 0.5)), microseconds(histogram_at(&c->latency, 0.99)),
        microseconds(c->latency.max), c->connects, c->cut, c->served, c->stayed, c->pings);
    json_closes(c);
    printf(",");
    json_faults(c);
    if (o->mode == &mode_arena) {
        json_arena(&c->arena);
    }
    printf("}\n");
}

static void text_arena(const arena_counts *c, double seconds) {
    printf("  arena     %.0f steps and %.0f sights a second; %" PRIu64 " players seen, %" PRIu64
           " of them checked\n",
        rate(c->steps, seconds), rate(c->sights, seconds), c->entries, c->entries_known);
    printf("            %" PRIu64 " of %" PRIu64 " probes lost; %" PRIu64
           " returns, longest away %.0f ms\n",
        c->probes_lost, c->probes, c->returns, (double)c->longest_away_ns / 1e6);
}

void report_text(const run_options *o, const counts *c, double seconds) {
    printf("%s: %u connections, window %u, %u bytes, %.2f s\n", o->mode->name, o->connections,
        o->window, o->size, seconds);
    printf("  answers   %" PRIu64 " right, %" PRIu64 " of them measured, %.0f a second\n",
        c->answers, c->messages, rate(c->messages, seconds));
    if (o->mode->timed) {
        printf("  latency   p50 %.1f us, p99 %.1f us, max %.1f us\n",
            microseconds(histogram_at(&c->latency, 0.5)),
            microseconds(histogram_at(&c->latency, 0.99)), microseconds(c->latency.max));
    }
    if (o->mode == &mode_arena) {
        text_arena(&c->arena, seconds);
    }
    printf("  connects  %" PRIu64, c->connects);
    if (o->mode->hostile) {
        printf(
            "; cut %" PRIu64 ", served %" PRIu64 ", stayed %" PRIu64, c->cut, c->served, c->stayed);
    }
    printf("\n  ends      by the server without CLOSE %" PRIu64, c->ends_without_close);
    for (size_t i = 0; i < TP_COUNT_OF(c->closes); i++) {
        if (c->closes[i] > 0) {
            printf(", CLOSE %s %" PRIu64, close_name(i), c->closes[i]);
        }
    }
    printf("\n  errors    %" PRIu64, faults_sum(c));
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (c->faults[i] > 0) {
            printf(", %s %" PRIu64, fault_names[i], c->faults[i]);
        }
    }
    printf("\n");
}
