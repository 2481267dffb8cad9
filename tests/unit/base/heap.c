/*
 * The heap: items come out in their order whatever the order in which they went in, its check holds
 * after each step, and it finds an item that is before its parent.
 */
#include "core/base/heap.h"

#include "check.h"

#define ITEMS 7u /* three levels, the last one full */
#define MANY  1000u

typedef struct item {
    uint32_t key;
    uint32_t number;
} item;

static bool item_before(const void *a, const void *b, const void *sign) {
    const item *left = a;
    const item *right = b;
    return *(const int *)sign > 0 ? left->key < right->key : left->key > right->key;
}

static const int rising = 1;
static const int falling = -1;
static const tp__heap_order order = {sizeof(item), item_before, &rising};
static const tp__heap_order reverse = {sizeof(item), item_before, &falling};

static item heap[MANY];
static uint32_t count;

static const char *found(void) {
    const char *broken = tp__heap_check(&order, heap, count);
    return broken ? broken : "";
}

static void push(uint32_t key, uint32_t number) {
    const item one = {key, number};
    tp__heap_push(&order, heap, count++, &one);
}

static item pop(void) {
    item first = heap[0];
    tp__heap_remove_first(&order, heap, count--);
    return first;
}

/* Fills the heap with keys 0..ITEMS-1 in permutation n: the numbers of Lehmer's code are the digits
 * of n in factorial base. */
static void push_permutation(unsigned n) {
    uint32_t left[ITEMS];
    for (uint32_t i = 0; i < ITEMS; i++) {
        left[i] = i;
    }
    count = 0;
    for (uint32_t size = ITEMS; size > 0; size--) {
        uint32_t at = n % size;
        n /= size;
        push(left[at], left[at] + 100);
        memmove(&left[at], &left[at + 1], (size - at - 1) * sizeof left[0]);
        CHECK_STR(found(), "");
    }
}

static void items_come_out_in_order(void) {
    unsigned permutations = 1;
    for (unsigned i = 2; i <= ITEMS; i++) {
        permutations *= i;
    }
    for (unsigned n = 0; n < permutations; n++) {
        push_permutation(n);
        for (uint32_t i = 0; i < ITEMS; i++) {
            item first = pop();
            CHECK(first.key == i && first.number == i + 100); /* the whole item */
            CHECK_STR(found(), "");
        }
        CHECK_EQ(count, 0);
    }
}

static void equal_items_all_come_out(void) {
    unsigned sum = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        push(i * 7 % 10, i);
    }
    CHECK_STR(found(), "");
    uint32_t last = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        item first = pop();
        CHECK_LE(last, first.key);
        last = first.key;
        sum += first.number;
    }
    CHECK_EQ(sum, MANY * (MANY - 1) / 2);
}

static void the_first_item_is_replaced(void) {
    for (uint32_t key = 0; key < ITEMS; key++) {
        const item other = {key * 10 + 5, 1};
        count = 0;
        for (uint32_t i = 0; i < ITEMS; i++) {
            push(i * 10, 0);
        }
        tp__heap_replace_first(&order, heap, count, &other);
        CHECK_STR(found(), "");
        for (uint32_t i = 0; i < ITEMS; i++) {
            item first = pop(); /* those below `other`, then it, then the rest */
            CHECK_EQ(first.number, i == key);
            CHECK_EQ(first.key, i < key ? (i + 1) * 10 : i == key ? other.key : i * 10);
        }
    }
}

static void the_check_finds_an_item_before_its_parent(void) {
    push_permutation(0);
    for (uint32_t i = 1; i < ITEMS; i++) {
        uint32_t good = heap[i].key;
        heap[i].key = heap[(i - 1) / 2].key;
        heap[(i - 1) / 2].key = good;
        CHECK(strstr(found(), "order->before") != NULL);
        heap[(i - 1) / 2].key = heap[i].key;
        heap[i].key = good;
        CHECK_STR(found(), "");
    }
}

static void the_context_is_passed_on(void) {
    count = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        const item one = {i, 0};
        tp__heap_push(&reverse, heap, i, &one);
    }
    CHECK_EQ(heap[0].key, ITEMS - 1);
    CHECK(tp__heap_check(&reverse, heap, ITEMS) == NULL);
    CHECK(tp__heap_check(&order, heap, ITEMS) != NULL);
}

CHECK_MAIN(CASE(items_come_out_in_order), CASE(equal_items_all_come_out),
    CASE(the_first_item_is_replaced), CASE(the_check_finds_an_item_before_its_parent),
    CASE(the_context_is_passed_on))
