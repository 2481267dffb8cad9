/*
 * What the tests of memory share: what the process holds, and what else it might hold by mistake.
 */
#ifndef TWINPORT_TESTS_MEMORY_STAGE_H
#define TWINPORT_TESTS_MEMORY_STAGE_H

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

/* How much of this process is resident, as far as that says something: on Linux, without a
 * sanitizer, which keeps what is freed. Elsewhere 0. */
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

/* So that what one case has left does not serve the next. */
static inline void forget_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__flight_pool());
}

/* Others' packets, which fill what is left of this thread's chunk and more: so the next packet is
 * cut from another one. */
static inline void talk_to_others(void) {
    tp_packet *others[5];
    for (unsigned i = 0; i < 5; i++) {
        others[i] = tp_packet_new(15000);
        REQUIRE(others[i] != NULL);
    }
    for (unsigned i = 0; i < 5; i++) {
        tp_packet_release(others[i]);
    }
}

/* What `sessions` sessions hold, with so many bytes of theirs that wait. */
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
 * Has what is queued come to rest? Where sockets are bound a send waits or is over; on iocp every
 * send is one that waits, and it stands when nothing more of it goes for a while. What was in use
 * while it went is given back, but for what the worker has in its magazines: so many times the
 * slack.
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
    forget_all_memory();
    return 8;
}

#endif
