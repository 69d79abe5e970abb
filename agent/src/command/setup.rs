//! `forebay setup`: makes the tables that the config needs in databases, or prints how; and carries rows over from the
//! control table that was used before.

#[cfg(feature = "postgres")]
mod copy;
#[cfg(feature = "postgres")]
mod create;
#[cfg(feature = "postgres")]
mod tables;

#[cfg(feature = "postgres")]
use super::run::in_runtime;
use super::{
    arguments,
    failure::{Failure, Outcome},
    output,
    setting::Setting,
};
use crate::config::Config;

/// Makes or prints the tables, and copies rows if that is asked for.
pub(super) fn run(setting: &Setting, options: &arguments::Setup) -> Outcome {
    let config = setting.config()?;
    if options.print_sql {
        if options.copy_from.is_some() {
            return Err(Failure::usage("say either --print-sql, which changes nothing, or --copy-from"));
        }
        return Ok(output::print(&sql(&config))?);
    }
    make(setting, &config, options)
}

#[cfg(feature = "postgres")]
fn make(setting: &Setting, config: &Config, options: &arguments::Setup) -> Outcome {
    // First, for it refuses what would leave a running agent's checkpoints behind.
    let before = options.copy_from.as_deref().map(|path| copy::before(setting, config, path)).transpose()?;
    in_runtime(async {
        create(setting, config).await?;
        match before {
            Some(before) => copy::copy(setting, &before, config).await,
            None => Ok(()),
        }
    })
}

#[cfg(feature = "postgres")]
fn sql(config: &Config) -> String {
    tables::sql(&tables::of(config))
}

#[cfg(feature = "postgres")]
async fn create(setting: &Setting, config: &Config) -> Outcome {
    let places = tables::of(config);
    if places.is_empty() {
        return Ok(output::print(NOTHING)?);
    }
    for place in &places {
        create::create(setting, place).await?;
    }
    Ok(())
}

/// What is said where there is nothing to do.
const NOTHING: &str = "nothing to set up: this config has neither a control table nor a sink in a database\n";

#[cfg(not(feature = "postgres"))]
fn sql(_: &Config) -> String {
    format!("-- {NOTHING}")
}

#[cfg(not(feature = "postgres"))]
fn make(_: &Setting, _: &Config, options: &arguments::Setup) -> Outcome {
    match options.copy_from {
        Some(_) => Err(Failure::usage("this build of forebay lacks postgres, and with it the control table")),
        None => Ok(output::print(NOTHING)?),
    }
}
