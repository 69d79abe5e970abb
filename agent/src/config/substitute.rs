//! `${NAME}` in any text of the configuration stands for an environment variable.

use super::environment::{Environment, NoVariable};

/// A text with its variables put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    /// What it says now. It may hold secrets from the environment: errors show it as it was written instead.
    pub(super) text: String,
    /// Whether a variable was put in.
    pub(super) changed: bool,
}

/// Why a text cannot be completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CannotSubstitute {
    pub(super) problem: String,
    pub(super) help: String,
}

/// Replaces each `${NAME}` in `text`. `$${` is a literal `${`; any other `$` stands for itself.
pub(super) fn substitute(text: &str, environment: &Environment) -> Result<Substituted, CannotSubstitute> {
    let mut out = Substituted { text: String::with_capacity(text.len()), changed: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.text.push_str(&rest[..at - 1]);
            out.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let name = &rest[at + 2..];
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        if end == 0 || !name[end..].starts_with('}') {
            return Err(CannotSubstitute {
                problem: "has a \"${\" that no variable's name and \"}\" follow".to_owned(),
                help: "write ${NAME} for an environment variable, or $${ for the characters themselves".to_owned(),
            });
        }
        out.text.push_str(value(&name[..end], environment)?);
        out.changed = true;
        rest = &name[end + 1..];
    }
    out.text.push_str(rest);
    Ok(out)
}

fn value<'e>(name: &str, environment: &'e Environment) -> Result<&'e str, CannotSubstitute> {
    environment.variable(name).map_err(|error| match error {
        NoVariable::Undefined => CannotSubstitute {
            problem: format!("needs the environment variable {name}, which is not set"),
            help: match name {
                "CREDENTIALS_DIRECTORY" => {
                    "systemd sets it for a unit with LoadCredential= or SetCredential=: run `systemctl edit forebay`"
                        .to_owned()
                }
                _ => set_it(name, environment),
            },
        },
        NoVariable::NotText => CannotSubstitute {
            problem: format!("needs the environment variable {name}, which is not UTF-8 text"),
            help: format!("set {name} to UTF-8 text"),
        },
    })
}

fn set_it(name: &str, environment: &Environment) -> String {
    let near = super::key::nearest(name, environment.names());
    let near = near.map(|near| format!("did you mean {near}? Else ")).unwrap_or_default();
    format!("{near}set {name} where forebay is started (Environment= or EnvironmentFile= of the systemd unit)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(text: &str) -> Result<String, CannotSubstitute> {
        let environment = Environment::made_up([("TOKEN", "t$x"), ("EMPTY", "")]);
        substitute(text, &environment).map(|substituted| substituted.text)
    }

    #[test]
    fn variables_are_put_in_once_and_not_looked_into() {
        assert_eq!(with_token("a ${TOKEN}${TOKEN} b").as_deref(), Ok("a t$xt$x b"));
        assert_eq!(with_token("${EMPTY}").as_deref(), Ok(""));
    }

    #[test]
    fn a_dollar_alone_is_a_dollar_and_two_escape_a_brace() {
        assert_eq!(with_token("5$ $TOKEN $$").as_deref(), Ok("5$ $TOKEN $$"));
        assert_eq!(with_token("$${TOKEN}").as_deref(), Ok("${TOKEN}"));
    }

    #[test]
    fn an_undefined_variable_is_named_with_the_nearest_one() {
        let error = with_token("${TOKN}").unwrap_err();
        assert!(error.problem.contains("TOKN, which is not set"), "{error:?}");
        assert!(error.help.contains("did you mean TOKEN?"), "{error:?}");
    }

    #[test]
    fn a_brace_that_is_not_closed_is_an_error() {
        for text in ["${", "${TOKEN", "${}", "${a b}", "${TOKEN ${TOKEN}"] {
            assert!(with_token(text).is_err(), "{text}");
        }
    }
}
