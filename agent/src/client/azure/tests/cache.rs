//! Tokens at hand.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::*;
use crate::client::azure::POSTGRES;

/// A server that counts the tokens of an hour that it gives, until it is told to fail.
fn counting(fails: Arc<AtomicBool>) -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |_| match fails.load(Ordering::Relaxed) {
        true => Answer::json(503, ""),
        false => granted(&format!("t{}", given.fetch_add(1, Ordering::Relaxed) + 1)),
    })
}

/// Lets time pass for everyone who waits by the runtime's clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn shown(credential: &Credential, scope: &str) -> String {
    credential.token(scope).await.unwrap().secret.expose().to_owned()
}

const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks at what is waited for.
const MOMENT: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_token_is_kept_for_its_scope_until_it_is_refused() {
    let server = counting(Arc::default());
    let credential = credential(application(&server));
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t1");
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t1");
    assert_eq!(shown(&credential, POSTGRES).await, "t2");
    let refused = credential.token(EVENT_HUBS).await.unwrap();
    assert_eq!(credential.fresh(EVENT_HUBS, &refused).await.unwrap().secret.expose(), "t3");
    assert_eq!(credential.fresh(EVENT_HUBS, &refused).await.unwrap().secret.expose(), "t3", "that one was not refused");
    assert_eq!(shown(&credential, POSTGRES).await, "t2");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_holds_on_while_that_fails() {
    let fails = Arc::new(AtomicBool::new(false));
    let server = counting(Arc::clone(&fails));
    let credential = credential(application(&server));
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t1");
    pass(29 * MINUTE).await;
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t1");
    pass(20 * MINUTE).await;
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t1", "nobody waits for the new one");
    while shown(&credential, EVENT_HUBS).await != "t2" {
        tokio::time::sleep(MOMENT).await;
    }

    fails.store(true, Ordering::Relaxed);
    let asked = server.requests().len();
    pass(49 * MINUTE).await;
    while server.requests().len() == asked {
        assert_eq!(shown(&credential, EVENT_HUBS).await, "t2");
        tokio::time::sleep(MOMENT).await;
    }
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t2");
    assert_eq!(server.requests().len(), asked + 1, "the server is left alone for a while");
    pass(MINUTE).await;
    while server.requests().len() == asked + 1 {
        assert_eq!(shown(&credential, EVENT_HUBS).await, "t2");
        tokio::time::sleep(MOMENT).await;
    }
    pass(11 * MINUTE).await;
    assert!(credential.token(EVENT_HUBS).await.unwrap_err().is_passing());
    fails.store(false, Ordering::Relaxed);
    assert_eq!(shown(&credential, EVENT_HUBS).await, "t3");
}

#[tokio::test]
async fn one_request_is_made_for_all_who_wait_and_outlives_them() {
    let (answer, answers) = mpsc::channel();
    let answers = Mutex::new(answers);
    let server = Server::start(move |_| answers.lock().unwrap().recv().unwrap());
    let credential = credential(application(&server));
    let ask = || {
        let credential = Arc::clone(&credential);
        tokio::spawn(async move { credential.token(EVENT_HUBS).await })
    };
    let impatient = ask();
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    let waiting: Vec<_> = (0..10).map(|_| ask()).collect();
    answer.send(granted("t1")).unwrap();
    for asked in waiting {
        assert_eq!(asked.await.unwrap().unwrap().secret.expose(), "t1");
    }
    assert_eq!(server.requests().len(), 1);
}
