//! Watches over the checkpoints while everything else goes wrong.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use forebay_tests::servers::Postgres;

/// Keeps every move of a checkpoint, in the transaction that makes it: the row is locked then.
const MOVES: &str = "CREATE INDEX ON events (partition, \"offset\"); \
    CREATE TABLE moves (nr bigserial, partition text, before bigint, after bigint, generation text); \
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      INSERT INTO moves (partition, before, after, generation) VALUES (NEW.partition_id, \
        CASE TG_OP WHEN 'UPDATE' THEN OLD.waterlevel END, NEW.waterlevel, NEW.metadata->>'generation'); RETURN NEW; END $$; \
    CREATE TRIGGER keep AFTER INSERT OR UPDATE ON ingestion_status FOR EACH ROW EXECUTE FUNCTION keep()";
/// One statement sees one moment.
const AHEAD: &str = "SELECT partition_id, waterlevel, top FROM ingestion_status, LATERAL (SELECT max(\"offset\") AS top FROM \
                     events WHERE partition = partition_id) AS committed WHERE waterlevel IS DISTINCT FROM top";

/// Has every move of a checkpoint kept from now on.
pub(crate) fn keep_moves(postgres: &Postgres) {
    postgres.psql(MOVES);
}

/// Asks again and again whether a checkpoint is not where the last committed row of its partition is, until told to stop.
/// Returns how often it asked.
pub(crate) fn watch(postgres: &Postgres, stop: &AtomicBool) -> u64 {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let ahead = postgres.psql(AHEAD);
        assert!(ahead.is_empty(), "a checkpoint is not at the last committed event (Promise 2): {ahead}");
        asked += 1;
    }
    asked
}

/// Judges all moves: each begins where the one before it ended, and goes forward. So no two agents have ever confirmed
/// from the same place. Returns how often a partition went from one agent to another.
pub(crate) fn judge_moves(postgres: &Postgres) -> u64 {
    let moves = postgres.psql("SELECT partition, coalesce(before, -1), after, generation FROM moves ORDER BY nr");
    let mut last: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    let mut handovers = 0;
    for one in moves.lines() {
        let parts: Vec<&str> = one.split('|').collect();
        let [partition, before, after, generation] = parts[..] else { panic!("{one}") };
        let [before, after] = [before, after].map(|number| number.parse::<i64>().expect("a number"));
        let (ended, by) = last.get(partition).copied().unwrap_or((-1, generation));
        assert_eq!(before, ended, "a move of partition {partition} does not begin where the one before it ended");
        assert!(after > before, "a move of partition {partition} goes from {before} to {after}");
        handovers += u64::from(by != generation);
        last.insert(partition, (after, generation));
    }
    handovers
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::rig::Rig;

    /// Whether this finds fault.
    fn finds(judge: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(judge)).is_err()
    }

    #[test]
    fn a_checkpoint_that_is_ahead_and_moves_that_overlap_are_found() {
        let rig = Rig::new(1);
        let postgres = &rig.postgres;
        keep_moves(postgres);
        let moved = |sql: &str| postgres.psql(sql);
        moved("INSERT INTO events (partition, \"offset\") VALUES ('0', 7)");
        moved(
            "INSERT INTO ingestion_status VALUES (now(), 'n', 'h', 'd', 's', 't', 7, '0', '{\"generation\": \"a\"}')",
        );
        assert!(postgres.psql(AHEAD).is_empty() && judge_moves(postgres) == 0);
        moved("UPDATE ingestion_status SET waterlevel = 8, metadata = '{\"generation\": \"b\"}'");
        assert_eq!(postgres.psql(AHEAD), "0|8|7");
        assert_eq!(judge_moves(postgres), 1);
        moved("INSERT INTO moves (partition, before, after, generation) VALUES ('0', 7, 9, 'a')");
        assert!(finds(|| _ = judge_moves(postgres)), "two have confirmed from the same place");
        moved("UPDATE moves SET before = 8, after = 8 WHERE after = 9");
        assert!(finds(|| _ = judge_moves(postgres)), "it does not go forward");
    }
}
