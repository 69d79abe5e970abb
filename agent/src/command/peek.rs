//! `forebay peek`: buffered events, left where they are.

use std::io::Write;

use forebay_buffer::Offset;

use super::{
    arguments, event,
    failure::{Failure, Outcome},
    output,
    setting::Setting,
};

/// Prints the oldest events of a stream as NDJSON.
pub(super) fn run(setting: &Setting, options: &arguments::Peek) -> Outcome {
    let config = setting.config()?;
    let after = options.after.as_deref().map(parse_offset).transpose()?;
    if after.is_some() && options.partition.is_none() {
        return Err(Failure::usage("--after needs --partition: each partition has offsets of its own"));
    }
    let mut inspector = setting.inspect(&config)?;
    let streams = inspector.status()?.streams;
    let Some(stream) = streams.iter().find(|stream| stream.name == options.stream) else {
        return Err(Failure::failed(format_args!("the buffer has no stream {:?}", options.stream)));
    };
    let only = options.partition.as_deref();
    if let Some(name) = only.filter(|name| !stream.partitions.iter().any(|partition| partition.name == **name)) {
        return Err(Failure::failed(format_args!("the stream {:?} has no partition {name:?}", options.stream)));
    }
    let mut out = output::buffered();
    event::write_stream(&mut inspector, stream, only, after, options.limit, &mut out)?;
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
