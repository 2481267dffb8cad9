/* Connect tokens: a minted token opens and any other one is refused, with the right reason. */
#include "proto/token.h"
#include "secure_fixture.h"

static secure_fixture fixture;

static tp_err open_at(uint64_t now, const uint8_t *token, tp_token *opened) {
    memset(opened, 0x5a, sizeof *opened);
    tp_err error = tp_token_open(fixture.ring, 2, now, fixture.gateway.public_hash, token, opened);
    if (error) {
        CHECK(fixture_all_zero(opened, sizeof *opened));
    }
    return error;
}

static void a_minted_token_opens(void) {
    tp_token opened;
    fixture_draw(&fixture);
    CHECK_EQ(fixture.token[0], fixture.ring[1].id);
    CHECK(fixture_all_zero(fixture.token + 1, 3));
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_OK);
    CHECK_EQ(opened.key_id, fixture.ring[1].id);
    CHECK_EQ(opened.expiry, FIXTURE_EXPIRY);
    CHECK_MEM(opened.id, fixture.token + 12, TP_TOKEN_ID_SIZE);
    CHECK_MEM(opened.secret, fixture.secret, TP_KEY_SIZE);
    CHECK_EQ(opened.identity.size, sizeof opened.identity);
    CHECK_EQ(opened.identity.account, fixture.identity.account);
    CHECK_EQ(opened.identity.flags, fixture.identity.flags);
    CHECK_EQ(opened.identity.reserved, 0);
    CHECK_MEM(opened.identity.user_data, fixture.identity.user_data, TP_TOKEN_USER_DATA);
}

static void every_token_is_different(void) {
    secure_fixture first;
    fixture_draw(&fixture);
    first = fixture;
    fixture_mint(&fixture);
    CHECK(memcmp(first.token + 12, fixture.token + 12, TP_TOKEN_ID_SIZE) != 0);
    CHECK(memcmp(first.secret, fixture.secret, TP_KEY_SIZE) != 0);
    /* The same identity, which must not be visible in the token. */
    CHECK(memcmp(first.token + 28, fixture.token + 28, 16) != 0);
}

static void a_changed_bit_is_refused(void) {
    tp_token opened;
    unsigned reasons[TP_ERR_CRYPTO + 1] = {0};
    fixture_draw(&fixture);
    uint64_t before = tp_noise_diffie_hellman_count();
    for (size_t bit = 0; bit < 8 * TP_TOKEN_SIZE; bit++) {
        uint8_t changed[TP_TOKEN_SIZE];
        memcpy(changed, fixture.token, sizeof changed);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        tp_err error = open_at(FIXTURE_NOW, changed, &opened);
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

static void an_expired_token_is_refused(void) {
    tp_token opened;
    fixture_draw(&fixture);
    CHECK_EQ(open_at(0, fixture.token, &opened), TP_OK);
    CHECK_EQ(open_at(FIXTURE_EXPIRY - 1, fixture.token, &opened), TP_OK);
    CHECK_EQ(open_at(FIXTURE_EXPIRY, fixture.token, &opened), TP_ERR_EXPIRED);
    CHECK_EQ(open_at(UINT64_MAX, fixture.token, &opened), TP_ERR_EXPIRED);
}

static void a_token_opens_at_its_gateway_only(void) {
    tp_token opened;
    fixture_draw(&fixture);
    fixture_draw_gateway(&fixture.gateway);
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_ERR_AUTH);
}

static void a_token_opens_with_its_key_only(void) {
    tp_token opened;
    fixture_draw(&fixture);
    fixture.ring[1].id++;
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_ERR_NO_KEY);
    CHECK_EQ(
        tp_token_open(NULL, 0, FIXTURE_NOW, fixture.gateway.public_hash, fixture.token, &opened),
        TP_ERR_NO_KEY);
    fixture.ring[1].id--;
    fixture_draw_key(fixture.ring[1].key);
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_ERR_AUTH);
}

/* Of several reasons the first in the protocol's order is given. */
static void reasons_are_given_in_the_protocols_order(void) {
    tp_token opened;
    fixture_draw(&fixture);
    fixture.token[139] ^= 1;
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_ERR_AUTH);
    fixture.token[0] ^= 0x80;
    CHECK_EQ(open_at(FIXTURE_NOW, fixture.token, &opened), TP_ERR_NO_KEY);
    CHECK_EQ(open_at(FIXTURE_EXPIRY, fixture.token, &opened), TP_ERR_EXPIRED);
    fixture.token[3] = 1;
    CHECK_EQ(open_at(FIXTURE_EXPIRY, fixture.token, &opened), TP_ERR_PROTOCOL);
}

static void minting_needs_a_whole_identity(void) {
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    fixture_draw(&fixture);
    fixture.identity.size--;
    CHECK_EQ(tp_token_mint(&fixture.ring[0], FIXTURE_EXPIRY, fixture.gateway.pair.public_key,
                 &fixture.identity, token, secret),
        TP_ERR_INVALID);
    fixture.identity.size++;
    fixture.identity.reserved = 1;
    CHECK_EQ(tp_token_mint(&fixture.ring[0], FIXTURE_EXPIRY, fixture.gateway.pair.public_key,
                 &fixture.identity, token, secret),
        TP_ERR_INVALID);
}

static void derived_keys_differ(void) {
    uint8_t psk[TP_KEY_SIZE];
    uint8_t mac_key[TP_KEY_SIZE];
    fixture_draw(&fixture);
    CHECK_EQ(tp_token_psk(fixture.secret, psk), TP_OK);
    CHECK_EQ(tp_token_mac_key(fixture.secret, mac_key), TP_OK);
    CHECK(memcmp(psk, mac_key, TP_KEY_SIZE) != 0);
    CHECK(memcmp(psk, fixture.secret, TP_KEY_SIZE) != 0);
}

CHECK_MAIN(CASE(a_minted_token_opens), CASE(every_token_is_different),
    CASE(a_changed_bit_is_refused), CASE(an_expired_token_is_refused),
    CASE(a_token_opens_at_its_gateway_only), CASE(a_token_opens_with_its_key_only),
    CASE(reasons_are_given_in_the_protocols_order), CASE(minting_needs_a_whole_identity),
    CASE(derived_keys_differ))
