//! The `forebay` program: words in, exit code out.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// The C library's own is slow under threads (musl), or keeps an arena for each of them (glibc). This one has one heap, gives
/// memory back, and is small: `cross/README.md` has the figures.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.expect("nothing else has installed a TLS provider before the first line of main");
    forebay::command::main(std::env::args_os().skip(1))
}
