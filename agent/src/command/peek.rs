//! `forebay peek`: buffered events, left where they are.

use std::io::Write;

use forebay_buffer::Offset;

use super::{
    arguments, event,
    failure::{Failure, Outcome},
    output,
    setting::Setting,
};

/// Events that are read at once.
const PAGE: usize = 500;

/// Prints the oldest events of a stream as NDJSON.
pub(super) fn run(setting: &Setting, options: &arguments::Peek) -> Outcome {
    let config = setting.config()?;
    let after = options.after.as_deref().map(parse_offset).transpose()?;
    if after.is_some() && options.partition.is_none() {
        return Err(Failure::usage("--after needs --partition: each partition has offsets of its own"));
    }
    let mut inspector = setting.inspect(&config)?;
    let mut out = output::buffered();
    let (mut left, mut after) = (options.limit, after);
    while left > 0 {
        // Without a partition there is no offset to go on from: all of it is one page.
        let page = if options.partition.is_some() { left.min(PAGE) } else { left };
        let events = inspector.peek(&options.stream, options.partition.as_deref(), after, page)?;
        let Some(last) = events.last() else { break };
        after = Some(last.offset);
        left -= events.len().min(left);
        let mut lines = Vec::new();
        for peeked in &events {
            event::write(
                &mut lines,
                &options.stream,
                &peeked.partition,
                peeked.numbering,
                peeked.offset,
                &peeked.event,
            );
        }
        out.write_all(&lines)?;
        if options.partition.is_none() || events.len() < page {
            break;
        }
    }
    Ok(out.flush()?)
}

/// Reads an offset as `peek` (a number) or `status` (`epoch.counter`) shows it.
fn parse_offset(text: &str) -> Outcome<Offset> {
    const MAX_COUNTER: u64 = (1 << 40) - 1;
    let assigned = text.split_once('.').and_then(|(epoch, counter)| {
        let (epoch, counter) = (epoch.parse().ok()?, counter.parse().ok()?);
        (epoch <= Offset::MAX_EPOCH && counter <= MAX_COUNTER).then(|| Offset::assigned(epoch, counter))
    });
    assigned.or_else(|| text.parse().ok().map(Offset)).ok_or_else(|| {
        Failure::usage(format_args!(
            "{text:?} is no offset: say it as peek prints it (a number) or as status does (7.42)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_in_both_of_its_forms() {
        let parsed = |text| parse_offset(text).ok();
        assert_eq!(parsed("42"), Some(Offset(42)));
        assert_eq!(parsed("7.42"), Some(Offset::assigned(7, 42)));
        assert_eq!(parsed("8388607.1099511627775"), Some(Offset(i64::MAX)));
        for wrong in ["", "x", "7.", ".42", "8388608.0", "1.1099511627776", "1.2.3"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
