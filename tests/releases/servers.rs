//! Real servers that releases depend on: Debian's docker-registry and moto's S3, as child processes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use bollard::query_parameters::{PushImageOptionsBuilder, TagImageOptionsBuilder};
use futures_util::StreamExt;
use parking_lot::Mutex;
use reqwest::header::AUTHORIZATION;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

use crate::bench::{PATIENCE, until};
use crate::stage::Stage;

/// The servers that run, for the end of the whole suite.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends those that still run.
pub fn end_all() {
    for pid in RUNNING.lock().drain(..) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A server that listens. Ended when it is dropped.
struct Server {
    child: Child,
    pid: Pid,
    address: String,
}

impl Server {
    /// Runs it; its address is what follows `mark` in the first line that has it.
    fn start(mut command: Command, mark: &'static str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server can be run");
        let pid = Pid::from_child(&child);
        RUNNING.lock().push(pid);
        let (told, address) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("its output")),
            Box::new(child.stderr.take().expect("its output")),
        ];
        for output in outputs {
            let told = told.clone();
            // Read to the end, so that it never waits for a reader.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Some((_, rest)) = line.split_once(mark) {
                        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                        let _ = told.send(rest[..end.unwrap_or(rest.len())].to_owned());
                    }
                }
            });
        }
        drop(told);
        let address = address.recv_timeout(PATIENCE);
        Self {
            address: address.expect("it tells where it listens"),
            child,
            pid,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        RUNNING.lock().retain(|pid| *pid != self.pid);
    }
}

/// A program by its name or path.
fn find(program: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&folders).map(|folder| folder.join(program));
    let found = places.find(|place| place.is_file());
    found.ok_or_else(|| format!("there is no program {program}"))
}

/// A registry without authentication that keeps its images in a folder of the line.
pub struct Registry {
    folder: PathBuf,
    server: Option<Server>,
    /// `localhost:port`, which engines take without TLS.
    pub name: String,
}

impl Registry {
    pub fn is_there() -> Result<(), String> {
        find("docker-registry").map(drop)
    }

    pub fn start(folder: &Path) -> Self {
        let folder = folder.join("registry");
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut registry = Self {
            folder,
            server: None,
            name: String::new(),
        };
        registry.start_at("127.0.0.1:0");
        registry
    }

    fn start_at(&mut self, address: &str) {
        let configuration = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            self.folder.join("data").display()
        );
        let file = self.folder.join("config.yml");
        std::fs::write(&file, configuration).expect("a configuration");
        let mut command = Command::new(find("docker-registry").expect("the program"));
        command.arg("serve").arg(file);
        let server = Server::start(command, "listening on ");
        let (_, port) = server.address.rsplit_once(':').expect("a port");
        self.name = format!("localhost:{port}");
        self.server = Some(server);
    }

    pub fn end(&mut self) {
        self.server = None;
    }

    /// Starts it again where it was.
    pub fn come_back(&mut self) {
        let (_, port) = self.name.rsplit_once(':').expect("a port");
        self.start_at(&format!("127.0.0.1:{port}"));
    }

    /// Puts an image of the engine into the registry under that name, and takes the name from the
    /// engine again.
    pub async fn take(&self, stage: &Stage, image: &str, repository: &str, tag: &str) -> String {
        let raw = stage.engine().raw();
        let there = format!("{}/{repository}", self.name);
        let named = format!("{there}:{tag}");
        let options = TagImageOptionsBuilder::default().repo(&there).tag(tag);
        raw.tag_image(image, Some(options.build()))
            .await
            .expect("a tag");
        stage.note_image(&named);
        let options = PushImageOptionsBuilder::default().tag(tag).build();
        let mut progress = raw.push_image(&there, Some(options), None);
        while let Some(step) = progress.next().await {
            step.expect("it is pushed");
        }
        raw.remove_image(
            &named,
            None::<bollard::query_parameters::RemoveImageOptions>,
            None,
        )
        .await
        .expect("the name is gone");
        named
    }
}

/// An S3 server, one for all lines.
pub struct Moto {
    server: Server,
}

static MOTO: OnceCell<Moto> = OnceCell::const_new();

/// The program, unless `WAKEGATE_TEST_MOTO` names another.
const MOTO_PROGRAM: &str = "moto_server";

impl Moto {
    fn program() -> Result<PathBuf, String> {
        let named = std::env::var("WAKEGATE_TEST_MOTO");
        find(named.as_deref().unwrap_or(MOTO_PROGRAM))
    }

    pub fn is_there() -> Result<(), String> {
        Self::program().map(drop)
    }

    /// The running server.
    pub async fn of_all() -> &'static Self {
        let start = || async {
            let mut command = Command::new(Self::program().expect("the program"));
            command.args(["-H", "127.0.0.1", "-p", "0"]);
            // In front of its own words stands what a terminal would colour.
            let server = tokio::task::spawn_blocking(|| Server::start(command, "http://"));
            Self {
                server: server.await.expect("it starts"),
            }
        };
        MOTO.get_or_init(start).await
    }

    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// A new bucket.
    pub async fn bucket(&self) -> Bucket {
        let bucket = Bucket {
            url: format!("http://{}/b{:08x}", self.address(), fastrand::u32(..)),
            prefix: "some/prefix".to_owned(),
        };
        let answer = bucket.send(reqwest::Method::PUT, &bucket.url, b"").await;
        assert!(answer.status().is_success(), "{answer:?}");
        bucket
    }
}

/// A bucket, asked by plain HTTP.
#[derive(Clone)]
pub struct Bucket {
    url: String,
    prefix: String,
}

/// The server looks whether there is a signature, not at it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

impl Bucket {
    /// As `store` of gateway.toml names it.
    pub fn location(&self) -> String {
        let (_, name) = self.url.rsplit_once('/').expect("a bucket");
        format!("s3://{name}/{}", self.prefix)
    }

    fn object(&self, key: &str) -> String {
        format!("{}/{}/{key}", self.url, self.prefix)
    }

    async fn send(&self, method: reqwest::Method, url: &str, bytes: &[u8]) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build();
        let request = client.expect("a client").request(method, url);
        let request = request.header(AUTHORIZATION, SIGNATURE);
        let request = request.header("content-type", "application/octet-stream");
        request
            .body(bytes.to_vec())
            .send()
            .await
            .expect("moto answers")
    }

    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let url = self.object(key);
        // moto fails a reading of what is being written.
        let answer = until("moto answers", || async {
            let answer = self.send(reqwest::Method::GET, &url, b"").await;
            (!answer.status().is_server_error()).then_some(answer)
        })
        .await;
        if answer.status() == 404 {
            return None;
        }
        assert!(answer.status().is_success(), "{answer:?}");
        Some(answer.bytes().await.expect("a body").to_vec())
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) {
        let answer = self
            .send(reqwest::Method::PUT, &self.object(key), bytes)
            .await;
        assert!(answer.status().is_success(), "{answer:?}");
    }
}
