/*
 * What every fuzz harness needs: the entry function that libFuzzer calls with one input after
 * another, and a REQUIRE that aborts the process. libFuzzer then reports the input.
 */
#ifndef TWINPORT_TESTS_FUZZ_H
#define TWINPORT_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
    ((condition) ? (void)0                                                                         \
                 : (fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition), \
                       abort()))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
