//! Websockets of a run that is drained, second by second on a paused clock.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::lifecycle::gate::Endpoint;
use crate::names::WorkloadName;

const SECOND: Duration = Duration::from_secs(1);
/// A text of three bytes.
const HEY: &[u8] = b"\x81\x03hey";
/// A client's Close with the code 1001, masked with zeros.
const BYE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// A websocket between a client and an application that the test plays.
struct Tunnel {
    client: DuplexStream,
    application: DuplexStream,
    gate: Arc<Gate>,
    carried: JoinHandle<io::Result<(u64, u64)>>,
}

impl Tunnel {
    fn open() -> Self {
        let endpoint = Endpoint {
            workload: WorkloadName::new("a").unwrap(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: Some(80),
            serial: 1,
        };
        let gate = Gate::open(endpoint, Clock::new(), Arc::default());
        let (client, to_client) = duplex(1 << 10);
        let (application, to_application) = duplex(1 << 10);
        let drained = gate.clone();
        let carried =
            tokio::spawn(async move { carry_websocket(to_client, to_application, &drained).await });
        Self {
            client,
            application,
            gate,
            carried,
        }
    }

    async fn client_gets(&mut self, expected: &[u8]) {
        assert_eq!(read(&mut self.client, expected.len()).await, expected);
    }

    async fn application_gets(&mut self, expected: &[u8]) {
        assert_eq!(read(&mut self.application, expected.len()).await, expected);
    }

    async fn application_says(&mut self, bytes: &[u8]) {
        self.application.write_all(bytes).await.unwrap();
    }

    /// How the tunnel ended, and that it did so for both.
    async fn end(mut self) -> io::Result<(u64, u64)> {
        let carried = self.carried.await.unwrap();
        assert_eq!(self.client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(self.application.read(&mut [0]).await.unwrap(), 0);
        carried
    }

    /// The same for one that is cut off.
    async fn cut_off(self) {
        let error = self.end().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

async fn read(from: &mut DuplexStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    from.read_exact(&mut read).await.unwrap();
    read
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_to_go_and_both_sides_see_the_other_close() {
    let mut tunnel = Tunnel::open();
    tunnel.application_says(HEY).await;
    tunnel.client_gets(HEY).await;
    tunnel.gate.close_within(Duration::ZERO);
    tunnel.client_gets(&GOING_AWAY).await;
    // What the application says from then on goes nowhere, also when it is much.
    tunnel.application_says(&HEY.repeat(1000)).await;
    // The client still says what it had to, and answers.
    tunnel.client.write_all(b"\x81\x80\0\0\0\0").await.unwrap();
    tunnel.client.write_all(BYE).await.unwrap();
    tunnel.application_gets(b"\x81\x80\0\0\0\0").await;
    tunnel.application_gets(BYE).await;
    // The application answers the Close and ends the connection, which ends the client's.
    tunnel.application_says(&GOING_AWAY).await;
    tunnel.application.shutdown().await.unwrap();
    assert_eq!(tunnel.client.read(&mut [0]).await.unwrap(), 0);
    tunnel.client.shutdown().await.unwrap();
    let (up, down) = tunnel.end().await.unwrap();
    assert_eq!((up, down), (6 + BYE.len() as u64, HEY.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_before_the_run_is_drained_and_each_is_told_in_the_first_half_of_the_time()
{
    let mut moments = Vec::new();
    let (mut asked, mut tunnels) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let mut tunnel = Tunnel::open();
        asked.push(tunnel.gate.clone());
        tunnels.push(tokio::spawn(async move {
            tunnel.client_gets(&GOING_AWAY).await;
            Instant::now()
        }));
    }
    sleep(3600 * SECOND).await;
    assert!(tunnels.iter().all(|tunnel| !tunnel.is_finished()));
    let began = Instant::now();
    for gate in &asked {
        gate.close_within(8 * SECOND);
    }
    for tunnel in tunnels {
        moments.push(tunnel.await.unwrap() - began);
    }
    assert!(
        moments
            .iter()
            .all(|moment| *moment <= 4 * SECOND + SECOND / 100)
    );
    moments.sort();
    moments.dedup();
    assert!(moments.len() > 30, "all at once: {moments:?}");
    let spread = moments[moments.len() - 1] - moments[0];
    assert!(spread > SECOND, "all at once: {moments:?}");
}

#[test]
fn the_moment_lies_in_the_first_half_and_within_ten_seconds() {
    for (left, at, expected) in [
        (0, 1.0, 0),
        (8, 0.0, 0),
        (8, 0.5, 2),
        (8, 1.0, 4),
        (3600, 0.5, 5),
        (3600, 1.0, 10),
    ] {
        assert_eq!(moment(left * SECOND, at), expected * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_frame_the_client_is_told_at_its_end_and_not_before() {
    let mut tunnel = Tunnel::open();
    // A fragment; another one follows, and a Close may stand between them.
    let frame = [&[0x01, 126, 0x01, 0x00][..], &[b'x'; 256]].concat();
    tunnel.application_says(&frame[..100]).await;
    tunnel.client_gets(&frame[..100]).await;
    tunnel.gate.close_within(60 * SECOND);
    // All moments are over.
    sleep(20 * SECOND).await;
    tunnel.application_says(&frame[100..200]).await;
    tunnel.client_gets(&frame[100..200]).await;
    sleep(20 * SECOND).await;
    let rest = [&frame[200..], b"\x80\x01y", HEY].concat();
    tunnel.application_says(&rest).await;
    tunnel.client_gets(&frame[200..]).await;
    tunnel.client_gets(&GOING_AWAY).await;
    tunnel.application_says(HEY).await;
    let told = Instant::now();
    tunnel.cut_off().await;
    assert_eq!(told.elapsed(), CLOSING_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_ends_with_the_drain() {
    for (begin, drain) in [
        // Within a head, within a payload, and what is no frame at all.
        (&b"\x81"[..], 60),
        (b"\x82\x7f\0\0\0\0\x10\0\0\0much", 60),
        (b"\x81\x83abcdhey", 60),
        (b"\x81\x83abcdhey", 0),
    ] {
        let mut tunnel = Tunnel::open();
        tunnel.application_says(begin).await;
        tunnel.client_gets(begin).await;
        let began = Instant::now();
        tunnel.gate.close_within(drain * SECOND);
        tunnel.cut_off().await;
        let cut_off = began.elapsed();
        assert_eq!(cut_off, (drain * SECOND).max(CLOSING_TIME), "{begin:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_hang_up_is_cut_off() {
    // Neither does, only the application does, only the client does.
    for (application_ends, client_ends) in [(false, false), (true, false), (false, true)] {
        let mut tunnel = Tunnel::open();
        tunnel.gate.close_within(Duration::ZERO);
        tunnel.client_gets(&GOING_AWAY).await;
        let told = Instant::now();
        if application_ends {
            tunnel.application.shutdown().await.unwrap();
        }
        if client_ends {
            tunnel.client.write_all(BYE).await.unwrap();
            tunnel.client.shutdown().await.unwrap();
            tunnel.application_gets(BYE).await;
        }
        tunnel.cut_off().await;
        assert_eq!(told.elapsed(), CLOSING_TIME);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off_with_the_drain() {
    let mut tunnel = Tunnel::open();
    tunnel.application_says(&HEY.repeat(400)).await;
    let began = Instant::now();
    tunnel.gate.close_within(30 * SECOND);
    assert!(tunnel.carried.await.unwrap().is_err());
    assert_eq!(began.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn after_the_applications_own_close_no_other_is_sent() {
    let mut tunnel = Tunnel::open();
    let close = b"\x88\x02\x03\xe8";
    tunnel.application_says(close).await;
    tunnel.client_gets(close).await;
    tunnel.gate.close_within(Duration::ZERO);
    sleep(SECOND).await;
    // Whatever it says after that is its affair.
    tunnel.application_says(HEY).await;
    tunnel.client_gets(HEY).await;
    tunnel.application.shutdown().await.unwrap();
    tunnel.client.shutdown().await.unwrap();
    let (up, down) = tunnel.end().await.unwrap();
    assert_eq!((up, down), (0, (close.len() + HEY.len()) as u64));

    // Also where it comes while the client is about to be told.
    let mut tunnel = Tunnel::open();
    tunnel.application_says(&close[..1]).await;
    tunnel.client_gets(&close[..1]).await;
    tunnel.gate.close_within(Duration::ZERO);
    sleep(SECOND).await;
    tunnel.application_says(&close[1..]).await;
    tunnel.client_gets(&close[1..]).await;
    let closed = Instant::now();
    tunnel.cut_off().await;
    assert_eq!(closed.elapsed(), CLOSING_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_run_in_doubt_keeps_its_websockets() {
    let mut tunnel = Tunnel::open();
    tunnel.gate.close();
    sleep(3600 * SECOND).await;
    tunnel.application_says(HEY).await;
    tunnel.client_gets(HEY).await;
    tunnel.client.write_all(BYE).await.unwrap();
    tunnel.application_gets(BYE).await;
}

#[test]
fn what_is_a_websocket_is_said_by_the_answer() {
    let of = |name: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, http::HeaderValue::from_static(name));
        Protocol::of(&headers)
    };
    assert_eq!(of("websocket"), Protocol::WebSocket);
    assert_eq!(of("WebSocket"), Protocol::WebSocket);
    assert_eq!(of("chat/2"), Protocol::Other);
    assert_eq!(Protocol::of(&HeaderMap::new()), Protocol::Other);
}
