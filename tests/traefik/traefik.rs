//! A running Traefik: its two listeners, its dynamic configuration, and its access log.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::bench::{Bench, until};
use crate::world::LABEL;

/// Where `.ci/run` puts it.
const INSTALLED: &str = "target/test-tools/traefik/bin/traefik";

/// The name of the router and of the service that are the gateway's.
pub const CATCH_ALL: &str = "gateway@file";

/// A container with this label, of value `yes`, is never routed to, whatever its other labels say.
pub const HIDDEN: &str = "wakegate.test.hidden";

/// Finds the program, and tells what to do when there is none.
pub fn program() -> Result<PathBuf, String> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(INSTALLED);
    let named = std::env::var_os("TRAEFIK_BIN").map(PathBuf::from);
    let in_path = std::env::var_os("PATH").and_then(|path| {
        let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("traefik"));
        candidates.find(|file| file.is_file())
    });
    if let Some(named) = named {
        return Ok(named);
    }
    if installed.is_file() {
        return Ok(installed);
    }
    in_path.ok_or_else(|| {
        format!("there is no {INSTALLED} and no traefik in the path (.ci/run installs it)")
    })
}

/// Killed with its process group when it is dropped.
pub struct Traefik {
    child: Child,
    pid: Pid,
    folder: PathBuf,
    /// Where clients come in.
    pub web: String,
    /// Its API and its metrics.
    pub api: String,
    http: reqwest::Client,
}

impl Traefik {
    /// Starts it with arguments besides its own, and returns when its API answers.
    pub async fn start(bench: &Bench, program: &Path, more: &[&str]) -> Self {
        // A port that was free a moment ago may be taken: then it ends, and others are tried.
        for _ in 0..5 {
            if let Some(traefik) = Self::try_start(bench, program, more).await {
                return traefik;
            }
        }
        panic!("Traefik does not start");
    }

    async fn try_start(bench: &Bench, program: &Path, more: &[&str]) -> Option<Self> {
        let folder = bench.dir().join("traefik");
        std::fs::create_dir_all(folder.join("dynamic")).expect("a folder");
        let ports = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [web, api] = ports.map(|port| port.local_addr().expect("an address").to_string());
        let own = [
            "--global.checkNewVersion=false".to_owned(),
            "--global.sendAnonymousUsage=false".to_owned(),
            "--log.level=INFO".to_owned(),
            format!("--entryPoints.web.address={web}"),
            format!("--entryPoints.traefik.address={api}"),
            "--api.insecure=true".to_owned(),
            "--accessLog.format=json".to_owned(),
            format!("--accessLog.filePath={}/access.log", folder.display()),
            "--metrics.prometheus=true".to_owned(),
            format!("--providers.file.directory={}/dynamic", folder.display()),
            "--providers.docker.exposedByDefault=false".to_owned(),
            format!("--providers.docker.network={}", bench.engine().network()),
            format!(
                "--providers.docker.constraints=Label(`{LABEL}`,`{}`) && !Label(`{HIDDEN}`,`yes`)",
                bench.mark()
            ),
        ];
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("traefik.log"))
            .expect("a log");
        let mut child = Command::new(program)
            .args(own)
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("Traefik can be run");
        let pid = Pid::from_child(&child);
        let http = reqwest::Client::builder().no_proxy().build().expect("one");
        let url = format!("http://{api}/api/version");
        let started = until("Traefik answers or ends", || {
            let ended = matches!(child.try_wait(), Ok(Some(_)));
            let asked = http.get(&url).send();
            async move {
                let answered = asked.await.is_ok_and(|answer| answer.status() == 200);
                (ended || answered).then_some(answered && !ended)
            }
        });
        let started = started.await;
        let traefik = Self {
            child,
            pid,
            folder,
            web,
            api: format!("http://{api}"),
            http,
        };
        started.then_some(traefik)
    }

    /// Makes the gateway the router of the lowest priority for all below `prefix`.
    pub async fn route_to_gateway(&self, public: &str, prefix: &str) {
        let text = format!(
            "http:
  routers:
    gateway:
      rule: PathPrefix(`{prefix}`)
      priority: 1
      entryPoints: [web]
      service: gateway
  services:
    gateway:
      loadBalancer:
        servers:
          - url: http://{public}
"
        );
        let file = self.folder.join("dynamic/gateway.yml");
        std::fs::write(file, text).expect("a file");
        let rule = format!("PathPrefix(`{prefix}`)");
        until("Traefik has the gateway's router", || async {
            (self.router(CATCH_ALL).await?["rule"] == rule).then_some(())
        })
        .await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.web)
    }

    /// The router (`name@provider`) as its API tells it, where it uses it.
    async fn router(&self, name: &str) -> Option<Value> {
        let url = format!("{}/api/http/routers/{name}", self.api);
        let answer = self.http.get(url).send().await.expect("Traefik answers");
        if answer.status() != 200 {
            return None;
        }
        let router: Value = answer.json().await.expect("JSON");
        (router["status"] == "enabled").then_some(router)
    }

    /// Waits until it uses the router, or no longer does.
    pub async fn until_router(&self, name: &str, wanted: bool) {
        let what = format!("Traefik's router {name} is there: {wanted}");
        until(&what, || async {
            (self.router(name).await.is_some() == wanted).then_some(())
        })
        .await;
    }

    /// The requests that it has answered, in the order of their answers.
    pub fn answered(&self) -> Vec<Access> {
        let text = std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Access::read).collect()
    }

    /// Waits until it has answered so many requests in all; an answer is logged after its last byte.
    pub async fn until_answered(&self, count: usize) -> Vec<Access> {
        let what = format!("{count} lines of the access log");
        until(&what, || async {
            let answered = self.answered();
            (answered.len() >= count).then_some(answered)
        })
        .await
    }

    /// Ends it as an operator does.
    pub fn end(&mut self) {
        let _ = kill_process_group(self.pid, Signal::TERM);
        // It lets its requests end first, and this thread has other lines' tasks too.
        let _ = tokio::task::block_in_place(|| self.child.wait());
    }
}

impl Drop for Traefik {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = tokio::task::block_in_place(|| self.child.wait());
        }
    }
}

/// One line of its access log.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// `name@provider`; empty where no router matched.
    pub router: String,
    /// Who answered it, as `address:port`.
    pub server: String,
    pub method: String,
    pub path: String,
    pub status: u64,
}

impl Access {
    fn read(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Self {
            router: text("RouterName"),
            server: text("ServiceAddr"),
            method: text("RequestMethod"),
            path: text("RequestPath"),
            status: line["DownstreamStatus"].as_u64().expect("a status"),
        }
    }

    pub fn is_gateways(&self) -> bool {
        self.router == CATCH_ALL
    }
}
