//! One connection through the proxy.

use std::{io, sync::Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::{Cut, Direction, Shared, Tap, Verdict, Weather};

/// Bytes that are read, and delayed, at a time.
const CHUNK: usize = 64 << 10;

/// What tests do to a connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    cut: watch::Sender<Option<Cut>>,
    to_server: Mutex<Option<Allowance>>,
    to_client: Mutex<Option<Allowance>>,
}

/// What may still go one way, and what happens then.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    bytes: u64,
    how: Cut,
}

impl Connection {
    pub(super) fn new(number: u64) -> Self {
        Self { number, cut: watch::Sender::new(None), to_server: Mutex::default(), to_client: Mutex::default() }
    }

    pub(super) fn cut(&self, how: Cut) {
        self.cut.send_replace(Some(how));
    }

    pub(super) fn truncate(&self, direction: Direction, bytes: u64, how: Cut) {
        *self.allowance(direction).lock().expect("no holder of this lock panics") = Some(Allowance { bytes, how });
    }

    fn allowance(&self, direction: Direction) -> &Mutex<Option<Allowance>> {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    /// Takes `wanted` bytes off what may still go: how many of them may, and how to cut after them if not all.
    fn take(&self, direction: Direction, wanted: usize) -> (usize, Option<Cut>) {
        let mut allowance = self.allowance(direction).lock().expect("no holder of this lock panics");
        let Some(Allowance { bytes, how }) = &mut *allowance else { return (wanted, None) };
        let taken = wanted.min(usize::try_from(*bytes).unwrap_or(usize::MAX));
        *bytes -= taken as u64;
        (taken, (*bytes == 0).then_some(*how))
    }

    /// Forwards until both sides have closed, or something cuts it.
    pub(super) async fn run(&self, mut client: TcpStream, shared: &Shared) {
        let mut cut = self.cut.subscribe();
        let mut weather = shared.weather.subscribe();
        let mut ordered = async || match cut.wait_for(Option::is_some).await.map(|how| *how) {
            Ok(Some(how)) => how,
            _ => unreachable!("the connection holds the sender and waits for a cut"),
        };
        let connect = async {
            thaw(&mut weather).await;
            TcpStream::connect(("127.0.0.1", shared.target)).await
        };
        let mut server = tokio::select! {
            how = ordered() => return end(&client, how),
            server = connect => match server {
                Ok(server) => server,
                Err(_) => return end(&client, Cut::Reset),
            },
        };
        for stream in [&client, &server] {
            // Fails only on a connection that is gone, which shows when it is read.
            let _ = stream.set_nodelay(true);
        }
        let how = {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            let outward = self.pump(Direction::ToServer, from_client, to_server, shared);
            let inward = self.pump(Direction::ToClient, from_server, to_client, shared);
            tokio::select! {
                how = ordered() => how,
                done = async { tokio::try_join!(outward, inward) } => done.err().unwrap_or(Cut::Finish),
            }
        };
        end(&client, how);
        end(&server, how);
    }

    async fn pump(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        shared: &Shared,
    ) -> Result<(), Cut> {
        let mut weather = shared.weather.subscribe();
        let mut taps = shared.taps(direction, self.number);
        let mut chunk = vec![0; CHUNK];
        loop {
            thaw(&mut weather).await;
            let length = from.read(&mut chunk).await.map_err(reset)?;
            let delay = weather.borrow().delay(direction);
            if !delay.is_zero() {
                sleep(delay).await;
            }
            thaw(&mut weather).await;
            if length == 0 {
                return to.shutdown().await.map_err(reset);
            }
            match look(&mut taps, &chunk[..length]) {
                Verdict::Forward => self.forward(direction, &chunk[..length], &mut to).await?,
                Verdict::Cut { after, how } => {
                    self.forward(direction, &chunk[..after], &mut to).await?;
                    return Err(how);
                }
                Verdict::Hold { after } => {
                    self.forward(direction, &chunk[..after], &mut to).await?;
                    while from.read(&mut chunk).await.map_err(reset)? > 0 {}
                    return Err(Cut::Finish);
                }
            }
        }
    }

    async fn forward(&self, direction: Direction, bytes: &[u8], to: &mut WriteHalf<'_>) -> Result<(), Cut> {
        let (length, cut) = self.take(direction, bytes.len());
        to.write_all(&bytes[..length]).await.map_err(reset)?;
        cut.map_or(Ok(()), Err)
    }
}

async fn thaw(weather: &mut watch::Receiver<Weather>) {
    // Fails only if the proxy is gone, and then this connection goes with it.
    let _ = weather.wait_for(|weather| !weather.frozen).await;
}

fn look(taps: &mut [Box<dyn Tap>], bytes: &[u8]) -> Verdict {
    // All of them see all bytes.
    let verdicts: Vec<Verdict> = taps.iter_mut().map(|tap| tap.see(bytes)).collect();
    verdicts.into_iter().find(|verdict| *verdict != Verdict::Forward).unwrap_or(Verdict::Forward)
}

/// A side that went away harshly takes the other with it the same way.
fn reset(_: io::Error) -> Cut {
    Cut::Reset
}

fn end(stream: &TcpStream, how: Cut) {
    if how == Cut::Reset {
        // Fails only on a connection that is gone.
        let _ = stream.set_zero_linger();
    }
}
