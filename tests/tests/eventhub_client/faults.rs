//! What goes wrong is said, and never waited for without end.

use std::time::Duration;

use forebay::client::eventhub::{Class, Settings};
use forebay_tests::{
    harness::in_time,
    servers::{Direction, EventHubs, Proxy},
};
use serde_json::{Value, json};

use crate::rig::{HUB, SHORT, arm, at, batch, bodies, connect, hub, namespace, next, options, send, settings};

fn hasty(namespace: &EventHubs) -> Settings {
    Settings { timeout: SHORT, idle_timeout: SHORT, ..settings(namespace) }
}

/// Each way in which a batch can go wrong, with what comes of it: the class, and whether the batch is stored.
#[tokio::test]
async fn a_send_that_goes_wrong_ends_and_the_next_one_goes_well() {
    let namespace = namespace();
    let hub = hub(hasty(&namespace));
    let cases: &[(&str, &str, Value, Class, bool)] = &[
        ("store", "drop", json!({}), Class::Lost, false),
        ("store", "drop", json!({ "how": "finish" }), Class::Lost, false),
        ("store", "close", json!({}), Class::Lost, false),
        ("store", "end", json!({}), Class::Lost, false),
        ("store", "detach", json!({}), Class::Detached, false),
        ("store", "swallow", json!({}), Class::Detached, false),
        ("store", "refuse", json!({ "wait_seconds": 7 }), Class::Busy(Duration::from_secs(7)), false),
        ("store", "refuse", json!({ "condition": "com.microsoft:argument-out-of-range" }), Class::Rejected, false),
        ("store", "refuse", json!({ "condition": "com.microsoft:argument-error" }), Class::Rejected, false),
        ("store", "refuse", json!({ "condition": "amqp:decode-error" }), Class::Rejected, false),
        ("store", "refuse", json!({ "condition": "amqp:not-allowed" }), Class::Refused, false),
        ("store", "refuse", json!({ "condition": "com.microsoft:entity-disabled" }), Class::Refused, false),
        ("store", "detach", json!({ "condition": "amqp:link:message-size-exceeded" }), Class::TooLarge, false),
        ("store", "refuse", json!({ "condition": "com.microsoft:timeout" }), Class::Detached, false),
        ("store", "refuse", json!({ "condition": "amqp:resource-limit-exceeded" }), Class::Quota, false),
        ("store", "detach", json!({ "condition": "amqp:unauthorized-access" }), Class::Unauthorized, false),
        ("store", "detach", json!({ "condition": "com.microsoft:entity-disabled" }), Class::Refused, false),
        ("acknowledge", "drop", json!({}), Class::Lost, true),
        ("acknowledge", "cut", json!({}), Class::Lost, true),
        ("acknowledge", "close", json!({}), Class::Lost, true),
        ("acknowledge", "end", json!({}), Class::Lost, true),
        ("acknowledge", "detach", json!({}), Class::Detached, true),
        ("acknowledge", "swallow", json!({}), Class::Detached, true),
    ];
    for (phase, action, more, class, stored) in cases {
        let case = format!("{phase} {action} {more}");
        let before = namespace.stored(HUB, "0").len();
        let connection = hub.connection().await.expect(&case);
        let sender = connection.sender(Some("0")).await.expect(&case);
        let fault = arm(&namespace, phase, action, more.clone());
        let error = sender.send(&batch(&["x"])).await.expect_err(&case);
        assert_eq!(error.class, *class, "{case}: {error}");
        assert_eq!(namespace.happened(fault), 1, "{case}");
        let is_stored = namespace.stored(HUB, "0").len() > before;
        assert_eq!(is_stored, *stored, "{case}");
        let connection = hub.connection().await.expect(&case);
        send(&connection.sender(Some("0")).await.expect(&case), &["y"]).await;
    }
}

#[tokio::test]
async fn an_internal_error_ends_the_connection_for_a_new_one_is_worth_trying() {
    let namespace = namespace();
    let hub = hub(hasty(&namespace));
    let internal = || json!({ "condition": "amqp:internal-error" });
    for action in ["refuse", "detach", "end"] {
        let connection = hub.connection().await.expect(action);
        let sender = connection.sender(Some("0")).await.expect(action);
        arm(&namespace, "store", action, internal());
        assert_eq!(sender.send(&batch(&["x"])).await.expect_err(action).class, Class::Lost, "{action}");
        assert!(!connection.is_alive(), "{action}");
    }
    for phase in ["attach", "management"] {
        let connection = hub.connection().await.expect(phase);
        arm(&namespace, phase, "refuse", internal());
        let error = match phase {
            "attach" => connection.sender(Some("0")).await.map(drop),
            _ => connection.properties().await.map(drop),
        };
        assert_eq!(error.expect_err(phase).class, Class::Lost, "{phase}");
        assert!(!connection.is_alive(), "{phase}");
    }
}

#[tokio::test]
async fn a_detach_that_is_no_close_is_noticed_while_an_acknowledgement_is_waited_for() {
    let namespace = namespace();
    // An answer may take a minute.
    let connection = connect(settings(&namespace)).await.expect("a connection");
    for phase in ["store", "acknowledge"] {
        let sender = connection.sender(Some("0")).await.expect(phase);
        arm(&namespace, phase, "detach", json!({ "closed": false }));
        let sent = tokio::time::timeout(Duration::from_secs(20), sender.send(&batch(&["x"]))).await.expect(phase);
        let error = sent.expect_err(phase);
        assert_eq!(error.class, Class::Detached, "{phase}: {error}");
        assert!(error.message.contains("detach-forced"), "{phase}: {error}");
        assert!(!sender.is_alive() && connection.is_alive(), "{phase}");
    }
}

#[tokio::test]
async fn all_that_is_under_way_fails_at_once_when_the_connection_dies() {
    let namespace = namespace();
    namespace.set(&json!({ "acknowledge_delay_ms": 3_600_000 }));
    let connection = connect(settings(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let batches: Vec<_> = (0..20).map(|number: i32| batch(&[&number.to_string()])).collect();
    let all = async {
        let mut sends: Vec<_> = batches.iter().map(|batch| Box::pin(sender.send(batch))).collect();
        // All of them are begun before any is awaited.
        for send in &mut sends {
            assert!(futures_poll(send).await.is_none());
        }
        while namespace.stored(HUB, "0").len() < batches.len() {
            for send in &mut sends {
                assert!(futures_poll(send).await.is_none());
            }
        }
        namespace.ask("POST", "/disconnect", &json!({ "how": "reset" }));
        for send in sends {
            assert_eq!(send.await.expect_err("no acknowledgement").class, Class::Lost);
        }
    };
    in_time("all sends to fail", all).await;
    assert_eq!(connection.ended().await.class, Class::Lost);
}

/// Polls once, and lets others go on.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = tokio::task::yield_now() => None,
    }
}

#[tokio::test]
async fn a_receiver_ends_with_its_link_its_session_and_its_connection() {
    let namespace = namespace();
    let hub = hub(hasty(&namespace));
    send(&hub.connection().await.expect("a connection").sender(Some("0")).await.expect("a sender"), &["a"]).await;
    for (action, more, class) in [
        ("drop", json!({}), Class::Lost),
        ("cut", json!({}), Class::Lost),
        ("close", json!({}), Class::Lost),
        ("end", json!({}), Class::Lost),
        ("detach", json!({}), Class::Detached),
        ("detach", json!({ "condition": "amqp:link:stolen" }), Class::Stolen),
        ("silence", json!({}), Class::Lost),
    ] {
        let connection = hub.connection().await.expect(action);
        arm(&namespace, "deliver", action, more);
        let mut receiver = connection.receiver(&options("0")).await.expect(action);
        let error = receiver.receive().await.expect_err(action);
        assert_eq!(error.class, class, "{action}: {error}");
        namespace.network("up");
        let connection = hub.connection().await.expect(action);
        let mut receiver = connection.receiver(&options("0")).await.expect(action);
        assert_eq!(next(&mut receiver).await, "a");
    }
}

#[tokio::test]
async fn connecting_and_attaching_end_whatever_the_service_does() {
    let namespace = namespace();
    let hub = hub(hasty(&namespace));
    for (phase, action) in [
        ("connect", "drop"),
        ("connect", "silence"),
        ("token", "drop"),
        ("token", "cut"),
        ("token", "silence"),
        ("token", "swallow"),
        ("token", "close"),
        ("token", "refuse"),
    ] {
        arm(&namespace, phase, action, json!({}));
        let error = hub.connection().await.err().unwrap_or_else(|| panic!("{phase} {action} does nothing"));
        let expected = if action == "refuse" { Class::Busy(Duration::from_secs(4)) } else { Class::Lost };
        assert_eq!(error.class, expected, "{phase} {action}: {error}");
        namespace.network("up");
    }
    for (action, class) in [
        ("drop", Class::Lost),
        ("silence", Class::Lost),
        ("close", Class::Lost),
        ("end", Class::Lost),
        ("refuse", Class::Busy(Duration::from_secs(4))),
    ] {
        let connection = hub.connection().await.expect(action);
        arm(&namespace, "attach", action, json!({}));
        let error = connection.sender(Some("0")).await.err().unwrap_or_else(|| panic!("attach {action} does nothing"));
        assert_eq!(error.class, class, "attach {action}: {error}");
        namespace.network("up");
    }
    for (action, class) in [
        ("drop", Class::Lost),
        ("cut", Class::Lost),
        ("close", Class::Lost),
        ("swallow", Class::Detached),
        ("refuse", Class::Busy(Duration::from_secs(4))),
    ] {
        let connection = hub.connection().await.expect(action);
        arm(&namespace, "management", action, json!({}));
        let error = connection.properties().await.expect_err(action);
        assert_eq!(error.class, class, "management {action}: {error}");
        namespace.network("up");
    }
    hub.connection().await.expect("all is well").properties().await.expect("all is well");
}

#[tokio::test]
async fn a_silent_network_ends_the_connection() {
    let namespace = namespace();
    let connection = connect(hasty(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    namespace.network("silent");
    let large = "x".repeat(1_000_000);
    // More than the sockets between take.
    let batches: Vec<_> = (0..20).map(|_| batch(&[&large])).collect();
    let mut sends: Vec<_> = batches.iter().map(|batch| Box::pin(sender.send(batch))).collect();
    for send in &mut sends {
        assert!(futures_poll(send).await.is_none());
    }
    for send in sends {
        let class = send.await.expect_err("nobody answers").class;
        assert!(matches!(class, Class::Lost | Class::Detached));
    }
    assert_eq!(connection.ended().await.class, Class::Lost);
}

#[tokio::test]
async fn what_is_asked_behind_data_on_a_slow_line_is_answered_late_and_not_never() {
    let namespace = namespace();
    let line = Proxy::new(namespace.ports().amqp);
    let connection = connect(at(hasty(&namespace), line.port(), false)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    // Sixteen pieces are longer on their way than an answer may take by itself.
    line.delay(Direction::ToServer, Duration::from_millis(300));
    let large = batch(&[&"x".repeat(1_000_000)]);
    let mut sent = Box::pin(sender.send(&large));
    for _ in 0..1_000 {
        assert!(futures_poll(&mut sent).await.is_none());
    }
    let (sent, second, third, properties) =
        tokio::join!(sent, connection.sender(Some("1")), connection.sender(Some("1")), connection.properties(),);
    sent.expect("an acknowledgement");
    second.and(third).map(drop).expect("two links");
    properties.expect("an answer");
    assert!(connection.is_alive());
}

#[tokio::test]
async fn a_link_that_was_idle_for_too_long_is_attached_again() {
    let namespace = namespace();
    namespace.set(&json!({ "idle_link_ms": 300 }));
    let connection = connect(settings(&namespace)).await.expect("a connection");
    connection.properties().await.expect("properties");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    send(&sender, &["a"]).await;
    let fails = async {
        loop {
            match sender.send(&batch(&["b"])).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(400)).await,
                Err(error) => return error,
            }
        }
    };
    let error = in_time("the service to detach the idle link", fails).await;
    assert_eq!(error.class, Class::Detached, "{error}");
    assert!(error.message.contains("idle"), "{error}");
    assert!(!sender.is_alive() && connection.is_alive());
    send(&connection.sender(Some("0")).await.expect("a sender"), &["c"]).await;
    connection.properties().await.expect("the links to $management too");
    assert!(bodies(&namespace.stored(HUB, "0")).ends_with(&["c".to_owned()]));
}

#[tokio::test]
async fn tokens_that_expire_end_the_connection_and_the_next_one_has_another() {
    let namespace = namespace();
    let hub = hub(settings(&namespace));
    let connection = hub.connection().await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let mut receiver = connection.receiver(&options("0")).await.expect("a receiver");
    namespace.ask("POST", "/expire-tokens", &json!({}));
    assert_eq!(receiver.receive().await.expect_err("no token").class, Class::Unauthorized);
    assert_eq!(connection.ended().await.class, Class::Unauthorized);
    assert!(sender.send(&batch(&["a"])).await.is_err());
    let connection = hub.connection().await.expect("a connection");
    send(&connection.sender(Some("0")).await.expect("a sender"), &["b"]).await;
}

#[tokio::test]
async fn an_error_of_a_receiver_is_said_each_time() {
    let namespace = namespace();
    let connection = connect(settings(&namespace)).await.expect("a connection");
    send(&connection.sender(Some("0")).await.expect("a sender"), &["a", "b", "c"]).await;
    arm(&namespace, "deliver", "detach", json!({ "condition": "amqp:link:stolen", "skip": 1 }));
    let mut receiver = connection.receiver(&options("0")).await.expect("a receiver");
    // With events of unknown size there is credit for one.
    assert_eq!(next(&mut receiver).await, "a");
    receiver.accept(1).await.expect("credit");
    let error = receiver.receive().await.expect_err("it is stolen");
    assert_eq!(error.class, Class::Stolen);
    assert_eq!(receiver.receive().await, Err(error.clone()));
    assert_eq!(receiver.try_receive(), Some(Err(error.clone())));
    assert_eq!(receiver.accept(1).await, Err(error));
}

#[tokio::test]
async fn what_was_waited_for_in_vain_is_said() {
    let namespace = namespace();
    let connection = connect(hasty(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    arm(&namespace, "store", "swallow", json!({}));
    let error = sender.send(&batch(&["a"])).await.expect_err("no acknowledgement");
    assert!(error.message.contains("waiting for the acknowledgement: no answer within 2 s"), "{error}");
    namespace.set(&json!({ "sender_credit": 0 }));
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let error = sender.send(&batch(&["a"])).await.expect_err("no credit");
    assert!(error.message.contains("waiting for credit: no answer within 2 s"), "{error}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_is_heard_of() {
    let namespace = namespace();
    namespace.set(&json!({ "idle_time_out_ms": 3_000 }));
    let connection = connect(hasty(&namespace)).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let quiet = tokio::time::timeout(Duration::from_secs(9), connection.ended()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    send(&sender, &["a"]).await;
}

#[tokio::test]
async fn tokens_are_renewed_on_the_same_connection() {
    let namespace = namespace();
    let settings = Settings { token_life: Duration::from_secs(3), ..settings(&namespace) };
    let connection = connect(settings).await.expect("a connection");
    let sender = connection.sender(Some("0")).await.expect("a sender");
    let tokens = || {
        let all = namespace.ask("GET", "/connections", &json!(null));
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
        all[0]["tokens"].as_array().map_or(0, Vec::len)
    };
    let renewed = async {
        while tokens() < 4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    in_time("three renewals", renewed).await;
    // The first one ended long ago.
    send(&sender, &["a"]).await;
    assert!(connection.is_alive());
}

#[tokio::test]
async fn a_token_that_is_refused_while_the_last_one_holds_is_shown_again_on_the_same_connection() {
    let namespace = namespace();
    let settings = Settings { token_life: Duration::from_secs(4), ..settings(&namespace) };
    let connection = connect(settings).await.expect("a connection");
    let fault = arm(&namespace, "token", "refuse", json!({ "condition": "com.microsoft:auth-failed" }));
    let accepted = || {
        let all = namespace.ask("GET", "/connections", &json!(null));
        let tokens = all[0]["tokens"].as_array().cloned().unwrap_or_default();
        tokens.iter().filter(|token| token["accepted"] == true).count()
    };
    while accepted() < 2 {
        assert!(connection.is_alive());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(namespace.happened(fault), 1);
    send(&connection.sender(Some("0")).await.expect("a sender"), &["a"]).await;
}
