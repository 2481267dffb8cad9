/*
 * Lists through links in the elements, by pointer and by number: both keep the order and both
 * directions, an element can be removed anywhere, and the checks find each broken part.
 */
#include "core/base/list.h"

#include "check.h"
#include "core/base/index_list.h"
#include "os/compiler.h"

#define ITEMS 4u

typedef struct item {
    char letter;
    tp__link link;
    tp__index_link by_number;
} item;

static item items[ITEMS];
static tp__list list;
static tp__index_list numbers;
static char text[ITEMS + 1];

static tp__links links_of(void) {
    return (tp__links){&items[0].by_number, sizeof items[0], ITEMS};
}

static const char *text_of(const char *broken) {
    return broken ? broken : "";
}

/* ---- by pointer ------------------------------------------------------------------------------ */

static void list_clear(void) {
    memset(items, 0, sizeof items);
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i].letter = (char)('a' + i);
    }
    list = (tp__list){0};
    numbers = (tp__index_list){0};
}

/* The letters from the first to the last, after a check of the list. */
static const char *list_text(void) {
    size_t size = 0;
    CHECK_STR(text_of(tp__list_check(&list)), "");
    for (const tp__link *at = list.first; at && size < ITEMS; at = at->next) {
        text[size++] = TP_CONTAINER_OF(at, item, link)->letter;
    }
    text[size] = '\0';
    CHECK_EQ(list.count, size);
    return text;
}

static void list_fill(void) {
    list_clear();
    for (unsigned i = 0; i < ITEMS; i++) {
        tp__list_append(&list, &items[i].link);
    }
}

static void a_list_keeps_the_order(void) {
    list_clear();
    CHECK_STR(list_text(), "");
    tp__list_append(&list, &items[1].link);
    CHECK_STR(list_text(), "b");
    tp__list_append(&list, &items[2].link);
    tp__list_prepend(&list, &items[0].link);
    CHECK_STR(list_text(), "abc");
    tp__list_remove(&list, &items[0].link);
    tp__list_remove(&list, &items[1].link);
    tp__list_remove(&list, &items[2].link);
    tp__list_prepend(&list, &items[3].link);
    CHECK_STR(list_text(), "d");
}

static void an_element_leaves_from_anywhere(void) {
    list_fill();
    CHECK_STR(list_text(), "abcd");
    tp__list_remove(&list, &items[1].link); /* the middle, the beginning, the end */
    CHECK_STR(list_text(), "acd");
    tp__list_remove(&list, &items[0].link);
    CHECK_STR(list_text(), "cd");
    tp__list_remove(&list, &items[3].link);
    CHECK_STR(list_text(), "c");
    tp__list_remove(&list, &items[2].link);
    CHECK_STR(list_text(), "");
    tp__list_append(&list, &items[1].link); /* a removed link is like a new one */
    CHECK_STR(list_text(), "b");
}

static void the_check_finds_a_broken_list(void) {
    list_fill();
#define FOUND() text_of(tp__list_check(&list))
    items[2].link.previous = &items[0].link;
    CHECK_STR(FOUND(), "it->previous == last");
    items[2].link.previous = &items[1].link;
    list.last = &items[2].link;
    CHECK_STR(FOUND(), "list->last == last");
    list.last = &items[3].link;
    list.count = ITEMS - 1;
    CHECK_STR(FOUND(), "count < list->count");
    list.count = ITEMS + 1;
    CHECK_STR(FOUND(), "list->count == count");
    list.count = ITEMS;
    CHECK_STR(FOUND(), "");
#undef FOUND
}

/* ---- by number ------------------------------------------------------------------------------- */

static const char *numbers_text(void) {
    const tp__links links = links_of();
    size_t size = 0;
    CHECK_STR(text_of(tp__index_list_check(&numbers, &links)), "");
    for (uint32_t at = numbers.first; at != 0 && size < ITEMS; at = items[at - 1].by_number.next) {
        text[size++] = items[at - 1].letter;
    }
    text[size] = '\0';
    CHECK_EQ(numbers.count, size);
    return text;
}

static void numbers_fill(void) {
    const tp__links links = links_of();
    list_clear();
    for (uint32_t number = 1; number <= ITEMS; number++) {
        tp__index_list_append(&numbers, &links, number);
    }
}

static void numbers_keep_the_order(void) {
    const tp__links links = links_of();
    list_clear();
    CHECK_STR(numbers_text(), "");
    tp__index_list_append(&numbers, &links, 2);
    CHECK_STR(numbers_text(), "b");
    tp__index_list_append(&numbers, &links, 1);
    CHECK_STR(numbers_text(), "ba");
    CHECK(tp__link_at(&links, 2) == &items[1].by_number);
}

static void a_number_leaves_from_anywhere(void) {
    const tp__links links = links_of();
    numbers_fill();
    CHECK_STR(numbers_text(), "abcd");
    tp__index_list_remove(&numbers, &links, 2);
    CHECK_STR(numbers_text(), "acd");
    tp__index_list_remove(&numbers, &links, 1);
    CHECK_STR(numbers_text(), "cd");
    tp__index_list_remove(&numbers, &links, 4);
    CHECK_STR(numbers_text(), "c");
    tp__index_list_remove(&numbers, &links, 3);
    CHECK_STR(numbers_text(), "");
    tp__index_list_append(&numbers, &links, 2);
    CHECK_STR(numbers_text(), "b");
}

static void the_check_finds_broken_numbers(void) {
    const tp__links links = links_of();
    numbers_fill();
#define FOUND() text_of(tp__index_list_check(&numbers, &links))
    items[2].by_number.previous = 1;
    CHECK(strstr(FOUND(), "previous == last") != NULL);
    items[2].by_number.previous = 2;
    items[2].by_number.next = ITEMS + 1;
    CHECK_STR(FOUND(), "at <= links->count");
    items[2].by_number.next = 4;
    numbers.last = 3;
    CHECK_STR(FOUND(), "list->last == last");
    numbers.last = 4;
    numbers.count = ITEMS - 1;
    CHECK_STR(FOUND(), "count < list->count");
    numbers.count = ITEMS + 1;
    CHECK_STR(FOUND(), "list->count == count");
    numbers.count = ITEMS;
    CHECK_STR(FOUND(), "");
#undef FOUND
}

CHECK_MAIN(CASE(a_list_keeps_the_order), CASE(an_element_leaves_from_anywhere),
    CASE(the_check_finds_a_broken_list), CASE(numbers_keep_the_order),
    CASE(a_number_leaves_from_anywhere), CASE(the_check_finds_broken_numbers))
