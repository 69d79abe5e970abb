//! What configurations mean: defaults, merging, units, reloading, and the ones that are shipped.

use std::{fs, path::Path, time::Duration};

use forebay::{
    config::{Config, DEMO, Environment, Invalid, Loaded, SinkKind, SourceKind, TableReference, reference},
    secret::SecretSource,
    source::http,
};
use forebay_buffer::{Durability, WhenFull};
use proptest::prelude::*;

const SMALLEST: &str = r#"
[sources.in]
type = "host"

[sinks.out]
type = "stdout"
inputs = ["in"]
"#;

fn parse(text: &str) -> Result<Loaded, Invalid> {
    parse_with(text, &Environment::made_up([]))
}

fn parse_with(text: &str, environment: &Environment) -> Result<Loaded, Invalid> {
    Config::parse(text.as_bytes(), Path::new("/etc/forebay"), environment)
}

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|invalid| panic!("{invalid}\n{text}")).config
}

/// The smallest configuration with an http source, and `key` for it.
fn with_http(key: &str) -> String {
    SMALLEST.replace("type = \"host\"", &format!("type = \"http\"\nlisten = \"127.0.0.1:0\"\n{key}"))
}

fn http_settings(config: &Config) -> &http::Settings {
    match &config.sources["in"].kind {
        SourceKind::Http(settings) => settings,
        other => panic!("an http source was configured, not {other:?}"),
    }
}

#[test]
fn the_smallest_configuration_gets_safe_defaults() {
    let config = config(SMALLEST);
    assert!(config.agent.id.starts_with("gateway-"));
    assert_eq!(config.buffer.path, Path::new("/var/lib/forebay/buffer.db"));
    assert_eq!(config.agent.runtime_dir, Path::new("/run/forebay"));
    assert_eq!(config.buffer.durability, Durability::PowerLoss);
    assert_eq!((config.buffer.max_bytes, config.buffer.max_event_bytes), (2 << 30, 1 << 20));
    assert_eq!(config.observe, Some(([127, 0, 0, 1], 9600).into()));
    assert_eq!(config.sources["in"].limits.max_bytes, 2 << 30);
    assert_eq!(config.sources["in"].limits.when_full, WhenFull::Backpressure);
    assert_eq!(config.sources["in"].limits.max_age, None);
}

#[test]
fn the_environment_fills_in_where_the_file_is_silent() {
    let environment = Environment::made_up([("RUNTIME_DIRECTORY", "/run/other"), ("RUST_LOG", "forebay=trace")]);
    let config = parse_with(SMALLEST, &environment).expect("it is valid").config;
    assert_eq!(config.agent.runtime_dir, Path::new("/run/other"));
    assert_eq!(config.agent.log, "forebay=trace");
}

#[test]
fn sources_share_what_the_quotas_of_others_leave() {
    let config = config(
        r#"
        [buffer]
        max_bytes = "1GiB"
        max_age = "7d"
        when_full = "drop-oldest"
        [sources.a]
        type = "host"
        buffer = { max_bytes = "512MiB", max_age = "off", when_full = "drop-newest" }
        [sources.b]
        type = "stdin"
        [sources.c]
        type = "tail"
        include = ["x/*.log"]
        exclude = ["*.gz", "x/old.log"]
        [sinks.out]
        type = "stdout"
        inputs = ["a", "b", "c"]
        "#,
    );
    let limits = |name: &str| config.sources[name].limits;
    assert_eq!(limits("a").max_bytes, 512 << 20);
    assert_eq!((limits("a").max_age, limits("a").when_full), (None, WhenFull::DropNewest));
    assert_eq!((limits("b").max_bytes, limits("c").max_bytes), (256 << 20, 256 << 20));
    assert_eq!(limits("b").max_age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(limits("b").when_full, WhenFull::DropOldest);
    let SourceKind::Tail(tail) = &config.sources["c"].kind else { panic!("c is a tail source") };
    assert_eq!(tail.include, ["/etc/forebay/x/*.log"], "a relative pattern begins at the file's directory");
    assert_eq!(tail.exclude, ["*.gz", "/etc/forebay/x/old.log"], "a pattern without a slash is one of file names");
}

#[test]
fn secrets_come_from_the_environment_and_files_and_are_not_printed() {
    let environment = Environment::made_up([("TOKEN", "hunter2"), ("CREDENTIALS_DIRECTORY", "/run/credentials")]);
    let loaded = parse_with(&with_http("token = \"${TOKEN}\""), &environment).expect("it is valid");
    let token = &http_settings(&loaded.config).token;
    assert!(matches!(token, Some(SecretSource::Inline(token)) if token.expose() == "hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    assert_eq!(loaded.warnings, [], "a token from the environment stands in no file");

    let file = with_http("token_file = \"${CREDENTIALS_DIRECTORY}/token\"");
    let loaded = parse_with(&file, &environment).expect("it is valid");
    assert_eq!(http_settings(&loaded.config).token, Some(SecretSource::File("/run/credentials/token".into())));
}

#[cfg(feature = "eventhub")]
#[test]
fn a_signature_is_a_connection_string_with_a_blank() {
    let text = "Endpoint=sb://ns.example/;SharedAccessSignature=SharedAccessSignature \
                sr=sb%3A%2F%2Fns.example%2Fplant&sig=c2lnbmF0dXJl&se=1900000000&skn=send;EntityPath=plant";
    let config = "[sources.in]\ntype = \"host\"\n[sinks.out]\ntype = \"eventhub\"\ninputs = [\"in\"]\n\
                  connection_string = \"${HUB}\"\n";
    let loaded = parse_with(config, &Environment::made_up([("HUB", text)]));
    let loaded = loaded.unwrap_or_else(|invalid| panic!("{invalid}"));
    assert!(!format!("{loaded:?}").contains("c2lnbmF0dXJl"));
}

#[test]
fn a_file_of_secrets_that_anyone_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (main, token) = (directory.path().join("forebay.toml"), directory.path().join("token"));
    fs::write(&main, with_http("token_file = \"token\"")).expect("the directory is writable");
    fs::write(&token, "hunter2").expect("the directory is writable");
    let warnings = |mode| {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("the file is ours");
        Config::load(&main, &Environment::made_up([])).expect("it is valid").warnings
    };
    assert_eq!(warnings(0o600), []);
    let warned = warnings(0o644);
    assert!(warned.len() == 1 && warned[0].problem.contains("0644"), "{warned:?}");
}

#[test]
fn conf_d_adds_sources_and_sinks_to_those_of_the_main_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let conf_d = directory.path().join("conf.d");
    fs::create_dir(&conf_d).expect("an empty directory takes another");
    fs::write(directory.path().join("forebay.toml"), SMALLEST).expect("the directory is writable");
    let more = "[sources.b]\ntype = \"stdin\"\n[sinks.c]\ntype = \"file\"\ninputs = [\"in\"]\npath = \"x\"";
    fs::write(conf_d.join("more.toml"), more).expect("the directory is writable");
    let use_it = "[sinks.d]\ntype = \"file\"\npath = \"d\"\ninputs = [\"b\"]";
    fs::write(conf_d.join("use.toml"), use_it).expect("the directory is writable");
    let loaded = Config::load(&directory.path().join("forebay.toml"), &Environment::made_up([]));
    let config = loaded.expect("it is valid").config;
    assert_eq!(config.sources.keys().collect::<Vec<_>>(), ["b", "in"]);
    assert_eq!(config.sinks.keys().collect::<Vec<_>>(), ["c", "d", "out"]);
    let SinkKind::File(file) = &config.sinks["c"].kind else { panic!("c is a file sink") };
    assert_eq!(file.path, directory.path().join("x"), "a relative path begins at the main file's directory");
}

#[test]
fn a_configuration_that_is_not_there_is_an_error_that_names_it() {
    let invalid = Config::load(Path::new("/nonexistent/forebay.toml"), &Environment::made_up([])).unwrap_err();
    assert_eq!(invalid.errors.len(), 1, "what it would hold is not missing too:\n{invalid}");
    assert!(invalid.to_string().contains("/nonexistent/forebay.toml: cannot be read"), "{invalid}");
}

#[test]
fn a_reload_shows_what_has_changed_and_nothing_else() {
    let (before, same) = (config(SMALLEST), config(&format!("# a comment\n{SMALLEST}")));
    assert_eq!(before, same);
    let after = config(&SMALLEST.replace("type = \"host\"", "type = \"host\"\ninterval = \"5s\""));
    assert_ne!(before.sources["in"], after.sources["in"]);
    assert_eq!((&before.agent, &before.buffer, &before.sinks), (&after.agent, &after.buffer, &after.sinks));
}

#[test]
fn the_demo_keeps_to_its_directory() {
    let directory = Path::new("/tmp/forebay-demo");
    let config = Config::demo(directory);
    assert!(config.buffer.path.starts_with(directory) && config.agent.runtime_dir.starts_with(directory));
    let SinkKind::File(file) = &config.sinks["files"].kind else { panic!("the demo writes files") };
    assert!(file.path.starts_with(directory) && file.keep_files.is_some());
    let SourceKind::Host(host) = &config.sources["host"].kind else { panic!("the demo measures the host") };
    assert_eq!(host.interval, Duration::from_secs(1));
    assert!(parse(DEMO).is_ok(), "what is printed can be put into a file");
}

#[test]
fn every_configuration_that_is_shipped_is_valid() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let examples = fs::read_dir(packaging.join("examples")).expect("there are examples");
    let mut paths: Vec<_> = examples.map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.push(packaging.join("forebay.toml"));
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        let text = fs::read_to_string(&path).expect("it can be read");
        let environment = Environment::made_up([("CREDENTIALS_DIRECTORY", "/run/credentials/forebay")]);
        let loaded = parse_with(&text, &environment).unwrap_or_else(|invalid| panic!("{}:\n{invalid}", path.display()));
        assert_eq!(loaded.warnings, [], "{}", path.display());
    }
}

#[test]
fn the_packaged_default_cannot_fill_the_disk() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/forebay.toml");
    let config = config(&fs::read_to_string(path).expect("it is there"));
    for sink in config.sinks.values() {
        let SinkKind::File(file) = &sink.kind else { continue };
        let files = file.keep_files.expect("old files are deleted");
        assert!(u64::from(files) * file.max_file_bytes <= 1 << 30);
    }
}

#[test]
fn a_flood_of_errors_is_cut_and_counted() {
    let wrong: String = (0..30_000).map(|number| format!("tokn{number} = 1\n")).collect();
    let invalid = parse(&format!("{SMALLEST}[agent]\n{wrong}")).expect_err("no key is known");
    assert_eq!((invalid.errors.len(), invalid.left_out), (100, 29_900));
    assert!(invalid.to_string().ends_with("the configuration has 30000 errors; the first 100 are shown"));
    let twice: String = (0..30_000).map(|_| "id = 1\n").collect();
    assert_eq!(parse(&format!("[agent]\n{twice}")).expect_err("one id is enough").errors.len(), 100);
}

#[test]
fn a_thousand_sources_are_taken_and_one_more_is_not() {
    let sources = |count: usize| -> String {
        (0..count).map(|number| format!("[sources.s{number}]\ntype = \"host\"\n")).collect()
    };
    let inputs: Vec<_> = (0..1_000).map(|number| format!("s{number}")).collect();
    let sink = format!("[sinks.out]\ntype = \"stdout\"\ninputs = {inputs:?}\n");
    assert_eq!(config(&format!("{}{sink}", sources(1_000))).sources.len(), 1_000);
    let invalid = parse(&format!("{}{sink}", sources(1_001))).expect_err("there are too many");
    assert!(invalid.errors[0].problem.contains("more than 1000"), "{invalid}");
}

#[test]
fn every_documented_key_is_read_and_its_value_is_checked() {
    let tables = reference();
    let keys: Vec<_> = tables.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key.name))).collect();
    assert!(keys.len() > 40, "{keys:?}");
    for (TableReference { path: table, variant, .. }, key) in keys {
        let kind = match (*variant, table.split('.').next()) {
            ("", Some("sources")) => "stdin",
            ("", Some("sinks")) => "stdout",
            (variant, _) => variant,
        };
        let table = table.replace("NAME", "it");
        let typed = table.split('.').take(2).collect::<Vec<_>>().join(".");
        // No key of any kind takes a date.
        let mut text = format!("[{table}]\n{key} = 2026-11-20\n");
        if typed.contains('.') && key != "type" {
            text = if typed == table {
                format!("{text}type = \"{kind}\"\n")
            } else {
                format!("[{typed}]\ntype = \"{kind}\"\n{text}")
            };
        }
        let invalid = parse(&text).expect_err("a date is no value of any key");
        let path = format!("{table}.{key}");
        let found = invalid.errors.iter().any(|error| error.key == path && error.problem == "is a date or time");
        assert!(found, "{path} is documented, but its value is not looked at:\n{text}\n{invalid}");
    }
}

#[test]
fn the_reference_says_all_there_is_to_say_of_each_key() {
    for table in reference() {
        assert!(!table.doc.is_empty(), "[{}]", table.path);
        for key in table.keys {
            assert!(key.doc.ends_with('.') && !key.expected.is_empty(), "[{}] {key:?}", table.path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Config::parse(&bytes, Path::new("/"), &Environment::made_up([]));
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        at in 0usize..2_000, length in 0usize..40, put in "[\\[\\]{}=\"'#$\\\\\n a-z0-9.\u{1b}é]{0,12}"
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/several.toml");
        let mut bytes = fs::read(path).expect("the example is there");
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, put.into_bytes());
        if let Err(invalid) = Config::parse(&bytes, Path::new("/"), &Environment::made_up([])) {
            prop_assert!(!invalid.errors.is_empty());
            let shown = invalid.to_string();
            prop_assert!(!shown.contains('\u{1b}'), "{:?}", shown);
        }
    }

    #[test]
    fn no_slip_of_the_hand_gives_a_secret_away(
        at in 0usize..200, length in 0usize..3, put in "[\\[\\]{}=\"'#$\\\\\n a-z0-9._]{0,3}"
    ) {
        let mut bytes = with_http("token = \"hunter2-hunter2\"\npath = \"/a\"").into_bytes();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, put.into_bytes());
        let said = match Config::parse(&bytes, Path::new("/"), &Environment::made_up([])) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(invalid) => invalid.to_string(),
        };
        prop_assert!(!said.contains("hunter2"), "{}\n---\n{}", String::from_utf8_lossy(&bytes), said);
    }
}
