/*
 * The wall clock is wrong and then corrected: tokens and bans. Also lists of bans that are read
 * again with repeated, missing or wrong lines, and what is logged.
 *
 * The wall clock is the test's (wrapped.h), so nothing depends on the real one. What
 * the server measures with the steady clock takes hours.
 */
#include "core/config/config.h"
#include "os/process.h"
#include "wan_fixture.h"
#include "wanserver/program/program_files.h"
#include "wrapped.h"

#define T     UINT64_C(1800000000)
#define HOUR  UINT64_C(3600)
#define YEARS (UINT64_C(10000) * HOUR)

static wan_fixture fixture;

WRAPPED(uint64_t, tp_clock_wall_ms, void);
static _Atomic uint64_t wall_s = T;

uint64_t __wrap_tp_clock_wall_ms(void) {
    return atomic_load(&wall_s) * 1000;
}

static void set_wall(uint64_t seconds) {
    atomic_store(&wall_s, seconds);
}

/* ---- the log --------------------------------------------------------------------------------- */

static struct {
    tp_mutex mutex;
    size_t size;
    char text[65536];
} logged;

static void keep_lines(void *unused, const char *lines, size_t n) {
    (void)unused;
    tp_mutex_lock(&logged.mutex);
    size_t room = sizeof logged.text - 1 - logged.size;
    n = n < room ? n : room;
    memcpy(logged.text + logged.size, lines, n);
    logged.size += n;
    tp_mutex_unlock(&logged.mutex);
}

static void log_begin(void) {
    tp_mutex_init(&logged.mutex);
    logged.size = 0;
    const tp_log_options options = {
        .size = sizeof options, .level = TP_LOG_INFO, .sink = keep_lines};
    REQUIRE(tp_log_open(&options) == TP_OK);
}

/* Whether a line with both texts was logged since the last call. */
static bool was_logged(const char *level, const char *text) {
    tp_log_flush();
    tp_mutex_lock(&logged.mutex);
    logged.text[logged.size] = '\0';
    bool found = false;
    for (char *at = strstr(logged.text, text); at != NULL && !found; at = strstr(at + 1, text)) {
        char *open_server = at;
        while (open_server > logged.text && open_server[-1] != '\n') {
            open_server--;
        }
        const char *head = strstr(open_server, level);
        found = head != NULL && head < at;
    }
    tp_mutex_unlock(&logged.mutex);
    return found;
}

static void log_forget(void) {
    tp_log_flush();
    tp_mutex_lock(&logged.mutex);
    logged.size = 0;
    tp_mutex_unlock(&logged.mutex);
}

static void log_end(void) {
    tp_log_close();
    tp_mutex_destroy(&logged.mutex);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void open_server(void) {
    set_wall(T);
    log_begin();
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
}

static void close_server(void) {
    wan_fixture_close(&fixture);
    log_end();
}

static wan_login mint(uint64_t expiry) {
    wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    REQUIRE(tp_token_mint(&fixture.ring[0], expiry, fixture.key.public_key, &identity, login.token,
                login.secret) == TP_OK);
    return login;
}

static bool is_admitted(const wan_login *login) {
    return wan_fixture_admits(&fixture, login);
}

static bool new_token_is_admitted(void) {
    const wan_login login = mint(atomic_load(&wall_s) + 60);
    return is_admitted(&login);
}

static void a_clock_that_was_ahead_keeps_no_player_out(void) {
    open_server();
    wan_fixture_open(&fixture);
    set_wall(T + 2 * HOUR);
    const wan_login used = mint(T + 2 * HOUR + 60);
    CHECK(is_admitted(&used));
    set_wall(T + 2 * HOUR + 120);
    CHECK(new_token_is_admitted());
    set_wall(T + 120);
    CHECK(new_token_is_admitted());
    CHECK_EQ(wan_stats(&fixture).replayed, 0);
    /* A used token stays used, also when it becomes valid again. */
    CHECK(!is_admitted(&used));
    CHECK_EQ(wan_stats(&fixture).long_lived, 1);
    set_wall(T + 2 * HOUR);
    CHECK(!is_admitted(&used));
    CHECK_EQ(wan_stats(&fixture).replayed, 1);
    CHECK(new_token_is_admitted());
    close_server();
}

static void a_clock_that_was_behind_keeps_no_player_out(void) {
    open_server();
    wan_fixture_open(&fixture);
    set_wall(T - 2 * HOUR);
    const wan_login used = mint(T - 2 * HOUR + 60);
    CHECK(is_admitted(&used));
    set_wall(T);
    CHECK(!is_admitted(&used));
    CHECK_EQ(wan_stats(&fixture).expired, 1);
    CHECK(new_token_is_admitted());
    set_wall(T - 2 * HOUR);
    CHECK(!is_admitted(&used));
    CHECK_EQ(wan_stats(&fixture).replayed, 1);
    close_server();
}

static void a_token_that_lives_too_long_is_refused_and_logged(void) {
    open_server();
    fixture.options.max_token_life_s = 600;
    wan_fixture_open(&fixture);
    const wan_login just_right = mint(T + 600);
    const wan_login too_long = mint(T + 601);
    const wan_login milliseconds = mint(1000 * (T + 60));
    CHECK(!is_admitted(&too_long));
    CHECK(was_logged("warning", "wan: refused 127.0.0.1:"));
    CHECK(was_logged(
        "warning", "token lives too long: it expires in 601 s, max_token_life is 600 s"));
    CHECK(!is_admitted(&milliseconds));
    CHECK_EQ(wan_stats(&fixture).long_lived, 2);
    CHECK_EQ(wan_stats(&fixture).diffie_hellman, 0);
    CHECK(is_admitted(&just_right));
    set_wall(T + 1); /* it was not used up by the refusal */
    CHECK(is_admitted(&too_long));
    CHECK_EQ(wan_stats(&fixture).replayed, 0);
    close_server();
}

/* ---- bans ------------------------------------------------------------------------------------ */

static tp__settings settings;
static tp__files files;
static char report[TP__CONFIG_REPORT];

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    (void)fputs(text, file);
    CHECK_EQ(fclose(file), 0);
}

/* Starts a server without tokens, with this list of bans in force. */
static void open_with_bans(const char *text) {
    set_wall(T);
    log_begin();
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    memset(&settings, 0, sizeof settings);
    settings.auth = TP_AUTH_OPEN;
    (void)snprintf(
        settings.bans, sizeof settings.bans, "wan_clock-%" PRIu64 ".bans.tmp", tp_process_id());
    (void)snprintf(settings.key_file, sizeof settings.key_file, "wan_clock-%" PRIu64 ".key.tmp",
        tp_process_id());
    char key[TP_KEY_TEXT];
    write_text(settings.key_file, tp_key_format(fixture.key.private_key, key));
    write_text(settings.bans, text);
}

static void load(void) {
    REQUIRE(tp__files_load(&settings, &files, report, sizeof report) == TP_OK);
    tp__files_ban(&files, fixture.base.server);
}

static void reload(const char *text) {
    log_forget();
    write_text(settings.bans, text);
    tp__files_reload(&settings, &files, fixture.base.server);
}

static void close_with_bans(void) {
    CHECK_EQ(remove(settings.bans), 0);
    CHECK_EQ(remove(settings.key_file), 0);
    close_server();
}

static bool any_player_is_admitted(void) {
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    return is_admitted(&login);
}

#define UNTIL_T_AND_AN_HOUR "127.0.0.0/8 1800003600\n10.0.0.0/8\n"

static void bans_skipped_under_a_wrong_clock_are_restored(void) {
    open_with_bans(UNTIL_T_AND_AN_HOUR);
    set_wall(T + YEARS);
    load();
    CHECK(any_player_is_admitted());
    set_wall(T);
    reload(UNTIL_T_AND_AN_HOUR); /* the same list */
    CHECK(!any_player_is_admitted());
    close_with_bans();
}

static void bans_prolonged_under_a_wrong_clock_are_corrected(void) {
    open_with_bans(UNTIL_T_AND_AN_HOUR);
    set_wall(1000); /* 1970: a machine without a battery-backed clock */
    load();
    CHECK(!any_player_is_admitted());
    set_wall(T + 2 * HOUR);
    reload(UNTIL_T_AND_AN_HOUR);
    CHECK(any_player_is_admitted());
    close_with_bans();
}

/* Without a reload: bans follow the clock, and a connected player that becomes banned is
 * disconnected. */
static void bans_follow_the_clock_without_a_reload(void) {
    open_with_bans(UNTIL_T_AND_AN_HOUR);
    set_wall(T + 2 * HOUR);
    load();
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    log_forget();
    tp__files_follow_clock(&files, fixture.base.server);
    CHECK(!was_logged("", "bans:"));
    wan_check_echo(player, "still here");

    set_wall(T);
    tp__files_follow_clock(&files, fixture.base.server);
    CHECK(was_logged("warning", "clock set back by 7"));
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    wan_close(player, false);
    CHECK(!any_player_is_admitted());

    set_wall(T + 2 * HOUR);
    tp__files_follow_clock(&files, fixture.base.server);
    CHECK(was_logged("warning", "clock set ahead by 7"));
    CHECK(any_player_is_admitted());
    CHECK_EQ(files.bans_in_force, 1);
    close_with_bans();
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void a_repeated_line_gives_a_warning(void) {
    open_with_bans("10.0.0.1\n10.0.0.1\n");
    load();
    CHECK(was_logged("warning", ".bans.tmp:2: network given again: line 1 has it"));
    reload("127.0.0.1\n10.0.0.1\n127.0.0.1 1\n");
    CHECK(was_logged(
        "warning", ".bans.tmp:3: network given again: line 1 has it; the longer ban counts"));
    CHECK(was_logged("info", "bans: 2 listed, 2 in force (1 before)"));
    CHECK(was_logged("info", "bans: reloaded"));
    CHECK(!any_player_is_admitted());
    close_with_bans();
}

static void an_empty_list_gives_a_warning(void) {
    open_with_bans("127.0.0.1\n10.0.0.1\n");
    load();
    reload("# all gone\n");
    CHECK(was_logged("warning", "NOBODY IS BANNED ANY MORE (before: 2): the list is empty"));
    CHECK(any_player_is_admitted());
    reload("");
    CHECK(!was_logged("", " warning ")); /* no warning was logged */
    reload("127.0.0.1 1800003600\n");
    CHECK(!was_logged("", " warning "));
    CHECK(!any_player_is_admitted());
    set_wall(T + 2 * HOUR);
    reload("127.0.0.1 1800003600\n");
    CHECK(was_logged("warning", "NOBODY IS BANNED ANY MORE (before: 1): all listed bans"));
    CHECK(any_player_is_admitted());
    close_with_bans();
}

static void a_wrong_line_is_named_and_changes_no_ban(void) {
    open_with_bans("127.0.0.1\n");
    load();
    reload("10.0.0.1\n127.0.0.300 \t# him\n");
    CHECK(was_logged("error", "bans: reload failed, keeping the previous entries"));
    CHECK(was_logged("error", ".bans.tmp:2: '127.0.0.300 ?# him': expected a network"));
    CHECK(!any_player_is_admitted());
    reload("10.0.0.1\n");
    CHECK(any_player_is_admitted());
    close_with_bans();
}

static void without_memory_the_bans_stay_in_force(void) {
    open_with_bans("127.0.0.1\n");
    load();
    write_text(settings.bans, "10.0.0.1\n");
    log_forget();
    tp__memory_fail_after(1);
    tp__files_reload(&settings, &files, fixture.base.server);
    tp__memory_fail_after(-1);
    CHECK(was_logged("error", "bans: reload failed, keeping the previous entries"));
    CHECK(!any_player_is_admitted());
    reload("10.0.0.1\n");
    CHECK(any_player_is_admitted());
    close_with_bans();
}

CHECK_MAIN(CASE(a_clock_that_was_ahead_keeps_no_player_out),
    CASE(a_clock_that_was_behind_keeps_no_player_out),
    CASE(a_token_that_lives_too_long_is_refused_and_logged),
    CASE(bans_skipped_under_a_wrong_clock_are_restored),
    CASE(bans_prolonged_under_a_wrong_clock_are_corrected),
    CASE(bans_follow_the_clock_without_a_reload), CASE(a_repeated_line_gives_a_warning),
    CASE(an_empty_list_gives_a_warning), CASE(a_wrong_line_is_named_and_changes_no_ban),
    CASE(without_memory_the_bans_stay_in_force))
