//! Refused events: into the dead letters before any checkpoint passes them, once, and for good.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use forebay_tests::sinks::{Database, Gateway, Image, Row, TokenService, bodies, spy};

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

/// A kill at any moment of an event's refusal: before it, between it and the dead letter, between that and the
/// checkpoint. If it was recorded, that is final, though the destination would take it now; if not, it is delivered.
#[tokio::test]
async fn a_kill_around_a_refusal_neither_loses_the_event_nor_has_it_twice() {
    for keeps_prefix in [true, false] {
        let (gateway, database) = (gateway(), Database::default());
        database.keep_prefix(keeps_prefix);
        database.forbid(&["3", "4", "8"]);
        gateway.append("s", 1..=9);
        let killed: Arc<Mutex<Vec<_>>> = Arc::default();
        let on_step = {
            let (killed, database, directory) = (Arc::clone(&killed), database.clone(), gateway.directory());
            move |step| {
                let moment = (step, Image::of(&directory), database.snapshot());
                killed.lock().expect("nobody panicked").push(moment);
            }
        };
        let running = gateway.deliver("d", &["s"], spy(database.sink(5), Arc::new(on_step)));
        database.until_rows(6).await;
        running.stop().await;
        assert_eq!(of_lane(&database.rows()), ["1", "2", "5", "6", "7", "9"]);
        assert_eq!(gateway.dead_letters().len(), 3);

        let moments = std::mem::take(&mut *killed.lock().expect("nobody panicked"));
        assert!(moments.len() >= 8, "only {} moments", moments.len());
        let mut outcomes = BTreeSet::new();
        for (step, image, snapshot) in moments {
            let (gateway, database) = (Gateway::from_image(&image), Database::default());
            database.restore(snapshot);
            let recorded: Vec<_> = gateway.dead_letters().iter().map(|letter| body(&letter.event)).collect();
            let expected: Vec<_> = (1..=9).map(|n| n.to_string()).filter(|n| !recorded.contains(n)).collect();
            deliver_until(&gateway, &database, expected.len()).await;
            assert_eq!(of_lane(&database.rows()), expected, "killed at {step}");
            assert_eq!(gateway.dead_letters().len(), recorded.len());
            outcomes.insert(recorded.len());
        }
        assert!(outcomes.len() > 1, "the kills were all on one side of the dead letters: {outcomes:?}");
    }
}

/// The same where the refusal becomes known only when the destination's token is past the event.
#[tokio::test]
async fn a_kill_after_a_token_has_passed_a_refused_event_does_not_lose_it() {
    let (gateway, service) = (gateway(), TokenService::default());
    service.forbid(&["3", "7"]);
    gateway.append("s", 1..=9);
    let killed: Arc<Mutex<Vec<_>>> = Arc::default();
    let on_step = {
        let (killed, service, directory) = (Arc::clone(&killed), service.clone(), gateway.directory());
        move |step| killed.lock().expect("nobody panicked").push((step, Image::of(&directory), service.copy()))
    };
    let running = gateway.deliver("d", &["s"], spy(service.sink(2, 1 << 16), Arc::new(on_step)));
    service.until_rows(7).await;
    running.stop().await;
    assert_eq!(gateway.dead_letters().len(), 2);

    let moments = std::mem::take(&mut *killed.lock().expect("nobody panicked"));
    let mut lagging = 0;
    for (step, image, service) in moments {
        let gateway = Gateway::from_image(&image);
        lagging += usize::from(gateway.dead_letters().is_empty() && service.rows().len() > 2);
        let running = gateway.deliver("d", &["s"], service.sink(2, 1 << 16));
        service.until_rows(7).await;
        running.stop().await;
        assert_eq!(of_lane(&service.rows()), ["1", "2", "4", "5", "6", "8", "9"], "killed at {step}");
        let letters: Vec<_> = gateway.dead_letters().iter().map(|letter| body(&letter.event)).collect();
        assert_eq!(letters, ["3", "7"], "killed at {step}");
    }
    assert!(lagging > 0, "no kill was between the token and the dead letter");
}

fn body(event: &forebay_buffer::Event) -> String {
    String::from_utf8_lossy(event.body.as_deref().unwrap_or_default()).into_owned()
}

/// Dead letters that are retried go to the sink that had refused them, and to no other.
#[tokio::test]
async fn a_retried_dead_letter_goes_to_its_own_sink_once() {
    let (gateway, database, other) = (gateway(), Database::default(), Database::default());
    gateway.sink("other", &["s"]);
    database.forbid(&["2"]);
    gateway.append("s", 1..=3);
    deliver_until(&gateway, &database, 2).await;
    database.allow_all();
    let letter = gateway.dead_letters().pop().expect("one was refused");
    gateway.buffer.retry_dead_letters(&[letter.id]).expect("it is there");
    let running = [("d", &database), ("other", &other)].map(|(name, to)| gateway.deliver(name, &["s"], to.sink(3)));
    database.until_rows(3).await;
    other.until_rows(3).await;
    for running in running {
        running.stop().await;
    }
    assert_eq!(of_lane(&other.rows()), ["1", "2", "3"]);
    let rows = bodies(&database.rows());
    assert_eq!(rows[&("s".to_owned(), "retry/sink".to_owned())], ["2"]);
    assert_eq!(of_lane(&database.rows()), ["1", "3"]);
}
