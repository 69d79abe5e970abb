//! The `forebay` program: words in, exit code out.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// Rust's heap. That of a C library keeps an arena for each thread (glibc) or costs more time under threads (zig's musl); this
/// one gives memory back, and is small: `cross/README.md` has the figures. SQLite and zstd, in C, keep the library's.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.expect("nothing else has installed a TLS provider before the first line of main");
    forebay::command::main(std::env::args_os().skip(1))
}
