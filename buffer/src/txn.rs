//! One transaction of the writer: what it changes in the file, and in memory once that is committed.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::Connection;

use crate::{
    Error, Offset,
    catalog::{Catalog, Cuts, Lane},
    clock::Reading,
    places::Places,
    shared::Shared,
    space::Space,
    timeline::{Era, insert_era},
};

type Effect = Box<dyn FnOnce(&mut Places) + Send>;

/// Passed to everything that runs inside a transaction.
pub(crate) struct Txn<'a> {
    pub(crate) db: &'a Connection,
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) shared: &'a Shared,
    pub(crate) space: &'a mut Space,
    pub(crate) now: Reading,
    undo_lanes: BTreeMap<i64, Lane>,
    undo_catalog: Option<Catalog>,
    eras: usize,
    /// By lane: first and last offset, and number of the events of each segment.
    appended: Vec<(i64, Offset, Offset, u64)>,
    cut: Vec<Arc<Cuts>>,
    effects: Vec<Effect>,
    /// Whether room was made, so that producers who wait should look again.
    pub(crate) made_room: bool,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(
        db: &'a Connection,
        catalog: &'a mut Catalog,
        shared: &'a Shared,
        space: &'a mut Space,
        now: Reading,
    ) -> Self {
        let eras = catalog.timeline.eras().len();
        Self {
            db,
            catalog,
            shared,
            space,
            now,
            undo_lanes: BTreeMap::new(),
            undo_catalog: None,
            eras,
            appended: Vec::new(),
            cut: Vec::new(),
            effects: Vec::new(),
            made_room: false,
        }
    }

    pub(crate) fn lane(&self, id: i64) -> &Lane {
        self.catalog.lanes.get(&id).expect("a lane is looked up before it is used")
    }

    /// A lane that a command names, which may be gone by now.
    pub(crate) fn known_lane(&self, id: i64) -> Result<&Lane, Error> {
        self.catalog.lanes.get(&id).ok_or_else(|| Error::Unknown("such partition any more".to_owned()))
    }

    /// A lane that is going to change.
    pub(crate) fn lane_mut(&mut self, id: i64) -> &mut Lane {
        let lane = self.catalog.lanes.get_mut(&id).expect("a lane is looked up before it is used");
        self.undo_lanes.entry(id).or_insert_with(|| lane.clone());
        lane
    }

    /// Must be called before anything but a lane or an era of the catalog changes.
    pub(crate) fn change_catalog(&mut self) -> &mut Catalog {
        if self.undo_catalog.is_none() {
            let mut before = self.catalog.clone();
            before.lanes.extend(std::mem::take(&mut self.undo_lanes));
            self.undo_catalog = Some(before);
        }
        self.catalog
    }

    pub(crate) fn add_era(&mut self, era: Era) -> Result<(), Error> {
        insert_era(self.db, &era)?;
        self.catalog.timeline.add(era);
        Ok(())
    }

    /// Notes that a lane's sinks have more to deliver.
    pub(crate) fn pending(&mut self, lane: i64, (first, last): (Offset, Offset), events: u64) {
        self.appended.push((lane, first, last, events));
    }

    /// A lane from which the transaction takes unconfirmed events out: [`Cuts::begin`] was called.
    pub(crate) fn cutting(&mut self, cuts: Arc<Cuts>) {
        self.cut.push(cuts);
    }

    /// Something to do to the places when this is committed.
    pub(crate) fn on_commit(&mut self, effect: impl FnOnce(&mut Places) + Send + 'static) {
        self.effects.push(Box::new(effect));
    }

    /// Puts the catalog back as it was: the transaction was rolled back.
    pub(crate) fn undo(self) {
        if let Some(before) = self.undo_catalog {
            *self.catalog = before;
        } else {
            self.catalog.lanes.extend(self.undo_lanes);
        }
        self.catalog.timeline.truncate(self.eras);
        self.cut.iter().for_each(|cuts| cuts.end());
    }

    /// Publishes what is now durable, and wakes whoever waits for it.
    pub(crate) fn publish(self) {
        let structure_changed = self.undo_catalog.is_some();
        {
            let mut published = self.shared.catalog();
            if structure_changed {
                *published = self.catalog.clone();
            } else {
                for id in self.undo_lanes.keys() {
                    published.lanes.insert(*id, self.catalog.lanes[id].clone());
                }
                for era in &self.catalog.timeline.eras()[self.eras..] {
                    published.timeline.add(*era);
                }
            }
        }
        let mut places = self.shared.places();
        for effect in self.effects {
            effect(&mut places);
        }
        for (lane, first, last, events) in &self.appended {
            for (_, place) in places.range_mut((*lane, i64::MIN)..=(*lane, i64::MAX)) {
                // With shared offsets a sink may be further than what is read again.
                let above = (last.0 - place.confirmed.0.max(first.0 - 1)).max(0);
                place.pending_events += (*events).min(above.unsigned_abs());
            }
        }
        drop(places);
        self.cut.iter().for_each(|cuts| cuts.end());
        for id in self.undo_lanes.keys() {
            self.catalog.lanes[id].changed.notify(usize::MAX);
        }
        if structure_changed {
            self.catalog.lanes.values().for_each(|lane| {
                lane.changed.notify(usize::MAX);
            });
            self.shared.partitions_changed.notify(usize::MAX);
        }
        if self.made_room || structure_changed {
            self.shared.room_made.notify(usize::MAX);
        }
    }
}
