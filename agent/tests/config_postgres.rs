//! What the configuration of a Postgres sink means, and what is wrong with those that are.

#![cfg(feature = "postgres")]

use std::{path::Path, time::Duration};

use forebay::{
    client::{
        azure::{Authority, Kind, Settings as Identity},
        postgres::{Password, SslMode},
    },
    config::{Config, Environment, Invalid, Loaded, SinkKind},
    secret::{Secret, SecretSource},
    sink::postgres::{Settings, default_mapping},
};

const SMALLEST: &str = r#"
[sources.in]
type = "host"

[sinks.out]
type = "postgres"
inputs = ["in"]
table = "telemetry"
"#;

const URL: &str = "url = \"postgresql://ingest@db.example/plant?sslmode=verify-full\"\n";

fn parse(keys: &str) -> Result<Loaded, Invalid> {
    let environment = Environment::made_up([("PASSWORD", "hunter2")]);
    Config::parse(format!("{SMALLEST}{keys}").as_bytes(), Path::new("/etc/forebay"), &environment)
}

fn settings(keys: &str) -> Settings {
    let loaded = parse(keys).unwrap_or_else(|invalid| panic!("{invalid}\n{keys}"));
    let SinkKind::Postgres(settings) = &loaded.config.sinks["out"].kind else { panic!("it is a Postgres sink") };
    (**settings).clone()
}

fn error(keys: &str) -> String {
    parse(keys).expect_err(keys).to_string()
}

#[test]
fn a_url_and_a_table_are_enough() {
    let settings = settings(URL);
    assert_eq!(settings.table.to_string(), "\"public\".\"telemetry\"");
    assert_eq!((settings.mapping, settings.key), (default_mapping(), Vec::new()));
    assert_eq!((settings.batch.max_events, settings.batch.max_bytes), (10_000, 1 << 20));
    assert_eq!((settings.connection.sslmode, settings.connection.password), (SslMode::VerifyFull, None));
    assert_eq!(parse(URL).expect("it is right").warnings, []);
}

#[test]
fn keys_say_what_the_url_does_not() {
    let settings = settings(
        "url = \"postgresql://ingest@db.example/plant\"\npassword = \"${PASSWORD}\"\nsslmode = \"verify-ca\"\n\
         ca_file = \"ca.pem\"\nconnect_timeout = \"3s\"\nmode = \"upsert\"\nkey_columns = [\"Device\"]\n\
         columns = { device = \"$.device['serial no']\", \"At\" = \"time\" }\nmax_batch_events = 7\n",
    );
    assert_eq!(settings.connection.password, Some(Password::Secret(SecretSource::Inline(Secret::new("hunter2")))));
    assert_eq!(
        (settings.connection.sslmode, settings.connection.connect_timeout),
        (SslMode::VerifyCa, Duration::from_secs(3))
    );
    assert_eq!(settings.connection.tls.ca_file.as_deref(), Some(Path::new("/etc/forebay/ca.pem")));
    let shown: Vec<_> = settings.mapping.iter().map(|(name, source)| format!("{name} {source}")).collect();
    assert_eq!(shown, ["\"At\" time", "\"device\" $.device['serial no']"]);
    assert_eq!((settings.key[0].as_str(), settings.batch.max_events), ("device", 7));
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    let cases = [
        ("", "url: is missing"),
        ("url = \"mysql://a@b/c\"\n", "does not begin with \"postgresql://\""),
        ("url = \"postgresql://b/c\"\n", "names no user"),
        ("url = \"postgresql://a@b/c?sslmod=disable\"\n", "the nearest is \"sslmode\""),
        ("sslmode = \"require\"\n", "sslmode: is given in url too"),
        ("password = \"${PASSWORD}\"\npassword_file = \"p\"\n", "is given beside password"),
        ("certificate_file = \"c.pem\"\n", "is given without its key"),
        ("[sinks.out.azure]\n", "azure: is given, and auth_mode is not \"azure_token\""),
        ("auth_mode = \"azure_token\"\npassword = \"${PASSWORD}\"\n", "password: is given, and auth_mode"),
        ("auth_mode = \"azure_token\"\n[sinks.out.azure]\ntenant_id = \"a/b\"\n", "azure.tenant_id: has a character"),
        ("mode = \"upsert\"\n", "needs key_columns"),
        ("key_columns = [\"key\"]\n", "has no meaning where rows are appended"),
        ("mode = \"upsert\"\nkey_columns = [\"device\"]\n", "which nothing fills"),
        ("mode = \"upsert\"\nkey_columns = [\"key\", \"KEY\"]\n", "names the same twice"),
        ("columns = { a = \"bodyy\" }\n", "is none of stream, partition"),
        ("columns = { a = \"$.b..c\" }\n", "names more than one place"),
        ("columns = {}\n", "has 0 columns"),
        ("columns = [\"a\"]\n", "is a list"),
    ];
    for (keys, expected) in cases {
        let keys = if keys.is_empty() || keys.starts_with("url") { keys.to_owned() } else { format!("{URL}{keys}") };
        assert!(error(&keys).contains(expected), "{keys}: {}", error(&keys));
    }
    assert!(error(&format!("{URL}sslmode = \"requir\"\n")).contains("did you mean \"require\"?"));
}

#[test]
fn secrets_in_the_file_and_lines_in_the_clear_are_warned_of_and_not_shown() {
    let warned = |url: &str| {
        let loaded = parse(&format!("url = \"{url}\"\n")).expect("it is right");
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let warnings = warned("postgresql://me:geheim@db.example/plant?sslmode=verify-full");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("has a password in it") && !warnings[0].contains("geheim"), "{warnings:?}");
    assert!(warned("postgresql://me:${PASSWORD}@db.example/plant?sslmode=verify-full").is_empty());
    let warnings = warned("postgresql://me@db.example/plant");
    assert!(warnings.len() == 1 && warnings[0].contains("unencrypted"), "{warnings:?}");
    assert!(warned("postgresql://me@%2Frun%2Fpostgresql/plant").is_empty());
}

fn identity(keys: &str) -> Identity {
    match settings(keys).connection.password {
        Some(Password::AzureToken(identity)) => *identity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_needs_nothing_but_a_word() {
    assert_eq!(identity(&format!("{URL}auth_mode = \"azure_token\"\n")), Identity::default());
    assert_eq!(parse(&format!("{URL}auth_mode = \"azure_token\"\n")).expect("it is right").warnings, []);
}

#[test]
fn a_tokens_identity_is_what_its_table_says() {
    let identity = identity(&format!(
        "{URL}auth_mode = \"azure_token\"\n[sinks.out.azure]\ncredential = \"environment\"\ntenant_id = \"contoso.example\"\n\
         client_id = \"app\"\nclient_secret_file = \"entra\"\nclient_certificate_file = \"app.pem\"\n\
         federated_token_file = \"/run/token\"\nauthority_host = \"https://login.example/\"\nca_file = \"ca.pem\"\n\
         proxy = \"http://me:hunter2@proxy.example:3128\"\n"
    ));
    assert_eq!(identity.kind, Kind::Environment);
    assert_eq!(identity.tenant_id.as_ref().map(|tenant| tenant.as_str()), Some("contoso.example"));
    assert_eq!(identity.client_id.as_deref(), Some("app"));
    assert_eq!(identity.client_secret, Some(SecretSource::File("/etc/forebay/entra".into())));
    assert_eq!(identity.client_certificate_file.as_deref(), Some(Path::new("/etc/forebay/app.pem")));
    assert_eq!(identity.federated_token_file.as_deref(), Some(Path::new("/run/token")));
    assert_eq!(Ok(&identity.authority), Authority::parse("https://login.example").as_ref());
    assert_eq!(identity.ca_file.as_deref(), Some(Path::new("/etc/forebay/ca.pem")));
    assert!(identity.proxy.is_some() && !format!("{identity:?}").contains("hunter2"), "{identity:?}");
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let to =
        |sslmode: &str| format!("url = \"postgresql://a@b/c\"\nsslmode = \"{sslmode}\"\nauth_mode = \"azure_token\"\n");
    for sslmode in ["disable", "allow", "prefer"] {
        let said = error(&to(sslmode));
        assert!(said.contains(&format!("could send the token unencrypted: sslmode is \"{sslmode}\"")), "{said}");
    }
    let warned = |sslmode| parse(&to(sslmode)).expect("it is right").warnings.len();
    assert_eq!((warned("require"), warned("verify-ca"), warned("verify-full")), (1, 0, 0));
    let unsaid = error("url = \"postgresql://a@b/c\"\nauth_mode = \"azure_token\"\n");
    assert!(unsaid.contains("auth_mode: could send the token unencrypted"), "{unsaid}");
}
