//! The control table as the config has it, and what of it each sink's delivery is to write.

use std::sync::Arc;

use forebay_buffer::clock::Clock;

#[cfg(feature = "postgres")]
use crate::control::postgres::Postgres;
#[cfg(feature = "snowpipe")]
use crate::control::{
    local::{self, Local},
    snowflake::Snowflake,
};
#[cfg(feature = "eventhub")]
use crate::source::eventhub::Checkpoints;
use crate::{
    config::{Config, ControlBackend, ControlConfig, RowKeeper},
    contract::Control,
    delivery::ControlTable,
    observe::status::Finding,
};

/// The control table that a config describes. Nothing is connected to yet.
#[cfg_attr(
    not(any(feature = "postgres", feature = "snowpipe")),
    expect(unused_variables, reason = "nothing in this build has a control table")
)]
pub(crate) fn build(config: &ControlConfig, clock: &Arc<dyn Clock>) -> Option<Arc<dyn Control>> {
    match &config.backend {
        ControlBackend::Nothing => None,
        #[cfg(feature = "postgres")]
        ControlBackend::Postgres(settings) => {
            let control = Postgres::new(*settings.clone(), config.table.clone(), Arc::clone(clock));
            Some(Arc::new(control))
        }
        #[cfg(feature = "snowpipe")]
        ControlBackend::Snowflake(settings) => {
            let control = Arc::new(Snowflake::new(settings.place.clone(), Arc::clone(clock)));
            match settings.is_durable {
                true => Some(control),
                false => Some(Arc::new(Local::new(control, Arc::clone(clock)))),
            }
        }
    }
}

/// What health says of it for as long as it is so.
#[cfg_attr(not(feature = "snowpipe"), expect(unused_variables, reason = "there is nothing to say of other backends"))]
pub(super) fn remarks(config: &ControlConfig) -> Vec<Finding> {
    #[cfg(feature = "snowpipe")]
    if let ControlBackend::Snowflake(settings) = &config.backend
        && !settings.is_durable
    {
        let message = format!("ownership_mode = \"local_single_consumer_smoke\" {}", local::SMOKE);
        let remedy = "use ownership_mode = \"durable\", with a hybrid table or with Postgres";
        return vec![Finding::new(crate::observe::status::Severity::Warning, "control table", message).remedy(remedy)];
    }
    Vec::new()
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

/// How far the sinks of the source called `name` have come.
#[cfg(feature = "eventhub")]
pub(super) fn checkpoints_of(config: &Config, name: &str, control: Option<&Arc<dyn Control>>) -> Checkpoints {
    let (targets, has_local) = (config.targets_of(name), config.has_local_sink(name));
    Checkpoints { control: control.cloned(), targets, has_local }
}
