//! Any bytes as the configuration: it is taken or explained, without a panic and without the secret in it.
#![no_main]

use std::path::Path;

use forebay::config::{Config, Environment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let environment = Environment::made_up([("TOKEN", "correct-horse")]);
    if let Err(invalid) = Config::parse(bytes, Path::new("/etc/forebay"), &environment) {
        let written = bytes.windows(13).any(|window| window == b"correct-horse");
        assert!(written || !invalid.to_string().contains("correct-horse"), "the environment's value was said");
    }
});
