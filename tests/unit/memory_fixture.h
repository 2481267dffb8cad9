/*
 * What the tests of memory use share: the resident size of the process, and the other memory that
 * it might hold.
 */
#ifndef TWINPORT_TESTS_MEMORY_FIXTURE_H
#define TWINPORT_TESTS_MEMORY_FIXTURE_H

#include <stdint.h>
#include <stdio.h>

#include "check.h"
#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "os/clock.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_A_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_A_SANITIZER 1
#endif
#endif
#ifdef TP_ADDRESS_SANITIZER
#define UNDER_A_SANITIZER 1
#endif

#define KIB   ((uint64_t)1024)
#define SLACK (64 * KIB) /* what a session may hold beside twice its bytes */

/* Resident bytes of this process on Linux without a sanitizer, which keeps freed memory. Otherwise
 * 0. */
static inline uint64_t resident_bytes(void) {
#if defined(__linux__) && !defined(UNDER_A_SANITIZER)
    unsigned long long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%llu %llu", &all, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * 4096;
#else
    return 0;
#endif
}

/* Gives all spare memory back, so that nothing left from one case serves the next. */
static inline void trim_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__send_batch_pool());
}

/* Allocates packets for other sessions that fill the rest of this thread's chunk and more: the next
 * packet is cut from another chunk. */
static inline void use_up_a_chunk_for_others(void) {
    tp_packet *others[5];
    for (unsigned i = 0; i < 5; i++) {
        others[i] = tp_packet_new(15000);
        REQUIRE(others[i] != NULL);
    }
    for (unsigned i = 0; i < 5; i++) {
        tp_packet_release(others[i]);
    }
}

/* Checks what `sessions` sessions hold while `waiting` bytes of theirs are queued. */
static inline void check_bound(
    const char *what, uint64_t before, uint64_t after, uint64_t waiting, unsigned sessions) {
    uint64_t held = after > before ? after - before : 0;
    printf("    %s: %u KiB for %u KiB\n", what, (unsigned)(held / KIB), (unsigned)(waiting / KIB));
    CHECK_LE(held, 2 * waiting + sessions * SLACK);
}

static inline tp__session *session_at(tp_server *server, tp_session_id id) {
    return &server->sessions[tp_session_slot(id)];
}

static inline uint64_t queued_bytes(tp_server *server, tp_session_id id) {
    return tp__queue_size_now(&session_at(server, id)->queued) & TP__QUEUED_BYTES;
}

/*
 * Waits until the session's queue is at rest. Returns by how many times the slack it may exceed its
 * limit.
 *
 * Where sockets are bound to a worker, a send either waits or is done. With iocp every send waits,
 * so the queue is at rest when it has not shrunk for a while. Memory used meanwhile is given back,
 * except what the worker has in its magazines: a multiple of the slack.
 */
static inline unsigned settle(tp_server *server, tp_session_id id) {
    if (tp_port_binds(server->port)) {
        return 0;
    }
    uint64_t queued = queued_bytes(server, id);
    for (uint64_t since = tp_clock_ms(); tp_clock_ms() < since + 300; tp_thread_yield()) {
        if (queued_bytes(server, id) != queued) {
            queued = queued_bytes(server, id);
            since = tp_clock_ms();
        }
    }
    trim_all_memory();
    return 8;
}

#endif
