/*
 * The handshake's work and its way back.
 *
 * A HELLO that is good goes to the handshake threads as a `welcome`, which holds its session. The
 * thread does the Diffie-Hellman work; then the welcome travels through the port to a worker that
 * serves the session, which makes the two directions' ciphers and queues REPLY. So the session's
 * state is touched by its workers alone, and errors are told on one of them. The ciphers are the
 * worker's to make because workers free them: memory of an idle thread's would be freed under the
 * allocator's lock for that thread, which it may hold while it has lost the processor. Those
 * handshakes that are done together and that one worker serves travel together, in the hands of the
 * first. The hold keeps slot, port and server: a stop waits for the welcomes that are out.
 *
 * At most handshake_queue + handshake_threads of them are out (`welcomes`), each counted before its
 * token is used up. The threads' own queue has as many places: it is never full.
 */
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "twinport/log.h"
#include "wanserver/wan.h"

typedef struct tp__welcome {
    tp_op way_back;
    struct tp__welcome *next;        /* on the way back: those that it leads */
    struct tp__welcome *next_leader; /* while they are being sorted */
    bool chained;                    /* another one leads it */
    tp__session *session;            /* held */
    tp_err error;
    tp_hello hello;
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
} tp__welcome;

bool tp__welcome_reserve(tp__wan *wan) {
    unsigned most = wan->options.handshake_queue + wan->options.handshake_threads;
    if (atomic_fetch_add(&wan->welcomes, 1) < most) {
        return true;
    }
    atomic_fetch_sub(&wan->welcomes, 1);
    return false;
}

void tp__welcome_unreserve(tp__wan *wan) {
    atomic_fetch_sub(&wan->welcomes, 1);
}

/* The keys go with it. */
static void free_welcome(tp__wan *wan, tp__welcome *welcome) {
    tp_secure_wipe(welcome, sizeof *welcome);
    tp__free(welcome);
    tp__welcome_unreserve(wan);
}

void tp__welcome_drop(void *job) {
    tp__welcome *welcome = job;
    tp__session *session = welcome->session;
    free_welcome(tp__wan_of(session), welcome);
    tp__session_close(session, TP_END_OS, 0);
    tp__session_leave(session);
}

bool tp__welcome_begin(tp__session *session, const tp_hello *hello) {
    tp__welcome *welcome = tp__allocate_zeroed(1, sizeof *welcome);
    if (!welcome) {
        return false;
    }
    welcome->session = session;
    welcome->hello = *hello;
    tp__life_hold(&session->life);
    if (!tp__handshakes_offer(tp__wan_of(session)->handshakes, welcome)) {
        tp__welcome_drop(welcome); /* it is stopped, or what is said above is wrong */
    }
    return true;
}

/* ---- on a handshake thread ------------------------------------------------------------------- */

static tp_reply_terms terms_of(const tp__session *session) {
    const tp_server_options *options = &session->server->options;
    unsigned heartbeat = options->ping_interval_ms / 1000;
    return (tp_reply_terms){
        .heartbeat_seconds = (uint16_t)(heartbeat < UINT16_MAX ? heartbeat : UINT16_MAX),
        .max_payload = (uint32_t)options->max_frame,
        .session = tp__session_id(session),
    };
}

static tp_err answer(tp__welcome *welcome) {
    tp__session *session = welcome->session;
    tp__wan *wan = tp__wan_of(session);
    const tp_reply_terms terms = terms_of(session);
    TP__WAN_COUNT(wan, diffie_hellman);
    return tp_hello_answer(&welcome->hello, &wan->key, &terms, welcome->reply, &welcome->keys);
}

static void come_back(tp_op *op, const tp_completion *completion);

/* To a worker that serves its session, with those that it leads. */
static void send_back(tp__welcome *welcome) {
    tp_server *server = welcome->session->server;
    welcome->way_back.done = come_back;
    if (tp__session_post(welcome->session, &welcome->way_back)) {
        return;
    }
    /* Counted and logged; on_error is not told, for that runs on workers. */
    tp__count_shared(&server->outside.errors, 1);
    TP_LOG(TP_LOG_ERROR, "%s: handshake: no way back to a worker (system error %d)", server->name,
        tp_os_error());
    while (welcome) { /* the port takes no more */
        tp__welcome *next = welcome->next;
        tp__welcome_drop(welcome);
        welcome = next;
    }
}

void tp__welcome_run(void *job) {
    tp__welcome *welcome = job;
    /* If it is gone meanwhile, nobody would read the answer. */
    bool closing = tp__life_read(&welcome->session->life) & TP__LIFE_CLOSING;
    welcome->error = closing ? TP_ERR_CLOSED : answer(welcome);
}

/* NULL where any worker serves any session: whichever is free takes them. */
static const tp__worker *home_of(const tp__welcome *welcome) {
    return atomic_load_explicit(&welcome->session->home, memory_order_relaxed);
}

/* Behind it go those of the rest that the same worker serves. */
static void lead(tp__welcome *leader, void *const *rest, unsigned count) {
    tp__welcome *last = leader;
    for (unsigned i = 0; i < count; i++) {
        tp__welcome *welcome = rest[i];
        if (!welcome->chained && home_of(welcome) == home_of(leader)) {
            welcome->chained = true;
            last->next = welcome;
            last = welcome;
        }
    }
}

/* A worker is woken once for all that it serves, and waits for no other worker's. None is touched
 * that has been sent: it may be freed by then. */
void tp__welcome_deliver(void *const *jobs, unsigned count) {
    tp__welcome *leaders = NULL;
    for (unsigned i = 0; i < count; i++) {
        tp__welcome *welcome = jobs[i];
        if (!welcome->chained) {
            lead(welcome, jobs + i + 1, count - i - 1);
            welcome->next_leader = leaders;
            leaders = welcome;
        }
    }
    while (leaders) {
        tp__welcome *leader = leaders;
        leaders = leader->next_leader;
        send_back(leader);
    }
}

/* ---- on a worker ----------------------------------------------------------------------------- */

bool tp__reply_queue(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    if (!packet) {
        tp__session_out_of_memory(session, worker);
        return false;
    }
    tp__life_hold(&session->life);
    bool queued = tp__session_queue(session, packet) == TP__QUEUED;
    tp_packet_release(packet);
    if (!queued) {
        tp__session_out_of_memory(session, worker);
    }
    return queued;
}

static tp_err make_ciphers(tp__player *player, const tp_session_keys *keys) {
    tp_err error = tp_record_create_opening(&player->opening, keys->suite, keys->receive);
    if (!error) {
        error = tp_record_create_sealing(&player->sealing, keys->suite, keys->send);
    }
    if (error) {
        tp_record_destroy(&player->opening);
    }
    return error;
}

/* The stage comes before REPLY: its answer may be here before this has returned. */
static tp_err welcome_player(tp__session *session, tp__worker *worker, tp__welcome *welcome) {
    const tp_wanserver_options *options = &tp__wan_of(session)->options;
    tp__player *player = tp__player_of(session);
    tp_err error = make_ciphers(player, &welcome->keys);
    if (error) {
        return error;
    }
    player->messages = tp__bucket_full(options->message_burst, tp__worker_now_ms(worker));
    player->bytes = tp__bucket_full((uint32_t)options->byte_burst, tp__worker_now_ms(worker));
    if (welcome->hello.mode == TP_MODE_TOKEN) {
        tp__identity_fill(&player->identity, &welcome->hello.token.identity);
    }
    atomic_store_explicit(&player->stage, TP__PLAYER_WELCOMED, memory_order_release);
    (void)tp__reply_queue(session, worker, welcome->reply, sizeof welcome->reply);
    return TP_OK;
}

static void fail(tp__session *session, tp__worker *worker, tp_err error) {
    switch (error) {
    case TP_ERR_CLOSED: /* it has gone by itself */
        break;
    case TP_ERR_AUTH:
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_NOT_AUTHENTIC, &session->peer);
        tp__session_close(session, TP_END_PROTOCOL, 0);
        break;
    case TP_ERR_NO_MEMORY:
        tp__session_out_of_memory(session, worker);
        break;
    default:
        tp__server_report(session->server, worker, error, 0, "handshake");
        tp__session_close(session, TP_END_OS, 0);
        break;
    }
}

/* Each gets a completion of its own, at this worker, which costs no wake-up. */
static void part(tp__welcome *leader) {
    tp__welcome *welcome = leader->next;
    leader->next = NULL;
    while (welcome) {
        tp__welcome *next = welcome->next;
        welcome->next = NULL;
        send_back(welcome);
        welcome = next;
    }
}

static void come_back(tp_op *op, const tp_completion *completion) {
    tp__welcome *welcome = TP_CONTAINER_OF(op, tp__welcome, way_back);
    part(welcome);
    tp__worker *worker = tp_worker_context(completion->worker);
    tp__session *session = welcome->session;
    tp_err error = welcome->error;
    if (!error && tp__session_listens(session)) {
        error = welcome_player(session, worker, welcome);
    }
    if (error) {
        fail(session, worker, error);
    }
    free_welcome(tp__wan_of(session), welcome);
    tp__session_drop(session, worker);
}
