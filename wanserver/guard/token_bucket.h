/*
 * A token bucket: limits how often something may happen, in the long run and at once. It takes 12
 * bytes, because every session has two. Used by one thread at a time. The caller passes the rates
 * with each call.
 *
 * Tokens are counted in whole ones and thousandths, so a rate of 3 per second is exactly that,
 * however often and at which milliseconds the bucket is used: between two calls elapsed x rate
 * thousandths are earned, and nothing is rounded away. Time may begin anywhere. If it goes
 * backwards (two workers' readings of a clock), nothing is earned and nothing is lost.
 *
 * What was sent while a worker stalled arrives at once afterwards. So for a while after a stall the
 * bucket's capacity is the burst and what is earned during the stall (tp__bucket_capacity). This
 * does not raise the rate: tokens are earned by the clock alone, so in any time there are at most
 * rate x time + burst of them. When the capacity is the burst again, tokens above it are lost.
 *
 * Ranges: rate 1..2^32-1 tokens per second, burst 1..2^32-1.
 */
#ifndef TWINPORT_WANSERVER_GUARD_TOKEN_BUCKET_H
#define TWINPORT_WANSERVER_GUARD_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tp__bucket {
    uint32_t tokens;    /* 0..burst, or 0..capacity after a stall */
    uint32_t since_low; /* when they were counted, in milliseconds: 48 bits, 8,900 years */
    uint16_t since_high;
    uint16_t thousandths; /* 0..999 of a token in addition; 0 when the bucket is full */
} tp__bucket;

/* A full bucket. */
static inline tp__bucket tp__bucket_full(uint32_t burst, uint64_t now_ms) {
    return (tp__bucket){
        .tokens = burst, .since_low = (uint32_t)now_ms, .since_high = (uint16_t)(now_ms >> 32)};
}

/* The capacity after a stall of `stall_ms` (0: the burst). It is passed as `burst` to the functions
 * below. */
static inline uint32_t tp__bucket_capacity(uint32_t rate, uint32_t burst, uint64_t stall_ms) {
    uint64_t space = (uint64_t)(UINT32_MAX - burst);
    uint64_t fills_ms = space * 1000 / rate;
    return stall_ms > fills_ms ? UINT32_MAX : burst + (uint32_t)(stall_ms * rate / 1000);
}

/* Adds what has been earned since the last call. */
static inline void tp__bucket_fill(
    tp__bucket *bucket, uint32_t rate, uint32_t burst, uint64_t now_ms) {
    if (bucket->tokens > burst) { /* the capacity of a stall has ended */
        bucket->tokens = burst;
        bucket->thousandths = 0;
    }
    const uint64_t mask = ((uint64_t)1 << 48) - 1;
    uint64_t since = (uint64_t)bucket->since_high << 32 | bucket->since_low;
    uint64_t elapsed = (now_ms - since) & mask;
    if (elapsed == 0 || elapsed > mask / 2) { /* the second case: time went backwards */
        return;
    }
    if (elapsed > UINT32_MAX) {
        /* limited to the time that fills the bucket, so that the product below does not overflow */
        uint64_t fills = (uint64_t)burst * 1000 / rate + 1;
        elapsed = elapsed < fills ? elapsed : fills;
    }
    /* At most (2^32-1)^2 + 999, or 2^42 + 2^32 + 999 if it was cut. */
    uint64_t earned = elapsed * rate + bucket->thousandths;
    uint64_t space = burst - bucket->tokens;
    if (earned / 1000 >= space) {
        *bucket = tp__bucket_full(burst, now_ms);
        return;
    }
    bucket->tokens += (uint32_t)(earned / 1000);
    bucket->thousandths = (uint16_t)(earned % 1000);
    bucket->since_low = (uint32_t)now_ms;
    bucket->since_high = (uint16_t)(now_ms >> 32);
}

/* Takes `count` tokens if the bucket has them, else none. It never has more than `burst`. */
static inline bool tp__bucket_take(
    tp__bucket *bucket, uint32_t count, uint32_t rate, uint32_t burst, uint64_t now_ms) {
    tp__bucket_fill(bucket, rate, burst, now_ms);
    if (count > bucket->tokens) {
        return false;
    }
    bucket->tokens -= count;
    return true;
}

#endif
