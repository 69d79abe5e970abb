//! A PgBouncer of a test's own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Postgres, account::Account, daemon::Daemon, program::program};
use crate::harness::free_port;

/// A PgBouncer in transaction mode on a port of 127.0.0.1, before a [`Postgres`]. It trusts everyone. Two connections
/// to the server serve all clients, so that neighbouring transactions of one client meet different ones, and with them
/// whatever another client has left behind.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    // Before the directory, so that it ends first.
    _daemon: Daemon,
    _directory: TempDir,
}

/// Connections to the server.
const POOL_SIZE: u32 = 2;

impl PgBouncer {
    /// Starts one before `postgres`, and waits until it answers a query.
    pub fn start(postgres: &Postgres) -> Self {
        let account = Account::for_server(&["postgres"]);
        let directory =
            tempfile::Builder::new().prefix("forebay-pgbouncer-").tempdir().expect("a directory can be made");
        let (place, port) = (directory.path(), free_port());
        let (user, password) = (Postgres::USER, Postgres::PASSWORD);
        fs::write(place.join("users"), format!("\"{user}\" \"{password}\"\n")).expect("a file can be written");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\nadmin_users = {user}\n\
             pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nserver_round_robin = 1\nmax_client_conn = 100\n",
            postgres.port(),
            place.join("users").display(),
        );
        fs::write(place.join("pgbouncer.ini"), config).expect("the config can be written");
        account.give(place);
        let mut command = Command::new(program("pgbouncer", "pgbouncer"));
        command.arg(place.join("pgbouncer.ini")).current_dir(place);
        account.apply(&mut command);
        let mut daemon = Daemon::spawn("pgbouncer", &mut command, &place.join("log"), Signal::KILL);
        daemon.wait_ready(|| {
            let mut query = postgres.psql_command(&url(port));
            query.args(["-c", "select 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            query.status().expect("psql can be run").success()
        });
        fill_pool(postgres, port);
        Self { port, _daemon: daemon, _directory: directory }
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the database `postgres` for the superuser, through it.
    pub fn url(&self) -> String {
        url(self.port)
    }
}

/// Makes all connections to the server: by as many transactions at the same time.
fn fill_pool(postgres: &Postgres, port: u16) {
    let open = |_| {
        let mut psql = postgres.psql_command(&url(port));
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql can be run");
        let input = psql.stdin.as_mut().expect("standard input is piped");
        input.write_all(b"begin;\nselect 1;\n").expect("psql reads");
        let mut answer = String::new();
        let output = psql.stdout.as_mut().expect("standard output is piped");
        BufReader::new(output).read_line(&mut answer).expect("psql answers");
        psql
    };
    let open: Vec<Child> = (0..POOL_SIZE).map(open).collect();
    for mut psql in open {
        // A client that leaves within a transaction takes the connection with it.
        psql.stdin.take().expect("standard input is piped").write_all(b"commit;\n").expect("psql reads");
        assert!(psql.wait().expect("psql can be waited for").success());
    }
}

fn url(port: u16) -> String {
    format!("postgresql://{}@127.0.0.1:{port}/postgres", Postgres::USER)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn neighbouring_transactions_of_one_client_meet_different_connections_to_the_server() {
        let postgres = Postgres::start();
        let bouncer = PgBouncer::start(&postgres);
        let two = ["-c", "select pg_backend_pid()", "-c", "select pg_backend_pid()"];
        let done = postgres.psql_command(&bouncer.url()).args(two).output().expect("psql can be run");
        let said = String::from_utf8(done.stdout).expect("numbers are text");
        assert_eq!(said.lines().collect::<BTreeSet<_>>().len(), 2, "{said}");
    }
}
