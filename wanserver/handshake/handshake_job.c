/*
 * The handshake job: the work of one handshake, and its return to a worker.
 *
 * A HELLO that has passed its checks becomes a job with a reference to its session. A handshake
 * thread does the Diffie-Hellman work. Then the job is posted through the port to a worker that
 * serves the session; that worker creates the ciphers of both directions and queues REPLY. So only
 * workers touch the session's state, and errors are reported on one of them. The worker creates the
 * ciphers because workers free them: memory that an idle thread has allocated would be freed under
 * the allocator's lock for that thread, which the thread may hold while it has lost its processor.
 *
 * Finished jobs that one worker serves are posted as one batch: the first of them carries the
 * others in its list. The reference keeps slot, port and server alive, so a stop waits for all
 * jobs.
 *
 * At most handshake_queue + handshake_threads jobs exist or are reserved (`wan->handshake_jobs`).
 * Each is reserved before its token is marked as used. The queue of the handshake threads has as
 * many slots, so it is never full.
 */
#include <assert.h>

#include "core/memory/memory.h"
#include "os/port.h"
#include "wanserver/wan.h"

typedef struct tp__handshake_job {
    tp_op op;
    struct tp__handshake_job *next;       /* the further jobs of its batch */
    struct tp__handshake_job *next_batch; /* the next batch, while batches are formed */
    bool in_batch;                        /* it is in the list of another job */
    tp__session *session;                 /* with a reference */
    tp_err error;
    tp_hello hello;
    tp_session_keys keys;
    uint8_t reply[TP_REPLY_WELCOME];
} tp__handshake_job;

bool tp__handshake_job_reserve(tp__wan *wan) {
    unsigned most = wan->options.handshake_queue + wan->options.handshake_threads;
    if (atomic_fetch_add(&wan->handshake_jobs, 1) < most) {
        return true;
    }
    atomic_fetch_sub(&wan->handshake_jobs, 1);
    return false;
}

void tp__handshake_job_unreserve(tp__wan *wan) {
    assert(atomic_load(&wan->handshake_jobs) > 0); /* the caller's is counted */
    atomic_fetch_sub(&wan->handshake_jobs, 1);
}

/* Wipes its keys as well. */
static void job_free(tp__wan *wan, tp__handshake_job *job) {
    tp_secure_wipe(job, sizeof *job);
    tp__free(job);
    tp__handshake_job_unreserve(wan);
}

void tp__handshake_job_drop(void *handshake_job) {
    tp__handshake_job *job = handshake_job;
    tp__session *session = job->session;
    job_free(tp__wan_of(session), job);
    tp__session_close(session, TP_END_OS, 0);
    tp__session_leave(session, TP__REFERENCE_LAYER);
}

bool tp__handshake_job_start(tp__session *session, const tp_hello *hello) {
    assert(atomic_load_explicit(&tp__connection_of(session)->state, memory_order_relaxed) ==
           TP__CONNECTION_HANDSHAKE);
    tp__handshake_job *job = tp__allocate_zeroed(1, sizeof *job);
    if (!job) {
        return false;
    }
    job->session = session;
    job->hello = *hello;
    tp__layer_retain(session);
    if (!tp__handshakes_offer(tp__wan_of(session)->handshakes, job)) {
        tp__handshake_job_drop(job); /* the threads are stopped; the queue is never full */
    }
    return true;
}

/* ---- on a handshake thread ------------------------------------------------------------------- */

static tp_reply_terms reply_terms(const tp__session *session) {
    const tp_server_options *options = tp__layer_server_options(tp__layer_server(session));
    unsigned heartbeat = options->ping_interval_ms / 1000;
    return (tp_reply_terms){
        .heartbeat_seconds = (uint16_t)(heartbeat < UINT16_MAX ? heartbeat : UINT16_MAX),
        .max_payload = (uint32_t)options->max_frame,
        .session = tp__layer_id(session),
    };
}

static tp_err job_answer(tp__handshake_job *job) {
    tp__session *session = job->session;
    tp__wan *wan = tp__wan_of(session);
    const tp_reply_terms terms = reply_terms(session);
    TP__WAN_COUNT(wan, diffie_hellman);
    return tp_hello_answer(&job->hello, &wan->key, &terms, job->reply, &job->keys);
}

static void job_complete(tp_op *op, const tp_completion *completion);

/* Posts a job, with its batch, to a worker that serves the session. If that fails, the whole batch
 * is dropped. */
static void job_post(tp__handshake_job *job) {
    job->op.done = job_complete;
    if (tp__layer_post(job->session, &job->op, "handshake")) {
        return;
    }
    while (job) { /* the port accepts nothing more */
        tp__handshake_job *next = job->next;
        tp__handshake_job_drop(job);
        job = next;
    }
}

void tp__handshake_job_run(void *handshake_job) {
    tp__handshake_job *job = handshake_job;
    /* If the session is closing, no one reads the answer. */
    job->error = tp__layer_is_closing(job->session) ? TP_ERR_CLOSED : job_answer(job);
}

/* Appends to the leader those of the rest that the same worker serves: all of them where any worker
 * may serve any session (iocp). */
static void batch_gather(tp__handshake_job *leader, void *const *rest, unsigned count) {
    assert(!leader->next && !leader->in_batch);
    tp__handshake_job *last = leader;
    for (unsigned i = 0; i < count; i++) {
        tp__handshake_job *job = rest[i];
        if (!job->in_batch && tp__layer_is_same_worker(job->session, leader->session)) {
            job->in_batch = true;
            last->next = job;
            last = job;
        }
    }
}

/* Forms batches and posts them: each worker is woken once for all of its jobs, and no job waits for
 * another worker. A job is not touched after it has been posted, because it may have been freed. */
void tp__handshake_job_deliver(void *const *jobs, unsigned count) {
    assert(count > 0);
    tp__handshake_job *batches = NULL;
    for (unsigned i = 0; i < count; i++) {
        tp__handshake_job *job = jobs[i];
        if (!job->in_batch) {
            batch_gather(job, jobs + i + 1, count - i - 1);
            job->next_batch = batches;
            batches = job;
        }
    }
    while (batches) {
        tp__handshake_job *leader = batches;
        batches = leader->next_batch;
        job_post(leader);
    }
}

/* ---- on a worker ----------------------------------------------------------------------------- */

bool tp__reply_queue(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t size) {
    assert(size > 0);
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    if (!packet) {
        tp__session_out_of_memory(session, worker);
        return false;
    }
    bool queued = tp__layer_send_raw(session, packet);
    tp_packet_release(packet);
    if (!queued) {
        tp__session_out_of_memory(session, worker);
    }
    return queued;
}

static tp_err connection_make_ciphers(tp__connection *connection, const tp_session_keys *keys) {
    assert(!connection->opening.cipher && !connection->sealing.cipher);
    tp_err error = tp_record_create_opening(&connection->opening, keys->suite, keys->receive);
    if (!error) {
        error = tp_record_create_sealing(&connection->sealing, keys->suite, keys->send);
    }
    if (error) {
        tp_record_destroy(&connection->opening);
    }
    return error;
}

/* Sets the state before it queues REPLY: the client's answer may arrive before this function has
 * returned. */
static tp_err connection_welcome(tp__session *session, tp__worker *worker, tp__handshake_job *job) {
    const tp_wanserver_options *options = &tp__wan_of(session)->options;
    tp__connection *connection = tp__connection_of(session);
    assert(
        atomic_load_explicit(&connection->state, memory_order_relaxed) == TP__CONNECTION_HANDSHAKE);
    tp_err error = connection_make_ciphers(connection, &job->keys);
    if (error) {
        return error;
    }
    uint64_t now_ms = tp__layer_worker_times(worker).now_ms;
    connection->messages = tp__bucket_full(options->message_burst, now_ms);
    connection->bytes = tp__bucket_full((uint32_t)options->byte_burst, now_ms);
    if (job->hello.mode == TP_MODE_TOKEN) {
        tp__identity_fill(&connection->identity, &job->hello.token.identity);
    }
    atomic_store_explicit(&connection->state, TP__CONNECTION_WELCOMED, memory_order_release);
    (void)tp__reply_queue(session, worker, job->reply, sizeof job->reply);
    return TP_OK;
}

static void job_fail(tp__session *session, tp__worker *worker, tp_err error) {
    assert(error);
    switch (error) {
    case TP_ERR_CLOSED: /* the session was closing already */
        break;
    case TP_ERR_AUTH:
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_NOT_AUTHENTIC, tp__layer_peer(session));
        tp__session_close(session, TP_END_PROTOCOL, 0);
        break;
    case TP_ERR_NO_MEMORY:
        tp__session_out_of_memory(session, worker);
        break;
    default:
        tp__server_error(tp__layer_server(session), worker, error, 0, "handshake");
        tp__session_close(session, TP_END_OS, 0);
        break;
    }
}

/* Splits the batch: posts each further job to its own session's worker. That is usually this
 * worker, and then no wake-up is needed. */
static void batch_split(tp__handshake_job *leader) {
    tp__handshake_job *job = leader->next;
    leader->next = NULL;
    while (job) {
        tp__handshake_job *next = job->next;
        job->next = NULL;
        job_post(job);
        job = next;
    }
}

static void job_complete(tp_op *op, const tp_completion *completion) {
    tp__handshake_job *job = TP_CONTAINER_OF(op, tp__handshake_job, op);
    batch_split(job);
    tp__worker *worker = tp__layer_worker(completion);
    tp__session *session = job->session;
    tp_err error = job->error;
    if (!error && tp__layer_takes_input(session)) {
        error = connection_welcome(session, worker, job);
    }
    if (error) {
        job_fail(session, worker, error);
    }
    job_free(tp__wan_of(session), job);
    tp__session_drop(session, TP__REFERENCE_LAYER, worker);
}
