//! The admin API as far as it is about releases, for one application.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::until;
use crate::client::{Answer, Client};
use crate::configuration::Configuration;

/// Asks one gateway about one application.
#[derive(Clone)]
pub struct Api {
    pub client: Client,
    app: String,
}

impl Api {
    pub fn new(client: &Client, app: &str) -> Self {
        Self {
            client: client.clone(),
            app: app.to_owned(),
        }
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.client.admin(Method::POST, path).json(&body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.client.admin(Method::GET, path)).await
    }

    /// `/apps/APP` with more after it.
    pub fn path(&self, more: &str) -> String {
        format!("/apps/{}{more}", self.app)
    }

    pub async fn store(&self, bytes: impl Into<Vec<u8>>) -> Answer {
        let request = self.client.admin(Method::POST, &self.path("/releases"));
        let request = request.header("content-type", "application/json");
        Answer::to(request.body(bytes.into())).await
    }

    /// Stores it; gives its hash.
    pub async fn stored(&self, configuration: &Configuration) -> String {
        let answer = self.store(configuration.bytes()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let stored = answer.json();
        assert_eq!(stored["hash"], configuration.hash(), "{stored}");
        configuration.hash()
    }

    pub async fn launch(&self, hash: &str) -> Answer {
        let order = json!({ "app": self.app, "hash": hash });
        self.post("/launch", order).await
    }

    /// Stores and launches it; gives its hash.
    pub async fn launched(&self, configuration: &Configuration) -> String {
        let hash = self.stored(configuration).await;
        let launched = self.launch(&hash).await.ok();
        assert_eq!(launched["hash"], hash, "{launched}");
        hash
    }

    pub async fn switch(&self, hash: &str) -> Answer {
        let order = json!({ "app": self.app, "hash": hash, "by": "a test" });
        self.post("/switch", order).await
    }

    pub async fn switched(&self, hash: &str) -> Value {
        let switched = self.switch(hash).await.ok();
        assert_eq!(switched["hash"], hash, "{switched}");
        assert_eq!(switched["canary"], false, "{switched}");
        switched
    }

    /// Stores it, launches it and switches to it; gives its hash.
    pub async fn deployed(&self, configuration: &Configuration) -> String {
        let hash = self.launched(configuration).await;
        self.switched(&hash).await;
        hash
    }

    pub async fn try_out(&self, hash: &str) -> Answer {
        let order = json!({ "app": self.app, "hash": hash, "canary": true });
        self.post("/switch", order).await
    }

    pub async fn roll_back(&self) -> Answer {
        let order = json!({ "app": self.app, "by": "a test" });
        self.post("/rollback", order).await
    }

    pub async fn history(&self) -> Vec<Value> {
        let answer = self.get(&self.path("/history")).await.ok();
        answer["history"].as_array().expect("a list").clone()
    }

    pub async fn status(&self) -> Value {
        self.get(&self.path("")).await.ok()
    }

    /// Waits until the status is as asked.
    pub async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || async {
            let status = self.status().await;
            is(&status).then_some(status)
        })
        .await
    }

    /// A release in the status; null when it is not there.
    pub async fn release(&self, hash: &str) -> Value {
        release_of(&self.status().await, hash)
    }

    pub async fn until_release(
        &self,
        what: &str,
        hash: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let status = self.until(what, |status| is(&release_of(status, hash)));
        release_of(&status.await, hash)
    }

    /// Waits until a release's container is in that phase.
    pub async fn until_phase(&self, hash: &str, phase: &str) -> Value {
        let what = format!("{} is {phase}", &hash[..8]);
        self.until_release(&what, hash, |release| release["phase"] == phase)
            .await
    }

    /// Waits until the gateway knows which release is current.
    pub async fn until_ready(&self) -> Value {
        self.until("a current release", |status| status["state"] == "ready")
            .await
    }

    /// Which release answers a request, by its own report.
    pub async fn answering(&self) -> String {
        let report = self.client.get("/which").await.ok();
        report["connstr"].as_str().expect("a release").to_owned()
    }

    pub async fn pause(&self) {
        self.post(&self.path("/pause"), json!({})).await.ok();
    }

    pub async fn resume(&self) {
        self.post(&self.path("/resume"), json!({})).await.ok();
    }
}

pub fn release_of(status: &Value, hash: &str) -> Value {
    let releases = status["releases"].as_array().expect("a list");
    let found = releases.iter().find(|release| release["hash"] == hash);
    found.cloned().unwrap_or_default()
}

/// Milliseconds, for messages.
pub fn ms(time: Duration) -> u128 {
    time.as_millis()
}
