//! A Postgres of a test's own.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    account::Account,
    authority::{Authority, Certificate},
    daemon::Daemon,
    program::postgres_programs,
    template::{self, PASSWORD, SUPERUSER},
};
use crate::harness::free_port;

/// A server on a port of 127.0.0.1 with a fresh cluster, `wal_level=logical`, and fsync on. It survives being stopped:
/// data and port stay until it is dropped.
#[derive(Debug)]
pub struct Postgres {
    // Before the directory, so that it ends first.
    daemon: Mutex<Option<Daemon>>,
    directory: TempDir,
    programs: PathBuf,
    account: Account,
    port: u16,
}

/// What a server is to be like, before it starts.
#[derive(Debug, Default)]
pub struct PostgresBuilder {
    passwords: bool,
    tls: Option<Certificate>,
    client_authority: Option<String>,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// It asks every user for a password, by SCRAM. Without this it trusts everyone.
    pub fn passwords(mut self) -> Self {
        self.passwords = true;
        self
    }

    /// It speaks TLS with this certificate, and with nobody who does not.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// Besides, it wants a certificate that `authority` has signed for the user's name.
    pub fn client_certificates(mut self, authority: &Authority) -> Self {
        self.client_authority = Some(authority.pem().to_owned());
        self
    }

    /// A setting of `postgresql.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Postgres {
        let programs = postgres_programs();
        let account = Account::for_server(&["postgres"]);
        let directory =
            tempfile::Builder::new().prefix("forebay-postgres-").tempdir().expect("a directory can be made");
        let data = directory.path().join("data");
        template::copy_to(&data, &programs, account);
        let port = free_port();
        self.configure(&data, port);
        fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("permissions of our own can be set");
        account.give(directory.path());
        let postgres = Postgres { directory, programs, account, port, daemon: Mutex::new(None) };
        postgres.start_again();
        postgres
    }

    fn configure(&self, data: &Path, port: u16) {
        let mut config = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nwal_level = logical\n\
             max_connections = 50\n"
        );
        if let Some(certificate) = &self.tls {
            let (_, key) = certificate.write(data, "server");
            fs::set_permissions(key, Permissions::from_mode(0o600)).expect("permissions of our own can be set");
            config.push_str("ssl = on\n");
        }
        if let Some(authority) = &self.client_authority {
            fs::write(data.join("clients.crt"), authority).expect("a certificate can be written");
            config.push_str("ssl_ca_file = 'clients.crt'\n");
        }
        for (name, value) in &self.settings {
            config.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        fs::write(data.join("postgresql.auto.conf"), config).expect("the config can be written");

        let kind = if self.tls.is_some() { "hostssl" } else { "host" };
        let method = if self.passwords { "scram-sha-256" } else { "trust" };
        let certificate = if self.client_authority.is_some() { " clientcert=verify-full" } else { "" };
        let access = format!("{kind} all all 127.0.0.1/32 {method}{certificate}\n");
        fs::write(data.join("pg_hba.conf"), access).expect("the config can be written");
    }
}

impl Postgres {
    /// The superuser.
    pub const USER: &str = SUPERUSER;
    /// The superuser's password.
    pub const PASSWORD: &str = PASSWORD;

    /// Starts one that trusts everyone and speaks no TLS.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Says first what it is to be like.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of its database `postgres` for its superuser, without the password, which is [`Postgres::PASSWORD`].
    pub fn url(&self) -> String {
        self.url_for(SUPERUSER, "postgres")
    }

    /// The address of `database` for `user`, without a password.
    pub fn url_for(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements, and returns what they say: columns parted by `|`, one line for each row. Panics with the
    /// server's words if one fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("{error}\nin {sql}"))
    }

    /// As [`Postgres::psql`], for statements that may fail.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        let mut command = self.psql_command(&self.url());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("psql can be run");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // It stops reading at the first error, and then says why.
        let _ = stdin.write_all(sql.as_bytes());
        drop(stdin);
        let done = child.wait_with_output().expect("psql can be waited for");
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim_end_matches('\n').to_owned()),
            false => Err(String::from_utf8_lossy(&done.stderr).trim_end().to_owned()),
        }
    }

    /// `psql` to the address `url`, with the superuser's password, for a test that has arguments to add.
    pub fn psql_command(&self, url: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        command.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10").env("PGCLIENTENCODING", "UTF8");
        command.arg(url);
        command
    }

    /// Ends it without a checkpoint, as a crash would: it recovers when it starts again.
    pub fn stop_immediate(&self) {
        self.stop(Signal::QUIT);
    }

    /// Ends it in good order: running transactions are rolled back.
    pub fn stop_fast(&self) {
        self.stop(Signal::INT);
    }

    fn stop(&self, signal: Signal) {
        let daemon = self.daemon.lock().expect("no holder of this lock panics").take();
        daemon.expect("it is running").stop(signal);
    }

    /// Starts it again, on the same port and with the same data, and waits until it answers.
    pub fn start_again(&self) {
        let mut command = Command::new(self.programs.join("postgres"));
        command.arg("-D").arg(self.directory.path().join("data")).current_dir(self.directory.path());
        command.env("LC_ALL", "C");
        self.account.apply(&mut command);
        let mut held = self.daemon.lock().expect("no holder of this lock panics");
        assert!(held.is_none(), "it is running already");
        // SIGQUIT: its children go with it, which they would not at once if it were killed.
        let mut daemon = Daemon::spawn("postgres", &mut command, &self.log_path(), Signal::QUIT);
        daemon.wait_ready(|| self.answers());
        *held = Some(daemon);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Whether it takes connections, whoever may come in: one that turns a stranger away does.
    fn answers(&self) -> bool {
        let address = ["-h", "127.0.0.1", "-p", &self.port.to_string()].map(str::to_owned);
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.arg("-q").args(address).status().expect("pg_isready can be run").success()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_data_and_its_port_through_a_crash() {
        let postgres = Postgres::start();
        assert_eq!(postgres.psql("show wal_level; show fsync"), "logical\non");
        postgres.psql("create table t (a int, b text); insert into t values (1, 'x'), (2, null)");
        postgres.stop_immediate();
        assert!(postgres.try_psql("select 1").is_err_and(|error| error.contains("refused")));
        postgres.start_again();
        assert_eq!(postgres.psql("select * from t order by a"), "1|x\n2|");
        assert!(postgres.log().contains("was not properly shut down"));
        postgres.stop_fast();
        postgres.start_again();
        assert_eq!(postgres.try_psql("select 1 / 0").map_err(|error| error.contains("division by zero")), Err(true));
    }

    #[test]
    fn a_server_with_passwords_and_certificates_wants_both() {
        let authority = Authority::new("for Postgres");
        let postgres = Postgres::builder().passwords().tls(authority.issue("localhost")).start();
        assert_eq!(postgres.psql("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t");
        for (name, value) in [("PGPASSWORD", "wrong"), ("PGSSLMODE", "disable")] {
            let mut command = postgres.psql_command(&postgres.url());
            let done = command.args(["-c", "select 1"]).env(name, value).output().expect("psql can be run");
            assert!(!done.status.success(), "{name}={value}");
        }
    }
}
