//! Files that were read, and turn up again under the name that rotation gave them.

use super::*;

#[tokio::test]
async fn a_rotated_file_that_a_pattern_matches_is_not_read_again() {
    let case = Case::new("a.log*");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.rename("a.log", "a.log.1");
    case.write("a.log", "two\n");
    case.expect("a.log", &["one", "two"]).await;
    running.stop().await;
    let running = case.start();
    case.rename("a.log.1", "a.log.2");
    case.rename("a.log", "a.log.1");
    case.write("a.log", "three\n");
    case.expect("a.log", &["one", "two", "three"]).await;
    case.write("a.log.9", "of another writer\n");
    case.expect("a.log.9", &["of another writer"]).await;
    for name in ["a.log.1", "a.log.2"] {
        assert_eq!(case.fake.acknowledged(&case.partition(name)), [] as [&str; 0], "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn many_rotated_files_that_a_pattern_matches_are_not_read_again() {
    let case = Case::new("a.log*");
    let mut expected = vec!["0".to_owned()];
    case.write("a.log", "0\n");
    let running = case.start();
    for n in 1..=14 {
        case.expect("a.log", &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for rotated in (1..n).rev() {
            case.rename(&format!("a.log.{rotated}"), &format!("a.log.{}", rotated + 1));
        }
        case.rename("a.log", "a.log.1");
        case.write("a.log", &format!("{n}\n"));
        expected.push(n.to_string());
    }
    case.expect("a.log", &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    running.stop().await;
    let running = case.start();
    case.write("b", "the last\n");
    case.rename("b", "a.log.other");
    case.expect("a.log.other", &["the last"]).await;
    for n in 1..=14 {
        assert_eq!(case.fake.acknowledged(&case.partition(&format!("a.log.{n}"))), [] as [&str; 0], "{n}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_finished_file_is_forgotten_when_its_inode_number_is_used_again() {
    let case = Case::new("a.log*");
    case.write("a.log", "one\ntwo\n");
    let id = case.id("a.log");
    case.store("a.log", &Position::new(Identity::new(id, b"one\n"), 4, &[Identity::new(id, b"old\n")])).await;
    let running = case.start();
    case.expect("a.log", &["two"]).await;
    running.stop().await;
    let stored = case.fake.stored(&case.partition("a.log"));
    let position = stored.last().and_then(|batch| batch.position.as_deref()).expect("a position");
    assert_eq!(Position::decode(position).expect("a good one").finished, []);
}

#[tokio::test]
async fn another_log_with_the_inode_number_of_an_empty_file_is_its_own() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    case.write("b.log", "two\n");
    case.store("a.log", &Position::new(Identity::new(case.id("b.log"), b""), 0, &[])).await;
    let running = case.start();
    case.expect("b.log", &["two"]).await;
    case.expect("a.log", &["one"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_rotated_file_is_not_new_while_its_successor_is_not_there_yet() {
    let case = Case::new("a.log*");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    running.stop().await;
    case.write("a.log", "two\n");
    case.rename("a.log", "a.log.1");
    case.write("a.log.2", "another\n");
    let running = case.start();
    case.expect("a.log", &["one", "two"]).await;
    case.expect("a.log.2", &["another"]).await;
    case.write("a.log", "three\n");
    case.expect("a.log", &["one", "two", "three"]).await;
    assert_eq!(case.fake.acknowledged(&case.partition("a.log.1")), [] as [&str; 0]);
    running.stop().await;
}

/// Follows what is there until nobody finds anything new, as far as `path` goes: its follower has ended.
async fn follow_to_the_end(case: &Case, followers: &mut Followers, path: &str) {
    let paths = followers.search().await;
    followers.start(paths, false).await.expect("they are started");
    while followers.following.contains_key(&case.path(path)) {
        let ended = followers.tasks.join_next().await.expect("it is followed").expect("no panic");
        followers.forget(ended).expect("it is taken");
    }
}

#[tokio::test]
async fn a_file_read_by_its_rotated_name_is_not_read_again_when_the_next_one_has_had_that_name() {
    let case = Case::new("a.log*");
    let (switch, mut followers) = case.followers();
    case.write("a.log", "of a.log\n");
    case.write("a.log.1", "rotated before anyone saw it\n");
    let first = followers.search().await;
    followers.start(first, false).await.expect("they are started");
    case.expect("a.log.1", &["rotated before anyone saw it"]).await;
    case.expect("a.log", &["of a.log"]).await;
    case.rename("a.log.1", "a.log.2");
    case.rename("a.log", "a.log.1");
    case.write("a.log", "next\n");
    follow_to_the_end(&case, &mut followers, "a.log.1").await;
    // Whoever has not gone on by then would rightly take the next a.log.1 for what came in between.
    case.expect("a.log", &["of a.log", "next"]).await;
    case.rename("a.log.2", "a.log.3");
    case.rename("a.log.1", "a.log.2");
    case.write("a.log.1", "not seen either\n");
    let again = followers.search().await;
    followers.start(again, false).await.expect("they are started");
    case.expect("a.log.1", &["rotated before anyone saw it", "not seen either"]).await;
    switch.send(true).expect("they listen");
    while followers.tasks.join_next().await.is_some() {}

    let running = case.start();
    case.write("a.log.4", "another\n");
    case.expect("a.log.4", &["another"]).await;
    for name in ["a.log.2", "a.log.3"] {
        assert_eq!(case.fake.acknowledged(&case.partition(name)), [] as [&str; 0], "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_rotated_file_is_not_new_while_nothing_has_the_name_that_it_was_read_by() {
    let case = Case::new("a.log*");
    case.write("a.log.1", "one\n");
    let running = case.start();
    case.expect("a.log.1", &["one"]).await;
    running.stop().await;
    // In the middle of a rotation.
    case.rename("a.log.1", "a.log.2");
    case.write("a.log.2", "two\n");
    let running = case.start();
    case.expect("a.log.1", &["one", "two"]).await;
    assert_eq!(case.fake.acknowledged(&case.partition("a.log.2")), [] as [&str; 0]);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_was_rotated_to_another_folder_is_not_read_again() {
    let case = Case::new("**/a.log*");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    fs::create_dir(case.path("old")).expect("a folder");
    case.rename("a.log", "old/a.log.1");
    case.write("a.log", "two\n");
    case.expect("a.log", &["one", "two"]).await;
    running.stop().await;
    let running = case.start();
    case.write("old/a.log.2", "of another writer\n");
    case.expect("old/a.log.2", &["of another writer"]).await;
    assert_eq!(case.fake.acknowledged(&case.partition("old/a.log.1")), [] as [&str; 0]);
    running.stop().await;
}
