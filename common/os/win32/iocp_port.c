/*
 * The iocp back end's port: creates and frees it with its workers, wakes the workers, and defines
 * the back end's table.
 *
 * Create and destroy run on the thread of the port's owner while no other thread uses the port; any
 * thread wakes its workers. The port owns the kernel port, the workers, their buffers and the list
 * of posted buffers.
 *
 * WAKING. A wake reaches each worker once. A completion packet cannot do that: the first worker
 * that waits takes it, and with a running count of 1 that is the same worker again and again. So a
 * wake is a flag for each worker and, for a worker that is blocked in the kernel, an APC, which the
 * system delivers to that thread only.
 *
 *     waker:   sets the flag; reads which thread is in the worker slot; queues the APC to it
 *     worker:  writes that it is in the worker slot; reads the flag; blocks
 *
 * These accesses are sequentially consistent, so one of the two sees the other: either the worker
 * does not block, or it gets the APC, which the system keeps for it if it has not blocked yet.
 *
 * The waker finds the thread by its id. If that thread has ended and another one has its id now,
 * the other one gets an APC that does nothing, and the flag stays set for the next thread in the
 * worker slot. If the system has no handle left to open the thread, the worker reads the flag when
 * the slice of its wait is over (iocp_wait.c).
 */
#include <assert.h>
#include <malloc.h>
#include <string.h>

#include "os/error.h"
#include "os/win32/iocp_port.h"

/* Extension functions cannot be imported. A socket of the provider that has them returns their
 * addresses. */
static tp_err find_extension(SOCKET socket, GUID name, void *function, DWORD size) {
    DWORD bytes = 0;
    if (WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &name, sizeof name, function, size,
            &bytes, NULL, NULL) != 0) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

static tp_err find_extensions(iocp_port *port) {
    static const GUID accept_ex = WSAID_ACCEPTEX;
    static const GUID connect_ex = WSAID_CONNECTEX;
    static const GUID addresses = WSAID_GETACCEPTEXSOCKADDRS;
    SOCKET any;
    tp_err error = tp__handle_open(AF_INET, &any);
    if (error != TP_OK) {
        return error;
    }
    error = find_extension(any, accept_ex, &port->accept_ex, sizeof port->accept_ex);
    if (error == TP_OK) {
        error = find_extension(any, connect_ex, &port->connect_ex, sizeof port->connect_ex);
    }
    if (error == TP_OK) {
        error = find_extension(
            any, addresses, &port->accepted_addresses, sizeof port->accepted_addresses);
    }
    (void)closesocket(any);
    return error;
}

/* Returns zeroed memory that begins with a cache line, or NULL. */
static void *allocate_zeroed(size_t size) {
    void *memory = _aligned_malloc(size, TP_CACHE_LINE);
    if (memory != NULL) {
        memset(memory, 0, size);
    }
    return memory;
}

static void free_worker(iocp_worker *worker) {
    if (worker == NULL) {
        return;
    }
    _aligned_free(worker->buffer);
    _aligned_free(worker);
}

static tp_err make_worker(iocp_port *port, unsigned index) {
    iocp_worker *worker = allocate_zeroed(sizeof *worker);
    if (worker == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    port->workers[index] = worker;
    worker->head.backend = &tp__iocp_backend;
    worker->head.port = &port->head;
    worker->head.index = index;
    worker->buffer = _aligned_malloc(port->receive_buffer, TP_CACHE_LINE);
    return worker->buffer != NULL ? TP_OK : TP_ERR_NO_MEMORY;
}

static void free_port(iocp_port *port) {
    for (unsigned i = 0; i < port->head.workers; i++) {
        free_worker(port->workers[i]);
    }
    if (port->kernel != NULL) {
        (void)CloseHandle(port->kernel);
    }
    tp__iocp_buffers_free(port);
    _aligned_free(port);
}

/*
 * How many bytes to give to one WSASend. On Windows only the 32-bit sizes of the call limit it.
 *
 * Wine (8.0) writes a pending send from a system APC, and queues it again if it could not write all
 * of it. If a reset from the remote side or a CancelIoEx() comes while that APC is in progress,
 * Wine's server finds no waiting send, and the send that is queued afterwards never completes. A
 * send that always fits into the space that makes the socket writable is never queued again.
 */
static size_t max_per_send(void) {
    const size_t windows = (size_t)1 << 30;
    const size_t wine = (size_t)1 << 16;
    HMODULE system = GetModuleHandleW(L"ntdll.dll");
    return GetProcAddress(system, "wine_get_version") != NULL ? wine : windows;
}

static tp_err fill_port(iocp_port *port, const tp_port_options *options) {
    port->head.backend = &tp__iocp_backend;
    port->head.workers = options->workers;
    port->receive_buffer = options->receive_buffer;
    port->post_receive_buffers = options->post_receive_buffers;
    port->max_per_send = max_per_send();
    InitializeSRWLock(&port->retries_lock);
    InitializeSRWLock(&port->shared_lock);
    InitializeSListHead(&port->buffers);
    tp_err error = find_extensions(port);
    for (unsigned i = 0; error == TP_OK && i < options->workers; i++) {
        error = make_worker(port, i);
    }
    if (error != TP_OK) {
        return error;
    }
    port->kernel = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, options->running);
    return port->kernel != NULL ? TP_OK : tp_os_fail_last();
}

static tp_err iocp_create_port(const tp_port_options *options, tp_port **created) {
    iocp_port *port = allocate_zeroed(sizeof *port);
    if (port == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    tp_err error = fill_port(port, options);
    if (error != TP_OK) {
        free_port(port);
        return error;
    }
    *created = &port->head;
    return TP_OK;
}

static void iocp_destroy_port(tp_port *head) {
    iocp_port *port = (iocp_port *)(void *)head;
    assert(atomic_load(&port->sockets) == 0);
    assert(atomic_load(&port->overflow) == NULL);
    assert(!tp__iocp_has_shared(port));
    for (unsigned i = 0; i < head->workers; i++) {
        assert(port->workers[i]->ready_first == NULL);
    }
    free_port(port);
}

static tp_worker *iocp_worker_at(tp_port *head, unsigned index) {
    return &((iocp_port *)(void *)head)->workers[index]->head;
}

static bool iocp_serves(const tp_worker *worker, const tp_socket *socket) {
    return tp__socket_owner(socket) == worker->port;
}

/* The APC has nothing to do: its delivery ends the wait. */
static void CALLBACK end_wait(ULONG_PTR argument) {
    (void)argument;
}

static void iocp_wake(tp_port *head) {
    iocp_port *port = (iocp_port *)(void *)head;
    for (unsigned i = 0; i < head->workers; i++) {
        iocp_worker *worker = port->workers[i];
        atomic_store(&worker->woken, true);
        DWORD id = atomic_load(&worker->thread_id);
        HANDLE thread = id != 0 ? OpenThread(THREAD_SET_CONTEXT, FALSE, id) : NULL;
        if (thread != NULL) {
            (void)QueueUserAPC(end_wait, thread, 0);
            (void)CloseHandle(thread);
        }
    }
}

const tp__port_backend tp__iocp_backend = {
    .name = "iocp",
    .create = iocp_create_port,
    .destroy = iocp_destroy_port,
    .worker = iocp_worker_at,
    .wait = tp__iocp_wait,
    .dispatch = tp__iocp_dispatch,
    .post = tp__iocp_post,
    .wake = iocp_wake,
    .serves = iocp_serves,
    .listen = tp__iocp_listen,
    .attach = tp__iocp_attach,
    .connect = tp__iocp_connect,
    .accept = tp__iocp_accept,
    .receive = tp__iocp_receive,
    .pause = tp__iocp_pause,
    .resume = tp__iocp_resume,
    .send = tp__iocp_send,
    .send_now = tp__iocp_send_now,
    .send_take_back = tp__iocp_send_take_back,
    .finish = tp__iocp_finish,
    .close = tp__iocp_close,
};
