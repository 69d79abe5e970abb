//! The status page: one HTML document with nothing to fetch, readable on a phone, that reloads itself.

use std::fmt::{self, Display, Write};

use super::status::{ConditionReport, Report, SinkReport, SourceReport};

const HEAD: &str = include_str!("page_head.html");

/// The whole document.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::from(HEAD);
    body(report, &mut page).expect("a string takes any text");
    page
}

fn body(report: &Report, page: &mut String) -> fmt::Result {
    if let Some(agent) = &report.agent {
        let (id, version) = (Escaped(&agent.id), Escaped(&agent.version));
        let memory = agent.resident_bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string());
        write!(page, "<h1>{id}</h1><p class=dim>Forebay {version}, up {}, ", Age(agent.uptime_seconds as f64))?;
        write!(page, "{memory} of memory, {}</p>", Escaped(&report.time))?;
    }
    findings(report, page)?;
    buffer(report, page)?;
    page.push_str("<h2>Sources</h2>");
    for source in &report.sources {
        self::source(source, page)?;
    }
    page.push_str("<h2>Sinks</h2>");
    for sink in &report.sinks {
        self::sink(sink, page)?;
    }
    page.push_str("</body></html>\n");
    Ok(())
}

fn findings(report: &Report, page: &mut String) -> fmt::Result {
    if report.findings.is_empty() {
        page.push_str("<p class=ok>All is well.</p>");
    }
    for finding in &report.findings {
        let class = if finding.severity == super::status::Severity::Error { "error" } else { "warning" };
        let since = finding.for_seconds.map(|s| format!(" for {}", Age(s as f64))).unwrap_or_default();
        write!(page, "<div class=\"box {class}\"><b>{}</b>{since}<br>", Escaped(&finding.subject))?;
        write!(page, "{}<br><i>{}</i></div>", Escaped(&finding.message), Escaped(&finding.remedy))?;
    }
    Ok(())
}

fn buffer(report: &Report, page: &mut String) -> fmt::Result {
    let buffer = &report.buffer;
    let share = 100.0 * buffer.used_bytes as f64 / buffer.max_bytes.max(1) as f64;
    write!(
        page,
        "<h2>Buffer</h2><div class=box><div class=bar><div style=\"width:{:.1}%\"></div></div>",
        share.min(100.0)
    )?;
    write!(page, "{} of {} used", Bytes(buffer.used_bytes), Bytes(buffer.max_bytes))?;
    if let Some(free) = buffer.free_disk_bytes {
        write!(page, ", {} of disk free", Bytes(free))?;
    }
    if buffer.dead_letters > 0 {
        write!(page, "<br>{} dead letters", Count(buffer.dead_letters))?;
    }
    let lost: u64 = buffer.lost_events.values().sum();
    if lost > 0 {
        write!(page, "<br>{} events dropped by policy", Count(lost))?;
    }
    page.push_str("</div>");
    Ok(())
}

fn source(source: &SourceReport, page: &mut String) -> fmt::Result {
    heading(page, &source.name, source.kind.as_deref(), source.condition.as_ref())?;
    if let Some(counters) = &source.counters {
        write!(page, "{} events in ({})", Count(counters.events), Bytes(counters.bytes))?;
        if counters.duplicates > 0 {
            write!(page, ", {} duplicates left out", Count(counters.duplicates))?;
        }
        if counters.errors + counters.refused > 0 {
            write!(page, ", {} errors, {} refused", Count(counters.errors), Count(counters.refused))?;
        }
        page.push_str("<br>");
    }
    let oldest = source.partitions.iter().filter_map(|partition| partition.oldest_age_seconds).reduce(f64::max);
    write!(page, "{} buffered ({})", Count(source.buffered_events), Bytes(source.buffered_bytes))?;
    if let Some(oldest) = oldest {
        write!(page, ", the oldest {} old", Age(oldest))?;
    }
    if !source.lag_events.is_empty() {
        write!(page, "<br>{} more upstream", Count(source.lag_events.values().sum()))?;
    }
    page.push_str("</div>");
    Ok(())
}

fn sink(sink: &SinkReport, page: &mut String) -> fmt::Result {
    let worst = sink.lanes.iter().filter_map(|lane| lane.condition.as_ref()).max_by_key(|condition| condition.state);
    heading(page, &sink.name, sink.kind.as_deref(), worst.or(sink.condition.as_ref()))?;
    if let Some(counters) = &sink.counters {
        write!(page, "{} events out ({})", Count(counters.events), Bytes(counters.bytes))?;
        if counters.errors + counters.refused > 0 {
            write!(page, ", {} errors, {} refused", Count(counters.errors), Count(counters.refused))?;
        }
        page.push_str("<br>");
    }
    write!(page, "{} pending", Count(sink.pending_events))?;
    if let Some(oldest) = sink.oldest_age_seconds {
        write!(page, ", the oldest {} old", Age(oldest))?;
    }
    if sink.lanes.len() > 1 {
        page.push_str("<table>");
        for lane in &sink.lanes {
            let (stream, partition) = (Escaped(&lane.stream), Escaped(&lane.partition));
            let confirmed = Escaped(lane.confirmed.as_deref().unwrap_or("-"));
            let pending = Count(lane.pending_events);
            write!(page, "<tr><td>{stream}/{partition}<td>{confirmed}<td>{pending} pending")?;
        }
        page.push_str("</table>");
    }
    page.push_str("</div>");
    Ok(())
}

fn heading(page: &mut String, name: &str, kind: Option<&str>, condition: Option<&ConditionReport>) -> fmt::Result {
    write!(
        page,
        "<div class=box><b>{}</b> <span class=dim>{}</span> ",
        Escaped(name),
        Escaped(kind.unwrap_or("gone"))
    )?;
    if let Some(condition) = condition {
        let state = condition.state.name();
        let words = state.replace('_', " ");
        write!(page, "<span class=\"state {state}\">{words}</span>")?;
        if let Some(reason) = &condition.reason {
            write!(page, "<br><span class=dim>{}</span>", Escaped(reason))?;
        }
    }
    page.push_str("<br>");
    Ok(())
}

/// Text that may hold anything, as HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let unit = ((self.0.ilog2() / 10) as usize).min(UNITS.len());
        write!(f, "{:.1} {}", self.0 as f64 / 1024_f64.powi(unit as i32), UNITS[unit - 1])
    }
}

/// Seconds, in the two largest units.
struct Age(f64);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0) as u64;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..86400 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86400, seconds % 86400 / 3600),
        }
    }
}

/// A number with its thousands set apart.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::report;

    #[test]
    fn amounts_are_readable() {
        let bytes = [0, 1023, 1024, 1536, 5 << 30, u64::MAX].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(bytes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB", "16384.0 PiB"]);
        let ages = [0.4, 59.9, 61.0, 7260.0, 90000.0].map(|age| Age(age).to_string());
        assert_eq!(ages, ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
        assert_eq!(Count(1_234_567).to_string().replace('\u{202f}', " "), "1 234 567");
        assert_eq!(Count(123).to_string(), "123");
    }

    #[test]
    fn nothing_from_outside_is_taken_for_html() {
        let mut report = report();
        report.sinks[0].lanes[0].partition = "<script>alert('1')</script>".to_owned();
        let lane = report.sinks[0].lanes[0].clone();
        report.sinks[0].lanes.push(lane);
        report.sources[0].name = "a\"b&c".to_owned();
        let page = render(&report);
        assert!(!page.contains("<script>"), "{page}");
        assert!(page.contains("a&quot;b&amp;c") && page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = render(&report());
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
