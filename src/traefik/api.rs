//! Asking Traefik: two kinds of question over plain HTTP, each within limits of time and size.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Client;

use super::told::{self, Router};
use crate::{config, inquiry};

/// For one answer. It comes from the same machine or network, out of memory.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The largest description of a router, in bytes.
const ROUTER_BYTES_MAX: usize = 256 << 10;

/// The most of metrics that is read, in bytes: some hundred for each series of each service.
const METRICS_BYTES_MAX: usize = 16 << 20;

/// The part of Traefik whose routers come from containers' labels.
pub(super) const PROVIDER: &str = "docker";

/// Traefik's API and metrics. Holds at the most a few idle connections.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    metrics: String,
}

impl Api {
    /// `None` where gateway.toml names no Traefik. Must be used on one tokio runtime only.
    pub fn new(config: &config::Traefik) -> Option<Self> {
        let base = config.api.clone()?;
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_TIME)
            .pool_max_idle_per_host(2)
            .build()
            .expect("a client without TLS needs nothing that can be missing");
        let metrics = config.metrics.clone();
        Some(Self {
            client,
            metrics: metrics.unwrap_or_else(|| format!("{base}/metrics")),
            base,
        })
    }

    /// Where it is asked, for people.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// What Traefik does with the router of that name that a container's labels made.
    ///
    /// # Errors
    /// When nobody answers, or something else than Traefik; for people.
    pub async fn router(&self, name: &str) -> Result<Router, String> {
        /// What stays as it is in a path.
        const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
        let name = utf8_percent_encode(name, ESCAPED);
        let url = format!("{}/api/http/routers/{name}@{PROVIDER}", self.base);
        let (status, body) = self.get(&url, ROUTER_BYTES_MAX).await?;
        told::router(status, &body)
    }

    /// How many requests Traefik has had answered by the services of these routers, since it runs.
    ///
    /// # Errors
    /// The same, and where Traefik does not tell: a router is not in use, or metrics are off.
    pub async fn requests(&self, routers: &[String]) -> Result<u64, String> {
        let mut services = Vec::new();
        for name in routers {
            match self.router(name).await? {
                Router::InUse { service } => services.push(service),
                Router::Missing => return Err(format!("it has no router {name:?}")),
                Router::Refused(why) => {
                    return Err(format!("it does not use the router {name:?}: {why}"));
                }
            }
        }
        if services.is_empty() {
            return Err("the container has no labels that make a router".to_owned());
        }
        let (status, body) = self.get(&self.metrics, METRICS_BYTES_MAX).await?;
        if status != 200 {
            return Err(format!("{} answered {status}", self.metrics));
        }
        told::requests(&String::from_utf8_lossy(&body), &services)
    }

    async fn get(&self, url: &str, bytes_max: usize) -> Result<(u16, Vec<u8>), String> {
        let late = format!("no answer within {} s", ANSWER_TIME.as_secs());
        inquiry::ask(self.client.get(url), bytes_max, &late).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers every request with `answer`, one a connection; tells what was asked.
    async fn server(answer: &'static [u8]) -> (Api, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}/base", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            // Ends with the test's runtime.
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return asked,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                asked.push(head.lines().next().unwrap().to_owned());
                let _ = stream.write_all(answer).await;
                if asked.len() == 1 {
                    return asked;
                }
            }
            asked
        });
        let config = config::Traefik {
            api: Some(api),
            ..config::Config::default().traefik
        };
        (Api::new(&config).unwrap(), serving)
    }

    /// What is told of a router, and what was asked for that. Where the machine itself stalls for as
    /// long as an answer may take, another server is asked.
    async fn in_time(
        answer: &'static [u8],
        name: &str,
    ) -> (Result<Router, String>, tokio::task::JoinHandle<Vec<String>>) {
        let late = format!("no answer within {} s", ANSWER_TIME.as_secs());
        for _ in 0..5 {
            let (api, asked) = server(answer).await;
            let told = api.router(name).await;
            if told.as_ref().err() != Some(&late) {
                return (told, asked);
            }
        }
        panic!("{late}, five times");
    }

    #[test]
    fn without_an_address_nobody_is_asked() {
        assert!(Api::new(&config::Config::default().traefik).is_none());
    }

    #[tokio::test]
    async fn a_router_is_asked_for_by_its_escaped_name_below_the_base() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 40\r\nconnection: close\r\n\r\n{\"message\":\"router not found: x@docker\"}";
        let (told, asked) = in_time(answer, "a/b?c é").await;
        assert_eq!(told, Ok(Router::Missing));
        assert_eq!(
            asked.await.unwrap(),
            ["GET /base/api/http/routers/a%2Fb%3Fc%20%C3%A9@docker HTTP/1.1"]
        );
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off() {
        let (api, _) =
            server(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n80000\r\n").await;
        // The announced chunk never comes: the limit of time holds.
        let error = api.router("a").await.unwrap_err();
        assert!(
            error.contains("no answer within 1 s") || error.contains("end of file"),
            "{error}"
        );
        let mut large = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        large.resize(ROUTER_BYTES_MAX + 4_096, b'x');
        let (told, _) = in_time(large.leak(), "a").await;
        let error = told.unwrap_err();
        assert!(error.contains("more than 262144 bytes"), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_told_in_few_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config::Traefik {
            api: Some(format!("http://{}", listener.local_addr().unwrap())),
            ..config::Config::default().traefik
        };
        drop(listener);
        let error = Api::new(&config).unwrap().router("a").await.unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_container_without_routers_has_no_requests_to_tell() {
        let (api, _) = server(b"").await;
        assert!(api.requests(&[]).await.is_err());
    }
}
