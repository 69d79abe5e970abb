//! Directories that must be writable, addresses that must be free, certificates that must be valid.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use forebay_buffer::clock::Clock;
use rustix::fs::{Access, access};

use super::{finding, ok};
#[cfg(feature = "mqtt")]
use crate::tls::client::{Client, Verify};
use crate::{
    agent::socket::{check_length, paths},
    command::units,
    config::{Config, SinkKind, SourceKind},
    contract::{Finding, Severity},
    tls::{self, ServerSettings},
};

/// A certificate that expires sooner is worth a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 86_400);

/// Looks at what the config names. It makes nothing: what `check` made as root, the agent could not write to.
pub(super) fn check(config: &Config, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let mut findings = vec![directory("data directory", &config.agent.data_dir), socket(config)];
    for (name, sink) in &config.sinks {
        if let SinkKind::File(settings) = &sink.kind {
            findings.push(directory(&format!("sink {name}: directory"), &settings.path));
        }
    }
    for (name, source) in &config.sources {
        if let SourceKind::Http(settings) = &source.kind {
            findings.extend(settings.tls.iter().flat_map(|tls| certificates(name, tls, clock)));
        }
        #[cfg(feature = "mqtt")]
        if let SourceKind::Mqtt(settings) = &source.kind
            && settings.address.encrypted
            && let Err(error) = Client::new(&settings.tls, Verify::Full, Arc::clone(clock))
        {
            findings.push(finding(Severity::Error, format!("source {name}: TLS"), error, ""));
        }
    }
    findings
}

/// Whether a directory can be written to, or made.
fn directory(what: &str, path: &Path) -> Finding {
    let subject = format!("{what} {}", path.display());
    let remedy = "make it writable for the user that forebay runs as (chown), on a file system that is not read-only";
    if path.exists() && !path.is_dir() {
        return finding(Severity::Error, subject, "is no directory", "move the file away, or choose another path");
    }
    match access(path, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => ok(subject, "writable"),
        Err(rustix::io::Errno::NOENT) => {
            let parent = path.ancestors().skip(1).find(|parent| parent.exists()).unwrap_or(Path::new("/"));
            match access(parent, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) if parent.is_dir() => ok(subject, "will be made"),
                _ => finding(
                    Severity::Error,
                    subject,
                    format!("is not there, and {} does not let you make it", parent.display()),
                    "make it, and give it to the user that forebay runs as (chown)",
                ),
            }
        }
        Err(error) => finding(Severity::Error, subject, io::Error::from(error).to_string(), remedy),
    }
}

/// Whether commands will reach the agent.
fn socket(config: &Config) -> Finding {
    let [preferred, fallback] = paths(&config.agent.runtime_dir, &config.agent.data_dir);
    match (check_length(&preferred), check_length(&fallback)) {
        (Ok(()), _) => ok(format!("command socket {}", preferred.display()), "fits"),
        (_, Ok(())) => ok(format!("command socket {}", fallback.display()), "fits"),
        (Err(error), Err(_)) => finding(
            Severity::Error,
            format!("command socket {}", preferred.display()),
            error.to_string(),
            "set agent.runtime_dir to a shorter path",
        ),
    }
}

fn certificates(source: &str, tls: &ServerSettings, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let now = clock.now();
    let mut findings = Vec::new();
    for file in [Some(&tls.certificate_file), tls.client_ca_file.as_ref()].into_iter().flatten() {
        let subject = format!("source {source}: certificate {}", file.display());
        let renew = "put a new certificate there; the agent reads it without a restart";
        findings.push(match tls::validity(file) {
            Err(error) => finding(Severity::Error, subject, error, "put a certificate in PEM there"),
            Ok(validity) if !now.synchronised => ok(
                subject,
                format!("valid until {}, as far as a clock that is not set can tell", units::time(validity.not_after)),
            ),
            Ok(validity) if now.wall > validity.not_after => {
                let message = format!("expired at {}", units::time(validity.not_after));
                finding(Severity::Error, subject, message, renew)
            }
            Ok(validity) if now.wall < validity.not_before => {
                let message = format!("not valid before {}", units::time(validity.not_before));
                finding(Severity::Error, subject, message, "look at the clock, or put another certificate there")
            }
            Ok(validity) => {
                let left = Duration::from_micros((validity.not_after.0 - now.wall.0).unsigned_abs());
                let message = format!("expires in {}", units::duration(left));
                if left < EXPIRES_SOON {
                    finding(Severity::Warning, subject, message, renew)
                } else {
                    ok(subject, message)
                }
            }
        });
    }
    if let Err(error) = tls::Server::new(tls, Arc::clone(clock)) {
        findings.push(finding(Severity::Error, format!("source {source}: TLS"), error, ""));
    }
    findings
}

/// Whether the addresses to listen on are free. Only worth asking while no agent has them.
pub(super) fn listeners(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(address) = config.observe {
        findings.push(listener("observe.listen", address));
    }
    for (name, source) in &config.sources {
        if let SourceKind::Http(settings) = &source.kind {
            findings.push(listener(&format!("sources.{name}.listen"), settings.listen));
        }
    }
    findings
}

fn listener(what: &str, address: SocketAddr) -> Finding {
    let subject = format!("{what} {address}");
    match TcpListener::bind(address) {
        Ok(_) => ok(subject, "free"),
        Err(error) => finding(
            Severity::Error,
            subject,
            error.to_string(),
            "choose another address, or stop the program that has it (ss -ltnp); below port 1024 the agent needs \
             CAP_NET_BIND_SERVICE",
        ),
    }
}
