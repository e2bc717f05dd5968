//! What one line stands on: machines with a gateway each, and an end that leaves nothing behind.

use std::path::Path;
use std::sync::{Arc, Weak};

use bollard::query_parameters::RemoveImageOptionsBuilder;
use parking_lot::Mutex;

use crate::api::Api;
use crate::bench::{Bench, Kind};
use crate::configuration::Configuration;
use crate::gateway::Gateway;
use crate::setup::Setup;
use crate::shelf::Shelf;
use crate::world::Engine;

/// The application of every line.
pub const APP: &str = "shop";

/// Everything is for the application, which sleeps after the time in its label `sleep`.
pub const SCRIPT: &str = r#"
route("/{*rest}", |req| app("shop"));
idle(|c| {
    let sleep = c.label("sleep");
    if sleep == "" { never() } else { stop_after(sleep) }
});
"#;

/// What one line works on.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

struct Inner {
    kind: Kind,
    /// One for each machine that has a gateway.
    benches: Mutex<Vec<Bench>>,
    first: Bench,
    /// Images on the engine that the line has given a name.
    images: Mutex<Vec<String>>,
}

static IN_USE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl Stage {
    pub async fn new(kind: Kind) -> Result<Self, String> {
        let first = Bench::new(kind.clone()).await?;
        let stage = Self(Arc::new(Inner {
            kind,
            benches: Mutex::new(vec![first.clone()]),
            first,
            images: Mutex::default(),
        }));
        IN_USE.lock().push(Arc::downgrade(&stage.0));
        Ok(stage)
    }

    pub fn bench(&self) -> &Bench {
        &self.0.first
    }

    /// Another machine, with containers and a folder of its own.
    pub async fn another_machine(&self) -> Bench {
        let bench = Bench::new(self.0.kind.clone()).await.expect("a bench");
        self.0.benches.lock().push(bench.clone());
        bench
    }

    pub fn engine(&self) -> &Engine {
        self.bench().engine()
    }

    pub fn is_docker(&self) -> bool {
        matches!(self.0.kind, Kind::Docker(_))
    }

    pub fn dir(&self) -> &Path {
        self.bench().dir()
    }

    /// A gateway with one application that keeps its releases in a folder.
    pub fn setup(&self) -> Setup {
        of_one_application(self.bench())
    }

    /// The application's store in [`Stage::setup`], as others see it.
    pub fn shelf(&self) -> Shelf {
        Shelf::Folder(self.dir().join("store"))
    }

    /// A launch configuration of the sample application, which reports `revision` in its answers.
    pub fn release(&self, revision: &str) -> Configuration {
        Configuration::new(self.bench(), revision)
    }

    /// A gateway over [`Stage::setup`].
    pub async fn start(&self) -> (Gateway, Api) {
        start(&self.setup()).await
    }

    /// An image that is removed with the line.
    pub fn note_image(&self, name: &str) {
        self.0.images.lock().push(name.to_owned());
    }

    /// What the gateways of this line have logged last.
    pub fn story(&self) -> String {
        let benches = self.0.benches.lock();
        let stories = benches.iter().map(Bench::story);
        stories
            .collect::<Vec<_>>()
            .join("\n=== another machine ===\n")
    }

    /// Ends the gateways that still run and removes all that was made.
    pub async fn clear(&self) -> Result<(), String> {
        let benches = self.0.benches.lock().clone();
        let mut cleared = Ok(());
        for bench in benches {
            cleared = cleared.and(bench.clear().await);
        }
        let images = std::mem::take(&mut *self.0.images.lock());
        for image in images {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            let removed = self
                .engine()
                .raw()
                .remove_image(&image, Some(options), None)
                .await;
            match removed {
                Ok(_) => {}
                // It may be what the line is about that it is gone.
                Err(bollard::errors::Error::DockerResponseServerError {
                    status_code: 404, ..
                }) => {}
                Err(error) => cleared = cleared.and(Err(format!("{image}: {error}"))),
            }
        }
        cleared
    }
}

/// A gateway on a machine with one application that keeps its releases in a folder.
pub fn of_one_application(bench: &Bench) -> Setup {
    bench
        .setup()
        .set("apps.shop.store", "file:store")
        .script(SCRIPT)
}

/// A running gateway and its application.
pub async fn start(setup: &Setup) -> (Gateway, Api) {
    let gateway = setup.start().await;
    let api = Api::new(&gateway.client, APP);
    (gateway, api)
}

/// Clears all stages, for the end that comes from outside.
pub async fn clear_all() -> Result<(), String> {
    let in_use: Vec<_> = IN_USE.lock().iter().filter_map(Weak::upgrade).collect();
    let mut cleared = Ok(());
    for inner in in_use {
        cleared = cleared.and(Stage(inner).clear().await);
    }
    cleared
}
