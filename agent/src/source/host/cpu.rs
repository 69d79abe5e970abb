//! Use of the processors: `/proc/stat` and `/proc/loadavg` (proc_stat(5), proc_loadavg(5)).

use std::{io, path::Path};

use serde::Serialize;

use super::{number, text, unexpected};

/// Clock ticks since boot, of all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    user: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
    processors: u64,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Body {
    processors: u64,
    load_1m: f64,
    load_5m: f64,
    load_15m: f64,
    #[serde(flatten)]
    usage: Option<Usage>,
}

/// Shares of the time since the last reading.
#[derive(Debug, PartialEq, Serialize)]
struct Usage {
    user_percent: f64,
    system_percent: f64,
    idle_percent: f64,
    iowait_percent: f64,
    steal_percent: f64,
}

pub(super) fn read(root: &Path, last: Option<Times>) -> io::Result<(Times, Body)> {
    let times = parse_stat(&text(root, "proc/stat")?).ok_or_else(|| unexpected("proc/stat"))?;
    let load = parse_load(&text(root, "proc/loadavg")?).ok_or_else(|| unexpected("proc/loadavg"))?;
    let [load_1m, load_5m, load_15m] = load;
    let usage = last.and_then(|last| usage(last, times));
    Ok((times, Body { processors: times.processors, load_1m, load_5m, load_15m, usage }))
}

fn parse_stat(text: &str) -> Option<Times> {
    let mut words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse::<u64>);
    let mut next = || words.next().and_then(Result::ok);
    let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
    // Older kernels stop somewhere after these.
    let (iowait, irq, softirq, steal) =
        (next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0));
    let is_processor =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Some(Times {
        user: user.saturating_add(nice),
        system: system.saturating_add(irq).saturating_add(softirq),
        idle,
        iowait,
        steal,
        processors: text.lines().filter(is_processor).count() as u64,
    })
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace();
    Some([number(words.next())?, number(words.next())?, number(words.next())?])
}

/// `None` if no time has passed.
fn usage(last: Times, now: Times) -> Option<Usage> {
    // Idle and iowait may go back a little (proc_stat(5)).
    let passed = |of: fn(&Times) -> u64| of(&now).saturating_sub(of(&last)) as f64;
    let (user, system, idle) = (passed(|t| t.user), passed(|t| t.system), passed(|t| t.idle));
    let (iowait, steal) = (passed(|t| t.iowait), passed(|t| t.steal));
    let total = user + system + idle + iowait + steal;
    let percent = |part: f64| (part / total * 10_000.0).round() / 100.0;
    (total > 0.0).then(|| Usage {
        user_percent: percent(user),
        system_percent: percent(system),
        idle_percent: percent(idle),
        iowait_percent: percent(iowait),
        steal_percent: percent(steal),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "cpu  20927 10 4540 247142 424 1 35 11 0 0\ncpu0 1 0 1 1 1 0 1 1 0 0\ncpu1 1\nintr 1\n";

    #[test]
    fn nice_counts_as_user_and_interrupts_as_system() {
        let times = parse_stat(STAT).expect("as the kernel writes it");
        let expected = Times { user: 20_937, system: 4_576, idle: 247_142, iowait: 424, steal: 11, processors: 2 };
        assert_eq!(times, expected);
        assert_eq!(parse_load("0.50 0.25 0.10 1/2 3"), Some([0.5, 0.25, 0.1]));
    }

    #[test]
    fn shares_are_of_the_time_between_two_readings() {
        let last = parse_stat("cpu  0 0 0 0").expect("good");
        let now = parse_stat("cpu  1 0 1 1 0 0 0 0").expect("good");
        let usage = usage(last, now).expect("time has passed");
        assert_eq!((usage.user_percent, usage.system_percent, usage.idle_percent), (33.33, 33.33, 33.33));
        assert_eq!(super::usage(now, now), None);
        assert_eq!(super::usage(now, last), None, "counters that went back say nothing");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(cpu )?[ 0-9a-z./\n-]{0,80}") {
            let _ = (parse_stat(&text), parse_load(&text));
        }
    }
}
