//! The pictures of the documentation: `WAKEGATE_PICTURES=docs cargo test --test page pictures`.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bench::{Bench, until};
use crate::browser::{Browser, app, css, row};
use crate::cases;
use crate::client::{Answer, Client};
use crate::gateway::Gateway;
use crate::setup::Setup;

cases![pictures];

/// The folder that they go to, where they are wanted.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("WAKEGATE_PICTURES")?;
    Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder))
}

const SCRIPT: &str = r#"
route("/shop/{*rest}", |req| app("shop").strip(1));
route("/wiki/{*rest}", |req| app("wiki").strip(1).canary(20));
route("/session/{name}/{*rest}", |req| proxy(req.param("name")));
ready(|c| probe(c.label("healthcheck")));
idle(|c| stop_after("15m"));
"#;

const RELEASES: [(&str, &str); 6] = [
    ("shop", "40"),
    ("shop", "41"),
    ("shop", "42"),
    ("shop", "43"),
    ("wiki", "1.4.0"),
    ("wiki", "1.4.1"),
];

fn image(app: &str, revision: &str) -> String {
    format!("localhost:8080/{app}:{revision}")
}

fn setup(bench: &Bench, store: &Path) -> Setup {
    let mut setup = bench.setup().script(SCRIPT);
    for name in ["shop", "wiki"] {
        let mut app = toml::Table::new();
        app.insert(
            "store".to_owned(),
            format!("file:{}", store.join(name).display()).into(),
        );
        app.insert("health_path".to_owned(), "/status".into());
        app.insert("drain_timeout".to_owned(), "5m".into());
        setup = setup.set(&format!("apps.{name}"), app);
    }
    for (app, revision) in RELEASES {
        let sample = [env!("CARGO_BIN_EXE_wakegate"), "minion"];
        setup = setup.image(&image(app, revision), &sample);
    }
    setup
}

async fn post(gateway: &Gateway, path: &str, body: Value) -> Answer {
    Answer::to(gateway.client.admin(Method::POST, path).json(&body)).await
}

async fn launch(gateway: &Gateway, app: &str, revision: &str, envs: Value) -> Value {
    let configuration = json!({
        "image": image(app, revision),
        "revision": revision,
        "envs": envs,
        "health": { "path": "/status", "timeout": "2s" },
    });
    let stored = post(gateway, &format!("/apps/{app}/releases"), configuration).await;
    let hash = stored.json()["hash"].clone();
    let order = json!({ "app": app, "hash": hash, "by": "ada" });
    post(gateway, "/launch", json!({ "app": app, "hash": hash })).await;
    order
}

async fn run(gateway: &Gateway, app: &str, revision: &str) {
    let order = launch(gateway, app, revision, json!({ "IDLE": "0" })).await;
    let answer = post(gateway, "/switch", order).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Requests without end, of several kinds.
fn traffic(client: &Client, tasks: &mut JoinSet<()>) {
    for (path, pause) in [
        ("/shop/x", 60),
        ("/shop/bytes?n=40000", 170),
        ("/shop/bytes?n=many", 2100),
        ("/shop/slow?ms=80", 400),
        ("/wiki/x", 300),
        ("/wiki/bytes?n=9000", 900),
    ] {
        let client = client.alone();
        tasks.spawn(async move {
            loop {
                client.get(path).await;
                let pause = pause / 2 + fastrand::u64(..pause);
                tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            }
        });
    }
}

/// Event streams that stay open.
async fn streams(client: &Client, gateway: &Gateway, count: usize, tasks: &mut JoinSet<()>) {
    for _ in 0..count {
        let url = format!("http://{}/shop/events?every=500", gateway.public);
        let mut stream = client.alone().open(&url).await;
        tasks.spawn(async move { while let Ok(Some(_)) = stream.chunk().await {} });
    }
}

async fn pictures(bench: Bench, browser: Browser) {
    let folder = folder().expect("it is asked for");
    // Its path is in the picture.
    let store = tempfile::Builder::new()
        .prefix("releases-")
        .rand_bytes(3)
        .tempdir();
    let store = store.expect("a folder");
    let gateway = setup(&bench, store.path()).start().await;
    let client = gateway.client.clone();
    let mut tasks = JoinSet::new();
    run(&gateway, "shop", "40").await;
    run(&gateway, "shop", "41").await;
    run(&gateway, "wiki", "1.4.0").await;
    let mut canary = launch(&gateway, "wiki", "1.4.1", json!({ "IDLE": "0" })).await;
    canary["canary"] = json!(true);
    post(&gateway, "/switch", canary).await;
    client.run(&bench.sample("ann")).await;
    client.create(&bench.sample("bob")).await;
    traffic(&client, &mut tasks);
    streams(&client, &gateway, 2, &mut tasks).await;
    until("some requests are counted", || async {
        let status = client.admin(Method::GET, "/apps/shop");
        let counted = Answer::to(status).await.ok()["since_last_switch"]["requests"].as_u64();
        (counted > Some(150)).then_some(())
    })
    .await;
    run(&gateway, "shop", "42").await;
    streams(&client, &gateway, 3, &mut tasks).await;
    launch(
        &gateway,
        "shop",
        "43",
        json!({ "FAIL_STATUS": "503", "IDLE": "0" }),
    )
    .await;
    launch(
        &gateway,
        "shop",
        "43",
        json!({ "IDLE": "0", "CONNSTR": "db:5432" }),
    )
    .await;

    let url = format!("http://{}/", client.admin_address());
    let look = json!({ "width": 1240, "height": 1120 });
    browser.open_with(&url, look).await;
    browser.sees(&row(&app("shop"), "42")).await;
    // The line of requests has grown to be seen.
    let grown =
        "document.querySelectorAll('.pulse .line')[0]?.getAttribute('d')?.split('L').length > 24";
    browser.until(grown).await;
    browser.sees_no(&css("#lost")).await;
    browser.picture(&folder.join("status-page.png")).await;
    browser.scheme("dark").await;
    browser.picture(&folder.join("status-page-dark.png")).await;
    browser.close().await;
    tasks.shutdown().await;
}
