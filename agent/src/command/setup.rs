//! `forebay setup`: makes the tables that the config needs in databases, or prints how; and carries rows over from the
//! control table that was used before.

#[cfg(feature = "postgres")]
mod copy;
#[cfg(feature = "postgres")]
mod create;
#[cfg(feature = "snowpipe")]
mod snowflake;
#[cfg(feature = "postgres")]
mod tables;

use super::{
    arguments,
    failure::{Failure, Outcome},
    output,
    run::in_runtime,
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
        return Ok(output::print(&sql(setting, &config))?);
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

/// What is said where there is nothing to do.
const NOTHING: &str = "nothing to set up: this config has neither a control table nor a sink in a database\n";

#[cfg_attr(not(feature = "snowpipe"), expect(unused_variables, reason = "only Snowflake's has a key to show"))]
#[cfg_attr(
    not(any(feature = "postgres", feature = "snowpipe")),
    expect(unused_mut, reason = "nothing in this build has tables")
)]
fn sql(setting: &Setting, config: &Config) -> String {
    let mut sql = String::new();
    #[cfg(feature = "postgres")]
    sql.push_str(&tables::sql(&tables::of(config)));
    #[cfg(feature = "snowpipe")]
    sql.push_str(&snowflake::sql(setting, config));
    if sql.is_empty() { format!("-- {NOTHING}") } else { sql }
}

#[cfg_attr(
    not(any(feature = "postgres", feature = "snowpipe")),
    expect(unused_variables, unused_mut, reason = "nothing in this build has tables")
)]
async fn create(setting: &Setting, config: &Config) -> Outcome {
    let mut is_needed = false;
    #[cfg(feature = "postgres")]
    for place in &tables::of(config) {
        create::create(setting, place).await?;
        is_needed = true;
    }
    #[cfg(feature = "snowpipe")]
    {
        is_needed |= snowflake::create(setting, config).await?;
    }
    if is_needed { Ok(()) } else { Ok(output::print(NOTHING)?) }
}

#[cfg(not(feature = "postgres"))]
fn make(setting: &Setting, config: &Config, options: &arguments::Setup) -> Outcome {
    match options.copy_from {
        Some(_) => Err(Failure::usage("this build of forebay lacks postgres, and with it --copy-from")),
        None => in_runtime(create(setting, config)),
    }
}
