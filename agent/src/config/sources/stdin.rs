//! `type = "stdin"`.

use super::FORMAT;
use crate::{
    config::{key::Schema, reading::Section, report::Reported},
    source::stdin::Settings,
};

pub(super) static STDIN: Schema =
    Schema { name: "sources.NAME", variant: "stdin", doc: "Lines from standard input.", keys: &[&FORMAT], tables: &[] };

pub(super) fn read(section: &mut Section<'_, '_, '_>, max_event_bytes: usize) -> Result<Settings, Reported> {
    let format = section.value(&FORMAT);
    Ok(Settings { format: format?, max_event_bytes })
}
