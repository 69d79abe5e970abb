//! Appends lines from standard input, and prints what no earlier run has printed: `seq 5 | cargo run --example log`.

use std::{io::BufRead, sync::Arc, time::Duration};

use forebay_buffer::{
    Batch, Event, Numbering, Options, ReadLimits, Start, StreamLimits, TimeQuality, Timestamp,
    clock::{Clock, Reading},
};

/// The machine's wall clock. An agent would also ask the kernel whether it is synchronised, and for the time since boot.
#[derive(Debug)]
struct WallClock(std::time::Instant);

impl Clock for WallClock {
    fn now(&self) -> Reading {
        let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        Reading { wall: Timestamp(wall.as_micros() as i64), since_boot: self.0.elapsed(), synchronised: true }
    }

    fn boot_id(&self) -> u128 {
        u128::from(std::process::id())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("forebay-example.db");
    let buffer = Options::new(&path, Arc::new(WallClock(std::time::Instant::now()))).open()?;
    buffer.declare_stream("lines", StreamLimits::default())?;
    buffer.declare_sink("printer", &["lines"], Start::Oldest, 1 << 20)?;
    let partition = buffer.partition("lines", "0", Numbering::Assigned)?;

    for line in std::io::stdin().lock().lines() {
        let event = Event { time_quality: TimeQuality::Stamped, ..Event::new(Timestamp::default(), line?) };
        let encoded = partition.encode(Batch { events: vec![event], ..Batch::default() })?;
        partition.append(encoded).wait()?;
    }

    let place = buffer.subscription("printer", &partition)?;
    place.resume_here()?;
    let mut reader = buffer.reader()?;
    let limits = ReadLimits { max_events: 1000, max_bytes: 1 << 20 };
    let mut at = place.beginning();
    loop {
        let delivery = place.read(&mut reader, at, limits)?;
        let Some((last, _)) = delivery.events.last() else { break };
        for (offset, event) in &delivery.events {
            let body = event.body.as_deref().unwrap_or_default();
            println!("{} {}", partition.numbering().display(*offset), String::from_utf8_lossy(body));
        }
        at = *last;
        place.confirm(place.checkpoint_at(at).expect("an epoch of this file assigned it"), None)?;
    }
    buffer.close();
    Ok(())
}
