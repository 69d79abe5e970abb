//! Standard output. Not `println!`, which panics when nobody reads on.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Columns of a line of text: those of a serial console.
pub(super) const WIDTH: usize = 80;

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

/// Breaks `text`, one line, between words so that no line of it is too long, where that can be done.
pub(super) fn wrap(text: &str, indent: &str) -> String {
    let (mut lines, mut column) = (String::new(), 0);
    let leading = text.len() - text.trim_start().len();
    lines.push_str(&text[..leading]);
    for (index, word) in text[leading..].split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
            lines.push('\n');
            lines.push_str(indent);
            column = indent.len();
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        } else {
            column = leading;
        }
        lines.push_str(word);
        column += width;
    }
    lines.push('\n');
    lines
}

/// Breaks each line that is too long, and indents what follows as it is.
pub(super) fn wrap_lines(text: &str) -> String {
    text.lines().map(|line| wrap(line, &line[..line.len() - line.trim_start().len()])).collect()
}
