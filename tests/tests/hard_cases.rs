//! The delivery contract's hard cases, with a real buffer and the real delivery loop. For each: nothing lost in silence,
//! nothing twice, or a clear stop.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use forebay_buffer::{Checkpoint, Generation, Numbering, Offset, StreamLimits, Tag, WhenFull};
use forebay_tests::sinks::{Database, Fault, Gateway, Row, TokenService, bodies};

const LANE: &str = "s/0";

fn gateway() -> Gateway {
    let gateway = Gateway::default();
    gateway.stream("s");
    gateway.sink("d", &["s"]);
    gateway
}

async fn deliver_until(gateway: &Gateway, database: &Database, rows: usize) {
    let running = gateway.deliver("d", &["s"], database.sink(3));
    database.until_rows(rows).await;
    running.stop().await;
}

fn of_lane(rows: &[Row]) -> Vec<String> {
    bodies(rows).remove(&("s".to_owned(), "0".to_owned())).unwrap_or_default()
}

#[track_caller]
fn holds(rows: &[Row], numbers: impl IntoIterator<Item = u64>) {
    assert_eq!(of_lane(rows), numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>());
}

/// A file that is copied to a second gateway, and both go on: one of them stops, and nothing is there twice.
#[tokio::test]
async fn of_two_clones_one_stops_and_nothing_is_there_twice() {
    let (original, database) = (gateway(), Database::default());
    original.append("s", 1..=9);
    deliver_until(&original, &database, 4).await;
    let image = original.image();
    let clones = [Gateway::from_image(&image), Gateway::from_image(&image)];
    drop(original);
    clones[0].append("s", 100..=120);
    clones[1].append("s", 200..=220);
    let running = clones.each_ref().map(|clone| clone.deliver("d", &["s"], database.sink(3)));
    let (stopped, words) = tokio::select! {
        words = running[0].stopped(LANE) => (0, words),
        words = running[1].stopped(LANE) => (1, words),
    };
    assert!(words.contains("forked or restored"), "{words}");
    database.until_rows(9 + 21).await;
    for running in running {
        running.stop().await;
    }
    let other = if stopped == 0 { 200..=220 } else { 100..=120 };
    holds(&database.rows(), (1..=9).chain(other));
}

/// The one that is still open from before the copy was made knows the tag of what the clone delivers of its backlog.
#[tokio::test]
async fn a_clone_of_an_open_file_takes_over_where_the_original_was() {
    let (original, database) = (gateway(), Database::default());
    original.append("s", 1..=9);
    let clone = original.image();
    let running = original.deliver("d", &["s"], database.sink(3));
    database.until_rows(9).await;
    original.append("s", 10..=12);
    database.until_rows(12).await;
    let clone = Gateway::from_image(&clone);
    clone.append("s", 50..=52);
    let cloned = clone.deliver("d", &["s"], database.sink(3));
    database.until_rows(15).await;
    original.append("s", 13..=13);
    assert!(running.stopped(LANE).await.contains("forked or restored"));
    holds(&database.rows(), (1..=12).chain(50..=52));
    running.stop().await;
    cloned.stop().await;
}

/// The disk said that events were durable, they were delivered, and after the power cut they are not there.
#[tokio::test]
async fn a_disk_that_lied_loses_nothing_that_was_delivered_and_repeats_nothing() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=5);
    let what_the_disk_has = gateway.image();
    gateway.append("s", 6..=9);
    deliver_until(&gateway, &database, 9).await;
    drop(gateway);
    let gateway = Gateway::from_image(&what_the_disk_has);
    gateway.append("s", 10..=12);
    deliver_until(&gateway, &database, 12).await;
    holds(&database.rows(), 1..=12);
}

/// The same, and the row of the epoch itself fell back: its number comes again, under another tag.
#[tokio::test]
async fn a_disk_that_lost_a_whole_opening_stops_the_lane() {
    let (first, database) = (gateway(), Database::default());
    first.append("s", 1..=5);
    deliver_until(&first, &database, 5).await;
    let first = first.reopen();
    let what_the_disk_has = first.image();
    let second = first.kill();
    second.append("s", 6..=9);
    deliver_until(&second, &database, 9).await;
    drop(second);
    let third = Gateway::from_image(&what_the_disk_has);
    third.append("s", 10..=12);
    let running = third.deliver("d", &["s"], database.sink(3));
    assert!(running.stopped(LANE).await.contains("forked or restored"));
    holds(&database.rows(), 1..=9);
    running.stop().await;
}

/// A partition that another owner takes: what is in flight is awaited, the rest is taken back, and what the other owner
/// delivered is not delivered again when the partition comes back.
#[tokio::test]
async fn a_lost_partition_is_fenced_taken_back_and_resumed_where_the_other_owner_was() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append_shared("s", 9, 1..=4);
    let running = gateway.deliver("d", &["s"], database.sink(2));
    database.until_rows(4).await;
    // The destination is gone while more comes in.
    database.set_offline(true);
    gateway.append_shared("s", 9, 5..=9);
    running.waiting(LANE).await;

    gateway.fences.close("s", "0").await;
    let partition = gateway.buffer.partition("s", "0", Numbering::Shared { created: 9 }).expect("it is there");
    assert_eq!(partition.take_back().expect("nothing is in flight"), 5);
    assert_eq!(partition.high_water(), Offset(4));
    database.set_offline(false);
    let other = Checkpoint { generation: Generation(5), tag: Tag(9), offset: Offset(7) };
    database.set_checkpoint("s", "0", Some(other));

    // It comes back, and is read from the hub again.
    gateway.append_shared("s", 9, 5..=10);
    gateway.fences.open("s", "0");
    database.until_rows(7).await;
    running.stop().await;
    holds(&database.rows(), [1, 2, 3, 4, 8, 9, 10]);
}

/// A sink that is told of another owner does not fight: it waits until the intake has opened the fence anew.
#[tokio::test]
async fn a_fenced_lane_waits_for_its_fence() {
    let (gateway, database) = (gateway(), Database::default());
    database.fail_with([Fault::Fenced]);
    gateway.append("s", 1..=3);
    let running = gateway.deliver("d", &["s"], database.sink(3));
    assert!(running.waiting(LANE).await.contains("another owner"));
    assert_eq!(database.resumes(), 1);
    gateway.fences.close("s", "0").await;
    assert_eq!((database.resumes(), database.rows().len()), (1, 0));
    gateway.fences.open("s", "0");
    database.until_rows(3).await;
    running.stop().await;
    holds(&database.rows(), 1..=3);
}

#[tokio::test]
async fn a_stream_that_was_renamed_goes_on_under_its_new_name() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=3);
    deliver_until(&gateway, &database, 3).await;
    // Killed with the local checkpoint behind, so that only the destination knows.
    let gateway = gateway.kill();
    gateway.buffer.rename_stream("s", "t").expect("there is no other");
    gateway.append("t", 4..=6);
    let running = gateway.deliver_renamed("d", &["t"], database.sink(3), &[("t", "s")]);
    database.until_rows(6).await;
    running.stop().await;
    let rows: Vec<_> = database.rows().iter().map(|row| String::from_utf8_lossy(&row.body).into_owned()).collect();
    assert_eq!(rows, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(database.checkpoint("s", "0"), None);
}

#[tokio::test]
async fn a_stream_whose_renaming_the_destination_is_not_told_of_stops() {
    let (gateway, database) = (gateway(), Database::default());
    gateway.append("s", 1..=3);
    deliver_until(&gateway, &database, 3).await;
    let gateway = gateway.reopen();
    gateway.buffer.rename_stream("s", "t").expect("there is no other");
    gateway.append("t", 4..=6);
    let running = gateway.deliver("d", &["t"], database.sink(3));
    assert!(running.stopped("t/0").await.contains("someone deleted it"));
    running.stop().await;
    assert_eq!(database.rows().len(), 3);
}

/// Two sinks at different speeds under drop-oldest: what is missing at each is what the ledger says, exactly.
#[tokio::test]
async fn what_is_missing_at_each_sink_is_what_the_ledger_says() {
    for fault in [Fault::ReplyLost, Fault::Broken, Fault::Hangs] {
        let gateway = gateway();
        let limits = StreamLimits { max_bytes: 40 << 10, max_age: None, when_full: WhenFull::DropOldest };
        gateway.buffer.declare_stream("s", limits).expect("it is declared");
        gateway.sink("slow", &["s"]);
        let (fast, slow) = (Database::default(), Database::default());
        let mut sent = BTreeSet::new();
        let mut append = |from: u64| {
            // Bodies that do not compress, so that the stream's share is soon full.
            let bodies = (from..from + 20).map(|n| format!("{n} {}", noise(n)));
            let appended = gateway.append_to("s", "0", bodies);
            let last = appended.high_water.0;
            sent.extend(last - 19..=last);
        };
        append(0);
        let fast_running = gateway.deliver("d", &["s"], fast.sink(7));
        let slow_running = gateway.deliver("slow", &["s"], slow.sink(7));
        slow.until_rows(20).await;
        // One batch of the slow sink is in flight when its destination goes away, and much is dropped meanwhile.
        slow.fail_with([fault.clone()]);
        append(20);
        slow.until_deliveries(4).await;
        slow.set_offline(true);
        for round in 2..40 {
            append(round * 20);
        }
        let slow_running = if fault == Fault::Hangs {
            slow_running.kill().await;
            slow.set_offline(false);
            gateway.deliver("slow", &["s"], slow.sink(7))
        } else {
            slow.set_offline(false);
            slow_running
        };
        let last = Offset(*sent.last().expect("much was sent"));
        for database in [&fast, &slow] {
            database.until_offset(last).await;
        }
        fast_running.stop().await;
        slow_running.stop().await;

        for (name, database) in [("d", &fast), ("slow", &slow)] {
            let rows: Vec<_> = database.rows().iter().map(|row| row.offset.0).collect();
            assert!(rows.is_sorted_by(|a, b| a < b), "{name} has events twice, or out of order");
            let missing: BTreeSet<_> = sent.iter().filter(|offset| !rows.contains(offset)).copied().collect();
            let losses =
                gateway.losses().into_iter().filter(|loss| loss.sink.as_deref().is_none_or(|sink| sink == name));
            let losses: Vec<_> = losses.collect();
            let ledger: BTreeSet<_> = losses.iter().flat_map(|loss| loss.first.0..=loss.last.0).collect();
            assert_eq!(ledger, missing, "{name}, {fault:?}");
            assert_eq!(losses.iter().map(|loss| loss.events).sum::<u64>(), missing.len() as u64, "{name}, {fault:?}");
            assert!(name == "d" || !missing.is_empty(), "nothing was dropped, so nothing was tried");
        }
    }
}

/// What a policy drops while the destination is away is in the ledger, and not a sign that the destination has gone back:
/// not when the first deliveries after that fail, and not when nothing had been delivered before.
#[tokio::test]
async fn a_drop_is_not_taken_for_commits_that_the_destination_lost() {
    for delivered_before in [false, true] {
        let (gateway, database) = (gateway(), Database::default());
        let limits = StreamLimits { max_bytes: 40 << 10, max_age: None, when_full: WhenFull::DropOldest };
        gateway.buffer.declare_stream("s", limits).expect("it is declared");
        let mut sent = 0;
        let mut append = || {
            let last = gateway.append_to("s", "0", (0..20).map(|n| format!("{n} {}", noise(sent + n)))).high_water;
            sent += 20;
            last
        };
        if delivered_before {
            append();
            deliver_until(&gateway, &database, 20).await;
        }
        let last = (0..40).map(|_| append()).last().expect("much was sent");
        database.fail_with([Fault::Broken, Fault::Broken, Fault::ReplyLost]);
        let running = gateway.deliver("d", &["s"], database.sink(7));
        database.until_offset(last).await;
        running.stop().await;
        let lost: u64 = gateway.losses().iter().map(|loss| loss.events).sum();
        assert!(lost > 0, "nothing was dropped, so nothing was tried");
        assert_eq!(database.rows().len() as u64 + lost, sent);
    }
}

/// Text that does not compress.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    (0..12).map(|_| next()).collect()
}

/// A COMMIT whose reply is lost, and that landed, or lands later, or never.
#[tokio::test]
async fn a_lost_commit_reply_repeats_nothing_and_loses_nothing() {
    for faults in [
        vec![Fault::ReplyLost],
        vec![Fault::LandsLater],
        vec![Fault::Broken, Fault::LandsLater, Fault::ReplyLost, Fault::Broken],
        vec![Fault::LandsLater, Fault::LandsLater, Fault::Busy(Duration::from_millis(5))],
    ] {
        let (gateway, database) = (gateway(), Database::default());
        database.fail_with(faults);
        gateway.append("s", 1..=12);
        let running = gateway.deliver("d", &["s"], database.sink(3));
        database.until_rows(12).await;
        let progress = Arc::clone(&running.progress);
        running.stop().await;
        assert_eq!(progress.events.load(Ordering::Relaxed), 12);
        database.land();
        holds(&database.rows(), 1..=12);
    }
}

/// Whatever goes wrong in whatever order: each event once, and in order.
#[tokio::test]
async fn no_order_of_faults_and_kills_loses_or_repeats_anything() {
    for seed in 1..=30 {
        let mut state = seed;
        let mut pick = |below: u64| {
            state = u64::wrapping_add(state, 0x9e37_79b9_7f4a_7c15);
            (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % below
        };
        let (mut gateway, database) = (gateway(), Database::default());
        let mut sent = 0;
        for _ in 0..8 {
            let more = pick(12) + 1;
            gateway.append("s", sent + 1..=sent + more);
            sent += more;
            let faults =
                [Fault::Broken, Fault::ReplyLost, Fault::LandsLater, Fault::Hangs, Fault::Busy(Duration::ZERO)];
            let count = pick(4);
            let chosen: Vec<_> = (0..count).map(|_| faults[pick(faults.len() as u64) as usize].clone()).collect();
            database.fail_with(chosen);
            let running = gateway.deliver("d", &["s"], database.sink(pick(5) as usize + 1));
            database.until_deliveries(database.deliveries() + 1).await;
            for _ in 0..pick(40) {
                tokio::task::yield_now().await;
            }
            if pick(2) == 0 {
                database.land();
            }
            running.kill().await;
            if pick(3) == 0 {
                gateway = gateway.kill();
            }
        }
        database.heal();
        deliver_until(&gateway, &database, sent as usize).await;
        database.land();
        let expected: Vec<_> = (1..=sent).map(|number| number.to_string()).collect();
        assert_eq!(of_lane(&database.rows()), expected, "seed {seed}");
    }
}

/// A lone event after silence is delivered at once, with nothing following it.
#[tokio::test]
async fn a_lone_event_is_delivered_with_nothing_following_it() {
    let (gateway, database) = (gateway(), Database::default());
    let running = gateway.deliver("d", &["s"], database.sink(3));
    for number in 1..=5 {
        gateway.append("s", number..=number);
        database.until_rows(number as usize).await;
    }
    // A partition that nobody had heard of is no different.
    gateway.append_to("s", "new", ["x".to_owned()]);
    database.until_rows(6).await;
    running.stop().await;
    holds(&database.rows(), 1..=5);
}

#[tokio::test]
async fn appends_that_are_committed_in_pieces_are_confirmed_in_pieces() {
    let (gateway, service) = (gateway(), TokenService::default());
    service.commit_by_itself(false);
    gateway.append("s", 1..=10);
    let running = gateway.deliver("d", &["s"], service.sink(2, 1 << 16));
    service.until_accepted(10).await;
    let subscription = {
        let partition = gateway.buffer.partition("s", "0", Numbering::Assigned).expect("it is there");
        gateway.buffer.subscription("d", &partition).expect("it is there")
    };
    for pieces in [3, 1, 2] {
        service.commit("s", "0", pieces);
        let token = service.token("s", "0");
        while subscription.checkpoint() != token {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // Somebody else opens the channel: what was not committed is discarded, and delivered again.
    service.open_elsewhere("s", "0");
    service.until_accepted(4).await;
    service.commit_by_itself(true);
    service.until_rows(10).await;
    running.stop().await;
    holds(&service.rows(), 1..=10);
}

/// Promise 5: no more is in flight than the window and a batch.
#[tokio::test]
async fn a_full_window_holds_the_lane_back() {
    let (gateway, service) = (gateway(), TokenService::default());
    service.commit_by_itself(false);
    gateway.append_to("s", "0", (0..100).map(|number| format!("{number:100}")));
    let running = gateway.deliver("d", &["s"], service.sink(2, 1000));
    service.until_accepted(10).await;
    for committed in 0..90 {
        service.commit("s", "0", 1);
        service.until_accepted(10.min(100 - committed - 1)).await;
        assert!(service.accepted() <= 12, "{} are in flight", service.accepted());
    }
    service.commit_by_itself(true);
    service.until_rows(100).await;
    running.stop().await;
}

/// What was delivered when the agent was told to stop is settled, and the next start has nothing to ask about.
#[tokio::test]
async fn a_shutdown_settles_what_is_in_flight() {
    let (gateway, service) = (gateway(), TokenService::default());
    service.commit_by_itself(false);
    gateway.append("s", 1..=6);
    let running = gateway.deliver("d", &["s"], service.sink(3, 1 << 16));
    service.until_accepted(6).await;
    let mut stopping = Box::pin(running.stop());
    tokio::select! {
        biased;
        () = &mut stopping => panic!("it did not wait for what was in flight"),
        () = tokio::task::yield_now() => {}
    }
    service.commit_by_itself(true);
    stopping.await;
    holds(&service.rows(), 1..=6);
    let partition = gateway.buffer.partition("s", "0", Numbering::Assigned).expect("it is there");
    let subscription = gateway.buffer.subscription("d", &partition).expect("it is there");
    assert_eq!(subscription.checkpoint(), service.token("s", "0"));
}
