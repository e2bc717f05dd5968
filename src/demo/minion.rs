//! The sample application: a small web server that tells what reached it and ends when nobody uses it.

mod answers;
mod go_duration;
mod settings;
mod streams;
mod usage;

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use answers::Minion;
use go_duration::in_go_style;
use settings::Settings;

/// Open connections; past it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// For a request's head to arrive, also the longest pause between requests. Longer than a gateway
/// keeps an idle connection, so that it is the gateway that closes it and no request is lost.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

/// For a request that is on its way to arrive on an open connection once it was decided to end. A
/// client cannot know of that, and must not send again what may have been done (RFC 9110 §9.2.2).
const LAST_CALL: Duration = Duration::from_millis(100);

/// For requests in flight to end once it was decided to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Exit code for settings that mean nothing, and for a defect of this program.
const MISUSE: u8 = 2;

/// Serves until it is idle for too long or told to end; reads its settings from the environment.
///
/// Exit codes: 0 ended as it should, 1 could not serve (or `CRASH_AFTER`), 2 a setting is wrong.
pub fn run() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say(format_args!("a defect: {panic}"));
        std::process::exit(i32::from(MISUSE));
    }));
    let settings = match Settings::read(|name| std::env::var_os(name)) {
        Ok(settings) => settings,
        Err(error) => {
            say(format_args!("{error}"));
            return ExitCode::from(MISUSE);
        }
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .and_then(|runtime| runtime.block_on(serve(settings)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> io::Result<()> {
    // Before anything else: as the first process of a container it gets no signal that it does not handle.
    let mut signals = Signals::install()?;
    if let Some(after) = settings.crash_after {
        tokio::spawn(async move {
            sleep(after).await;
            say(format_args!("crashes, as CRASH_AFTER asked for"));
            std::process::exit(1);
        });
    }
    if !settings.boot_delay.is_zero() {
        say(format_args!(
            "will listen in {}",
            in_go_style(settings.boot_delay)
        ));
    }
    tokio::select! {
        () = sleep(settings.boot_delay) => {}
        name = signals.any() => {
            say(format_args!("ends before it listens: {name}"));
            return Ok(());
        }
    }

    let address = SocketAddr::new(settings.bind_address, settings.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })?;
    let address = listener.local_addr()?;
    match settings.idle {
        Some(idle) => say(format_args!(
            "listens on {address}, ends after {} without a request",
            in_go_style(idle)
        )),
        None => say(format_args!("listens on {address}")),
    }

    let idle = settings.idle;
    let term_delay = settings.term_delay;
    let ending = CancellationToken::new();
    let tasks = TaskTracker::new();
    let minion = Arc::new(Minion::new(
        settings,
        address,
        ending.clone(),
        tasks.clone(),
    ));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let reason = {
        let mut end = std::pin::pin!(reason_to_end(&mut signals, &minion, idle, term_delay));
        loop {
            tokio::select! {
                reason = &mut end => break reason,
                (stream, peer, place) = accept(&listener, &places) => {
                    tasks.spawn(connection(stream, peer, place, minion.clone(), ending.clone()));
                }
            }
        }
    };

    say(format_args!("ends: {reason}"));
    for (stream, peer) in waiting_connections(listener)? {
        let Ok(place) = places.clone().try_acquire_owned() else {
            break;
        };
        tasks.spawn(connection(
            stream,
            peer,
            place,
            minion.clone(),
            ending.clone(),
        ));
    }
    ending.cancel();
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = sleep(DRAIN_TIMEOUT) => say(format_args!(
            "leaves {} connections that did not end in {}", tasks.len(), in_go_style(DRAIN_TIMEOUT)
        )),
        _ = signals.interrupt.recv() => say(format_args!("interrupted: leaves {} connections", tasks.len())),
    }
    Ok(())
}

/// Waits until there is a reason to end, and tells it. SIGTERM is obeyed after `term_delay`, in
/// which nothing but SIGINT is listened to: that one is a person at a keyboard.
async fn reason_to_end(
    signals: &mut Signals,
    minion: &Minion,
    idle: Option<Duration>,
    term_delay: Duration,
) -> &'static str {
    tokio::select! {
        () = minion.usage().idle_for(idle) => return "nobody used it",
        _ = signals.interrupt.recv() => return "SIGINT",
        _ = signals.terminate.recv() => {}
    }
    if !term_delay.is_zero() {
        say(format_args!(
            "got SIGTERM, goes on for {}",
            in_go_style(term_delay)
        ));
        tokio::select! {
            () = sleep(term_delay) => {}
            _ = signals.interrupt.recv() => {}
        }
    }
    "SIGTERM"
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                // A connection that broke off costs nothing; out of file descriptors needs a rest.
                say(format_args!("cannot accept a connection: {error}"));
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Closes the listener. Gives those who have connected and were not accepted yet: to them this
/// server is there, and closing would reset them with their requests unread.
fn waiting_connections(listener: TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        waiting.push((TcpStream::from_std(stream)?, peer));
    }
    Ok(waiting)
}

/// Serves one connection; on `ending` its request in flight is the last, or the one that arrives
/// within the last call.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
    minion: Arc<Minion>,
    ending: CancellationToken,
) {
    // Fails only on a connection that is gone, which the first read tells too.
    let _ = stream.set_nodelay(true);
    let is_last = ending.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (minion, is_last) = (minion.clone(), is_last.clone());
        async move {
            let mut answer = minion.answer(request.map(Body::new), peer).await;
            if is_last.is_cancelled() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { ending.cancelled().await; sleep(LAST_CALL).await } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Clients hang up as they like: not worth a line.
    drop(ended);
}

/// The signals that end it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// One line on stderr. A closed stderr is no reason to stop serving.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "minion: {line}");
}
