//! What a client sees: answers of the public listener and of the admin API, and bytes on the wire.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bench::{PATIENCE, Sample, in_time, until};

/// Asks one gateway.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    public: String,
    admin: String,
}

impl Default for Client {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl Client {
    pub fn new(public: &str, admin: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self {
            http,
            public: public.to_owned(),
            admin: admin.to_owned(),
        }
    }

    /// The same client with connections of its own.
    pub fn alone(&self) -> Self {
        Self::new(&self.public, &self.admin)
    }

    /// A request to the public listener.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.public))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// A GET as a browser makes it that goes to a page.
    pub async fn navigate(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        Answer::to(request.header("accept", "text/html,*/*;q=0.8")).await
    }

    /// A request to the admin API.
    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.admin))
    }

    /// Where the admin API listens.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// A GET of any URL.
    pub async fn get_url(&self, url: &str) -> Answer {
        Answer::to(self.http.get(url)).await
    }

    /// A GET of any URL whose answer goes on.
    pub async fn open(&self, url: &str) -> reqwest::Response {
        in_time("an answer begins", self.http.get(url).send())
            .await
            .expect(url)
    }

    pub async fn post_deploy(&self, query: &str, spec: &Value) -> Answer {
        Answer::to(
            self.admin(Method::POST, &format!("/deploy{query}"))
                .json(spec),
        )
        .await
    }

    /// Waits until the gateway knows what the engine has.
    pub async fn until_ready(&self) {
        let ready = until("the engine is listed", || async {
            let answer = Answer::to(self.admin(Method::GET, "/readyz")).await;
            (answer.status == 200).then_some(())
        });
        ready.await;
    }

    /// Makes a container that sleeps; gives its id.
    pub async fn create(&self, sample: &Sample) -> String {
        let answer = self.post_deploy("?start=false", &sample.0).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["state"], "stopped", "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a container and returns when its application is ready; gives its id.
    pub async fn run(&self, sample: &Sample) -> String {
        let id = self.create(sample).await;
        self.wake(sample.name()).await;
        id
    }

    pub async fn wake(&self, name: &str) {
        let path = format!("/deploy/{name}?wait=ready");
        let answer = Answer::to(self.admin(Method::PUT, &path)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// How the admin API shows it.
    pub async fn view(&self, name_or_id: &str) -> Value {
        let path = format!("/deploy/{name_or_id}");
        Answer::to(self.admin(Method::GET, &path)).await.ok()
    }

    pub async fn phase(&self, name: &str) -> String {
        let view = self.view(name).await;
        view["phase"].as_str().expect("a phase").to_owned()
    }

    /// Waits until it is in that phase.
    pub async fn until_phase(&self, name: &str, phase: &str) -> Value {
        let what = format!("{name} is {phase}");
        let view = until(&what, || async {
            let view = self.view(name).await;
            (view["phase"] == phase).then_some(view)
        });
        view.await
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn to(request: RequestBuilder) -> Self {
        match Self::try_to(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error:?}"),
        }
    }

    pub async fn try_to(request: RequestBuilder) -> Result<Self, reqwest::Error> {
        let whole = async {
            let answer = request.send().await?;
            Ok(Self {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                body: answer.bytes().await?,
            })
        };
        in_time("a whole answer", whole).await
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(json) => json,
            Err(_) => panic!("{} and no JSON: {}", self.status, self.text()),
        }
    }

    /// The JSON of a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().expect("text")
    }

    /// What a client is asked to wait.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.header("retry-after").parse().expect("seconds"))
    }

    /// The problem details of a refusal (RFC 9457).
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["kind"], kind, "{problem}");
        for text in ["title", "detail"] {
            assert!(
                problem[text].as_str().is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        problem
    }
}

/// A request whose body goes on until the line ends it: it is under way for as long as that takes.
pub struct Upload {
    end: oneshot::Sender<()>,
    answer: JoinHandle<Answer>,
}

impl Upload {
    pub fn begin(client: &Client, path: &str) -> Self {
        let (end, told) = oneshot::channel();
        let first = async { Ok(Bytes::from_static(b"begin, ")) };
        let last = async { told.await.map(|()| Bytes::from_static(b"end")) };
        let parts = stream::once(first).chain(stream::once(last));
        let request = client.request(Method::POST, path);
        let request = request.body(reqwest::Body::wrap_stream(parts));
        Self {
            end,
            answer: tokio::spawn(Answer::to(request)),
        }
    }

    /// Whether it is over, though it was not ended.
    pub fn is_over(&self) -> bool {
        self.answer.is_finished()
    }

    pub async fn end(self) -> Answer {
        // An answer that came before the end is told below.
        let _ = self.end.send(());
        self.answer.await.expect("an answer")
    }
}

/// A connection of which every byte is ours.
pub struct Wire(TcpStream);

impl Wire {
    pub async fn open(address: &str) -> Self {
        let stream = in_time("a connection", TcpStream::connect(address)).await;
        Self(stream.expect("somebody listens"))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("it can be sent");
    }

    /// Everything until the other side closes, or breaks the connection off.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = in_time("the connection's end", self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let byte = in_time("more bytes", self.0.read_u8()).await;
            match byte {
                Ok(byte) => bytes.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Sends these bytes on a connection of their own; gives all that comes back.
pub async fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut wire = Wire::open(address).await;
    wire.send(bytes).await;
    wire.rest().await
}
