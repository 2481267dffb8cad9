/*
 * Everything that depends on the compiler. All other code is C11.
 */
#ifndef TWINPORT_OS_COMPILER_H
#define TWINPORT_OS_COMPILER_H

#include <stdalign.h>
#include <stddef.h>

#define TP_CACHE_LINE 64

#if defined(__GNUC__) || defined(__clang__)
/* gnu_printf: the C standard's formats on every system. With mingw, `printf` stands for Microsoft's
 * older ones. */
#ifdef __clang__
#define TP_PRINTF_DIALECT printf
#else
#define TP_PRINTF_DIALECT gnu_printf
#endif
#define TP_PRINTF(format_index, first_argument)                                                    \
    __attribute__((format(TP_PRINTF_DIALECT, format_index, first_argument)))
#define TP_LIKELY(x)   __builtin_expect(!!(x), 1)
#define TP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TP_NORETURN    __attribute__((noreturn))
/* For a function that a fast path seldom calls: if it were inlined, each call of the fast path
 * would save its registers. */
#define TP_NOINLINE     __attribute__((noinline))
#define TP_THREAD_LOCAL _Thread_local
/* For a function without arguments: it runs when the program or library is loaded. */
#define TP_BEFORE_MAIN __attribute__((constructor))
/* For a struct that views memory declared as another type (a back end's op and socket). */
#define TP_MAY_ALIAS __attribute__((may_alias))
#elif defined(_MSC_VER)
#define TP_PRINTF(format_index, first_argument)
#define TP_LIKELY(x)    (x)
#define TP_UNLIKELY(x)  (x)
#define TP_NORETURN     __declspec(noreturn)
#define TP_NOINLINE     __declspec(noinline)
#define TP_THREAD_LOCAL __declspec(thread)
#define TP_MAY_ALIAS
#endif

/*
 * With the address sanitizer, TP_POISON forbids access to memory that a pool or chunk keeps, so
 * that a use after release is reported although the memory was not given back to the system.
 * Without it both macros do nothing.
 */
#if defined(__SANITIZE_ADDRESS__)
#define TP_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TP_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef TP_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#define TP_POISON(memory, bytes)   ASAN_POISON_MEMORY_REGION(memory, bytes)
#define TP_UNPOISON(memory, bytes) ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#else
#define TP_POISON(memory, bytes)   ((void)(memory), (void)(bytes))
#define TP_UNPOISON(memory, bytes) ((void)(memory), (void)(bytes))
#endif

/* The struct of type `type` whose member `member` is at `pointer`. */
#define TP_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)(void *)((unsigned char *)(void *)(pointer)-offsetof(type, member)))

#define TP_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
