//! Tells the program which target it is built for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=FOREBAY_TARGET={}", std::env::var("TARGET").expect("cargo names the target"));
}
