//! `type = "stdout"`.

use super::FORMAT;
use crate::{
    config::{key::Schema, reading::Section, report::Reported},
    contract::BatchLimits,
    sink::stdout::Settings,
};

pub(super) static STDOUT: Schema = Schema {
    name: "sinks.NAME",
    variant: "stdout",
    doc: "Lines on standard output, at least once: what was printed before a crash may be printed again.",
    keys: &[&FORMAT],
    tables: &[],
};

pub(super) fn read(
    section: &mut Section<'_, '_, '_>,
    batch: Result<BatchLimits, Reported>,
) -> Result<Settings, Reported> {
    let format = section.value(&FORMAT);
    Ok(Settings { format: format?, batch: batch? })
}
