//! What `check --connect` finds of the account, the user, the pipe and the table. It looks only: channels are left to who has them
//! open.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::spawn_blocking;

use super::{Shape, Shared, setup::EVENT_COLUMNS};
use crate::{
    client::snowflake::{Error, Identifier, ResultSet, Statement},
    contract::{Finding, Severity},
};

/// How long one statement may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A channel that no partition has: asking for it shows that the pipe is there, and that we may.
const NOBODYS: &str = "FOREBAY_CHECK";
/// What DESC USER calls the fingerprints of a user's keys.
const KEYS: [&str; 2] = ["RSA_PUBLIC_KEY_FP", "RSA_PUBLIC_KEY_2_FP"];

/// Asks the ingest host for the pipe, and the account who we are, and for the user's key, the table's columns and its grants.
pub(super) async fn check(shared: &Shared) -> Vec<Finding> {
    let account = shared.snowflake.settings().account.name();
    let (user, role) = match execute(shared, "SELECT CURRENT_USER(), CURRENT_ROLE()".to_owned()).await {
        Ok(mut found) => {
            let mut row = found.rows.pop().unwrap_or_default().into_iter().map(Option::unwrap_or_default);
            (row.next().unwrap_or_default(), row.next().unwrap_or_default())
        }
        // Nothing else could be asked.
        Err(error) => {
            let message = format!("user, role, columns and grants cannot be seen: {error}");
            return vec![pipe(shared).await, warning(account, message, remedy(&error))];
        }
    };
    let login = match role.as_str() {
        "" => warning(account, format!("lets {user} in, with no role"), "set role, or the user's DEFAULT_ROLE"),
        _ => ok(account, format!("lets {user} in, with the role {role}")),
    };
    let mut findings = vec![login];
    findings.extend(key(shared, &user).await);
    findings.extend([pipe(shared).await, columns(shared).await, insert(shared, &role).await]);
    findings
}

/// What the ingest host says of the pipe.
async fn pipe(shared: &Shared) -> Finding {
    let subject = shared.pipe.to_string();
    let seen = match shared.pipe.info().await {
        Ok(()) => Ok("the ingest host lets us in, and the pipe is there"),
        Err(error @ Error::Missing(_)) => Err(error),
        Err(_) => {
            let statuses = shared.pipe.statuses(&[NOBODYS]).await;
            statuses.map(|_| "the ingest host lets us in, and answers for the channels of the pipe")
        }
    };
    match seen {
        Ok(seen) => ok(&subject, seen.to_owned()),
        Err(error) => finding(Severity::Error, &subject, error.to_string(), remedy(&error)),
    }
}

/// Whether the key in the file is one of the user's. `None`: no key is what lets us in.
async fn key(shared: &Shared, user: &str) -> Option<Finding> {
    let snowflake = Arc::clone(&shared.snowflake);
    let read = spawn_blocking(move || snowflake.public_key()).await.unwrap_or_else(|error| Err(error.to_string()));
    let ours = match read.transpose()? {
        Ok(key) => key.fingerprint,
        Err(problem) => return Some(finding(Severity::Error, user, problem, "mend the file")),
    };
    let remedy = "look with DESC USER as an administrator, and register the key that `forebay setup --print-sql` shows";
    let described = match execute(shared, format!("DESC USER \"{}\"", user.replace('"', "\"\""))).await {
        Ok(described) => described,
        Err(error) => return Some(warning(user, format!("its keys cannot be seen: {error}"), remedy)),
    };
    let properties = described.values_of("property").zip(described.values_of("value"));
    let theirs: Vec<_> = properties.filter(|(name, _)| KEYS.contains(name)).collect();
    Some(match theirs.iter().find(|(_, theirs)| *theirs == ours) {
        Some((name, _)) => ok(user, format!("{name} is {ours}, the agent's key")),
        None => {
            let theirs: String = theirs.iter().map(|(name, theirs)| format!("{name} {theirs}, ")).collect();
            warning(user, format!("DESC USER shows {theirs}and the agent's key is {ours}"), remedy)
        }
    })
}

async fn columns(shared: &Shared) -> Finding {
    let settings = &shared.settings;
    let name = settings.table.to_string();
    let described = match execute(shared, format!("DESC TABLE {name}")).await {
        Ok(described) => described,
        Err(error) => {
            let remedy = "let the role describe the table (GRANT SELECT or INSERT on it), or run `forebay setup`, which makes it";
            return warning(&name, format!("its columns cannot be seen: {error}"), remedy);
        }
    };
    match misfit(&settings.shape, &described) {
        Some((message, remedy)) => finding(Severity::Error, &name, message, remedy),
        None => ok(&name, "columns fit".to_owned()),
    }
}

/// Whether `role` may insert. It may have that of another role, which is not seen here.
async fn insert(shared: &Shared, role: &str) -> Finding {
    let name = shared.settings.table.to_string();
    let remedy = "see that the role has INSERT on the table, by itself or by a role that is granted to it";
    let grants = match execute(shared, format!("SHOW GRANTS ON TABLE {name}")).await {
        Ok(grants) => grants,
        Err(error) => return warning(&name, format!("its grants cannot be seen: {error}"), remedy),
    };
    let mut held = grants.values_of("privilege").zip(grants.values_of("grantee_name"));
    match held.find(|(right, of)| ["INSERT", "OWNERSHIP"].contains(right) && of.trim_matches('"') == role) {
        Some((right, _)) => ok(&name, format!("{role} has {right} on it")),
        None => warning(&name, format!("no grant that is seen gives {role} INSERT on it"), remedy),
    }
}

async fn execute(shared: &Shared, text: String) -> Result<ResultSet, Error> {
    let statement = Statement {
        text,
        bindings: Vec::new(),
        database: None,
        schema: None,
        warehouse: None,
        role: None,
        timeout: PATIENCE,
    };
    shared.snowflake.execute(statement).await
}

/// What keeps rows out of a table, and what to do about it.
fn misfit(shape: &Shape, described: &ResultSet) -> Option<(String, &'static str)> {
    let columns = Columns::read(described)?;
    let filled: Vec<&str> = match shape {
        Shape::Events => EVENT_COLUMNS.map(|(name, _)| name).to_vec(),
        Shape::Columns(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
        // Which ones the bodies fill is not known.
        Shape::Body => return None,
    };
    let missing: Vec<_> = filled.iter().copied().filter(|name| !columns.0.contains_key(&upper(name))).collect();
    if !missing.is_empty() {
        let message = format!("has no column {}: what goes there would be dropped", missing.join(", "));
        return Some((message, "add them with ALTER TABLE, or leave them out of columns"));
    }
    let is_filled = |name: &str| filled.iter().any(|filled| upper(filled) == name);
    let empty: Vec<_> = columns
        .0
        .iter()
        .filter(|(name, required)| **required && !is_filled(name))
        .map(|(name, _)| name.as_str())
        .collect();
    (!empty.is_empty()).then(|| {
        let message = format!("needs a value for {}, which nothing fills: no row would fit", empty.join(", "));
        (message, "fill them in columns, or drop their NOT NULL")
    })
}

/// The name of a column in upper case, without the quotes that it may stand in.
fn upper(name: &str) -> String {
    Identifier::new(name).map_or_else(|_| name.to_ascii_uppercase(), |name| name.as_str().to_ascii_uppercase())
}

/// The columns of a table in upper case, and whether each must be filled.
struct Columns(BTreeMap<String, bool>);

impl Columns {
    /// `None`: the answer has not the columns that the service's documentation names.
    fn read(described: &ResultSet) -> Option<Self> {
        let place = |wanted: &str| described.columns.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let (name, null, default) = (place("name")?, place("null?")?, place("default")?);
        let column = |row: &Vec<Option<String>>| {
            let required = row.get(null)?.as_deref() == Some("N") && row.get(default)?.is_none();
            Some((row.get(name)?.as_deref()?.to_ascii_uppercase(), required))
        };
        Some(Self(described.rows.iter().filter_map(column).collect()))
    }
}

fn remedy(error: &Error) -> &'static str {
    match error {
        Error::Retry { .. } | Error::Unknown(_) => "look at account and url, at the network, and at the firewall",
        Error::Unauthorized(_) => "look at user, role and the credential, and at what is registered at the user",
        Error::Missing(_) => {
            "run `forebay setup`, which makes the table and says what to GRANT; look at database, schema and pipe"
        }
        _ => "mend what the service says",
    }
}

fn ok(subject: &str, message: String) -> Finding {
    finding(Severity::Ok, subject, message, "")
}

fn warning(subject: &str, message: String, remedy: &str) -> Finding {
    finding(Severity::Warning, subject, message, remedy)
}

fn finding(severity: Severity, subject: &str, message: String, remedy: &str) -> Finding {
    Finding { severity, subject: subject.to_owned(), message, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::source::Source;

    #[test]
    fn a_column_in_quotes_is_found_by_its_bare_name() {
        let text = |text: &str| Some(text.to_owned());
        let described = ResultSet {
            columns: ["name", "null?", "default"].map(str::to_owned).into(),
            rows: vec![vec![text("My line"), text("N"), None], vec![text("BODY"), text("Y"), None]],
            stats: None,
        };
        let columns =
            |names: &[&str]| Shape::Columns(names.iter().map(|name| ((*name).to_owned(), Source::Body)).collect());
        assert_eq!(misfit(&columns(&["\"My line\"", "body"]), &described), None);
        assert_eq!(misfit(&columns(&["My line", "body"]), &described), None, "a pipe that goes by names has it bare");
        let missing = misfit(&columns(&["\"My line\"", "\"Other\""]), &described);
        assert!(missing.as_ref().is_some_and(|(message, _)| message.contains("\"Other\"")), "{missing:?}");
        let empty = misfit(&columns(&["body"]), &described);
        assert!(empty.as_ref().is_some_and(|(message, _)| message.contains("MY LINE")), "{empty:?}");
    }
}
