//! MQTT over TLS: with a client certificate, and with what may be wrong about one side or the other.

use forebay_tests::{
    harness::{Agent, Gateway, read_output, wait_until},
    servers::{Authority, Mosquitto},
};

/// A broker that wants a certificate and a password, and a gateway that takes its messages into a file.
struct Rig {
    gateway: Gateway,
    mosquitto: Mosquitto,
    brokers: Authority,
    clients: Authority,
}

impl Rig {
    fn new() -> Self {
        let (brokers, clients) = (Authority::new("of brokers"), Authority::new("of clients"));
        let mosquitto = Mosquitto::builder()
            .user("gw", "pa55word")
            .tls(brokers.issue("localhost"))
            .client_certificates(&clients)
            .start();
        Self { gateway: Gateway::new(), mosquitto, brokers, clients }
    }

    /// With `tls` as the settings of TLS, besides a certificate for the client if `shows_certificate`.
    fn configure(&self, tls: &str, shows_certificate: bool) {
        let shown = if shows_certificate {
            let directory = self.gateway.path("");
            let (certificate, key) = self.clients.issue("gw").write(&directory, "client");
            format!("certificate_file = \"{}\"\nkey_file = \"{}\"", certificate.display(), key.display())
        } else {
            String::new()
        };
        std::fs::write(self.gateway.path("password"), "pa55word\n").expect("a file can be written");
        self.gateway.configure(&format!(
            "[sources.line]\ntype = \"mqtt\"\nurl = \"{}\"\nversion = \"3.1.1\"\ntopics = [\"t\"]\nuser = \"gw\"\n\
             password_file = \"{{dir}}/password\"\nstatus_topic = \"t\"\n\n[sources.line.tls]\n{tls}\n{shown}\n\n\
             [sinks.out]\ntype = \"file\"\ninputs = [\"line\"]\npath = \"{{dir}}/out\"\n",
            self.mosquitto.url()
        ));
    }

    /// The agent's one line about why it waits, after several attempts.
    fn why_it_waits(&self) -> String {
        let agent = self.gateway.spawn();
        let attempts = |agent: &Agent| agent.log().iter().any(|line| line.contains("observe: running"));
        wait_until("the agent to be there", || attempts(&agent));
        wait_until("two attempts", || agent.source_errors() >= 2);
        let log = agent.log();
        let lines: Vec<&String> = log.iter().filter(|line| line.contains("source line")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(agent.terminate().success());
        lines[0].clone()
    }
}

/// The agent hears its own birth message, as MQTT 3.1.1 has it: so it can publish and subscribe.
#[test]
fn a_client_with_its_certificate_and_password_is_let_in() {
    let rig = Rig::new();
    rig.brokers.write(&rig.gateway.path("ca.pem"));
    rig.configure("ca_file = \"{dir}/ca.pem\"", true);
    let agent = rig.gateway.start();
    wait_until("a message to be delivered", || !read_output(&rig.gateway.path("out"), "out").records.is_empty());
    assert!(agent.terminate().success());
    assert!(rig.mosquitto.log().contains("u'gw'"), "{}", rig.mosquitto.log());
}

#[test]
fn a_broker_of_another_authority_is_refused_and_the_reason_says_what_to_do() {
    let rig = Rig::new();
    Authority::new("of others").write(&rig.gateway.path("ca.pem"));
    rig.configure("ca_file = \"{dir}/ca.pem\"", true);
    let why = rig.why_it_waits();
    assert!(why.contains("certificate is refused") && why.contains("ca_file"), "{why}");
    assert!(!rig.mosquitto.log().contains("New client connected"), "{}", rig.mosquitto.log());
}

#[test]
fn a_client_without_a_certificate_is_turned_away_by_a_broker_that_wants_one() {
    let rig = Rig::new();
    rig.brokers.write(&rig.gateway.path("ca.pem"));
    rig.configure("ca_file = \"{dir}/ca.pem\"", false);
    let why = rig.why_it_waits();
    assert!(why.contains("certificate_file"), "{why}");
    assert!(!rig.mosquitto.log().contains("New client connected"), "{}", rig.mosquitto.log());
}
