//! Finding out whether a started container can be used.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;

use crate::decision::ReadyRule;
use crate::inquiry;
use crate::lifecycle::gate::Endpoint;
use crate::lifecycle::machine::Launch;
use crate::runtime::{InstanceId, Runtime};

/// The pause after the first attempt; each later one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The longest that one attempt may take. A container that accepts and does not answer yet must
/// not keep the next attempt from being made.
const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// What is told of one that took longer.
const LATE: &str = "no answer in time";

/// The pause between attempts of a rule that names none.
const EVERY: Duration = Duration::from_millis(250);

/// Makes probes. Connections are not reused: each probe is to see the application as a new client
/// would.
#[derive(Clone)]
pub struct Prober {
    client: reqwest::Client,
    runtime: Arc<dyn Runtime>,
}

/// One container's probe: what is asked of it, and how often.
pub struct Probe {
    target: Target,
    every: Duration,
    pause: Duration,
}

enum Target {
    Tcp(IpAddr, Option<u16>),
    Http {
        target: String,
        found: Option<(Url, String)>,
    },
}

impl Prober {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(ATTEMPT_TIME)
            .build()
            .expect("a client without TLS needs nothing that can be missing");
        Self { client, runtime }
    }

    /// Asks once. The error says what happened, for people.
    pub async fn attempt(
        &self,
        probe: &mut Probe,
        id: &InstanceId,
        launch: &Launch,
    ) -> Result<(), Arc<str>> {
        match &mut probe.target {
            Target::Tcp(_, None) => {
                Err("no port is known to connect to: set the label wakegate.port".into())
            }
            Target::Tcp(address, Some(port)) => {
                let connect = TcpStream::connect((*address, *port));
                match tokio::time::timeout(ATTEMPT_TIME, connect).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => {
                        Err(format!("connecting to {address}:{port}: {error}").into())
                    }
                    Err(_) => Err(format!("connecting to {address}:{port}: no answer").into()),
                }
            }
            Target::Http { target, found } => {
                if found.is_none() {
                    *found = Some(
                        self.find(target, id, launch.run.address, launch.port)
                            .await?,
                    );
                }
                let Some((url, host)) = found else {
                    return Err("the probe's address is not known".into());
                };
                let request = self
                    .client
                    .get(url.clone())
                    .header(reqwest::header::HOST, host.as_str());
                match request.send().await {
                    Ok(answer)
                        if answer.status().is_success() || answer.status().is_redirection() =>
                    {
                        Ok(())
                    }
                    Ok(answer) => {
                        let asked = asked(target, launch.port);
                        Err(format!("{asked} answered {}", answer.status()).into())
                    }
                    Err(error) => {
                        let asked = asked(target, launch.port);
                        Err(format!("{asked}: {}", inquiry::reason(&error, LATE)).into())
                    }
                }
            }
        }
    }

    /// One GET of a running container, whatever it answers: the status, and a body of `bytes_max` at
    /// the most. The error says what happened, for people.
    pub async fn get(
        &self,
        target: &str,
        id: &InstanceId,
        endpoint: &Endpoint,
        bytes_max: usize,
    ) -> Result<(u16, Vec<u8>), Arc<str>> {
        let (url, host) = self
            .find(target, id, endpoint.address, endpoint.port)
            .await?;
        let request = self.client.get(url).header(reqwest::header::HOST, host);
        let answer = inquiry::ask(request, bytes_max, LATE).await;
        answer.map_err(|why| format!("{target}: {why}").into())
    }

    /// The URL with an address in place of the host name, and what the Host field is to say.
    async fn find(
        &self,
        target: &str,
        id: &InstanceId,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<(Url, String), Arc<str>> {
        if target.starts_with('/') {
            let port = port.ok_or(
                "no port is known to probe: write a whole URL or set the label wakegate.port",
            )?;
            let text = format!(
                "http://{}{target}",
                std::net::SocketAddr::new(address, port)
            );
            let url =
                Url::parse(&text).map_err(|error| format!("{target:?} is not a path: {error}"))?;
            let host = authority(&url);
            return Ok((url, host));
        }
        let mut url =
            Url::parse(target).map_err(|error| format!("{target:?} is not a URL: {error}"))?;
        if url.scheme() != "http" {
            return Err(
                format!("{target:?}: only http:// can be probed; use tcp() for others").into(),
            );
        }
        let host = authority(&url);
        let name = url
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let address = self
            .runtime
            .resolve(&name, id)
            .await
            .map_err(|error| format!("finding {name:?}: {error}"))?;
        url.set_ip_host(address)
            .map_err(|()| format!("{target:?} cannot have the address {address}"))?;
        Ok((url, host))
    }
}

impl Probe {
    /// The probe for a rule; `None` for rules that need none.
    pub fn new(launch: &Launch) -> Option<Self> {
        let (target, every) = match &launch.ready {
            ReadyRule::Probe { target, every, .. } => {
                let target = Target::Http {
                    target: target.clone(),
                    found: None,
                };
                (target, *every)
            }
            ReadyRule::Tcp { .. } => (Target::Tcp(launch.run.address, launch.port), EVERY),
            ReadyRule::Wait(_) | ReadyRule::Health { .. } => return None,
        };
        Some(Self {
            target,
            every,
            pause: FIRST_PAUSE,
        })
    }

    /// How long to wait before the next attempt: short at first, growing to the rule's pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause.min(self.every);
        self.pause = (self.pause.mul_f64(1.5)).min(self.every.max(FIRST_PAUSE));
        pause
    }
}

/// What is probed, for people: a path with its port, which may be the wrong one.
fn asked(target: &str, port: Option<u16>) -> String {
    match port {
        Some(port) if target.starts_with('/') => format!("{target} on port {port}"),
        _ => target.to_owned(),
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
