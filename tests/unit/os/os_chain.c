/*
 * Reversal of a chain: every node once, in the opposite order, wherever the link is in the node.
 */
#include "os/chain.h"

#include "check.h"

typedef struct node {
    struct node *next; /* a link at the beginning, and one behind other fields */
    unsigned number;
    struct node *other;
} node;

#define NODES 5u

static node nodes[NODES];

/* Links the first `count` nodes in both chains; number 0 is first. */
static node *chain_of(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        node *next = i + 1 < count ? &nodes[i + 1] : NULL;
        nodes[i] = (node){.next = next, .number = i, .other = next};
    }
    return count > 0 ? &nodes[0] : NULL;
}

static void no_node_is_no_chain(void) {
    CHECK(tp__chain_reverse(NULL, offsetof(node, next)) == NULL);
}

static void one_node_stays(void) {
    node *only = chain_of(1);
    CHECK(tp__chain_reverse(only, offsetof(node, next)) == only);
    CHECK(only->next == NULL);
}

static void nodes_come_in_the_opposite_order(void) {
    node *at = tp__chain_reverse(chain_of(NODES), offsetof(node, next));
    for (unsigned i = NODES; i > 0; i--) {
        REQUIRE(at != NULL);
        CHECK_EQ(at->number, i - 1);
        at = at->next;
    }
    CHECK(at == NULL);
}

static void only_the_named_link_is_written(void) {
    node *at = tp__chain_reverse(chain_of(NODES), offsetof(node, other));
    for (unsigned i = NODES; i > 0; i--) {
        REQUIRE(at != NULL);
        CHECK_EQ(at->number, i - 1);
        CHECK(at->next == (i < NODES ? &nodes[i] : NULL));
        at = at->other;
    }
    CHECK(at == NULL);
}

CHECK_MAIN(CASE(no_node_is_no_chain), CASE(one_node_stays), CASE(nodes_come_in_the_opposite_order),
    CASE(only_the_named_link_is_written))
