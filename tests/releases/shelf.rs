//! A store's documents, read past the gateway: a folder's files, a bucket's objects.

use std::path::PathBuf;

use serde_json::Value;

use crate::bench::until;
use crate::bucket::Bucket;

/// Where an application's releases are stored.
#[derive(Clone)]
pub enum Shelf {
    Folder(PathBuf),
    Bucket(Bucket),
}

impl Shelf {
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Folder(folder) => std::fs::read(folder.join(key)).ok(),
            Self::Bucket(bucket) => bucket.get(key).await,
        }
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(key);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, bytes).expect("it can be written");
            }
            Self::Bucket(bucket) => bucket.put(key, bytes).await,
        }
    }

    async fn json(&self, key: &str) -> Value {
        let Some(bytes) = self.get(key).await else {
            return Value::Null;
        };
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{key}: {error}: {}", String::from_utf8_lossy(&bytes)))
    }

    /// `current.json`; null where there is none.
    pub async fn current(&self) -> Value {
        self.json("current.json").await
    }

    /// The hash in `current.json`; empty where there is none.
    pub async fn current_hash(&self) -> String {
        let current = self.current().await;
        current["hash"].as_str().unwrap_or_default().to_owned()
    }

    /// `history.json`, oldest first.
    pub async fn history(&self) -> Vec<Value> {
        let history = self.json("history.json").await;
        history.as_array().cloned().unwrap_or_default()
    }

    /// Of each entry its kind and revision.
    pub async fn told(&self) -> Vec<String> {
        let history = self.history().await;
        let told = history.iter().map(|entry| {
            let word = |key: &str| entry[key].as_str().unwrap_or("?").to_owned();
            format!("{} {}", word("kind"), word("revision"))
        });
        told.collect()
    }

    /// Waits until `current.json` names that release.
    pub async fn until_current(&self, hash: &str) {
        let what = format!("current.json has {hash}");
        until(&what, || async {
            (self.current_hash().await == hash).then_some(())
        })
        .await;
    }
}
