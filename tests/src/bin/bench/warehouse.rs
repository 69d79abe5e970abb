//! A Postgres with the tables that a sink needs, and a session that watches how far it has come.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use forebay::{
    client::postgres::{StatusTable, TableName},
    contract::KeptBy,
};
use forebay_tests::servers::Postgres;

/// The offset's counter, below its epoch.
const COUNTER: u64 = (1 << 40) - 1;

/// The server.
pub(crate) struct Warehouse {
    /// It, with the settings it comes with.
    pub postgres: Postgres,
}

impl Warehouse {
    /// One with a table `readings` that has these columns, and the table of checkpoints.
    pub(crate) fn with(columns: &str) -> Self {
        let postgres = Postgres::start();
        let checkpoints =
            StatusTable { name: TableName::parse("ingestion_status").expect("a name"), kept_by: KeptBy::Sink };
        postgres.psql(&format!("CREATE TABLE readings ({columns}); {};", checkpoints.create()));
        Self { postgres }
    }

    /// A sink `warehouse` that takes `line1` into `readings`, with more settings.
    pub(crate) fn sink(&self, settings: &str) -> String {
        format!(
            "[sinks.warehouse]\ntype = \"postgres\"\ninputs = [\"line1\"]\nurl = \"{}?sslmode=disable\"\ntable = \
             \"readings\"\n{settings}",
            self.postgres.url()
        )
    }

    /// Opens a session.
    pub(crate) fn watch(&self) -> Watch {
        let mut psql = self.postgres.psql_command(&self.postgres.url());
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql can be run");
        let questions = psql.stdin.take().expect("standard input is piped");
        let answers = BufReader::new(psql.stdout.take().expect("standard output is piped"));
        Watch { psql, questions: Some(questions), answers }
    }
}

/// A session of `psql` that stays, for a new one takes longer than what is asked of it.
pub(crate) struct Watch {
    psql: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watch {
    /// Events of one partition, of a buffer that has had one epoch with events, that the checkpoint has passed.
    pub(crate) fn delivered(&mut self) -> u64 {
        let questions = self.questions.as_mut().expect("only a drop takes it");
        let question = "SELECT coalesce(max(waterlevel), -1) FROM ingestion_status;\n";
        questions.write_all(question.as_bytes()).and_then(|()| questions.flush()).expect("psql reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("psql answers");
        let offset: i64 = line.trim().parse().expect("an offset");
        u64::try_from(offset).map_or(0, |offset| (offset & COUNTER) + 1)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.psql.wait();
    }
}
