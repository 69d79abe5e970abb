//! Completion for zsh 5 and later: a function for each command, which completes its options, or hands over to that of a
//! command within it.

use argh::FlagInfo;

use crate::commands::{Command, Value, names, value};

/// The file, to be put into a directory of `fpath`.
pub(crate) fn completion(commands: &[Command]) -> String {
    let mut out = String::from("#compdef forebay\n# Completion of forebay for zsh.\n");
    for command in commands {
        out += &format!("\n{}() {{\n", function(&command.path));
        out.push_str("    local curcontext=$curcontext state line ret=1\n    local -A opt_args\n");
        out.push_str("    _arguments -C -S \\\n");
        for spec in command.options(commands).flat_map(specs) {
            out += &format!("        {} \\\n", quoted(&spec));
        }
        if command.info.commands.is_empty() {
            arguments(&mut out, command);
        } else {
            inner(&mut out, command);
        }
        out.push_str("    return ret\n}\n");
    }
    out + "\n_forebay \"$@\"\n"
}

/// The words behind the options of a command that has none within it.
fn arguments(out: &mut String, command: &Command) {
    for positional in command.info.positionals {
        let which = if command.takes_many() { "*" } else { "" };
        *out += &format!("        {} \\\n", quoted(&format!("{which}:{}: ", positional.name)));
    }
    out.push_str("        && ret=0\n");
}

/// The commands within a command.
fn inner(out: &mut String, command: &Command) {
    out.push_str("        '*::command:->command' && ret=0\n    [[ $state == command ]] || return ret\n");
    out.push_str("    local -a commands=(\n");
    for (name, description) in command.inner() {
        *out += &format!("        {}\n", quoted(&format!("{name}:{description}")));
    }
    out.push_str("    )\n    if (( CURRENT == 1 )); then\n        _describe command commands && ret=0\n");
    out.push_str("    else\n        case $words[1] in\n");
    for (name, _) in command.inner() {
        let next = if name == "help" { command.path.clone() } else { format!("{} {name}", command.path) };
        *out += &format!("            {name}) {} && ret=0 ;;\n", function(&next));
    }
    out.push_str("        esac\n    fi\n");
}

/// The name of a command's function.
fn function(path: &str) -> String {
    format!("_forebay {}", path.trim()).trim_end().replace(' ', "_")
}

/// What `_arguments` is told of an option.
fn specs(flag: &FlagInfo<'static>) -> Vec<String> {
    let description = flag.description.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
    let (sign, action) = match value(flag) {
        Value::None => ("", ""),
        Value::File => ("=", ":path:_files"),
        Value::Directory => ("=", ":directory:_files -/"),
        Value::Other => ("=", ":value: "),
    };
    names(flag).map(|name| format!("{name}{sign}[{description}]{action}")).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
