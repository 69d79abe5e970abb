//! What the configuration of a Snowpipe sink means.

#![cfg(feature = "snowpipe")]

use std::{path::Path, time::Duration};

use forebay::{
    client::snowflake::Credential,
    config::{Config, ControlBackend, Environment, InSnowflake, Invalid, Loaded, RowKeeper, SinkKind},
    secret::{Secret, SecretSource},
    sink::{
        snowpipe::{OnRowError, Settings, Shape},
        source::Source,
    },
};

const SMALLEST: &str = r#"
[sources.in]
type = "host"

[sinks.out]
type = "snowpipe"
inputs = ["in"]
"#;

const OWN: &str = r#"
account = "myorg-my_acct"
user = "forebay"
private_key_file = "key.p8"
database = "plant"
table = "events"
"#;

fn parse(keys: &str, environment: &Environment) -> Result<Loaded, Invalid> {
    Config::parse(format!("{SMALLEST}{keys}").as_bytes(), Path::new("/etc/forebay"), environment)
}

fn settings_in(keys: &str, environment: &Environment) -> Settings {
    let loaded = parse(keys, environment).unwrap_or_else(|invalid| panic!("{invalid}\n{keys}"));
    let SinkKind::Snowpipe(settings) = &loaded.config.sinks["out"].kind else { panic!("it is a Snowpipe sink") };
    (**settings).clone()
}

fn settings(keys: &str) -> Settings {
    settings_in(keys, &Environment::made_up([("SECRET", "hunter2")]))
}

#[test]
fn an_account_a_key_and_a_table_are_enough() {
    let settings = settings(OWN);
    assert_eq!(settings.connection.account.url(), "https://myorg-my-acct.snowflakecomputing.com");
    assert_eq!((settings.connection.user.as_str(), &settings.connection.role), ("forebay", &None));
    let key = Credential::KeyPair { file: "/etc/forebay/key.p8".into(), password: None };
    assert_eq!(settings.connection.credential, key);
    let target = settings.target();
    assert_eq!([target.database, target.schema, target.table], ["PLANT", "PUBLIC", "EVENTS"]);
    assert_eq!((settings.pipe.as_str(), &settings.channel), ("EVENTS-STREAMING", &None));
    assert_eq!((settings.shape, settings.on_row_error), (Shape::Events, OnRowError::Stop));
    assert_eq!((settings.batch.max_events, settings.batch.max_bytes), (10_000, 1 << 20));
    assert_eq!((settings.max_in_flight_bytes, settings.poll_interval), (16 << 20, Duration::from_millis(250)));
    assert_eq!(parse(OWN, &Environment::made_up([])).expect("it is right").warnings, []);
}

#[test]
fn names_are_as_sql_has_them() {
    let keys = "schema = '\"Raw\"'\nrole = \"ingest\"\npipe = '\"events pipe\"'\nchannel = \"plant-7\"\n";
    let settings = settings(&format!("{OWN}{keys}"));
    assert_eq!((settings.table.schema.as_str(), settings.pipe.as_str()), ("Raw", "events pipe"));
    assert_eq!((settings.connection.role.as_deref(), settings.channel.as_deref()), (Some("INGEST"), Some("plant-7")));
}

#[test]
fn rows_are_what_is_asked_for() {
    let columns = settings(&format!("{OWN}columns = {{ Device = \"$.device.id\", \"at\" = \"time\" }}\n")).shape;
    let Shape::Columns(columns) = columns else { panic!("{columns:?}") };
    assert_eq!(columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["Device", "at"]);
    assert_eq!(columns[1].1, Source::Time);
    let body = settings(&format!("{OWN}format = \"body\"\non_row_error = \"dead-letter\"\n"));
    assert_eq!((body.shape, body.on_row_error), (Shape::Body, OnRowError::DeadLetter));
}

#[test]
fn there_are_three_ways_to_log_in() {
    let place = "account = \"xy12345.eu-central-1\"\nuser = \"u\"\ndatabase = \"d\"\ntable = \"t\"\n";
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    let ways = [
        (
            "private_key_file = \"/k\"\nprivate_key_password_file = \"/p\"\n",
            Credential::KeyPair { file: "/k".into(), password: Some(SecretSource::File("/p".into())) },
        ),
        ("token_file = \"/t\"\n", Credential::AccessToken(SecretSource::File("/t".into()))),
        (
            "oauth_client_id = \"i\"\noauth_client_secret = \"${SECRET}\"\noauth_token_url = \"https://l/t\"\n\
             oauth_scope = \"s\"\n",
            Credential::OAuthClient {
                id: "i".to_owned(),
                secret: inline("hunter2"),
                token_url: Some("https://l/t".to_owned()),
                scope: Some("s".to_owned()),
            },
        ),
    ];
    for (keys, credential) in ways {
        assert_eq!(settings(&format!("{place}{keys}")).connection.credential, credential, "{keys}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = Environment::made_up([
        ("SNOWFLAKE_ACCOUNT", "other-acct"),
        ("SNOWFLAKE_USER", "ops"),
        ("SNOWFLAKE_PRIVATE_KEY_FILE", "/run/key"),
        ("SNOWFLAKE_PRIVATE_KEY_PASSWORD", "correct horse"),
        ("SNOWFLAKE_DATABASE", "lake"),
        ("SNOWFLAKE_SCHEMA_NAME", "bronze"),
        ("SNOWFLAKE_ROLE", "loader"),
    ]);
    for keys in ["table = \"events\"\n".to_owned(), format!("{OWN}private_key_password_file = \"p\"\nrole = \"x\"\n")] {
        let settings = settings_in(&keys, &environment);
        assert_eq!(settings.connection.account.name(), "OTHER-ACCT");
        assert_eq!((settings.connection.user.as_str(), settings.connection.role.as_deref()), ("ops", Some("LOADER")));
        assert_eq!((settings.table.database.as_str(), settings.table.schema.as_str()), ("LAKE", "BRONZE"));
        let password = Some(SecretSource::Inline(Secret::new("correct horse")));
        assert_eq!(settings.connection.credential, Credential::KeyPair { file: "/run/key".into(), password });
    }
}

#[test]
fn no_secret_is_shown() {
    let keys = "account = \"a-b\"\nuser = \"u\"\ndatabase = \"d\"\ntable = \"t\"\noauth_client_id = \"i\"\n\
                oauth_client_secret = \"${SECRET}\"\n";
    let shown = format!("{:?}", settings(keys));
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn control_in(keys: &str, environment: &Environment) -> Loaded {
    parse(keys, environment).unwrap_or_else(|invalid| panic!("{invalid}\n{keys}"))
}

fn in_snowflake(loaded: &Loaded) -> &InSnowflake {
    match &loaded.config.control.backend {
        ControlBackend::Snowflake(control) => control,
        other => panic!("it is not in Snowflake: {other:?}"),
    }
}

#[test]
fn the_control_table_is_where_the_sink_is_if_there_is_a_warehouse_for_it() {
    let nothing = Environment::made_up([]);
    assert_eq!(control_in(OWN, &nothing).config.control.backend, ControlBackend::Nothing, "nothing that costs unasked");
    let named = control_in(&format!("{OWN}\n[control]\nwarehouse = \"small\""), &nothing);
    let variables = [("SNOWFLAKE_WAREHOUSE", "small"), ("TARGET_DB", "control"), ("TARGET_TABLE", "\"Rows\"")];
    let of_variables = control_in(OWN, &Environment::made_up(variables));
    for (loaded, table) in
        [(&named, r#""PLANT"."PUBLIC"."INGESTION_STATUS""#), (&of_variables, r#""CONTROL"."PUBLIC"."Rows""#)]
    {
        let InSnowflake { place, is_hybrid, is_durable } = in_snowflake(loaded);
        assert_eq!((place.warehouse.as_str(), place.table.to_string().as_str()), ("SMALL", table));
        assert_eq!((place.connection.user.as_str(), *is_hybrid, *is_durable), ("forebay", false, true));
        let sink = &loaded.config.sinks["out"].kind;
        assert_eq!(loaded.config.control.keeper(sink), RowKeeper::Delivery);
    }
}

#[test]
fn the_control_table_can_have_a_login_of_its_own() {
    let control = r#"
[control]
warehouse = "small"
database = "ops"
hybrid_table = true

[control.snowflake]
account = "other-account"
user = "ops"
token_file = "/run/token"
"#;
    let loaded = control_in(&format!("{OWN}{control}"), &Environment::made_up([]));
    let InSnowflake { place, is_hybrid, .. } = in_snowflake(&loaded);
    assert_eq!((place.connection.account.name(), place.connection.user.as_str()), ("OTHER-ACCOUNT", "ops"));
    assert_eq!((place.table.database.as_str(), *is_hybrid), ("OPS", true));
}

#[test]
fn a_login_for_snowflake_says_that_the_control_table_is_there() {
    let login = "[control.snowflake]\naccount = \"a-b\"\nuser = \"u\"\ntoken_file = \"/run/token\"\n";
    let parse = |control: &str| {
        let sinks = "[sources.in]\ntype = \"host\"\n[sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]\n";
        let text = format!("{sinks}[control]\ndatabase = \"d\"\n{control}\n{login}");
        Config::parse(text.as_bytes(), Path::new("/etc/forebay"), &Environment::made_up([]))
    };
    let loaded = parse("warehouse = \"w\"").unwrap_or_else(|invalid| panic!("{invalid}"));
    assert_eq!(in_snowflake(&loaded).place.connection.account.name(), "A-B");
    for (control, said) in
        [("", "control.warehouse: is missing"), ("host = \"db\"", "the control table is in Postgres")]
    {
        let invalid = parse(control).expect_err("it is wrong").to_string();
        assert!(invalid.contains(said), "{invalid}");
    }
}

#[test]
fn what_the_control_table_lacks_is_told_with_what_to_do() {
    let said = |control: &str| {
        let text = format!("{OWN}\n[control]\n{control}");
        parse(&text, &Environment::made_up([])).expect_err("it is wrong").to_string()
    };
    let lacking = said("backend = \"snowflake\"");
    assert!(lacking.contains("control.warehouse: is missing") && lacking.contains("SNOWFLAKE_WAREHOUSE"), "{lacking}");
    let injected = said("warehouse = \"small\"\ntable = \"t; DROP TABLE x\"");
    assert!(injected.contains("control.table: has ';'"), "{injected}");
}

#[test]
fn claims_in_memory_are_told_of_and_for_one_consumer_only() {
    let hub = |name: &str| {
        format!(
            "[sources.{name}]\ntype = \"eventhub\"\nconnection_string_file = \"/run/{name}\"\nnamespace = \
             \"{name}.servicebus.windows.net\"\nhub = \"h\"\npartitions = \"balanced\"\n"
        )
    };
    let sink = |name: &str| {
        format!("[sinks.to-{name}]\ntype = \"snowpipe\"\ninputs = [\"{name}\"]{}", OWN.replace("events", name))
    };
    let control = "[control]\nwarehouse = \"small\"\nownership_mode = \"local_single_consumer_smoke\"\n";
    let parse = |text: &str| Config::parse(text.as_bytes(), Path::new("/etc/forebay"), &Environment::made_up([]));
    let one = format!("{control}{}{}", hub("a"), sink("a"));
    let loaded = parse(&one).unwrap_or_else(|invalid| panic!("{invalid}"));
    assert!(!in_snowflake(&loaded).is_durable);
    let warned: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warned.iter().any(|warning| warning.contains("is a diagnostic mode")), "{warned:?}");
    let two = format!("{one}{}{}", hub("b"), sink("b"));
    let said = parse(&two).expect_err("there are two consumers").to_string();
    assert!(said.contains("for a single consumer"), "{said}");
}
