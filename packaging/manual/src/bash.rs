//! Completion for bash 4.4 and later. It needs no other package.

use std::collections::BTreeSet;

use crate::commands::{Command, Value, names, way};

const HEAD: &str = r#"# Completion of forebay for bash.

_forebay() {
    local cur=${COMP_WORDS[COMP_CWORD]} at='' value='' commands='' options='' word i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # bash breaks --config=PATH into three words.
        [[ $word != '=' ]] || continue
        if [[ -n $value ]]; then
            value=''
            continue
        fi
        case "$at:$word" in
"#;

const VALUES: &str = r#"            *:[\<\>]*) value=file ;;
            *:--) return ;;
        esac
    done
    [[ $cur != '=' ]] || cur=''
    case $value in
        file)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        directory)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        other) return ;;
    esac
    case $at in
"#;

const TAIL: &str = r#"    esac
    [[ $cur != -* && -n $commands ]] || commands=$options
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
}

complete -F _forebay forebay
"#;

/// The script.
pub(crate) fn completion(commands: &[Command]) -> String {
    let mut out = HEAD.to_owned();
    let way = way(commands);
    for (value, options) in way.values {
        let value = match value {
            Value::File => "file",
            Value::Directory => "directory",
            Value::Other | Value::None => "other",
        };
        out += &format!("            {}) value={value} ;;\n", any(&options));
    }
    for (step, command) in way.steps {
        out += &format!("            '{step}') at='{command}' ;;\n");
    }
    out.push_str(VALUES);
    for command in commands {
        let inner: Vec<_> = command.inner().into_iter().map(|(name, _)| name).collect();
        let options: Vec<_> = command.options(commands).flat_map(names).collect();
        let (path, inner, options) = (&command.path, inner.join(" "), options.join(" "));
        out += &format!("        '{path}') commands='{inner}' options='{options}' ;;\n");
    }
    out + TAIL
}

/// A pattern for each option, whatever the command.
fn any(options: &BTreeSet<String>) -> String {
    options.iter().map(|option| format!("*:{option}")).collect::<Vec<_>>().join(" | ")
}
