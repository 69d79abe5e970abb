//! The `forebay` program: words in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.expect("nothing else has installed a TLS provider before the first line of main");
    forebay::command::main(std::env::args_os().skip(1))
}
