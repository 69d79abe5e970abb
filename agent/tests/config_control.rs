//! Where the control table is: what the file says, what the environment says over it, and what holds if nothing is said.
#![cfg(feature = "postgres")]

use std::{path::Path, time::Duration};

use forebay::{
    client::{
        azure::Settings as Identity,
        postgres::{Password, Settings, SslMode},
    },
    config::{Config, ControlBackend, Environment, Invalid, RowKeeper},
    secret::{Secret, SecretSource},
};

const FILES: &str = r#"
[sources.in]
type = "host"

[sinks.out]
type = "stdout"
inputs = ["in"]
"#;

const OWN: &str = r#"
[control]
host = "Control.example"
database = "Control"
user = "ops"
"#;

fn parse_with(text: &str, environment: &Environment) -> Result<Config, Invalid> {
    Config::parse(text.as_bytes(), Path::new("/etc/forebay"), environment).map(|loaded| loaded.config)
}

fn config(text: &str) -> Config {
    parse_with(text, &Environment::made_up([])).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"))
}

fn place(config: &Config) -> &Settings {
    match &config.control.backend {
        ControlBackend::Postgres(settings) => settings,
        _ => panic!("it is not in Postgres"),
    }
}

#[test]
fn without_a_word_and_without_a_sink_in_a_database_there_is_no_control_table() {
    let config = config(FILES);
    assert_eq!(config.control.backend, ControlBackend::Nothing);
    assert_eq!(config.control.keeper(&config.sinks["out"].kind), RowKeeper::Nobody);
}

#[test]
fn a_place_of_its_own_has_the_defaults_that_operators_know() {
    let config = config(&format!("{OWN}{FILES}"));
    let settings = place(&config);
    assert_eq!((settings.host.as_str(), settings.port), ("Control.example", 5432));
    assert_eq!((settings.database.as_str(), settings.user.as_str()), ("control", "ops"));
    assert_eq!((settings.sslmode, &settings.password), (SslMode::Require, &None));
    assert_eq!(config.control.table.to_string(), r#""public"."ingestion_status""#);
    assert_eq!(config.control.interval, Duration::from_secs(10));
    assert_eq!(config.control.keeper(&config.sinks["out"].kind), RowKeeper::Delivery);
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = Environment::made_up([
        ("CONTROL_TABLE_BACKEND", "postgres"),
        ("CONTROL_OWNERSHIP_MODE", "durable"),
        ("TARGET_DB", "CONTROL"),
        ("TARGET_SCHEMA", "\"Ops\""),
        ("TARGET_TABLE", "INGESTION_STATUS_2"),
        ("CONTROL_PG_HOST", "other.example"),
        ("CONTROL_PG_PORT", "6432"),
        ("CONTROL_PG_USER", "forebay"),
        ("CONTROL_PG_PASSWORD", "correct horse"),
        ("CONTROL_PG_SSLMODE", "verify-full"),
        ("CONTROL_PG_AUTH_MODE", "password"),
    ]);
    let file = "[control]\nbackend = \"none\"\nhost = \"h\"\nuser = \"u\"\ndatabase = \"d\"\npassword_file = \"p\"\n";
    // The password of the environment has a blank, as one may: it is sent in no header.
    for text in [FILES.to_owned(), format!("{file}{FILES}")] {
        let config = parse_with(&text, &environment).unwrap_or_else(|invalid| panic!("{invalid}"));
        let settings = place(&config);
        assert_eq!((settings.host.as_str(), settings.port), ("other.example", 6432));
        assert_eq!((settings.database.as_str(), settings.user.as_str()), ("control", "forebay"));
        assert_eq!(settings.sslmode, SslMode::VerifyFull);
        let Some(Password::Secret(SecretSource::Inline(password))) = &settings.password else { panic!("{settings:?}") };
        assert_eq!(password.expose(), "correct horse");
        assert_eq!(config.control.table.to_string(), r#""Ops"."ingestion_status_2""#);
    }
}

fn identity(settings: &Settings) -> &Identity {
    match &settings.password {
        Some(Password::AzureToken(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_can_be_the_password_and_the_vendors_variables_say_whose() {
    let environment = Environment::made_up([
        ("CONTROL_PG_AUTH_MODE", "azure_token"),
        ("AZURE_TENANT_ID", "contoso.example"),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_CLIENT_SECRET", "hunter2"),
        ("AZURE_CLIENT_CERTIFICATE_PATH", "app.pem"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/run/token"),
        ("AZURE_AUTHORITY_HOST", "login.example"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://metadata.example/"),
        ("IDENTITY_ENDPOINT", "http://localhost:40342/token"),
        ("IDENTITY_HEADER", "hunter2"),
        ("IMDS_ENDPOINT", "http://localhost:40342"),
    ]);
    let config = parse_with(&format!("{OWN}azure.client_secret_file = \"s\"\n{FILES}"), &environment);
    let config = config.unwrap_or_else(|invalid| panic!("{invalid}"));
    let identity = identity(place(&config));
    assert_eq!(identity.tenant_id.as_ref().map(|tenant| tenant.as_str()), Some("contoso.example"));
    assert_eq!(identity.client_id.as_deref(), Some("app"));
    assert_eq!(identity.client_secret, Some(SecretSource::Inline(Secret::new("hunter2"))), "it overrides the file");
    assert_eq!(identity.client_certificate_file.as_deref(), Some(Path::new("/etc/forebay/app.pem")));
    assert_eq!(identity.federated_token_file.as_deref(), Some(Path::new("/run/token")));
    assert_eq!(identity.authority.as_str(), "https://login.example");
    assert_eq!(identity.metadata_host, "http://metadata.example");
    assert_eq!(identity.identity_endpoint.as_deref(), Some("http://localhost:40342/token"));
    assert_eq!(identity.identity_header, Some(Secret::new("hunter2")));
    assert_eq!(identity.imds_endpoint.as_deref(), Some("http://localhost:40342"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_sinks_token_is_the_control_tables_too_unless_it_says_otherwise() {
    let sink = "[sources.in]\ntype = \"host\"\n[sinks.a]\ntype = \"postgres\"\ninputs = [\"in\"]\ntable = \"t\"\n\
                url = \"postgresql://me@h/d?sslmode=verify-full\"\nauth_mode = \"azure_token\"\n";
    let with = |control: &str| config(&format!("[control]\n{control}\n{sink}"));
    assert_eq!(identity(place(&with(""))), &Identity::default());
    assert_eq!(identity(place(&with("user = \"other\""))), &Identity::default(), "one identity may be several roles");
    assert_eq!(place(&with("auth_mode = \"password\"")).password, None);
    let own = with("auth_mode = \"azure_token\"\nazure.client_id = \"other\"");
    assert_eq!(identity(place(&own)).client_id.as_deref(), Some("other"));
    let secret = with("password_file = \"/p\"");
    assert_eq!(place(&secret).password, Some(Password::Secret(SecretSource::File("/p".into()))));
    let clear = parse_with(&format!("[control]\nsslmode = \"prefer\"\n{sink}"), &Environment::made_up([]));
    let said = clear.expect_err("it is in the clear").to_string();
    assert!(said.contains("control.sslmode: could send the token unencrypted"), "{said}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let environment = Environment::made_up([("CONTROL_PG_HOST", ""), ("TARGET_DB", ""), ("CONTROL_PG_PASSWORD", "")]);
    assert_eq!(parse_with(FILES, &environment).expect("valid").control.backend, ControlBackend::Nothing);
    let text = format!("{OWN}{FILES}");
    assert_eq!(parse_with(&text, &environment).expect("valid").control, config(&text).control);
}

#[test]
fn an_error_of_a_variable_names_it_and_shows_its_value_unless_that_is_a_secret() {
    let said = |name, value| {
        let environment = Environment::made_up([(name, value)]);
        parse_with(&format!("{OWN}{FILES}"), &environment).expect_err("it is wrong").to_string()
    };
    let port = said("CONTROL_PG_PORT", "54x32");
    assert!(port.starts_with("error: environment variable CONTROL_PG_PORT: is not a decimal number"), "{port}");
    assert!(port.contains("CONTROL_PG_PORT=54x32") && port.contains("from 1 to 65535"), "{port}");
    let sslmode = said("CONTROL_PG_SSLMODE", "verify_full");
    assert!(sslmode.contains("did you mean \"verify-full\"?"), "{sslmode}");
    let password = said("CONTROL_PG_PASSWORD", "hunter2\nhunter2");
    assert!(
        password.contains("environment variable CONTROL_PG_PASSWORD") && !password.contains("hunter2"),
        "{password}"
    );
    let mode = said("CONTROL_OWNERSHIP_MODE", "local_single_consumer_smoke");
    assert!(
        mode.contains("environment variable CONTROL_OWNERSHIP_MODE") && mode.contains("Snowflake backend"),
        "{mode}"
    );
}

#[test]
fn a_variable_is_taken_as_it_is() {
    let environment = Environment::made_up([("CONTROL_PG_USER", "${OTHER}")]);
    let config = parse_with(&format!("{OWN}{FILES}"), &environment).expect("nothing is put in for it");
    assert_eq!(place(&config).user, "${OTHER}");
}

#[test]
fn the_environment_can_be_left_out_for_the_config_that_was_used_before() {
    let environment = Environment::made_up([("CONTROL_PG_HOST", "other.example"), ("OPS", "op")]).without_overrides();
    let config = parse_with(&format!("{}{FILES}", OWN.replace("ops", "${OPS}")), &environment).expect("valid");
    assert_eq!((place(&config).host.as_str(), place(&config).user.as_str()), ("Control.example", "op"));
}

#[test]
fn the_reference_names_the_variables() {
    let reference = forebay::config::reference();
    let control = reference.iter().find(|table| table.path == "control").expect("the table is documented");
    let password = control.keys.iter().find(|key| key.name == "password").expect("the key is documented");
    assert_eq!(password.variable, Some("CONTROL_PG_PASSWORD"));
}

const TO_DATABASES: &str = r#"
[sources.in]
type = "host"

[sinks.b]
type = "postgres"
inputs = ["in"]
url = "postgresql://ingest@Localhost/plant?sslmode=verify-ca"
password_file = "pg"
table = "telemetry"

[sinks.c]
type = "postgres"
inputs = ["in"]
url = "postgresql://ingest@127.0.0.1:5432/plant?sslmode=disable"
table = "ops.telemetry"

[sinks.d]
type = "postgres"
inputs = ["in"]
url = "postgresql://ingest@db.example/plant?sslmode=disable"
table = "telemetry_2"

[sinks.files]
type = "file"
inputs = ["in"]
path = "out"
"#;

fn keepers(text: &str) -> Vec<(String, RowKeeper)> {
    let config = config(text);
    config.sinks.iter().map(|(name, sink)| (name.clone(), config.control.keeper(&sink.kind))).collect()
}

fn names(keepers: &[(&str, RowKeeper)]) -> Vec<(String, RowKeeper)> {
    keepers.iter().map(|(name, keeper)| ((*name).to_owned(), *keeper)).collect()
}

#[test]
fn without_a_word_the_control_table_is_with_the_first_sink_that_has_a_database() {
    let config = config(TO_DATABASES);
    let settings = place(&config);
    assert_eq!((settings.host.as_str(), settings.database.as_str()), ("Localhost", "plant"));
    assert_eq!((settings.user.as_str(), settings.sslmode), ("ingest", SslMode::VerifyCa));
    assert_eq!(settings.password, Some(Password::Secret(SecretSource::File("/etc/forebay/pg".into()))));
}

#[test]
fn a_sink_keeps_the_control_tables_row_itself_where_that_is_in_its_database() {
    use RowKeeper::{Delivery, Nobody, Sink};
    let with = |control: &str| keepers(&format!("{control}{TO_DATABASES}"));
    // By whichever of its names the machine is called.
    let shared = names(&[("b", Sink), ("c", Sink), ("d", Delivery), ("files", Delivery)]);
    assert_eq!(with(""), shared);
    // Each keeps its rows in a table of that name in its own database.
    assert_eq!(with("[control]\nschema = \"ops\"\ntable = \"rows\"\n"), shared);
    let elsewhere = names(&[("b", Delivery), ("c", Delivery), ("d", Delivery), ("files", Delivery)]);
    assert_eq!(with("[control]\ndatabase = \"control\"\n"), elsewhere);
    assert_eq!(with("[control]\nport = 5433\n"), elsewhere);
    let socket = names(&[("b", Sink), ("c", Sink), ("d", Delivery), ("files", Delivery)]);
    assert_eq!(with("[control]\nhost = \"/run/postgresql\"\nuser = \"u\"\ndatabase = \"plant\"\n"), socket);
    let other = names(&[("b", Delivery), ("c", Delivery), ("d", Sink), ("files", Delivery)]);
    assert_eq!(with("[control]\nhost = \"DB.example.\"\nuser = \"u\"\ndatabase = \"plant\"\n"), other);
    let none = names(&[("b", Nobody), ("c", Nobody), ("d", Nobody), ("files", Nobody)]);
    assert_eq!(with("[control]\nbackend = \"none\"\n"), none);
}

#[test]
fn what_is_said_without_a_host_refines_the_sinks_connection() {
    let refined = config(&format!("[control]\ndatabase = \"control\"\nsslmode = \"disable\"\n{TO_DATABASES}"));
    let settings = place(&refined);
    assert_eq!((settings.host.as_str(), settings.database.as_str()), ("Localhost", "control"));
    assert_eq!((settings.user.as_str(), settings.sslmode), ("ingest", SslMode::Disable));
    assert!(settings.password.is_some());
    let other = config(&format!("[control]\nuser = \"ops\"\n{TO_DATABASES}"));
    assert_eq!(place(&other).password, None, "another role's password is not this one's");
    let own = config(&format!("{OWN}{TO_DATABASES}"));
    assert_eq!((place(&own).sslmode, &place(&own).password), (SslMode::Require, &None), "nothing is a sink's");
}

#[test]
fn keys_say_where_events_go() {
    let config = config(&format!("{TO_DATABASES}[sinks.out]\ntype = \"stdout\"\ninputs = [\"in\"]\n"));
    let target = |name: &str| {
        let target = config.sinks[name].kind.target(name);
        [target.database, target.schema, target.table]
    };
    assert_eq!(target("b"), ["plant", "public", "telemetry"]);
    assert_eq!(target("c"), ["plant", "ops", "telemetry"]);
    assert_eq!(target("files"), ["file", "local", "files"]);
    assert_eq!(target("out"), ["stdout", "local", "out"]);
}

#[test]
fn two_sinks_with_one_key_are_refused_and_both_are_named() {
    let same = TO_DATABASES.replace("ops.telemetry", "\\\"telemetry\\\"");
    let refused = |text: &str| parse_with(text, &Environment::made_up([])).expect_err("one key").to_string();
    let said = refused(&same);
    assert!(said.contains("forebay.toml:12:8: sinks.c: has the checkpoints of sinks.b"), "{said}");
    assert!(said.contains("forebay.toml:5:8") && said.contains("\"in\" into plant.public.telemetry"), "{said}");
    // On another server too: the control table has one row for both.
    let elsewhere = TO_DATABASES.replace("telemetry_2", "telemetry");
    assert!(refused(&elsewhere).contains("sinks.d: has the checkpoints of sinks.b"));
    config(&format!("[control]\nbackend = \"none\"\n{elsewhere}"));
    // Without a common input they have no key in common.
    let apart = same.replacen("[\"in\"]", "[\"other\"]", 1) + "[sources.other]\ntype = \"stdin\"\n";
    config(&apart);
}
