//! A Mosquitto of a test's own.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    account::Account,
    authority::{Authority, Certificate},
    daemon::Daemon,
    program::program,
};
use crate::harness::free_port;

const PACKAGE: &str = "mosquitto";

/// A broker on a port of 127.0.0.1 that keeps every message for a session that is away, however many. It survives being
/// stopped: sessions and messages are saved, and the port stays.
#[derive(Debug)]
pub struct Mosquitto {
    // Before the directory, so that it ends first.
    daemon: Mutex<Option<Daemon>>,
    directory: TempDir,
    account: Account,
    port: u16,
    encrypted: bool,
}

/// What a broker is to be like, before it starts.
#[derive(Debug, Default)]
pub struct MosquittoBuilder {
    users: Vec<(String, String)>,
    tls: Option<Certificate>,
    client_authority: Option<String>,
    settings: Vec<String>,
}

impl MosquittoBuilder {
    /// It lets in this user, and others who are named so, and nobody else.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// It speaks TLS, with this certificate.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// Besides, it wants a certificate that `authority` has signed.
    pub fn client_certificates(mut self, authority: &Authority) -> Self {
        self.client_authority = Some(authority.pem().to_owned());
        self
    }

    /// Messages of QoS 1 and 2 that may be on their way to one client; Mosquitto's own default is 20, and 0 means no
    /// limit but the client's Receive Maximum.
    pub fn max_inflight_messages(self, count: u32) -> Self {
        self.setting("max_inflight_messages", &count.to_string())
    }

    /// A setting of `mosquitto.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name} {value}\n"));
        self
    }

    /// Starts it and waits until it takes connections.
    pub fn start(self) -> Mosquitto {
        let account = Account::for_server(&["mosquitto"]);
        let directory =
            tempfile::Builder::new().prefix("forebay-mosquitto-").tempdir().expect("a directory can be made");
        let port = free_port();
        self.configure(directory.path(), port);
        account.give(directory.path());
        let encrypted = self.tls.is_some();
        let mosquitto = Mosquitto { directory, account, port, encrypted, daemon: Mutex::new(None) };
        mosquitto.start_again();
        mosquitto
    }

    fn configure(&self, directory: &Path, port: u16) {
        let place = directory.display();
        // 0 takes the limits off the queue: mosquitto.conf(5), max_queued_messages and max_queued_bytes. An
        // autosave_interval of 0 saves only at the end; `persistence_location` is taken as a prefix, hence the slash.
        let mut config = format!(
            "listener {port} 127.0.0.1\n\
             persistence true\npersistence_location {place}/\nautosave_interval 0\n\
             max_queued_messages 0\nmax_queued_bytes 0\n\
             set_tcp_nodelay true\nsys_interval 1\n\
             log_dest stderr\nlog_timestamp_format %H:%M:%S\nallow_anonymous {}\n",
            self.users.is_empty()
        );
        if !self.users.is_empty() {
            let passwords = directory.join("passwords");
            fs::write(&passwords, "").expect("a file can be written");
            for (name, password) in &self.users {
                let mut command = Command::new(program("mosquitto_passwd", PACKAGE));
                let done = command.arg("-b").arg(&passwords).args([name, password]).output();
                assert!(done.expect("mosquitto_passwd can be run").status.success(), "no password for {name}");
            }
            config.push_str(&format!("password_file {}\n", passwords.display()));
        }
        if let Some(certificate) = &self.tls {
            let (certificate, key) = certificate.write(directory, "server");
            config.push_str(&format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display()));
        }
        if let Some(authority) = &self.client_authority {
            let file = directory.join("clients.crt");
            fs::write(&file, authority).expect("a certificate can be written");
            config.push_str(&format!("cafile {}\nrequire_certificate true\n", file.display()));
        }
        config.extend(self.settings.iter().map(String::as_str));
        fs::write(directory.join("mosquitto.conf"), config).expect("the config can be written");
    }
}

impl Mosquitto {
    /// Starts one that lets in everyone and speaks no TLS.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Says first what it is to be like.
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address; with TLS by the name that certificates bear.
    pub fn url(&self) -> String {
        match self.encrypted {
            true => format!("mqtts://localhost:{}", self.port),
            false => format!("mqtt://127.0.0.1:{}", self.port),
        }
    }

    /// Ends it in good order: it saves sessions and messages first.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Kills it: what was not saved is forgotten, though it was acknowledged.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    fn end(&self, signal: Signal) {
        let daemon = self.daemon.lock().expect("no holder of this lock panics").take();
        daemon.expect("it is running").stop(signal);
    }

    /// Starts it again, on the same port and with what it saved, and waits until it takes connections.
    pub fn start_again(&self) {
        let mut command = Command::new(program("mosquitto", PACKAGE));
        command.arg("-c").arg(self.directory.path().join("mosquitto.conf")).current_dir(self.directory.path());
        self.account.apply(&mut command);
        let mut held = self.daemon.lock().expect("no holder of this lock panics");
        assert!(held.is_none(), "it is running already");
        let mut daemon = Daemon::spawn("mosquitto", &mut command, &self.log_path(), Signal::KILL);
        daemon.wait_ready(|| TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        *held = Some(daemon);
    }

    /// What it has logged: among others, who connected and who left, and why.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Publisher, Quality, Subscriber};

    #[test]
    fn a_broker_keeps_what_an_absent_client_has_not_had_through_a_restart_however_much() {
        const MESSAGES: u32 = 5_000;
        let mosquitto = Mosquitto::start();
        drop(Subscriber::new("away", mosquitto.port(), "t"));
        let mut publisher = Publisher::new("sensor", mosquitto.port(), Quality::AtLeastOnce, 100);
        (0..MESSAGES).for_each(|number| publisher.publish("t", number.to_string()));
        publisher.finish();
        mosquitto.stop();
        mosquitto.start_again();
        let mut subscriber = Subscriber::new("away", mosquitto.port(), "t");
        for number in 0..MESSAGES {
            assert_eq!(subscriber.message().payload, number.to_string().as_bytes());
        }
        assert!(mosquitto.log().contains("terminating"), "{}", mosquitto.log());
        // Killed, it goes back to what it had saved when it was stopped. That is why tests of the agent do not kill it.
        publisher.publish("t", "forgotten");
        publisher.finish();
        drop(subscriber);
        mosquitto.kill();
        mosquitto.start_again();
        assert_eq!(Subscriber::new("away", mosquitto.port(), "t").message().payload, b"0");
    }
}
