//! A real registry: Debian's docker-registry, as a child process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use bollard::query_parameters::{PushImageOptionsBuilder, TagImageOptionsBuilder};
use futures_util::StreamExt;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::PATIENCE;
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
        // This thread has other lines' tasks too.
        let address = tokio::task::block_in_place(|| address.recv_timeout(PATIENCE));
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
        let _ = tokio::task::block_in_place(|| self.child.wait());
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
