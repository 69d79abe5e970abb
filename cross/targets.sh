# The targets by their short names. Sourced by the scripts beside it.

targets=(x86_64 aarch64 armv7 arm riscv64 i686)

# The triple of a short name: `arm` is v6 with a floating-point unit, the first Raspberry Pi.
triple() {
    case "$1" in
        x86_64 | aarch64 | i686) echo "$1-unknown-linux-musl" ;;
        armv7 | arm) echo "$1-unknown-linux-musleabihf" ;;
        riscv64) echo riscv64gc-unknown-linux-musl ;;
        *)
            say "there is no target '$1': choose from ${targets[*]}"
            return 2
            ;;
    esac
}
