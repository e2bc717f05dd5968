//! The workers: a thread, a runtime, a listener each; their connections, and their stop.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::config::Config;
use crate::deploy::route::Apps;
use crate::lifecycle::fleet::Fleet;
use crate::proxy::again::Redirects;
use crate::proxy::facts::Peer;
use crate::proxy::handler::{Client, Worker};
use crate::proxy::listener::{self, Acceptor, Bound, ListenError, SocketFile};
use crate::proxy::meter::{Meters, Metrics};
use crate::proxy::patience::Patience;
use crate::proxy::ports::{Decide, Wake};
use crate::proxy::socket::Socket;
use crate::proxy::upstream::Pools;
use crate::script::current::{Question, Scripts};
use crate::script::decider::Decider;
use crate::script::meter::STACK_BYTES;

/// hyper's own limit of header fields, for which it needs no memory from the heap.
const HEADERS_ON_STACK: usize = 100;

/// Why the data plane did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
}

/// The data plane.
#[derive(Debug)]
pub struct Proxy;

/// The data plane while it runs. Ends at once when it is dropped; see [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    bound: Bound,
    stopping: CancellationToken,
    abandoned: CancellationToken,
    workers: Vec<(oneshot::Receiver<()>, JoinHandle<()>)>,
    file: Option<SocketFile>,
}

impl Proxy {
    /// Opens the public listener and serves it.
    pub fn start(
        config: Arc<Config>,
        fleet: Arc<Fleet>,
        apps: Apps,
        scripts: Arc<Scripts>,
        metrics: &Metrics,
    ) -> Result<Running, StartError> {
        Self::start_with(
            config,
            fleet,
            apps,
            move || Decider::new(scripts.clone()),
            metrics,
        )
    }

    /// The same with any source of leases and decisions. `decider` is called once a worker.
    pub fn start_with<W: Wake + Clone + Send, D: Decide>(
        config: Arc<Config>,
        wake: W,
        apps: Apps,
        decider: impl Fn() -> D + Clone + Send + 'static,
        metrics: &Metrics,
    ) -> Result<Running, StartError> {
        let count = config.public.workers.max(1);
        let (bound, listeners) = listener::bind(&config.public.listen, count)?;
        let permits = Arc::new(Semaphore::new(
            config.public.connections_max.min(Semaphore::MAX_PERMITS),
        ));
        let redirects = Arc::new(Redirects::default());
        // From here on dropping it takes everything back.
        let mut running = Running {
            file: SocketFile::of(&bound),
            bound,
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            workers: Vec::new(),
        };
        for (number, listener) in listeners.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let acceptor = {
                let _in_runtime = runtime.enter();
                Acceptor::new(listener)?
            };
            let (config, wake, decider) = (config.clone(), wake.clone(), decider.clone());
            let (apps, redirects) = (apps.clone(), redirects.clone());
            let (metrics, permits) = (metrics.clone(), permits.clone());
            let (stopping, abandoned) = (running.stopping.clone(), running.abandoned.clone());
            let (ended, end) = oneshot::channel();
            let work = move || {
                let serving = async {
                    let worker = Worker {
                        pools: Pools::new(config.upstream.clone()),
                        meters: Meters::new(metrics),
                        decider: RefCell::new(decider()),
                        tasks: TaskTracker::new(),
                        apps,
                        redirects,
                        wake,
                        config,
                    };
                    serve(Rc::new(worker), acceptor, permits, stopping, abandoned).await;
                };
                run(runtime, serving);
                let _ = ended.send(());
            };
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(work)?;
            running.workers.push((end, thread));
        }
        info!(address = %running.bound, workers = count, "serving");
        Ok(running)
    }
}

/// Runs `serving` and everything that it spawns; what is left when it ends is dropped.
fn run(runtime: Runtime, serving: impl Future<Output = ()>) {
    let local = LocalSet::new();
    local.block_on(&runtime, serving);
    // Connections close their sockets through the runtime, so they go first.
    drop(local);
    drop(runtime);
}

impl Running {
    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> &Bound {
        &self.bound
    }

    /// Stops accepting, closes idle connections, lets requests and tunnels end for `limit`, then
    /// drops what is left.
    pub async fn stop(mut self, limit: Duration) {
        self.stopping.cancel();
        self.file = None;
        let workers = std::mem::take(&mut self.workers);
        let (mut ends, threads): (Vec<_>, Vec<_>) = workers.into_iter().unzip();
        let all_ended = async {
            for end in &mut ends {
                let _ = end.await;
            }
        };
        let in_time = timeout(limit, all_ended).await.is_ok();
        if !in_time {
            info!(
                "requests still ran after {} s and were dropped",
                limit.as_secs_f64()
            );
            self.abandoned.cancel();
            for end in &mut ends {
                // An error is one that ended before.
                if !end.is_terminated() {
                    let _ = end.await;
                }
            }
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.abandoned.cancel();
    }
}

/// Accepts until told to stop, then waits for what runs, until told to abandon that too.
async fn serve<W: Wake, D: Decide>(
    worker: Rc<Worker<W, D>>,
    acceptor: Acceptor,
    permits: Arc<Semaphore>,
    stopping: CancellationToken,
    abandoned: CancellationToken,
) {
    let http = http(&worker.config);
    if let Some(questions) = worker.decider.borrow_mut().questions() {
        tokio::task::spawn_local(answer_questions(worker.clone(), questions));
    }
    // Each connection watches it: a worker's own spares them a lock that all workers take.
    let stopping = stopping.child_token();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = accept(&worker, &http, &acceptor, &permits, &stopping) => {}
    }
    drop(acceptor);
    worker.tasks.close();
    tokio::select! {
        () = worker.tasks.wait() => {}
        () = abandoned.cancelled() => {}
    }
}

/// Tells what this worker saw last to those who try new scripts on it.
async fn answer_questions<W: Wake, D: Decide>(
    worker: Rc<Worker<W, D>>,
    mut questions: mpsc::Receiver<Question>,
) {
    while let Some(question) = questions.recv().await {
        question.answer(worker.decider.borrow_mut().recent());
    }
}

fn http(config: &Config) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(config.public.head_timeout)
        .max_buf_size(config.public.head_bytes_max.max(8 << 10));
    if config.public.headers_max != HEADERS_ON_STACK {
        http.max_headers(config.public.headers_max);
    }
    http
}

async fn accept<W: Wake, D: Decide>(
    worker: &Rc<Worker<W, D>>,
    http: &http1::Builder,
    acceptor: &Acceptor,
    permits: &Arc<Semaphore>,
    stopping: &CancellationToken,
) {
    loop {
        if let Err(error) = acceptor.ready().await {
            warn!(%error, "cannot wait for connections");
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        // Before the connection is taken: past the limit it stays in the kernel's queue.
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match acceptor.accept() {
            Ok(Some((socket, address))) => {
                let client = admit(worker, socket, address, permit);
                let connection = converse(worker.clone(), http, client, stopping.clone());
                tokio::task::spawn_local(worker.tasks.track_future(connection));
            }
            Ok(None) => {}
            // The client's fault, or the network's: the next one may be well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection; trying again in 0.1 s");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit<W: Wake, D: Decide>(
    worker: &Worker<W, D>,
    socket: Socket,
    address: Option<IpAddr>,
    permit: OwnedSemaphorePermit,
) -> Rc<Client> {
    Rc::new(Client {
        socket,
        peer: Peer::new(address, &worker.config.public.trusted_proxies),
        upgraded: Cell::new(false),
        _permit: permit,
        _counted: worker.meters.shared().connection(),
    })
}

/// Serves one connection to its end.
fn converse<W: Wake, D: Decide>(
    worker: Rc<Worker<W, D>>,
    http: &http1::Builder,
    client: Rc<Client>,
    stopping: CancellationToken,
) -> impl Future<Output = ()> + 'static {
    let public = &worker.config.public;
    let patience = Patience::new(
        client.socket.clone(),
        public.head_timeout,
        public.idle_timeout,
    );
    let service = {
        let client = client.clone();
        service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let span =
                debug_span!("request", method = %request.method(), path = request.uri().path());
            let handled = worker.clone().handle(client.clone(), request);
            async move { Ok::<_, Infallible>(handled.await) }.instrument(span)
        })
    };
    let connection = http
        .clone()
        .timer(patience)
        .serve_connection(TokioIo::new(client.socket.clone()), service)
        .with_upgrades();
    async move {
        let ended = {
            let mut connection = pin!(connection);
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            debug!(peer = %client.peer.address, %error, "a client's connection ended");
        }
        // A stop does not wait for clients that are slow to hang up.
        if !client.upgraded.get() && !stopping.is_cancelled() {
            client.socket.linger().await;
        }
    }
}
