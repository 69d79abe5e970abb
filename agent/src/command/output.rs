//! Standard output. Not `println!`, which panics when nobody reads on.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Prints `text` as it is.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Standard output for many small writes. Flush it before letting go of it: only then are errors heard of.
pub(super) fn buffered() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Draws `text` in the place of what was drawn before, on a terminal; else below it.
pub(super) fn redraw(text: &str) -> io::Result<()> {
    /// Home, and each line cleared to its end as it is written, and all below: no flicker, unlike clearing it all first.
    const HOME: &str = "\x1b[H";
    const CLEAR_BELOW: &str = "\x1b[J";
    if !io::stdout().is_terminal() {
        return print(&format!("{text}\n"));
    }
    let lines = text.replace('\n', "\x1b[K\n");
    print(&format!("{HOME}{lines}{CLEAR_BELOW}"))
}

/// Makes place for [`redraw`].
pub(super) fn clear_screen() -> io::Result<()> {
    if io::stdout().is_terminal() { print("\x1b[2J") } else { Ok(()) }
}
