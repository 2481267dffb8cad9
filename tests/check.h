/*
 * check.h - the whole test harness.
 *
 *     #include "check.h"
 *
 *     static void adds(void) {
 *         REQUIRE(table != NULL);          // on failure ends the program
 *         CHECK(is_open(table));           // on failure prints the line and continues
 *         CHECK_EQ(count(table), 3);       // prints both values, of any number or pointer type
 *         CHECK_STR(name(table), "bus");
 *     }
 *     CHECK_MAIN(CASE(adds), CASE(removes))
 *
 * Without arguments the program runs every case and prints its result; with arguments, the cases
 * named. Exit code: 0 all passed, 1 a case failed, 2 no case of that name, 77 every case was
 * skipped (as ctest expects it). Any thread may check: the count is atomic, and a line is printed
 * whole. One translation unit per program; or several that all define CHECK_SHARED, one of which
 * defines check_failures and check_skips.
 */
#ifndef TWINPORT_TESTS_CHECK_H
#define TWINPORT_TESTS_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) ((void)check_true((condition), #condition, __FILE__, __LINE__))
#define REQUIRE(condition)                                                                         \
    (check_true((condition), #condition, __FILE__, __LINE__) ? (void)0 : check_give_up())

/* For code that must not be reached. Continues. */
#define FAIL(reason) check_fail(__FILE__, __LINE__, "%s", (reason))

#define CHECK_EQ(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_EQ, b, #b)
#define CHECK_NE(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_NE, b, #b)
#define CHECK_LT(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_LT, b, #b)
#define CHECK_LE(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_LE, b, #b)
#define CHECK_GT(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_GT, b, #b)
#define CHECK_GE(a, b) CHECK_COMPARE_(a, #a, CHECK_OP_GE, b, #b)

/* Whole strings (either may be NULL), and size bytes of memory. */
#define CHECK_STR(a, b)       check_strings((a), (b), #a, #b, __FILE__, __LINE__)
#define CHECK_MEM(a, b, size) check_memory((a), (b), (size), #a, #b, __FILE__, __LINE__)

/* Ends the case and prints why, for what this machine cannot do. The case counts as skipped. */
#define SKIP(reason)                                                                               \
    do {                                                                                           \
        check_skip((reason), __FILE__, __LINE__);                                                  \
        return;                                                                                    \
    } while (0)

#define CASE(function)                                                                             \
    { #function, function }
#define CHECK_MAIN(...)                                                                            \
    int main(int argc, char **argv) {                                                              \
        static const struct check_case cases[] = {__VA_ARGS__};                                    \
        return check_run(argc, argv, cases, sizeof cases / sizeof cases[0]);                       \
    }

/* ---- behind the macros ----------------------------------------------------------------------- */

struct check_case {
    const char *name;
    void (*run)(void);
};

#ifdef CHECK_SHARED
extern atomic_uint check_failures;
extern atomic_uint check_skips;
#else
static atomic_uint check_failures;
static atomic_uint check_skips;
#endif

/* One call of printf per line: stdio's own lock keeps lines of several threads apart. */
static inline void check_fail(const char *file, int line, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("%s:%d: %s\n", file, line, text);
    fflush(stdout);
    atomic_fetch_add(&check_failures, 1);
}

static inline bool check_true(bool holds, const char *text, const char *file, int line) {
    if (!holds) {
        check_fail(file, line, "does not hold: %s", text);
    }
    return holds;
}

static inline void check_give_up(void) {
    printf("aborted\n");
    fflush(stdout);
    _Exit(1);
}

static inline void check_skip(const char *reason, const char *file, int line) {
    printf("%s:%d: skipped: %s\n", file, line, reason);
    fflush(stdout);
    atomic_fetch_add(&check_skips, 1);
}

enum check_kind { CHECK_SIGNED, CHECK_UNSIGNED, CHECK_REAL, CHECK_POINTER };
enum check_op { CHECK_OP_EQ, CHECK_OP_NE, CHECK_OP_LT, CHECK_OP_LE, CHECK_OP_GT, CHECK_OP_GE };

struct check_value {
    enum check_kind kind;
    intmax_t i;
    uintmax_t u;
    double d;
};

/* A value that is not negative is always CHECK_UNSIGNED, so that -1 never equals UINT64_MAX. */
static inline struct check_value check_signed(intmax_t i) {
    if (i >= 0) {
        return (struct check_value){.kind = CHECK_UNSIGNED, .u = (uintmax_t)i};
    }
    return (struct check_value){.kind = CHECK_SIGNED, .i = i};
}

static inline struct check_value check_unsigned(uintmax_t u) {
    return (struct check_value){.kind = CHECK_UNSIGNED, .u = u};
}

static inline struct check_value check_real(double d) {
    return (struct check_value){.kind = CHECK_REAL, .d = d};
}

static inline struct check_value check_pointer(const volatile void *p) {
    return (struct check_value){.kind = CHECK_POINTER, .u = (uintptr_t)p};
}

/* clang-format off */
#define CHECK_VALUE_(x) _Generic((x),                                                          \
    char: check_signed, signed char: check_signed, short: check_signed, int: check_signed,     \
    long: check_signed, long long: check_signed,                                               \
    bool: check_unsigned, unsigned char: check_unsigned, unsigned short: check_unsigned,       \
    unsigned: check_unsigned, unsigned long: check_unsigned,                                   \
    unsigned long long: check_unsigned,                                                        \
    float: check_real, double: check_real, default: check_pointer)(x)
/* clang-format on */

#define CHECK_COMPARE_(a, a_text, op, b, b_text)                                                   \
    check_compare(CHECK_VALUE_(a), op, CHECK_VALUE_(b), a_text, b_text, __FILE__, __LINE__)

static inline double check_as_real(struct check_value v) {
    switch (v.kind) {
    case CHECK_SIGNED:
        return (double)v.i;
    case CHECK_REAL:
        return v.d;
    case CHECK_UNSIGNED:
    case CHECK_POINTER:
        break;
    }
    return (double)v.u;
}

/* -1, 0, 1 as a is less than, equal to, greater than b; 2 where they have no order (NaN). */
static inline int check_order(struct check_value a, struct check_value b) {
    if (a.kind == CHECK_REAL || b.kind == CHECK_REAL) {
        double x = check_as_real(a);
        double y = check_as_real(b);
        return x < y ? -1 : x > y ? 1 : x <= y ? 0 : 2;
    }
    if (a.kind == CHECK_SIGNED || b.kind == CHECK_SIGNED) {
        if (a.kind != b.kind) {
            return a.kind == CHECK_SIGNED ? -1 : 1;
        }
        return a.i < b.i ? -1 : a.i > b.i;
    }
    return a.u < b.u ? -1 : a.u > b.u;
}

static inline bool check_holds(int order, enum check_op op) {
    switch (op) {
    case CHECK_OP_EQ:
        return order == 0;
    case CHECK_OP_NE:
        return order != 0;
    case CHECK_OP_LT:
        return order == -1;
    case CHECK_OP_LE:
        return order == -1 || order == 0;
    case CHECK_OP_GT:
        return order == 1;
    case CHECK_OP_GE:
        return order == 1 || order == 0;
    }
    return false;
}

static inline void check_print_value(struct check_value v, char *text, size_t size) {
    switch (v.kind) {
    case CHECK_SIGNED:
        (void)snprintf(text, size, "%" PRIdMAX, v.i);
        return;
    case CHECK_REAL:
        (void)snprintf(text, size, "%.17g", v.d);
        return;
    case CHECK_POINTER:
        (void)snprintf(text, size, "0x%" PRIxMAX, v.u);
        return;
    case CHECK_UNSIGNED:
        break;
    }
    (void)snprintf(text, size, v.u < 10 ? "%" PRIuMAX : "%" PRIuMAX " (0x%" PRIxMAX ")", v.u, v.u);
}

static inline void check_compare(struct check_value a, enum check_op op, struct check_value b,
    const char *a_text, const char *b_text, const char *file, int line) {
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    if (check_holds(check_order(a, b), op)) {
        return;
    }
    char a_value[64];
    char b_value[64];
    check_print_value(a, a_value, sizeof a_value);
    check_print_value(b, b_value, sizeof b_value);
    check_fail(file, line, "does not hold: %s %s %s\n    left:  %s\n    right: %s", a_text,
        signs[op], b_text, a_value, b_value);
}

static inline void check_strings(const char *a, const char *b, const char *a_text,
    const char *b_text, const char *file, int line) {
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0)) {
        return;
    }
    check_fail(file, line, "are not equal: %s and %s\n    left:  %s%s%s\n    right: %s%s%s", a_text,
        b_text, a ? "\"" : "", a ? a : "NULL", a ? "\"" : "", b ? "\"" : "", b ? b : "NULL",
        b ? "\"" : "");
}

static inline void check_memory(const void *a, const void *b, size_t size, const char *a_text,
    const char *b_text, const char *file, int line) {
    const unsigned char *x = a;
    const unsigned char *y = b;
    size_t at = 0;
    while (at < size && x[at] == y[at]) {
        at++;
    }
    if (at < size) {
        check_fail(file, line,
            "differ: %s and %s\n    at byte %" PRIuMAX " of %" PRIuMAX ": %02x and %02x", a_text,
            b_text, (uintmax_t)at, (uintmax_t)size, (unsigned)x[at], (unsigned)y[at]);
    }
}

/* True when the case passed or was skipped. */
static inline bool check_run_case(const struct check_case *one) {
    unsigned failures = atomic_load(&check_failures);
    unsigned skips = atomic_load(&check_skips);
    printf("%s\n", one->name);
    fflush(stdout);
    one->run();
    bool failed = atomic_load(&check_failures) != failures;
    bool skipped = atomic_load(&check_skips) != skips;
    printf("%s: %s\n", one->name, failed ? "FAILED" : skipped ? "skipped" : "ok");
    fflush(stdout);
    return !failed;
}

static inline const struct check_case *check_find(
    const struct check_case *cases, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return &cases[i];
        }
    }
    return NULL;
}

static inline int check_run(int argc, char **argv, const struct check_case *cases, size_t count) {
    unsigned run = 0;
    unsigned failed = 0;
    for (int i = 1; i < argc; i++) {
        const struct check_case *one = check_find(cases, count, argv[i]);
        if (one == NULL) {
            printf("no case named %s\n", argv[i]);
            return 2;
        }
        run++;
        failed += check_run_case(one) ? 0 : 1;
    }
    for (size_t i = 0; argc < 2 && i < count; i++) {
        run++;
        failed += check_run_case(&cases[i]) ? 0 : 1;
    }
    unsigned skipped = atomic_load(&check_skips);
    printf("%u cases, %u failed, %u skipped\n", run, failed, skipped);
    if (failed > 0) {
        return 1;
    }
    return skipped == run ? 77 : 0;
}

#endif
