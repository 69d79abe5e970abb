//! A new buffer begins where another one wrote: after the old one was lost, or on a second gateway that goes by the same id.

use std::{fs, sync::Mutex};

use forebay_tests::{
    harness::{Agent, Gateway, Ledger, Outcome, wait_until},
    servers::{ChannelState, Snowflake},
};
use serde_json::json;

use crate::{
    committed::{Committed, Numbers, id},
    site::{self, SINK, Site, account, http, post},
    watcher::Watcher,
};

/// A gateway of the agent `gw-1`, which takes events over HTTP.
fn gateway(account: &Snowflake) -> Gateway {
    site::gateway(account, "gw-1", &[("line".to_owned(), http("{http}"))])
}

/// The only channel there is.
fn channel(account: &Snowflake) -> ChannelState {
    let [channel] = &account.channels()[..] else { panic!("{:?}", account.channels()) };
    channel.clone()
}

#[track_caller]
fn judge(ledger: &Ledger, committed: Mutex<Committed>) {
    let committed = committed.into_inner().expect("no holder of this lock panics");
    assert_eq!(ledger.judge(&committed.records, id), Vec::<String>::new());
}

/// What the lost buffer had appended is committed first: at once, or while the new one waits for it.
#[test]
fn after_a_buffer_was_lost_all_of_the_new_one_is_committed_once() {
    for commits_late in [false, true] {
        let (account, ledger) = (account(), Ledger::default());
        let gateway = gateway(&account);
        let committed = Mutex::new(Committed::new(Numbers::OfBuffer));
        let mut watcher = Watcher::new(&account, &[&gateway], &committed);
        let mut site = Site::new(&gateway);
        let mut come = |ids: Vec<String>| {
            watcher.await_events(&ids);
            ledger.enter(ids, Outcome::Acknowledged);
        };
        site.start();
        come(post(gateway.http_port, "old", 100));
        account.set(&json!({ "hold_commits": true }));
        // They go down with the buffer, but for those that are appended.
        post(gateway.http_port, "lost", 100).into_iter().for_each(|id| ledger.enter(vec![id], Outcome::Unknown));
        wait_until("something is appended", || channel(&account).pending > 0);
        site.kill_9();
        if commits_late {
            account.set(&json!({ "hold_commits": false }));
            wait_until("it is committed", || channel(&account).pending == 0);
        }
        fs::remove_dir_all(gateway.path("data")).expect("it is there");
        let agent = site.start();
        let new = post(gateway.http_port, "new", 100);
        if !commits_late {
            wait_until("the new one waits", || condition(agent).contains("nowhere else"));
            account.set(&json!({ "hold_commits": false }));
        }
        come(new);
        site.kill_9();
        site.start();
        come(post(gateway.http_port, "newer", 100));
        site.terminate();
        assert_eq!(committed.lock().expect("no holder of this lock panics").handovers(), 1);
        judge(&ledger, committed);
    }
}

/// What the agent says of its lane.
fn condition(agent: &Agent) -> String {
    agent.status()["sinks"][0]["lanes"][0]["condition"].to_string()
}

/// Waits until the agent says that its lane stopped, and why.
fn stops(agent: &Agent) {
    let mut said = String::new();
    wait_until("the lane to stop", || {
        said = condition(agent);
        said.contains("stopped")
    });
    assert!(said.contains("same id"), "{said}");
}

#[test]
fn of_two_gateways_with_one_id_the_former_stops_and_nothing_is_there_twice() {
    let (account, ledger) = (account(), Ledger::default());
    let (former, latter) = (gateway(&account), gateway(&account));
    let committed = Mutex::new(Committed::new(Numbers::OfBuffer));
    let [mut first, mut second] = [Site::new(&former), Site::new(&latter)];
    let come = |gateway: &Gateway, gateways: &[&Gateway], lane: &str| {
        let ids = post(gateway.http_port, lane, 100);
        Watcher::new(&account, gateways, &committed).await_events(&ids);
        ledger.enter(ids, Outcome::Acknowledged);
    };
    first.start();
    come(&former, &[&former], "former");
    second.start();
    come(&latter, &[&former, &latter], "latter");
    // They stay where they are.
    ledger.enter(post(former.http_port, "late", 10), Outcome::Rejected);
    stops(first.start());
    come(&latter, &[&former, &latter], "later");
    first.terminate();
    stops(first.start());
    assert_eq!(first.start().pending(SINK), 10);
    come(&latter, &[&former, &latter], "last");
    [first, second].iter_mut().for_each(Site::terminate);
    judge(&ledger, committed);
}
