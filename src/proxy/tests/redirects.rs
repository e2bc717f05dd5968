//! Clients that are sent to the same URL again when a sleeping workload was woken.

use std::time::Duration;

use super::rig::{App, Setup, field, status};
use crate::decision::Asleep;
use crate::traefik::Routed;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn redirecting() -> Setup {
    Setup::default().proxy(|decision| decision.asleep = Asleep::Redirect)
}

/// Answers the next connection's request with 200; gives its head.
async fn answer(app: &App) -> String {
    let mut app = app.accept().await;
    let (head, _) = app.message().await;
    app.say(OK).await;
    head
}

#[tokio::test]
async fn a_redirect_comes_when_the_workload_is_awake_and_holds_no_lease() {
    let rig = Setup::default()
        .proxy(|decision| decision.asleep = Asleep::Redirect)
        .start();
    let mut client = rig.client().await;
    client
        .say("GET //a/%20?q=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    rig.world.waiters(1).await;
    let (app, gate) = rig.app().await;
    let (head, _) = client.message().await;
    assert_eq!(status(&head), 307);
    assert_eq!(field(&head, "location"), Some("/.//a/%20?q=1"));
    assert_eq!(field(&head, "cache-control"), Some("no-store"));
    assert_eq!(gate.leases(), 0);
    assert!(app.is_unused());
    // Awake, it is forwarded as ever.
    client.say("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut app = app.accept().await;
    app.head().await;
    app.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn a_redirect_waits_for_the_route_with_a_lease_and_counts_as_held() {
    let rig = redirecting().start();
    rig.world.route(None);
    let mut client = rig.client().await;
    client.say("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    rig.world.waiters(1).await;
    let (app, gate) = rig.app().await;
    rig.world.route_awaited().await;
    assert_eq!(gate.leases(), 1, "it must not fall asleep meanwhile");
    rig.metric("wakegate_held_requests{workload=\"app\",route=\"/the/{route}\"} 1")
        .await;
    rig.world.route(Some(Routed::Yes));
    assert_eq!(status(&client.message().await.0), 307);
    assert_eq!(gate.leases(), 0);
    rig.metric("wakegate_held_requests{workload=\"app\",route=\"/the/{route}\"} 0")
        .await;
    assert!(app.is_unused());
}

#[tokio::test]
async fn without_a_route_the_request_is_forwarded() {
    let rig = redirecting().start();
    rig.world.route(Some(Routed::No("no such router".into())));
    let mut client = rig.client().await;
    client.say("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n").await;
    rig.world.waiters(1).await;
    let (app, _gate) = rig.app().await;
    assert!(answer(&app).await.starts_with("GET /a?b "));
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn a_request_whose_time_to_be_held_is_over_is_forwarded() {
    let rig = redirecting()
        .config(|config| config.hold.time = Duration::from_secs(5))
        .start();
    rig.world.route(None);
    let mut client = rig.client().await;
    client.say("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    rig.world.waiters(1).await;
    let (app, _gate) = rig.app().await;
    answer(&app).await;
    assert_eq!(status(&client.message().await.0), 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_route_is_awaited_gives_its_lease_back() {
    let rig = Setup::default()
        .proxy(|decision| {
            decision.asleep = Asleep::Redirect;
            decision.follows = true;
        })
        .start();
    rig.world.route(None);
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe",
    ] {
        let mut client = rig.client().await;
        client.say(request).await;
        rig.world.waiters(1).await;
        let (app, gate) = rig.app().await;
        rig.world.route_awaited().await;
        assert_eq!(gate.leases(), 1);
        client.reset();
        super::rig::soon(async {
            while gate.leases() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(app.is_unused());
        rig.world.lull("app");
    }
}

#[tokio::test]
async fn what_clients_do_not_follow_is_forwarded_and_its_body_with_it() {
    let rig = redirecting().start();
    // Nobody may even ask for the route.
    rig.world.route(None);
    for (request, body) in [
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
            "hi",
        ),
        ("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", ""),
        (
            "OPTIONS /a HTTP/1.1\r\nHost: h\r\nOrigin: http://o\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "",
        ),
    ] {
        let mut client = rig.client().await;
        client.say(request).await;
        rig.world.waiters(1).await;
        let (app, _gate) = rig.app().await;
        let mut application = app.accept().await;
        assert_eq!(application.message().await.1, body, "{request}");
        application.say(OK).await;
        assert_eq!(status(&client.message().await.0), 200, "{request}");
        rig.world.lull("app");
    }
}

/// Redirects what the script says is followed, too.
fn redirecting_all() -> Setup {
    Setup::default().proxy(|decision| {
        decision.asleep = Asleep::Redirect;
        decision.follows = true;
    })
}

#[tokio::test]
async fn what_is_said_to_follow_is_redirected_once_its_body_was_read() {
    let rig = redirecting_all().start();
    for (request, body) in [
        (
            "POST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 5",
            "hello",
        ),
        (
            "PUT /put HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5",
            "hello",
        ),
        ("DELETE /delete HTTP/1.1\r\nHost: h", ""),
    ] {
        let mut client = rig.client().await;
        client.say(format!("{request}\r\n\r\n")).await;
        rig.world.waiters(1).await;
        let (app, _gate) = rig.app().await;
        if request.contains("Expect") {
            assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        }
        client.say(body).await;
        let head = client.message().await.0;
        assert_eq!(status(&head), 307, "{request}");
        let target = request.split(' ').nth(1);
        assert_eq!(field(&head, "location"), target);
        assert!(app.is_unused());
        rig.world.lull("app");
        // Nothing of it is left, so that the connection goes on, which a proxy in front relies on.
        let method = request.split(' ').next().unwrap();
        client
            .say(format!("GET /after-{method} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        rig.world.waiters(1).await;
        let (_app, _gate) = rig.app().await;
        assert_eq!(status(&client.message().await.0), 307, "{request}");
        rig.world.lull("app");
    }
}

#[tokio::test]
async fn a_body_that_is_large_or_of_unknown_length_is_forwarded_whatever_is_said() {
    let rig = redirecting_all().start();
    rig.world.route(None);
    let large = "x".repeat(65_537);
    for (request, body) in [
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n{large}"),
            &*large,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
                .to_owned(),
            "2\r\nhi\r\n0\r\n\r\n",
        ),
    ] {
        let mut client = rig.client().await;
        client.say(request).await;
        rig.world.waiters(1).await;
        let (app, _gate) = rig.app().await;
        let mut application = app.accept().await;
        application.head().await;
        assert_eq!(application.text(body.len()).await, body);
        application.say(OK).await;
        assert_eq!(status(&client.message().await.0), 200);
        rig.world.lull("app");
    }
}

/// A browser would want the application's leave for its page to read the redirect.
#[tokio::test]
async fn what_a_page_of_another_origin_asks_for_is_forwarded() {
    let rig = redirecting_all()
        .config(|config| config.public.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()])
        .start();
    for (method, origin, told, sent_on) in [
        ("GET", "https://other.example", "", false),
        ("GET", "null", "", false),
        ("POST", "http://h.example:81", "", false),
        // The page's own, which browsers name with a POST.
        ("POST", "https://H.example", "", true),
        ("POST", "https://H.example", "https", true),
        // The same host in plain HTTP is another origin.
        ("POST", "http://h.example", "https", false),
    ] {
        let mut client = rig.client().await;
        client
            .say(format!(
                "{method} /{origin}{told} HTTP/1.1\r\nHost: h.example\r\nOrigin: {origin}\r\n\
                 X-Forwarded-Proto: {told}\r\n\r\n"
            ))
            .await;
        rig.world.waiters(1).await;
        let (app, _gate) = rig.app().await;
        let expected = if sent_on {
            307
        } else {
            answer(&app).await;
            200
        };
        assert_eq!(
            status(&client.message().await.0),
            expected,
            "{origin} {told}"
        );
        rig.world.lull("app");
    }
}

#[tokio::test]
async fn the_third_time_round_the_gateway_answers_itself() {
    let rig = redirecting().start();
    let ask = async |target: &str| {
        let mut client = rig.client().await;
        client
            .say(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        rig.world.waiters(1).await;
        let (app, _gate) = rig.app().await;
        let status = tokio::select! {
            (head, _) = client.message() => status(&head),
            head = answer(&app) => {
                assert!(head.starts_with(&format!("GET {target} ")), "{head}");
                status(&client.message().await.0)
            }
        };
        rig.world.lull("app");
        status
    };
    assert_eq!(ask("/a?1").await, 307);
    assert_eq!(ask("/a?1").await, 307);
    assert_eq!(ask("/a?1").await, 200);
    assert_eq!(ask("/a?1").await, 200);
    assert_eq!(ask("/a?2").await, 307);
}

#[tokio::test]
async fn all_who_wait_for_one_wake_are_redirected_however_many() {
    let rig = redirecting().start();
    let mut clients = Vec::new();
    for waiting in 1..=20 {
        let mut client = rig.client().await;
        client.say("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        rig.world.waiters(waiting).await;
        clients.push(client);
    }
    let (app, _gate) = rig.app().await;
    for mut client in clients {
        assert_eq!(status(&client.message().await.0), 307);
    }
    assert!(app.is_unused());
}
