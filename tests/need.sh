# Finds what building Forebay needs on a Debian machine, and installs what the system's packages bring. Sourced by
# ./demo and tests/run; the current directory is the workspace.

say() { printf '%s\n' "$*" >&2; }

# Installs packages, as root or by sudo without a question. Says nothing where it cannot: the caller knows what for.
install_packages() {
    local root=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -ne 0 ]; then
        { command -v sudo && sudo -n true; } >/dev/null 2>&1 || return 1
        root=(sudo -n)
    fi
    say "installing $*"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
        { "${root[@]}" apt-get update -qq >/dev/null &&
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
}

compiles_c() { echo 'int main(void) { return 0; }' | "${CC:-cc}" -include stdio.h -x c - -o /dev/null 2>/dev/null; }

# SQLite, zstd and ring are built from C by their crates.
need_c_compiler() {
    compiles_c || { install_packages gcc libc6-dev && compiles_c; } || {
        say "A C compiler is missing and cannot be installed from here: as root, run 'apt-get install gcc libc6-dev'."
        return 1
    }
}

wanted_rust() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml; }

# Whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

has_rust() {
    local found
    command -v cargo >/dev/null || return 1
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    at_least "${found:-0}" "$(wanted_rust)"
}

# The version of a package that apt would install, without epoch and revision; empty if there is none.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p'; }

need_rust() {
    [ ! -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    has_rust && return
    if ! command -v cargo >/dev/null && at_least "$(candidate rustc)" "$(wanted_rust)"; then
        install_packages rustc cargo || true
    elif ! command -v rustup >/dev/null && [ -n "$(candidate rustup)" ]; then
        install_packages rustup || true
    fi
    has_rust && return
    if command -v rustup >/dev/null; then
        say "installing the stable Rust toolchain with rustup"
        rustup toolchain install stable --profile minimal >/dev/null 2>&1 && rustup default stable >/dev/null 2>&1 || true
    fi
    has_rust || {
        say "Rust $(wanted_rust) or newer is needed, and this system's packages do not bring it: get it from https://rustup.rs"
        return 1
    }
}
