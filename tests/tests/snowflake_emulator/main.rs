//! The emulator of Snowflake before its judges: the vendor's own SDK, which streams into it over TLS and lives through its
//! faults, and requests as the documentation has them. What they find is in `emulator/snowflake/judges`.

use forebay_tests::vendor::Judged;

/// Makes a test of each scenario.
macro_rules! scenarios {
    ($($name:ident: $scenario:literal;)*) => {
        $(
            #[test]
            fn $name() {
                Judged::start().judge(&[$scenario]);
            }
        )*
    };
}

scenarios! {
    a_channel_is_opened_written_committed_reopened_and_dropped: "life";
    what_is_not_committed_is_gone_when_a_channel_is_opened_again: "delay";
    rows_that_a_table_refuses_are_counted: "errors";
    who_opens_a_channel_takes_it_away_from_who_had_it: "two_writers";
    an_elastic_channel_has_no_tokens: "elastic";
    a_custom_pipe_takes_its_columns_from_other_keys: "custom_pipe";
    an_encrypted_key_is_taken: "encrypted_key";
    an_access_token_is_taken: "access_token";
    client_credentials_are_taken: "oauth";
    the_ingest_host_may_be_another_one: "split_hosts";
    what_is_sent_again_is_there_once: "survived";
    errors_that_end_a_channel_are_told: "ended";
    each_status_of_an_invalid_channel_is_told: "invalidated";
    a_forgotten_channel_begins_anew: "forgotten";
    rows_can_be_refused_at_the_commit: "rejected";
    tokens_are_renewed_without_an_interruption: "expiry";
    a_jwt_has_to_be_right_in_everything: "tokens";
    every_credential_is_exchanged_for_a_scoped_token: "exchanges";
    what_is_not_granted_is_not_there: "grants";
    an_append_is_known_by_its_sequencers: "sequencers";
    limits_are_kept: "limits";
    values_are_bound_and_told_in_every_type: "values";
    a_failed_statement_tells_code_and_place: "failures";
    primary_keys_bind_hybrid_tables_only: "keys";
    an_account_is_set_up_by_statements: "setting_up";
    statements_that_are_sent_together_share_a_session: "together";
    a_request_that_is_sent_again_is_done_once: "repetition";
    a_long_statement_is_asked_for_and_cancelled: "later";
    a_large_result_comes_in_partitions: "partitions";
}
