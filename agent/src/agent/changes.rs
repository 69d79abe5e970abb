//! What a new config changes: only that is restarted.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{AgentSettings, Config, SinkConfig};

/// The difference between the config in use and a new one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Whether the buffer must be opened anew, and everything with it.
    pub(super) rebuild: bool,
    /// Whether the page for observers moves.
    pub(super) observe: bool,
    /// Whether streams get other limits. They need no restart for that.
    pub(super) limits: bool,
    /// Sources to stop, and to start again if the new config has them.
    pub(super) sources: Vec<String>,
    /// Sinks to stop, and to start again if the new config has them.
    pub(super) sinks: Vec<String>,
}

impl Changes {
    /// What lies between `old` and `new`.
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let renamed = |from: &Option<String>, names: &dyn Fn(&str) -> bool| from.as_deref().is_some_and(names);
        let stream_renamed = new.sources.values().any(|s| renamed(&s.renamed_from, &|n| old.sources.contains_key(n)));
        let sink_renamed = new.sinks.values().any(|s| renamed(&s.renamed_from, &|n| old.sinks.contains_key(n)));
        Self {
            rebuild: !same_agent(&old.agent, &new.agent) || old.buffer != new.buffer || stream_renamed || sink_renamed,
            observe: old.observe != new.observe,
            limits: !differing(&old.sources, &new.sources, |source| source.limits).is_empty(),
            sources: changed_sources(old, new),
            sinks: changed_sinks(old, new),
        }
    }

    /// What is restarted, in words.
    pub(super) fn list(&self) -> String {
        let sources = self.sources.iter().map(|name| format!("source {name}"));
        let sinks = self.sinks.iter().map(|name| format!("sink {name}"));
        let observers = self.observe.then(|| "the page for observers".to_owned());
        let list: Vec<String> = sources.chain(sinks).chain(observers).collect();
        if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The names of the sources that are not the same in both, or that are read from where the control table says and find
/// another there.
fn changed_sources(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = differing(&old.sources, &new.sources, |source| source.kind.clone());
    for name in new.hubs().into_keys() {
        let sinks = |config: &Config| (config.targets_of(&name), config.has_local_sink(&name));
        let finds_another = old.control != new.control || sinks(old) != sinks(new);
        if finds_another && !changed.contains(&name) {
            changed.push(name);
        }
    }
    changed
}

/// The names of the sinks that are not the same in both, or whose rows of the control table are kept elsewhere now.
fn changed_sinks(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = differing(&old.sinks, &new.sinks, SinkConfig::clone);
    if old.control != new.control {
        let concerned = |sink: &SinkConfig| old.control.concerns(&sink.kind) || new.control.concerns(&sink.kind);
        let moved = new.sinks.iter().filter(|(_, sink)| concerned(sink));
        let moved: Vec<_> = moved.map(|(name, _)| name.clone()).filter(|name| !changed.contains(name)).collect();
        changed.extend(moved);
    }
    // A hub's name is part of its checkpoints'.
    for name in differing(&old.hubs(), &new.hubs(), Clone::clone) {
        let takes = new.sinks.iter().filter(|(_, sink)| sink.inputs.contains(&name));
        let takes: Vec<_> = takes.map(|(name, _)| name.clone()).filter(|name| !changed.contains(name)).collect();
        changed.extend(takes);
    }
    changed
}

/// Whether the agent itself is the same. Its log begins with the process, and changes with the next one.
fn same_agent(old: &AgentSettings, new: &AgentSettings) -> bool {
    *old == AgentSettings { log: old.log.clone(), ..new.clone() }
}

/// The names of the entries that only one has, or of which `part` is not the same in both.
fn differing<T, P: PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    part: impl Fn(&T) -> P,
) -> Vec<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = |name: &&String| old.get(*name).map(&part) != new.get(*name).map(&part);
    names.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    const CONFIG: &str = "[agent]\ndata_dir = \"d\"\n[sources.a]\ntype = \"host\"\n[sources.b]\ntype = \"host\"\n\
                          [sinks.one]\ntype = \"stdout\"\ninputs = [\"a\", \"b\"]\n";

    fn changes(from: &str, to: &str) -> Changes {
        let config = |text: &str| {
            let loaded = Config::parse(text.as_bytes(), Path::new("/srv"), &Environment::made_up([]));
            loaded.expect("the test's config is right").config
        };
        Changes::between(&config(CONFIG), &config(&CONFIG.replace(from, to)))
    }

    #[test]
    fn what_is_the_same_goes_on() {
        assert!(changes("", "").is_empty());
        let changed = changes("[sources.b]\n", "[sources.b]\ninterval = \"7s\"\n");
        assert_eq!(changed, Changes { sources: vec!["b".to_owned()], ..Changes::default() });
    }

    #[test]
    fn a_sink_that_takes_less_is_restarted_with_the_source_that_goes() {
        let less = CONFIG.replace("[sources.b]\ntype = \"host\"\n", "").replace("\"a\", \"b\"", "\"a\"");
        let changed = changes(CONFIG, &less);
        assert_eq!((changed.sources, changed.sinks), (vec!["b".to_owned()], vec!["one".to_owned()]));
        assert!(changed.limits && !changed.rebuild, "the share of the other source grows without a restart");
    }

    #[cfg(feature = "eventhub")]
    #[test]
    fn a_hub_is_restarted_with_where_its_sinks_keep_their_place() {
        let hub = "[sources.b]\ntype = \"eventhub\"\nconnection_string = \"Endpoint=sb://ns.example/;\
                   SharedAccessKeyName=n;SharedAccessKey=a2V5;EntityPath=eh1\"\n";
        let of_hub = CONFIG.replace("[sources.b]\ntype = \"host\"\n", hub);
        let changed = changes(CONFIG, &of_hub);
        assert_eq!((changed.sources, changed.sinks), (vec!["b".to_owned()], vec!["one".to_owned()]));
        let config = |text: &str| {
            let loaded = Config::parse(text.as_bytes(), Path::new("/srv"), &Environment::made_up([]));
            loaded.expect("the test's config is right").config
        };
        let hub_sink = "[sinks.far]\ntype = \"eventhub\"\ninputs = [\"b\"]\nconnection_string = \"Endpoint=sb://far.example/;\
                        SharedAccessKeyName=n;SharedAccessKey=a2V5;EntityPath=eh1\"\n";
        let (other_name, more) = (of_hub.replace("sinks.one", "sinks.two"), format!("{of_hub}{hub_sink}"));
        let only_far = more.replace("\"a\", \"b\"", "\"a\"");
        let sources = |from: &str, to: &str| Changes::between(&config(from), &config(to)).sources;
        assert_eq!(sources(&of_hub, &other_name), [""; 0], "where a sink on this machine is, the table does not say");
        assert_eq!((sources(&of_hub, &more), sources(&more, &only_far)), (vec!["b".to_owned()], vec!["b".to_owned()]));
        let other_hub = of_hub.replace("eh1", "eh2");
        let changed = Changes::between(&config(&of_hub), &config(&other_hub));
        assert_eq!((changed.sources, changed.sinks), (vec!["b".to_owned()], vec!["one".to_owned()]));
    }

    #[test]
    fn another_buffer_and_another_name_need_another_opening() {
        assert!(changes("[agent]\n", "[buffer]\nmax_bytes = \"1GiB\"\n[agent]\n").rebuild);
        assert!(changes("data_dir = \"d\"", "data_dir = \"e\"").rebuild);
        let renamed =
            CONFIG.replace("[sources.b]\n", "[sources.c]\nrenamed_from = \"b\"\n").replace("\"b\"]", "\"c\"]");
        assert!(changes(CONFIG, &renamed).rebuild);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn sinks_are_restarted_when_their_rows_of_the_control_table_are_kept_elsewhere() {
        let control = |keys: &str| format!("[control]\nhost = \"h\"\nuser = \"u\"\ndatabase = \"d\"\n{keys}{CONFIG}");
        let restarted = Changes { sinks: vec!["one".to_owned()], ..Changes::default() };
        assert_eq!(changes(CONFIG, &control("")), restarted, "there is one now");
        let config = |text: &str| {
            let loaded = Config::parse(text.as_bytes(), Path::new("/srv"), &Environment::made_up([]));
            loaded.expect("the test's config is right").config
        };
        let between = |old: &str, new: &str| Changes::between(&config(&control(old)), &config(&control(new)));
        assert_eq!(between("", "interval = \"1m\"\n"), restarted);
        assert_eq!(between("", "table = \"other\"\n"), restarted);
        assert!(between("", "").is_empty());
        let none = Changes::between(&config(CONFIG), &config(&format!("[control]\ntable = \"other\"\n{CONFIG}")));
        assert!(none.is_empty(), "without a control table nothing depends on it");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_postgres_sink_is_restarted_when_its_own_rows_get_another_table_also_without_a_control_table() {
        let config = |keys: &str| {
            let sink = "[sinks.far]\ntype = \"postgres\"\ninputs = [\"a\"]\ntable = \"t\"\n\
                        url = \"postgresql://u@h/d?sslmode=disable\"\n";
            let text = format!("[control]\nbackend = \"none\"\n{keys}{CONFIG}{sink}");
            let loaded = Config::parse(text.as_bytes(), Path::new("/srv"), &Environment::made_up([]));
            loaded.expect("the test's config is right").config
        };
        for keys in ["table = \"other\"\n", "schema = \"other\"\n"] {
            let restarted = Changes { sinks: vec!["far".to_owned()], ..Changes::default() };
            assert_eq!(Changes::between(&config(""), &config(keys)), restarted, "{keys}");
        }
    }

    #[test]
    fn only_the_page_for_observers_moves_with_its_address() {
        let changed = changes("[agent]\n", "[observe]\nlisten = \"off\"\n[agent]\n");
        assert_eq!(changed, Changes { observe: true, ..Changes::default() });
    }
}
