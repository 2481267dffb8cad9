/* POSIX only: output that raises no signal, waits no longer than allowed, and does not go to
 * descriptors that are not the standard streams. Each case restores the descriptors that it
 * changes. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/file.h"
#include "os/process.h"
#include "os/stream.h"
#include "os/thread.h"

static char bytes[1u << 20];

static bool is_pending(int number) {
    sigset_t pending;
    REQUIRE(sigpending(&pending) == 0);
    return sigismember(&pending, number) == 1;
}

static void own_file_name(char *name, size_t size) {
    (void)snprintf(name, size, "stream-%" PRIu64 ".txt", tp_process_id());
}

/* ---- readers --------------------------------------------------------------------------------- */

static void a_closed_reader_raises_no_signal(void) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    REQUIRE(close(ends[0]) == 0);
    tp_stream stream = {.handle = ends[1]};
    for (unsigned i = 0; i < 2; i++) {
        CHECK_NE(tp_stream_write(&stream, "x", 1, -1, NULL), TP_OK);
        CHECK_EQ(tp_os_error(), EPIPE);
        CHECK(!is_pending(SIGPIPE));
    }
    struct sigaction now;
    REQUIRE(sigaction(SIGPIPE, NULL, &now) == 0);
    CHECK(now.sa_handler == SIG_DFL);
    sigset_t blocked;
    REQUIRE(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
    CHECK_EQ(sigismember(&blocked, SIGPIPE), 0);
    CHECK_EQ(tp_stream_close(&stream), TP_OK);
}

/* A signal that the program itself has blocked stays pending. */
static void a_signal_of_the_programs_own_is_left_alone(void) {
    int ends[2];
    sigset_t pipe_only;
    sigset_t before;
    REQUIRE(pipe(ends) == 0);
    REQUIRE(close(ends[0]) == 0);
    REQUIRE(sigemptyset(&pipe_only) == 0 && sigaddset(&pipe_only, SIGPIPE) == 0);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &pipe_only, &before) == 0);
    REQUIRE(raise(SIGPIPE) == 0);
    tp_stream stream = {.handle = ends[1]};
    CHECK_NE(tp_stream_write(&stream, "x", 1, -1, NULL), TP_OK);
    CHECK(is_pending(SIGPIPE));
    int number = 0;
    CHECK_EQ(sigwait(&pipe_only, &number), 0);
    CHECK(!is_pending(SIGPIPE));
    REQUIRE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    CHECK_EQ(tp_stream_close(&stream), TP_OK);
}

static void a_reader_that_does_not_read_is_not_waited_for(void) {
    int ends[2];
    size_t written = 0;
    REQUIRE(pipe(ends) == 0);
    tp_stream stream = {.handle = ends[1]};
    CHECK_EQ(tp_stream_write(&stream, bytes, sizeof bytes, 0, &written), TP_ERR_TIMED_OUT);
    CHECK_GT(written, 0);
    CHECK_LT(written, sizeof bytes);
    CHECK_EQ(tp_stream_write(&stream, bytes, sizeof bytes, 30, &written), TP_ERR_TIMED_OUT);
    CHECK_EQ(written, 0);
    CHECK_EQ(close(ends[0]), 0);
    CHECK_EQ(tp_stream_close(&stream), TP_OK);
}

/* A terminal reports that it is writable when less than a line fits. */
static void a_terminal_that_is_not_read_is_not_waited_for(void) {
    char name[64];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    REQUIRE(ptsname_r(master, name, sizeof name) == 0);
    int terminal = open(name, O_WRONLY | O_NOCTTY);
    int kept = dup(STDERR_FILENO);
    REQUIRE(terminal >= 0 && kept >= 0);
    (void)dup2(terminal, STDERR_FILENO);
    static char line[100];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    tp_stream error;
    tp_stream_standard(&error, TP_STANDARD_ERROR);
    tp_err result = TP_OK;
    for (unsigned i = 0; i < 10000 && result == TP_OK; i++) {
        result = tp_stream_write(&error, line, sizeof line, 20, NULL);
    }
    (void)dup2(kept, STDERR_FILENO);
    (void)close(kept);
    (void)close(terminal);
    (void)close(master);
    CHECK_EQ(result, TP_ERR_TIMED_OUT);
}

typedef struct job {
    tp_stream stream;
    tp_err result;
} job;

static void write_for_ever(void *context) {
    job *it = context;
    it->result = tp_stream_write(&it->stream, bytes, sizeof bytes, -1, NULL);
}

static void a_write_that_waits_can_be_cancelled(void) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    job it = {.stream = {.handle = ends[1]}};
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "writer", write_for_ever, &it) == TP_OK);
    tp_stream_cancel(&it.stream, &thread);
    tp_thread_join(&thread);
    CHECK_EQ(it.result, TP_ERR_CANCELLED);
    CHECK_EQ(close(ends[0]), 0);
    CHECK_EQ(tp_stream_close(&it.stream), TP_OK);
}

static void check_slow_reader(int reader, int writer) {
    static char seen[sizeof bytes];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 7 % 251);
    }
    job it = {.stream = {.handle = writer}};
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "writer", write_for_ever, &it) == TP_OK);
    size_t size = 0;
    while (size < sizeof seen) {
        ssize_t part = read(reader, seen + size, sizeof seen - size);
        REQUIRE(part > 0);
        size += (size_t)part;
    }
    tp_thread_join(&thread);
    CHECK_EQ(it.result, TP_OK);
    CHECK(memcmp(seen, bytes, sizeof bytes) == 0);
    CHECK_EQ(close(reader), 0);
    CHECK_EQ(tp_stream_close(&it.stream), TP_OK);
}

static void a_slow_reader_gets_everything(void) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    check_slow_reader(ends[0], ends[1]);
    REQUIRE(pipe(ends) == 0);
    REQUIRE(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0); /* as some parents leave it */
    check_slow_reader(ends[0], ends[1]);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0); /* as with the system's journal */
    check_slow_reader(ends[0], ends[1]);
}

/* ---- limits of files ------------------------------------------------------------------------- */

static void limit_files(rlim_t size) {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = size;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void a_file_at_its_limit_raises_no_signal(void) {
    char name[64];
    size_t written = 0;
    tp_stream stream;
    own_file_name(name, sizeof name);
    REQUIRE(tp_stream_open(&stream, name, true) == TP_OK);
    limit_files(1000);
    tp_err first = tp_stream_write(&stream, bytes, 1500, -1, &written);
    int first_error = tp_os_error();
    tp_err second = tp_stream_write(&stream, bytes, 1, -1, NULL);
    tp_err secret = tp_file_create_private("stream-secret.txt", bytes, 1500);
    limit_files(RLIM_INFINITY);
    CHECK_NE(first, TP_OK);
    CHECK_EQ(first_error, EFBIG);
    CHECK_EQ(written, 1000);
    CHECK_NE(second, TP_OK);
    CHECK(!is_pending(SIGXFSZ));
    CHECK_NE(secret, TP_OK);
    CHECK_NE(access("stream-secret.txt", F_OK), 0);
    CHECK_EQ(tp_stream_close(&stream), TP_OK);
    CHECK_EQ(remove(name), 0);
}

/* ---- what is a standard stream --------------------------------------------------------------- */

static tp_err write_to_error(void) {
    tp_stream error;
    tp_stream_standard(&error, TP_STANDARD_ERROR);
    return tp_stream_write(&error, "not for a socket\n", 17, 0, NULL);
}

static bool is_empty(int socket) {
    char byte;
    return recv(socket, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Called with descriptor 2 free: a socket gets its number. Only returns results, because a failed
 * check would print to it. */
static bool socket_gets_nothing(void) {
    int ends[2];
    bool low = socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && ends[0] == STDERR_FILENO;
    bool nothing = low && write_to_error() == TP_ERR_NO_FILE && is_empty(ends[1]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return nothing;
}

static void a_socket_with_the_number_of_standard_error_gets_nothing(void) {
    int kept = dup(STDERR_FILENO);
    REQUIRE(kept > STDERR_FILENO);
    (void)close(STDERR_FILENO);
    tp_err closed = write_to_error();
    bool nothing = socket_gets_nothing();
    (void)dup2(kept, STDERR_FILENO);
    (void)close(kept);
    CHECK_EQ(closed, TP_ERR_NO_FILE);
    CHECK(nothing);
}

static void standard_error_may_be_redirected(void) {
    char name[64];
    struct stat facts;
    own_file_name(name, sizeof name);
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, S_IRUSR | S_IWUSR);
    int kept = dup(STDERR_FILENO);
    REQUIRE(file >= 0 && kept >= 0);
    (void)dup2(file, STDERR_FILENO);
    tp_err error = write_to_error();
    (void)dup2(kept, STDERR_FILENO);
    CHECK_EQ(error, TP_OK);
    CHECK_EQ(fstat(file, &facts), 0);
    CHECK_EQ(facts.st_size, 17);
    (void)close(kept);
    (void)close(file);
    CHECK_EQ(remove(name), 0);
}

/* ---- in processes of their own --------------------------------------------------------------- */

static int ran_as(const char *child, bool without_streams) {
    pid_t id = fork();
    if (id == 0) {
        for (int i = STDIN_FILENO; without_streams && i <= STDERR_FILENO; i++) {
            (void)close(i);
        }
        (void)execl("/proc/self/exe", "unit.os_stream", "--child", child, (char *)NULL);
        _exit(99);
    }
    int status = 0;
    REQUIRE(id > 0 && waitpid(id, &status, 0) == id);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void a_stream_closed_at_the_start_is_not_used(void) {
    CHECK_EQ(ran_as("closed", true), 0);
}

static void a_program_keeps_the_numbers_of_closed_streams(void) {
    CHECK_EQ(ran_as("guard", true), 0);
}

static void a_program_outlives_signals_that_mean_nothing(void) {
    CHECK_EQ(ran_as("signals", false), 0);
}

static void a_second_request_ends_at_once(void) {
    CHECK_EQ(ran_as("twice", false), TP_PROCESS_ENDED_AT_ONCE);
    CHECK_EQ(ran_as("wish", false), 0);
}

/* The exit code shows which step failed. */
static int run_child(const char *name) {
    if (strcmp(name, "closed") == 0) {
        int null = open("/dev/null", O_WRONLY); /* 0, then 1, so that the socket becomes 2 */
        int other = open("/dev/null", O_WRONLY);
        return null == 0 && other == 1 && socket_gets_nothing() ? 0 : 1;
    }
    if (strcmp(name, "guard") == 0) {
        tp_process_guard();
        int ends[2];
        if (pipe(ends) != 0 || ends[0] <= STDERR_FILENO) {
            return 1;
        }
        return write_to_error() == TP_ERR_NO_FILE && write(STDERR_FILENO, "x", 1) < 0 ? 0 : 2;
    }
    if (strcmp(name, "signals") == 0) {
        tp_process_guard();
        bool raised = raise(SIGPIPE) == 0 && raise(SIGXFSZ) == 0 && raise(SIGUSR1) == 0 &&
                      raise(SIGUSR2) == 0;
        return raised ? 0 : 1;
    }
    if (tp_process_catch_stop() || tp_process_wait_stop(0)) {
        return 1;
    }
    if (strcmp(name, "wish") == 0) { /* the program's own request does not count as a signal */
        tp_process_request_stop();
        return raise(SIGTERM) == 0 && tp_process_wait_stop(0) ? 0 : 2;
    }
    if (raise(SIGINT) != 0 || !tp_process_wait_stop(0)) {
        return 2;
    }
    (void)raise(SIGTERM);
    return 4; /* not reached */
}

int main(int argc, char **argv) {
    static const struct check_case cases[] = {CASE(a_closed_reader_raises_no_signal),
        CASE(a_signal_of_the_programs_own_is_left_alone),
        CASE(a_reader_that_does_not_read_is_not_waited_for),
        CASE(a_terminal_that_is_not_read_is_not_waited_for),
        CASE(a_write_that_waits_can_be_cancelled), CASE(a_slow_reader_gets_everything),
        CASE(a_file_at_its_limit_raises_no_signal),
        CASE(a_socket_with_the_number_of_standard_error_gets_nothing),
        CASE(standard_error_may_be_redirected), CASE(a_stream_closed_at_the_start_is_not_used),
        CASE(a_program_keeps_the_numbers_of_closed_streams),
        CASE(a_program_outlives_signals_that_mean_nothing), CASE(a_second_request_ends_at_once)};
    if (argc == 3 && strcmp(argv[1], "--child") == 0) {
        return run_child(argv[2]);
    }
    return check_run(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
