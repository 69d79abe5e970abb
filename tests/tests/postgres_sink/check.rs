//! What `check --connect` says: every privilege that is missing, with the statement that mends it.

use forebay::{
    contract::{Finding, Severity, Sink},
    sink::postgres::Settings,
};
use forebay_tests::servers::Postgres;

use crate::rig::*;

fn as_gateway(postgres: &Postgres, change: impl FnOnce(Settings) -> Settings) -> Settings {
    let mut settings = change(settings(&format!("{}?sslmode=disable", postgres.url_for("gw", "postgres"))));
    settings.table = forebay::client::postgres::TableName::parse("plant.t").expect("a name");
    settings
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

#[tokio::test]
async fn what_is_found_to_be_missing_is_mended_by_what_is_said_until_all_is_well() {
    for key in [&[][..], &["k"]] {
        let postgres = Postgres::start();
        postgres.psql("CREATE ROLE gw LOGIN; REVOKE TEMPORARY ON DATABASE postgres FROM public");
        let settings = as_gateway(&postgres, |settings| with_columns(settings, &[("k", "key"), ("v", "body")], key));
        let sink = sink(settings.clone());
        let found = sink.check().await;
        assert!(errors(&found).iter().any(|finding| finding.remedy.contains("forebay setup")), "{found:#?}");
        set_up(&postgres, &settings);
        let mut rounds = 0;
        loop {
            let found = sink.check().await;
            let errors = errors(&found);
            if errors.is_empty() {
                assert!(found.iter().any(|finding| finding.message == "columns fit"), "{found:#?}");
                break;
            }
            for error in errors {
                assert!(error.remedy.starts_with("GRANT "), "{error:#?}");
                postgres.psql(&error.remedy);
            }
            rounds += 1;
            assert!(rounds < 5, "it does not come to an end: {found:#?}");
        }
        let mut stream = Stream::new(&sink, "0");
        stream.resume().await.expect("it answers");
        let keyed = forebay_buffer::Event { key: Some("a".into()), ..event("1") };
        assert_eq!(stream.deliver_all(vec![keyed]).await, Ok(vec![]));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_and_a_table_that_does_not_fit_are_findings() {
    let (postgres, sink) = server_with(|settings| settings);
    let found = sink.check().await;
    assert!(errors(&found).is_empty(), "{found:#?}");
    assert!(
        found.iter().any(|finding| finding.severity == Severity::Warning && finding.message.contains("encryption"))
    );
    postgres.psql("ALTER TABLE t ALTER time TYPE text; ALTER TABLE t DROP body");
    let found = sink.check().await;
    assert!(errors(&found).iter().any(|finding| finding.message.contains("no column \"body\"")), "{found:#?}");
    postgres.stop_immediate();
    let found = sink.check().await;
    assert_eq!((found.len(), errors(&found).len()), (1, 1), "{found:#?}");
}
