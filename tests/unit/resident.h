/*
 * How much memory of this process is resident, as far as it says something: on Linux, without a
 * sanitizer, which keeps what is freed. Elsewhere 0.
 */
#ifndef TWINPORT_TESTS_RESIDENT_H
#define TWINPORT_TESTS_RESIDENT_H

#include <stdint.h>
#include <stdio.h>

#include "os/compiler.h"

static inline uint64_t resident_bytes(void) {
#if defined(__linux__) && !defined(TP_ADDRESS_SANITIZER) && !defined(TP_THREAD_SANITIZER)
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

#endif
