//! A client of Traefik that follows redirects and remembers them, and what all lines set up.

use std::path::Path;

use reqwest::{Method, RequestBuilder};

use crate::bench::{Bench, Sample};
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::setup::Setup;
use crate::traefik::Traefik;

/// Follows so many redirects of one request; browsers give up after 20.
const REDIRECTS_MAX: usize = 10;

/// The script that comes with the example.
pub const SHIPPED: &str = include_str!("../../examples/traefik/scripts/minions.rhai");

/// Traefik, and the gateway behind it as the router of the lowest priority.
pub struct House {
    pub bench: Bench,
    pub traefik: Traefik,
    pub gateway: Gateway,
}

/// How the two are set up for a line.
pub fn setup(bench: &Bench, traefik: &Traefik) -> Setup {
    bench
        .setup()
        .script(SHIPPED)
        .set("public.trusted_proxies", vec!["127.0.0.1"])
        .set("traefik.api", traefik.api.as_str())
        // On a busy machine Traefik may take longer than the usual time to take up a route.
        .set("traefik.route_timeout", "30s")
        .set("log.requests", true)
}

impl House {
    /// As the example has it.
    pub async fn new(bench: &Bench, program: &Path) -> Self {
        Self::with(bench, program, &[], |setup| setup).await
    }

    /// With more arguments of Traefik's, and with changes to the gateway's configuration.
    pub async fn with(
        bench: &Bench,
        program: &Path,
        arguments: &[&str],
        change: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let throttle = ["--providers.providersThrottleDuration=200ms"];
        let arguments = [&throttle[..], arguments].concat();
        let traefik = Traefik::start(bench, program, &arguments).await;
        let gateway = change(setup(bench, &traefik)).start().await;
        gateway.client.until_ready().await;
        traefik.route_to_gateway(&gateway.public, "/session").await;
        Self {
            bench: bench.clone(),
            traefik,
            gateway,
        }
    }

    /// A sample application with the labels of a router of its own.
    pub fn routed(&self, short: &str) -> Sample {
        routed(self.bench.sample(short))
    }

    /// Makes it, and returns when it sleeps and Traefik does not know it.
    pub async fn asleep(&self, sample: &Sample) -> String {
        let id = self.gateway.client.create(sample).await;
        self.traefik.until_router(&router_of(sample), false).await;
        id
    }

    /// Makes it, and returns when it is awake and Traefik routes to it.
    pub async fn awake(&self, sample: &Sample) -> String {
        let id = self.gateway.client.run(sample).await;
        self.traefik.until_router(&router_of(sample), true).await;
        id
    }

    /// Waits until it can be used and Traefik routes to it.
    pub async fn until_awake(&self, sample: &Sample) {
        self.gateway
            .client
            .until_phase(sample.name(), "ready")
            .await;
        self.traefik.until_router(&router_of(sample), true).await;
    }

    /// Waits until the gateway and Traefik both know that it sleeps.
    pub async fn until_asleep(&self, sample: &Sample) {
        self.gateway
            .client
            .until_phase(sample.name(), "stopped")
            .await;
        self.traefik.until_router(&router_of(sample), false).await;
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::new()
    }

    pub async fn get(&self, path: &str) -> Visit {
        self.visitor().get(&self.traefik.url(path)).await
    }

    /// How many requests the gateway itself has noted, by its own log.
    pub fn gateways_requests(&self) -> usize {
        self.gateway.log.lines_with("wakegate::requests").len()
    }
}

/// Gives it the labels of a router that is called as it is.
pub fn routed(sample: Sample) -> Sample {
    let name = sample.name().to_owned();
    let router = format!("traefik.http.routers.{name}");
    sample
        .label("traefik.enable", "true")
        .label(&format!("{router}.entrypoints"), "web")
        .label(
            &format!("{router}.rule"),
            &format!("PathPrefix(`/session/{name}/`)"),
        )
}

/// As Traefik's API calls it.
pub fn router_of(sample: &Sample) -> String {
    format!("{}@docker", sample.name())
}

/// A client with connections of its own.
pub struct Visitor {
    http: reqwest::Client,
}

/// The answers to a request and to those that its redirects asked for.
#[derive(Debug)]
pub struct Visit {
    pub hops: Vec<Answer>,
}

impl Visitor {
    pub fn new() -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { http }
    }

    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// A GET that follows.
    pub async fn get(&self, url: &str) -> Visit {
        let base = url.to_owned();
        let mut url = reqwest::Url::parse(url).expect("a URL");
        let mut hops = Vec::new();
        loop {
            let answer = Answer::to(self.http.get(url.clone())).await;
            let next = (300..400).contains(&answer.status).then(|| {
                let location = answer.header("location").to_owned();
                url.join(&location).expect("a location")
            });
            hops.push(answer);
            assert!(hops.len() <= REDIRECTS_MAX, "a loop at {base}: {hops:?}");
            match next {
                Some(next) => url = next,
                None => return Visit { hops },
            }
        }
    }
}

impl Visit {
    pub fn statuses(&self) -> Vec<u16> {
        self.hops.iter().map(|answer| answer.status).collect()
    }

    pub fn last(&self) -> &Answer {
        self.hops.last().expect("an answer")
    }
}
