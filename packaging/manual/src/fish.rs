//! Completion for fish 3 and later.

use crate::commands::{Command, Value, short, value, way};

const HEAD: &str = r#"# Completion of forebay for fish.

function __forebay_at --description 'Whether the command line is at this command of forebay'
    set -l at ''
    set -l value false
    for word in (commandline -opc)
        if $value
            set value false
            continue
        end
        switch "$at:$word"
"#;

const TAIL: &str = r#"        end
    end
    test "$at" = "$argv"
end

complete -c forebay -f
"#;

/// The script.
pub(crate) fn completion(commands: &[Command]) -> String {
    let mut out = HEAD.to_owned();
    let way = way(commands);
    let options: Vec<_> = way.values.values().flatten().map(|option| quoted(&format!("*:{option}"))).collect();
    out += &format!("            case {}\n                set value true\n", options.join(" "));
    for (step, command) in &way.steps {
        out += &format!("            case {}\n                set at {}\n", quoted(step), quoted(command));
    }
    out.push_str(TAIL);
    for command in commands {
        let here = format!("complete -c forebay -n {}", quoted(format!("__forebay_at {}", command.path).trim_end()));
        for (name, description) in command.inner() {
            out += &format!("{here} -a {name} -d {}\n", quoted(first_sentence(description)));
        }
        for flag in command.options(commands) {
            let short = short(flag).map(|short| format!(" -s {short}")).unwrap_or_default();
            let follows = match value(flag) {
                Value::None => "",
                Value::File => " -r -F",
                Value::Directory => " -x -a '(__fish_complete_directories)'",
                Value::Other => " -x",
            };
            let (name, description) = (flag.long.trim_start_matches('-'), quoted(flag.description));
            out += &format!("{here} -l {name}{short}{follows} -d {description}\n");
        }
    }
    out
}

/// What a list of commands has room for.
fn first_sentence(description: &str) -> &str {
    description.split_once(". ").map_or(description, |(first, _)| first)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
