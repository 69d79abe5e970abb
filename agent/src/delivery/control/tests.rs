use std::collections::BTreeMap;

use forebay_buffer::{Generation, Numbering, Offset, Tag};

use super::*;
use crate::contract::{Bid, BoxFuture, Claim, ControlRow, Shares};

const INTERVAL: Duration = Duration::from_secs(10);
const OURS: Generation = Generation(1);
const OTHERS: Generation = Generation(2);
/// The tag that this file knows.
const KNOWN: Tag = Tag(7);

/// A control table in memory.
#[derive(Default)]
struct Fake(Mutex<State>);

#[derive(Default)]
struct State {
    rows: BTreeMap<CheckpointKey, Checkpoint>,
    unreadable: Vec<CheckpointKey>,
    /// Rows that say that a sink keeps them.
    sinks: Vec<CheckpointKey>,
    /// How long the table takes for an answer.
    delay: Duration,
    /// What every call ends with.
    broken: Option<ControlError>,
    /// Whether calls never end.
    hangs: bool,
    /// What another writer does to a row when the next write is on its way.
    meddling: Option<(CheckpointKey, Checkpoint)>,
    loads: usize,
    /// When something was written, and how many rows at once.
    saves: Vec<(Instant, usize)>,
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this lock")
    }

    async fn answer(&self) -> Result<(), ControlError> {
        if self.state().hangs {
            std::future::pending::<()>().await;
        }
        let delay = self.state().delay;
        tokio::time::sleep(delay).await;
        self.state().broken.clone().map_or(Ok(()), Err)
    }
}

impl Control for Fake {
    fn place(&self) -> &str {
        "the fake"
    }

    fn load<'a>(&'a self, keys: &'a [CheckpointKey]) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        Box::pin(async move {
            self.answer().await?;
            let mut state = self.state();
            state.loads += 1;
            let row = |key: &CheckpointKey| {
                let checkpoint = match state.unreadable.contains(key) {
                    true => Err(format!("the row of {key} has no generation")),
                    false => Ok(*state.rows.get(key)?),
                };
                let kept_by = state.sinks.contains(key).then_some(KeptBy::Sink);
                Some(ControlRow { key: key.clone(), kept_by, checkpoint, upstream: None })
            };
            Ok(keys.iter().filter_map(row).collect())
        })
    }

    fn save<'a>(&'a self, moves: &'a [CheckpointMove]) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move {
            self.answer().await?;
            let mut state = self.state();
            if let Some((key, checkpoint)) = state.meddling.take() {
                state.rows.insert(key, checkpoint);
            }
            if let Some(lost) = moves.iter().find(|one| state.rows.get(&one.key).copied() != one.from) {
                return Err(ControlError::Moved(lost.key.clone()));
            }
            state.rows.extend(moves.iter().map(|one| (one.key.clone(), one.to)));
            state.saves.push((Instant::now(), moves.len()));
            Ok(())
        })
    }

    fn claims<'a>(&'a self, _: &'a Shares) -> BoxFuture<'a, Result<Vec<Claim>, ControlError>> {
        unreachable!("delivery claims nothing")
    }

    fn bid<'a>(&'a self, _: &'a Shares, _: &'a [Bid]) -> BoxFuture<'a, Result<Vec<String>, ControlError>> {
        unreachable!("delivery claims nothing")
    }

    fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<ControlRow>, ControlError>> {
        unreachable!("nothing is listed for a delivery")
    }
}

/// A keeper at work on a fake table.
struct Rig {
    fake: Arc<Fake>,
    board: Board,
    progress: Arc<Progress>,
    switch: tokio::sync::watch::Sender<bool>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// With these rows in the table.
    fn new(rows: &[(&str, Checkpoint)]) -> Self {
        let fake = Arc::new(Fake::default());
        fake.state().rows.extend(rows.iter().map(|(partition, at)| (key("line1", partition), *at)));
        let target = Target { database: "file".into(), schema: "local".into(), table: "files".into() };
        let table = ControlTable { control: fake.clone(), agent_id: "gw".to_owned(), target, interval: INTERVAL };
        let (board, progress) = (Board::new(table), Progress::new("sink files"));
        let (switch, shutdown) = Shutdown::new();
        let keeper = tokio::spawn(Keeper::new(board.clone(), Arc::clone(&progress)).run(shutdown));
        Self { fake, board, progress, switch, keeper }
    }

    /// A lane opens: its file had delivered under `delivered` by then, and stands at `at` now.
    fn opens(&self, partition: &str, delivered: Option<Generation>, at: Option<Checkpoint>) {
        self.opens_as(id(partition, None), delivered, at);
    }

    fn opens_as(&self, id: PartitionId, delivered: Option<Generation>, at: Option<Checkpoint>) {
        let knows: Arc<dyn Fn(Checkpoint) -> bool + Send + Sync> = Arc::new(|at| at.tag == KNOWN);
        let lineage = Lineage { numbering: id.numbering, generation: OURS, delivered, consumer_group: None, knows };
        self.board.stands(&id.name, &id, lineage, at);
    }

    fn confirms(&self, partition: &str, offset: i64) {
        self.board.confirmed(partition, at(offset), None);
    }

    fn row(&self, partition: &str) -> Option<Checkpoint> {
        self.fake.state().rows.get(&key("line1", partition)).copied()
    }

    fn condition(&self, lane: &str) -> Option<Condition> {
        self.progress.lanes().get(lane).map(|since| since.condition.clone())
    }

    /// Lets the keeper do what there is to do by now.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn passes(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.settle().await;
    }

    async fn stops(self) -> Arc<Fake> {
        self.switch.send_replace(true);
        self.keeper.await.expect("the keeper does not panic");
        self.fake
    }
}

fn id(partition: &str, renamed_from: Option<&str>) -> PartitionId {
    let renamed_from = renamed_from.map(str::to_owned);
    PartitionId {
        stream: "line1".into(),
        renamed_from,
        name: partition.into(),
        numbering: Numbering::Assigned,
        hub: None,
    }
}

fn key(stream: &str, partition: &str) -> CheckpointKey {
    let target = Target { database: "file".into(), schema: "local".into(), table: "files".into() };
    CheckpointKey { namespace: "gw".into(), hub: stream.into(), target, partition: partition.into() }
}

fn at(offset: i64) -> Checkpoint {
    Checkpoint { generation: OURS, tag: KNOWN, offset: Offset(offset) }
}

fn theirs(offset: i64) -> Checkpoint {
    Checkpoint { generation: OTHERS, ..at(offset) }
}

#[tokio::test(start_paused = true)]
async fn all_partitions_are_written_together_and_at_most_once_in_an_interval() {
    let rig = Rig::new(&[]);
    rig.opens("0", None, None);
    rig.opens("1", None, None);
    let begun = Instant::now();
    // Confirmations every 100 ms, for ten intervals.
    for offset in 1..=1000 {
        rig.confirms("0", offset);
        rig.confirms("1", offset);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let intervals = begun.elapsed().as_secs() / INTERVAL.as_secs();
    let saves = rig.fake.state().saves.clone();
    assert!(saves.len() as u64 <= intervals + 1 && saves.len() as u64 >= intervals - 1, "{saves:?}");
    assert!(saves.windows(2).all(|two| two[1].0 - two[0].0 >= INTERVAL), "{saves:?}");
    assert!(saves[1..].iter().all(|(_, rows)| *rows == 2), "{saves:?}");
    assert!(rig.fake.state().loads <= 2, "a row that is ours alone is read once");
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_nothing_written_and_what_comes_last_is_written_at_the_end() {
    let rig = Rig::new(&[("0", at(5))]);
    rig.opens("0", Some(OURS), Some(at(5)));
    rig.passes(INTERVAL * 5).await;
    assert!(rig.fake.state().saves.is_empty(), "it stands there already");
    rig.confirms("0", 6);
    rig.settle().await;
    assert_eq!(rig.row("0"), Some(at(6)));
    rig.confirms("0", 7);
    rig.settle().await;
    assert_eq!(rig.row("0"), Some(at(6)), "the interval is not over");
    let fake = rig.stops().await;
    assert_eq!(fake.state().rows[&key("line1", "0")], at(7));
}

#[tokio::test(start_paused = true)]
async fn what_a_partition_came_to_is_written_before_it_is_given_away() {
    let rig = Rig::new(&[]);
    rig.opens("0", None, Some(at(1)));
    rig.settle().await;
    rig.fake.state().delay = Duration::from_millis(60);
    rig.confirms("0", 2);
    let begun = Instant::now();
    rig.board.flush("0").await;
    assert_eq!(rig.row("0"), Some(at(2)), "whatever is left of the interval");
    rig.board.flush("0").await;
    assert!(begun.elapsed() < INTERVAL);
    assert_eq!(rig.fake.state().saves.len(), 2, "nothing new is nothing written");
    // The keeper is in the middle of a turn for another partition.
    rig.opens("1", None, Some(at(1)));
    rig.passes(INTERVAL).await;
    rig.confirms("1", 2);
    rig.settle().await;
    rig.confirms("0", 3);
    rig.board.flush("0").await;
    assert_eq!(rig.row("0"), Some(at(3)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_given_away_though_the_table_is_out_of_reach() {
    let rig = Rig::new(&[]);
    rig.opens("0", None, Some(at(1)));
    rig.settle().await;
    rig.confirms("0", 2);
    rig.fake.state().broken = Some(ControlError::Retry("connection refused".to_owned()));
    let begun = Instant::now();
    rig.board.flush("0").await;
    assert!(begun.elapsed() <= LAST_WRITE);
    rig.fake.state().hangs = true;
    rig.board.flush("0").await;
    assert!(begun.elapsed() <= LAST_WRITE * 2);
    assert_eq!(rig.row("0"), Some(at(1)));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_partitions_of_a_slow_table_are_written_before_the_agent_ends() {
    let rig = Rig::new(&[]);
    rig.fake.state().delay = Duration::from_millis(60);
    let names: Vec<_> = (0..100).map(|at| at.to_string()).collect();
    for name in &names {
        rig.opens(name, None, Some(at(1)));
    }
    rig.passes(INTERVAL / 2).await;
    let writes = rig.fake.state().saves.len();
    // An answer is lost, so the table must be asked again: what came last is on its way when the end comes.
    rig.fake.state().broken = Some(ControlError::Retry("connection reset".to_owned()));
    names.iter().for_each(|name| rig.confirms(name, 2));
    rig.passes(INTERVAL).await;
    assert_eq!(rig.fake.state().saves.len(), writes);
    rig.fake.state().broken = None;
    let fake = rig.stops().await;
    let state = fake.state();
    assert!(state.rows.len() == 100 && state.rows.values().all(|row| *row == at(2)), "{:?}", state.rows);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_a_sink_keeps_is_left_to_it_for_good() {
    let rig = Rig::new(&[("0", at(1)), ("1", at(1))]);
    rig.fake.state().rows.insert(key("old", "2"), at(1));
    rig.fake.state().sinks = vec![key("line1", "0"), key("old", "2")];
    rig.opens("0", Some(OURS), Some(at(1)));
    rig.opens("1", Some(OURS), Some(at(1)));
    rig.opens_as(id("2", Some("old")), Some(OURS), Some(at(1)));
    for offset in 2..10 {
        ["0", "1", "2"].iter().for_each(|partition| rig.confirms(partition, offset));
        rig.passes(INTERVAL + RECHECK).await;
        assert_eq!((rig.row("0"), rig.row("1"), rig.row("2")), (Some(at(1)), Some(at(offset)), None));
        assert_eq!(rig.fake.state().loads, 1, "they are not even looked at");
    }
    assert_eq!(rig.condition("control table: 0"), None, "there is nothing for anyone to mend");
    rig.stops().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_destination_contradicts_is_not_written_any_more() {
    let rig = Rig::new(&[]);
    for partition in ["0", "1"] {
        rig.opens(partition, None, Some(at(1)));
    }
    rig.settle().await;
    rig.confirms("0", 2);
    rig.confirms("1", 2);
    rig.board.withdraw("0");
    rig.passes(INTERVAL * 2).await;
    assert_eq!((rig.row("0"), rig.row("1")), (Some(at(1)), Some(at(2))), "only what stands is written");
    // It is mended, and the lane goes on.
    rig.opens("0", Some(OURS), Some(at(3)));
    rig.passes(INTERVAL * 2).await;
    assert_eq!(rig.row("0"), Some(at(3)));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_does_not_answer_holds_up_the_end_for_two_seconds_only() {
    let rig = Rig::new(&[]);
    rig.opens("0", None, Some(at(1)));
    rig.fake.state().hangs = true;
    rig.settle().await;
    let begun = Instant::now();
    rig.stops().await;
    assert_eq!(begun.elapsed(), LAST_WRITE);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_condition_and_everything_is_written_when_it_is_over() {
    let rig = Rig::new(&[]);
    rig.fake.state().broken = Some(ControlError::Retry("connection refused".to_owned()));
    rig.opens("0", None, Some(at(1)));
    rig.settle().await;
    let waiting = rig.condition(LANE);
    assert!(matches!(&waiting, Some(Condition::Waiting(why)) if why.contains("refused") && why.contains("the fake")));
    for offset in 2..100 {
        rig.confirms("0", offset);
        rig.passes(INTERVAL).await;
    }
    assert_eq!(rig.condition(LANE), waiting, "it is entered once");
    rig.fake.state().broken = None;
    rig.passes(INTERVAL).await;
    assert_eq!((rig.condition(LANE), rig.row("0")), (Some(Condition::Running), Some(at(99))));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_must_be_mended_is_looked_at_again_now_and_then() {
    let rig = Rig::new(&[]);
    rig.fake.state().broken = Some(ControlError::Stop("run `forebay setup`".to_owned()));
    rig.opens("0", None, Some(at(1)));
    rig.settle().await;
    assert!(matches!(rig.condition(LANE), Some(Condition::Stopped(why)) if why.contains("forebay setup")));
    rig.fake.state().broken = None;
    rig.passes(RECHECK / 2).await;
    assert_eq!(rig.row("0"), None);
    rig.passes(RECHECK).await;
    assert_eq!((rig.condition(LANE), rig.row("0")), (Some(Condition::Running), Some(at(1))));
}

#[tokio::test(start_paused = true)]
async fn a_row_of_another_gateway_is_left_alone_by_one_that_has_delivered_and_the_others_go_on() {
    let rig = Rig::new(&[("0", theirs(9))]);
    rig.opens("0", Some(OURS), Some(at(5)));
    rig.opens("1", Some(OURS), Some(at(5)));
    rig.settle().await;
    let stopped = rig.condition("control table: 0");
    let Some(Condition::Stopped(why)) = stopped else { panic!("{stopped:?}") };
    for part in ["gw/line1/0", "the fake", &OTHERS.to_string(), "another id", "delete the row"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    assert_eq!((rig.row("0"), rig.row("1")), (Some(theirs(9)), Some(at(5))));
    // The operator has deleted it.
    rig.fake.state().rows.remove(&key("line1", "0"));
    rig.passes(RECHECK + INTERVAL).await;
    assert_eq!((rig.row("0"), rig.condition("control table: 0")), (Some(at(5)), None));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_had_delivered_nothing_takes_the_row_over_once_and_does_not_fight_for_it() {
    let rig = Rig::new(&[("0", theirs(9))]);
    rig.opens("0", None, None);
    rig.settle().await;
    assert_eq!(rig.row("0"), Some(theirs(9)), "nothing is confirmed yet");
    rig.confirms("0", 1);
    rig.settle().await;
    assert_eq!(rig.row("0"), Some(at(1)));
    // A gateway that was thought gone writes again.
    rig.fake.state().rows.insert(key("line1", "0"), theirs(10));
    rig.confirms("0", 2);
    rig.passes(INTERVAL).await;
    assert_eq!(rig.row("0"), Some(theirs(10)));
    assert!(matches!(rig.condition("control table: 0"), Some(Condition::Stopped(_))));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_file_replaces_the_row_that_it_wrote_before() {
    let rig = Rig::new(&[("0", theirs(900))]);
    // The local checkpoint still bears the former generation, and says nothing of this one.
    rig.opens("0", Some(OTHERS), Some(theirs(900)));
    rig.passes(INTERVAL).await;
    assert_eq!(rig.row("0"), Some(theirs(900)));
    rig.confirms("0", 5);
    rig.passes(INTERVAL).await;
    assert_eq!(rig.row("0"), Some(at(5)));
}

#[tokio::test(start_paused = true)]
async fn a_row_of_an_opening_that_this_file_does_not_know_is_a_clones() {
    let rig = Rig::new(&[("0", Checkpoint { tag: Tag(8), ..at(3) })]);
    rig.opens("0", Some(OURS), Some(at(5)));
    rig.settle().await;
    let stopped = rig.condition("control table: 0");
    assert!(matches!(&stopped, Some(Condition::Stopped(why)) if why.contains("cloned")), "{stopped:?}");
    assert_eq!(rig.row("0"), Some(Checkpoint { tag: Tag(8), ..at(3) }));
}

#[tokio::test(start_paused = true)]
async fn a_row_never_goes_back_within_a_generation() {
    let rig = Rig::new(&[("0", at(9))]);
    rig.opens("0", Some(OURS), Some(at(5)));
    for offset in 6..=10 {
        rig.passes(INTERVAL).await;
        assert_eq!(rig.row("0"), Some(at(9)), "at {offset}");
        rig.confirms("0", offset);
    }
    rig.passes(INTERVAL).await;
    assert_eq!(rig.row("0"), Some(at(10)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_never_written_over() {
    let rig = Rig::new(&[("0", at(1))]);
    rig.fake.state().unreadable.push(key("line1", "0"));
    rig.opens("0", None, Some(at(5)));
    rig.passes(INTERVAL).await;
    assert!(
        matches!(rig.condition("control table: 0"), Some(Condition::Stopped(why)) if why.contains("no generation"))
    );
    let fake = rig.stops().await;
    assert!(fake.state().saves.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_another_writer_came_before_looks_again_at_once() {
    let rig = Rig::new(&[("0", at(1))]);
    rig.opens("0", Some(OURS), Some(at(5)));
    // Its own earlier write, say, whose answer was lost.
    rig.fake.state().meddling = Some((key("line1", "0"), at(4)));
    rig.settle().await;
    assert_eq!((rig.row("0"), rig.fake.state().loads), (Some(at(5)), 2));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_stream_goes_on_under_its_present_name_and_is_told_from_a_clone_by_the_former() {
    let rig = Rig::new(&[]);
    rig.fake.state().rows.extend([(key("old", "0"), at(3)), (key("old", "1"), theirs(3))]);
    rig.opens_as(id("0", Some("old")), Some(OURS), Some(at(5)));
    rig.opens_as(id("1", Some("old")), Some(OURS), Some(at(5)));
    rig.settle().await;
    assert_eq!((rig.row("0"), rig.row("1")), (Some(at(5)), None));
    let stopped = rig.condition("control table: 1");
    assert!(matches!(&stopped, Some(Condition::Stopped(why)) if why.contains("gw/old/1")), "{stopped:?}");
}

#[tokio::test(start_paused = true)]
async fn shared_offsets_go_on_whatever_the_generation_within_one_creation_of_the_hub() {
    let created = Tag(1000);
    let shared = |generation, tag, offset| Checkpoint { generation, tag, offset: Offset(offset) };
    let rig = Rig::new(&[
        ("behind", shared(OTHERS, created, 3)),
        ("ahead", shared(OTHERS, created, 9)),
        ("earlier", shared(OURS, Tag(999), 90)),
        ("later", shared(OURS, Tag(1001), 1)),
    ]);
    for partition in ["behind", "ahead", "earlier", "later"] {
        let id = PartitionId { numbering: Numbering::Shared { created: 1000 }, ..id(partition, None) };
        rig.opens_as(id, Some(OURS), Some(shared(OURS, created, 5)));
    }
    rig.passes(INTERVAL).await;
    let ours = Some(shared(OURS, created, 5));
    assert_eq!((rig.row("behind"), rig.row("earlier")), (ours, ours));
    assert_eq!(rig.row("ahead"), Some(shared(OTHERS, created, 9)));
    assert_eq!(rig.row("later"), Some(shared(OURS, Tag(1001), 1)));
    assert!(matches!(rig.condition("control table: later"), Some(Condition::Stopped(_))));
}
