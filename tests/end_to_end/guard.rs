//! Who may use the admin API, and that nobody else can.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::bench::{Bench, in_time};
use crate::client::{Answer, exchange};
use crate::lines;
use crate::setup::Setup;

lines![
    Process without_a_token_it_does_not_start_where_others_can_reach_it,
    Process with_a_token_it_starts_there_and_asks_for_it,
    Process the_token_may_come_from_a_file_or_the_environment,
    Process no_token_is_needed_where_that_is_written_down,
    Process a_web_page_cannot_use_it_through_a_browser,
    Process a_body_of_another_type_is_refused,
    Process both_listeners_can_be_unix_sockets,
    Process the_public_listener_has_no_admin_api,
];

const TOKEN: &str = "a-token-of-the-end-to-end-lines";

fn serve(setup: &Setup) -> Vec<String> {
    setup.write();
    let file = setup.file().to_string_lossy().into_owned();
    vec!["serve".to_owned(), "--config".to_owned(), file]
}

async fn run(setup: &Setup) -> crate::setup::Ran {
    let arguments = serve(setup);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    setup.run(&arguments).await
}

/// Every address of this machine, but no request of these lines comes from elsewhere.
fn everywhere(bench: &Bench) -> Setup {
    bench.setup().set("admin.listen", "0.0.0.0:0")
}

async fn without_a_token_it_does_not_start_where_others_can_reach_it(bench: Bench) {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8008"] {
        let ran = run(&bench.setup().set("admin.listen", listen)).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("token") && ran.err.contains("gateway.toml:"),
            "{ran:?}"
        );
        assert!(ran.err.contains(listen), "{ran:?}");
        assert!(!ran.err.contains("panic"), "{ran:?}");
    }
}

async fn with_a_token_it_starts_there_and_asks_for_it(bench: Bench) {
    let gateway = everywhere(&bench).set("admin.token", TOKEN).start().await;
    let port = gateway
        .client
        .admin_address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let url = format!("http://127.0.0.1:{port}");
    let get = |path: &str, token: Option<&str>| {
        let mut request = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .get(format!("{url}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        Answer::to(request)
    };
    for path in ["/deploy", "/deploy/x", "/metrics", "/readyz", "/nothing"] {
        let refused = get(path, None).await;
        refused.problem(401, "unauthorized");
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
        let close = format!("Bearer {TOKEN}x");
        for wrong in ["Bearer wrong", "Basic eDp5", TOKEN, "Bearer ", &close] {
            get(path, Some(wrong)).await.problem(401, "unauthorized");
        }
    }
    let bearer = format!("Bearer {TOKEN}");
    get("/deploy", Some(&bearer)).await.ok();
    get("/readyz", Some(&bearer)).await.ok();
    // Whoever watches over it has no token.
    get("/healthz", None).await.ok();
    assert!(
        !gateway.log.text().contains(TOKEN),
        "a secret is in the log"
    );
}

async fn the_token_may_come_from_a_file_or_the_environment(bench: Bench) {
    std::fs::write(bench.dir().join("token"), format!("{TOKEN}\n")).expect("a file");
    let from_file = everywhere(&bench).set("admin.token_file", "token");
    let from_environment = everywhere(&bench).env("WAKEGATE_ADMIN_TOKEN", TOKEN);
    for setup in [from_file, from_environment] {
        let gateway = setup.start().await;
        let port = gateway
            .client
            .admin_address()
            .rsplit_once(':')
            .expect("a port")
            .1
            .to_owned();
        let request = |token: &str| {
            format!(
                "GET /deploy HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
                 Connection: close\r\n\r\n"
            )
        };
        let address = format!("127.0.0.1:{port}");
        let answer = exchange(&address, request(TOKEN).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = exchange(&address, request("another-token-of-these").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
}

async fn no_token_is_needed_where_that_is_written_down(bench: Bench) {
    let gateway = everywhere(&bench).set("admin.insecure", true).start().await;
    let port = gateway
        .client
        .admin_address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let request =
        format!("GET /deploy HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let answer = exchange(&format!("127.0.0.1:{port}"), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

async fn a_web_page_cannot_use_it_through_a_browser(bench: Bench) {
    let setup = bench.setup().set("admin.hosts", vec!["gate.example"]);
    let gateway = setup.start().await;
    let port = gateway
        .client
        .admin_address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    let with = |name: &str, value: &str| {
        let request = gateway.client.admin(Method::GET, "/deploy");
        Answer::to(request.header(name, value))
    };
    // Its own name, pointed at this listener.
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "localhost.evil.example",
    ] {
        with("host", host).await.problem(421, "unknown_host");
    }
    for host in [
        &format!("localhost:{port}"),
        &format!("127.0.0.1:{port}"),
        "gate.example",
    ] {
        assert_eq!(with("host", host).await.status, 200, "{host}");
    }
    let sample = bench.sample("one");
    let from_page = gateway.client.admin(Method::POST, "/deploy");
    let from_page = from_page
        .header("origin", "http://evil.example")
        .json(&sample.0);
    assert_eq!(Answer::to(from_page).await.status, 403);
    assert!(!bench.exists(sample.name()).await);
}

async fn a_body_of_another_type_is_refused(bench: Bench) {
    let gateway = bench.setup().start().await;
    let sample = bench.sample("one");
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let mut request = gateway
            .client
            .admin(Method::POST, "/deploy")
            .body(sample.0.to_string());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        Answer::to(request).await.problem(415, "wrong_content_type");
        assert!(!bench.exists(sample.name()).await);
    }
    let request = gateway.client.admin(Method::POST, "/deploy?start=false");
    let request = request.header("content-type", "application/json; charset=utf-8");
    assert_eq!(
        Answer::to(request.body(sample.0.to_string())).await.status,
        201
    );
}

async fn both_listeners_can_be_unix_sockets(bench: Bench) {
    let socket = |name: &str| bench.dir().join(name);
    let listen = |name: &str| format!("unix:{}", socket(name).display());
    let setup = bench
        .setup()
        .set("public.listen", listen("public"))
        .set("admin.listen", listen("admin"));
    let ask = |name: &'static str, request: String| async move {
        let mut stream = UnixStream::connect(socket(name))
            .await
            .expect("somebody listens");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it can be sent");
        let mut answer = String::new();
        in_time("an answer", stream.read_to_string(&mut answer))
            .await
            .expect("text");
        answer
    };
    for _ in 0..2 {
        let gateway = setup.start().await;
        let sample = bench.sample("one");
        let body = json!(sample.0).to_string();
        let length = body.len();
        ask(
            "admin",
            format!(
                "POST /deploy?start=false HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
        .await;
        let path = sample.path("");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = ask("public", request).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("db one"),
            "{answer}"
        );
        // A socket that a killed gateway has left behind is replaced.
        gateway.kill();
        assert!(socket("public").exists() && socket("admin").exists());
    }
    let gateway = setup.start().await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));
    assert!(!socket("public").exists() && !socket("admin").exists());
}

async fn the_public_listener_has_no_admin_api(bench: Bench) {
    let gateway = bench.setup().start().await;
    for path in ["/deploy", "/metrics", "/healthz", "/readyz"] {
        gateway.client.get(path).await.problem(404, "no_route");
    }
}
