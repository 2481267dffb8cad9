/* The cell with a session's identity: a read at any moment gives all of one identity, or none. */
#include "check.h"
#include "os/thread.h"
#include "wanserver/handshake/identity.h"

static tp_identity identity_of(uint64_t account) {
    tp_identity identity = {
        .size = sizeof identity, .account = account, .flags = (uint32_t)~account};
    memset(identity.user_data, (int)(account & 0xff), sizeof identity.user_data);
    return identity;
}

static void an_identity_can_be_read_once_published(void) {
    static tp__identity_cell cell;
    const tp_identity seven = identity_of(7);
    tp_identity read = {.size = sizeof read, .account = 99};
    CHECK(!tp__identity_read(&cell, 1, &read));
    /* Which is the value that the cell holds. */
    CHECK(!tp__identity_read(&cell, TP_NO_SESSION, &read));
    tp__identity_fill(&cell, &seven);
    CHECK(!tp__identity_read(&cell, 1, &read));
    tp__identity_publish(&cell, 1);
    CHECK(!tp__identity_read(&cell, 2, &read));
    CHECK_EQ(read.account, 99);
    CHECK(tp__identity_read(&cell, 1, &read));
    CHECK_MEM(&read, &seven, sizeof read);
    tp__identity_clear(&cell);
    CHECK(!tp__identity_read(&cell, 1, &read));
    for (unsigned i = 0; i < TP__IDENTITY_WORDS; i++) {
        CHECK_EQ(atomic_load(&cell.words[i]), 0);
    }
}

/* ---- reads while the identity changes -------------------------------------------------------- */

#define LIVES   100000u
#define READERS 2

static tp__identity_cell shared;
static atomic_ullong current;
static atomic_bool over;
static atomic_uint mixed;
static atomic_uint read_whole;

static void read_on(void *argument) {
    (void)argument;
    while (!atomic_load(&over)) {
        tp_identity read = {.size = sizeof read};
        tp_session_id session = atomic_load_explicit(&current, memory_order_relaxed);
        if (tp__identity_read(&shared, session, &read)) {
            const tp_identity expected = identity_of(session);
            bool whole = memcmp(&read, &expected, sizeof read) == 0;
            atomic_fetch_add_explicit(whole ? &read_whole : &mixed, 1, memory_order_relaxed);
        }
    }
}

/* Sometimes an identity stays long enough for a reader on a machine with one processor. */
static void readers_never_see_a_mixture_of_two(void) {
    tp_thread readers[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        REQUIRE(tp_thread_start(&readers[i], "reader", read_on, NULL) == TP_OK);
    }
    for (uint64_t life = 1; life < LIVES || (atomic_load(&read_whole) == 0 && life < 100 * LIVES);
         life++) {
        const tp_identity identity = identity_of(life);
        tp__identity_fill(&shared, &identity);
        tp__identity_publish(&shared, life);
        atomic_store_explicit(&current, life, memory_order_relaxed);
        if (life % 256 == 0) {
            tp_thread_yield();
        }
        tp__identity_clear(&shared);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < READERS; i++) {
        tp_thread_join(&readers[i]);
    }
    CHECK_EQ(atomic_load(&mixed), 0);
    CHECK_GT(atomic_load(&read_whole), 0);
}

CHECK_MAIN(CASE(an_identity_can_be_read_once_published), CASE(readers_never_see_a_mixture_of_two))
