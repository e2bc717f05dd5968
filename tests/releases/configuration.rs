//! Launch configurations in the making.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::stage::APP;

/// A launch configuration of the sample application, as it is sent.
#[derive(Clone)]
pub struct Configuration(pub Value);

impl Configuration {
    /// It reports its revision in each answer as `connstr` and never ends by itself.
    pub fn new(bench: &Bench, revision: &str) -> Self {
        Self(json!({
            "image": bench.image(),
            "revision": revision,
            "envs": {
                "CONNSTR": revision,
                "HOSTNAME": revision,
                "IDLE": "0",
                // So that no two lines have the same release: its name is the engine's for all of them.
                "LINE": bench.mark(),
            },
            "health": { "path": "/status", "interval": "50ms", "timeout": "60s" },
        }))
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.0["envs"][key] = value.into();
        self
    }

    /// Its container sleeps after so long without use.
    pub fn sleeps_after(mut self, time: &str) -> Self {
        self.0["labels"]["sleep"] = time.into();
        self
    }

    pub fn health(mut self, key: &str, value: &str) -> Self {
        self.0["health"][key] = value.into();
        self
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0[key] = value.into();
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.0.as_object_mut().expect("an object").remove(key);
        self
    }

    pub fn revision(&self) -> &str {
        self.0["revision"].as_str().expect("a revision")
    }

    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.0).expect("JSON")
    }

    pub fn hash(&self) -> String {
        sha256(&self.bytes())
    }

    /// What its container is called.
    pub fn container(&self) -> String {
        format!("{APP}-{}-{}", self.revision(), &self.hash()[..8])
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// By another program than ours.
pub fn md5(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("it can be written");
    let printed = std::process::Command::new("md5sum")
        .arg(file.path())
        .output()
        .expect("md5sum");
    String::from_utf8_lossy(&printed.stdout)[..32].to_owned()
}
