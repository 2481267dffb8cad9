/* See route_load.h, which names the calling threads. It has no thread of its own. */
#include "route_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void usage(const char *program) {
    fprintf(stderr,
        "usage: %s --connect HOST:PORT --pairs N --window 1..%d --size 8..%d --seconds S"
        " [--warm S] [--threads one|each]\n",
        program, route_window_most, route_size_most);
    exit(2);
}

static bool read_address(route_options *options, const char *text) {
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof options->host) {
        return false;
    }
    memcpy(options->host, text, (size_t)(colon - text));
    options->host[colon - text] = '\0';
    options->port = (unsigned)strtoul(colon + 1, NULL, 10);
    return options->port > 0 && options->port < 65536;
}

void route_read_options(route_options *options, int argc, char **argv) {
    memset(options, 0, sizeof *options);
    options->warm_seconds = 0.3;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            usage(argv[0]);
        }
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--connect") == 0) {
            if (!read_address(options, value)) {
                usage(argv[0]);
            }
        } else if (strcmp(argv[i], "--pairs") == 0) {
            options->pairs = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--window") == 0) {
            options->window = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--size") == 0) {
            options->size = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options->seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--warm") == 0) {
            options->warm_seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--threads") == 0 &&
                   (strcmp(value, "one") == 0 || strcmp(value, "each") == 0)) {
            options->threads_each = strcmp(value, "each") == 0;
        } else {
            usage(argv[0]);
        }
    }
    if (options->port == 0 || options->pairs == 0 || options->pairs > 1000 ||
        options->window == 0 || options->window > route_window_most ||
        options->size < route_ack_size || options->size > route_size_most ||
        !(options->seconds > 0)) {
        usage(argv[0]);
    }
}

void route_fill(unsigned char *message, size_t size, uint64_t number) {
    for (unsigned i = 0; i < route_ack_size; i++) {
        message[i] = (unsigned char)(number >> (8 * i));
    }
    memset(message + route_ack_size, (int)(number & 0xFF) ^ 0x5A, size - route_ack_size);
}

static uint64_t number_in(const unsigned char *bytes) {
    uint64_t number = 0;
    for (unsigned i = 0; i < route_ack_size; i++) {
        number |= (uint64_t)bytes[i] << (8 * i);
    }
    return number;
}

bool route_check(const unsigned char *message, size_t size, uint64_t *number) {
    if (size < route_ack_size) {
        return false;
    }
    *number = number_in(message);
    unsigned char expected = (unsigned char)((*number & 0xFF) ^ 0x5A);
    unsigned char differences = 0;
    for (size_t i = route_ack_size; i < size; i++) {
        differences |= (unsigned char)(message[i] ^ expected);
    }
    return differences == 0;
}

static uint64_t on_the_way(const route_sender *sender) {
    return sender->next - atomic_load_explicit(&sender->acked, memory_order_relaxed);
}

bool route_may_send(const route_sender *sender) {
    return on_the_way(sender) < sender->run->options.window &&
           !atomic_load_explicit(&sender->run->stopping, memory_order_relaxed);
}

bool route_drained(const route_sender *sender) {
    return on_the_way(sender) == 0 &&
           atomic_load_explicit(&sender->run->stopping, memory_order_relaxed);
}

void route_next(route_sender *sender, unsigned char *message, uint64_t now_ns) {
    const route_options *options = &sender->run->options;
    sender->sent_at[sender->next % options->window] = now_ns;
    route_fill(message, options->size, sender->next);
    sender->next++;
}

void route_acked(route_sender *sender, const unsigned char *ack, size_t size, uint64_t now_ns) {
    /* One thread writes `acked`, so a plain addition published by a store is enough. It is a
     * release, so that a thread that has seen the last ack (acquire) may read the histogram. */
    uint64_t acked = atomic_load_explicit(&sender->acked, memory_order_relaxed);
    if (size != route_ack_size || acked == sender->next || number_in(ack) != acked) {
        atomic_fetch_add_explicit(&sender->errors, 1, memory_order_relaxed);
        return;
    }
    if (atomic_load_explicit(&sender->run->measuring, memory_order_relaxed)) {
        histogram_add(
            &sender->round_trips, now_ns - sender->sent_at[acked % sender->run->options.window]);
    }
    atomic_store_explicit(&sender->acked, acked + 1, memory_order_release);
}

uint64_t route_total(const route_sender *senders, unsigned count) {
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        total += atomic_load_explicit(&senders[i].acked, memory_order_acquire);
    }
    return total;
}

uint64_t route_print(const char *program, const route_run *run, const route_sender *senders,
    uint64_t acks, uint64_t errors, double seconds) {
    static histogram all;
    for (unsigned i = 0; i < run->options.pairs; i++) {
        histogram_merge(&all, &senders[i].round_trips);
        errors += atomic_load_explicit(&senders[i].errors, memory_order_relaxed);
    }
    printf("{\"program\": \"%s\", \"pairs\": %u, \"window\": %u, \"size\": %u, \"seconds\": %.6f,"
           " \"messages\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"p50_us\": %.1f,"
           " \"p99_us\": %.1f, \"max_us\": %.1f}\n",
        program, run->options.pairs, run->options.window, run->options.size, seconds, 2 * acks,
        errors, (double)histogram_at(&all, 0.5) / 1e3, (double)histogram_at(&all, 0.99) / 1e3,
        (double)all.max / 1e3);
    fflush(stdout);
    return errors;
}
