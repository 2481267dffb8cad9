/*
 * Commits the one fault that its argument names. sanitizers.py checks that the sanitizer reports
 * it.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int shared;
static void *volatile kept;

static void *write_shared(void *unused) {
    (void)unused;
    for (int i = 0; i < 100000; i++) {
        shared = i;
    }
    return NULL;
}

static void race(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, write_shared, NULL) == 0) {
        (void)write_shared(NULL);
        (void)pthread_join(other, NULL);
    }
}

static void overflow(void) {
    volatile int most = INT_MAX;
    most = most + 1;
}

static void heap(void) {
    kept = malloc(8);
    volatile char *bytes = kept;
    if (bytes != NULL) {
        bytes[8] = 1;
        free(kept);
    }
}

static void misaligned(void) {
    static _Alignas(16) unsigned char bytes[16];
    kept = bytes + 1;
    *(volatile int *)kept = 1;
}

static void leak(void) {
    kept = malloc(8);
    kept = NULL;
}

int main(int argc, char **argv) {
    const char *fault = argc == 2 ? argv[1] : "";
    if (strcmp(fault, "race") == 0) {
        race();
    } else if (strcmp(fault, "overflow") == 0) {
        overflow();
    } else if (strcmp(fault, "heap") == 0) {
        heap();
    } else if (strcmp(fault, "misaligned") == 0) {
        misaligned();
    } else if (strcmp(fault, "leak") == 0) {
        leak();
    }
    printf("not reported\n");
    return 0;
}
