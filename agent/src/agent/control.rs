//! The control table as the config has it, and what of it each sink's delivery is to write.

use std::sync::Arc;

use forebay_buffer::clock::Clock;

#[cfg(feature = "postgres")]
use crate::control::postgres::Postgres;
use crate::{
    config::{Config, ControlBackend, ControlConfig, RowKeeper},
    contract::Control,
    delivery::ControlTable,
};

/// The control table that a config describes. Nothing is connected to yet.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing in this build has a control table"))]
pub(crate) fn build(config: &ControlConfig, clock: &Arc<dyn Clock>) -> Option<Arc<dyn Control>> {
    match &config.backend {
        ControlBackend::Nothing => None,
        #[cfg(feature = "postgres")]
        ControlBackend::Postgres(settings) => {
            let control = Postgres::new(*settings.clone(), config.table.clone(), Arc::clone(clock));
            Some(Arc::new(control))
        }
    }
}

/// What the delivery of the sink called `name` is to write. `None` where there is no control table, or where the sink's
/// own rows are the control table's.
pub(super) fn table_of(config: &Config, name: &str, control: Option<&Arc<dyn Control>>) -> Option<ControlTable> {
    let sink = config.sinks.get(name)?;
    let control = control.filter(|_| config.control.keeper(&sink.kind) == RowKeeper::Delivery)?;
    Some(ControlTable {
        control: Arc::clone(control),
        agent_id: config.agent.id.clone(),
        target: sink.kind.target(name),
        interval: config.control.interval,
    })
}
