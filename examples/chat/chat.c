/*
 * tp-chat: a chat with one room, on libwanserver alone.
 *
 *     tp-chat --port N --key FILE [--key-ring FILE]
 *
 * Each message is a line of text, in UTF-8, in both directions. With a key ring, users need connect
 * tokens, and their names are in the tokens, from the login service. Without a key ring anybody may
 * connect, and a user's first line is the user's name; nothing proves it.
 *
 * Threads: the handlers of one session run one after another, and a user's entry is used only by
 * the handlers of that user's session. So no lock is needed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../keys.h"
#include "twinport/process.h"
#include "twinport/wanserver.h"

#define NAME_MAX_BYTES 24u
#define LINE_MAX_BYTES 400u

typedef struct user {
    char name[NAME_MAX_BYTES + 1]; /* "": not given yet */
} user;

static user *users; /* by slot; the system provides memory only for entries in use */

static user *user_of(tp_session_id session) {
    return &users[tp_session_slot(session)];
}

/* ---- text ------------------------------------------------------------------------------------ */

static tp_packet *compose(const char *format, va_list arguments) {
    char text[NAME_MAX_BYTES + LINE_MAX_BYTES + 32];
    int size = vsnprintf(text, sizeof text, format, arguments);
    return size < 0 ? NULL : tp_packet_copy_of(text, strlen(text));
}

/* Sends a line to one user. It is no error if that user has left meanwhile. */
static void tell(tp_server *server, tp_session_id session, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tp_packet *packet = compose(format, arguments);
    va_end(arguments);
    if (packet != NULL) {
        tp_server_send(server, session, packet);
        tp_packet_release(packet);
    }
}

/* Sends a line to all users: one packet, in the send queues of all sessions. */
static void announce(tp_server *server, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tp_packet *packet = compose(format, arguments);
    va_end(arguments);
    if (packet != NULL) {
        tp_server_broadcast(server, packet, TP_NO_SESSION);
        tp_packet_release(packet);
    }
}

/* Whether this is a line of text: 1 to `most` bytes, and no control characters, which could disturb
 * a terminal. */
static bool is_text(const uint8_t *bytes, size_t size, size_t most) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < ' ' || bytes[i] == 127) {
            return false;
        }
    }
    return size > 0 && size <= most;
}

/* ---- users ----------------------------------------------------------------------------------- */

static bool take_name(tp_server *server, tp_session_id session, const uint8_t *bytes, size_t size) {
    user *one = user_of(session);
    if (!is_text(bytes, size, NAME_MAX_BYTES)) {
        return false;
    }
    memcpy(one->name, bytes, size);
    one->name[size] = '\0';
    announce(server, "* %s has joined (%u online)", one->name, tp_server_session_count(server));
    return true;
}

/* The name is in the user data of the user's token. */
static void on_join(tp_server *server, tp_session_id session) {
    tp_identity who = {.size = sizeof who};
    user_of(session)->name[0] = '\0';
    if (!tp_session_identity(server, session, &who)) {
        tell(server, session, "* Welcome. What is your name?");
        return;
    }
    size_t size = 0;
    while (size < sizeof who.user_data && who.user_data[size] != 0) {
        size++;
    }
    if (!take_name(server, session, who.user_data, size)) {
        char name[NAME_MAX_BYTES + 1];
        int length = snprintf(name, sizeof name, "#%llu", (unsigned long long)who.account);
        take_name(server, session, (const uint8_t *)name, (size_t)length);
    }
}

static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
    const uint8_t *bytes = tp_packet_bytes(packet);
    size_t size = tp_packet_size(packet);
    const char *name = user_of(session)->name;
    if (name[0] == '\0') {
        if (!take_name(server, session, bytes, size)) {
            tell(server, session, "* A name is text of 1 to %u bytes. What is yours?",
                NAME_MAX_BYTES);
        }
    } else if (!is_text(bytes, size, LINE_MAX_BYTES)) {
        tell(server, session, "* Only text, please, of 1 to %u bytes.", LINE_MAX_BYTES);
    } else {
        announce(server, "%s: %.*s", name, (int)size, (const char *)bytes);
    }
}

static void on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    (void)reason;
    if (user_of(session)->name[0] != '\0') {
        announce(server, "* %s has left", user_of(session)->name);
    }
}

/* ---- the program ----------------------------------------------------------------------------- */

typedef struct chat_keys {
    uint8_t private_key[TP_KEY_SIZE];
    tp_token_key ring[TP_TOKEN_KEYS_MAX];
} chat_keys;

static bool read_option(
    const char *name, const char *value, chat_keys *k, tp_wanserver_options *options) {
    if (strcmp(name, "--port") == 0) {
        char *end = NULL;
        unsigned long port = strtoul(value, &end, 10);
        options->server.address.port = (uint16_t)port;
        return end != value && *end == '\0' && port <= UINT16_MAX;
    }
    if (strcmp(name, "--key") == 0) {
        options->private_key = k->private_key;
        return read_key(value, k->private_key);
    }
    if (strcmp(name, "--key-ring") == 0) {
        options->auth = TP_AUTH_TOKEN;
        options->token_keys = k->ring;
        options->token_key_count = read_key_ring(value, k->ring, TP_TOKEN_KEYS_MAX);
        return options->token_key_count > 0;
    }
    return false;
}

/* Enough for people who type; far below the defaults. */
static void set_limits(tp_wanserver_options *options) {
    options->server.max_sessions = 1000;
    options->server.max_frame = 2 * LINE_MAX_BYTES;
    options->message_rate = 5;
    options->message_burst = 20;
}

static tp_err serve(tp_server *server) {
    tp_err error = tp_server_start(server);
    if (error) {
        return error;
    }
    char text[TP_ADDRESS_TEXT];
    tp_address address = tp_server_address(server);
    printf("listening on %s\n", tp_address_format(&address, text));
    fflush(stdout);
    tp_process_wait_stop(-1);
    tp_server_stop(server);
    return tp_server_wait(server, -1);
}

int main(int count, char **words) {
    static chat_keys keys;
    tp_wanserver_options options;
    tp_wanserver_defaults(&options);
    tp_address_parse("127.0.0.1", &options.server.address);
    options.server.name = "chat";
    options.auth = TP_AUTH_OPEN;
    set_limits(&options);
    bool good = count % 2 == 1;
    for (int i = 1; good && i + 1 < count; i += 2) {
        good = read_option(words[i], words[i + 1], &keys, &options);
    }
    if (!good || options.private_key == NULL) {
        fputs("usage: tp-chat --port N --key FILE [--key-ring FILE]\n", stderr);
        return 2;
    }

    const tp_handlers handlers = {
        .size = sizeof handlers, .on_join = on_join, .on_recv = on_recv, .on_leave = on_leave};
    tp_server *server = NULL;
    users = calloc(TP_MAX_SESSIONS, sizeof *users);
    tp_err error = users == NULL ? TP_ERR_NO_MEMORY : tp_process_catch_stop();
    if (!error) {
        error = tp_wanserver_create(&options, &handlers, &server);
    }
    tp_secure_wipe(&keys, sizeof keys);
    if (!error) {
        error = serve(server);
    }
    tp_server_destroy(server);
    free(users);
    if (error) {
        fprintf(stderr, "tp-chat: %s\n", tp_err_text(error));
    }
    return error ? 1 : 0;
}
