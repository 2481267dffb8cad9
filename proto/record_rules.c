/*
 * The rules of directions in the product: constants. Nothing else is in this file, because a test
 * program replaces all of it.
 */
#include "proto/record_rules_internal.h"

#include "proto/record.h"

static const tp__record_rules product_rules = {.rekey_interval = TP_RECORD_REKEY};

const tp__record_rules *const tp__record_rules_in_use = &product_rules;
