//! Time since boot: `/proc/uptime` (proc_uptime(5)).

use std::{io, path::Path};

use serde::Serialize;

use super::{number, text, unexpected};

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Body {
    uptime_seconds: f64,
}

pub(super) fn read(root: &Path) -> io::Result<Body> {
    parse(&text(root, "proc/uptime")?).ok_or_else(|| unexpected("proc/uptime"))
}

fn parse(text: &str) -> Option<Body> {
    let uptime_seconds: f64 = number(text.split_whitespace().next())?;
    uptime_seconds.is_finite().then_some(Body { uptime_seconds })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_number_is_the_uptime() {
        assert_eq!(parse("1262.35 2484.12\n"), Some(Body { uptime_seconds: 1262.35 }));
        assert_eq!(parse(""), None);
        assert_eq!(parse("inf"), None, "JSON has no such number");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
