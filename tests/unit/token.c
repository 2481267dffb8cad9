/* Connect tokens: what is minted opens, and nothing else does, for the right reason. */
#include "proto/token.h"
#include "secure_stage.h"

static secure_stage stage;

static tp_err open_at(uint64_t now, const uint8_t *token, tp_token *opened) {
    memset(opened, 0x5a, sizeof *opened);
    tp_err error = tp_token_open(stage.ring, 2, now, stage.gateway.public_hash, token, opened);
    if (error) {
        CHECK(stage_all_zero(opened, sizeof *opened));
    }
    return error;
}

static void what_was_minted_opens(void) {
    tp_token opened;
    stage_draw(&stage);
    CHECK_EQ(stage.token[0], stage.ring[1].id);
    CHECK(stage_all_zero(stage.token + 1, 3));
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_OK);
    CHECK_EQ(opened.key_id, stage.ring[1].id);
    CHECK_EQ(opened.expiry, STAGE_EXPIRY);
    CHECK_MEM(opened.id, stage.token + 12, TP_TOKEN_ID_SIZE);
    CHECK_MEM(opened.secret, stage.secret, TP_KEY_SIZE);
    CHECK_EQ(opened.identity.size, sizeof opened.identity);
    CHECK_EQ(opened.identity.account, stage.identity.account);
    CHECK_EQ(opened.identity.flags, stage.identity.flags);
    CHECK_EQ(opened.identity.reserved, 0);
    CHECK_MEM(opened.identity.user_data, stage.identity.user_data, TP_TOKEN_USER_DATA);
}

static void each_one_is_new(void) {
    secure_stage first;
    stage_draw(&stage);
    first = stage;
    stage_mint(&stage);
    CHECK(memcmp(first.token + 12, stage.token + 12, TP_TOKEN_ID_SIZE) != 0);
    CHECK(memcmp(first.secret, stage.secret, TP_KEY_SIZE) != 0);
    /* The identity is the same, and is not to be seen. */
    CHECK(memcmp(first.token + 28, stage.token + 28, 16) != 0);
}

static void every_changed_bit_is_refused(void) {
    tp_token opened;
    unsigned reasons[TP_ERR_CRYPTO + 1] = {0};
    stage_draw(&stage);
    uint64_t before = tp_noise_diffie_hellman_count();
    for (size_t bit = 0; bit < 8 * TP_TOKEN_SIZE; bit++) {
        uint8_t changed[TP_TOKEN_SIZE];
        memcpy(changed, stage.token, sizeof changed);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tp_err error = open_at(STAGE_NOW, changed, &opened);
        CHECK_NE(error, TP_OK);
        reasons[error]++;
    }
    CHECK_EQ(reasons[TP_ERR_PROTOCOL], 3 * 8);
    CHECK_EQ(reasons[TP_ERR_NO_KEY] + reasons[TP_ERR_AUTH] + reasons[TP_ERR_EXPIRED],
        8 * (TP_TOKEN_SIZE - 3));
    CHECK_GT(reasons[TP_ERR_NO_KEY], 0);
    CHECK_GE(reasons[TP_ERR_AUTH], 8 * (TP_TOKEN_SIZE - 12));
    CHECK_EQ(tp_noise_diffie_hellman_count(), before);
}

static void time_runs_out(void) {
    tp_token opened;
    stage_draw(&stage);
    CHECK_EQ(open_at(0, stage.token, &opened), TP_OK);
    CHECK_EQ(open_at(STAGE_EXPIRY - 1, stage.token, &opened), TP_OK);
    CHECK_EQ(open_at(STAGE_EXPIRY, stage.token, &opened), TP_ERR_EXPIRED);
    CHECK_EQ(open_at(UINT64_MAX, stage.token, &opened), TP_ERR_EXPIRED);
}

static void only_for_its_gateway(void) {
    tp_token opened;
    stage_draw(&stage);
    stage_draw_gateway(&stage.gateway);
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_ERR_AUTH);
}

static void only_with_its_key(void) {
    tp_token opened;
    stage_draw(&stage);
    stage.ring[1].id++;
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_ERR_NO_KEY);
    CHECK_EQ(tp_token_open(NULL, 0, STAGE_NOW, stage.gateway.public_hash, stage.token, &opened),
        TP_ERR_NO_KEY);
    stage.ring[1].id--;
    stage_draw_key(stage.ring[1].key);
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_ERR_AUTH);
}

/* Of several reasons the protocol's order decides which is given. */
static void reasons_in_their_order(void) {
    tp_token opened;
    stage_draw(&stage);
    stage.token[139] ^= 1;
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_ERR_AUTH);
    stage.token[0] ^= 0x80;
    CHECK_EQ(open_at(STAGE_NOW, stage.token, &opened), TP_ERR_NO_KEY);
    CHECK_EQ(open_at(STAGE_EXPIRY, stage.token, &opened), TP_ERR_EXPIRED);
    stage.token[3] = 1;
    CHECK_EQ(open_at(STAGE_EXPIRY, stage.token, &opened), TP_ERR_PROTOCOL);
}

static void minting_wants_a_whole_identity(void) {
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    stage_draw(&stage);
    stage.identity.size--;
    CHECK_EQ(tp_token_mint(&stage.ring[0], STAGE_EXPIRY, stage.gateway.pair.public_key,
                 &stage.identity, token, secret),
        TP_ERR_INVALID);
    stage.identity.size++;
    stage.identity.reserved = 1;
    CHECK_EQ(tp_token_mint(&stage.ring[0], STAGE_EXPIRY, stage.gateway.pair.public_key,
                 &stage.identity, token, secret),
        TP_ERR_INVALID);
}

static void derived_keys_differ(void) {
    uint8_t psk[TP_KEY_SIZE];
    uint8_t mac_key[TP_KEY_SIZE];
    stage_draw(&stage);
    CHECK_EQ(tp_token_psk(stage.secret, psk), TP_OK);
    CHECK_EQ(tp_token_mac_key(stage.secret, mac_key), TP_OK);
    CHECK(memcmp(psk, mac_key, TP_KEY_SIZE) != 0);
    CHECK(memcmp(psk, stage.secret, TP_KEY_SIZE) != 0);
}

CHECK_MAIN(CASE(what_was_minted_opens), CASE(each_one_is_new), CASE(every_changed_bit_is_refused),
    CASE(time_runs_out), CASE(only_for_its_gateway), CASE(only_with_its_key),
    CASE(reasons_in_their_order), CASE(minting_wants_a_whole_identity), CASE(derived_keys_differ))
