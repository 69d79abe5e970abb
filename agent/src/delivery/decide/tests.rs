//! The table of the design's section 4, row by row. Each test quotes its row.

use forebay_buffer::Tag;

use super::*;

const GENERATION: Generation = Generation(1);
const OTHER: Generation = Generation(2);
const EPOCH: u32 = 7;

fn checkpoint(generation: Generation, counter: u64) -> Checkpoint {
    Checkpoint { generation, tag: Tag(70), offset: at(counter) }
}

/// An offset of an epoch before this opening.
fn at(counter: u64) -> Offset {
    Offset::assigned(EPOCH - 1, counter)
}

fn facts(local: Option<Checkpoint>, destination: Destination) -> Facts<'static> {
    Facts {
        partition: "line1/0",
        numbering: Numbering::Assigned,
        generation: GENERATION,
        epoch: EPOCH,
        high_water: at(100),
        beginning: Offset::BEFORE_ALL,
        local,
        destination,
        tag_known: true,
        missing: None,
    }
}

#[track_caller]
fn resumes(facts: &Facts<'_>, after: Offset, expected: Option<Checkpoint>) {
    assert_eq!(decide(facts), Decision::ResumeAfter { after, expected });
}

#[track_caller]
fn stops(facts: &Facts<'_>, words: &[&str]) {
    let Decision::Stop(message) = decide(facts) else { panic!("it goes on: {:?}", decide(facts)) };
    for word in words.iter().chain(&["line1/0"]) {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

/// "any | same generation, tag known here | resume after its offset"
#[test]
fn a_known_tag_of_this_generation_is_where_to_resume() {
    let found = checkpoint(GENERATION, 40);
    for local in [None, Some(found), Some(checkpoint(GENERATION, 10))] {
        resumes(&facts(local, Destination::At(found)), at(40), Some(found));
    }
}

/// "checkpoint behind the destination's | same generation, tag known | the destination is right"
#[test]
fn a_local_checkpoint_behind_the_destinations_gives_way() {
    let found = checkpoint(GENERATION, 40);
    resumes(&facts(Some(checkpoint(GENERATION, 39)), Destination::At(found)), at(40), Some(found));
}

/// "checkpoint ahead of the destination's | same generation, tag known | the destination lost commits (...): resume
/// after its offset if all that follows is still here"
#[test]
fn what_the_destination_lost_is_delivered_again_if_it_is_still_here() {
    let found = checkpoint(GENERATION, 40);
    resumes(&facts(Some(checkpoint(GENERATION, 60)), Destination::At(found)), at(40), Some(found));
}

/// "... else stop, and name the missing range"
#[test]
fn what_the_destination_lost_and_is_gone_here_stops_and_is_named() {
    let mut facts = facts(Some(checkpoint(GENERATION, 60)), Destination::At(checkpoint(GENERATION, 40)));
    facts.missing = Some((at(40), at(55)));
    stops(&facts, &["after 6.40 through 6.55", "forebay buffer adopt"]);
}

/// "never delivered to it | another generation | nothing of this file was delivered: start at its beginning, and
/// replace the row by compare-and-set"
#[test]
fn a_new_file_replaces_the_checkpoint_of_an_old_one() {
    let mut facts = facts(None, Destination::At(checkpoint(OTHER, 40)));
    facts.tag_known = false;
    facts.beginning = at(5);
    resumes(&facts, at(5), Some(checkpoint(OTHER, 40)));
}

/// "has delivered to it | another generation | another gateway with the same id took over: stop"
#[test]
fn another_gateway_with_the_same_id_stops_the_first() {
    let mut facts = facts(Some(checkpoint(GENERATION, 10)), Destination::At(checkpoint(OTHER, 40)));
    facts.tag_known = false;
    stops(&facts, &["another gateway with the same id took over", &OTHER.to_string()]);
    facts.tag_known = true;
    stops(&facts, &["another gateway with the same id took over"]);
}

/// "same generation | a tag unknown here | the file was restored from a backup or cloned to another gateway: stop with
/// "forked or restored", and what to do"
#[test]
fn an_unknown_tag_of_this_generation_stops() {
    for local in [None, Some(checkpoint(GENERATION, 10)), Some(checkpoint(GENERATION, 90))] {
        let mut facts = facts(local, Destination::At(checkpoint(GENERATION, 40)));
        facts.tag_known = false;
        stops(&facts, &["forked or restored", "forebay buffer adopt", "discard"]);
    }
}

/// "adopt (take over: what is here goes out under a new generation; ...)"
#[test]
fn an_adopted_file_takes_over_from_what_it_could_not_tell() {
    let former = checkpoint(OTHER, 10);
    let mut facts = facts(Some(former), Destination::At(checkpoint(OTHER, 40)));
    facts.tag_known = false;
    resumes(&facts, at(10), Some(checkpoint(OTHER, 40)));
    facts.destination = Destination::At(checkpoint(Generation(3), 40));
    resumes(&facts, at(10), Some(checkpoint(Generation(3), 40)));
    facts.destination = Destination::Nothing;
    resumes(&facts, at(10), None);
}

/// What an adopted file can tell for certain is not sent twice.
#[test]
fn an_adopted_file_goes_on_where_its_former_generation_was() {
    let facts = facts(Some(checkpoint(OTHER, 10)), Destination::At(checkpoint(OTHER, 40)));
    resumes(&facts, at(40), Some(checkpoint(OTHER, 40)));
}

/// `adopt` is the way out of a stop, so it must not lead into the same one again.
#[test]
fn an_adopted_file_goes_on_without_what_is_missing() {
    let mut facts = facts(Some(checkpoint(OTHER, 60)), Destination::At(checkpoint(OTHER, 40)));
    facts.missing = Some((at(40), at(60)));
    resumes(&facts, at(60), Some(checkpoint(OTHER, 40)));
}

/// "has delivered | has nothing (channel expired after 30 idle days ...) | Snowpipe: the local checkpoint is right"
#[test]
fn a_channel_that_expired_leaves_the_local_checkpoint_right() {
    resumes(&facts(Some(checkpoint(GENERATION, 60)), Destination::Forgotten), at(60), None);
}

/// A destination that cannot say anything (stdout) is like one that forgot.
#[test]
fn a_destination_that_cannot_say_leaves_the_local_checkpoint_right() {
    resumes(&facts(Some(checkpoint(GENERATION, 60)), Destination::Unknown), at(60), None);
    resumes(&facts(None, Destination::Unknown), Offset::BEFORE_ALL, None);
}

/// "has delivered | has nothing (... row deleted) | Postgres: stop, for someone deleted it"
#[test]
fn a_deleted_row_stops() {
    stops(&facts(Some(checkpoint(GENERATION, 60)), Destination::Nothing), &["6.60", "someone deleted it"]);
}

/// "shared offsets (Event Hubs) | an offset, whatever its generation | resume there, within the same creation time of
/// the hub"
#[test]
fn a_shared_offset_is_right_whoever_wrote_it() {
    let found = Checkpoint { generation: OTHER, tag: Tag(9), offset: Offset(500) };
    for local in [None, Some(Checkpoint { generation: GENERATION, tag: Tag(9), offset: Offset(100) })] {
        let mut facts = facts(local, Destination::At(found));
        (facts.numbering, facts.high_water) = (Numbering::Shared { created: 9 }, Offset(100));
        resumes(&facts, Offset(500), Some(found));
        facts.missing = Some((Offset(500), Offset(510)));
        stops(&facts, &["after 500 through 510"]);
    }
}

/// "... a recreated hub, whose numbers start again, is a question for `on_invalid_offset`"
///
/// which the source asks before it takes anything of it in.
#[test]
fn a_recreated_hub_begins_anew_and_one_that_is_no_more_stops() {
    let found = Checkpoint { generation: OTHER, tag: Tag(8), offset: Offset(500) };
    let mut facts = facts(None, Destination::At(found));
    (facts.numbering, facts.tag_known) = (Numbering::Shared { created: 9 }, false);
    resumes(&facts, Offset::BEFORE_ALL, Some(found));
    facts.numbering = Numbering::Shared { created: 7 };
    stops(&facts, &["later creation of the hub"]);
}

/// "no checkpoint at all | nothing | `start = "oldest"` (default) or `"now"` for a sink added later"
#[test]
fn a_sink_without_any_checkpoint_starts_where_the_config_says() {
    let mut facts = facts(None, Destination::Nothing);
    resumes(&facts, Offset::BEFORE_ALL, None);
    facts.beginning = at(100);
    resumes(&facts, at(100), None);
    facts.destination = Destination::Forgotten;
    resumes(&facts, at(100), None);
}

/// A disk that lied and fell back: everything new is above what was delivered.
#[test]
fn an_offset_of_an_earlier_epoch_may_be_above_everything_here() {
    let found = checkpoint(GENERATION, 500);
    resumes(&facts(Some(checkpoint(GENERATION, 90)), Destination::At(found)), at(500), Some(found));
}

/// Nothing of this opening can be delivered before it was written.
#[test]
fn an_offset_of_this_epoch_above_everything_here_stops() {
    let offset = Offset::assigned(EPOCH, 5);
    let found = Checkpoint { offset, ..checkpoint(GENERATION, 0) };
    let mut facts = facts(None, Destination::At(found));
    stops(&facts, &["7.5", "6.100"]);
    facts.high_water = offset;
    resumes(&facts, offset, Some(found));
}
