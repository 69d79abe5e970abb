//! Partitions that another owner has, had, or may have, and hubs that were created anew.

use super::*;
use crate::contract::Passed;

#[tokio::test]
async fn a_lost_partition_falls_back_to_what_was_delivered() {
    let rig = Rig::roomy();
    let opened = within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    assert_eq!(opened, Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Same });
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    within(rig.submit("3", shared(5..10)).await).await.expect("there is room");
    rig.confirm("3", Offset(4));

    let left = within(rig.intake().lost("3", None, None)).await.expect("nothing is in flight");
    assert_eq!(left, Resume { high_water: Offset(4), position: Some(b"before 5".to_vec()), creation: Creation::Same });
    assert!(rig.stored("3").iter().all(|peeked| peeked.offset <= Offset(4)));
    let refused = within(rig.submit("3", shared(5..10)).await).await;
    assert_eq!(refused, Err(IntakeError::Fenced), "another owner has it");

    let again = within(rig.intake().resume("3", SHARED)).await.expect("it is ours again");
    assert_eq!(again.high_water, Offset(4));
    let appended = within(rig.submit("3", shared(3..8)).await).await.expect("there is room");
    assert_eq!((appended.high_water, appended.events), (Offset(7), 3), "what was there is not stored twice");
}

#[tokio::test]
async fn a_batch_that_waits_for_room_in_a_lost_partition_is_fenced() {
    let rig = Rig::new(128 << 10);
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    let sized = |range: std::ops::Range<i64>| {
        let mut batch = shared(range);
        for event in &mut batch.events {
            event.body = noise(60 << 10).events.remove(0).body;
        }
        batch
    };
    within(rig.submit("3", sized(0..1)).await).await.expect("there is room");
    let waiting = rig.submit("3", sized(1..2)).await;
    within(rig.intake().lost("3", None, None)).await.expect("nothing is in flight");
    assert_eq!(within(waiting).await, Err(IntakeError::Fenced));
}

#[tokio::test]
async fn a_suspended_partition_keeps_what_is_there_and_takes_nothing() {
    let rig = Rig::new(128 << 10);
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let large = SourceBatch { offsets: vec![Offset(10)], ..noise(100 << 10) };
    within(rig.submit("3", large).await).await.expect("there is room");
    let waiting = SourceBatch { offsets: vec![Offset(11)], ..noise(100 << 10) };
    let waiting = rig.submit("3", waiting).await;
    within(rig.intake().suspend("3")).await.expect("nothing is in flight");
    assert!(rig.fences.is_closed(STREAM, "3"));
    assert_eq!(within(waiting).await, Err(IntakeError::Fenced), "it must not keep the partition from being left");
    assert_eq!(rig.stored("3").len(), 6);
    let again = within(rig.intake().resume_after("3", SHARED, None)).await.expect("it is ours still");
    assert_eq!(again.high_water, Offset(10));
    assert!(!rig.fences.is_closed(STREAM, "3"));
}

#[tokio::test]
async fn a_resume_that_nobody_awaits_any_more_does_not_open_a_partition_that_was_left_meanwhile() {
    let rig = Rig::new(128 << 10);
    let stored = rig.fill().await;
    let mut waiting = Vec::new();
    for _ in 0..=INTAKE_QUEUE {
        waiting.push(rig.submit("0", noise(8 << 10)).await);
    }
    {
        let mut resuming = pin!(rig.intake().resume("3", SHARED));
        assert!(is_pending(&mut resuming).await);
    }
    within(rig.intake().suspend("3")).await.expect("nothing is in flight");
    rig.confirm("0", stored[stored.len() - 1]);
    within(waiting.swap_remove(0)).await.expect("there is room now");
    within(rig.intake().partitions()).await.expect("it comes after the one that nobody awaits");
    within(rig.intake().suspend("3")).await.expect("it comes after that too");
    assert!(rig.buffer.partitions(STREAM).expect("the stream is there").iter().all(|one| one.name() != "3"));
}

#[tokio::test]
async fn what_another_owner_has_delivered_is_passed_over() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let passed = |offset| Some(Passed { offset: Offset(offset), position: Some(b"theirs".to_vec()) });
    let behind = within(rig.intake().resume_after("3", SHARED, passed(2))).await.expect("nothing is in flight");
    assert_eq!((behind.high_water, rig.stored("3").len()), (Offset(4), 5), "what is here is still to be delivered");
    let ahead = within(rig.intake().resume_after("3", SHARED, passed(9))).await.expect("nothing is in flight");
    let theirs = Resume { high_water: Offset(9), position: Some(b"theirs".to_vec()), creation: Creation::Same };
    assert_eq!((ahead, rig.stored("3").len()), (theirs, 0));
    let appended = within(rig.submit("3", shared(8..12)).await).await.expect("there is room");
    assert_eq!(appended.events, 2);
}

#[tokio::test]
async fn a_hub_that_was_created_anew_waits_for_what_is_left_of_the_earlier_one() {
    const LATER: Numbering = Numbering::Shared { created: 8 };
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let mut resuming = pin!(rig.intake().resume("3", LATER));
    assert!(is_pending(&mut resuming).await);
    rig.confirm("3", Offset(4));
    let resumed = within(resuming).await.expect("all is delivered");
    assert_eq!(resumed, Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Anew });
}

#[tokio::test]
async fn a_hub_that_is_older_is_not_opened_and_what_is_here_is_kept() {
    const EARLIER: Numbering = Numbering::Shared { created: 6 };
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let former = Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Former };
    assert_eq!(within(rig.intake().resume("3", EARLIER)).await, Ok(former.clone()));
    assert!(!rig.fences.is_closed(STREAM, "3"), "what is here is delivered");
    assert_eq!(within(rig.intake().lost("3", None, None)).await, Ok(former), "the new owner does not read it");
    assert_eq!(rig.stored("3").len(), 5);
    within(rig.intake().resume("3", SHARED)).await.expect("it leads there again");
}

/// Promise 6.
#[tokio::test]
async fn a_lost_partition_of_a_hub_that_is_no_more_is_in_the_loss_ledger() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let left = within(rig.intake().lost("3", Some(8), None)).await.expect("nothing is in flight");
    assert_eq!(left, Resume { high_water: Offset::BEFORE_ALL, position: None, creation: Creation::Same });
    let losses = rig.buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    assert_eq!(
        losses.iter().map(|loss| (loss.first, loss.last, loss.events)).collect::<Vec<_>>(),
        [(Offset(0), Offset(4), 5)]
    );
    assert_eq!(rig.stored("3").len(), 0);
}

/// Promise 6.
#[tokio::test]
async fn what_a_new_owner_cannot_read_any_more_of_a_lost_partition_is_in_the_loss_ledger() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    assert_eq!(within(rig.intake().suspend("3")).await, Ok(true), "nothing was delivered");
    let left = within(rig.intake().lost("3", Some(7), Some(Offset(3)))).await.expect("nothing is in flight");
    assert_eq!((left.high_water, left.position), (Offset::BEFORE_ALL, None));
    let losses = rig.buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    assert_eq!(losses.iter().map(|loss| (loss.last, loss.events)).collect::<Vec<_>>(), [(Offset(2), 3)]);
    assert_eq!(within(rig.intake().suspend("3")).await, Ok(false), "nothing is left");
}

#[tokio::test]
async fn a_lost_partition_of_a_later_hub_than_the_one_that_is_there_is_kept() {
    let rig = Rig::roomy();
    within(rig.intake().resume("3", SHARED)).await.expect("a new partition");
    within(rig.submit("3", shared(0..5)).await).await.expect("there is room");
    let left = within(rig.intake().lost("3", Some(6), None)).await.expect("nothing is in flight");
    assert_eq!((left.creation, rig.stored("3").len()), (Creation::Former, 5), "the new owner does not read it");
}
