//! A real S3 server: moto, in a process of its own, and plain HTTP to look into it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

/// Runs moto so that it ends with these tests, however they end. Requests are handled one after
/// the other: moto checks a condition and writes in two steps, between which another request could
/// write, which no real server allows.
const PROGRAM: &str = r#"
import os, sys, threading
import moto.server as server

serve = server.run_simple
turn = threading.Lock()

def in_turns(app):
    def call(environ, start_response):
        with turn:
            answer = app(environ, start_response)
            try:
                return list(answer)
            finally:
                getattr(answer, "close", lambda: None)()
    return call

server.run_simple = lambda host, port, app, **more: serve(host, port, in_turns(app), **more)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
server.main(sys.argv[1:])
"#;

/// Moto looks for credentials and takes any, until it is told to check them.
const ANYBODY: &str = "AWS4-HMAC-SHA256 Credential=ANYBODY/20260101/us-east-1/s3/aws4_request, \
                       SignedHeaders=host, Signature=0";

/// The server; it ends when this is dropped.
pub struct Moto {
    pub url: String,
    program: PathBuf,
    process: Child,
    http: Client,
}

/// Where `moto_server` is.
pub fn find() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("WAKEGATE_TEST_MOTO") {
        let given = PathBuf::from(given);
        return match given.is_file() {
            true => Ok(given),
            false => Err(format!(
                "WAKEGATE_TEST_MOTO: there is no {}",
                given.display()
            )),
        };
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/moto/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("moto_server"))
        .find(|program| program.is_file())
        .ok_or_else(|| "moto_server was not found".to_owned())
}

impl Moto {
    /// Starts a server on a free port and waits until it listens.
    pub async fn start(program: &Path, args: &[&str]) -> Result<Self, String> {
        let python = ["python3", "python"]
            .into_iter()
            .filter_map(|name| Some(program.parent()?.join(name)))
            .find(|python| python.is_file())
            .ok_or_else(|| format!("there is no python beside {}", program.display()))?;
        let mut process = Command::new(python)
            .args(["-c", PROGRAM, "-H", "127.0.0.1", "-p", "0"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("moto cannot be started: {error}"))?;
        let said = BufReader::new(process.stderr.take().expect("stderr is piped"));
        let listening = tokio::task::spawn_blocking(move || {
            let mut lines = said.lines().map_while(Result::ok);
            let mut before = String::new();
            let url = lines.by_ref().find_map(|line| {
                let url = line
                    .split_once("Running on ")
                    .map(|(_, url)| url.to_owned());
                before.push_str(&line);
                url
            });
            // Its log is read on, or it would wait for that.
            std::thread::spawn(move || lines.for_each(drop));
            url.ok_or(before)
        });
        let url = listening
            .await
            .map_err(|failed| failed.to_string())?
            .map_err(|said| format!("moto does not listen: {said}"));
        let mut moto = Self {
            url: String::new(),
            program: program.to_owned(),
            process,
            http: Client::builder().no_proxy().build().unwrap(),
        };
        moto.url = url?.trim().to_owned();
        Ok(moto)
    }

    /// Another server, for what cannot be done to one that others use.
    pub async fn another(&self, args: &[&str]) -> Self {
        Self::start(&self.program, args).await.unwrap()
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn make_bucket(&self, bucket: &str) {
        let made = self.ask(Method::PUT, bucket).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
    }

    pub async fn get(&self, path: &str) -> Option<Bytes> {
        let got = self.ask(Method::GET, path).send().await.unwrap();
        match got.status() {
            StatusCode::OK => Some(got.bytes().await.unwrap()),
            StatusCode::NOT_FOUND => None,
            _ => panic!("{got:?}"),
        }
    }

    /// Writes an object; the mark is gone when someone else writes it again.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>, mark: &str) {
        let put = self.ask(Method::PUT, path).header("x-amz-meta-mark", mark);
        let put = put.body(bytes.into()).send().await.unwrap();
        assert!(put.status().is_success(), "{put:?}");
    }

    pub async fn mark_of(&self, path: &str) -> Option<String> {
        let head = self.ask(Method::HEAD, path).send().await.unwrap();
        let mark = head.headers().get("x-amz-meta-mark")?;
        Some(mark.to_str().unwrap().to_owned())
    }

    /// All keys of a bucket, in order.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self.ask(Method::GET, &format!("{bucket}?list-type=2"));
        let listed = listed.send().await.unwrap().text().await.unwrap();
        let keys = listed.split("<Key>").skip(1);
        keys.map(|rest| rest.split("</Key>").next().unwrap().to_owned())
            .collect()
    }

    /// Calls another of moto's services by its form.
    pub async fn form(&self, service: &str, form: &[(&str, &str)]) -> String {
        let body: Vec<String> = form
            .iter()
            .map(|(key, value)| {
                let value = percent_encoding::utf8_percent_encode(
                    value,
                    percent_encoding::NON_ALPHANUMERIC,
                );
                format!("{key}={value}")
            })
            .collect();
        let called = self
            .http
            .post(&self.url)
            .header(
                "authorization",
                ANYBODY.replace("/s3/", &format!("/{service}/")),
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        text(called.send().await.unwrap()).await
    }

    /// From now on credentials, signatures and permissions are checked.
    pub async fn check_credentials(&self) {
        let reset = self.http.post(format!("{}/moto-api/reset-auth", self.url));
        text(reset.body("0").send().await.unwrap()).await;
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/{path}", self.url));
        request.header("authorization", ANYBODY)
    }
}

async fn text(answer: Response) -> String {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    text
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
